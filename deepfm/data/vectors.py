"""Vectors that come with the data: pre-trained ones by id, and their widths."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from deepfm.data.categories import id_text
from deepfm.errors import DataError


class VectorTable:
    """Ids as text → vectors `(N, K)`; an unknown id has zeros, which add nothing anywhere.

    Args:
        ids: V distinct texts; none where a column holds the vectors themselves.
        vectors: `(V, K)` float32.
    """

    kind: ClassVar[str] = "vector"

    def __init__(self, ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
        self.ids, self.vectors = list(ids), vectors

    def __repr__(self) -> str:
        return f"VectorTable({len(self.ids)} ids, width {self.width})"

    @property
    def width(self) -> int:
        """K."""
        return int(self.vectors.shape[1])

    @classmethod
    def load(cls, path: str | Path) -> "VectorTable":
        """Read a Parquet file of two columns, an id and a list of numbers.

        Raises:
            DataError: the file cannot be read or holds something else; ids twice, vectors of several widths.
        """
        try:
            frame = pl.read_parquet(path)
        except FileNotFoundError as error:
            raise DataError(
                f"vectors file {path} does not exist; name a Parquet file of two columns, an id and a list of numbers"
            ) from error
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = " ".join(str(error).split())[:150]
            raise DataError(
                f"vectors file {path} cannot be read: {reason}; expected a Parquet file, so write it again"
            ) from error
        lists = [name for name, kind in frame.schema.items() if isinstance(kind, pl.List | pl.Array)]
        if frame.width != 2 or len(lists) != 1:
            raise DataError(
                f"vectors file {path} has the columns {', '.join(frame.columns)}; expected two, an id and a list"
            )
        ((key, kind),) = [(name, kind) for name, kind in frame.schema.items() if name not in lists]
        ids = frame.select(id_text(pl.col(key), kind)).to_series()
        if ids.null_count() or ids.n_unique() != len(ids):
            raise DataError(f"vectors file {path} has ids twice or empty in {key!r}; expected each id once")
        return cls(ids.to_list(), vector_matrix(frame[lists[0]], None, str(path)))

    def encode(self, texts: pl.Series) -> NDArray[np.float32]:
        """The vectors `(N, K)` of ids as text."""
        known = texts.cast(pl.Enum(self.ids), strict=False).to_physical().cast(pl.Int64)
        rows = (known + 1).fill_null(0).to_numpy()
        padded = np.concatenate([np.zeros((1, self.width), dtype=np.float32), self.vectors])
        return padded[rows]

    def to_dict(self) -> dict[str, Any]:
        """The width, as JSON-ready data; ids and vectors are saved beside (`deepfm.data.transforms`)."""
        return {"kind": self.kind, "width": self.width}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "VectorTable":
        """What `to_dict` gave, and `ids` and `vectors` where there are any."""
        width = int(plain["width"])
        vectors = np.asarray(plain.get("vectors", np.zeros((0, width))), dtype=np.float32)
        return cls(plain.get("ids", []), vectors.reshape(-1, width))


def vector_matrix(lists: pl.Series, width: int | None, where: str, first_row: int = 0) -> NDArray[np.float32]:
    """Lists of numbers as `(N, K)`; a missing list is zeros.

    Args:
        width: K; None for that of the first list.

    Raises:
        DataError: a list of another width, or with something that is no finite number; its row is named.
    """
    if isinstance(lists.dtype, pl.Array):
        lists = lists.arr.to_list()
    lengths = lists.list.len().to_numpy() if lists.null_count() == 0 else lists.list.len().fill_null(-1).to_numpy()
    lengths = lengths.astype(np.int64)
    given = np.flatnonzero(lengths >= 0)
    if width is None:
        if not len(given) or not lengths[given[0]]:
            raise DataError(f"{where} holds no vector; expected lists of numbers")
        width = int(lengths[given[0]])
    wrong = given[lengths[given] != width]
    if len(wrong):
        raise DataError(
            f"{where} holds a vector of {lengths[wrong[0]]} numbers in row {first_row + wrong[0] + 1}; expected {width}"
        )
    matrix = np.zeros((len(lists), width), dtype=np.float32)
    if len(given):
        flat = lists.drop_nulls().explode().cast(pl.Float32, strict=False).fill_null(np.nan).to_numpy()
        matrix[given] = flat.reshape(-1, width)
    bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    if len(bad):
        raise DataError(
            f"{where} holds a vector with something that is no finite number in row {first_row + bad[0] + 1}; mend it"
        )
    return matrix
