"""The catalogue: which pre-trained models there are, what they cost, and where their weights lie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import polars as pl
from numpy.typing import NDArray

from deepfm.errors import DataError
from deepfm.model_selection.tables import in_columns, read_table, write_table

COLUMNS: Mapping[str, pl.DataType] = {
    "model": pl.String(),  # its name, unique
    "family": pl.String(),  # what was pre-trained alike: the source data set, say; unseen families are held out whole
    "architecture": pl.String(),
    "parameters": pl.Int64(),
    "macs": pl.Float64(),  # multiply-adds of one row
    "latency_ms": pl.Float64(),  # of one row, on the machine that the catalogue was made on
    "licence": pl.String(),
    "weights": pl.String(),  # a path relative to the catalogue's folder
}
NEEDED = ("model", "family", "architecture")


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Pre-trained models, one row each.

    Args:
        rows: the columns of `COLUMNS`, in their order; only `NEEDED` ones must be filled. Further columns stay.
        folder: what `weights` is relative to.

    Raises:
        DataError: a column is missing or of another type, a model's name is empty or stands twice, or a cost is
            negative or not finite.
    """

    rows: pl.DataFrame
    folder: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", in_columns(self.rows, COLUMNS, NEEDED, "catalogue"))
        if "" in self.rows["model"]:
            raise DataError("catalogue has a model with an empty name; expected a name in every row")
        twice = self.rows.filter(pl.col("model").is_duplicated())["model"]
        if len(twice):
            raise DataError(f"catalogue has model {twice[0]!r} more than once; expected one row a model")
        for name in ("parameters", "macs", "latency_ms"):
            bad = self.rows.filter((pl.col(name) < 0) | ~pl.col(name).cast(pl.Float64).is_finite())
            if len(bad):
                raise DataError(
                    f"catalogue has {name} = {bad[name][0]} for model {bad['model'][0]!r}; expected a number from 0, "
                    "or nothing where it is not known"
                )

    @property
    def models(self) -> list[str]:
        """The names, in the catalogue's order."""
        return self.rows["model"].to_list()

    @property
    def families(self) -> NDArray[np.str_]:
        """The family of each model, `(M,)`."""
        return self.rows["family"].to_numpy().astype(np.str_)

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, model: str) -> dict[str, Any]:
        """What is known of a model.

        Raises:
            DataError: the catalogue has it not.
        """
        found = self.rows.filter(pl.col("model") == model)
        if not len(found):
            self._absent(model)
        return found.row(0, named=True)

    def subset(self, models: Sequence[str]) -> "Catalogue":
        """The catalogue of these models, in this order.

        Raises:
            DataError: one of them is not here.
        """
        place = {model: i for i, model in enumerate(self.models)}
        return Catalogue(
            self.rows[[place[model] if model in place else self._absent(model) for model in models]], self.folder
        )

    def joined(self, further: "Catalogue") -> "Catalogue":
        """Both catalogues' models; paths of weights stay relative to this one's folder, so `further` may have none.

        Raises:
            DataError: a model stands in both, or `further` has weights.
        """
        if further.rows["weights"].null_count() < len(further):
            raise DataError("a catalogue with weights cannot be joined to another folder's; save it as its own")
        return Catalogue(pl.concat([self.rows, further.rows], how="diagonal_relaxed"), self.folder)

    def costs(self, name: str) -> NDArray[np.float64]:
        """One cost of every model, `(M,)`: "parameters", "macs" or "latency_ms"; NaN where it is not known."""
        return self.rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy()

    def _absent(self, model: str) -> NoReturn:
        raise DataError(f"model {model!r} is not in the catalogue of {len(self)} models; add a row for it")

    def weights_of(self, model: str) -> Path:
        """The file with a model's weights.

        Raises:
            DataError: the catalogue names none, or the file is not there.
        """
        named = self.row(model)["weights"]
        if named is None:
            raise DataError(
                f"model {model!r} has no weights in the catalogue, so it cannot be embedded or probed; "
                "name its file in the column 'weights', or rank it by its history alone"
            )
        path = self.folder / named
        if not path.is_file():
            raise DataError(f"the weights of model {model!r} are not at {path}; restore the file or mend the catalogue")
        return path

    def save(self, path: Path) -> None:
        """Write the rows as Parquet, whole or not at all."""
        write_table(self.rows, path)

    @classmethod
    def load(cls, path: Path) -> "Catalogue":
        """Read Parquet or CSV; `weights` are relative to its folder.

        Raises:
            DataError: it cannot be read, or holds no catalogue.
        """
        return cls(read_table(path, "catalogue"), path.parent)
