"""Attention along the edges of a graph of stocks."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepfm.engine.acceleration import Recomputable

SLOPE = 0.2  # of the leaky ReLU, as published


class GraphLayer(nn.Module):
    """One layer of GATv2 (Brody et al., 2022, equations 7 and 3) with features of edges.

    `e_st = aᵀ LeakyReLU(W_s h_s + W_t h_t + W_e edge_st)`, a softmax over the edges into each target, and the sum of
    their `W_s h_s`. There are no loops to oneself; a stock without neighbours gets 0.

    Args:
        input_size: of a state.
        head_size: of each head's result.
        num_heads: heads.
        edge_size: features of an edge.
        dropout: of the weights.
    """

    def __init__(self, input_size: int, head_size: int, num_heads: int, edge_size: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.source = nn.Linear(input_size, num_heads * head_size)
        self.target = nn.Linear(input_size, num_heads * head_size, bias=False)
        self.edge = nn.Linear(edge_size, num_heads * head_size, bias=False)
        bound = math.sqrt(6.0 / (1 + head_size))
        self.direction = nn.Parameter(torch.empty(num_heads, head_size).uniform_(-bound, bound))
        self.dropout = nn.Dropout(dropout)

    def forward(self, state: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        """States `(R, I)`, edges `(2, E)` with features `(E, 3)` → `(R, heads, head_size)`."""
        weights, messages = self._attend(state, edge_index, edge_attr)
        weighed = (self.dropout(weights).unsqueeze(-1) * messages).flatten(1)  # (E, heads · head_size)
        return add_by_target(weighed, edge_index[1], len(state)).unflatten(-1, (self.num_heads, -1))

    def weights(self, state: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        """The share of each edge in what its target takes, head by head, `(E, heads)`; a target's sum to 1."""
        return self._attend(state, edge_index, edge_attr)[0]

    def _attend(self, state: Tensor, edge_index: Tensor, edge_attr: Tensor) -> tuple[Tensor, Tensor]:
        """Weights `(E, heads)` and messages `(E, heads, head_size)`, in float32."""
        messages = rows_at(self.source(state), edge_index[0])
        mixed = messages + rows_at(self.target(state), edge_index[1]) + self.edge(edge_attr)
        mixed = F.leaky_relu(mixed, SLOPE).unflatten(-1, (self.num_heads, -1)).float()
        logits = (mixed * self.direction).sum(-1)
        shares = softmax_by_target(logits, edge_index[1], len(state))
        return shares, messages.unflatten(-1, (self.num_heads, -1)).float()


class GraphAttention(Recomputable):
    """Two layers over the graph, joined to a stock's own state by a gate.

    The first layer's heads stand side by side, the second's are averaged. `h + σ(W [h ; z] + b) ∘ z`, and exactly `h`
    for a stock without an edge into it.

    Args:
        hidden_size: H, a multiple of the first layer's heads.
        heads: of both layers.
        edge_size: features of an edge.
        dropout: of weights and states.
    """

    def __init__(self, hidden_size: int, heads: tuple[int, int], edge_size: int, dropout: float) -> None:
        super().__init__()
        first, second = heads
        self.norm = nn.LayerNorm(hidden_size)
        self.first = GraphLayer(hidden_size, hidden_size // first, first, edge_size, dropout)
        self.second = GraphLayer(hidden_size, hidden_size, second, edge_size, dropout)
        self.gate = nn.Linear(2 * hidden_size, hidden_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, state: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        """`(R, H)` with edges `(2, E)` and their features `(E, 3)` → `(R, H)`."""
        neighbours = self.second(self._inner(state, edge_index, edge_attr), edge_index, edge_attr).mean(1)
        fused = state + torch.sigmoid(self.gate(torch.cat([state, neighbours.to(state.dtype)], dim=-1))) * neighbours
        asked = torch.zeros(len(state), dtype=torch.bool, device=state.device)
        asked = asked.index_fill(0, edge_index[1], True)
        return torch.where(asked.unsqueeze(-1), fused, state)

    def weights(self, state: Tensor, edge_index: Tensor, edge_attr: Tensor) -> tuple[Tensor, Tensor]:
        """Both layers' shares of the edges, each `(E, heads)`."""
        inner = self._inner(state, edge_index, edge_attr)
        first = self.first.weights(self.norm(state), edge_index, edge_attr)
        return first, self.second.weights(inner, edge_index, edge_attr)

    def _inner(self, state: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        own = self.norm(state)
        around = self.first(own, edge_index, edge_attr).flatten(1)
        inner: Tensor = self.dropout(own + F.elu(around))
        return inner


def softmax_by_target(logits: Tensor, target: Tensor, num_rows: int) -> Tensor:
    """The softmax of edges' logits `(E, heads)` among the edges of each target `(E,)`."""
    index = target.unsqueeze(-1).expand_as(logits)
    highest = logits.new_full((num_rows, logits.shape[1]), float("-inf"))
    highest = highest.scatter_reduce(0, index, logits.detach(), "amax")
    powers = (logits - highest.gather(0, index)).exp()
    return powers / add_by_target(powers, target, num_rows).gather(0, index)


def add_by_target(values: Tensor, target: Tensor, num_rows: int) -> Tensor:
    """The sum of edges' values `(E, X)` into each row, `(R, X)`."""
    return values.new_zeros(num_rows, values.shape[1]).scatter_add(0, target.unsqueeze(-1).expand_as(values), values)


def rows_at(rows: Tensor, index: Tensor) -> Tensor:
    """`rows[index]` of `(R, X)`, by a gather, whose derivative is fast on the CPU."""
    return rows.gather(0, index.unsqueeze(-1).expand(-1, rows.shape[1]))
