"""Sharpe ratios: annualised, how sure they are, and what is left of the best of many trials."""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from deepfm.errors import ConfigError, DataError

SESSIONS_PER_YEAR = 252
EULER = 0.5772156649015329


def sharpe_ratio(returns: ArrayLike) -> float:
    """The mean of a portfolio's daily returns `(S,)` by their deviation, times √252; NaN where they do not vary."""
    values = _returns(returns)
    deviation = values.std(ddof=1) if len(values) > 1 else 0.0
    if deviation <= 1e-15:
        return float("nan")
    return float(values.mean() / deviation * math.sqrt(SESSIONS_PER_YEAR))


def sharpe_error(returns: ArrayLike) -> float:
    """The standard error of the annualised Sharpe ratio of independent returns `(S,)` (Lo, 2002, eq. 9)."""
    values = _returns(returns)
    daily = sharpe_ratio(values) / math.sqrt(SESSIONS_PER_YEAR)
    return math.sqrt((1 + daily**2 / 2) / len(values) * SESSIONS_PER_YEAR)


def deflated_sharpe(returns: ArrayLike, trials: int, trial_deviation: float | None = None) -> float:
    """The probability that a Sharpe ratio is above what the best of `trials` worthless ones would show, from 0 to 1.

    Bailey and López de Prado (2014), with the skewness and kurtosis of the returns.

    Args:
        returns: daily returns `(S,)` of the strategy that was chosen.
        trials: how many were tried; 1 gives the probability that the true ratio is above 0.
        trial_deviation: the deviation of the trials' annualised Sharpe ratios; left out, what chance gives, `√(252/S)`.

    Raises:
        ConfigError: fewer than one trial.
        DataError: fewer than three returns, or none that differ.
    """
    values = _returns(returns)
    if trials < 1:
        raise ConfigError(f"trials = {trials}; expected how many strategies were tried, 1 or more")
    if len(values) < 3 or values.std(ddof=1) <= 1e-15:
        raise DataError(f"a deflated Sharpe ratio of {len(values)} returns; expected at least 3 that differ")
    daily = sharpe_ratio(values) / math.sqrt(SESSIONS_PER_YEAR)
    annual = math.sqrt(SESSIONS_PER_YEAR / len(values)) if trial_deviation is None else trial_deviation
    best = best_of_worthless(trials, annual / math.sqrt(SESSIONS_PER_YEAR))
    scaled = (values - values.mean()) / values.std()
    return probabilistic_sharpe(daily, best, len(values), float((scaled**3).mean()), float((scaled**4).mean()))


def best_of_worthless(trials: int, deviation: float) -> float:
    """The ratio that the best of `trials` is expected to show where all are worth 0, in the unit of their `deviation`.

    Bailey and López de Prado (2014); 0 for one trial.
    """
    if trials <= 1:
        return 0.0
    quantile = NormalDist().inv_cdf
    return deviation * ((1 - EULER) * quantile(1 - 1 / trials) + EULER * quantile(1 - 1 / (trials * math.e)))


def probabilistic_sharpe(ratio: float, above: float, count: int, skewness: float, kurtosis: float) -> float:
    """The probability that the true Sharpe ratio behind a measured one is greater than `above`, from 0 to 1.

    Bailey and López de Prado (2014). Both ratios are of single returns, not annualised.

    Args:
        ratio: of `count` returns.
        above: what it is held against.
        count: of returns, 2 or more.
        skewness: of the returns.
        kurtosis: of the returns, 3 where they are normal.
    """
    variance = 1 - skewness * ratio + (kurtosis - 1) / 4 * ratio**2
    return NormalDist().cdf((ratio - above) * math.sqrt(count - 1) / math.sqrt(max(variance, 1e-12)))


def _returns(returns: ArrayLike) -> np.ndarray:
    values = np.asarray(returns, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise DataError(f"a Sharpe ratio needs finite daily returns (S,), at least one; got shape {values.shape}")
    return values
