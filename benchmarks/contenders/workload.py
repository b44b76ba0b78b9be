"""What parent and workers both know: a workload's sizes, and rows of encoded columns."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Field:
    """A column: `sparse` ids `(N,)`, `dense` numbers `(N,)` or a `sequence` of ids `(N, max_length)` padded with 0.

    Where `shares_table_with` names another field, the sequence is the user's behaviour: earlier ids of that field, the
    candidate, oldest first with the padding before them, in the candidate's embedding table. Other sequences are
    averaged.
    """

    name: str
    kind: str
    vocabulary_size: int = 0
    max_length: int = 0
    shares_table_with: str = ""


@dataclass(frozen=True)
class Workload:
    """What all contenders of a workload have in common; `workload.json` holds the same keys."""

    model: str  # deepfm, xdeepfm, din, bst or, for deepfm alone, sin
    fields: tuple[Field, ...]
    embedding_dim: int
    hidden_units: tuple[int, ...]
    batch_norm: bool
    dropout: float
    batch_size: int
    scoring_rows: int  # rows a batch where candidates are scored
    lr: float
    clip_norm: float  # of those that clip
    seed: int
    slow_rows: int  # rows a turn of a contender that is too slow for all of them
    cin_layers: tuple[int, ...] = ()
    cin_split_half: bool = True
    cin_activation: str = "relu"
    attention_units: tuple[int, ...] = ()  # of DIN's network on a candidate and an event
    num_heads: int = 0  # of a Transformer of one layer
    feedforward_dim: int = 0
    raw_data: str = ""  # the folder with MovieLens' files, for whole jobs
    epochs: int = 0
    num_candidates: int = 0

    @classmethod
    def read(cls, folder: Path) -> "Workload":
        plain = json.loads((folder / "workload.json").read_text(encoding="utf-8"))
        plain["fields"] = tuple(Field(**field) for field in plain["fields"])
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in plain.items()})

    def of_kind(self, kind: str) -> list[Field]:
        return [field for field in self.fields if field.kind == kind]

    @property
    def behaviour(self) -> Field:
        """The one field that is a behaviour sequence."""
        (field,) = (field for field in self.fields if field.shares_table_with)
        return field

    def as_overrides(self) -> list[str]:
        """These sizes in the terms of deepfm's configuration."""
        behaviour = [
            f"fm.use_first_order={str(self.model == 'sin').lower()}",
            *(f"feature.max_history={field.max_length}" for field in self.fields if field.shares_table_with),
            f"din.hidden_units={list(self.attention_units)}",
            *(
                f"{model}.{key}={value}"
                for model in ("bst", "sin")
                for key, value in (
                    ("num_heads", self.num_heads),
                    ("feedforward_dim", self.feedforward_dim),
                    ("dropout", self.dropout),
                )
            ),
        ]
        return [
            f"model_name={self.model}",
            f"seed={self.seed}",
            "device=cpu",
            f"feature.embedding_dim={self.embedding_dim}",
            f"feature.fm_embed_dim={self.embedding_dim}",
            "feature.projection=if_needed",
            "feature.embedding_l2_reg=0",
            f"dnn.hidden_units={list(self.hidden_units)}",
            f"dnn.use_batch_norm={str(self.batch_norm).lower()}",
            f"dnn.dropout={self.dropout}",
            *([f"cin.layer_sizes={list(self.cin_layers)}"] if self.cin_layers else []),
            f"cin.split_half={str(self.cin_split_half).lower()}",
            f"cin.activation={self.cin_activation}",
            f"training.batch_size={self.batch_size}",
            f"training.lr={self.lr}",
            f"training.gradient_clip_norm={self.clip_norm}",
            *(behaviour if self.attention_units else []),
        ]


@dataclass(frozen=True)
class Rows:
    """Encoded columns `(N, …)`, labels `(N,)` and, for candidates, where each user's rows begin and end `(U + 1,)`."""

    columns: Columns
    labels: NDArray[np.float32]
    offsets: NDArray[np.int64] | None = None

    @classmethod
    def read(cls, path: Path, fields: tuple[Field, ...], limit: int | None = None) -> "Rows":
        with np.load(path, allow_pickle=False) as arrays:
            columns = {field.name: arrays[field.name][:limit] for field in fields}
            return cls(columns, arrays["label"][:limit], arrays.get("offsets"))

    def part(self, start: int, end: int) -> "Rows":
        return Rows({name: column[start:end] for name, column in self.columns.items()}, self.labels[start:end])
