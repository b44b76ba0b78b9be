"""Baselines over walk-forward folds, each fold's test scored by what was known before it."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepfm.equities.baselines.base import Baseline, RankedFeatures, Scores, Sessions
from deepfm.equities.baselines.ridge import Ridge
from deepfm.equities.baselines.rules import RandomScores, Rule
from deepfm.equities.baselines.trees import Trees, TreeSettings
from deepfm.equities.walk_forward import Fold
from deepfm.errors import ConfigError, DataError
from deepfm.utils.io import load_arrays, save_arrays
from deepfm.utils.seeding import random_stream

BASELINES: Mapping[str, Callable[[int], Baseline]] = {
    "reversal 5": lambda _: Rule("ret5", sign=-1),
    "momentum 20": lambda _: Rule("ret20"),
    "momentum 12-1": lambda _: Rule("mom250_20"),
    "ridge": lambda _: Ridge(),
    "LightGBM": lambda seed: Trees(TreeSettings(seed=seed)),
    "random": lambda seed: RandomScores(random_stream("random scores", seed)),
}


def known_sessions(fold: Fold) -> Sessions:
    """All sessions that a baseline, which has nothing to stop by, may learn from: up to the gap before the test."""
    last = fold.validation if len(fold.validation) else fold.train
    return np.arange(fold.train[0], last[-1] + 1)


def walk_forward_scores(
    names: Sequence[str],
    features: RankedFeatures,
    targets: NDArray[np.float32],
    folds: Sequence[Fold],
    folder: str | Path | None = None,
    seed: int = 0,
) -> dict[str, Scores]:
    """Fit each baseline on each fold's past and score the fold's test.

    Args:
        names: of `BASELINES`.
        features: ranked within the day, `(T, N, F)`.
        targets: within-day ranks of the forward returns, `(T, N, K)`.
        folds: whose gaps keep every training label before the test.
        folder: where scores are kept, `<name>.npz` each; what another call left there for the same features, targets,
            folds and seed is read, not fitted again.
        seed: of what draws.

    Returns:
        By name the scores, `(T, N, K)`; NaN outside the tests.

    Raises:
        ConfigError: an unknown name.
        DataError: tests that overlap, or no fold.
        ExtraError: LightGBM is asked for and not installed.
    """
    unknown = [name for name in names if name not in BASELINES]
    if unknown:
        raise ConfigError(f"no baseline is called {unknown[0]!r}; expected one of {', '.join(BASELINES)}")
    if not folds:
        raise DataError("the baselines were given no fold; expected at least one")
    tests = np.concatenate([fold.test for fold in folds])
    if len(np.unique(tests)) < len(tests):
        raise DataError("the folds' tests overlap; expected each session in one test at most")
    key = _fingerprint(features, targets, folds, seed) if folder is not None else ""
    found = {}
    for name in names:
        path = None if folder is None else Path(folder) / f"{name.replace(' ', '_')}.npz"
        kept = _read(path, key) if path is not None else None
        if kept is None:
            baseline = BASELINES[name](seed)
            kept = np.concatenate([_score_fold(baseline, features, targets, fold) for fold in folds])
            if path is not None:
                save_arrays(path, {"key": np.array(key), "sessions": tests, "scores": kept})
        scores = np.full((*features.values.shape[:2], kept.shape[2]), np.nan, dtype=np.float32)
        scores[tests] = kept
        found[name] = scores
    return found


def _score_fold(baseline: Baseline, features: RankedFeatures, targets: NDArray[np.float32], fold: Fold) -> Scores:
    return baseline.fit(features, targets, known_sessions(fold)).score(features.at(fold.test))


def _read(path: Path, key: str) -> Scores | None:
    """The scores of the file, where it has any, of the same origin."""
    if not path.exists():
        return None
    arrays = load_arrays(path, "baseline scores")
    return arrays["scores"] if str(arrays.get("key", "")) == key else None


def _fingerprint(features: RankedFeatures, targets: NDArray[np.float32], folds: Sequence[Fold], seed: int) -> str:
    """What the scores depend on: the data, the folds, the seed."""
    digest = hashlib.blake2b(
        repr((features.names, features.values.shape, targets.shape, seed)).encode(), digest_size=16
    )
    for array in (features.values, targets, *(part for fold in folds for part in (known_sessions(fold), fold.test))):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
