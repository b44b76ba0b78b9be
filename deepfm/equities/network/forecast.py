"""What the network says of a day's stocks, and what can be read inside it."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Forecast:
    """R stocks over K horizons.

    Args:
        scores: higher is better, `(R, K)`.
        quantiles: of the target, rising, the median in the middle column, `(R, K, Q)`.
        student_t: location, scale and degrees of freedom (above 2), `(R, K, 3)`; None without that head.
        auxiliary: the adaptive normalisation's own loss, a scalar.
        selection: the mean entropy of the weights over features, a scalar, in training; 0 otherwise.
    """

    scores: Tensor
    quantiles: Tensor
    student_t: Tensor | None
    auxiliary: Tensor
    selection: Tensor | None = None

    @property
    def median(self) -> Tensor:
        """The middle quantile, `(R, K)`."""
        return self.quantiles[..., self.quantiles.shape[-1] // 2]


@dataclass(frozen=True, eq=False)
class Explanation:
    """The weights inside the network for one batch; None where a module is off.

    Args:
        variables: each session's shares of the features, `(R, L, F)`.
        groups: how much of each group of features (last axis) each group takes, `(R, heads, G, G)`.
        sessions: how much of each session of the look-back the last one takes, `(R, heads, L)`.
        edges: both graph layers' shares of the edges into a stock, each `(E, heads)`.
        stocks: how much of each stock (last axis) each takes, `(D, heads, N, N)`, in the order of each day's rows.
    """

    variables: Tensor | None
    groups: Tensor | None
    sessions: Tensor
    edges: tuple[Tensor, Tensor] | None
    stocks: Tensor | None
