"""What a run keeps of its users, its items and what was seen, so that it can be used when the data are gone."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deepfm.engine.run import RunFolder
from deepfm.errors import RunError
from deepfm.utils.io import atomic_path

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, eq=False)
class Entities:
    """Raw columns, one row a user and one row an item, and pairs of the two.

    Args:
        users, items: the first column identifies the row.
        seen: columns `user` and `item`, each pair once.
    """

    users: "pl.DataFrame"
    items: "pl.DataFrame"
    seen: "pl.DataFrame"

    def save(self, run: RunFolder) -> None:
        """Write three Parquet files into a run's folder."""
        for path, frame in ((run.users, self.users), (run.items, self.items), (run.seen, self.seen)):
            with atomic_path(path) as beside:
                frame.write_parquet(beside)

    @classmethod
    def load(cls, run: RunFolder) -> "Entities":
        """Read what `save` wrote.

        Raises:
            RunError: a file is missing or damaged.
        """
        return cls(*(_read(path) for path in (run.users, run.items, run.seen)))


def _read(path: Path) -> "pl.DataFrame":
    import polars as pl

    if not path.exists():
        raise RunError(f"{path.parent} holds no {path.name}, which training writes; train again to have it")
    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise RunError(f"{path} is damaged; train again to write it") from error
