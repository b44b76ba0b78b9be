"""DeepFM: a factorisation machine and a deep tower on one set of embeddings."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from deepfm.interop.deepctr.columns import FeatureColumn
from deepfm.interop.deepctr.embedding import Views
from deepfm.interop.deepctr.layers import FM
from deepfm.interop.deepctr.models.basemodel import BaseModel
from deepfm.interop.deepctr.rows import EncodedRows


class DeepFM(BaseModel):
    """logit = linear + FM(fields) + linear(DNN(fields ⊕ numbers)) (Guo et al., 2017, equation 1).

    Args:
        linear_feature_columns, dnn_feature_columns, init_std, seed, task, device, gpus: as for `BaseModel`.
        use_fm: whether the factorisation machine is there.
        dnn_hidden_units, dnn_dropout, dnn_activation, dnn_use_bn: of the tower.
        l2_reg_linear, l2_reg_embedding, l2_reg_dnn: λ of λ·Σw² over the parts' weights.

    Raises:
        ConfigError, SchemaError, DeviceError: as for `BaseModel`.
    """

    def __init__(
        self,
        linear_feature_columns: Sequence[FeatureColumn],
        dnn_feature_columns: Sequence[FeatureColumn],
        use_fm: bool = True,
        dnn_hidden_units: Sequence[int] = (256, 128),
        l2_reg_linear: float = 0.00001,
        l2_reg_embedding: float = 0.00001,
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
            gpus, reads_fields=use_fm,
        )  # fmt: skip
        self.use_fm = use_fm
        self.fm = FM() if use_fm else None
        options = {"activation": dnn_activation, "dropout_rate": dnn_dropout, "use_bn": dnn_use_bn}
        self.dnn = self._tower(0, dnn_hidden_units, l2_reg_dnn, init_std=init_std, **options)
        if self.dnn is not None:
            self.dnn_linear = nn.Linear(self.dnn.output_dim, 1, bias=False)
            self.add_regularization_weight(self.dnn_linear.weight, l2=l2_reg_dnn)
        self.to(self.torch_device)

    def _logits(self, views: Views, rows: EncodedRows) -> Tensor:
        logit = views.linear
        if self.fm is not None and self.columns.num_fields:
            logit = logit + self.fm(views.fields)
        if self.dnn is not None:
            logit = logit + self.dnn_linear(self.dnn(*views.deep()))
        return logit
