"""Click prediction as a task of the engine."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn

from deepfm.config import ExperimentConfig
from deepfm.data.batches import Features
from deepfm.data.dataset import TabularDataset, take_rows
from deepfm.data.interactions import Blocks, CatalogueBlock, TrainingInteractions
from deepfm.engine.memory import feed
from deepfm.engine.task import ParameterGroup, Progress, Task, no_progress
from deepfm.errors import ConfigError
from deepfm.models import BaseCTRModel
from deepfm.training import objectives
from deepfm.training.evaluation import Evaluation, evaluate_scores, score_rows
from deepfm.training.monitors import Monitor, monitored
from deepfm.utils.logging import get_logger
from deepfm.utils.seeding import random_stream

if TYPE_CHECKING:
    from deepfm.data.streaming import StreamedDataset

Batch = tuple[Features, Tensor] | tuple[Features, Tensor, Tensor] | Blocks | CatalogueBlock
log = get_logger(__name__)
SPARSE_ROWS = 100_000  # from so many table rows on, a dense gradient costs more than the rows that a batch holds


class CTRTask(Task):
    """Clicks, with negatives drawn anew and rows shuffled each epoch.

    Under a ranking loss, and where rows have histories, likes are shuffled with their negatives beside them, so that a
    like and its negatives share one history.

    Args:
        model: gives logits `(B, 1)`.
        config: batch size, monitored metric, penalties, seed.
        train_ds, val_ds: on the model's device, or in main memory, from where their batches are moved.
        identity: what a checkpoint must agree on to be continued.

    Attributes:
        evaluation: what the last `evaluate` found; None before the first.
        monitors: by name, what it saw inside the model.
        sparse_gradients: whether the tables' gradients are sparse in a fit, for speed or for their optimizer.
        block_rows: rows of a like with its negatives, where likes are shuffled; 1 where rows are.

    Raises:
        ConfigError: the monitored metric cannot be measured, batch normalisation meets batches of one row, the
            device lacks what a switch needs, or a ranking loss has no negatives to rank.
    """

    def __init__(
        self,
        model: BaseCTRModel,
        config: ExperimentConfig,
        train_ds: TabularDataset,
        val_ds: TabularDataset,
        identity: Mapping[str, str] | None = None,
    ) -> None:
        self.model: BaseCTRModel = model
        self.config, self.train_ds, self.val_ds = config, train_ds, val_ds
        self.identity = dict(identity or {})
        self.evaluation: Evaluation | None = None
        self.monitors: Mapping[str, Monitor] = {}
        device = next(model.parameters()).device
        lazy = config.training.embedding_optimizer != "same" or config.training.lazy_embedding_l2
        if lazy and device.type == "mps":
            raise ConfigError(
                "training.embedding_optimizer and training.lazy_embedding_l2 need sparse gradients, which MPS has not; "
                "use embedding_optimizer=same and lazy_embedding_l2=false, or device=cpu"
            )
        large = device.type == "cpu" and model.embedding.num_rows >= SPARSE_ROWS
        self.sparse_gradients = lazy or large
        self.metric = config.training.metric
        self.maximize = self.metric != "logloss"
        if "@" in self.metric and val_ds.group_offsets is None:
            raise ConfigError(
                f"training.metric = {self.metric!r} needs candidates in groups, which the validation set has not; use "
                "auc or logloss"
            )
        self.block_rows = self._rows_of_a_block()
        normalised = any(isinstance(part, nn.BatchNorm1d) for part in model.modules())
        if normalised and min(config.training.batch_size, len(train_ds)) < 2:
            raise ConfigError(
                f"batch normalisation needs two rows a batch; training.batch_size = {config.training.batch_size} and "
                f"{len(train_ds)} training rows give one, so set dnn.use_batch_norm=false or a larger batch"
            )

    def num_batches(self) -> int:
        """Batches an epoch; a single last row joins the batch before it, as batch normalisation needs two."""
        full, rest = divmod(self._num_units(), self._units_of_a_batch())
        return max(1, full + (rest > 1))

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Batches of shuffled rows, or likes with their negatives, a pure function of (seed, epoch)."""
        self.train_ds.resample(epoch)
        units = self._num_units()
        size, count = self._units_of_a_batch(), self.num_batches()
        bounds = [*range(0, count * size, size), units]
        if self.train_ds.streams:
            dataset = cast("StreamedDataset", self.train_ds)
            streamed = dataset.shuffled_batches(bounds, self.config.seed, epoch, start)
            return feed(streamed, next(self.model.parameters()).device)
        numbers = np.arange(units, dtype=np.int32 if units < 2**31 else np.int64)
        random_stream("row order", self.config.seed, epoch).shuffle(numbers)
        order = torch.from_numpy(numbers).to(self.train_ds.device)
        gathered = (self._batch(order[start:end]) for start, end in pairwise(bounds[start:]))
        return feed(gathered, next(self.model.parameters()).device)

    def loss(self, batch: Batch) -> tuple[Tensor, int]:
        """The mean loss of a batch, and its rows."""
        training = self.config.training
        if isinstance(batch, CatalogueBlock):
            logits = self.model.catalogue_logits(batch.features, batch.catalogue).float()  # (P, C)
            return objectives.full_softmax(logits, batch.items, batch.hidden), len(batch.items)
        features, labels = batch[:2]
        logits = self.model(features).squeeze(1).float()  # (B,)
        if not isinstance(batch, Blocks):
            weights = self._weights(labels, batch[2] if len(batch) > 2 else None)
            return objectives.bce(logits, labels, weights=weights), len(labels)
        hidden, blocks = batch.hidden, logits.view(batch.hidden.shape)
        if training.loss == "bce":
            return objectives.bce(blocks, labels.view_as(blocks), weights=self._weights(labels.view_as(blocks))), len(
                labels
            )
        if training.loss == "bpr":
            return objectives.bpr(blocks, hidden), len(labels)
        log_q = batch.log_q if training.log_q_correction else None
        return objectives.softmax(blocks, hidden, log_q), len(labels)

    def evaluate(self, on_progress: Progress = no_progress) -> dict[str, float]:
        """AUC, log loss and, over groups, HR@K and NDCG@K of the validation set, and what the model wants watched."""
        with monitored(self.model) as self.monitors:
            scores = score_rows(self.model, self.val_ds, on_progress)
        self.evaluation = evaluate_scores(scores, self.val_ds, self.config.training.ranking_ks)
        metrics = {name: value for name, value in self.evaluation.metrics.items() if value is not None}
        for name, monitor in self.monitors.items():
            metrics |= {f"{name}_{figure}": value for figure, value in monitor.summary().items()}
        return metrics

    def parameter_groups(self) -> list[ParameterGroup]:
        """The embedding tables with their L2 penalty, and everything else with the optimizer's weight decay."""
        tables = self.model.embedding.table_parameters()
        known = {id(weight) for weight in tables}
        others = [weight for weight in self.model.parameters() if id(weight) not in known]
        training = self.config.training
        row_optimizer = None if training.embedding_optimizer == "same" else training.embedding_optimizer
        return [
            ParameterGroup(
                tables,
                l2=self.config.feature.embedding_l2_reg,
                row_optimizer=row_optimizer,
                lazy_l2=training.lazy_embedding_l2,
                lr=training.embedding_lr,
            ),
            ParameterGroup(others, weight_decay=training.weight_decay),
        ]

    @contextmanager
    def training(self) -> Iterator[None]:
        """Large tables, and those with an optimizer of their own, have sparse gradients for a while."""
        names = [field.name for field in self.model.schema.behaviour_fields]
        if self.model.reads_behaviour and not any(map(self.train_ds.has_events, names)):
            log.warning("every history is empty in training, so behaviour teaches nothing; look at the time column")
        self.model.embedding.sparse_gradients = self.sparse_gradients
        try:
            yield
        finally:
            self.model.embedding.sparse_gradients = False

    def fingerprint(self) -> dict[str, str]:
        """A checkpoint fits the identity, the number of training rows and how they are read, as that orders them."""
        rows = f"{len(self.train_ds)} rows"
        if self.train_ds.streams:
            rows += f", streamed in buffers of {cast('StreamedDataset', self.train_ds).buffer_rows}"
        return {**self.identity, "training set": rows}

    def _weights(self, labels: Tensor, weights: Tensor | None = None) -> Tensor | None:
        """What each row's loss is multiplied with; None for nothing."""
        positive = self.config.training.positive_weight
        if positive == 1.0:
            return weights
        of_class = 1.0 + (positive - 1.0) * labels
        return of_class if weights is None else weights * of_class

    def _rows_of_a_block(self) -> int:
        training = self.config.training
        if training.loss == "full_softmax":
            self.model.require_catalogue()
        if training.log_q_correction and training.loss != "softmax":
            raise ConfigError(
                f"training.log_q_correction goes with training.loss softmax, got {training.loss}; switch it off"
            )
        if training.positive_weight != 1.0 and training.loss != "bce":
            raise ConfigError(
                f"training.positive_weight = {training.positive_weight} goes with training.loss bce, got "
                f"{training.loss}; a ranking loss has as many negatives as you give it"
            )
        if training.in_batch_negatives and training.loss not in ("bpr", "softmax"):
            raise ConfigError(
                f"training.in_batch_negatives = {training.in_batch_negatives} goes with training.loss softmax or bpr, "
                f"got {training.loss}"
            )
        if not isinstance(self.train_ds, TrainingInteractions):
            if training.loss != "bce":
                raise ConfigError(
                    f"training.loss = {training.loss!r} ranks each like among sampled negatives, which these rows have "
                    "not; use training.loss=bce, or training data with negatives"
                )
            return 1
        if training.loss == "bce" and not self.train_ds.histories:
            return 1
        rows = 1 + self.train_ds.num_negatives + training.in_batch_negatives
        if training.batch_size < rows * (1 + training.in_batch_negatives) and training.in_batch_negatives:
            raise ConfigError(
                f"training.in_batch_negatives = {training.in_batch_negatives} needs more likes than that in a batch, "
                f"and training.batch_size = {training.batch_size} holds {training.batch_size // rows} of {rows} rows; "
                f"use a batch of at least {rows * (1 + training.in_batch_negatives)} rows or fewer in-batch negatives"
            )
        return rows

    def _num_units(self) -> int:
        """What is shuffled: rows, or likes."""
        if self.block_rows > 1 and isinstance(self.train_ds, TrainingInteractions):
            return self.train_ds.num_likes
        return len(self.train_ds)

    def _units_of_a_batch(self) -> int:
        return max(1, self.config.training.batch_size // self.block_rows)

    def _batch(self, units: Tensor) -> Batch:
        if self.block_rows == 1 or not isinstance(self.train_ds, TrainingInteractions):
            features, labels = self.train_ds.batch(units)
            weights = self.train_ds.weights
            return (features, labels) if weights is None else (features, labels, take_rows(weights, units))
        if self.config.training.loss == "full_softmax":
            return self.train_ds.catalogue_block(units)
        training = self.config.training
        return self.train_ds.blocks(units, training.in_batch_negatives, training.log_q_correction)
