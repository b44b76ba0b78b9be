"""A shelf of models: the catalogue, what its models reached, and what the stages have made of them so far."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from deepfm.errors import DataError
from deepfm.model_selection.catalogue import Catalogue
from deepfm.model_selection.imports.imported import ImportedTable
from deepfm.model_selection.outcomes import Outcomes
from deepfm.model_selection.probe_scores import ProbeScores
from deepfm.model_selection.protocols import Evidence
from deepfm.model_selection.token_store import load_tokens, similarities
from deepfm.model_selection.tokens.dataset_tokens import DatasetTokens
from deepfm.utils.io import read_json, write_json

if TYPE_CHECKING:
    from deepfm.model_selection.zoo.folder import Zoo

METRIC = "accuracy"


@dataclass(frozen=True)
class ShelfFolder:
    """Where the parts of a shelf lie; a zoo's own files are those of `zoo.folder.Layout`."""

    path: Path

    @property
    def settings(self) -> Path:
        """The resolved settings that later stages begin with."""
        return self.path / "settings.yaml"

    @property
    def manifest(self) -> Path:
        """There where a zoo was built."""
        return self.path / "zoo.yaml"

    @property
    def catalogue(self) -> Path:
        """The table of models."""
        return self.path / "catalogue.parquet"

    @property
    def outcomes(self) -> Path:
        """What they reached, as it was built or imported."""
        return self.path / "outcomes.parquet"

    @property
    def feedback(self) -> Path:
        """What users of the shelf found since."""
        return self.path / "feedback.parquet"

    @property
    def probes(self) -> Path:
        """Probe scores of the tasks."""
        return self.path / "probes.parquet"

    @property
    def tokens(self) -> Path:
        """The tasks' tokens."""
        return self.path / "tokens.npz"

    @property
    def kernels(self) -> Path:
        """The models' kernel vectors."""
        return self.path / "kernels.npz"

    @property
    def networks(self) -> Path:
        """The trained networks, the models' embeddings and the stacker's rows."""
        return self.path / "trained"

    @property
    def embeddings(self) -> Path:
        """The models' codes by the auto-encoder."""
        return self.networks / "embeddings.npz"

    @property
    def rows(self) -> Path:
        """What the stacker learned from."""
        return self.networks / "stacker.npz"

    @property
    def reports(self) -> Path:
        """Leaderboards and recommendations."""
        return self.path / "reports"

    def query(self, name: str) -> tuple[Path, Path]:
        """Tokens and probe scores of a data set that was asked about, so that feedback on it can be learned from."""
        return self.path / "asked" / f"{name}.npz", self.path / "asked" / f"{name}.parquet"

    def asked(self) -> list[str]:
        """The names of the data sets that were asked about."""
        return sorted(path.stem for path in (self.path / "asked").glob("*.npz"))

    def stage(self, name: str) -> Path:
        """What a finished stage depended on."""
        return self.path / "stages" / f"{name}.json"

    def is_done(self, stage: str, key: str) -> bool:
        """Whether a stage was finished with this key."""
        path = self.stage(stage)
        return path.exists() and read_json(path, "stage", "deepfm zoo").get("key") == key

    def finish(self, stage: str, key: str, about: Mapping[str, Any] | None = None) -> None:
        """Note that a stage is done."""
        write_json(self.stage(stage), {"key": key, **(about or {})})


