"""SIN for those who stay on DeepCTR-Torch: a model of its kind, with its CIN and this package's Transformer and gate.

It compiles, fits and saves as DeepCTR-Torch's models do, because it is one. `load_deepctr_weights` takes its weights
into `deepfm.interop.deepctr.models.SIN`, which gives the same logits.

Example:
    >>> from deepfm.interop.deepctr_native import SIN  # doctest: +SKIP
    >>> model = SIN(linear_columns, dnn_columns, ["item_id"], task="binary", device="cpu")  # doctest: +SKIP
    >>> model.compile("adam", "binary_crossentropy", metrics=["auc"])  # doctest: +SKIP
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deepfm.interop.behaviour import GatedHistory, HistoryEncoder
from deepfm.interop.deepctr import columns as ours
from deepfm.interop.deepctr.histories import Histories
from deepfm.interop.deepctr.layers.sequence import prefix_mask
from deepfm.models.layers import TargetAttention

try:
    from deepctr_torch.inputs import DenseFeat, SparseFeat, VarLenSparseFeat
    from deepctr_torch.layers import CIN, DNN
    from deepctr_torch.models.basemodel import BaseModel
except ImportError as error:
    raise ImportError(
        "deepfm.interop.deepctr_native needs DeepCTR-Torch 0.3.0, which is not here or not whole; install "
        "'deepfm[deepctr]', which also brings requests and pip, that it needs and does not declare"
    ) from error


class SIN(BaseModel):
    """logit = linear + linear(fused) + linear(DNN(fields ⊕ fused ⊕ numbers)), fused = gate ∘ CIN + (1-gate) ∘ history.

    Args:
        linear_feature_columns, dnn_feature_columns: DeepCTR-Torch's; among the latter a `VarLenSparseFeat` named
            `hist_<name>` for each name in the list.
        history_feature_list: names of the candidates' columns.
        cin_layer_size, cin_split_half, cin_activation: of the CIN.
        transformer_num, att_head_num, transformer_dropout: encoder layers, heads, also of the candidate's attention to
            the encoded history, and dropout.
        fusion_dim: width of the fused vector.
        dnn_hidden_units, dnn_dropout, dnn_activation, dnn_use_bn: of the tower.
        l2_reg_linear, l2_reg_embedding, l2_reg_dnn, l2_reg_cin: λ of λ·Σw² over the parts' weights.
        init_std, seed, task, device, gpus: as for DeepCTR-Torch's models.

    Raises:
        ConfigError: a candidate or its history is missing, or sizes do not go together.
    """

    def __init__(
        self,
        linear_feature_columns: Sequence[Any],
        dnn_feature_columns: Sequence[Any],
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
        dnn_activation: str = "relu",
        dnn_use_bn: bool = False,
        task: str = "binary",
        device: str = "cpu",
        gpus: Sequence[Any] | None = None,
    ) -> None:
        histories = Histories.of([_translated(column) for column in dnn_feature_columns], history_feature_list)
        super().__init__(
            linear_feature_columns, dnn_feature_columns, l2_reg_linear, l2_reg_embedding, init_std, seed, task, device,
            gpus,
        )  # fmt: skip
        self.histories = histories
        columns = {column.name: column for column in dnn_feature_columns}
        self.history_columns = [columns[name] for name in self.histories.names]
        self.field_columns = [column for column in dnn_feature_columns if column.name not in self.histories.names]
        fields = [column for column in self.field_columns if not isinstance(column, DenseFeat)]
        self.cin = CIN(len(fields), cin_layer_size, cin_activation, cin_split_half, l2_reg_cin, seed, device=device)
        self.add_regularization_weight(_weights(self.cin), l2=l2_reg_cin)
        hidden = sum(cin_layer_size[:-1])
        width, length = self.histories.width, self.histories.max_length
        self.fused = GatedHistory(
            HistoryEncoder(width, length, transformer_num, att_head_num, transformer_dropout),
            TargetAttention(width, att_head_num, length),
            (hidden // 2 if cin_split_half else hidden) + cin_layer_size[-1],
            fusion_dim,
        )
        self.fused_linear = nn.Linear(fusion_dim, 1, bias=False)
        self.dnn = None
        if len(dnn_hidden_units):
            self.dnn = DNN(
                self.compute_input_dim(self.field_columns) + fusion_dim, dnn_hidden_units, dnn_activation,
                dropout_rate=dnn_dropout, use_bn=dnn_use_bn, init_std=init_std, device=device,
            )  # fmt: skip
            self.dnn_linear = nn.Linear(dnn_hidden_units[-1], 1, bias=False)
            self.add_regularization_weight(_weights(self.dnn), l2=l2_reg_dnn)
            self.add_regularization_weight(self.dnn_linear.weight, l2=l2_reg_dnn)
        self.to(device)

    def forward(self, X: Tensor) -> Tensor:  # noqa: N803 - DeepCTR-Torch's name
        """Predictions `(B, 1)` of all inputs side by side `(B, Σ)`."""
        fields, numbers = self.input_from_feature_columns(X, self.field_columns, self.embedding_dict)
        fields = torch.cat(fields, dim=1)  # (B, F, D)
        fused = self.fused(self.cin(fields), *self._behaviour(X))  # (B, G)
        logit = self.linear_model(X) + self.fused_linear(fused)
        if self.dnn is not None:
            logit = logit + self.dnn_linear(self.dnn(torch.cat([fields.flatten(1), fused, *numbers], dim=1)))
        predictions: Tensor = self.out(logit)
        return predictions

    def _behaviour(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The candidate `(B, 1, E)`, the events `(B, L, E)` and a mask `(B, L)`, the first history's."""
        columns = {column.name: column for column in self.field_columns}
        candidate = [self._embedded(inputs, columns[name]) for name in self.histories.candidates]
        events = [self._embedded(inputs, column) for column in self.history_columns]
        first = self.history_columns[0]
        if first.length_name is None:
            mask = self._ids(inputs, first.name) != 0
        else:
            mask = prefix_mask(self._ids(inputs, first.length_name), first.maxlen)
        return torch.cat(candidate, dim=2), torch.cat(events, dim=2), mask

    def _embedded(self, inputs: Tensor, column: Any) -> Tensor:
        vectors: Tensor = self.embedding_dict[column.embedding_name](self._ids(inputs, column.name))
        return vectors

    def _ids(self, inputs: Tensor, name: str) -> Tensor:
        start, end = self.feature_index[name]
        return inputs[:, start:end].long()


def _translated(column: Any) -> ours.FeatureColumn:
    """DeepCTR-Torch's column as ours, which has the same fields."""
    if isinstance(column, VarLenSparseFeat):
        return ours.VarLenSparseFeat(ours.SparseFeat(*column.sparsefeat), *column[1:])
    return ours.SparseFeat(*column) if isinstance(column, SparseFeat) else ours.DenseFeat(*column)


def _weights(module: nn.Module) -> list[nn.Parameter]:
    """The weights that DeepCTR-Torch penalises: no biases and no batch normalisation."""
    return [weight for name, weight in module.named_parameters() if "weight" in name and "bn" not in name]
