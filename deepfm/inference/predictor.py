"""Probabilities of raw rows from a run's folder alone; the data that it was trained on may be gone."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepfm.data.adapters import preparation
from deepfm.data.entities import Entities
from deepfm.data.grouplens.rows import MovieLensRows
from deepfm.data.saved_encoders import load_encoders
from deepfm.data.schema import DatasetSchema
from deepfm.data.tables.csv_files import ReadOptions
from deepfm.data.tables.encoder import TableEncoder
from deepfm.data.tables.files import DEFAULT, require_columns, scan_table
from deepfm.data.tables.rows import frames
from deepfm.data.tables.schema import TableSchema
from deepfm.engine.device import resolve_device
from deepfm.engine.run import RunFolder
from deepfm.errors import CheckpointError, RunError
from deepfm.models import BaseCTRModel, create_model, evaluation_mode
from deepfm.models.calibration import Calibration
from deepfm.models.layers.kernels import scoring_kernels
from deepfm.training.experiment import run_config
from deepfm.training.scoring import SCORING_ROWS
from deepfm.utils.io import read_json
from deepfm.utils.logging import get_logger

ENOUGH = 20  # rows from which on a column without one known value is no chance
log = get_logger(__name__)


@dataclass(frozen=True, eq=False)
class ScoredRows:
    """A part of a table with its scores.

    Args:
        rows: the raw rows, as they were read.
        logits: `(N,)` float32.
        probabilities: `(N,)` float64, calibrated where the run is.
    """

    rows: pl.DataFrame
    logits: NDArray[np.float32]
    probabilities: NDArray[np.float64]


class Predictor:
    """Scores raw rows as the run's training saw them; categories that training did not know are unknown ones.

    Rows of a MovieLens run need `user_id` and `movie_id`; whatever else its model reads is what the run kept, unless a
    row says it.

    Args:
        encoder: the run's own.
        model: with the run's best weights.
        prepare: what raw rows go through first (see `deepfm.data.adapters.preparation`); None for nothing.

    Example:
        >>> Predictor.load("outputs/clicks/20261128-120000-s42").predict({"user": ["u1"], "price": [3.5]})
        ... # doctest: +SKIP
        array([0.27])
    """

    def __init__(
        self, encoder: TableEncoder | MovieLensRows, model: BaseCTRModel, prepare: Callable[..., Any] | None = None
    ) -> None:
        self.encoder, self.model, self._prepare = encoder, model, prepare
        self.device = next(model.parameters()).device

    def __repr__(self) -> str:
        return f"Predictor({type(self.model).__name__}, {self.encoder!r}, on {self.device})"

    @classmethod
    def load(cls, run: str | Path | RunFolder, device: str = "auto") -> "Predictor":
        """Read a run's folder.

        Raises:
            RunError: the folder holds no run of a table or of MovieLens, or a baseline's.
            CheckpointError: the weights are damaged, or do not fit the run's schema.
        """
        folder = run if isinstance(run, RunFolder) else RunFolder(run)
        if folder.finished and folder.read_results()["kind"] == "baseline":
            raise RunError(f"{folder.path} is a baseline's run, which has no weights; name a model's run")
        folder.require("config", "schema", "encoders", "weights")
        config = run_config(folder)
        schema = DatasetSchema.load(folder.schema)
        model = create_model(config.model_name, schema, config)
        weights = folder.load_weights({"schema": schema.fingerprint(), "model": config.model_name})
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{folder.weights} does not fit the run's configuration: {reason}") from error
        if folder.calibration.exists():
            model.calibration = Calibration.from_dict(read_json(folder.calibration, "calibration"))
        prepare = preparation(config.data.dataset_name)
        return cls(_row_encoder(folder, schema), model.to(resolve_device(device)), prepare)

    @property
    def columns(self) -> list[str]:
        """The columns that rows must have, once they are prepared."""
        return self.ids if isinstance(self.encoder, MovieLensRows) else list(self.encoder.schema.columns)

    @property
    def ids(self) -> list[str]:
        """The columns of the user and of the item, where the data have such."""
        schema = self.model.schema
        return [name for name in (schema.user_field, schema.item_field) if name is not None]

    def predict(self, data: Any, options: ReadOptions = DEFAULT) -> NDArray[np.float64]:
        """Probabilities `(N,)`, one a row.

        Args:
            data: a pandas, polars or pyarrow frame, a dict of arrays, or a path, folder or glob of files. The label
                need not be there, and columns that are no features are ignored.
            options: how CSV files are read.

        Raises:
            DataError: a column is missing or of another type, or a row holds what its column cannot.
        """
        parts = [part.probabilities for part in self.batches(data, options)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def logits(self, data: Any, options: ReadOptions = DEFAULT) -> NDArray[np.float32]:
        """Raw logits `(N,)`, as training's evaluation sees them; otherwise as `predict`."""
        parts = [part.logits for part in self.batches(data, options)]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)

    def batches(self, data: Any, options: ReadOptions = DEFAULT) -> Iterator[ScoredRows]:
        """The rows in order, at least one part, which may be empty; little of a table is held in memory at once.

        Raises:
            DataError: as `predict`.
        """
        where = _named(data)
        first_row = 0
        known: dict[str, bool] = {}
        for rows, features in self.encoded(data, options):
            self._note_known(known, features)
            logits = self._score(features)
            yield ScoredRows(rows, logits.numpy(), self._probabilities(logits).numpy())
            first_row += len(rows)
        if first_row >= ENOUGH:
            for name in (name for name, any_known in known.items() if not any_known):
                log.warning(
                    "every value of column %r of %s is empty or unknown to the run; compare with how its training data "
                    "wrote them", name, where,
                )  # fmt: skip
        if not first_row:
            table = scan_table(data, options)
            require_columns(self._prepared(table, where), self.columns, where)
            none = np.zeros(0, dtype=np.float32)
            yield ScoredRows(table.head(0).collect(), none, none.astype(np.float64))

    def encoded(
        self, data: Any, options: ReadOptions = DEFAULT
    ) -> Iterator[tuple[pl.DataFrame, dict[str, NDArray[Any]]]]:
        """The rows in order, a part at a time, each with its features `{field: (N, …)}` as the model reads them.

        Raises:
            DataError: as `predict`.
        """
        where = _named(data)
        first_row = 0
        for rows in frames(scan_table(data, options), where):
            prepared = self._prepared(rows.lazy(), where, first_row)
            yield rows, self.encoder.transform(prepared, where, first_row)
            first_row += len(rows)

    def _prepared(self, rows: pl.LazyFrame, where: str, first_row: int = 0) -> pl.LazyFrame:
        return rows if self._prepare is None else self._prepare(rows, where, first_row)

    def _note_known(self, known: dict[str, bool], features: dict[str, NDArray[Any]]) -> None:
        """Which columns of listed ids have held a value that training knew."""
        if isinstance(self.encoder, TableEncoder):
            for name, index in self.encoder.unknown.items():
                ids = features[name]
                known[name] = known.get(name, False) or bool(((ids != 0) & (ids != index)).any())

    @torch.inference_mode()
    def _score(self, features: dict[str, NDArray[Any]]) -> Tensor:
        """Logits `(N,)` on the CPU."""
        columns = {name: torch.from_numpy(np.ascontiguousarray(column)) for name, column in features.items()}
        count = len(next(iter(columns.values())))
        parts = []
        with evaluation_mode(self.model), scoring_kernels():
            for start in range(0, count, SCORING_ROWS):
                batch = {name: column[start : start + SCORING_ROWS].to(self.device) for name, column in columns.items()}
                parts.append(self.model(batch).squeeze(1).float().cpu())
        return torch.cat(parts)

    def _probabilities(self, logits: Tensor) -> Tensor:
        exact = logits.double()
        return torch.sigmoid(exact) if self.model.calibration is None else self.model.calibration(exact)


def _named(data: Any) -> str:
    """What errors call the rows."""
    return str(data) if isinstance(data, str | Path) else "the table"


def _row_encoder(run: RunFolder, schema: DatasetSchema) -> TableEncoder | MovieLensRows:
    """What encodes rows as a run's training did."""
    encoders = load_encoders(run.encoders)
    if run.table_schema.exists():
        return TableEncoder(TableSchema.load(run.table_schema), encoders)
    if not MovieLensRows.fits(encoders):
        raise RunError(
            f"{run.path} is neither a table's run (it holds no {run.table_schema.name}) nor one of MovieLens, so its "
            "raw rows cannot be encoded; build the adapter on TableAdapter (docs/adapters.md), or score encoded rows "
            "with the model itself"
        )
    longest = max((field.max_length for field in schema.behaviour_fields), default=0)
    return MovieLensRows(encoders, longest, Entities.load(run))
