"""A registry of causal operations: each with its name, its group and how far it looks back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from numpy.typing import NDArray

from deepfm.equities.features.history import History
from deepfm.errors import ConfigError
from deepfm.reporting.tables import Column, Table

GROUPS = ("value", "momentum", "volume", "risk", "sector")
Operation = Callable[[History], NDArray]


@dataclass(frozen=True)
class Feature:
    """One causal operation.

    Args:
        name: unique in its registry.
        group: value, momentum, volume, risk or sector; attention over features works between groups.
        lookback: how many sessions before its own a value may depend on, carried closes included.
        function: from a `History` to `(T, N)`; the value at `t` must depend on nothing after `t`, which
            `deepfm.equities.leakage.check` tries out.
        per_stock: whether the function looks at other stocks through `history.market` alone; then it is given some
            stocks at a time, which is faster.

    Raises:
        ConfigError: the group is none, or the look-back is negative.
    """

    name: str
    group: str
    lookback: int
    function: Operation
    per_stock: bool = False

    def __post_init__(self) -> None:
        if self.group not in GROUPS:
            raise ConfigError(
                f"feature {self.name!r} has the group {self.group!r}; expected one of {', '.join(GROUPS)}"
            )
        if self.lookback < 0:
            raise ConfigError(f"feature {self.name!r} has lookback = {self.lookback}; expected 0 or more sessions")


@dataclass(frozen=True)
class FeatureRegistry:
    """Features in the order of their columns.

    Example:
        >>> registry = FeatureRegistry(()).with_feature(
        ...     Feature("dollars", "volume", 0, lambda history: history.dollar_volume)
        ... )
        >>> registry.names
        ('dollars',)

    Raises:
        ConfigError: a name stands twice.
    """

    features: tuple[Feature, ...]

    def __post_init__(self) -> None:
        names = self.names
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(f"the feature {twice[0]!r} is registered twice; expected each name once")

    def __repr__(self) -> str:
        return f"FeatureRegistry({', '.join(self.names)})"

    def __len__(self) -> int:
        return len(self.features)

    @property
    def names(self) -> tuple[str, ...]:
        """The names in their order."""
        return tuple(feature.name for feature in self.features)

    @property
    def lookback(self) -> int:
        """The longest look-back."""
        return max((feature.lookback for feature in self.features), default=0)

    def with_feature(self, feature: Feature) -> "FeatureRegistry":
        """A registry with one more."""
        return FeatureRegistry((*self.features, feature))

    def select(self, names: Sequence[str]) -> "FeatureRegistry":
        """The named features, in the order of `names`.

        Raises:
            ConfigError: a name is unknown.
        """
        known = {feature.name: feature for feature in self.features}
        for name in names:
            if name not in known:
                raise ConfigError(f"feature {name!r} is not registered; expected some of {', '.join(known)}")
        return FeatureRegistry(tuple(known[name] for name in names))

    def to_table(self) -> Table:
        """Name, group, look-back and meaning of each."""
        columns = [Column("feature"), Column("group"), Column("lookback", format="d"), Column("meaning")]
        rows = [[each.name, each.group, each.lookback, _meaning(each.function)] for each in self.features]
        return Table(columns, rows)


def feature(name: str, group: str, lookback: int, per_stock: bool = False) -> Callable[[Operation], Feature]:
    """A decorator that makes a function of a `History` a feature.

    Example:
        >>> @feature("dollars", "volume", 0)
        ... def dollars(history):
        ...     return history.dollar_volume
        >>> dollars.group
        'volume'
    """
    return lambda function: Feature(name, group, lookback, function, per_stock)


def _meaning(function: Operation) -> str:
    text = getattr(function, "meaning", None) or getattr(function, "__doc__", None) or ""
    return text.strip().splitlines()[0].rstrip(".") if text.strip() else ""
