"""Many rankers trained at once on the same tasks, each with other outcomes hidden: the folds of a benchmark."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from deepfm.engine.loop import fit
from deepfm.engine.task import ParameterGroup, Progress, Task, no_progress
from deepfm.errors import DataError
from deepfm.model_selection.network_files import own_streams
from deepfm.model_selection.network_settings import RankerSettings
from deepfm.model_selection.ranker import SimilarityTransformerModel
from deepfm.model_selection.ranker_task import CPU, Batch, loss_of, on_device, untrained_ranker
from deepfm.model_selection.ranking_lists import PaddedLists, RankingList, pad_lists, standardised_targets
from deepfm.model_selection.ranking_parts import drawn_parts

TOGETHER = 24  # rankers in one stack, which bounds the memory


class StackedRankers(nn.Module):
    """K rankers of one form as one module: their parameters side by side, so that one call runs all of them.

    Args:
        members: K rankers of the same sizes.
    """

    template: SimilarityTransformerModel
    weights: nn.ParameterList

    def __init__(self, members: Sequence[SimilarityTransformerModel]) -> None:
        super().__init__()
        self.__dict__["template"] = members[0]  # its form alone is used, so its weights are none of this module's
        self.names = [name for name, _ in members[0].named_parameters()]
        self.weights = nn.ParameterList(
            [
                nn.Parameter(torch.stack([member.get_parameter(name).detach() for member in members]))
                for name in self.names
            ]
        )
        self.constants = [name for name, _ in members[0].named_buffers()]
        for place, name in enumerate(self.constants):
            self.register_buffer(f"constant{place}", torch.stack([member.get_buffer(name) for member in members]))

    def forward(self, tokens: Tensor, models: Tensor, token_mask: Tensor, model_mask: Tensor) -> Tensor:
        """Logits `(K, B, N)`; the inputs are as a ranker's, and the same for all."""
        weights = dict(zip(self.names, self.weights, strict=True))
        constants = {name: self.get_buffer(f"constant{place}") for place, name in enumerate(self.constants)}
        self.template.train(self.training)

        def one(state: dict[str, Tensor]) -> Tensor:
            logits: Tensor = functional_call(self.template, state, (tokens, models, token_mask, model_mask))
            return logits

        with sdpa_kernel(SDPBackend.MATH):  # the other kernels run a stack one by one
            logits: Tensor = vmap(one, randomness="different")(weights | constants)
        return logits

    @torch.no_grad()
    def members(self, like: Sequence[SimilarityTransformerModel]) -> list[SimilarityTransformerModel]:
        """The rankers one by one, in evaluation mode: the weights are put into `like`."""
        for place, member in enumerate(like):
            for name, weights in zip(self.names, self.weights, strict=True):
                member.get_parameter(name).copy_(weights[place])
        return [member.eval() for member in like]


