"""The analyser's look at the network: before it is trained, and for `deepfm analyze`."""

import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from deepfm.analysis.analyse import analyze_subject
from deepfm.analysis.report import ModelReport
from deepfm.analysis.sources import BATCHES, Source
from deepfm.analysis.subject import Subject, make_subject
from deepfm.engine.device import resolve_device
from deepfm.engine.run import RunFolder
from deepfm.equities.days.arrays import DayOrder
from deepfm.equities.days.batch import DayBatch
from deepfm.equities.experiment.market import FoldArrays, Market, fold_arrays, open_market
from deepfm.equities.experiment.ranker import ABOUT, Ranker, untrained_ranker
from deepfm.equities.loss_settings import LossSettings
from deepfm.equities.losses import CombinedLoss
from deepfm.equities.network import ATFT, Forecast
from deepfm.equities.settings import EquitiesSettings, load_equities
from deepfm.errors import AnalysisError
from deepfm.reporting import write_markdown
from deepfm.utils.logging import get_logger

log = get_logger(__name__)
BUDGET = 8.0  # seconds
ANALYSIS = "analysis.md"
ROWS, MOST_DAYS, FEWEST_STOCKS = 256, 4, 8  # of a batch that is looked at, so that a large network takes no hour
FEW = 3  # batches before a training


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
    report = analyze_subject(network_subject(model, batches, loss), budget=budget, trials=False)
    report.refuse_critical()
    return report


def examine_before_training(
    market: Market, inputs: FoldArrays, settings: EquitiesSettings, fold: str, seed: int, experiment: RunFolder
) -> None:
    """Analyse the network that a fold begins with, once an experiment, and write `analysis.md` in its folder.

    A network that cannot be measured is trained all the same, with a warning.

    Args:
        market: what the experiment reads.
        inputs: the fold's arrays.
        settings: of the experiment, whose `analysis_seconds` are taken; 0 for no look.
        fold, seed: whose network it is.
        experiment: the folder.

    Raises:
        AnalysisError: a risk of priority 1 was found.
    """
    place = experiment.path / ANALYSIS
    looked_at = place.exists() and any(experiment.path.glob("fold-*/seed-*/config.yaml"))  # and trained after it
    if looked_at or not settings.analysis_seconds:
        return
    log.info("the analyser looks at the network, for about %g s", settings.analysis_seconds)
    model = untrained_ranker(market, inputs, settings, fold, seed).model
    loss = CombinedLoss(settings.training, settings.model.quantiles, len(settings.data.prediction_horizons))
    try:
        subject = network_subject(model, batches_to_look_at(inputs, settings, FEW), loss)
        report = analyze_subject(subject, budget=settings.analysis_seconds, trials=False)
    except AnalysisError as error:
        log.warning("the network is trained without the analyser's look: %s", error)
        return
    write_markdown(report.to_document(), place)
    report.refuse_critical()


def network_source(what: str, overrides: Sequence[str] = (), device: str = "cpu", name: str | None = None) -> Source:
    """A network with batches for `deepfm analyze`: a configuration's or an experiment's, untrained, or a fold's run's.

    Batches are of the first fold's training; no day that any fold tests is read.

    Raises:
        DeepFMError: the configuration, the run or the panel cannot be read.
    """
    path, target = Path(what), resolve_device(device)
    run = RunFolder(path) if path.is_dir() else None
    settings = load_equities(path if run is None else run.config, overrides)
    market = open_market(settings, without_tests=True)
    inputs = fold_arrays(market, market.folds[0], settings)
    if run is not None and (path / ABOUT).exists():
        model = Ranker.load(run).model
    else:
        model = untrained_ranker(market, inputs, settings, market.folds[0].name, settings.seed).model
    batches = [batch.to(target) for batch in batches_to_look_at(inputs, settings, BATCHES)]
    loss = CombinedLoss(settings.training, settings.model.quantiles, len(settings.data.prediction_horizons))
    subject = network_subject(model.to(target), batches, loss, name or f"ATFT of {path.stem}")
    rows = int(inputs.arrays.rows[inputs.train - inputs.arrays.first].sum())
    return Source(subject, dataset_rows=rows // settings.data.train_every)


def batches_to_look_at(inputs: FoldArrays, settings: EquitiesSettings, count: int) -> list[DayBatch]:
    """Batches as of a fold's first epochs, of fewer days where the loss takes fewer, and of few stocks a day."""
    training, arrays = settings.training, inputs.arrays
    days = training.batch_size if training.sharpe_weight else min(training.batch_size, MOST_DAYS)
    stocks = max(FEWEST_STOCKS, ROWS // days)
    order = DayOrder(inputs.train, days, settings.data.train_every, training.sharpe_weight > 0, settings.seed)
    sessions = [some for epoch in range(1, count + 1) for some in order.of_epoch(epoch)][:count]
    few = dataclasses.replace(arrays, rows=arrays.rows & (arrays.rows.cumsum(axis=1) <= stocks))
    return [few.batch(some) for some in sessions]


def network_subject(model: ATFT, batches: Sequence[DayBatch], loss: CombinedLoss, name: str = "ATFT") -> Subject:
    """A network as the analyser takes it.

    What the loss's weights leave untrained on purpose, such as quantiles that nothing weighs, is frozen in what is
    looked at and named in the notes.
    """
    given = [(_inputs(batch), (*_inputs(batch), batch.targets, batch.returns)) for batch in batches]

    def of_tensors(output: tuple[Tensor, ...], target: tuple[Tensor, ...]) -> Tensor:
        scores, quantiles, auxiliary = output[:3]
        student_t = output[3] if len(output) > 3 else None
        return loss(Forecast(scores, quantiles, student_t, auxiliary), DayBatch(*target))

    looked_at, idle = _without_idle(model, loss.settings)
    subject = make_subject(_OfTensors(looked_at), given, of_tensors, name=name)
    if idle:
        subject.notes.append(f"frozen, as no weight of the loss trains it: {', '.join(idle)}")
    return subject


def _without_idle(model: ATFT, weights: LossSettings) -> tuple[ATFT, list[str]]:
    """The network with what the loss has no use for frozen, and its names; a copy where there is any."""
    own = {name.split(".")[1] for name, _ in model.heads.named_parameters()}
    student_t = weights.student_t_weight if "tail" in own else 0.0
    in_units = weights.quantile_weight + weights.huber_weight + student_t
    parts = {"offset": in_units, "log_scale": in_units, "spread": weights.quantile_weight, "tail": student_t}
    idle = [part for part, weight in parts.items() if part in own and not weight]
    if idle:
        model = copy.deepcopy(model)
        for name, parameter in model.heads.named_parameters():
            parameter.requires_grad_(name.split(".")[1] not in idle)
    return model, idle


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
