"""MaskNet: blocks in which a mask made of all embeddings multiplies what they see."""

import torch
from torch import Tensor, nn

from deepfm.models.base import WideModel
from deepfm.models.layers import FieldNorm, MaskBlock
from deepfm.models.layers.dnn import Dropout


class MaskNet(WideModel):
    """logit = first order + linear(DNN(block_1 ⊕ … ⊕ block_n)), block = relu(LayerNorm(W·(mask ∘ LayerNorm(fields)))).

    Every block has a mask of its own, made of the fields side by side (Wang et al., 2021, MaskNet). Parallel blocks
    feed the `dnn` tower; serial ones each mask what the one before gave, and the last is the logit's. The blocks have
    the `dnn` section's activation and dropout. The paper has no first order, which `fm.use_first_order` adds.
    """

    def _build_components(self) -> None:
        mask_net, dnn = self.config.mask_net, self.config.dnn
        fields, width = self.schema.num_fields, self.config.feature.fm_embed_dim
        parallel = mask_net.structure == "parallel"
        self.norm = FieldNorm(fields, width) if mask_net.embedding_norm else nn.Identity()
        masked = [fields * width, *[fields * width if parallel else mask_net.block_dim] * (mask_net.num_blocks - 1)]
        self.blocks = nn.ModuleList(
            MaskBlock(
                fields * width, max(1, int(mask_net.reduction_ratio * size)), size, mask_net.block_dim, dnn.activation
            )
            for size in masked
        )
        self.dropout = Dropout(dnn.dropout)
        self.dnn = self._dnn(mask_net.num_blocks * mask_net.block_dim) if parallel else None
        self.output = nn.Linear(mask_net.block_dim if self.dnn is None else self.dnn.output_dim, 1)

    def _forward_components(self, first_order: Tensor, field_embeddings: Tensor, flat_embeddings: Tensor) -> Tensor:
        embeddings, hidden = field_embeddings.flatten(1), self.norm(field_embeddings).flatten(1)  # (B, F·D)
        if self.dnn is None:
            for block in self.blocks:
                hidden = self.dropout(block(embeddings, hidden))  # (B, block_dim)
        else:
            blocks = [self.dropout(block(embeddings, hidden)) for block in self.blocks]
            hidden = self.dnn(torch.cat(blocks, dim=1))
        logit: Tensor = first_order + self.output(hidden)  # (B, 1)
        return logit