class StackTask(Task):
    """`RankerTask` for K rankers at once: all see the same parts of the same tasks, each with its own targets.

    The loss is the sum over rankers, so that each has the gradient that it would have alone.

    Args:
        model: the rankers.
        lists: the tasks; what any ranker may see is measured.
        targets: `(K, T, N)`, in deviations, NaN where hidden from a ranker.
        settings: the loss and the parts.
        seed: of the parts and their order.
        device: where the model is.
    """

    model: StackedRankers
    metric = None

    def __init__(
        self,
        model: StackedRankers,
        lists: PaddedLists,
        targets: NDArray[np.float32],
        settings: RankerSettings,
        *,
        seed: int = 0,
        device: torch.device = CPU,
    ) -> None:
        self.model, self.lists, self.targets, self.settings = model, lists, targets, settings
        self.seed, self.device, self.loss_of = seed, device, loss_of(settings)

    def num_batches(self) -> int:
        """Batches an epoch."""
        return -(-len(self.lists) // self.settings.batch_size)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """As one ranker's, but for the targets `(K, B, n)`."""
        for part in islice(drawn_parts(self.lists, self.settings, self.seed, epoch), start, None):
            tokens, embeddings, token_mask, model_mask, _ = on_device(part.of(self.lists), self.device)
            own = np.where(part.taken, self.targets[:, part.rows[:, None], part.places], np.nan).astype(np.float32)
            yield tokens, embeddings, token_mask, model_mask, torch.from_numpy(own).to(self.device)

    def loss(self, batch: Batch) -> tuple[Tensor, int]:
        """The sum of the rankers' mean losses, and the number of tasks."""
        *inputs, targets = batch
        losses: Tensor = vmap(self.loss_of)(self.model(*inputs), targets)
        return losses.sum(), targets.shape[1]

    def evaluate(self, on_progress: Progress = no_progress) -> dict[str, float]:
        """Nothing: no ranker's epoch is best."""
        return {}

    def parameter_groups(self) -> list[ParameterGroup]:
        """As one ranker's."""
        weights = list(self.model.weights)
        matrices = [part for part in weights if part.ndim == 3]
        others = [part for part in weights if part.ndim != 3]
        return [ParameterGroup(matrices, weight_decay=self.settings.weight_decay), ParameterGroup(others)]


def train_rankers(
    lists: Sequence[RankingList],
    hidden: Sequence[NDArray[np.bool_]],
    settings: RankerSettings,
    *,
    seed: int = 0,
    device: torch.device = CPU,
) -> list[SimilarityTransformerModel]:
    """A ranker for each of many folds, in evaluation mode, all trained together.

    Each sees the outcomes that its fold does not hide, and its inputs are standardised by those tasks and models alone;
    to the others it is blind. Unlike in `train_ranker`, all have the same first weights and the same random parts, and
    gradients are clipped together, at the root of their number times `gradient_clip_norm`.

    Args:
        lists: the tasks, each with the same N models.
        hidden: for each fold `(T, N)`, True for outcomes that it may not see.
        settings: of the networks and the training; `compile` is left out.
        seed: of the first weights and the parts.

    Raises:
        DataError: lists or folds do not fit each other, or a fold hides so much that no pair is left.
    """
    shown = _shown(lists, hidden)
    found: list[SimilarityTransformerModel] = []
    for start in range(0, len(shown), TOGETHER):
        found += _train_stack(lists, shown[start : start + TOGETHER], settings, seed, device)
    return found


def _shown(lists: Sequence[RankingList], hidden: Sequence[NDArray[np.bool_]]) -> list[list[RankingList]]:
    """What each fold sees: the lists with NaN where it may not look."""
    shape = (len(lists), len(lists[0].outcomes) if lists else 0)
    shown = []
    for fold, its in enumerate(hidden):
        if its.shape != shape or any(len(one.outcomes) != shape[1] for one in lists):
            raise DataError(f"fold {fold} hides outcomes {its.shape}; expected tasks by models, {shape}, in all lists")
        seen = [replace(one, outcomes=np.where(row, np.nan, one.outcomes)) for one, row in zip(lists, its, strict=True)]
        if not any(np.sum(~np.isnan(one.outcomes)) > 1 for one in seen):
            raise DataError(f"fold {fold} hides all but single outcomes; the ranker needs at least one pair")
        shown.append(seen)
    return shown


def _train_stack(
    lists: Sequence[RankingList],
    shown: Sequence[Sequence[RankingList]],
    settings: RankerSettings,
    seed: int,
    device: torch.device,
) -> list[SimilarityTransformerModel]:
    members = []
    for seen in shown:
        usable = [one for one in seen if not np.isnan(one.outcomes).all()]
        with own_streams(seed, device):
            members.append(untrained_ranker(usable, settings).to(device))
    targets = np.stack([np.stack(standardised_targets(seen)) for seen in shown]).astype(np.float32)
    anyone = [
        replace(one, outcomes=np.where(np.isnan(targets[:, at]).all(axis=0), np.nan, one.outcomes))
        for at, one in enumerate(lists)
    ]
    clip = settings.gradient_clip_norm
    together = replace(
        settings, compile=False, gradient_clip_norm=None if clip is None else clip * math.sqrt(len(members))
    )
    stack = StackedRankers(members)
    with own_streams(seed, device):
        fit(StackTask(stack, pad_lists(anyone), targets, together, seed=seed, device=device), together, device=device)
    return stack.members(members)
