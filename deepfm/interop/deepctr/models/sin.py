"""SIN: a CIN over the fields and a Transformer over the history, joined by a learned gate."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from deepfm.interop.behaviour import GatedHistory, HistoryEncoder
from deepfm.interop.deepctr.columns import FeatureColumn
from deepfm.interop.deepctr.embedding import Views
from deepfm.interop.deepctr.histories import Histories
from deepfm.interop.deepctr.layers import CIN
from deepfm.interop.deepctr.models.basemodel import BaseModel
from deepfm.interop.deepctr.rows import EncodedRows
from deepfm.models.layers import TargetAttention


class SIN(BaseModel):
    """logit = linear + linear(fused) + linear(DNN(fields ⊕ fused ⊕ numbers)), fused = gate ∘ CIN + (1-gate) ∘ history.

    This package's own; `docs/sequence.md` draws it. DeepCTR-Torch has none, but see `deepfm.interop.deepctr_native`.

    Args:
        linear_feature_columns, dnn_feature_columns, init_std, seed, task, device, gpus: as for `BaseModel`.
        history_feature_list: as for `DIN`.
        cin_layer_size, cin_split_half, cin_activation: of the CIN; the activation is relu or linear.
        transformer_num, att_head_num, transformer_dropout: encoder layers, heads, also of the candidate's attention to
            the encoded history, and dropout.
        fusion_dim: G.
        dnn_hidden_units, dnn_dropout, dnn_activation, dnn_use_bn: of the tower.
        l2_reg_linear, l2_reg_embedding, l2_reg_dnn, l2_reg_cin: λ of λ·Σw² over the parts' weights.

    Raises:
        ConfigError: a candidate or its history is missing, or sizes do not go together.
        ConfigError, SchemaError, DeviceError: as for `BaseModel`.
    """

    def __init__(
        self,
        linear_feature_columns: Sequence[FeatureColumn],
        dnn_feature_columns: Sequence[FeatureColumn],
        history_feature_list: Sequence[str],
        cin_layer_size: Sequence[int] = (64, 64),
        cin_split_half: bool = True,
        cin_activation: str = "relu",
        transformer_num: int = 1,
        att_head_num: int = 2,
        transformer_dropout: float = 0.0,
        fusion_dim: int = 32,
        dnn_hidden_units: Sequence[int] = (256, 128),
        l2_reg_linear: float = 1e-5,
        l2_reg_embedding: float = 1e-6,
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
        histories = Histories.of(dnn_feature_columns, history_feature_list)
        super().__init__(
            linear_feature_columns, dnn_feature_columns, l2_reg_linear, l2_reg_embedding, init_std, seed, task, device,
            gpus, histories=histories.names,
        )  # fmt: skip
        self.histories = histories
        self.cin = CIN(self.columns.num_fields, cin_layer_size, cin_activation, cin_split_half)
        self.add_regularization_weight(self.cin.weights, l2=l2_reg_cin)
        width, length = histories.width, histories.max_length
        self.fused = GatedHistory(
            HistoryEncoder(width, length, transformer_num, att_head_num, transformer_dropout),
            TargetAttention(width, att_head_num, length),
            self.cin.output_dim,
            fusion_dim,
        )
        self.fused_linear = nn.Linear(fusion_dim, 1, bias=False)
        options = {"activation": dnn_activation, "dropout_rate": dnn_dropout, "use_bn": dnn_use_bn}
        self.dnn = self._tower(fusion_dim, dnn_hidden_units, l2_reg_dnn, init_std=init_std, **options)
        if self.dnn is not None:
            self.dnn_linear = nn.Linear(self.dnn.output_dim, 1, bias=False)
            self.add_regularization_weight(self.dnn_linear.weight, l2=l2_reg_dnn)
        self.to(self.torch_device)

    def _logits(self, views: Views, rows: EncodedRows) -> Tensor:
        fused = self.fused(self.cin(views.fields), *self.histories.read(self.columns, views, rows))  # (B, G)
        logit = views.linear + self.fused_linear(fused)
        return logit if self.dnn is None else logit + self.dnn_linear(self.dnn(*views.deep(fused)))
