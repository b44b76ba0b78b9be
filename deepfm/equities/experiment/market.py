"""What an experiment reads: prices, features, labels and folds, and the arrays that one fold is trained on."""

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfm.equities.days.arrays import DayArrays, Sessions, rankable
from deepfm.equities.days.graph import TrailingGraphs
from deepfm.equities.experiment.beforehand import known_features
from deepfm.equities.features import DEFAULT_FEATURES, FeatureRegistry, FeatureTable, compute_features
from deepfm.equities.features.scaling import CrossSectionalScaler
from deepfm.equities.labels import Labels, forward_returns
from deepfm.equities.panels.files import check_panel
from deepfm.equities.panels.panel import Panel
from deepfm.equities.settings import DataSettings, EquitiesSettings
from deepfm.equities.walk_forward import Fold
from deepfm.errors import ConfigError, DataError
from deepfm.utils.logging import get_logger

log = get_logger(__name__)
CHUNK = 1 << 22  # bytes of a file hashed at once
KEPT_GRAPHS = 400  # of a week each: half a megabyte for a thousand stocks


@dataclass(frozen=True, eq=False)
class Market:
    """A panel and what follows from it.

    Args:
        panel: the prices.
        features: unscaled.
        labels: forward returns.
        folds: in the order of their tests.
        rows: which stocks of a session are ranked, `(T, N)`.
        about: the data's name, hash and source, as every output carries it.
        registry: where the features were looked up.
    """

    panel: Panel
    features: FeatureTable
    labels: Labels
    folds: tuple[Fold, ...]
    rows: NDArray[np.bool_]
    about: dict[str, str]
    registry: FeatureRegistry = DEFAULT_FEATURES

    def __repr__(self) -> str:
        return f"Market({self.panel!r}, {len(self.features.names)} features, {len(self.folds)} folds)"

    @property
    def split(self) -> list[dict[str, Any]]:
        """The split table: of each fold its name, and first date, last date and number of sessions of each part."""
        sessions = self.panel.sessions
        return [
            {"fold": fold.name}
            | {
                part: [str(sessions[inside[0]]), str(sessions[inside[-1]]), len(inside)] if len(inside) else None
                for part, inside in (("train", fold.train), ("validation", fold.validation), ("test", fold.test))
            }
            for fold in self.folds
        ]


@dataclass(frozen=True, eq=False)
class FoldArrays:
    """What one fold's network is trained, judged and tested on.

    Args:
        arrays: from the first training window to the last session that is wanted; labels of training and validation
            alone, so that no test label can be learned from.
        scaler: fitted on the training sessions.
        train, validation, test: the sessions with rows.
    """

    arrays: DayArrays
    scaler: CrossSectionalScaler
    train: Sessions
    validation: Sessions
    test: Sessions


def open_market(settings: EquitiesSettings, *, without_tests: bool = False) -> Market:
    """Read the panel of a configuration, and work out what follows from it.

    Args:
        settings: sections `data` and `split`.
        without_tests: keep the first fold alone, and of the panel nothing after its validation, so that no day that
            any fold tests is read.

    Raises:
        ConfigError: no panel is named, or an unknown feature.
        DataError: the panel cannot be read, or is too short for the folds.
    """
    data = settings.data
    if data.path is None:
        raise ConfigError("data.path is not set; name a file of prices, such as --override data.path=prices.parquet")
    registry = known_features(data)
    panel, report = check_panel(data.path, data.sectors, data.panel)
    for warning in report.warnings():
        log.warning("%s: %s", data.path, warning)
    return market_of(panel, settings, about_data(data), without_tests=without_tests, registry=registry)


