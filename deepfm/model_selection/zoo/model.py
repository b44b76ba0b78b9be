"""A pre-trained model of the zoo: its features, and what it says of its source's classes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepfm.errors import DataError
from deepfm.model_selection.zoo.networks import Network, build_network
from deepfm.model_selection.zoo.rows import SIDE
from deepfm.model_selection.zoo.settings import ARCHITECTURES
from deepfm.utils.io import atomic_path

CHUNK = 4096  # images at once
SEPARATOR = "/"


@dataclass(frozen=True, eq=False)
class ZooModel:
    """A body with the head that it was pre-trained with.

    Args:
        name: what the catalogue calls it.
        architecture: one of `ARCHITECTURES`.
        classes: of its source; none for a model that was never trained, which has no head.
        state: its weights, `body.*` and, with classes, `head.*`.

    Raises:
        DataError: the weights are not those of such a network.

    Example:
        >>> from deepfm.model_selection.zoo.networks import build_network
        >>> network = build_network("mlp64x1", 2, torch.Generator().manual_seed(0))
        >>> model = ZooModel("mine", "mlp64x1", ("cat", "dog"), network.state_dict())
        >>> model.features(np.zeros((3, 8, 8), np.float32)).shape
        (3, 64)
    """

    name: str
    architecture: str
    classes: tuple[str, ...]
    state: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise DataError(
                f"model {self.name!r} has architecture {self.architecture!r}; expected {', '.join(ARCHITECTURES)}"
            )
        self.network()

    def network(self) -> Network:
        """A network with these weights, for evaluation; without classes its head has one logit, which is zero.

        Raises:
            DataError: the weights are not those of such a network.
        """
        network = build_network(self.architecture, max(1, len(self.classes)))
        headless = {name: torch.zeros_like(weight) for name, weight in network.head.state_dict(prefix="head.").items()}
        try:
            network.load_state_dict(dict(self.state) if self.classes else headless | dict(self.state))
        except RuntimeError as error:
            raise DataError(
                f"the weights of model {self.name!r} are not those of a {self.architecture} with {len(self.classes)} "
                "classes; delete the zoo and build it again"
            ) from error
        return network.eval()

    @property
    def width(self) -> int:
        """How many features it gives."""
        return build_network(self.architecture, 1).width

    def features(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Images `(n, 8, 8)` in [0, 1] to features `(n, D)`.

        Raises:
            DataError: the images have another shape.
        """
        network = self.network()
        return self._in_chunks(images, network.features)

    def source_probabilities(self, images: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Images `(n, 8, 8)` to the probabilities of its source's classes `(n, C)`; None without a source.

        Raises:
            DataError: the images have another shape.
        """
        if not self.classes:
            return None
        network = self.network()
        return self._in_chunks(images, lambda rows: network(rows).softmax(-1))

    @torch.inference_mode()
    def _in_chunks(self, images: NDArray[np.float32], of: Callable[[Tensor], Tensor]) -> NDArray[np.float32]:
        if images.ndim != 3 or images.shape[1:] != (SIDE, SIDE):
            raise DataError(f"images have shape {images.shape}; expected (n, {SIDE}, {SIDE}) in grey; resize them")
        rows = torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32))
        answer: NDArray[np.float32] = torch.cat([of(part) for part in rows.split(CHUNK)]).numpy()
        return answer

    def save(self, path: Path) -> None:
        """Write the weights as safetensors, whole or not at all."""
        save_states(path, [self.state], {"architecture": self.architecture, "name": self.name}, self.classes)

    @classmethod
    def load(cls, path: Path) -> "ZooModel":
        """Read what `save` wrote.

        Raises:
            DataError: the file is missing, damaged or none of a zoo.
        """
        states, about = load_states(path)
        classes = tuple(about["classes"].split(SEPARATOR)) if about.get("classes") else ()
        return cls(about.get("name", path.stem), about.get("architecture", ""), classes, states[0])


def save_states(
    path: Path, states: list[Mapping[str, Tensor]], about: Mapping[str, str], classes: tuple[str, ...]
) -> None:
    """Write several states of one model as one safetensors, whole or not at all."""
    tensors = {f"{i}.{name}": weight.contiguous() for i, state in enumerate(states) for name, weight in state.items()}
    with atomic_path(path) as beside:
        safetensors.torch.save_file(tensors, beside, dict(about) | {"classes": SEPARATOR.join(classes)})


def load_states(path: Path) -> tuple[list[dict[str, Tensor]], dict[str, str]]:
    """The states in a safetensors, in order, and what it says of itself.

    Raises:
        DataError: the file is missing, damaged or none of a zoo.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, safetensors.SafetensorError) as error:
        raise DataError(f"the weights {path} are missing or damaged; delete the zoo and build it again") from error
    states: dict[int, dict[str, Tensor]] = {}
    for key, weight in tensors.items():
        number, _, name = key.partition(".")
        if not number.isdigit() or not name:
            raise DataError(
                f"{path} has a tensor {key!r}; expected the weights of a zoo; delete the zoo and build it again"
            )
        states.setdefault(int(number), {})[name] = weight
    if not states:
        raise DataError(f"{path} holds no weights; delete the zoo and build it again")
    return [states[number] for number in sorted(states)], about
