"""The auto-encoder of weights: per-layer tokens to one code a network, and back."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from deepfm.errors import ConfigError, DataError
from deepfm.model_selection.attention_blocks import Attention, FeedForward, refuse_heads

PLACE_SIZE = 8  # of the code of a layer's place
LONGEST_WAVE = 100.0  # layers
STRAIGHT_PLACES = 8  # layers that the linear path keeps apart
CURVED_SHARE = 0.1  # of their usual size, that the weights beside the linear path begin with


class ModelAutoEncoder(nn.Module):
    """Layers of a network, `(B, L, W)` with a mask, to a code `(B, E)`, and from it the layers again.

    Layers see each other by attention; learned queries then read them out into the code. The decoder makes each layer
    of the code and of its place alone, so codes have to hold everything; any L goes. On both sides a linear path lies
    beside, which weighs layers by the code of their place: by it alone the network could do what principal components
    do, and they are hard to beat with few networks to learn from; `begin_with_components` lets it begin there.

    Args:
        token_width: W.
        code_size: E.
        hidden_size: H.
        num_heads: of each attention; divides `hidden_size`.
        num_layers: blocks of the encoder.
        num_queries: that read the layers out.
        dropout: of attention weights and inner layers.

    Raises:
        ConfigError: `num_heads` does not divide `hidden_size`.

    Example:
        >>> model = ModelAutoEncoder(token_width=20, code_size=32)
        >>> tokens, mask = torch.randn(2, 5, 20), torch.ones(2, 5, dtype=torch.bool)
        >>> model.encode(tokens, mask).shape, model(tokens, mask).shape
        (torch.Size([2, 32]), torch.Size([2, 5, 20]))
    """

    def __init__(
        self,
        token_width: int,
        code_size: int = 512,
        hidden_size: int = 64,
        num_heads: int = 4,
        num_layers: int = 1,
        num_queries: int = 8,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if wrong := refuse_heads(hidden_size, num_heads, "the auto-encoder"):
            raise ConfigError(wrong)
        self.token_width, self.code_size = token_width, code_size
        self.tokens = nn.Linear(token_width + PLACE_SIZE, hidden_size)
        self.blocks = nn.ModuleList([_Layer(hidden_size, num_heads, dropout) for _ in range(num_layers)])
        self.norm = nn.LayerNorm(hidden_size)
        self.queries = nn.Parameter(torch.randn(1, num_queries, hidden_size) / math.sqrt(hidden_size))
        self.read = Attention(hidden_size, num_heads, dropout)
        self.code = nn.Linear(num_queries * hidden_size, code_size, bias=False)
        self.straight_in = nn.Linear(STRAIGHT_PLACES * token_width, code_size)
        self.straight_out = nn.Linear(code_size, STRAIGHT_PLACES * token_width)
        inner = 4 * hidden_size
        self.unfold, self.place = nn.Linear(code_size, inner), nn.Linear(PLACE_SIZE, inner, bias=False)
        self.decoder = nn.Sequential(nn.GELU(), nn.Linear(inner, inner), nn.GELU())
        self.rebuilt = nn.Linear(inner, token_width)

    def encode(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Codes `(B, E)` of layers `(B, L, W)`.

        Args:
            mask: `(B, L)`, True where there is a layer, at least one a row.

        Raises:
            DataError: a shape does not fit.
        """
        if tokens.ndim != 3 or tokens.shape[2] != self.token_width or mask.shape != tokens.shape[:2]:
            raise DataError(
                f"layers {tuple(tokens.shape)} with mask {tuple(mask.shape)} do not fit the auto-encoder; expected "
                f"(B, L, {self.token_width}) and (B, L)"
            )
        tokens = tokens.masked_fill(~mask[:, :, None], 0.0)
        places = place_codes(tokens.shape[1], tokens)
        placed = torch.cat([tokens, places.expand(len(tokens), -1, -1)], dim=2)
        state, hidden = self.tokens(placed), ~mask
        for block in self.blocks:
            state = block(state, hidden)
        read = self.read(self.queries.expand(len(tokens), -1, -1), self.norm(state), hidden)  # (B, Q, H)
        codes: Tensor = self.code(read.flatten(1)) + self.straight_in(self._laid_out(tokens))
        return codes

    def decode(self, codes: Tensor, layers: int) -> Tensor:
        """The first `layers` layers `(B, L, W)` of codes `(B, E)`."""
        places = place_codes(layers, codes)  # (1, L, P)
        curved = self.rebuilt(self.decoder(self.unfold(codes)[:, None] + self.place(places)))
        straight = self.straight_out(codes).unflatten(1, (STRAIGHT_PLACES, self.token_width))
        tokens: Tensor = curved + straight_places(layers, codes) @ straight
        return tokens

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Layers `(B, L, W)` through the code and back; what the mask hides is made up, and counts nowhere."""
        return self.decode(self.encode(tokens, mask), tokens.shape[1])

    @torch.no_grad()
    def begin_with_components(self, tokens: Tensor, mask: Tensor) -> None:
        """Let the linear path be the principal components of training networks, and the other path begin small.

        Args:
            tokens: `(M, L, W)`, standardised; those of the first `STRAIGHT_PLACES` layers are rebuilt as by principal
                components, deeper ones share their directions.
            mask: `(M, L)`, True where there is a layer.
        """
        laid_out = self._laid_out(tokens.masked_fill(~mask[:, :, None], 0.0)).cpu().numpy().astype(np.float64)
        mean = laid_out.mean(axis=0)
        axes = np.linalg.svd(laid_out - mean, full_matrices=False)[2][: self.code_size]
        known = slice(len(axes))
        into, out = self.straight_in, self.straight_out
        into.weight[known].copy_(torch.from_numpy(axes).float())
        into.bias.zero_()[known].copy_(torch.from_numpy(-axes @ mean).float())
        out.weight[:, known].copy_(torch.from_numpy(axes.T).float())
        out.bias.copy_(torch.from_numpy(mean).float())
        for part in (into.weight[len(axes) :], out.weight[:, len(axes) :], self.code.weight, self.rebuilt.weight):
            part.mul_(CURVED_SHARE)
        self.rebuilt.bias.zero_()

    def _laid_out(self, tokens: Tensor) -> Tensor:
        """Layers `(B, L, W)` as one vector `(B, STRAIGHT_PLACES * W)`, in the frequencies of their places."""
        return (straight_places(tokens.shape[1], tokens).T @ tokens).flatten(1)


class _Layer(nn.Module):
    def __init__(self, hidden_size: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.look = Attention(hidden_size, num_heads, dropout)
        self.think = FeedForward(hidden_size, 2 * hidden_size, dropout)

    def forward(self, state: Tensor, hidden: Tensor) -> Tensor:
        after: Tensor = self.think(self.look(state, hidden=hidden))
        return after


def place_codes(layers: int, like: Tensor) -> Tensor:
    """Sines and cosines of places from 0 (Vaswani et al., 2017, section 3.5), `(1, L, PLACE_SIZE)`; any L goes."""
    places = torch.arange(layers, dtype=like.dtype, device=like.device)
    waves = LONGEST_WAVE ** (-torch.arange(PLACE_SIZE // 2, dtype=like.dtype, device=like.device) * 2 / PLACE_SIZE)
    angles = places[:, None] * waves
    return torch.cat([angles.sin(), angles.cos()], dim=1)[None]


def straight_places(layers: int, like: Tensor) -> Tensor:
    """The discrete cosine transform of the first `STRAIGHT_PLACES` places, `(L, STRAIGHT_PLACES)`, orthonormal.

    Deeper layers repeat it, so that any L goes.
    """
    places = torch.arange(layers, dtype=like.dtype, device=like.device)[:, None] + 0.5
    waves = torch.arange(STRAIGHT_PLACES, dtype=like.dtype, device=like.device)
    basis = (math.pi / STRAIGHT_PLACES * places * waves).cos() * math.sqrt(2 / STRAIGHT_PLACES)
    return torch.cat([basis[:, :1] / math.sqrt(2), basis[:, 1:]], dim=1)


def reconstruction_loss(rebuilt: Tensor, target: tuple[Tensor, Tensor]) -> Tensor:
    """The mean of `reconstruction_errors` over networks.

    Args:
        rebuilt: `(B, L, W)`.
        target: the layers `(B, L, W)` and their mask `(B, L)`.
    """
    return reconstruction_errors(rebuilt, *target).mean()


def reconstruction_errors(rebuilt: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """Each network's mean squared error over its layers and their features, `(B,)`.

    Features are in deviations of the training layers, fixed beforehand, so a network's error does not depend on which
    others stand in its batch; an answer of all means costs about 1.

    Args:
        rebuilt: `(B, L, W)`.
        tokens: `(B, L, W)`.
        mask: `(B, L)`, True where there is a layer.
    """
    squares = (rebuilt - tokens).square().mean(dim=2).masked_fill(~mask, 0.0)
    return squares.sum(dim=1) / mask.sum(dim=1).clamp(min=1)
