"""The classic way: a `Dataset` that makes a dict of tensors per row, and `DataLoader`'s default collation.

Model and optimizer are those of the lean loop; only the batches are built differently.
"""

from typing import Any

import torch
from lean import Lean
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from worker import main
from workload import Rows


class RowDataset(Dataset[tuple[dict[str, Tensor], Tensor]]):
    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows.labels)

    def __getitem__(self, index: int) -> tuple[dict[str, Tensor], Tensor]:
        features = {name: torch.as_tensor(column[index]) for name, column in self.rows.columns.items()}
        return features, torch.as_tensor(self.rows.labels[index])


class PerRow(Lean):
    slow = True

    def load(self, rows: Rows, shuffle: bool) -> Any:
        return DataLoader(RowDataset(rows), batch_size=self.workload.batch_size, shuffle=shuffle)

    def train(self, data: Any) -> float:
        total = torch.zeros(())
        self.model.train()
        for features, labels in data:
            total += self.step(self.model.tensors(features, labels)) * len(labels)
        return float(total / len(data.dataset))


if __name__ == "__main__":
    main(PerRow)
