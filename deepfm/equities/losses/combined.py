"""All parts of the training loss together."""

import torch
from torch import Tensor

from deepfm.equities.days.batch import DayBatch
from deepfm.equities.days.layout import DayLayout
from deepfm.equities.loss_settings import LossSettings
from deepfm.equities.losses.levels import huber_loss, pinball_loss, student_t_loss
from deepfm.equities.losses.orders import ic_loss, listnet_loss, rankic_loss
from deepfm.equities.losses.portfolio import sharpe_loss
from deepfm.equities.network.forecast import Forecast
from deepfm.errors import ConfigError


class CombinedLoss:
    """The weighted sum of losses, each a mean over days and a weighted mean over horizons.

    The Sharpe ratio is left out of a batch of fewer than `sharpe_days` days; `LossSettings.check_batch` refuses
    batches that always are.

    Args:
        settings: the weights.
        quantiles: the levels that the network forecasts.
        num_horizons: K.

    Raises:
        ConfigError: another number of horizon weights than K.
    """

    def __init__(self, settings: LossSettings, quantiles: tuple[float, ...], num_horizons: int) -> None:
        weights = settings.horizon_weights or (1.0,) * num_horizons
        if len(weights) != num_horizons:
            raise ConfigError(
                f"horizon_weights = {list(weights)} for {num_horizons} prediction_horizons; expected one for each"
            )
        self.settings, self.quantiles = settings, quantiles
        self.shares = torch.tensor(weights) / sum(weights)

    def __call__(self, forecast: Forecast, batch: DayBatch) -> Tensor:
        """The loss of a batch, a scalar."""
        with torch.autocast(batch.targets.device.type, enabled=False):
            parts = self.parts(forecast, batch)
            return torch.stack([getattr(self.settings, f"{name}_weight") * loss for name, loss in parts.items()]).sum()

    def parts(self, forecast: Forecast, batch: DayBatch) -> dict[str, Tensor]:
        """Each part that has a weight, by its name and before it is weighed; scalars."""
        settings, layout = self.settings, DayLayout.of(batch.day)
        ranked = (forecast.scores, batch.targets, layout)
        parts: dict[str, Tensor] = {}
        if settings.quantile_weight:
            parts["quantile"] = pinball_loss(forecast.quantiles, batch.targets, layout, self.quantiles)
        if settings.huber_weight:
            parts["huber"] = huber_loss(forecast.median, batch.targets, layout, settings.huber_delta)
        if settings.ic_weight:
            parts["ic"] = ic_loss(*ranked)
        if settings.rankic_weight:
            parts["rankic"] = rankic_loss(*ranked, settings.rankic_temperature)
        if settings.listnet_weight:
            parts["listnet"] = listnet_loss(*ranked)
        if settings.sharpe_weight and layout.num_days >= settings.sharpe_days:
            parts["sharpe"] = sharpe_loss(
                forecast.scores,
                batch.returns,
                layout,
                batch.stock,
                turnover_cost=settings.turnover_cost,
                least_days=settings.sharpe_days,
            )
        if settings.student_t_weight and forecast.student_t is not None:
            parts["student_t"] = student_t_loss(forecast.student_t, batch.targets, layout)
        shares = self.shares.to(batch.targets.device)
        joined = {name: (shares * loss).sum() for name, loss in parts.items()}
        if settings.selection_weight and forecast.selection is not None:
            joined["selection"] = forecast.selection.float()
        if settings.auxiliary_weight:
            joined["auxiliary"] = forecast.auxiliary.float()
        return joined or {"quantile": forecast.quantiles.sum() * 0.0}
