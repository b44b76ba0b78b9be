"""How weights begin where a configuration wants another way than each part's own."""

import torch
from torch import nn

from deepfm.data.schema import FeatureType
from deepfm.models.layers import CIN, FeatureEmbedding
from deepfm.models.layers.embedding import ORDERS
from deepfm.models.layers.width_table import PADDING_INDEX


def initialise(model: nn.Module, init_std: float | None = None, linear_init: str = "default") -> None:
    """Draw a model's weights anew, in place; what is left at its default stays as it is.

    Args:
        model: any module.
        init_std: of the normal distribution of ids' rows in every embedding table, padding apart; None for no change.
        linear_init: `xavier_normal` (Glorot and Bengio, 2010) for the weights of linear layers, with biases of zero,
            and for the vectors of dense fields, which are linear in a number; `default` for no change. Queries, keys
            and values that stand in one matrix are three layers. A CIN keeps its own: its products are 1x1
            convolutions, which FuxiCTR 1.1 leaves at torch's default as well.
    """
    kept = {id(part) for cin in model.modules() if isinstance(cin, CIN) for part in cin.modules()}
    with torch.no_grad():
        for name, part in model.named_modules():
            if isinstance(part, FeatureEmbedding):
                _embedding(part, init_std, linear_init)
            elif linear_init == "xavier_normal" and isinstance(part, nn.Linear) and id(part) not in kept:
                for layer in part.weight.chunk(3 if name.endswith("query_key_value") else 1):
                    nn.init.xavier_normal_(layer)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)


def _embedding(embedding: FeatureEmbedding, init_std: float | None, linear_init: str) -> None:
    for first_order in ORDERS[embedding.orders]:
        for field in embedding.schema.fields.values():
            if field.shares_embedding_with is not None:
                continue
            weight = embedding.field_weight(field.name, first_order)
            if field.feature_type is FeatureType.DENSE:
                if linear_init == "xavier_normal":
                    nn.init.xavier_normal_(weight)
            elif init_std is not None:
                nn.init.normal_(weight, std=init_std)
                weight[PADDING_INDEX] = 0.0
