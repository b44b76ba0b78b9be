"""xDeepFM: a compressed interaction network and a deep tower."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from deepfm.interop.deepctr.columns import FeatureColumn
from deepfm.interop.deepctr.embedding import Views
from deepfm.interop.deepctr.layers import CIN
from deepfm.interop.deepctr.models.basemodel import BaseModel
from deepfm.interop.deepctr.rows import EncodedRows


class xDeepFM(BaseModel):
    """logit = linear + linear(CIN(fields)) + linear(DNN(fields ⊕ numbers)) (Lian et al., 2018, equation 9).

    Args:
        linear_feature_columns, dnn_feature_columns, init_std, seed, task, device, gpus: as for `BaseModel`.
        dnn_hidden_units, dnn_dropout, dnn_activation, dnn_use_bn: of the tower.
        cin_layer_size, cin_split_half, cin_activation: of the CIN; the activation is relu or linear.
        l2_reg_linear, l2_reg_embedding, l2_reg_dnn, l2_reg_cin: λ of λ·Σw² over the parts' weights.

    Raises:
        ConfigError, SchemaError, DeviceError: as for `BaseModel`.
    """

    def __init__(
        self,
        linear_feature_columns: Sequence[FeatureColumn],
        dnn_feature_columns: Sequence[FeatureColumn],
        dnn_hidden_units: Sequence[int] = (256, 256),
        cin_layer_size: Sequence[int] = (256, 128),
        cin_split_half: bool = True,
        cin_activation: str = "relu",
        l2_reg_linear: float = 0.00001,
        l2_reg_embedding: float = 0.00001,
        l2_reg_dnn: float = 0,
        l2_reg_cin: float = 0,
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
            gpus, reads_fields=bool(len(cin_layer_size)),
        )  # fmt: skip
        options = {"activation": dnn_activation, "dropout_rate": dnn_dropout, "use_bn": dnn_use_bn}
        self.dnn = self._tower(0, dnn_hidden_units, l2_reg_dnn, init_std=init_std, **options)
        if self.dnn is not None:
            self.dnn_linear = nn.Linear(self.dnn.output_dim, 1, bias=False)
            self.add_regularization_weight(self.dnn_linear.weight, l2=l2_reg_dnn)
        self.cin = None
        if len(cin_layer_size) and self.columns.num_fields:
            self.cin = CIN(self.columns.num_fields, cin_layer_size, cin_activation, cin_split_half)
            self.cin_linear = nn.Linear(self.cin.output_dim, 1, bias=False)
            self.add_regularization_weight(self.cin.weights, l2=l2_reg_cin)
        self.to(self.torch_device)

    def _logits(self, views: Views, rows: EncodedRows) -> Tensor:
        logit = views.linear
        if self.dnn is not None:
            logit = logit + self.dnn_linear(self.dnn(*views.deep()))
        if self.cin is not None:
            logit = logit + self.cin_linear(self.cin(views.fields))
        return logit
