"""The compressed interaction network of xDeepFM."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deepfm.errors import ConfigError

CHUNK_ROWS = 8192  # rows of (B·D) a matrix product; the outer products of a chunk stay in the processor's cache


class CIN(nn.Module):
    """Vector-wise interactions of bounded degree (Lian et al., 2018, equations 6 to 8).

    Layer k takes the outer product of its input maps with the fields, per embedding dimension, and compresses it by a
    1x1 convolution, here as one matrix product over `(B·D, H·F)`. With `split_half`, the first half of each hidden
    layer's maps feeds the next layer and the second half goes to the output; the last layer goes out whole.

    Args:
        num_fields: F.
        embed_dim: D.
        layer_sizes: maps of each layer; even for all but the last under `split_half`.
        split_half: see above; otherwise every map does both.
        activation: `relu` or `linear`.

    Raises:
        ConfigError: no layer, an odd hidden size to be split, or an unknown activation.

    Example:
        >>> CIN(7, 16, [128, 128], split_half=True)(torch.zeros(2, 7, 16)).shape
        torch.Size([2, 192])
    """

    def __init__(
        self,
        num_fields: int,
        embed_dim: int,
        layer_sizes: Sequence[int],
        split_half: bool = True,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        if not layer_sizes:
            raise ConfigError("cin.layer_sizes = [] has no layer; expected at least one size, such as [64]")
        if activation not in ("relu", "linear"):
            raise ConfigError(f"cin.activation = {activation!r} is unknown; expected relu or linear")
        odd = [size for size in layer_sizes[:-1] if size % 2]
        if split_half and odd:
            raise ConfigError(
                f"cin.layer_sizes = {list(layer_sizes)} has {odd[0]} maps to split in halves; expected an even number "
                "in every layer but the last, or cin.split_half=false"
            )
        self.embed_dim = embed_dim
        self.activation = nn.ReLU() if activation == "relu" else nn.Identity()
        self.compressions = nn.ModuleList()
        self._shares: list[tuple[int, int]] = []  # a layer's maps [:feeds] go on, its maps [leaves:] go out
        self.output_dim = 0
        maps = num_fields
        for depth, size in enumerate(layer_sizes):
            self.compressions.append(nn.Linear(maps * num_fields, size))
            last = depth == len(layer_sizes) - 1
            feeds, leaves = (size // 2, size // 2) if split_half and not last else (size, 0)
            self._shares.append((feeds, leaves))
            self.output_dim += size - leaves
            maps = feeds

    def forward(self, x: Tensor) -> Tensor:
        """`(B, F, D)` → `(B, output_dim)`, summed over D."""
        batch, num_fields, dim = x.shape
        rows = x.transpose(1, 2).reshape(batch * dim, num_fields)  # (B·D, F)
        outputs = [self._interact(chunk) for chunk in rows.split(CHUNK_ROWS - CHUNK_ROWS % dim or dim)]
        return torch.cat(outputs, dim=0)

    def _interact(self, fields: Tensor) -> Tensor:
        """Rows `(b·D, F)` of whole examples → `(b, output_dim)`."""
        maps, pooled = fields, []
        for compress, (feeds, leaves) in zip(self.compressions, self._shares, strict=True):
            outer = (maps.unsqueeze(2) * fields.unsqueeze(1)).flatten(1)  # (b·D, H·F)
            maps = self.activation(compress(outer))  # (b·D, H')
            pooled.append(maps[:, leaves:].unflatten(0, (-1, self.embed_dim)).sum(dim=1))  # (b, out)
            maps = maps[:, :feeds]
        return torch.cat(pooled, dim=1)
