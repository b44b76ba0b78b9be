"""Training the ranker by the engine's loop, and scoring with it."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepfm.engine.loop import Observer, fit
from deepfm.engine.task import ParameterGroup, Progress, Task, no_progress
from deepfm.errors import DataError
from deepfm.model_selection.losses import RankingLoss
from deepfm.model_selection.network_files import fill, load_weights, own_streams, read_about, save_network
from deepfm.model_selection.network_settings import RankerSettings
from deepfm.model_selection.ranker import SimilarityTransformerModel
from deepfm.model_selection.ranking_lists import PaddedLists, RankingList, pad_lists, standardised_targets
from deepfm.model_selection.ranking_parts import drawn_parts

VERSION = 1
NAME = "ranker"
CHUNK = 4096  # models scored at once
CPU = torch.device("cpu")

Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # tokens, embeddings, token mask, model mask, targets


class RankerTask(Task):
    """Lists of models to be put in the order of their outcomes, each step a random part of them.

    Which models and tokens of a task a step sees is a pure function of the seed and the epoch. Targets are in
    deviations of each task's own outcomes, with a floor from the training tasks alone. With held-out tasks the epoch
    of their least loss is best; without, all epochs are run, whose number then has to be chosen beforehand.

    Args:
        model: the ranker.
        lists: the training tasks.
        settings: the loss and the parts.
        seed: of the parts and their order.
        held_out: tasks to stop early by.
        device: where the model is.
    """

    metric: str | None = None
    maximize = False

    def __init__(
        self,
        model: SimilarityTransformerModel,
        lists: Sequence[RankingList],
        settings: RankerSettings,
        *,
        seed: int = 0,
        held_out: Sequence[RankingList] = (),
        device: torch.device = CPU,
    ) -> None:
        self.model, self.settings, self.seed, self.device = model, settings, seed, device
        self.loss_of = loss_of(settings)
        self.lists = pad_lists(lists, standardised_targets(lists))
        if not (np.sum(~np.isnan(self.lists.targets), axis=1) > 1).any():
            raise DataError("no task has outcomes of two models; the ranker needs at least one pair to learn from")
        self.held_out = (
            on_device(pad_lists(held_out, standardised_targets(held_out, lists)), device) if held_out else None
        )
        self.metric = "held_out_loss" if held_out else None

    def num_batches(self) -> int:
        """Batches an epoch."""
        return -(-len(self.lists) // self.settings.batch_size)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Every task once, in an order and in parts that seed and epoch decide."""
        for part in islice(drawn_parts(self.lists, self.settings, self.seed, epoch), start, None):
            yield on_device(part.of(self.lists), self.device)

    def loss(self, batch: Batch) -> tuple[Tensor, int]:
        """The mean ranking loss of the batch's tasks, and their number."""
        *inputs, targets = batch
        return self.loss_of(self.model(*inputs), targets), len(targets)

    def evaluate(self, on_progress: Progress = no_progress) -> dict[str, float]:
        """The loss on the held-out tasks, where there are any."""
        return {} if self.held_out is None else {"held_out_loss": float(self.loss(self.held_out)[0])}

    def parameter_groups(self) -> list[ParameterGroup]:
        """Matrices decay; biases, norms and the null token do not."""
        matrices = [part for part in self.model.parameters() if part.ndim == 2]
        others = [part for part in self.model.parameters() if part.ndim != 2]
        return [ParameterGroup(matrices, weight_decay=self.settings.weight_decay), ParameterGroup(others)]


def untrained_ranker(lists: Sequence[RankingList], settings: RankerSettings) -> SimilarityTransformerModel:
    """A ranker with the constants of these training tasks, its weights drawn from torch's stream.

    Raises:
        DataError: there is no list.
    """
    if not lists:
        raise DataError("there is no task to learn to rank from; expected at least one list")
    model = new_ranker(lists[0].tokens.shape[1], lists[0].embeddings.shape[1], settings)
    model.fit_inputs(*training_inputs(lists))
    return model


def loss_of(settings: RankerSettings) -> RankingLoss:
    """The loss that the settings describe."""
    return RankingLoss(settings.ranking_margin, settings.loss, settings.weigh_by_difference, settings.ties)


