"""Features of a panel, computed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepfm.equities.features.history import History
from deepfm.equities.features.price_volume import DEFAULT_FEATURES
from deepfm.equities.features.registry import GROUPS, Feature, FeatureRegistry
from deepfm.equities.panels.panel import Panel
from deepfm.errors import ConfigError, DataError, DeepFMError

CHUNK = 64  # stocks at a time, so that their windows stay in the cache


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """What is known of each stock at the close of each session.

    Args:
        values: `(T, N, F)` float32; NaN where there is too little history.
        names: of the `F` features.
        groups: of each feature.
        lookbacks: how many sessions before its own each feature reads.

    Raises:
        DataError: shapes that do not fit.
    """

    values: NDArray[np.float32]
    names: tuple[str, ...]
    groups: tuple[str, ...]
    lookbacks: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check that all parts fit together."""
        sizes = {len(self.names), len(self.groups), len(self.lookbacks)}
        if self.values.ndim != 3 or sizes != {self.values.shape[2]}:
            raise DataError(
                f"features of the shape {self.values.shape} have {len(self.names)} names, {len(self.groups)} groups "
                f"and {len(self.lookbacks)} look-backs; expected (sessions, stocks, features) and one of each a feature"
            )

    def __repr__(self) -> str:
        sessions, stocks, features = self.values.shape
        return f"FeatureTable({sessions} sessions, {stocks} stocks, {features} features)"

    @property
    def group_ids(self) -> tuple[int, ...]:
        """Each feature's group as its place among value, momentum, volume, risk, sector."""
        return tuple(GROUPS.index(group) for group in self.groups)

    @property
    def lookback(self) -> int:
        """The longest look-back."""
        return max(self.lookbacks, default=0)

    def column(self, name: str) -> NDArray[np.float32]:
        """One feature, `(T, N)`.

        Raises:
            DataError: there is none of the name.
        """
        if name not in self.names:
            raise DataError(f"there is no feature {name!r}; expected one of {', '.join(self.names)}")
        return self.values[:, :, self.names.index(name)]


def compute_features(
    panel: Panel, names: Sequence[str] | None = None, registry: FeatureRegistry = DEFAULT_FEATURES
) -> FeatureTable:
    """Compute features of a panel.

    Args:
        panel: prices.
        names: which of the registry's features, in this order; by default all, without those of the group sector
            where the panel knows no sector.
        registry: where they are looked up.

    Raises:
        ConfigError: a name is unknown, one of the group sector is asked for without sectors, or a function fails or
            answers another shape.
    """
    known = bool((panel.sectors >= 0).any())
    if names is None:
        names = [each.name for each in registry.features if known or each.group != "sector"]
    chosen = registry.select(names)
    history = History(panel)
    shape = (panel.num_sessions, panel.num_stocks)
    values = np.empty((*shape, len(chosen)), dtype=np.float32)
    for feature in chosen.features:
        if feature.group == "sector" and not panel.sector_names:
            raise ConfigError(f"feature {feature.name!r} needs sectors and the panel knows none; read it with sectors")
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if any(feature.per_stock for feature in chosen.features):
            for start in range(0, panel.num_stocks, CHUNK):
                stocks = np.arange(start, min(start + CHUNK, panel.num_stocks))
                _fill(values[:, start : start + CHUNK], history.of_stocks(stocks), chosen, per_stock=True)
        _fill(values, history, chosen, per_stock=False)
    groups = tuple(feature.group for feature in chosen.features)
    return FeatureTable(values, chosen.names, groups, tuple(feature.lookback for feature in chosen.features))


def _fill(values: NDArray[np.float32], history: History, registry: FeatureRegistry, per_stock: bool) -> None:
    """Compute the features of one kind into their columns of `values`, `(T, n, F)`."""
    for place, feature in enumerate(registry.features):
        if feature.per_stock is per_stock:
            column = _computed(feature, history)
            if column.shape != values.shape[:2]:
                raise ConfigError(
                    f"feature {feature.name!r} answers the shape {column.shape}; expected {values.shape[:2]}"
                )
            known = column.astype(np.float32)
            values[:, :, place] = np.where(np.isfinite(known), known, np.float32(np.nan))


def _computed(feature: Feature, history: History) -> NDArray:
    """What a feature's function answers, as numbers."""
    try:
        column = np.asarray(feature.function(history))
        if column.dtype.kind not in "biuf":
            raise TypeError(f"its values are of the type {column.dtype}; expected numbers")
    except DeepFMError:
        raise
    except Exception as error:  # a person's own function may raise anything
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise ConfigError(f"feature {feature.name!r} fails: {type(error).__name__}: {reason}") from error
    return column
