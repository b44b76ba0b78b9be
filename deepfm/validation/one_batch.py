"""One small batch to learn by heart: what a network cannot do there, it cannot do anywhere."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deepfm.analysis.measures.steps import without_dropout
from deepfm.data.batches import Features
from deepfm.data.dataset import TabularDataset
from deepfm.data.schema import DatasetSchema
from deepfm.engine.loop import fit
from deepfm.engine.loop_settings import LoopSettings
from deepfm.engine.task import Progress, Task, no_progress
from deepfm.errors import DataError
from deepfm.models import BaseCTRModel
from deepfm.training import objectives
from deepfm.utils.seeding import random_stream

ROWS_OF_A_CLASS = 16  # clicks, and as many others, so that one logit for all gives ln 2
DRAWN_PER_ROW = 8  # rows looked at for each one taken, as rows that look alike are taken once
EPOCHS, STEPS = 10, 30  # 300 steps; the loss is looked at after every 30
LEARNING_RATES = (0.01, 0.1, 0.001)  # the next where one does not do


@dataclass(frozen=True, eq=False)
class OneBatch:
    """Rows that differ from one another, half of them clicks: features `{field: (B, …)}` and labels `(B,)`."""

    features: Features
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def draw_batch(schema: DatasetSchema, dataset: TabularDataset, seed: int, device: torch.device) -> OneBatch:
    """At most 16 clicks and 16 other rows, of which no two have the same features, histories apart.

    Raises:
        DataError: all clicks, or all others, look like a row that is already taken.
    """
    labels = dataset.labels.cpu().numpy()
    rng = random_stream("one batch", seed)
    drawn = []
    for value in (1.0, 0.0):
        rows = np.flatnonzero(labels == value)
        drawn.append(rng.permutation(rows)[: ROWS_OF_A_CLASS * DRAWN_PER_ROW])
    positions = rng.permutation(np.concatenate(drawn))
    features, found = dataset.batch(torch.as_tensor(positions, device=dataset.device))
    told_apart_by = [features[field.name] for field in schema.interacting_fields]
    table = torch.cat([column.reshape(len(positions), -1).cpu().double() for column in told_apart_by], dim=1)
    _, first = np.unique(table.numpy(), axis=0, return_index=True)
    first.sort()
    clicked = found.cpu().numpy()[first] > 0
    kept = np.sort(np.concatenate([first[clicked][:ROWS_OF_A_CLASS], first[~clicked][:ROWS_OF_A_CLASS]]))
    if clicked.all() or not clicked.any():
        raise DataError(
            f"{len(positions)} training rows were drawn and only {len(first)} of them differ in their features, so no "
            "model can tell clicks from others; look at how the columns were encoded"
        )
    chosen = torch.as_tensor(kept, device=found.device)
    kept_features = {name: column[chosen].to(device) for name, column in features.items()}
    return OneBatch(kept_features, found[chosen].to(device))


def draw_rows(dataset: TabularDataset, count: int, seed: int, device: torch.device) -> tuple[Features, Tensor]:
    """The features and labels of at most `count` rows, drawn at random."""
    rows = random_stream("first rows", seed).permutation(len(dataset))[:count]
    features, labels = dataset.batch(torch.as_tensor(rows, device=dataset.device))
    return {name: column.to(device) for name, column in features.items()}, labels.to(device)


class OneBatchTask(Task):
    """The same rows in every step, without penalties; `loss` is also what is measured."""

    metric = "loss"
    maximize = False

    def __init__(self, model: BaseCTRModel, batch: OneBatch) -> None:
        self.model: BaseCTRModel = model
        self.batch = batch

    def num_batches(self) -> int:
        """Steps until the loss is looked at again."""
        return STEPS

    def batches(self, epoch: int, start: int = 0) -> Iterator[OneBatch]:
        """The batch, again and again."""
        return (self.batch for _ in range(start, STEPS))

    def loss(self, batch: OneBatch) -> tuple[Tensor, int]:
        """Mean cross-entropy."""
        return objectives.bce(self.model(batch.features).squeeze(1).float(), batch.labels), len(batch)

    def evaluate(self, on_progress: Progress = no_progress) -> dict[str, float]:
        """The loss, with batch normalisation by the batch or by its running statistics, whichever has come further."""
        losses = []
        for training in (False, True):
            self.model.train(training)
            losses.append(float(self.loss(self.batch)[0]))
        return {"loss": min(losses)}


def learn_by_heart(model: BaseCTRModel, batch: OneBatch, lr: float) -> float:
    """The lowest loss in 300 steps of Adam; the model ends there, without any dropout.

    Raises:
        TrainingError: the loss is no longer finite.
    """
    without_dropout(model)
    settings = LoopSettings(num_epochs=EPOCHS, lr=lr, scheduler="none", early_stopping_patience=EPOCHS)
    state = fit(OneBatchTask(model, batch), settings, device=batch.labels.device)
    return float(state.history[state.best_epoch - 1]["loss"])
