"""The zoo: real pre-trained models, tasks and what each model reached, built on this machine in minutes.

The names below are loaded when they are first used, so that a command can list presets without torch.
"""

from importlib import import_module
from typing import Any

_NAMES = {
    "PRESETS": "deepfm.model_selection.zoo.settings",
    "BuildSettings": "deepfm.model_selection.zoo.settings",
    "Rows": "deepfm.model_selection.zoo.rows",
    "TransferTask": "deepfm.model_selection.zoo.rows",
    "Zoo": "deepfm.model_selection.zoo.folder",
    "ZooModel": "deepfm.model_selection.zoo.model",
    "build_zoo": "deepfm.model_selection.zoo.build",
}

__all__ = [*_NAMES]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_NAMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
