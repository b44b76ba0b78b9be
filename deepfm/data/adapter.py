"""What every data set offers to an experiment."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from deepfm.data.dataset import TabularDataset
from deepfm.data.negatives import Candidates
from deepfm.data.schema import DatasetSchema
from deepfm.engine.run import RunFolder


@dataclass(frozen=True)
class DataInfo:
    """Which data a run saw: a name, a hash of its files, and where they came from."""

    name: str
    hash: str
    source: str


class Adapter(Protocol):
    """Brings raw files into encoded rows.

    Attributes:
        has_candidates: whether evaluation rows are candidates in groups of one user, which a run keeps.
        info: which data.
        encoders: by field, what `build` fitted or was given; a run keeps them.
        candidates: by split, what `build` drew or was given; empty where there are none.
    """

    has_candidates: ClassVar[bool]
    info: DataInfo

    @property
    def encoders(self) -> Mapping[str, Any]:
        """By field, each with `to_dict`."""

    @property
    def candidates(self) -> Mapping[str, Candidates]:
        """By split."""

    def build(
        self, encoders: Mapping[str, Any] | None = None, candidates: Mapping[str, Candidates] | None = None
    ) -> tuple[DatasetSchema, TabularDataset, TabularDataset, TabularDataset]:
        """The schema, and the training, validation and test rows.

        Args:
            encoders, candidates: those of a finished run, used as they are; None to fit and to draw them.
        """

    def save(self, run: RunFolder) -> None:
        """Write what later commands need to see the data as this run did."""

    def protocol(self) -> dict[str, Any]:
        """What must be equal for two runs' metrics to be comparable; `split_strategy` is among it."""
