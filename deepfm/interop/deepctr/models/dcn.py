"""DCN: a cross network beside a deep tower."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deepfm.errors import ConfigError
from deepfm.interop.deepctr.columns import FeatureColumn
from deepfm.interop.deepctr.embedding import Views
from deepfm.interop.deepctr.layers import CrossNet
from deepfm.interop.deepctr.models.basemodel import BaseModel
from deepfm.interop.deepctr.rows import EncodedRows


class DCN(BaseModel):
    """logit = linear + linear(cross(x) ⊕ DNN(x)), x = fields ⊕ numbers (Wang et al., 2017, equation 4).

    Args:
        linear_feature_columns, dnn_feature_columns, init_std, seed, task, device, gpus: as for `BaseModel`.
        cross_num, cross_parameterization: cross layers, of a `vector` each, or a `matrix` (Wang et al., 2021).
        dnn_hidden_units, dnn_dropout, dnn_activation, dnn_use_bn: of the tower.
        l2_reg_linear, l2_reg_embedding, l2_reg_cross, l2_reg_dnn: λ of λ·Σw² over the parts' weights; the last linear
            layer counts to the linear part.

    Raises:
        ConfigError: neither cross layers nor a tower is left.
        ConfigError, SchemaError, DeviceError: as for `BaseModel`.
    """

    def __init__(
        self,
        linear_feature_columns: Sequence[FeatureColumn],
        dnn_feature_columns: Sequence[FeatureColumn],
        cross_num: int = 2,
        cross_parameterization: str = "vector",
        dnn_hidden_units: Sequence[int] = (128, 128),
        l2_reg_linear: float = 0.00001,
        l2_reg_embedding: float = 0.00001,
        l2_reg_cross: float = 0.00001,
        l2_reg_dnn: float = 0,
        init_std: float = 0.0001,
        seed: int = 1024,
        dnn_dropout: float = 0,
        dnn_activation: str | type[nn.Module] = "relu",
        dnn_use_bn: bool = False,
        task: str = "binary",
        device: str = "cpu",
        gpus: Sequence[Any] | None = None,
    ) -> None:
        super().__init__(
            linear_feature_columns, dnn_feature_columns, l2_reg_linear, l2_reg_embedding, init_std, seed, task, device,
            gpus, reads_fields=False,
        )  # fmt: skip
        options = {"activation": dnn_activation, "dropout_rate": dnn_dropout, "use_bn": dnn_use_bn}
        self.dnn = self._tower(0, dnn_hidden_units, l2_reg_dnn, init_std=init_std, **options)
        width = self.columns.total_dim + self.columns.dense_dim
        self.crossnet = None
        if cross_num > 0 and width:
            self.crossnet = CrossNet(width, cross_num, cross_parameterization)
            self.add_regularization_weight(self.crossnet.kernels, l2=l2_reg_cross)
        inputs = (0 if self.crossnet is None else width) + (0 if self.dnn is None else self.dnn.output_dim)
        if not inputs:
            raise ConfigError(
                f"DCN has cross_num = {cross_num}, dnn_hidden_units = {tuple(dnn_hidden_units)} and {width} inputs; "
                "expected cross layers or a tower over some"
            )
        self.dnn_linear = nn.Linear(inputs, 1, bias=False)
        self.add_regularization_weight(self.dnn_linear.weight, l2=l2_reg_linear)
        self.to(self.torch_device)

    def _logits(self, views: Views, rows: EncodedRows) -> Tensor:
        x = torch.cat(views.deep(), dim=1)
        parts = [part(x) for part in (self.crossnet, self.dnn) if part is not None]
        deep: Tensor = self.dnn_linear(torch.cat(parts, dim=1))
        return views.linear + deep
