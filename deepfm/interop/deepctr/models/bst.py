"""BST: a Transformer over the history and the candidate."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from deepfm.errors import ConfigError
from deepfm.interop.behaviour import HistoryEncoder
from deepfm.interop.deepctr.columns import FeatureColumn
from deepfm.interop.deepctr.embedding import Views
from deepfm.interop.deepctr.histories import Histories
from deepfm.interop.deepctr.models.basemodel import BaseModel
from deepfm.interop.deepctr.rows import EncodedRows


class BST(BaseModel):
    """logit = linear + linear(DNN(fields ⊕ Transformer(history, candidate) ⊕ numbers)) (Chen et al., 2019).

    The candidate is the last token, and its own place goes on. DeepCTR-Torch has no BST.

    Args:
        linear_feature_columns, dnn_feature_columns, init_std, seed, task, device, gpus: as for `BaseModel`.
        history_feature_list: as for `DIN`.
        transformer_num, att_head_num, transformer_dropout: encoder layers, their heads and their dropout.
        dnn_hidden_units, dnn_dropout, dnn_activation, dnn_use_bn: of the tower.
        l2_reg_linear, l2_reg_embedding, l2_reg_dnn: λ of λ·Σw² over the parts' weights.

    Raises:
        ConfigError: a candidate or its history is missing, or sizes do not go together.
        ConfigError, SchemaError, DeviceError: as for `BaseModel`.
    """

    def __init__(
        self,
        linear_feature_columns: Sequence[FeatureColumn],
        dnn_feature_columns: Sequence[FeatureColumn],
        history_feature_list: Sequence[str],
        transformer_num: int = 1,
        att_head_num: int = 2,
        transformer_dropout: float = 0.0,
        dnn_hidden_units: Sequence[int] = (256, 128),
        l2_reg_linear: float = 1e-5,
        l2_reg_embedding: float = 1e-6,
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
        histories = Histories.of(dnn_feature_columns, history_feature_list)
        super().__init__(
            linear_feature_columns, dnn_feature_columns, l2_reg_linear, l2_reg_embedding, init_std, seed, task, device,
            gpus, histories=histories.names, reads_fields=False,
        )  # fmt: skip
        self.histories = histories
        self.encoder = HistoryEncoder(
            histories.width, histories.max_length, transformer_num, att_head_num, transformer_dropout
        )
        options = {"activation": dnn_activation, "dropout_rate": dnn_dropout, "use_bn": dnn_use_bn}
        tower = self._tower(histories.width, dnn_hidden_units, l2_reg_dnn, init_std=init_std, **options)
        if tower is None:
            raise ConfigError("BST needs a tower and dnn_hidden_units is empty; expected widths such as (256, 128)")
        self.dnn = tower
        self.dnn_linear = nn.Linear(tower.output_dim, 1, bias=False)
        self.add_regularization_weight(self.dnn_linear.weight, l2=l2_reg_dnn)
        self.to(self.torch_device)

    def _logits(self, views: Views, rows: EncodedRows) -> Tensor:
        candidate, events, mask = self.histories.read(self.columns, views, rows)
        encoded = self.encoder.last(events, mask, candidate).squeeze(1)  # (B, E)
        deep: Tensor = self.dnn_linear(self.dnn(*views.deep(encoded)))
        return views.linear + deep