def key_of(*parts: Any) -> str:
    """What a stage depends on, as a short hash."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Shelf:
    """An open shelf.

    Args:
        folder: where it lies.
        catalogue: the models.
        outcomes: what they reached, feedback among it.
        probes: scores of the stage `embed`, or of a publication; None for none.
        tokens: of each task whose data were seen, by its name.
        zoo: the zoo that was built here; None for imported tables.
    """

    folder: ShelfFolder
    catalogue: Catalogue
    outcomes: Outcomes
    probes: ProbeScores | None
    tokens: Mapping[str, DatasetTokens]
    zoo: "Zoo | None"

    @classmethod
    def open(cls, folder: str | Path) -> "Shelf":
        """Open a folder that `zoo build` or `zoo import` filled.

        Raises:
            DataError: it is none, is half built, or a file is damaged.
        """
        at = ShelfFolder(Path(folder))
        zoo = None
        if at.manifest.exists():
            from deepfm.model_selection.zoo.folder import Zoo

            zoo = Zoo.open(folder)
            catalogue, outcomes = zoo.catalogue, zoo.outcomes
        elif at.catalogue.exists() and at.outcomes.exists():
            catalogue, outcomes = Catalogue.load(at.catalogue), Outcomes.load(at.outcomes)
        else:
            raise DataError(
                f"{folder} holds no models; build some with deepfm zoo build --folder {folder}, or bring in a "
                "published table with deepfm zoo import"
            )
        if at.feedback.exists():
            outcomes = outcomes.joined(Outcomes.load(at.feedback))
        probes = ProbeScores.load(at.probes) if at.probes.exists() else None
        tokens = load_tokens(at.tokens) if at.tokens.exists() else {}
        for name in sorted(set(outcomes.rows["dataset"]) - set(tokens)):
            own, scores = at.query(name)
            if own.exists():
                tokens = {**tokens, **load_tokens(own)}
            if scores.exists() and probes is not None:
                asked = ProbeScores.load(scores)
                known = asked.rows.filter(pl.col("probe").is_in(probes.probes))
                probes = probes.joined(ProbeScores(known)) if len(known) else probes
        return cls(at, catalogue, outcomes, probes, tokens, zoo)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The data sets with outcomes of the metric, the zoo's first, in its order."""
        named = self.zoo.tasks if self.zoo is not None else ()
        have = self.outcomes.rows.filter(pl.col("metric") == METRIC)["dataset"].unique()
        return (*named, *sorted(set(have) - set(named)))

    def evidence(self, split: str | None = None) -> Evidence:
        """All that is known, for the protocols.

        Raises:
            DataError: an outcome is of a model that the catalogue has not, or outcomes of unlike splits or recipes
                stand on one data set, and no split was named.
        """
        models, tasks = tuple(self.catalogue.models), self.tasks
        if strange := sorted(set(self.outcomes.rows["model"]) - set(models)):
            raise DataError(f"outcomes name model {strange[0]!r}, which the catalogue has not; add a row for it")
        matrix = self.outcomes.matrix(models, tasks, METRIC, split)
        probes = {} if self.probes is None else self.probes.matrices(models, tasks)
        families = tuple(str(family) for family in self.catalogue.families)
        return Evidence(models, tasks, matrix.values, probes, families, self._similarity(tasks))

    def _similarity(self, tasks: Sequence[str]) -> NDArray[np.float64] | None:
        """`(T, T)` between the tasks' tokens, NaN where one has none; None where fewer than two have."""
        seen = [at for at, name in enumerate(tasks) if name in self.tokens]
        if len(seen) < 2:
            return None
        found = np.full((len(tasks), len(tasks)), np.nan)
        found[np.ix_(seen, seen)] = similarities([self.tokens[tasks[at]] for at in seen])
        return found


def put_on_shelf(folder: str | Path, table: ImportedTable) -> Shelf:
    """Add a published table to a folder of imported ones, which may be new.

    Raises:
        DataError: the folder holds a zoo or something else, or a model or an outcome is there already.
    """
    at = ShelfFolder(Path(folder))
    if at.manifest.exists():
        raise DataError(f"{folder} holds a zoo that was built here; import published tables into another --folder")
    catalogue, outcomes, probes = table.catalogue, table.outcomes, table.probe_scores
    if at.catalogue.exists():
        before = Shelf.open(folder)
        have = set(before.catalogue.models)
        new = [model for model in catalogue.models if model not in have]
        rows = pl.concat([before.catalogue.rows, catalogue.subset(new).rows], how="diagonal_relaxed")
        catalogue = Catalogue(rows, at.path)
        outcomes = Outcomes.load(at.outcomes).joined(outcomes)
        probes = probes if before.probes is None else before.probes.joined(probes)
    elif at.path.exists() and (not at.path.is_dir() or any(at.path.iterdir())):
        raise DataError(f"{folder} holds something that is no shelf of models; choose a new or an empty folder")
    catalogue.save(at.catalogue)
    outcomes.save(at.outcomes)
    if len(probes):
        probes.save(at.probes)
    return Shelf.open(folder)
