"""Pre-training: every source and architecture once for the zoo, and further times for whoever learns from weights."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deepfm.model_selection.zoo.datasets import make_source
from deepfm.model_selection.zoo.networks import Network, body_of, build_network
from deepfm.model_selection.zoo.rows import Rows
from deepfm.model_selection.zoo.settings import RANDOM, ModelSettings
from deepfm.model_selection.zoo.training import Lessons, Recipe, stack, train_stack, unstack
from deepfm.utils.seeding import random_stream

HELD_OUT = 5  # one row in so many is not trained on


@dataclass(frozen=True)
class PretrainedModel:
    """A model of the zoo.

    Args:
        source: what it was trained on; `random` for nothing.
        architecture: of its network.
        classes: of the source; none where there is no head.
        state: its weights.
        accuracy: on held-out rows of the source; None for a random one.
        further: weights of the same source and architecture from other seeds, at several steps; no outcome is theirs.
    """

    source: str
    architecture: str
    classes: tuple[str, ...]
    state: dict[str, Tensor]
    accuracy: float | None
    further: list[dict[str, Tensor]]

    @property
    def name(self) -> str:
        """What the catalogue calls it."""
        return f"{self.source}-{self.architecture}"


def pretrain(settings: ModelSettings, seed: int, on_progress: Callable[[int, int], None]) -> list[PretrainedModel]:
    """Train every source and architecture, a stack for each architecture.

    Raises:
        ExtraError: scikit-learn is not here.
    """
    trained = [name for name in settings.sources if name != RANDOM]
    sources = {name: make_source(name, settings.rows, seed) for name in trained}
    models = []
    for number, architecture in enumerate(settings.architectures):
        on_progress(number, len(settings.architectures))
        if sources:
            models += _trained_models(architecture, sources, settings, seed)
        if RANDOM in settings.sources:
            models.append(_random_model(architecture, settings, seed))
    on_progress(len(settings.architectures), len(settings.architectures))
    order = {name: i for i, name in enumerate(settings.sources)}
    return sorted(models, key=lambda model: order[model.source])


def torch_generator(purpose: str, *numbers: int) -> torch.Generator:
    """A torch generator that is a pure function of a purpose and numbers."""
    return torch.Generator().manual_seed(int(random_stream(purpose, *numbers).integers(2**63)))


def _trained_models(
    architecture: str, sources: Mapping[str, Rows], settings: ModelSettings, seed: int
) -> list[PretrainedModel]:
    """All sources' models of an architecture: the first seed's for the zoo, the checkpoints of the others' besides."""
    most = max(len(rows.classes) for rows in sources.values())
    runs = [(name, run) for name in sources for run in range(1 + settings.state_seeds)]
    start = [
        build_network(architecture, most, torch_generator(f"zoo init {name} {architecture}", seed, run)).state_dict()
        for name, run in runs
    ]
    kept_at = {settings.steps * (i + 1) // settings.checkpoints for i in range(settings.checkpoints)}
    kept: list[list[dict[str, Tensor]]] = []

    def keep(step: int, parameters: Mapping[str, Tensor]) -> None:
        if step in kept_at:
            kept.append(unstack(parameters))

    recipe = Recipe(settings.steps, settings.lr, settings.weight_decay)
    network = build_network(architecture, most)
    lessons = _lessons(sources, runs, settings, seed)
    final = unstack(train_stack(network, stack(start), lessons, recipe, keep))
    models = []
    for at, (name, run) in enumerate(runs):
        if run:
            continue
        rows, classes = sources[name], len(sources[name].classes)
        further = [
            _own_head(states[at + 1 + other], classes) for other in range(settings.state_seeds) for states in kept
        ]
        own = _own_head(final[at], classes)
        accuracy = _accuracy(build_network(architecture, classes), own, rows)
        models.append(PretrainedModel(name, architecture, rows.classes, own, accuracy, further))
    return models


def _random_model(architecture: str, settings: ModelSettings, seed: int) -> PretrainedModel:
    """A model that was never trained, and as many others as a trained one has further states."""
    purpose = f"zoo init {RANDOM} {architecture}"
    states = [
        body_of(build_network(architecture, 1, torch_generator(purpose, seed, run)).state_dict())
        for run in range(1 + settings.state_seeds * settings.checkpoints)
    ]
    return PretrainedModel(RANDOM, architecture, (), states[0], None, states[1:])


def _lessons(
    sources: Mapping[str, Rows], runs: Sequence[tuple[str, int]], settings: ModelSettings, seed: int
) -> Lessons:
    """Random batches of each run's source, without the rows that are held out."""
    first = dict(zip(sources, np.cumsum([0, *(len(rows) for rows in sources.values())]), strict=False))
    batches = [
        first[name]
        + random_stream(f"zoo batches {name}", seed, run).integers(
            len(sources[name]) - _held_out(sources[name]), size=(settings.steps, settings.batch_size)
        )
        for name, run in runs
    ]
    return Lessons(
        torch.from_numpy(np.concatenate([rows.images for rows in sources.values()])),
        torch.from_numpy(np.concatenate([rows.labels for rows in sources.values()])),
        torch.from_numpy(np.stack(batches, axis=1)),
        torch.tensor([len(sources[name].classes) for name, _ in runs]),
    )


def _held_out(rows: Rows) -> int:
    """How many of the last rows say how well a model does on its source."""
    return len(rows) // HELD_OUT


@torch.no_grad()
def _accuracy(network: Network, state: Mapping[str, Tensor], rows: Rows) -> float:
    network.load_state_dict(state)
    held_out = rows.take(np.arange(len(rows) - _held_out(rows), len(rows)))
    right = network(torch.from_numpy(held_out.images)).argmax(-1) == torch.from_numpy(held_out.labels)
    return float(right.double().mean())


def _own_head(state: Mapping[str, Tensor], classes: int) -> dict[str, Tensor]:
    """The state with only the logits of classes that there are."""
    return {name: (weight[:classes].clone() if name.startswith("head.") else weight) for name, weight in state.items()}
