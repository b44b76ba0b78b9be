"""Where an experiment's rows are, and the one thing that FuxiCTR asks them before it trains."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from deepfm.data.tables.files import SUFFIXES, reading, scan_table
from deepfm.interop.fuxictr.keys import Keys
from deepfm.interop.fuxictr.reading import Experiment

PARTS = {"train_data": "train_file", "valid_data": "valid_file", "test_data": "test_file"}
FORMATS = ("csv", "parquet")
FOLDERS_UP = 3  # from dataset_config.yaml, where its relative paths may start


class Files:
    """The training, validation and test file of an experiment.

    FuxiCTR's relative paths start in the folder that it is run from. That is `root`, or else the first of the working
    folder, the folder of dataset_config.yaml and those above it from which the training file is found.

    Args:
        keys: the experiment's.
        experiment: where its YAML files are.
        root: the folder that FuxiCTR is run from, where it is known.
    """

    def __init__(self, keys: Keys, experiment: Experiment, root: Path | None = None) -> None:
        keys.require("data_format", "csv", FORMATS, "expected csv or parquet; take the files that it was encoded from")
        keys.require("rebuild_dataset", True, (True,), "expected files that are not encoded yet; take the raw ones")
        keys.require("sep", ",", (",",), "columns are parted by commas here; convert the files")
        for name in ("valid_size", "test_size"):
            keys.require(name, 0, (0, None), "nothing is split off here; write the parts to files of their own")
        keys.no_effect("split_type", "data_root", "data_block_size")
        given = {ours: self._given(keys, theirs) for theirs, ours in PARTS.items()}
        beside = experiment.dataset_config.resolve().parent
        places = [root] if root else [Path.cwd(), beside, *beside.parents[:FOLDERS_UP]]
        start = next((place for place in places if (place / given["train_file"]).is_file()), places[0])
        self.paths: Mapping[str, Path] = {name: (start / path).resolve() for name, path in given.items()}
        self.missing = [str(path) for path in self.paths.values() if not path.is_file()]
        if self.missing:
            keys.findings.notes.append(
                f"{', '.join(self.missing)} not found; set data.data_dir and the files' names in the configuration, or "
                "give --root, the folder that the data set's paths start from"
            )

    def section(self) -> dict[str, str]:
        """The `data` section's folder and names."""
        folder = self.paths["train_file"].parent
        names = {
            name: str(path.relative_to(folder) if path.is_relative_to(folder) else path)
            for name, path in self.paths.items()
        }
        return {"data_dir": str(folder), **names}

    def longest(self, column: str, separator: str, everywhere: bool) -> int | None:
        """The most tokens that a row of a column holds.

        Args:
            everywhere: in all files instead of the training file.

        Returns:
            None where a file is not here, or has no such column.

        Raises:
            DataError: a file cannot be read.
        """
        paths = list(self.paths.values()) if everywhere else [self.paths["train_file"]]
        if not all(path.is_file() and path.name.endswith(SUFFIXES) for path in paths):
            return None
        most = 0
        for path in paths:
            frame = scan_table(path)
            kind = frame.collect_schema().get(column)
            if kind is None or not (kind == pl.String or isinstance(kind, pl.List)):
                return None
            lists = pl.col(column) if isinstance(kind, pl.List) else pl.col(column).str.split(separator)
            with reading(path):
                most = max(most, frame.select(lists.list.len().max()).collect(engine="streaming").item() or 0)
        return most

    def _given(self, keys: Keys, name: str) -> str:
        path = keys.take(name)
        if not isinstance(path, str) or not path:
            keys.refuse(name, "expected a file; training, validation and test rows each have one here")
            return name
        if not path.endswith(SUFFIXES):
            keys.refuse(name, f"expected one file, of {', '.join(SUFFIXES)}; join a folder's files, or convert them")
        return path