def market_of(
    panel: Panel,
    settings: EquitiesSettings,
    about: dict[str, str],
    *,
    without_tests: bool = False,
    registry: FeatureRegistry | None = None,
) -> Market:
    """What follows from a panel.

    Args:
        panel: the prices.
        settings, without_tests: as of `open_market`.
        about: names the data.
        registry: where features are looked up; by default the package's and those of `data.feature_modules`.

    Raises:
        ConfigError, DataError: as `open_market`.
    """
    data, horizons = settings.data, settings.data.prediction_horizons
    registry = known_features(data, registry)
    folds = tuple(settings.split.folds(panel.sessions, horizons, data.delay))
    if without_tests:
        first = folds[0]
        if not len(first.validation):
            raise DataError("the first fold has no validation session; raise split.validation_sessions")
        # Labels of validation reach into the gap before the test, and no further.
        panel = panel.until(int(first.validation[-1]) + settings.split.gap_sessions(horizons, data.delay))
        folds = (dataclasses.replace(first, test=first.test[:0]),)
    return Market(
        panel,
        compute_features(panel, data.features or None, registry),
        forward_returns(panel, horizons, data.delay),
        folds,
        rows_of(panel, data),
        about,
        registry,
    )


def rows_of(panel: Panel, data: DataSettings) -> NDArray[np.bool_]:
    """Which stocks of a session are ranked, `(T, N)`."""
    return rankable(panel.close, panel.eligible, data.sequence_length, data.min_history)


def about_data(data: DataSettings) -> dict[str, str]:
    """Name, hash and source of the files that a configuration reads; the hash is of their bytes."""
    digest = hashlib.sha256()
    for place in (data.path, data.sectors):
        if place is not None:
            with open(place, "rb") as file:
                while part := file.read(CHUNK):
                    digest.update(part)
    path = Path(str(data.path))
    return {"name": path.stem, "hash": digest.hexdigest(), "source": "files"}


def refuse_untrainable(market: Market, settings: EquitiesSettings) -> None:
    """Make sure that every fold has a session to learn from and one to choose the best epoch by.

    Raises:
        DataError: none of a part's sessions has a whole window before it and two stocks or more to rank.
    """
    usable = market.rows.sum(axis=1) > 1
    usable[: settings.data.sequence_length - 1] = False
    for fold in market.folds:
        for part, sessions in (("training", fold.train), ("validation", fold.validation)):
            if not usable[sessions].any():
                raise DataError(
                    f"fold {fold.name} has no {part} session with a whole window and two stocks to rank, among its "
                    f"{len(sessions)}; give more prices, or lower data.sequence_length or data.min_history"
                )


def fold_arrays(market: Market, fold: Fold, settings: EquitiesSettings) -> FoldArrays:
    """Scale the features of one fold's sessions, and keep the labels that it may learn from.

    Raises:
        DataError: no session of a part has rows.
    """
    data = settings.data
    last = max(int(part[-1]) for part in (fold.train, fold.validation, fold.test) if len(part))
    first = max(0, int(fold.train[0]) - data.sequence_length + 1)
    inside = slice(first, last + 1)
    scaler = CrossSectionalScaler(data.scaling, data.winsorise).fit(market.features, fold.train)
    part = dataclasses.replace(market.features, values=market.features.values[inside])
    features = scaler.transform(part, market.panel.eligible[inside]).astype(data.store, copy=False)
    known = np.zeros(len(market.rows), np.bool_)
    known[fold.train] = known[fold.validation] = True
    returns = np.where(known[inside, None, None], market.labels.returns[inside], np.float32(np.nan))
    own = dataclasses.replace(market.labels, returns=returns, last_session=market.labels.last_session[inside])
    targets = own.ranked(market.rows[inside]) if data.target == "rank" else own.zscored(market.rows[inside])
    arrays = DayArrays(
        features,
        market.rows[inside],
        market.panel.sectors,
        data.sequence_length,
        len(data.prediction_horizons),
        targets,
        returns,
        TrailingGraphs(market.panel, settings.graph, KEPT_GRAPHS),
        first,
    )
    validation = arrays.usable(fold.validation)[:: data.validate_every]
    return FoldArrays(arrays, scaler, arrays.usable(fold.train), validation, arrays.usable(fold.test))
