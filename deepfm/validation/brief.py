"""Brief training: few epochs in small, fast steps, by the engine's own loop."""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import chain, islice
from typing import Any

import numpy as np
from torch import Tensor

from deepfm.config import ExperimentConfig
from deepfm.data.dataset import TabularDataset
from deepfm.data.interactions import InteractionDataset
from deepfm.engine.task import ParameterGroup, Progress, Task, no_progress
from deepfm.models import BaseCTRModel
from deepfm.training.evaluation import Evaluation
from deepfm.training.task import CTRTask
from deepfm.validation.popularity import RANKING_KS
from deepfm.validation.report import Schedule

BATCHES_AN_EPOCH = 200  # wished for, on data that have the rows
BATCH_SIZES = 32, 512
SLOWEST_LR = 5e-3
LEAST_BATCHES = 300  # however few rows there are, and where no number of epochs is asked for
MAX_BATCHES = 1000  # however many rows there are
MAX_VALIDATION_ROWS = 300_000


def brief_config(config: ExperimentConfig, train_rows: int) -> ExperimentConfig:
    """The configuration with a training section that learns much in few epochs.

    Batches are at most 512 rows and the learning rate at least 0.005, or the configuration's where that is smaller or
    faster already; the loss is cross-entropy, which all models can have, and there is no schedule.
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


def brief_schedule(config: ExperimentConfig, train_rows: int, epochs: int | None) -> Schedule:
    """What a training with a `brief_config` comes to; by default one epoch, or as many as make about 300 batches."""
    training = config.training
    an_epoch = max(1, train_rows // training.batch_size)
    epochs = epochs or max(1, -(-LEAST_BATCHES // an_epoch))
    whole = epochs * an_epoch
    return Schedule(epochs, training.batch_size, training.lr, min(whole, MAX_BATCHES), cut=whole > MAX_BATCHES)


def brief_validation(dataset: TabularDataset) -> TabularDataset:
    """The first 300,000 rows, in whole groups where there are groups; all where there are no more."""
    if len(dataset) <= MAX_VALIDATION_ROWS:
        return dataset
    part, rows = copy.copy(dataset), MAX_VALIDATION_ROWS
    if dataset.group_offsets is not None:
        groups = max(1, int(np.searchsorted(dataset.group_offsets, rows, side="right")) - 1)
        part.group_offsets = dataset.group_offsets[: groups + 1]
        rows = int(dataset.group_offsets[groups])
    part.labels = dataset.labels[:rows]
    part.features = {name: column[:rows] for name, column in dataset.features.items()}
    if isinstance(part, InteractionDataset):
        part.users, part.items = part.users[:rows], part.items[:rows]
    return part


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

    def batches(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """The epochs' batches, one after another."""
        every = chain.from_iterable(self._clicks.batches(number) for number in range(1, self.epochs + 1))
        return islice(every, start, self.num_batches())

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
