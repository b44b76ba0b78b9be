"""DIN: the history weighted anew for each candidate."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from deepfm.interop.deepctr.columns import FeatureColumn
from deepfm.interop.deepctr.embedding import Views
from deepfm.interop.deepctr.histories import Histories
from deepfm.interop.deepctr.layers import DNN, AttentionSequencePoolingLayer
from deepfm.interop.deepctr.models.basemodel import BaseModel
from deepfm.interop.deepctr.rows import EncodedRows


class DIN(BaseModel):
    """logit = linear(DNN(fields ⊕ Σ weight(event, candidate)·event ⊕ numbers)) (Zhou et al., 2018, equation 3).

    Args:
        dnn_feature_columns: with a `VarLenSparseFeat` named `hist_<name>` for each name in the list.
        history_feature_list: names of the candidates' columns.
        dnn_use_bn, dnn_hidden_units, dnn_activation, dnn_dropout: of the tower.
        att_hidden_size, att_activation, att_weight_normalization: of the network on a candidate and an event, and
            whether a softmax makes the weights add up to one.
        l2_reg_dnn, l2_reg_embedding: λ of λ·Σw² over the parts' weights.
        init_std, seed, task, device, gpus: as for `BaseModel`.

    Raises:
        ConfigError: a candidate or its history is missing, or they do not go together.
        ConfigError, SchemaError, DeviceError: as for `BaseModel`.
    """

    def __init__(
        self,
        dnn_feature_columns: Sequence[FeatureColumn],
        history_feature_list: Sequence[str],
        dnn_use_bn: bool = False,
        dnn_hidden_units: Sequence[int] = (256, 128),
        dnn_activation: str | type[nn.Module] = "relu",
        att_hidden_size: Sequence[int] = (64, 16),
        att_activation: str | type[nn.Module] = "Dice",
        att_weight_normalization: bool = False,
        l2_reg_dnn: float = 0.0,
        l2_reg_embedding: float = 1e-6,
        dnn_dropout: float = 0,
        init_std: float = 0.0001,
        seed: int = 1024,
        task: str = "binary",
        device: str = "cpu",
        gpus: Sequence[Any] | None = None,
    ) -> None:
        histories = Histories.of(dnn_feature_columns, history_feature_list)
        super().__init__(
            [], dnn_feature_columns, 0.0, l2_reg_embedding, init_std, seed, task, device, gpus,
            histories=histories.names, reads_fields=False,
        )  # fmt: skip
        self.histories = histories
        self.attention = AttentionSequencePoolingLayer(
            att_hidden_size, att_activation, att_weight_normalization, supports_masking=True,
            embedding_dim=histories.width,
        )  # fmt: skip
        width = self.columns.total_dim + histories.width + self.columns.dense_dim
        self.dnn = DNN(width, dnn_hidden_units, dnn_activation, dropout_rate=dnn_dropout, use_bn=dnn_use_bn)
        self.add_regularization_weight(self.dnn.weights, l2=l2_reg_dnn)
        self.dnn_linear = nn.Linear(self.dnn.output_dim, 1, bias=False)
        self.to(self.torch_device)

    def _logits(self, views: Views, rows: EncodedRows) -> Tensor:
        candidate, events, mask = self.histories.read(self.columns, views, rows)
        interest = self.attention(candidate, events, None, mask).squeeze(1)  # (B, E)
        deep: Tensor = self.dnn_linear(self.dnn(*views.deep(interest)))
        return views.linear + deep
