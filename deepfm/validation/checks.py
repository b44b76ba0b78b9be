"""What each figure has to be, and in one or two sentences what it means where it is not."""

import math
import traceback
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from deepfm.errors import DeepFMError
from deepfm.statistics import paired_bootstrap
from deepfm.training.evaluation import Evaluation
from deepfm.validation.report import LN2, DataFacts, Finding, Start

PACKAGE = Path(__file__).resolve().parent.parent
LEAST_SHARE = 0.75  # of the entropy of the label rate; no honest guess at step 0 is better
WIDE = 0.25  # above ln 2: logits of spread 1 around 0, as some first weights give, are worth 0.12
LEANING = 0.75  # above ln 2: what the mean logit alone is worth; about 1.5 where a fifth of the rows are clicks
WILD_SPREAD = 10.0  # logits of ±10 are odds of twenty thousand to one
LEARNED = 0.05  # a loss on one batch that counts as near zero
SAME_LOGIT = 1e-4  # a spread of logits, relative to their size, that is none
TOO_GOOD = 0.999  # an AUC at which a column probably gives the label away
STANDARD_ERRORS = 2.0  # by which an AUC has to lie above that of guessing
NDCG, CUTOFF = "ndcg@10", 10


def check_logits(model: str, logits: object, rows: int) -> Finding | None:
    """One finite logit a row."""
    if not isinstance(logits, Tensor) or logits.shape != (rows, 1):
        got = f"of shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        figure = f"the output for {rows} rows is {got}"
        return Finding(model, "forward", figure, "Give one logit a row: a tensor (B, 1) or (B,).")
    if not bool(logits.isfinite().all()):
        return Finding(
            model,
            "forward",
            "the untrained model gives logits that are NaN or infinite",
            "Look for a division by zero, a logarithm of zero, the softmax of an empty history, or NaN in the data.",
        )
    return None


def check_gradients(model: str, cut_off: Sequence[str] | None) -> Finding | None:
    """A gradient reaches every part with weights."""
    if cut_off is None:
        return Finding(
            model,
            "gradients",
            "the loss depends on no weight",
            "Nothing can be learned: look in forward for detach(), .data, .item(), no_grad, NumPy, or a result that is "
            "computed and not used.",
        )
    if cut_off:
        return Finding(
            model,
            "gradients",
            f"no gradient reaches {', '.join(cut_off)}",
            "Such a part keeps its first weights for ever: look for detach() or no_grad behind it, or for an output "
            "that is not used, and take the part out if the model does not need it.",
        )
    return None


def check_one_batch(model: str, loss: float, logits: Tensor) -> Finding | None:
    """A small batch is learned by heart; `logits` `(B, 1)` are those at the end."""
    if loss <= LEARNED:
        return None
    values = logits.detach().cpu().double().flatten()
    if float(values.std()) <= SAME_LOGIT * max(1.0, float(values.abs().mean())):
        seen = "and every row has the same logit"
        meaning = "The features do not reach the output: look at what forward reads, and for weights that are all zero."
    elif float(values.min()) >= 0.0 and float(values.max()) <= 1.0:
        seen = "and every output lies between 0 and 1"
        meaning = "That looks like a sigmoid: return logits, as the loss applies its own sigmoid."
    else:
        seen = "though no two of them look alike"
        meaning = (
            "Look for a part that is detached or saturated, for features that the model does not read, and for a model "
            "too small to tell these rows apart."
        )
    figure = f"the loss on {len(values)} rows stays at {loss:.3f} (guessing gives {LN2:.3f}), {seen}"
    return Finding(model, "one batch", figure, meaning)


def check_start(model: str, start: Start, data: DataFacts) -> Finding | None:
    """Step 0 lies between the entropy of the label rate and ln 2, or a little above.

    More than that fails where the logits lean far to one side or lie far apart; else training takes it back, and a
    note says so.
    """
    if LEAST_SHARE * data.entropy <= start.loss <= LN2 + WIDE:
        return None
    expected = f"{data.entropy:.3f} to {LN2:.3f}" if LN2 - data.entropy >= 0.001 else f"{LN2:.3f}"
    figure = (
        f"the loss before any step is {start.loss:.3f}, expected about {expected}; logits {start.mean:.2f} ± "
        f"{start.spread:.2f}"
    )
    of_mean = data.label_rate * _softplus(-start.mean) + (1 - data.label_rate) * _softplus(start.mean)
    failed = True
    if start.loss < LN2:
        meaning = (
            "Guessing by the label rate cannot be as good, so the model knows labels before it has learned: look for "
            "the label among the features, or for weights that are already trained."
        )
    elif start.spread > WILD_SPREAD:
        meaning = (
            "Logits that far apart are certainty without knowledge: look for numbers in the data that are not scaled "
            "(dense fields should lie about between -1 and 1), or for far too large first weights."
        )
    elif of_mean > LN2 + LEANING:
        meaning = (
            "The untrained model leans to one side for every row: look for an output bias, for labels turned round, or "
            "for inputs that are all large and of one sign."
        )
    else:
        failed = False
        meaning = (
            "The first logits lie wide of 0, as large first weights make them, often those of dense fields and of "
            "fields with few values. Training takes that back and only begins more slowly; dense fields scaled to "
            "about -1 to 1 help."
        )
    return Finding(model, "step 0", figure, meaning, failed)


