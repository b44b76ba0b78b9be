"""The network that ranks models for a data set: models look at the data set's tokens and get a logit each."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deepfm.errors import ConfigError, DataError
from deepfm.model_selection.attention_blocks import Attention, FeedForward, refuse_heads
from deepfm.model_selection.weights.standardisation import LIMIT, Standardisation


class SimilarityTransformerModel(nn.Module):
    """Model embeddings attend to dataset tokens; one unbounded logit a model.

    Tokens are a set: they have no positions, and a learned null token stands beside them, so that a data set of which
    nothing is known gets the logits that the models deserve anywhere. Unless `attend_to_models`, a model's logit does
    not depend on which others are scored with it.

    Inputs are standardised by constants that `fit_inputs` fixes; before that they are taken as they are.

    Args:
        token_width: F.
        embedding_width: E.
        hidden_size: H, of everything inside.
        num_heads: of each attention; divides `hidden_size`.
        num_layers: how often models look at the tokens.
        feedforward_size: of each block's inner layer; None for `2 * hidden_size`.
        dropout: of attention weights and inner layers.
        input_dropout: of the projected model embeddings, so that no model is known by a single number.
        attend_to_models: let models see each other too.

    Raises:
        ConfigError: `num_heads` does not divide `hidden_size`.

    Example:
        >>> model = SimilarityTransformerModel(token_width=16, embedding_width=8)
        >>> model(torch.randn(2, 5, 16), torch.randn(2, 3, 8)).shape
        torch.Size([2, 3])
    """

    token_means: Tensor
    token_deviations: Tensor
    embedding_means: Tensor
    embedding_deviations: Tensor

    def __init__(
        self,
        token_width: int,
        embedding_width: int,
        hidden_size: int = 64,
        num_heads: int = 4,
        num_layers: int = 2,
        feedforward_size: int | None = None,
        dropout: float = 0.1,
        input_dropout: float = 0.0,
        attend_to_models: bool = False,
    ) -> None:
        super().__init__()
        if wrong := refuse_heads(hidden_size, num_heads, "the ranker"):
            raise ConfigError(wrong)
        self.token_width, self.embedding_width = token_width, embedding_width
        for name, width in (("token", token_width), ("embedding", embedding_width)):
            self.register_buffer(f"{name}_means", torch.zeros(width))
            self.register_buffer(f"{name}_deviations", torch.ones(width))
        self.tokens = nn.Sequential(nn.Linear(token_width, hidden_size), nn.LayerNorm(hidden_size))
        self.models = nn.Sequential(
            nn.Linear(embedding_width, hidden_size), nn.LayerNorm(hidden_size), nn.Dropout(input_dropout)
        )
        self.null_token = nn.Parameter(0.02 * torch.randn(1, 1, hidden_size))
        inner = 2 * hidden_size if feedforward_size is None else feedforward_size
        self.blocks = nn.ModuleList(
            [_Block(hidden_size, num_heads, inner, dropout, attend_to_models) for _ in range(num_layers)]
        )
        # no biases: the same for all models, they change no order, and would drift on rounding errors
        self.norm, self.head = nn.LayerNorm(hidden_size, bias=False), nn.Linear(hidden_size, 1, bias=False)

    def fit_inputs(self, tokens: NDArray[np.floating], embeddings: NDArray[np.floating]) -> None:
        """Fix the constants that inputs are standardised by: those of training tokens `(n, F)` and embeddings `(m, E)`.

        Each feature of tokens has a deviation of its own. Embeddings share that of their widest feature: codes and
        components are ordered by what they tell, and blown up to one size the last ones would be noise.

        Raises:
            DataError: there is none of one, or a value is not finite.
        """
        of_tokens, of_models = Standardisation.fit(tokens), Standardisation.fit(embeddings)
        widest = float(embeddings.std(axis=0, dtype=np.float64).max()) or 1.0
        self.token_means.copy_(torch.from_numpy(of_tokens.means))
        self.token_deviations.copy_(torch.from_numpy(of_tokens.deviations))
        self.embedding_means.copy_(torch.from_numpy(of_models.means))
        self.embedding_deviations.fill_(widest)

    def forward(
        self,
        tokens: Tensor,
        models: Tensor,
        token_mask: Tensor | None = None,
        model_mask: Tensor | None = None,
    ) -> Tensor:
        """Logits `(B, N)`, in units of the targets that it was trained on; 0 where no model stands.

        Args:
            tokens: `(B, C, F)`, any C, 0 included.
            models: `(B, N, E)`, any N.
            token_mask: `(B, C)`, True where there is a token; None for everywhere.
            model_mask: `(B, N)`, True where there is a model; None for everywhere.

        Raises:
            DataError: a width or a shape does not fit.
        """
        self._refuse(tokens, models, token_mask, model_mask)
        batch = len(tokens)
        if token_mask is not None:
            tokens = tokens.masked_fill(~token_mask[:, :, None], 0.0)
        keys = self.tokens(_scaled(tokens, self.token_means, self.token_deviations))
        keys = torch.cat([self.null_token.expand(batch, -1, -1), keys], dim=1)  # (B, 1 + C, H)
        hidden_keys = None if token_mask is None else torch.cat([token_mask.new_zeros(batch, 1), ~token_mask], dim=1)
        hidden_models = None if model_mask is None else ~model_mask
        state = self.models(_scaled(models, self.embedding_means, self.embedding_deviations))  # (B, N, H)
        for block in self.blocks:
            state = block(state, keys, hidden_keys, hidden_models)
        logits: Tensor = self.head(self.norm(state)).squeeze(2)
        return logits if hidden_models is None else logits.masked_fill(hidden_models, 0.0)

    def _refuse(self, tokens: Tensor, models: Tensor, token_mask: Tensor | None, model_mask: Tensor | None) -> None:
        for what, part, width, mask in (
            ("tokens", tokens, self.token_width, token_mask),
            ("model embeddings", models, self.embedding_width, model_mask),
        ):
            if part.ndim != 3 or part.shape[2] != width or len(part) != len(tokens):
                raise DataError(
                    f"{what} have the shape {tuple(part.shape)}; the ranker was made for (B, any number, {width}), "
                    "with one B for tokens and models"
                )
            if mask is not None and mask.shape != part.shape[:2]:
                raise DataError(
                    f"the mask of {what} has the shape {tuple(mask.shape)}; expected {tuple(part.shape[:2])}"
                )


class _Block(nn.Module):
    """A look at the tokens, one at the other models if wanted, and a feed-forward layer."""

    def __init__(self, hidden_size: int, num_heads: int, inner_size: int, dropout: float, compares: bool) -> None:
        super().__init__()
        self.look = Attention(hidden_size, num_heads, dropout)
        self.compare = Attention(hidden_size, num_heads, dropout) if compares else None
        self.think = FeedForward(hidden_size, inner_size, dropout)

    def forward(self, state: Tensor, keys: Tensor, hidden_keys: Tensor | None, hidden: Tensor | None) -> Tensor:
        """Models `(B, N, H)` after a look at the keys `(B, 1 + C, H)`."""
        state = self.look(state, keys, hidden_keys)
        if self.compare is not None:
            nobody = None if hidden is None else hidden & ~hidden.all(1, keepdim=True)  # a softmax over nothing is NaN
            state = self.compare(state, hidden=nobody)
        after: Tensor = self.think(state)
        return after


def _scaled(values: Tensor, means: Tensor, deviations: Tensor) -> Tensor:
    return ((values - means) / deviations).clamp(-LIMIT, LIMIT)
