"""All probes of one model on one data set, with what each of them took."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from numpy.typing import ArrayLike

from deepfm.model_selection.probes.h_score import h_score_of_rows
from deepfm.model_selection.probes.leep import leep
from deepfm.model_selection.probes.logme import logme_of_rows
from deepfm.model_selection.probes.nce import nce
from deepfm.model_selection.probes.neighbours import neighbour_accuracy_of_rows
from deepfm.model_selection.probes.ridge import ridge_accuracy_of_rows, ridge_explained_of_rows
from deepfm.model_selection.probes.rows import ProbeRows
from deepfm.model_selection.probes.standardise import standardised

ON_FEATURES: Mapping[str, Callable[[ProbeRows], float]] = {
    "logme": logme_of_rows,
    "h_score": h_score_of_rows,
    "neighbour": neighbour_accuracy_of_rows,
    "ridge": ridge_accuracy_of_rows,
    "ridge_explained": ridge_explained_of_rows,
}
ON_SOURCE: Mapping[str, Callable[[ArrayLike, ArrayLike], float]] = {"leep": leep, "nce": nce}
PROBES = (*ON_FEATURES, *ON_SOURCE)


@dataclass(frozen=True)
class ProbeResults:
    """What each probe says of a model on a data set.

    Args:
        values: one a name of `PROBES`, higher is better; NaN where a model has no source head.
        seconds: wall seconds of each probe that ran, and of `decomposition`, which those on features share.
    """

    values: Mapping[str, float]
    seconds: Mapping[str, float]

    @property
    def total_seconds(self) -> float:
        """Of all probes together."""
        return sum(self.seconds.values())


def run_probes(
    features: ArrayLike,
    labels: ArrayLike,
    source_probabilities: ArrayLike | None = None,
    *,
    groups: ArrayLike | None = None,
) -> ProbeResults:
    """Run every probe on features z-scored per group of dimensions, which are decomposed once for all of them.

    LogME has an intercept here, as features without a constant cannot tell a class's share from noise. The ridge's
    penalty is fixed, so that models are compared by one yardstick.

    Args:
        features: `(n, D)`.
        labels: `(n,)`, classes.
        source_probabilities: `(n, Z)` of the model's own head, for LEEP and NCE; None where it has none.
        groups: `(D,)` as `standardised` takes them.

    Raises:
        DataError: shapes that do not fit, values that are not finite, or fewer than two classes.
    """
    seconds: dict[str, float] = {}
    values = dict.fromkeys(PROBES, math.nan)
    begun = time.perf_counter()
    rows = ProbeRows.of(standardised(features, groups), labels)
    rows.centred  # noqa: B018 - decomposed here, so that no probe is charged for it
    seconds["decomposition"] = time.perf_counter() - begun
    for name, probe in ON_FEATURES.items():
        begun = time.perf_counter()
        values[name] = probe(rows)
        seconds[name] = time.perf_counter() - begun
    for name, probe_source in ON_SOURCE.items():
        if source_probabilities is None:
            break
        begun = time.perf_counter()
        values[name] = probe_source(source_probabilities, labels)
        seconds[name] = time.perf_counter() - begun
    return ProbeResults(values, seconds)
