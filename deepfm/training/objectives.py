"""What training minimises: cross-entropy on rows, or a ranking loss over each like and its negatives."""

import torch
import torch.nn.functional as F
from torch import Tensor

RANKING_LOSSES = ("bpr", "softmax", "full_softmax")  # their logits are no log odds


def bce(logits: Tensor, labels: Tensor, hidden: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
    """The mean binary cross-entropy of rows, those that are hidden left out.

    Args:
        logits, labels: of any one shape.
        hidden: of the same shape, true where a row is none.
        weights: of the same shape, what each row's loss is multiplied with; the mean is over rows, not weights.
    """
    if weights is not None:
        losses = F.binary_cross_entropy_with_logits(logits, labels, weights, reduction="none")
        return losses.mean() if hidden is None else losses.masked_fill(hidden, 0.0).sum() / (~hidden).sum()
    if hidden is None:
        return F.binary_cross_entropy_with_logits(logits, labels)
    losses = F.binary_cross_entropy_with_logits(logits, labels, reduction="none").masked_fill(hidden, 0.0)
    return losses.sum() / (~hidden).sum()


def bpr(logits: Tensor, hidden: Tensor) -> Tensor:
    """The mean of -log σ(positive - negative) over pairs (Rendle et al., 2009, BPR-Opt).

    Args:
        logits: `(P, W)`, the positive in column 0.
        hidden: `(P, W)` negatives that are none.
    """
    losses = F.softplus(logits[:, 1:] - logits[:, :1]).masked_fill(hidden[:, 1:], 0.0)
    return losses.sum() / (~hidden[:, 1:]).sum().clamp(min=1)


def softmax(logits: Tensor, hidden: Tensor, log_q: Tensor | None = None) -> Tensor:
    """The mean cross-entropy of the positive among itself and its negatives.

    Args:
        logits: `(P, W)`, the positive in column 0.
        hidden: `(P, W)` negatives that are none.
        log_q: `(P, W)` the logarithm of the chance with which an item is drawn; taken from its logit, so that the
            sampled softmax estimates the full one (Bengio & Senécal, 2008; Yi et al., 2019).
    """
    corrected = logits if log_q is None else logits - log_q
    return -corrected.masked_fill(hidden, -torch.inf).log_softmax(dim=1)[:, 0].mean()


def full_softmax(logits: Tensor, items: Tensor, hidden: Tensor) -> Tensor:
    """The mean cross-entropy of each like's item among the whole catalogue.

    Args:
        logits: `(P, C)`.
        items: `(P,)` the liked items' columns.
        hidden: `(P, C)` items that are no negatives of a like.
    """
    return F.cross_entropy(logits.masked_fill(hidden, -torch.inf), items)
