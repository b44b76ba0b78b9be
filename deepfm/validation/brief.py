"""Brief training: few epochs in small, fast steps, by the engine's own loop."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import chain, islice
from typing import Any

from torch import Tensor

from deepfm.config import ExperimentConfig
from deepfm.data.dataset import TabularDataset
from deepfm.engine.task import ParameterGroup, Progress, Task, no_progress
from deepfm.models import BaseCTRModel
from deepfm.training.evaluation import Evaluation
from deepfm.training.task import CTRTask
from deepfm.validation.popularity import RANKING_KS
from deepfm.validation.report import Schedule

BATCHES_AN_EPOCH = 100  # wished for, on data that have the rows
BATCH_SIZES = 32, 1024
SLOWEST_LR = 3e-3
MAX_BATCHES = 1000  # however many rows there are


def brief_config(config: ExperimentConfig, train_rows: int) -> ExperimentConfig:
    """The configuration with a training section that learns much in few epochs.

    Batches are at most 1,024 rows and the learning rate at least 0.003, or the configuration's where that is smaller
    or faster already; the loss is cross-entropy, which all models can have, and there is no schedule.
    """
    least, most = BATCH_SIZES
    batch_size = min(config.training.batch_size, max(least, min(most, train_rows // BATCHES_AN_EPOCH)))
    training = replace(
        config.training,
        num_epochs=1,  # of `BriefTask`, which joins the epochs
        batch_size=batch_size,
        lr=max(config.training.lr, SLOWEST_LR),
        loss="bce",
        in_batch_negatives=0,
        log_q_correction=False,
        metric="auc",
        ranking_ks=RANKING_KS,
        scheduler="none",
        warmup_steps=0,
        accumulation_steps=1,
        compile=False,
    )
    return replace(config, training=training)


def brief_schedule(config: ExperimentConfig, train_rows: int, epochs: int) -> Schedule:
    """What a training with a `brief_config` comes to."""
    training = config.training
    whole = epochs * max(1, train_rows // training.batch_size)
    return Schedule(epochs, training.batch_size, training.lr, min(whole, MAX_BATCHES), cut=whole > MAX_BATCHES)


class BriefTask(Task):
    """Several epochs of clicks as one, which ends after 1,000 batches at the latest and is validated once."""

    metric = "auc"

    def __init__(
        self,
        model: BaseCTRModel,
        config: ExperimentConfig,
        train: TabularDataset,
        validation: TabularDataset,
        epochs: int,
    ) -> None:
        self.model, self.epochs = model, epochs
        self._clicks = CTRTask(model, config, train, validation)

    def num_batches(self) -> int:
        """All epochs' batches, or the most that there may be."""
        return min(MAX_BATCHES, self.epochs * self._clicks.num_batches())

    def batches(self, epoch: int) -> Iterator[Any]:
        """The epochs' batches, one after another."""
        every = chain.from_iterable(self._clicks.batches(number) for number in range(1, self.epochs + 1))
        return islice(every, self.num_batches())

    def loss(self, batch: Any) -> tuple[Tensor, int]:
        """The mean cross-entropy of a batch, and its rows."""
        return self._clicks.loss(batch)

    def evaluate(self, on_progress: Progress = no_progress) -> dict[str, float]:
        """The validation metrics."""
        return self._clicks.evaluate(on_progress)

    def parameter_groups(self) -> list[ParameterGroup]:
        """As in a whole training."""
        return self._clicks.parameter_groups()

    def training(self) -> AbstractContextManager[None]:
        """As in a whole training."""
        return self._clicks.training()

    @property
    def evaluation(self) -> Evaluation:
        """What the validation found, row by row."""
        assert self._clicks.evaluation is not None  # a fit ends with it
        return self._clicks.evaluation