def check_quality(model: str, ours: Evaluation, bar: Evaluation) -> Finding | None:
    """After brief training the validation is better than guessing, and than popularity."""
    auc, bar_auc, chance = _auc(ours), _auc(bar), 0.5 + STANDARD_ERRORS * guessing_error(ours)
    if auc >= TOO_GOOD:
        return Finding(
            model,
            "leak",
            f"a validation AUC of {auc:.4f} is too good to be true",
            "Look for a column that holds the label or is known only after the click, and for validation rows that are "
            "also training rows.",
        )
    if max(auc, bar_auc) < chance:
        return Finding(
            model,
            "quality",
            f"a validation AUC of {auc:.3f} is guessing (up to {chance:.3f} is chance)",
            "Neither the model nor popularity finds anything, so the labels do not follow the features: look for "
            "labels shuffled against the rows, ids encoded anew for validation, labels turned round, or too few rows.",
        )
    if auc <= bar_auc:
        figure = f"a validation AUC of {auc:.3f} is not above popularity's {bar_auc:.3f}"
    elif auc < chance:
        figure = f"a validation AUC of {auc:.3f} is guessing (up to {chance:.3f} is chance)"
    elif _clearly_behind(ours, bar):
        figure = f"NDCG@10 of {ours.metrics[NDCG]:.4f} is clearly below popularity's {bar.metrics[NDCG]:.4f}"
    else:
        return None
    return Finding(
        model,
        "quality",
        figure,
        "The model has not even learned which items are liked: give it more --epochs first. If that does not help, "
        "look for item ids that are shuffled or other ones in validation, at training.lr, and at how negatives are "
        "drawn.",
    )


def failure(model: str, check: str, what: str, error: Exception) -> Finding:
    """A finding for an error, in the error's own words, with the line of a person's own code where it has one."""
    reason = " ".join(str(error).split())[:300].rstrip(".") or "no reason given"
    if isinstance(error, DeepFMError):
        return Finding(model, check, what, f"{reason[0].upper()}{reason[1:]}.")
    return Finding(model, check, what, f"{type(error).__name__}: {reason}{_own_line(error)}.")


def _own_line(error: Exception) -> str:
    """The last line outside installed packages and this one that an error passed through."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.exists() and PACKAGE not in path.parents and "site-packages" not in path.parts:
            return f" ({path.name}, line {frame.lineno}, in {frame.name})"
    return ""


def guessing_error(evaluation: Evaluation) -> float:
    """The standard error of a guesser's AUC on as many clicks and other rows (Mann and Whitney, 1947)."""
    clicks = float((evaluation.labels > 0).sum())
    others = len(evaluation.labels) - clicks
    return math.sqrt((clicks + others + 1) / (12 * clicks * others))


def _clearly_behind(ours: Evaluation, bar: Evaluation) -> bool:
    """Whether NDCG@10 is below popularity's by more than the choice of users explains."""
    if not len(ours.ranks):
        return False
    return paired_bootstrap(_ndcg_by_group(ours), _ndcg_by_group(bar), resamples=1000).high < 0


def _ndcg_by_group(evaluation: Evaluation) -> NDArray[np.float64]:
    """NDCG@10 `(U,)` of each group, which has at least one positive."""
    gains = np.where(evaluation.ranks <= CUTOFF, 1.0 / np.log2(evaluation.ranks + 1.0), 0.0)
    sums: NDArray[np.float64] = np.bincount(evaluation.groups, weights=gains) / np.bincount(evaluation.groups)
    return sums


def _softplus(value: float) -> float:
    return max(value, 0.0) + math.log1p(math.exp(-abs(value)))


def _auc(evaluation: Evaluation) -> float:
    auc = evaluation.metrics["auc"]
    assert auc is not None  # the validation has both classes
    return auc
