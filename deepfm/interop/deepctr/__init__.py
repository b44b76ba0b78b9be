"""DeepCTR-Torch's surface on this package's engine and layers: its modules by the same names.

A script changes the package's name in its import lines, from `deepctr_torch` to `deepfm.interop.deepctr`, and runs.
`docs/deepctr.md` lists what differs, each with the reason.

Example:
    >>> from deepfm.interop.deepctr.inputs import SparseFeat, get_feature_names
    >>> get_feature_names([SparseFeat("user_id", 10), SparseFeat("movie_id", 20)])
    ['user_id', 'movie_id']
"""

from typing import Any

__all__ = ["load_deepctr_weights"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from deepfm.interop.deepctr import weights

    return getattr(weights, name)
