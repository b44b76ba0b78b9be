"""The feature attention network: how groups of features of one stock look at each other."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepfm.engine.acceleration import Recomputable
from deepfm.equities.network.gates import GatedSkip, SequenceDropout
from deepfm.equities.network.set_attention import SetAttention
from deepfm.errors import ConfigError

FILTERS = 2  # views of the look-back: the last session and the mean, at the start


class FeatureAttention(Recomputable):
    """Attention between a stock's groups of features, such as value, momentum, volume, risk and sector.

    A group's token is a linear map of its features as some learned filters over the look-back see them, and of the
    outlook of the adaptive normalisation. The tokens attend to each other, pass a feed-forward layer, and join the
    stock's state through a gate. No other stock is looked at.

    Args:
        feature_groups: each feature's group, F whole numbers; a group without features has no token.
        sequence_length: L.
        num_outlooks: C.
        hidden_size: H.
        attention: heads, and dropout.

    Raises:
        ConfigError: there are no features.

    Attributes:
        groups: the G groups that have features, in the tokens' order.
    """

    def __init__(
        self,
        feature_groups: tuple[int, ...],
        sequence_length: int,
        num_outlooks: int,
        hidden_size: int,
        attention: tuple[int, float],
    ) -> None:
        super().__init__()
        if not feature_groups:
            raise ConfigError("feature attention has no features; expected at least one")
        num_heads, dropout = attention
        self.groups = tuple(sorted(set(feature_groups)))
        filters = torch.zeros(FILTERS, sequence_length)
        filters[0, -1] = 1.0
        filters[1] = 1.0 / sequence_length
        self.filters = nn.Parameter(filters)
        member = torch.tensor([[group == its for its in feature_groups] for group in self.groups])
        self.member: Tensor
        self.register_buffer("member", member.float(), persistent=False)  # (G, F)
        views = FILTERS + num_outlooks
        bound = 1.0 / math.sqrt(views * max(1.0, len(feature_groups) / len(self.groups)))
        self.embedding = nn.Parameter(torch.empty(views, len(feature_groups), hidden_size).uniform_(-bound, bound))
        self.names = nn.Parameter(torch.empty(len(self.groups), hidden_size).uniform_(-bound, bound))
        self.attention_norm = nn.LayerNorm(hidden_size)
        self.attention = SetAttention(hidden_size, num_heads)
        self.forward_layers = nn.Sequential(
            nn.LayerNorm(hidden_size),
            nn.Linear(hidden_size, 2 * hidden_size),
            nn.GELU(),
            SequenceDropout(dropout),
            nn.Linear(2 * hidden_size, hidden_size),
        )
        self.join = GatedSkip(hidden_size, dropout, len(self.groups) * hidden_size)

    def forward(self, state: Tensor, sequences: Tensor, outlook: Tensor) -> Tensor:
        """State `(R, H)`, sequences `(R, L, F)`, outlook `(R, C, F)` → the state `(R, H)` with the groups' word."""
        tokens = self.tokens(sequences, outlook)
        tokens = tokens + self.attention(self.attention_norm(tokens))
        tokens = tokens + self.forward_layers(tokens)
        joined: Tensor = self.join(tokens.flatten(1), state)
        return joined

    def tokens(self, sequences: Tensor, outlook: Tensor) -> Tensor:
        """The groups before they look at each other, `(R, G, H)`."""
        views = torch.cat([self.filters @ sequences, outlook], dim=1)  # (R, V, F)
        grouped = self.member[:, None, :] * views.unsqueeze(1)  # (R, G, V, F): other groups' features are 0
        return F.linear(grouped.flatten(2), self.embedding.flatten(0, 1).T) + self.names

    def weights(self, sequences: Tensor, outlook: Tensor) -> Tensor:
        """How much of each group (last axis) each group takes, `(R, heads, G, G)`."""
        return self.attention.weights(self.attention_norm(self.tokens(sequences, outlook)))
