"""Ranking the stocks of a day, as the engine's loop trains it."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from deepfm.engine.task import ParameterGroup, Progress, Task, no_progress
from deepfm.equities.days.arrays import DayArrays, DayOrder, Sessions
from deepfm.equities.days.batch import DayBatch
from deepfm.equities.days.layout import DayLayout
from deepfm.equities.evaluation.metrics import rank_ic
from deepfm.equities.losses import CombinedLoss
from deepfm.equities.settings import METRIC
from deepfm.errors import DataError

CPU = torch.device("cpu")
LEAST_NAMES = 2  # of a validation day
ROWS = 2000  # scored at once in validation


class RankingTask(Task):
    """A network that learns to rank, judged by the mean daily RankIC of the validation sessions.

    The metric is the mean over horizons, by the loss' weights, of each horizon's mean over days; each has its own key
    too, `rank_ic_5` for five sessions. Validation sees the graph as training does.

    Args:
        model: from a `DayBatch` to a `Forecast`.
        loss: of a forecast and its batch.
        arrays: what batches are gathered from.
        order: which days an epoch trains on.
        validation: sessions that are judged, one after the other.
        horizons: the `K` horizons in sessions.
        weight_decay: the optimizer's, on matrices.
        identity: what a checkpoint must agree on to be continued.
        device: where the model is.

    Raises:
        DataError: there is no validation session.
    """

    metric = METRIC
    maximize = True

    def __init__(
        self,
        model: nn.Module,
        loss: CombinedLoss,
        arrays: DayArrays,
        order: DayOrder,
        validation: Sessions,
        horizons: Sequence[int],
        *,
        weight_decay: float = 0.0,
        identity: dict[str, str] | None = None,
        device: torch.device = CPU,
    ) -> None:
        if not len(validation):
            raise DataError(
                "there is no validation session to choose the best epoch by; raise split.validation_sessions"
            )
        self.model, self.loss_of, self.arrays, self.order = model, loss, arrays, order
        self.validation, self.horizons, self.weight_decay, self.device = validation, horizons, weight_decay, device
        self.identity = identity or {}

    def num_batches(self) -> int:
        """Batches an epoch."""
        return self.order.num_batches

    def batches(self, epoch: int, start: int = 0) -> Iterator[DayBatch]:
        """The epoch's days, some at a time."""
        for sessions in self.order.of_epoch(epoch)[start:]:
            yield self.arrays.batch(sessions).to(self.device)

    def loss(self, batch: DayBatch) -> tuple[torch.Tensor, int]:
        """The weighted loss of a batch, and its rows."""
        return self.loss_of(self.model(batch), batch), batch.num_rows

    def evaluate(self, on_progress: Progress = no_progress) -> dict[str, float]:
        """RankIC of the validation sessions."""
        daily = daily_rank_ic(self.model, self.arrays, self.validation, self.device, on_progress)
        means = [_mean(daily[:, at]) for at in range(len(self.horizons))]
        shares = self.loss_of.shares.numpy()
        known = np.isfinite(means) & (shares > 0)
        joined = float(np.average(np.asarray(means)[known], weights=shares[known])) if known.any() else float("nan")
        return {METRIC: joined} | {
            f"{METRIC}_{horizon}": mean for horizon, mean in zip(self.horizons, means, strict=True) if np.isfinite(mean)
        }

    def parameter_groups(self) -> list[ParameterGroup]:
        """Matrices decay; biases, norms and embeddings of single numbers do not."""
        matrices = [part for part in self.model.parameters() if part.ndim > 1]
        others = [part for part in self.model.parameters() if part.ndim <= 1]
        return [ParameterGroup(matrices, weight_decay=self.weight_decay), ParameterGroup(others)]

    def fingerprint(self) -> dict[str, str]:
        """What a checkpoint must agree on."""
        return self.identity


@torch.no_grad()
def daily_rank_ic(
    model: nn.Module,
    arrays: DayArrays,
    sessions: Sessions,
    device: torch.device = CPU,
    on_progress: Progress = no_progress,
) -> NDArray[np.float64]:
    """RankIC of each session and horizon, `(S, K)`; NaN where there is none."""
    found: list[NDArray[np.float64]] = []
    model.eval()
    for part in arrays.groups(sessions, ROWS):
        batch = arrays.batch(part)
        layout = DayLayout.of(batch.day)
        scores = layout.pad(model(batch.to(device)).scores.float().cpu()).numpy()  # (D, N, K)
        returns, where = layout.pad(batch.returns).numpy(), layout.mask.numpy()
        daily = [rank_ic(scores[..., at], returns[..., at], where, LEAST_NAMES) for at in range(arrays.num_horizons)]
        found.append(np.stack(daily, axis=1))
        on_progress(sum(map(len, found)), len(sessions))
    return np.concatenate(found) if found else np.zeros((0, arrays.num_horizons))


def _mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
