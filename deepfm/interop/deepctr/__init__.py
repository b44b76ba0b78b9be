"""DeepCTR-Torch's surface on this package's engine and layers: its modules by the same names.

A script changes the package's name in its import lines, from `deepctr_torch` to `deepfm.interop.deepctr`, and runs.
`docs/deepctr.md` lists what differs, each with the reason.

Example:
    >>> from deepfm.interop.deepctr.inputs import SparseFeat, get_feature_names
    >>> get_feature_names([SparseFeat("user_id", 10), SparseFeat("item_id", 20)])
    ['user_id', 'item_id']
"""

from importlib import import_module
from typing import Any

_NAMES = {"load_deepctr_weights": "weights", "schema_of": "schema"}
__all__ = ["load_deepctr_weights", "schema_of"]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_NAMES[name]}"), name)
