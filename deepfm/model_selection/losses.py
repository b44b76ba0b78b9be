"""What a ranker's mistakes cost: pairs in the wrong order, or the likelihood of the whole order."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from deepfm.errors import ConfigError, DataError
from deepfm.model_selection.network_settings import LOSSES, TIES


@dataclass(frozen=True)
class RankingLoss:
    """The loss of logits `(B, N)` for B lists of N models, against what the models reached: a scalar.

    A pair of which the first reached more should lead by `ranking_margin`, in units of the target, or by as much as the
    targets themselves differ where that is less; so logits equal to the targets cost nothing under `hinge`, and a
    near tie is hardly torn apart.

    The mean is over the pairs of a list, then over the lists that have a pair, so that neither N nor B changes the
    scale. `listmle` is over the loss of equal logits, ln N!, so that a ranker that knows nothing costs 1 at any N.

    Args:
        ranking_margin: the lead, at least 0, in units of the target: with targets in deviations of a task, a tenth of a
            deviation. `listmle` has none.
        kind: `hinge`: max(0, lead - difference of logits); `logistic`: ln(1 + e to that) (Burges et al., 2005);
            `listmle`: the negative log-likelihood of the true order (Xia et al., 2008), where models that tie share
            the denominators as in Efron (1977), so that their order in the list does not matter.
        weigh_by_difference: weigh each pair by how much its targets differ, over the list's mean difference; pairs
            alone.
        ties: pairs of equal targets are `excluded`, or `pulled` together: max(0, |difference of logits| - margin).

    Raises:
        ConfigError: a setting is out of range.

    Example:
        >>> loss = RankingLoss(ranking_margin=0.1)
        >>> round(float(loss(torch.tensor([[0.5, 0.0, 0.0]]), torch.tensor([[1.0, 0.5, float("nan")]]))), 4)
        0.0
    """

    ranking_margin: float = 0.1
    kind: str = "hinge"
    weigh_by_difference: bool = False
    ties: str = "excluded"

    def __post_init__(self) -> None:
        for name, value, choices in (("kind", self.kind, LOSSES), ("ties", self.ties, TIES)):
            if value not in choices:
                raise ConfigError(f"{name} = {value!r} of a ranking loss is unknown; expected {' or '.join(choices)}")
        if not 0 <= self.ranking_margin < float("inf"):
            raise ConfigError(f"ranking_margin = {self.ranking_margin}; expected a number from 0")

    def __call__(self, logits: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss; 0 where no list has a pair.

        Args:
            logits: `(B, N)`.
            targets: `(B, N)`, higher is better; NaN where nobody measured.
            mask: `(B, N)`, False for models that do not count; None for all.

        Raises:
            DataError: the shapes differ.
        """
        if logits.ndim != 2 or targets.shape != logits.shape or (mask is not None and mask.shape != logits.shape):
            shapes = [tuple(part.shape) for part in (logits, targets, mask) if part is not None]
            raise DataError(f"a ranking loss takes logits, targets and mask of one shape (B, N); got {shapes}")
        counts = ~targets.isnan() if mask is None else ~targets.isnan() & mask
        known = torch.where(counts, targets, torch.zeros_like(targets))
        given = torch.where(counts, logits, torch.zeros_like(logits))
        per_list = self._of_order if self.kind == "listmle" else self._of_pairs
        loss, has_pair = per_list(given, known, counts)
        return torch.where(has_pair, loss, torch.zeros_like(loss)).sum() / has_pair.sum().clamp(min=1)

    def _of_pairs(self, logits: Tensor, targets: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """The mean over pairs `(B,)`, and whether there is one."""
        leads = logits[:, :, None] - logits[:, None, :]  # (B, N, N)
        differences = targets[:, :, None] - targets[:, None, :]
        both = counts[:, :, None] & counts[:, None, :]
        ordered = both & (differences > 0)
        lacking = differences.clamp(max=self.ranking_margin) - leads
        cost = F.relu(lacking) if self.kind == "hinge" else F.softplus(lacking)
        weights = ordered.to(logits.dtype)
        if self.weigh_by_difference:
            number = weights.sum((1, 2), keepdim=True)
            weights = weights * differences
            weights = weights * number / weights.sum((1, 2), keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
        if self.ties == "pulled":
            tied = torch.triu(both & (differences == 0), diagonal=1)
            cost = torch.where(tied, F.relu(leads.abs() - self.ranking_margin), cost)
            weights = torch.where(tied, torch.ones_like(weights), weights)
            ordered = ordered | tied
        pairs = ordered.sum((1, 2))
        return (cost * weights).sum((1, 2)) / pairs.clamp(min=1), pairs > 0

    def _of_order(self, logits: Tensor, targets: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """The negative log-likelihood over that of equal logits `(B,)`, and whether there are two models."""
        both = counts[:, :, None] & counts[:, None, :]
        differences = targets[:, :, None] - targets[:, None, :]
        tied = both & (differences == 0)
        lowest = torch.finfo(logits.dtype).min
        left = torch.where(both & (differences >= 0), logits[:, None, :], lowest).logsumexp(2)  # not yet placed: (B, N)
        group = torch.where(tied, logits[:, None, :], lowest).logsumexp(2)
        before = torch.tril(tied, diagonal=-1).sum(2).to(logits.dtype)  # of a tied group, how many are placed already
        share = before / tied.sum(2).clamp(min=1)
        terms = left + torch.log1p(-share * (group - left).clamp(max=0).exp()) - logits
        number = counts.sum(1)
        total = torch.where(counts, terms, torch.zeros_like(terms)).sum(1)
        upto = torch.arange(1, logits.shape[1] + 2, dtype=logits.dtype, device=logits.device)
        return total / upto.log().cumsum(0)[number.clamp(min=2) - 1], number > 1
