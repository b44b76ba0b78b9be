"""The analyser's look at the network before it is trained."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from deepfm.analysis.analyse import analyze_subject
from deepfm.analysis.report import ModelReport
from deepfm.analysis.subject import make_subject
from deepfm.equities.days.batch import DayBatch
from deepfm.equities.losses import CombinedLoss
from deepfm.equities.network import ATFT, Forecast

BUDGET = 8.0  # seconds


def examine_network(
    model: ATFT, batches: Sequence[DayBatch], loss: CombinedLoss, *, budget: float = BUDGET
) -> ModelReport:
    """Analyse a network on batches of days, as training would begin with them; the network is left as it was.

    Args:
        model: untrained.
        batches: a few, of days like those of training.
        loss: that of training.
        budget: seconds that it should take.

    Raises:
        AnalysisError: a risk of priority 1 was found, or the network does not take the batches.
    """
    given = [(_inputs(batch), (*_inputs(batch), batch.targets, batch.returns)) for batch in batches]

    def of_tensors(output: tuple[Tensor, ...], target: tuple[Tensor, ...]) -> Tensor:
        scores, quantiles, auxiliary = output[:3]
        student_t = output[3] if len(output) > 3 else None
        return loss(Forecast(scores, quantiles, student_t, auxiliary), DayBatch(*target))

    report = analyze_subject(make_subject(_OfTensors(model), given, of_tensors, name="ATFT"), budget=budget)
    report.refuse_critical()
    return report


class _OfTensors(nn.Module):
    """The network with tensors in and out, as the analyser knows no batch of days."""

    def __init__(self, network: ATFT) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, sequences: Tensor, day: Tensor, stock: Tensor, sector: Tensor, edge_index: Tensor, edge_attr: Tensor
    ) -> tuple[Tensor, ...]:
        """The forecast's parts."""
        nothing: Any = sequences.new_zeros(len(sequences), 0)
        batch = DayBatch(sequences, day, stock, sector, edge_index, edge_attr, nothing, nothing)
        forecast = self.network(batch)
        parts = (forecast.scores, forecast.quantiles, forecast.auxiliary)
        return parts if forecast.student_t is None else (*parts, forecast.student_t)


def _inputs(batch: DayBatch) -> tuple[Tensor, ...]:
    return (batch.sequences, batch.day, batch.stock, batch.sector, batch.edge_index, batch.edge_attr)
