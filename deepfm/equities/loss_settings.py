"""The settings of the training loss; without torch, so that configurations load fast."""

from dataclasses import dataclass

from deepfm.engine.settings import setting
from deepfm.errors import ConfigError

WEIGHTS = ("quantile", "huber", "ic", "rankic", "listnet", "sharpe", "student_t")


@dataclass(frozen=True)
class LossSettings:
    """What each part of the loss weighs; a weight of 0 leaves the part out.

    `horizon_weights` are shares of the horizons, in their order; empty for equal ones. `auxiliary_weight` is that of
    the adaptive normalisation's own forecast, `student_t_weight` counts where the network has that head.
    `selection_weight` is that of the entropy of the weights over features: above 0, the network is to do with few
    features, and the weights name those that count.
    `rankic_temperature` is in deviations of a day's scores; `turnover_cost` is taken off the portfolio's return for
    each unit traded from one day of a batch to the next. The Sharpe ratio needs `sharpe_days` days in a batch, and a
    batch of fewer (the last of an epoch) goes without.
    """

    horizon_weights: tuple[float, ...] = setting((), at_least=0)
    quantile_weight: float = setting(1.0, at_least=0, also=("pinball_weight",))
    huber_weight: float = setting(0.0, at_least=0)
    ic_weight: float = setting(0.5, at_least=0, also=("pearson_weight", "cs_ic_weight"))
    rankic_weight: float = setting(0.0, at_least=0, also=("rank_ic_weight",))
    listnet_weight: float = setting(0.0, at_least=0)
    sharpe_weight: float = setting(0.0, at_least=0)
    student_t_weight: float = setting(0.1, at_least=0)
    auxiliary_weight: float = setting(0.1, at_least=0)
    selection_weight: float = setting(0.001, at_least=0, also=("vsn_sparsity", "sparsity_weight"))
    huber_delta: float = setting(0.1, above=0)
    rankic_temperature: float = setting(0.1, above=0)
    sharpe_days: int = setting(16, at_least=2)
    turnover_cost: float = setting(0.0005, at_least=0)

    def __post_init__(self) -> None:
        """Refuse a loss without parts."""
        if not any(getattr(self, f"{part}_weight") for part in WEIGHTS):
            raise ConfigError("all weights of the loss are 0; expected one above, such as ic_weight = 0.5")
        if self.horizon_weights and not any(self.horizon_weights):
            raise ConfigError("all horizon_weights are 0; expected one above")

    def check_batch(self, days: int) -> None:
        """Refuse batches of too few days.

        Args:
            days: of a batch.

        Raises:
            ConfigError: a Sharpe ratio is wanted of fewer days than it needs.
        """
        if self.sharpe_weight and days < self.sharpe_days:
            raise ConfigError(
                f"batch_size = {days} days with sharpe_weight = {self.sharpe_weight}; expected at least sharpe_days = "
                f"{self.sharpe_days}, or a sharpe_weight of 0"
            )