def new_ranker(token_width: int, embedding_width: int, settings: RankerSettings) -> SimilarityTransformerModel:
    """An untrained ranker of these settings, drawn from torch's stream."""
    return SimilarityTransformerModel(
        token_width,
        embedding_width,
        settings.hidden_size,
        settings.num_heads,
        settings.num_layers,
        dropout=settings.dropout,
        input_dropout=settings.input_dropout,
        attend_to_models=settings.attend_to_models,
    )


def train_ranker(
    lists: Sequence[RankingList],
    settings: RankerSettings,
    *,
    seed: int = 0,
    held_out: Sequence[RankingList] = (),
    device: torch.device = CPU,
    observers: Sequence[Observer] = (),
) -> SimilarityTransformerModel:
    """A ranker that learned from these tasks, in evaluation mode; with one seed on the CPU always the same.

    Inputs are standardised by the training tasks' tokens and the embeddings of their measured models.

    Raises:
        DataError: lists do not fit each other, or no task has outcomes of two models.
        TrainingError: the loss is no longer finite.
    """
    with own_streams(seed, device):
        model = untrained_ranker(lists, settings).to(device)
        task = RankerTask(model, lists, settings, seed=seed, held_out=held_out, device=device)
        fit(task, settings, device=device, observers=observers)
    return model.eval()


@torch.no_grad()
def score(
    model: SimilarityTransformerModel, tokens: NDArray[np.floating], embeddings: NDArray[np.floating]
) -> NDArray[np.float64]:
    """The logits `(N,)` of models with embeddings `(N, E)` on a data set of tokens `(C, F)`; higher is better.

    Raises:
        DataError: a width does not fit the ranker.
    """
    device = next(model.parameters()).device
    model.eval()
    seen = torch.as_tensor(np.asarray(tokens, np.float32), device=device)[None]
    models = torch.as_tensor(np.asarray(embeddings, np.float32), device=device)[None]
    together = any(block.compare is not None for block in model.blocks)  # then they may not be scored in parts
    parts = [models] if together else list(models.split(CHUNK, dim=1))
    logits = torch.cat([model(seen, part)[0] for part in parts])
    return logits.cpu().numpy().astype(np.float64)


def save_ranker(model: SimilarityTransformerModel, settings: RankerSettings, folder: Path) -> None:
    """Write `ranker.safetensors` and `ranker.json`."""
    from deepfm.engine.settings import settings_to_dict

    about = {
        "version": VERSION,
        "token_width": model.token_width,
        "embedding_width": model.embedding_width,
        "settings": settings_to_dict(settings),
    }
    save_network(model, about, folder, NAME)


def load_ranker(folder: Path) -> SimilarityTransformerModel:
    """What `save_ranker` wrote, on the CPU, in evaluation mode.

    Raises:
        CheckpointError: a file is missing, damaged or of another version.
    """
    from deepfm.engine.settings import build_settings

    about = read_about(folder, NAME, VERSION)
    settings = build_settings(RankerSettings, about["settings"], "ranker.")
    with own_streams(0, CPU):
        model = new_ranker(about["token_width"], about["embedding_width"], settings)
    fill(model, load_weights(folder, NAME, about), folder / f"{NAME}.safetensors")
    return model.eval()


def training_inputs(lists: Sequence[RankingList]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """All tokens, and the embeddings of measured models, each array that lists share once."""
    tokens = np.concatenate([one.tokens for one in lists])
    measured: dict[int, tuple[NDArray[np.float32], NDArray[np.bool_]]] = {}
    for one in lists:
        known = ~np.isnan(one.outcomes)
        before = measured.get(id(one.embeddings))
        measured[id(one.embeddings)] = (one.embeddings, known if before is None else known | before[1])
    return tokens, np.concatenate([embeddings[known] for embeddings, known in measured.values()])


def on_device(lists: PaddedLists, device: torch.device) -> Batch:
    """The lists as tensors: tokens, embeddings, their masks, and targets."""
    parts = (lists.tokens, lists.embeddings, lists.token_mask, lists.model_mask, lists.targets)
    tokens, embeddings, token_mask, model_mask, targets = (torch.from_numpy(part).to(device) for part in parts)
    return tokens, embeddings, token_mask, model_mask, targets
