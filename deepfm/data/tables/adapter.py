"""Any table as training, validation and test rows with a label: three files, or one that is split."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from deepfm.config import DataConfig
from deepfm.data.adapter import DataInfo
from deepfm.data.dataset import TabularDataset
from deepfm.data.negatives import Candidates
from deepfm.data.saved_encoders import save_encoders
from deepfm.data.schema import DatasetSchema
from deepfm.data.store import StoreWriter, open_store
from deepfm.data.streaming import StreamedDataset
from deepfm.data.tables.encoder import TableEncoder
from deepfm.data.tables.entities import table_entities
from deepfm.data.tables.infer import infer_schema
from deepfm.data.tables.rows import EncodedRows, require_rows
from deepfm.data.tables.schema import TableSchema
from deepfm.data.tables.source import PARTS, TableSource, open_source
from deepfm.data.tables.split import split_table
from deepfm.engine.memory import free_memory
from deepfm.engine.run import RunFolder
from deepfm.errors import ConfigError, DataError
from deepfm.utils.logging import get_logger

SCHEMA_FILE = "schema.yaml"  # beside three files, where data.table_schema names no other
ENCODING_SHARE = 0.5  # of free memory that encoding all rows at once may take
CELL_BYTES = 24  # what a cell takes at most while it is encoded
log = get_logger(__name__)


class TableAdapter:
    """Builds data sets from tables (CSV, TSV, compressed, Parquet, or frames in memory) and a table schema.

    Args:
        data: the folder of `train`, `valid` and `test` files, unless `config.table` names one table; or one table in
            memory: a pandas, polars or pyarrow frame, or a dict of arrays.
        config: names, reading, split and streaming.
        schema: a run's own, or one made in Python, instead of the file that `config` names; without either, one
            table's is inferred.

    Raises:
        DataError: a file is missing.
        SchemaError: the table schema is missing or impossible.

    Example:
        >>> adapter = TableAdapter("data/Frappe_x1", DataConfig(dataset_name="table"))  # doctest: +SKIP
        >>> schema, train, validation, test = adapter.build()  # doctest: +SKIP
    """

    has_candidates: ClassVar[bool] = False

    def __init__(self, data: Any, config: DataConfig, *, schema: TableSchema | None = None) -> None:
        self.config = config
        if schema is None and config.table is None and isinstance(data, str | Path):
            schema = _described(config.table_schema or Path(data) / SCHEMA_FILE, config)
        elif schema is None and config.table_schema is not None:
            schema = _described(config.table_schema, config)
        self.source: TableSource = open_source(data, config)
        self.schema = schema or _inferred(self.source, config)
        self.info = DataInfo(self.source.name, self.source.hash, "files")
        self.encoders: dict[str, Any] = {}
        self.candidates: dict[str, Candidates] = {}

    def __repr__(self) -> str:
        return f"TableAdapter({self.info.name!r}, {len(self.schema.columns)} columns)"

    def build(
        self, encoders: Mapping[str, Any] | None = None, candidates: Mapping[str, Candidates] | None = None
    ) -> tuple[DatasetSchema, TabularDataset, TabularDataset, TabularDataset]:
        """The schema, and the training, validation and test rows.

        Args:
            encoders: those of a finished run, used as they are; None to fit them on the training rows.
            candidates: there are none.

        Raises:
            DataError: a file cannot be read, lacks a column, or holds what its columns cannot.
            ConfigError: the split needs a role that the schema has not.
        """
        parts = None if self.source.is_split else self._parts()
        encoder = TableEncoder(self.schema, encoders)
        if encoders is None:
            encoder.fit(*self._training(parts))
        self.encoders = encoder.encoders
        schema = encoder.dataset_schema()
        streams = self._streams(parts, schema)
        datasets = self._streamed(encoder, parts) if streams else self._in_memory(encoder, parts)
        for stem, dataset in datasets.items():
            self._check_classes(self._named(stem), dataset, evaluated=stem != "train")
            if stem != "train" and not streams:
                self._warn_of_unknown(self._named(stem), dataset, encoder.unknown)
        train, validation, test = (datasets[stem] for stem in PARTS)
        log.info(
            "data %s (%s): %d rows for training, %d for validation, %d for the test; %d fields, %d ids%s",
            self.info.name, self.info.hash[:12], len(train), len(validation), len(test), schema.num_fields,
            sum(field.vocabulary_size for field in schema.fields.values() if field.shares_embedding_with is None),
            "; streamed" if streams else "",
        )  # fmt: skip
        return schema, train, validation, test

    def save(self, run: RunFolder) -> None:
        """Write what later commands need: encoders, the table schema, and users and items where there are such."""
        save_encoders(self.encoders, run.encoders)
        self.schema.save(run.table_schema)
        if self.schema.user is not None and self.schema.item is not None:
            training = self._training(None if self.source.is_split else self._parts())
            every = {self.source.where[stem]: table for stem, table in self.source.tables.items()}
            table_entities(self.schema, training, every).save(run)

    def protocol(self) -> dict[str, Any]:
        """What must be equal for two runs' metrics to be comparable: the files are the split, or how it was made."""
        if self.source.is_split:
            return {"split_strategy": "files", "label": self.schema.label}
        strategy: dict[str, Any] = {"split_strategy": self.config.split_strategy, "label": self.schema.label}
        if self.config.split_strategy == "random":
            return strategy | {"split_seed": self.config.candidate_seed}
        if self.config.split_strategy == "leave_one_out":
            strategy |= {"user": self.schema.user, "min_interactions": self.config.min_interactions}
        return strategy | {"time": self.schema.time}

    def _parts(self) -> NDArray[np.int8]:
        config = self.config
        return split_table(
            self.source.tables[""], self.schema, config.split_strategy, config.candidate_seed,
            config.min_interactions, self.source.where[""],
        )  # fmt: skip

    def _training(self, parts: NDArray[np.int8] | None) -> tuple[pl.LazyFrame, str]:
        if parts is None:
            return self.source.tables["train"], self.source.where["train"]
        name = "part of the row"
        beside = pl.LazyFrame({name: parts})
        whole = pl.concat([self.source.tables[""], beside], how="horizontal")
        return whole.filter(pl.col(name) == 0).drop(name), f"the training rows of {self.source.where['']}"

    def _streams(self, parts: NDArray[np.int8] | None, schema: DatasetSchema) -> bool:
        streaming = self.config.streaming
        if isinstance(streaming, bool):
            return streaming
        if parts is None:
            rows = sum(int(table.select(pl.len()).collect().item()) for table in self.source.tables.values())
        else:
            rows = len(parts)
        cells = sum(max(field.max_length, field.dimension, 1) for field in schema.fields.values())
        return rows * cells * CELL_BYTES > ENCODING_SHARE * free_memory()

    def _streamed(self, encoder: TableEncoder, parts: NDArray[np.int8] | None) -> dict[str, TabularDataset]:
        """The parts in encoded files, written unless whole ones are there."""
        states = {name: one.to_dict() for name, one in encoder.encoders.items()}
        described = [self.info.hash, self.schema.to_dict(), states, self.protocol(), encoder.dataset_schema().to_dict()]
        key = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
        folder = cache_folder(self.config) / key[:32]
        if open_store(folder, key) is None:
            tables, where = self.source.tables, self.source.where
            with StoreWriter(folder, key, list(PARTS)) as writer:
                if parts is None:
                    for stem in PARTS:
                        for rows in encoder.batches(tables[stem], where[stem]):
                            writer.append(stem, rows)
                else:
                    start = 0
                    for rows in encoder.batches(tables[""], where[""]):
                        assert rows.labels is not None
                        numbers = parts[start : start + len(rows.labels)]
                        for number, stem in enumerate(PARTS):
                            writer.append(stem, rows.where(numbers == number))
                        start += len(numbers)
        shards = open_store(folder, key)
        if shards is None:
            raise DataError(f"the encoded rows in {folder} are damaged; remove that folder and try again")
        return {stem: StreamedDataset(shards[stem], self.config.buffer_rows) for stem in PARTS}

    def _in_memory(self, encoder: TableEncoder, parts: NDArray[np.int8] | None) -> dict[str, TabularDataset]:
        tables, where = self.source.tables, self.source.where
        if parts is None:
            return {stem: _dataset(stem, encoder.encode(tables[stem], where[stem])) for stem in PARTS}
        rows = encoder.encode(tables[""], where[""])
        return {stem: _dataset(stem, rows.where(parts == part)) for part, stem in enumerate(PARTS)}

    def _named(self, stem: str) -> str:
        """What an error calls a part."""
        if self.source.is_split:
            return self.source.where[stem]
        return f"the {PARTS[stem]} rows of {self.source.where['']}"

    def _check_classes(self, where: str, part: TabularDataset, evaluated: bool) -> None:
        """Refuse labels that training or AUC cannot work with."""
        label, values = self.schema.label, part.labels
        require_rows(len(values), where)
        if evaluated:
            between = ((values != 0) & (values != 1)).nonzero()
            if len(between):
                row = int(between[0])
                raise DataError(
                    f"column {label!r} of {where} holds {values[row].item():g} in row {row + 1}; expected 0 or 1, as "
                    "AUC compares rows of one with rows of the other"
                )
        if bool((values == values[0]).all()):
            raise DataError(
                f"column {label!r} of {where} is {values[0].item():g} in every one of {len(values):,} rows; expected "
                "both 0 and 1, so take other rows or another label"
            )

    def _warn_of_unknown(self, where: str, part: TabularDataset, unknown: Mapping[str, int]) -> None:
        """Say which columns hold no value that the training rows know: nothing is learned for such."""
        for name, index in unknown.items():
            ids = part.features[name]
            if bool(((ids == 0) | (ids == index)).all()):
                log.warning(
                    "every value of column %r of %s is empty or unknown to the training rows; compare how both write "
                    "them", name, where,
                )  # fmt: skip


