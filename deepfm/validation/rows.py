"""A person's own encoded rows, from an `.npz` with one array per field."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfm.data.dataset import TabularDataset
from deepfm.data.schema import DatasetSchema
from deepfm.errors import DataError

Columns = Mapping[str, NDArray[Any]]
HELD_OUT = 0.1


def load_rows(path: str | Path, schema: DatasetSchema) -> TabularDataset:
    """The rows of a file.

    Args:
        path: an `.npz` with an array for every field, `(N,)`, or `(N, max_length)` for sequences, and one for the
            label; other arrays are left aside. Nothing in it is ever unpickled.

    Raises:
        DataError: the file is missing or damaged, lacks a column, or holds objects, text or NaN.
        SchemaError: a column does not fit its field.
    """
    return _dataset(load_columns(path, schema), schema)


def hold_out(path: str | Path, schema: DatasetSchema) -> tuple[TabularDataset, TabularDataset]:
    """The rows of a file in two parts: the last tenth for validation, the others for training.

    Raises:
        DataError: as `load_rows`, or fewer than two rows.
        SchemaError: as `load_rows`.
    """
    columns = load_columns(path, schema)
    rows = len(columns[schema.label_field])
    if rows < 2:
        raise DataError(f"{path} has {rows} rows; expected enough to train on and to hold some out")
    held_out = max(1, round(rows * HELD_OUT))
    first, last = slice(-held_out), slice(-held_out, None)
    train, validation = (
        _dataset({name: column[part] for name, column in columns.items()}, schema) for part in (first, last)
    )
    return train, validation


def load_columns(path: str | Path, schema: DatasetSchema) -> Columns:
    """The arrays of a file that the schema names, all of one length and finite."""
    wanted = [*schema.fields, schema.label_field]
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise DataError(f"rows {path} are one array; expected an .npz with one each for {', '.join(wanted)}")
        with loaded as arrays:
            missing = [name for name in wanted if name not in arrays.files]
            if missing:
                raise DataError(
                    f"rows {path} have no column {missing[0]!r}; expected one array each for {', '.join(wanted)}, "
                    f"got {', '.join(arrays.files) or 'none'}"
                )
            columns = {name: arrays[name] for name in wanted}
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"rows {path} do not exist; expected an .npz with one array for each field") from error
    except Exception as error:  # numpy and zipfile raise a dozen kinds for one damaged file
        reason = " ".join(str(error).split())[:120]
        raise DataError(
            f"rows {path} cannot be read ({reason}); expected an .npz of number arrays, as numpy.savez writes"
        ) from error
    for name, column in columns.items():
        _check_column(path, name, column, len(columns[schema.label_field]))
    return columns


def _check_column(path: str | Path, name: str, column: NDArray[Any], rows: int) -> None:
    if column.dtype.kind not in "iufb":
        raise DataError(f"column {name!r} of {path} holds {column.dtype}; expected numbers, so encode texts as ids")
    if column.ndim == 0 or len(column) != rows:
        raise DataError(
            f"column {name!r} of {path} has the shape {column.shape}; expected {rows} rows, as the label has"
        )
    if column.dtype.kind == "f" and not np.isfinite(column).all():
        row = int(np.argwhere(~np.isfinite(column))[0][0])
        raise DataError(f"column {name!r} of {path} holds NaN or infinity in row {row}; fill or leave out such rows")


def _dataset(columns: Columns, schema: DatasetSchema) -> TabularDataset:
    dataset = TabularDataset({name: columns[name] for name in schema.fields}, columns[schema.label_field])
    dataset.check(schema)
    return dataset
