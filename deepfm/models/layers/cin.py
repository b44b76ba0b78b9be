"""The compressed interaction network of xDeepFM."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepfm.engine.acceleration import Recomputable
from deepfm.errors import ConfigError
from deepfm.models.layers.kernels import chunk_size, interact


class CIN(Recomputable):
    """Vector-wise interactions of bounded degree (Lian et al., 2018, equations 6 to 8).

    Layer k takes the outer product of its input maps with the fields, per embedding dimension, and compresses it by a
    1x1 convolution, here as one matrix product over `(B·D, H·F)`. With `split_half`, the first half of each hidden
    layer's maps feeds the next layer and the second half goes to the output; the last layer goes out whole.
    Two forms are published: ReLU with split halves (the paper, DeepCTR) and linear without (FuxiCTR); a linear layer's
    output is summed over D before the product, which is the same at a D-th of the cost.

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
        self.linear = activation == "linear"
        self.compressions = nn.ModuleList()
        self._shares: list[tuple[int, int]] = []  # a layer's maps [:feeds] go on, its maps [leaves:] go out
        self.output_dim = 0
        maps = num_fields
        for depth, size in enumerate(layer_sizes):
            self.compressions.append(nn.Linear(maps * num_fields, size))
            last = depth == len(layer_sizes) - 1
            feeds, leaves = (0, 0) if last else (size // 2, size // 2) if split_half else (size, 0)
            self._shares.append((feeds, leaves))
            self.output_dim += size - leaves
            maps = feeds

    @property
    def output_sizes(self) -> list[int]:
        """How many maps of each layer go out, layer by layer: together `output_dim`."""
        sizes = [compress.out_features for compress in self.compressions if isinstance(compress, nn.Linear)]
        return [size - leaves for size, (_, leaves) in zip(sizes, self._shares, strict=True)]

    def forward(self, x: Tensor) -> Tensor:
        """`(B, F, D)` → `(B, output_dim)`, summed over D."""
        if torch.compiler.is_compiling():
            return self._interact(x)
        return torch.cat([self._interact(part) for part in x.split(chunk_size(x))], dim=0)

    def _interact(self, x: Tensor) -> Tensor:
        fields = x.transpose(1, 2)  # (b, D, F)
        rows = fields.reshape(-1, fields.shape[2])  # (b·D, F)
        maps, pooled = rows, []
        for compress, (feeds, leaves) in zip(self.compressions, self._shares, strict=True):
            assert isinstance(compress, nn.Linear)
            weight, bias = compress.weight, compress.bias  # (H', H·F), (H',)
            if self.linear:  # what goes out needs no maps: sum over D first
                pooled.append(self._pool_products(maps, fields, weight[leaves:], bias[leaves:]))
                if feeds:
                    maps = interact(maps, rows, weight[:feeds], bias[:feeds])
                continue
            maps = torch.relu(interact(maps, rows, weight, bias))  # (b·D, H')
            if leaves:
                maps, out = maps.split([feeds, len(weight) - leaves], dim=1)
            else:
                out = maps
            pooled.append(out.unflatten(0, (-1, self.embed_dim)).sum(dim=1))  # (b, out)
        return torch.cat(pooled, dim=1)

    def _pool_products(self, maps: Tensor, fields: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """A linear layer's maps summed over D, without forming them: `(B, out)`."""
        by_example = maps.unflatten(0, (-1, self.embed_dim)).transpose(1, 2)  # (B, H, D)
        products = torch.bmm(by_example, fields).flatten(1)  # (B, H·F), summed over D
        return F.linear(products, weight, self.embed_dim * bias)
