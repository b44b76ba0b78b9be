"""The value stream: which features count."""

import math

import torch
from torch import Tensor, nn

from deepfm.engine.acceleration import Recomputable
from deepfm.equities.network.gates import GatedResidual

LEAST_WEIGHT = 1e-6  # whose logarithm is taken


class VariableSelection(Recomputable):
    """A variable selection network (Lim et al., 2021, section 4.2), factorised.

    `w = softmax(GRN(x))` over the features, and the sum over features of `w_f (x_f E_f) F + w_f B_f`: the paper's
    network for each feature, F networks of H² weights, is a line E_f and a base B_f here, so that a feature costs 4 H.
    At equal weights it is a linear layer of the features.

    Args:
        num_features: F.
        hidden_size: H.
        dropout: inside the network of weights.
    """

    def __init__(self, num_features: int, hidden_size: int, dropout: float) -> None:
        super().__init__()
        self.mixed = nn.Linear(num_features, hidden_size)
        self.residual = GatedResidual(hidden_size, dropout)
        self.logits = nn.Linear(hidden_size, num_features)
        bound = 1.0 / math.sqrt(num_features)
        self.slopes = nn.Parameter(torch.empty(num_features, hidden_size).uniform_(-bound, bound))
        self.bases = nn.Parameter(torch.empty(num_features, hidden_size).uniform_(-bound, bound))

    def forward(self, sequences: Tensor) -> tuple[Tensor, Tensor]:
        """`(R, L, F)` → `(R, L, H)`, and how widely the weights are spread: their mean entropy, 0 to log F."""
        weights = self.weights(sequences).to(sequences.dtype)
        selected = (weights * sequences * sequences.shape[-1]) @ self.slopes + weights @ self.bases
        if not self.training:
            return selected, weights.new_zeros(())
        return selected, -(weights * weights.clamp(min=LEAST_WEIGHT).log()).sum(-1).mean()

    def weights(self, sequences: Tensor) -> Tensor:
        """How much of each feature is taken at each session, `(R, L, F)`; a session's sum to 1."""
        logits: Tensor = self.logits(self.residual(self.mixed(sequences)))
        return logits.softmax(-1)
