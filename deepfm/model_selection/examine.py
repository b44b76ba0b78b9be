"""The analyser's look at a network before it is trained: a critical risk stops the training."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from deepfm.analysis.analyse import analyze_subject
from deepfm.analysis.report import ModelReport
from deepfm.analysis.subject import make_subject
from deepfm.model_selection.autoencoder import reconstruction_loss
from deepfm.model_selection.network_files import own_streams
from deepfm.model_selection.network_settings import AutoEncoderSettings, RankerSettings
from deepfm.model_selection.ranker_task import CPU, RankerTask, untrained_ranker
from deepfm.model_selection.ranking_lists import RankingList
from deepfm.model_selection.weight_encoder import AutoEncoderTask, Network, untrained_encoder

BUDGET = 8.0  # seconds
EPOCHS = 4  # whose batches are looked at


def examine_autoencoder(
    networks: Sequence[Network], settings: AutoEncoderSettings, *, seed: int = 0, budget: float = BUDGET
) -> ModelReport:
    """Analyse the auto-encoder that `train_autoencoder` would begin with, on batches that it would see.

    Raises:
        AnalysisError: a risk of priority 1 was found.
        DataError: as in training.
    """
    encoder = untrained_encoder(networks, settings, seed)
    encoder.model.requires_grad_(True).train()
    task = AutoEncoderTask(encoder.model, encoder.prepared(networks), settings, seed=seed)
    batches = [(batch, batch) for epoch in range(1, EPOCHS + 1) for batch in task.batches(epoch)]
    return examine(encoder.model, batches, reconstruction_loss, name="auto-encoder", budget=budget)


def examine_ranker(
    lists: Sequence[RankingList], settings: RankerSettings, *, seed: int = 0, budget: float = BUDGET
) -> ModelReport:
    """Analyse the ranker that `train_ranker` would begin with, on batches that it would see.

    Raises:
        AnalysisError: a risk of priority 1 was found.
        DataError: as in training.
    """
    with own_streams(seed, CPU):
        model = untrained_ranker(lists, settings)
    task = RankerTask(model, lists, settings, seed=seed)
    batches = [(batch[:-1], batch[-1]) for epoch in range(1, EPOCHS + 1) for batch in task.batches(epoch)]
    return examine(model, batches, task.loss_of, name="ranker", budget=budget)


def examine(
    model: nn.Module, batches: Sequence[Any], loss: Any, *, name: str | None = None, budget: float = BUDGET
) -> ModelReport:
    """Analyse a network on batches of inputs and target.

    Args:
        model: the network, as it comes untrained; it is left as it was.
        batches: pairs of inputs and target.
        loss: of output and target.
        budget: seconds that it should take.

    Raises:
        AnalysisError: a risk of priority 1 was found, or the model does not take the batches.
    """
    report = analyze_subject(make_subject(model, list(batches), loss, name=name), budget=budget)
    report.refuse_critical()
    return report
