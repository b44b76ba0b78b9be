"""Features of a day made comparable: each stock against the others of its own session."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfm.equities.features import FeatureTable
from deepfm.equities.features.within_day import CHUNK, place_within_day
from deepfm.errors import ConfigError, DataError, NotFittedError
from deepfm.utils.io import read_json, write_json

METHODS = ("rank", "gauss", "zscore", "none")
Float = NDArray[np.float32]
Mask = NDArray[np.bool_]


class CrossSectionalScaler:
    """Scales each feature by the statistics of its own day, over the stocks of the day's universe.

    Its state is the list of columns and their training medians; no mean or spread of the past reaches another day, so
    that a day that was never seen is scaled like any other. A stock outside the universe is placed among those inside.

    Args:
        method: `rank`, in (-1/2, 1/2]; `gauss`, the normal quantile of the rank; `zscore`; or `none`. `gauss` and
            `zscore` have mean 0 and standard deviation 1 on each day.
        winsorise: the share of a day's values that is pulled in at either end before `zscore` and `none`.

    Raises:
        ConfigError: an unknown method, or a share outside [0, 1/2).
    """

    def __init__(self, method: str = "rank", winsorise: float = 0.01) -> None:
        if method not in METHODS:
            raise ConfigError(f"scaling method = {method!r}; expected one of {', '.join(METHODS)}")
        if not 0 <= winsorise < 0.5:
            raise ConfigError(f"winsorise = {winsorise}; expected a share of at least 0 and below 0.5")
        self.method, self.winsorise = method, winsorise
        self.names: tuple[str, ...] = ()
        self.medians: Float = np.zeros(0, dtype=np.float32)

    def __repr__(self) -> str:
        return f"CrossSectionalScaler(method={self.method!r}, winsorise={self.winsorise}, columns={len(self.names)})"

    def fit(self, features: FeatureTable, sessions: NDArray[np.integer] | None = None) -> "CrossSectionalScaler":
        """Learn the columns and their medians over training sessions (all by default).

        Raises:
            DataError: something other than a `FeatureTable`, labels above all.
        """
        _refuse_others(features)
        chosen = features.values if sessions is None else features.values[sessions]
        medians = [_median(chosen[:, :, place]) for place in range(len(features.names))]
        self.names, self.medians = features.names, np.array(medians, dtype=np.float32)
        return self

    def transform(self, features: FeatureTable, where: Mask) -> Float:
        """The scaled features, `(T, N, F)` float32, all finite.

        A missing value becomes the middle of its day: 0, or the day's median under `none` (the training median where
        the whole column is missing on the day).

        Args:
            features: with the fitted columns.
            where: the universe of each session, `(T, N)`.

        Raises:
            NotFittedError: `fit` was not called.
            DataError: labels, other columns than the fitted ones, or a universe of another shape.
        """
        _refuse_others(features)
        if not self.names:
            raise NotFittedError("the scaler was not fitted; call fit with the features of training sessions")
        if features.names != self.names:
            other = sorted(set(features.names) ^ set(self.names)) or ["the same names in another order"]
            raise DataError(
                f"the features are not those that the scaler was fitted on; expected {len(self.names)} columns, "
                f"{', '.join(self.names[:3])}, ...; they differ in {', '.join(other[:3])}"
            )
        if where.shape != features.values.shape[:2]:
            raise DataError(f"where has the shape {where.shape}; expected {features.values.shape[:2]}")
        scaled = np.empty(features.values.shape, dtype=np.float32)
        step = max(1, CHUNK // max(1, scaled[:1].size))
        for start in range(0, len(scaled), step):
            part = slice(start, start + step)
            scaled[part] = self._scale(features.values[part], where[part])
        return scaled

    def fit_transform(self, features: FeatureTable, where: Mask) -> Float:
        """`fit` on all sessions, then `transform`."""
        return self.fit(features).transform(features, where)

    def state_dict(self) -> dict[str, Any]:
        """Everything that `from_state` needs, as plain values."""
        medians = [float(value) if np.isfinite(value) else None for value in self.medians]
        return {"method": self.method, "winsorise": self.winsorise, "names": list(self.names), "medians": medians}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "CrossSectionalScaler":
        """The scaler of a `state_dict`.

        Raises:
            DataError: the state is not one.
        """
        try:
            scaler = cls(state["method"], state["winsorise"])
            medians = [np.nan if value is None else value for value in state["medians"]]
            scaler.names, scaler.medians = tuple(state["names"]), np.array(medians, dtype=np.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"this is no state of a scaler ({error}); expected what state_dict gave") from error
        return scaler

    def save(self, path: str | Path) -> None:
        """Write the state as JSON."""
        write_json(path, self.state_dict())

    @classmethod
    def load(cls, path: str | Path) -> "CrossSectionalScaler":
        """Read what `save` wrote."""
        return cls.from_state(read_json(path, "scaler"))

    def _scale(self, values: Float, where: Mask) -> Float:
        """Some sessions, scaled."""
        inside = where[..., None] & np.isfinite(values)
        count = inside.sum(axis=1, keepdims=True)
        if self.method in ("rank", "gauss"):
            placed = place_within_day(values, where)
            if self.method == "gauss":
                placed = _standardised(_normal_quantile(placed, count), inside)
            return np.nan_to_num(placed)
        clipped = self._winsorised(values, inside, count)
        if self.method == "zscore":
            return np.nan_to_num(_standardised(clipped, inside))
        middle = _day_quantile(_sorted(values, inside), count, 0.5)
        middle = np.where(np.isfinite(middle), middle, np.nan_to_num(self.medians))
        return np.where(np.isfinite(clipped), clipped, middle).astype(np.float32)

    def _winsorised(self, values: Float, inside: Mask, count: NDArray) -> Float:
        if not self.winsorise:
            return values
        ordered = _sorted(values, inside)
        low, high = (_day_quantile(ordered, count, share) for share in (self.winsorise, 1 - self.winsorise))
        return np.clip(values, low, high)


def _refuse_others(features: Any) -> None:
    if not isinstance(features, FeatureTable):
        raise DataError(
            f"the scaler got a {type(features).__name__}; expected a FeatureTable; labels and arrays are no features"
        )


def _median(values: Float) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")


def _sorted(values: Float, inside: Mask) -> Float:
    """Each day's values inside, rising along the stocks, then infinity."""
    return np.sort(np.where(inside, values, np.float32(np.inf)), axis=1)


