"""CLIP's image features as an encoder, through open_clip; its weights are never fetched here."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfm.errors import DataError, ExtraError
from deepfm.model_selection.images.pixels import in_channels, resized
from deepfm.model_selection.tokens.encoder import as_array, checked_features_of

BATCH = 64  # images in the network at once
HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # in a repository of the hub


class ClipEncoder:
    """The image tower of a CLIP model (Radford et al., 2021), its features of unit length.

    Args:
        architecture: a name of `open_clip.list_models()`; for a file of weights of OpenAI's one that ends in
            `-quickgelu`, as a tag would choose by itself.
        weights: a file of weights, or a tag of `open_clip.list_pretrained_tags_by_model(architecture)` whose weights
            are in the cache.
        cache: the folder that open_clip keeps weights in; None for its own.
        device: a torch device.

    Raises:
        ExtraError: open_clip is not installed, or cannot be imported.
        DataError: the architecture is unknown, or the weights are not on this machine or do not fit it.
    """

    def __init__(
        self, architecture: str = "ViT-B-32", *, weights: str | Path, cache: str | None = None, device: str = "cpu"
    ) -> None:
        clip = _open_clip()
        if architecture not in clip.list_models():
            raise DataError(
                f"CLIP model {architecture!r} is unknown to open_clip; expected one of open_clip.list_models()"
            )
        file, source = weights_file(architecture, weights, cache)
        try:
            model = clip.create_model(
                architecture,
                pretrained=str(file),
                device=device,
                cache_dir=cache,
                force_quick_gelu=bool(source.get("quick_gelu")),
            )
        except Exception as error:  # torch and safetensors raise a dozen kinds for damaged or foreign weights
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(
                f"weights {file} cannot be loaded into CLIP model {architecture} ({reason}); give those of this "
                "architecture"
            ) from error
        self._model = model.eval()
        self._device = device
        mean, std = source.get("mean", model.visual.image_mean), source.get("std", model.visual.image_std)
        self._mean, self._std = (np.array(each, np.float32)[:, None, None] for each in (mean, std))
        side = model.visual.image_size
        self._size = (side, side) if isinstance(side, int) else tuple(side)
        self._name = f"clip-{architecture}-{Path(weights).stem}"

    @property
    def name(self) -> str:
        """What tokens of it are called."""
        return self._name

    def encode(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """`(n, C, H, W)` images from 0 to 1 to `(n, D)` features of length 1.

        Raises:
            DataError: the network gives values that are not finite.
        """
        import torch

        parts = []
        for start in range(0, len(rows), BATCH):
            images = resized(in_channels(rows[start : start + BATCH], 3), self._size)
            batch = torch.from_numpy((images - self._mean) / self._std).to(self._device)
            with torch.inference_mode():
                parts.append(as_array(self._model.encode_image(batch, normalize=True)))
        return checked_features_of(self.name, np.concatenate(parts), len(rows))


def weights_file(architecture: str, weights: str | Path, cache: str | None = None) -> tuple[Path, dict[str, Any]]:
    """Where the weights of a CLIP model lie on this machine, and what open_clip knows of them.

    Args:
        architecture: the model's name.
        weights: a file, or a tag of the model.
        cache: the folder that open_clip keeps weights in; None for its own.

    Returns:
        The file, and for a tag how its images are normalised and which activation it takes; nothing for a file.

    Raises:
        ExtraError: open_clip is not installed, or cannot be imported.
        DataError: there is no such file, and the tag is unknown or its weights are not in the cache.
    """
    clip = _open_clip()
    if Path(weights).is_file():
        return Path(weights), {}
    tags = clip.list_pretrained_tags_by_model(architecture)
    if str(weights) not in tags:
        raise DataError(
            f"CLIP weights {str(weights)!r} are neither a file nor a tag of {architecture}; expected a file, or one of "
            f"{', '.join(tags) or 'no tags'}"
        )
    source = dict(clip.get_pretrained_cfg(architecture, str(weights)))
    found = _cached(source, cache)
    if found is None:
        raise DataError(
            f"the weights {str(weights)!r} of CLIP model {architecture} are not on this machine, and are not fetched "
            f"unasked; fetch them with open_clip.create_model({architecture!r}, pretrained={str(weights)!r}), or name "
            "a file"
        )
    return found, source


def _cached(source: dict[str, Any], cache: str | None) -> Path | None:
    """The file that open_clip keeps for a source of weights, where it is there."""
    owner, _, rest = str(source.get("hf_hub", "")).partition("/")
    repository, _, name = rest.partition("/")
    if repository:
        from huggingface_hub import try_to_load_from_cache

        for each in (name,) if name else HUB_FILES:
            file = try_to_load_from_cache(f"{owner}/{repository}", each, cache_dir=cache)
            if isinstance(file, str):
                return Path(file)
    address = str(source.get("url", ""))
    beside = Path(cache or "~/.cache/clip").expanduser() / address.rpartition("/")[2]
    return beside if address and beside.is_file() else None


def _open_clip() -> Any:
    try:
        import open_clip
    except ImportError as error:
        raise ExtraError(
            "CLIP tokens need open_clip; pip install 'deepfm[clip]', or use the analytic encoder"
        ) from error
    except (RuntimeError, OSError) as error:  # torchvision of another build than torch
        raise ExtraError(
            f"open_clip is installed but cannot be imported ({error}); install torch and torchvision of one build"
        ) from error
    return open_clip
