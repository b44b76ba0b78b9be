"""AutoInt+: self-attention over the fields beside a deep tower."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deepfm.errors import ConfigError
from deepfm.interop.deepctr.columns import FeatureColumn
from deepfm.interop.deepctr.embedding import Views
from deepfm.interop.deepctr.layers import InteractingLayer
from deepfm.interop.deepctr.models.basemodel import BaseModel
from deepfm.interop.deepctr.rows import EncodedRows


class AutoInt(BaseModel):
    """logit = linear + linear(attention(fields) ⊕ DNN(fields ⊕ numbers)) (Song et al., 2019, equations 5 to 9).

    Args:
        linear_feature_columns, dnn_feature_columns, init_std, seed, task, device, gpus: as for `BaseModel`.
        att_layer_num, att_head_num, att_res: attention layers, their heads, and whether their input is added.
        dnn_hidden_units, dnn_activation, dnn_use_bn, dnn_dropout: of the tower.
        l2_reg_dnn, l2_reg_embedding: λ of λ·Σw² over the parts' weights; the linear part has none.

    Raises:
        ConfigError: neither attention nor a tower is left.
        ConfigError, SchemaError, DeviceError: as for `BaseModel`.
    """

    def __init__(
        self,
        linear_feature_columns: Sequence[FeatureColumn],
        dnn_feature_columns: Sequence[FeatureColumn],
        att_layer_num: int = 3,
        att_head_num: int = 2,
        att_res: bool = True,
        dnn_hidden_units: Sequence[int] = (256, 128),
        dnn_activation: str | type[nn.Module] = "relu",
        l2_reg_dnn: float = 0,
        l2_reg_embedding: float = 1e-5,
        dnn_use_bn: bool = False,
        dnn_dropout: float = 0,
        init_std: float = 0.0001,
        seed: int = 1024,
        task: str = "binary",
        device: str = "cpu",
        gpus: Sequence[Any] | None = None,
    ) -> None:
        super().__init__(
            linear_feature_columns, dnn_feature_columns, 0.0, l2_reg_embedding, init_std, seed, task, device, gpus,
            reads_fields=att_layer_num > 0,
        )  # fmt: skip
        options = {"activation": dnn_activation, "dropout_rate": dnn_dropout, "use_bn": dnn_use_bn}
        self.dnn = self._tower(0, dnn_hidden_units, l2_reg_dnn, init_std=init_std, **options)
        width, layers = self.columns.embed_dim, att_layer_num if self.columns.num_fields else 0
        self.int_layers = nn.ModuleList(InteractingLayer(width, att_head_num, att_res) for _ in range(layers))
        inputs = self.columns.num_fields * width * bool(layers) + (0 if self.dnn is None else self.dnn.output_dim)
        if not inputs:
            raise ConfigError(
                f"AutoInt has att_layer_num = {att_layer_num}, dnn_hidden_units = {tuple(dnn_hidden_units)} and "
                f"{self.columns.num_fields} columns with a table; expected attention over some or a tower"
            )
        self.dnn_linear = nn.Linear(inputs, 1, bias=False)
        self.to(self.torch_device)

    def _logits(self, views: Views, rows: EncodedRows) -> Tensor:
        parts = []
        if len(self.int_layers):
            attended = views.fields
            for layer in self.int_layers:
                attended = layer(attended)
            parts.append(attended.flatten(1))
        if self.dnn is not None:
            parts.append(self.dnn(*views.deep()))
        deep: Tensor = self.dnn_linear(torch.cat(parts, dim=1))
        return views.linear + deep