def _day_quantile(ordered: Float, count: NDArray, share: float) -> Float:
    """The linearly interpolated quantile of each day's values, `(T, 1, F)`; NaN on a day without any."""
    place = share * np.maximum(count - 1, 0)
    below = np.floor(place).astype(np.int64)
    above = np.minimum(below + 1, np.maximum(count - 1, 0))
    low = np.take_along_axis(ordered, below, axis=1)
    high = np.take_along_axis(ordered, above, axis=1)
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, low + (place - below) * (high - low), np.nan).astype(np.float32)


def _standardised(values: NDArray, inside: Mask) -> Float:
    """Mean 0 and standard deviation 1 over the stocks inside; 0 where none differs."""
    count = np.maximum(inside.sum(axis=1, keepdims=True), 1)
    wide = np.where(np.isfinite(values), values, np.nan).astype(np.float64)
    mean = np.where(inside, wide, 0.0).sum(axis=1, keepdims=True) / count
    apart = wide - mean
    spread = np.sqrt(np.where(inside, apart**2, 0.0).sum(axis=1, keepdims=True) / count)
    flat = spread <= 1e-6 * np.maximum(np.abs(mean), 1e-6)
    return np.where(flat, 0.0, apart / np.where(flat, 1.0, spread)).astype(np.float32)


def _normal_quantile(placed: Float, count: NDArray) -> NDArray:
    """The normal quantile of (rank - 1/2) / n, from ranks in (-1/2, 1/2]."""
    from scipy.special import ndtri

    half = 0.5 / np.maximum(count, 1)
    return ndtri(np.clip(placed.astype(np.float64) + 0.5 - half, half, 1 - half))