def _dataset(stem: str, rows: EncodedRows) -> TabularDataset:
    """A part's rows; only training weighs them."""
    assert rows.labels is not None
    return TabularDataset(rows.features, rows.labels, rows.weights if stem == "train" else None)


def cache_folder(config: DataConfig) -> Path:
    """Where encoded files lie."""
    if config.cache_dir is not None:
        return Path(config.cache_dir)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "deepfm")


def _described(path: str | Path, config: DataConfig) -> TableSchema:
    """A schema in a file, which names the roles; it may lack the time, which then is what the configuration says."""
    schema = TableSchema.load(path)
    for role in ("label", "user", "item", "time"):
        given = getattr(config, role)
        if given is not None and given != getattr(schema, role) and not (role == "time" and schema.time is None):
            raise ConfigError(
                f"data.{role} = {given!r} and the table schema {path} has {role} {getattr(schema, role)!r}; leave out "
                f"data.{role} (--{role}), or write it there"
            )
    return schema if schema.time or not config.time else replace(schema, time=config.time)


def _inferred(source: TableSource, config: DataConfig) -> TableSchema:
    """The schema of one table that nobody described."""
    if source.is_split:
        raise ConfigError("three files need a table schema; write one with deepfm schema infer, and name it")
    roles = {role: getattr(config, role) for role in ("label", "user", "item", "time")}
    inferred = infer_schema(source.tables[""], **roles, where=source.where[""])
    for name, reason in inferred.reasons.items():
        log.info("column %s: %s", name, reason)
    for name, reason in inferred.left_out.items():
        log.info("column %s is left out: %s", name, reason)
    return inferred.schema
