"""From a stock's sequence to its state."""

import torch
from torch import Tensor, nn

from deepfm.engine.acceleration import Recomputable
from deepfm.equities.network.gates import GatedResidual, GatedSkip
from deepfm.equities.network.temporal_attention import TemporalAttention


class TemporalEncoder(Recomputable):
    """The temporal fusion decoder (Lim et al., 2021, section 4.5) for the last sessions of the look-back.

    An LSTM with a gated skip, static enrichment, interpretable attention, and a position-wise gated residual network.
    Only the sessions that are asked for pass the parts behind the LSTM: the attention reads the LSTM's gated states,
    of which the paper enriches all before. The compiler leaves the encoder as it is: it does not trace an LSTM, and
    a break inside a part costs it more than a break around it.

    Args:
        hidden_size: H.
        num_heads: of the attention.
        num_layers: of the LSTM.
        dropout: everywhere.
        context: whether there is a static context.
    """

    def __init__(self, hidden_size: int, num_heads: int, num_layers: int, dropout: float, context: bool = True) -> None:
        super().__init__()
        between = dropout if num_layers > 1 else 0.0
        self.lstm = nn.LSTM(hidden_size, hidden_size, num_layers, batch_first=True, dropout=between)
        self.local = GatedSkip(hidden_size, dropout)
        self.enrichment = GatedResidual(hidden_size, dropout, context)
        self.attention = TemporalAttention(hidden_size, num_heads, dropout)
        self.attended = GatedSkip(hidden_size, dropout)
        self.position_wise = GatedResidual(hidden_size, dropout)
        self.output = GatedSkip(hidden_size, dropout)

    @torch.compiler.disable
    def forward(self, inputs: Tensor, context: Tensor | None = None, steps: int = 1) -> Tensor:
        """Inputs `(R, L, H)`, a static context `(R, H)` → the states of the last sessions `(R, steps, H)`."""
        local = self._local(inputs)
        enriched = self._enriched(local, context, steps)
        attended = self.attended(self.attention(enriched, local), enriched)
        states: Tensor = self.output(self.position_wise(attended), local[:, -steps:])
        return states

    def weights(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        """How much of each session the last one takes, head by head, `(R, heads, L)`."""
        local = self._local(inputs)
        return self.attention.weights(self._enriched(local, context, 1), local).squeeze(2)

    def _local(self, inputs: Tensor) -> Tensor:
        local: Tensor = self.local(self.lstm(inputs)[0], inputs)
        return local

    def _enriched(self, local: Tensor, context: Tensor | None, steps: int) -> Tensor:
        enriched: Tensor = self.enrichment(local[:, -steps:], None if context is None else context.unsqueeze(1))
        return enriched
