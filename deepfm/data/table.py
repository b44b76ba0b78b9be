"""Any table in three files, training, validation and test, as rows with a label."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from deepfm.config import DataConfig
from deepfm.data.adapter import DataInfo
from deepfm.data.dataset import TabularDataset
from deepfm.data.negatives import Candidates
from deepfm.data.schema import DatasetSchema
from deepfm.data.table_encoder import TableEncoder
from deepfm.data.table_files import find_table, scan_table
from deepfm.data.table_schema import TableSchema
from deepfm.data.transforms import save_encoders
from deepfm.engine.run import RunFolder
from deepfm.errors import DataError
from deepfm.utils.logging import get_logger

PARTS = {"train": "training", "valid": "validation", "test": "test"}  # a file's stem → what it holds
SCHEMA_FILE = "schema.yaml"  # beside the data, where data.table_schema names no other
log = get_logger(__name__)


class TableAdapter:
    """Builds data sets from `train`, `valid` and `test` files (CSV, gzipped CSV or Parquet) and a table schema.

    Args:
        data_dir: the folder of the files.
        config: their names, where they are others, and the table schema's.
        schema: a run's own, instead of the file that `config` names.

    Raises:
        DataError: a file is missing.
        SchemaError: the table schema is missing or impossible.

    Example:
        >>> adapter = TableAdapter("data/Frappe_x1", DataConfig(dataset_name="table"))  # doctest: +SKIP
        >>> schema, train, validation, test = adapter.build()  # doctest: +SKIP
    """

    has_candidates: ClassVar[bool] = False

    def __init__(self, data_dir: str | Path, config: DataConfig, *, schema: TableSchema | None = None) -> None:
        self.schema = schema or TableSchema.load(config.table_schema or Path(data_dir) / SCHEMA_FILE)
        names = {"train": config.train_file, "valid": config.valid_file, "test": config.test_file}
        self.files = {stem: find_table(data_dir, stem, names[stem]) for stem in PARTS}
        folder = self.files["train"].resolve().parent
        self.info = DataInfo(folder.name or str(folder), _digest(self.files), "files")
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
        """
        tables = {stem: scan_table(path) for stem, path in self.files.items()}
        encoder = TableEncoder(self.schema, encoders)
        if encoders is None:
            encoder.fit(tables["train"], self.files["train"])
        self.encoders = encoder.encoders
        schema = encoder.dataset_schema()
        train, validation, test = (encoder.dataset(tables[stem], path) for stem, path in self.files.items())
        for path, part in zip(self.files.values(), (train, validation, test), strict=True):
            self._check_classes(path, part, evaluated=part is not train)
            if part is not train:
                self._warn_of_unknown(path, part, encoder.unknown)
        log.info(
            "data %s (%s): %d rows for training, %d for validation, %d for the test; %d fields, %d ids",
            self.info.name, self.info.hash[:12], len(train), len(validation), len(test), schema.num_fields,
            sum(field.vocabulary_size for field in schema.fields.values() if field.shares_embedding_with is None),
        )  # fmt: skip
        return schema, train, validation, test

    def save(self, run: RunFolder) -> None:
        """Write what later commands need to see the data as this run did: encoders and the table schema."""
        save_encoders(self.encoders, run.encoders)
        self.schema.save(run.table_schema)

    def protocol(self) -> dict[str, Any]:
        """What must be equal for two runs' metrics to be comparable: the files are the split."""
        return {"split_strategy": "files", "label": self.schema.label}

    def _check_classes(self, path: Path, part: TabularDataset, evaluated: bool) -> None:
        """Refuse labels that training or AUC cannot work with."""
        label, values = self.schema.label, part.labels
        if evaluated:
            between = ((values != 0) & (values != 1)).nonzero()
            if len(between):
                row = int(between[0])
                raise DataError(
                    f"column {label!r} of {path} holds {values[row].item():g} in row {row + 1}; expected 0 or 1, as "
                    "AUC compares rows of one with rows of the other"
                )
        if bool((values == values[0]).all()):
            raise DataError(
                f"column {label!r} of {path} is {values[0].item():g} in every one of {len(values):,} rows; expected "
                "both 0 and 1, so take other rows or another label"
            )

    def _warn_of_unknown(self, path: Path, part: TabularDataset, unknown: Mapping[str, int]) -> None:
        """Say which columns hold no value that the training rows know: nothing is learned for such."""
        for name, index in unknown.items():
            ids = part.features[name]
            if bool(((ids == 0) | (ids == index)).all()):
                log.warning(
                    "every value of column %r of %s is empty or unknown to the training rows; compare how both write "
                    "them", name, path,
                )  # fmt: skip


def _digest(files: Mapping[str, Path]) -> str:
    """A hash of what the files hold, wherever they lie."""
    whole = hashlib.sha256()
    for stem, path in files.items():
        try:
            with open(path, "rb") as file:
                whole.update(f"{stem} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}; name another file") from error
    return whole.hexdigest()
