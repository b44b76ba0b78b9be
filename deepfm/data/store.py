"""Encoded rows in sharded Parquet files, whole or not at all: what training streams from."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from deepfm.data.tables.rows import EncodedRows
from deepfm.errors import DataError
from deepfm.utils.io import write_json

STORE_VERSION = 1
SHARD_ROWS = 131_072
MANIFEST = "manifest.json"
FIELD, LABEL, WEIGHT = "field ", "label", "weight"  # a shard's columns


@dataclass(frozen=True)
class Shard:
    """One file: where it is, its rows, and its size, by which a cut file is known."""

    path: Path
    rows: int
    size: int


class StoreWriter:
    """Writes the rows of several parts beside each other, and then gives the folder its name.

    Args:
        folder: what it will be called; it must not be there.
        key: of what is encoded, which opening compares.
        parts: the names of the parts.

    Raises:
        DataError: the disk refuses; nothing is left of the folder.
    """

    def __init__(self, folder: Path, key: str, parts: Sequence[str]) -> None:
        self.folder, self.key = folder, key
        self._beside = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
        self._waiting: dict[str, list[pa.Table]] = {part: [] for part in parts}
        self._shards: dict[str, list[dict[str, Any]]] = {part: [] for part in parts}

    def __enter__(self) -> "StoreWriter":
        try:
            self._beside.mkdir(parents=True)
        except OSError as error:
            raise self._refusal(error) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        try:
            if kind is None:
                for part in self._waiting:
                    self._write(part, rest=True)
                write_json(self._beside / MANIFEST, {"version": STORE_VERSION, "key": self.key, "parts": self._shards})
                shutil.rmtree(self.folder, ignore_errors=True)
                os.replace(self._beside, self.folder)
        except OSError as refused:
            raise self._refusal(refused) from refused
        finally:
            shutil.rmtree(self._beside, ignore_errors=True)
        if isinstance(error, OSError):
            raise self._refusal(error) from error

    def append(self, part: str, rows: EncodedRows) -> None:
        """Take labelled rows of a part; files are written as they fill."""
        columns = {FIELD + name: _column(values) for name, values in rows.features.items()}
        columns[LABEL] = pa.array(rows.labels)
        if rows.weights is not None:
            columns[WEIGHT] = pa.array(rows.weights)
        self._waiting[part].append(pa.table(columns))
        if sum(len(table) for table in self._waiting[part]) >= SHARD_ROWS:
            self._write(part)

    def _write(self, part: str, rest: bool = False) -> None:
        """Write what waits in full files, and with `rest` in a last one, so that they depend on no batch of rows."""
        waiting, self._waiting[part] = self._waiting[part], []
        if not waiting or not (rows := sum(map(len, waiting))):
            return
        table = pa.concat_tables(waiting)
        until = rows if rest else rows - rows % SHARD_ROWS
        if until < rows:
            self._waiting[part].append(table.slice(until))
        for start in range(0, until, SHARD_ROWS):
            piece = table.slice(start, SHARD_ROWS)
            name = f"{part}-{len(self._shards[part]):05d}.parquet"
            path = self._beside / name
            pq.write_table(piece, path, compression="lz4", use_dictionary=False, write_statistics=False)
            self._shards[part].append({"name": name, "rows": len(piece), "size": path.stat().st_size})

    def _refusal(self, error: OSError) -> DataError:
        reason = error.strerror or str(error)
        return DataError(
            f"encoded rows cannot be written to {self.folder.parent}: {reason}; free space there, or set data.cache_dir"
        )


def open_store(folder: Path, key: str) -> dict[str, list[Shard]] | None:
    """The shards of each part; None where the folder is not whole, or of something else."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if (manifest["version"], manifest["key"]) != (STORE_VERSION, key):
            return None
        parts = {
            part: [Shard(folder / one["name"], one["rows"], one["size"]) for one in shards]
            for part, shards in manifest["parts"].items()
        }
        whole = all(shard.path.stat().st_size == shard.size for shards in parts.values() for shard in shards)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return parts if whole else None


def read_shard(shard: Shard, columns: Sequence[str] | None = None) -> EncodedRows:
    """A shard's rows.

    Args:
        columns: of a shard; None for all.

    Raises:
        DataError: the file is gone or damaged.
    """
    try:
        table = pq.read_table(shard.path, columns=columns, use_threads=False, memory_map=True)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{shard.path} is missing or damaged; remove its folder, and the rows are encoded anew"
        ) from error
    arrays = {name: _array(table[name]) for name in table.column_names}
    features = {name.removeprefix(FIELD): values for name, values in arrays.items() if name.startswith(FIELD)}
    return EncodedRows(features, arrays.get(LABEL), arrays.get(WEIGHT))


def joined(rows: Sequence[EncodedRows]) -> EncodedRows:
    """Several sets of rows as one."""
    if len(rows) == 1:
        return rows[0]
    features: Mapping[str, Any] = {
        name: np.concatenate([one.features[name] for one in rows]) for name in rows[0].features
    }
    labels = [one.labels for one in rows if one.labels is not None]
    weights = [one.weights for one in rows if one.weights is not None]
    return EncodedRows(
        dict(features), np.concatenate(labels) if labels else None, np.concatenate(weights) if weights else None
    )


def _column(values: NDArray[Any]) -> pa.Array:
    if values.ndim == 1:
        return pa.array(values)
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _array(column: pa.ChunkedArray) -> NDArray[Any]:
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = pa.concat_arrays(whole.chunks)
    if pa.types.is_fixed_size_list(whole.type):
        return np.asarray(whole.flatten()).reshape(len(whole), whole.type.list_size)
    return np.asarray(whole)
