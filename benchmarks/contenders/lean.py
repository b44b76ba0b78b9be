"""A lean loop written by hand for one model: the practical ceiling of plain PyTorch.

One fused table for all ids, one more for the first order, one `randperm` and a gather a batch, fused Adam, and no
synchronisation before the pass ends.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from worker import Contender, main
from workload import Rows, Workload


@dataclass(frozen=True)
class Tensors:
    """Rows as the model reads them.

    Args:
        ids: `(N, C)` rows of the fused table: a column a sparse field, then each sequence's tokens.
        weights: `(N, L)` of each token in its sequence's mean, 0 for padding.
        numbers: `(N, n)` dense values.
        labels: `(N,)`.
    """

    ids: Tensor
    weights: Tensor
    numbers: Tensor
    labels: Tensor

    def at(self, rows: Tensor) -> "Tensors":
        return Tensors(self.ids[rows], self.weights[rows], self.numbers[rows], self.labels[rows])


class DeepFM(nn.Module):
    """logit = first order + FM(fields) + tower(fields), the fields in one table with offsets."""

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.sparse, self.sequences = workload.of_kind("sparse"), workload.of_kind("sequence")
        self.dense, width = workload.of_kind("dense"), workload.embedding_dim
        sizes = [field.vocabulary_size for field in [*self.sparse, *self.sequences]]
        self.offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        self.table, self.first_order = nn.Embedding(sum(sizes), width), nn.Embedding(sum(sizes), 1)
        nn.init.normal_(self.table.weight, std=0.01)
        nn.init.zeros_(self.first_order.weight)
        self.vectors = nn.Parameter(torch.randn(len(self.dense), width) * 0.01)
        self.slopes = nn.Parameter(torch.zeros(len(self.dense)))
        layers: list[nn.Module] = []
        inputs = len(workload.fields) * width
        for units in workload.hidden_units:
            layers.append(nn.Linear(inputs, units))
            layers += [nn.BatchNorm1d(units)] if workload.batch_norm else []
            layers.append(nn.ReLU())
            layers += [nn.Dropout(workload.dropout)] if workload.dropout else []
            inputs = units
        self.tower = nn.Sequential(*layers, nn.Linear(inputs, 1))

    def tensors(self, columns: dict[str, Any], labels: Any) -> Tensors:
        """Columns `(N,)` and `(N, L)`, tensors or arrays, as the model reads them."""
        offsets = self.offsets.tolist()
        parts = [torch.as_tensor(columns[f.name]).unsqueeze(1) for f in self.sparse]
        tokens = [torch.as_tensor(columns[field.name]) for field in self.sequences]
        ids = [part + offset for part, offset in zip([*parts, *tokens], offsets, strict=True)]
        shown = [(part != 0).float() for part in tokens]
        weights = [part / part.sum(1, keepdim=True).clamp(min=1) for part in shown]
        numbers = [torch.as_tensor(columns[field.name]).unsqueeze(1) for field in self.dense]
        none = torch.zeros(len(labels), 0)
        return Tensors(
            torch.cat(ids, 1), torch.cat(weights or [none], 1), torch.cat(numbers or [none], 1), torch.as_tensor(labels)
        )

    def forward(self, batch: Tensors) -> Tensor:
        first = self._embed(self.first_order, batch).sum(dim=(1, 2)) + batch.numbers @ self.slopes
        fields = self._embed(self.table, batch)  # (B, F, D)
        if self.dense:
            fields = torch.cat([fields, batch.numbers.unsqueeze(2) * self.vectors], dim=1)
        pairs = 0.5 * (fields.sum(1).square() - fields.square().sum(1)).sum(1)
        return first + pairs + self.tower(fields.flatten(1)).squeeze(1)

    def _embed(self, table: nn.Embedding, batch: Tensors) -> Tensor:
        vectors = table(batch.ids)  # (B, C, d)
        parts, start = [vectors[:, : len(self.sparse)]], 0
        for field in self.sequences:
            weights = batch.weights[:, start : start + field.max_length].unsqueeze(1)  # (B, 1, L)
            start += field.max_length
            tokens = vectors[:, len(self.sparse) + start - field.max_length : len(self.sparse) + start]
            parts.append(weights @ tokens)
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]


class Lean(Contender):
    def __init__(self, workload: Workload, overrides: dict[str, str]) -> None:
        super().__init__(workload, overrides)
        self.model: DeepFM = DeepFM(workload)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=workload.lr, fused=True)

    def load(self, rows: Rows, shuffle: bool) -> Any:
        return self.model.tensors(rows.columns, rows.labels)

    def train(self, data: Any) -> float:
        order = torch.randperm(len(data.labels))
        total = torch.zeros(())
        self.model.train()
        for rows in order.split(self.workload.batch_size):
            total += self.step(data.at(rows)) * len(rows)
        return float(total / len(order))

    def step(self, batch: Tensors) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        loss = F.binary_cross_entropy_with_logits(self.model(batch), batch.labels)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.workload.clip_norm)
        self.optimizer.step()
        return loss.detach()


if __name__ == "__main__":
    main(Lean)
