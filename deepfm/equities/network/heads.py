"""From a stock's state to its score and the distribution of its target."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepfm.equities.network.gates import GatedResidual

MEDIAN_SCALE = 0.1  # of a score of 1 at the start, in units of the target
LEAST_SCALE = 1e-3
LEAST_FREEDOM = 2.01


class HorizonHead(nn.Module):
    """One horizon's score, quantiles and Student-t.

    The score is its own number, about 1 in size, and the median is `a + e^b · score` with two learned numbers: so
    scores and medians rank alike, losses of the order (which know no scale) and losses in units of the target (which
    set a and b) all train the score, and neither spoils the other's scale. The other quantiles lie above and below
    the median by sums of softplus, and so cannot cross; Student-t has the median for its location. At the start the
    quantiles are about those of a target that is uniform on (-1/2, 1/2), as ranks within a day are.

    Args:
        hidden_size: H.
        quantiles: rising shares with .5 in the middle, Q of them.
        student_t: whether there is a scale and degrees of freedom.
        dropout: of the state.
    """

    def __init__(self, hidden_size: int, quantiles: tuple[float, ...], student_t: bool, dropout: float) -> None:
        super().__init__()
        self.side = len(quantiles) // 2
        self.residual = GatedResidual(hidden_size, dropout)
        self.score = nn.Linear(hidden_size, 1, bias=False)
        self.spread = nn.Linear(hidden_size, 2 * self.side)
        self.tail = nn.Linear(hidden_size, 2) if student_t else None
        self.offset = nn.Parameter(torch.zeros(()))
        self.log_scale = nn.Parameter(torch.tensor(math.log(MEDIAN_SCALE)))
        middle = list(quantiles[: self.side + 1])[::-1]  # from .5 down, then from .5 up
        gaps = [high - low for high, low in pairwise(middle)]
        upper = quantiles[self.side :]
        gaps += [high - low for low, high in pairwise(upper)]
        with torch.no_grad():
            self.spread.weight.mul_(0.1)
            self.spread.bias.copy_(_inverse_softplus(torch.tensor(gaps)))
            if self.tail is not None:
                self.tail.weight.mul_(0.1)
                self.tail.bias.copy_(_inverse_softplus(torch.tensor([0.3, 3.0])))

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """`(R, H)` → score `(R,)`, quantiles `(R, Q)`, Student-t `(R, 3)` or None; in float32."""
        with torch.autocast(state.device.type, enabled=False):
            hidden = self.residual(state.float())
            score = self.score(hidden).squeeze(-1)
            median = self.offset + self.log_scale.exp() * score
            gaps = F.softplus(self.spread(hidden)).unflatten(-1, (2, self.side)).cumsum(-1)  # (R, 2, side)
            below, above = gaps.unbind(1)
            centre = median.unsqueeze(-1)
            quantiles = torch.cat([centre - below.flip(-1), centre, centre + above], dim=-1)
            if self.tail is None:
                return score, quantiles, None
            scale, freedom = F.softplus(self.tail(hidden)).unbind(-1)
            return score, quantiles, torch.stack([median, scale + LEAST_SCALE, freedom + LEAST_FREEDOM], dim=-1)


def _inverse_softplus(values: Tensor) -> Tensor:
    return values.expm1().log()
