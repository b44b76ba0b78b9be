"""torch-rechub: `DataGenerator`, `CTRTrainer.train_one_epoch` and `predict`, without its default weight decay.

Its tower always has BatchNorm, its first order is a linear layer on the embeddings, and dense numbers go to the tower
only. Its release has no xDeepFM.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from torch_rechub.basic.features import DenseFeature, SequenceFeature, SparseFeature
from torch_rechub.models.ranking import DeepFM
from torch_rechub.trainers import CTRTrainer
from torch_rechub.utils.data import DataGenerator
from worker import Contender, main
from workload import Field, Rows, Workload


class TorchRecHub(Contender):
    distribution = "torch-rechub"

    def __init__(self, workload: Workload, overrides: dict[str, str]) -> None:
        super().__init__(workload, overrides)
        if workload.model != "deepfm":
            raise SystemExit(f"torch-rechub has no {workload.model}")
        features = {field.name: _feature(field, workload.embedding_dim) for field in workload.fields}
        crossed = [features[field.name] for field in workload.fields if field.kind != "dense"]
        tower = {"dims": list(workload.hidden_units), "dropout": workload.dropout, "activation": "relu"}
        self.model = DeepFM(deep_features=list(features.values()), fm_features=crossed, mlp_params=tower)
        adam = {"lr": workload.lr} | ({"fused": True} if overrides.get("optimizer") == "fused" else {})
        self.trainer = CTRTrainer(self.model, optimizer_params=adam, n_epoch=1)

    def load(self, rows: Rows, shuffle: bool) -> DataLoader[Any]:
        size = self.workload.batch_size if shuffle else self.workload.scoring_rows
        train, validation, _ = DataGenerator(rows.columns, rows.labels).generate_dataloader(
            x_val=rows.columns, y_val=rows.labels, batch_size=size
        )
        return train if shuffle else validation

    def train(self, data: DataLoader[Any]) -> float:
        return float(self.trainer.train_one_epoch(data))

    def score(self, data: DataLoader[Any]) -> NDArray[Any]:
        return np.asarray(self.trainer.predict(self.model, data))


def _feature(field: Field, width: int) -> Any:
    if field.kind == "dense":
        return DenseFeature(field.name)
    if field.kind == "sequence":
        return SequenceFeature(field.name, field.vocabulary_size, width, pooling="mean", padding_idx=0)
    return SparseFeature(field.name, field.vocabulary_size, width)


if __name__ == "__main__":
    main(TorchRecHub)
