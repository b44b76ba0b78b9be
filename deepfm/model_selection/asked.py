"""The data set that somebody asks about: their own images, or a task that the shelf knows."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from deepfm.errors import DataError
from deepfm.model_selection.embedding import as_the_zoo_sees, encoder_of, probe_task, tokens_of, zoo_models
from deepfm.model_selection.images import LabelledRows, read_dataset
from deepfm.model_selection.outcomes import FEEDBACK
from deepfm.model_selection.probe_scores import ProbeScores
from deepfm.model_selection.protocols import Evidence
from deepfm.model_selection.settings import ModelSelectionSettings
from deepfm.model_selection.shelf import Shelf
from deepfm.model_selection.token_store import save_tokens, similarities
from deepfm.model_selection.tokens.dataset_tokens import DatasetTokens

MOST_ROWS = 2000  # that are probed; of more a stratified part
NOW = " (asked)"  # behind the name of a data set that the history knows by feedback

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Question:
    """A data set to rank models for.

    Args:
        name: what it is called.
        task: what the evidence calls it.
        evidence: with it as a task; outcomes of a known task are hidden by the fold, not here.
        tokens: None where its data cannot be seen.
        reached: what models reached on it, `(M,)`, by feedback or as the zoo measured; NaN for the others.
        judge: whether `reached` is the zoo's truth, which no answer may use, rather than feedback, which it should.
        probed: the probes that were run on it.
        notes: on how the data were read.
    """

    name: str
    task: str
    evidence: Evidence
    tokens: DatasetTokens | None
    reached: Array
    judge: bool
    probed: tuple[str, ...]
    notes: tuple[str, ...] = ()


def ask(
    shelf: Shelf,
    settings: ModelSelectionSettings,
    data: str,
    *,
    probe: bool = False,
    split: str | None = None,
    on_unreadable: str = "skip",
) -> Question:
    """Read the data set and put it among the evidence.

    Args:
        shelf: of the models.
        settings: how tokens are made.
        data: a folder of images, an `.npz`, or the name of a task on the shelf.
        probe: whether to run the probes on every model with weights.
        split: of the outcomes, where the shelf has several.
        on_unreadable: see `read_dataset`.

    Raises:
        DataError: there is no such data set, it cannot be read, or the shelf cannot probe it.
    """
    evidence = shelf.evidence(split)
    if data in set(evidence.tasks) - _told(shelf) and not Path(data).exists():
        return _known(shelf, evidence, data, probe)
    if not Path(data).exists():
        raise DataError(
            f"data set {data} is neither a folder of images, nor an .npz file, nor one of the shelf's tasks "
            f"({', '.join(evidence.tasks)})"
        )
    rows = read_dataset(data, on_unreadable=on_unreadable)
    place = Path(data).resolve()
    return _own(shelf, settings, evidence, place.name if place.is_dir() else place.stem, rows, probe)


def _known(shelf: Shelf, evidence: Evidence, task: str, probe: bool) -> Question:
    at = evidence.tasks.index(task)
    reached = evidence.outcomes[:, at].copy()
    probed = tuple(name for name, values in evidence.probes.items() if not np.isnan(values[:, at]).all())
    if not probe:
        hidden = {name: values.copy() for name, values in evidence.probes.items()}
        for values in hidden.values():
            values[:, at] = np.nan
        evidence, probed = replace(evidence, probes=hidden), ()
    note = f"{task} is a task of the shelf: its outcomes were hidden, and stand in the last column to compare"
    return Question(task, task, evidence, shelf.tokens.get(task), reached, True, probed, (note,))


def _own(
    shelf: Shelf, settings: ModelSelectionSettings, evidence: Evidence, name: str, rows: LabelledRows, probe: bool
) -> Question:
    notes = list(rows.notes)
    labels = rows.labels
    if (rows.rows == rows.rows[:1]).all():
        notes.append("all images are the same, so nothing can tell the classes apart")
    task = f"{name}{NOW}" if name in evidence.tasks else name
    models = len(evidence.models)
    reached = np.full(models, np.nan)
    if name in _told(shelf):
        reached = evidence.outcomes[:, evidence.tasks.index(name)].copy()
    elif name in evidence.tasks:
        notes.append(f"the shelf has a task {name} of its own, which was not taken for these data")
    if shelf.zoo is None:
        if probe:
            raise DataError(f"{shelf.folder.path} holds no weights, so nothing can be probed; leave --probe out")
        notes.append("this shelf has no weights and no data of its tasks, so only the history speaks")
        return Question(name, task, evidence.with_task(task), None, reached, False, (), tuple(notes))
    seen = as_the_zoo_sees(rows)
    if rows.rows.shape[1:] != (1, *seen.shape[1:]):
        notes.append(f"the zoo's models take grey images of {seen.shape[1]} x {seen.shape[2]}; these were made so")
    encoder = encoder_of(settings.embed, settings.device)
    images = rows.rows if settings.embed.encoder == "clip" else seen[:, None]
    tokens = tokens_of(images, labels, encoder, settings.embed, len(rows.class_names))
    own, scores = shelf.folder.query(name)
    save_tokens(own, {name: tokens})
    columns: Mapping[str, Array] = {}
    if probe:
        chosen = _some(labels, MOST_ROWS)
        if len(chosen) < len(labels):
            notes.append(f"probes were run on {len(chosen):,} of {len(labels):,} images")
        found = ProbeScores(
            probe_task(name, zoo_models(shelf.zoo, _with_weights(shelf)), [(seen[chosen], labels[chosen])])
        )
        found.save(scores)
        columns = {probe_name: values[:, 0] for probe_name, values in found.matrices(evidence.models, [name]).items()}
    known = {probe_name: values for probe_name, values in columns.items() if probe_name in evidence.probes}
    near = None
    if evidence.similarity is not None:
        have = [at for at, other in enumerate(evidence.tasks) if other in shelf.tokens]
        near = np.full(len(evidence.tasks), np.nan)
        near[have] = similarities([shelf.tokens[evidence.tasks[at]] for at in have], [tokens])[0]
    wider = evidence.with_task(task, known, near)
    return Question(name, task, wider, tokens, reached, False, tuple(known), tuple(notes))


def _told(shelf: Shelf) -> set[str]:
    """The data sets of which users told outcomes."""
    return set(shelf.outcomes.rows.filter(pl.col("recipe") == FEEDBACK)["dataset"])


def _with_weights(shelf: Shelf) -> list[str]:
    rows = shelf.catalogue.rows
    return rows.filter(rows["weights"].is_not_null())["model"].to_list()


def _some(labels: NDArray[np.int64], most: int) -> NDArray[np.intp]:
    from deepfm.model_selection.images import split_shots
    from deepfm.utils.seeding import random_stream

    if len(labels) <= most:
        return np.arange(len(labels))
    return split_shots(labels, most, random_stream("rows to probe"))[0]
