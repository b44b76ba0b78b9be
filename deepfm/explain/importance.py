"""Permutation importance: how much worse the model is when a field's values belong to other rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from deepfm.config import ExperimentConfig
from deepfm.data.batches import Features
from deepfm.data.history import Histories
from deepfm.data.schema import DatasetSchema
from deepfm.engine.settings import nearest
from deepfm.errors import ConfigError, DataError
from deepfm.explain.findings import Importance
from deepfm.explain.rows import RowTable
from deepfm.models import BaseCTRModel
from deepfm.training.evaluation import evaluate_scores, score_rows
from deepfm.training.metrics import metric_by_group
from deepfm.utils.seeding import random_stream

GROUP = "group:"


def subjects(model: BaseCTRModel, schema: DatasetSchema, wanted: Sequence[str] | None) -> dict[str, tuple[str, ...]]:
    """What is exchanged together, by name: each field that the model reads, and each group of two or more.

    Args:
        wanted: names of fields, and of groups as `group:NAME`; None for all.

    Raises:
        ConfigError: a name is neither.
    """
    fields = [f for f in schema.fields.values() if model.reads_behaviour or not f.is_behaviour]
    known: dict[str, tuple[str, ...]] = {field.name: (field.name,) for field in fields}
    for group in dict.fromkeys(field.group for field in fields if field.group):
        members = tuple(field.name for field in fields if field.group == group)
        if len(members) > 1:
            known[GROUP + group] = members
    if wanted is None:
        return known
    for name in wanted:
        if name not in known:
            raise ConfigError(
                f"--fields names {name!r}, which is no field that the model reads and no group; "
                f"{nearest(name, list(known))}"
            )
    return {name: known[name] for name in dict.fromkeys(wanted)}


def measured_metrics(config: ExperimentConfig, grouped: bool) -> list[str]:
    """The run's own metric, then AUC, log loss and, with groups, NDCG@10."""
    return list(dict.fromkeys([config.training.metric, "auc", "logloss", *(["ndcg@10"] if grouped else [])]))


@dataclass(frozen=True, eq=False)
class Measured:
    """Metrics of some rows, the run's own first; where that ranks candidates, also what each user reaches, `(U,)`."""

    metrics: Mapping[str, float]
    by_user: NDArray[np.float64] | None


def measure(model: BaseCTRModel, table: RowTable, names: Sequence[str]) -> Measured:
    """Metrics of some rows.

    Args:
        names: of the metrics; those that the rows have not are left out.

    Raises:
        DataError: the rows hold one class alone.
        TrainingError: a score is not finite.
    """
    if bool((table.labels == table.labels[0]).all()):
        raise DataError(
            f"the {len(table):,} sampled validation rows are all of one class, so that no metric can be measured; take "
            "more with --rows"
        )
    ks = sorted({int(name.partition("@")[2]) for name in names if "@" in name})
    found = evaluate_scores(score_rows(model, table), table, ks)
    by_user = metric_by_group(names[0], found.ranks, found.groups) if "@" in names[0] else None
    return Measured({name: value for name in names if (value := found.metrics.get(name)) is not None}, by_user)


def permutation_importance(
    model: BaseCTRModel,
    table: RowTable,
    exchanged: Mapping[str, tuple[str, ...]],
    baseline: Measured,
    *,
    repeats: int,
    seed: int,
    on_step: Callable[[], None] = lambda: None,
) -> tuple[Importance, ...]:
    """Exchange each field's values between rows and measure anew (Breiman, 2001; Fisher et al., 2019, model reliance).

    What all candidates of a user share is exchanged between users, as a user's candidates would otherwise be told apart
    by what no user has of two kinds. The fields of a group move together.

    Args:
        exchanged: name → fields, as `subjects` gives them.
        baseline: what `measure` says of the rows as they are.
        repeats: how often, each time by another permutation of the same rows.
        seed: with the name and the repeat, all that a permutation depends on.
        on_step: called after each measurement.

    Returns:
        one for each of `exchanged`, the largest drop of the first metric first.
    """
    found = []
    for name, fields in exchanged.items():
        shared = [field for field in fields if table.is_shared(field)]
        repeated: dict[str, list[float]] = {metric: [] for metric in baseline.metrics}
        by_user = []
        for repeat in range(repeats):
            changed = measure(model, _exchanged(table, fields, shared, name, seed, repeat), list(baseline.metrics))
            for metric, value in changed.metrics.items():
                repeated[metric].append((value - baseline.metrics[metric]) * (1 if metric == "logloss" else -1))
            if baseline.by_user is not None and changed.by_user is not None:
                by_user.append(baseline.by_user - changed.by_user)
            on_step()
        unit = "users" if len(shared) == len(fields) else "rows" if not shared else "users and rows"
        drops = {metric: tuple(values) for metric, values in repeated.items()}
        found.append(Importance(name, fields, unit, drops, _standard_error(by_user)))
    first = next(iter(baseline.metrics))
    return tuple(sorted(found, key=lambda one: -one.mean(first)))


def _standard_error(by_user: Sequence[NDArray[np.float64]]) -> float | None:
    """Of the mean over users of drops, each user's the mean over repeats; None where users are not told apart."""
    if not by_user or len(by_user[0]) < 2:
        return None
    drops = np.mean(by_user, axis=0)
    return float(drops.std(ddof=1) / np.sqrt(len(drops)))


def _exchanged(
    table: RowTable, fields: Sequence[str], shared: Sequence[str], name: str, seed: int, repeat: int
) -> RowTable:
    """The rows with fields of other rows, or other users, together."""
    rng = random_stream(f"permutation of {name}", seed, repeat)
    columns: Features = {}
    histories: dict[str, Histories] = {}
    starts = table.first_rows
    groups = torch.from_numpy(rng.permutation(len(starts))).to(table.device)
    rows = torch.from_numpy(rng.permutation(len(table))).to(table.device)
    for field in fields:
        if field in table.histories:
            histories[field] = table.histories[field].select(groups)
        elif field in shared and table.group_offsets is not None:
            sizes = torch.from_numpy(np.diff(table.group_offsets)).to(table.device)
            donors = starts.index_select(0, groups).repeat_interleave(sizes)
            columns[field] = table.features[field].index_select(0, donors)
        else:
            columns[field] = table.features[field].index_select(0, rows)
    return table.exchanged(columns, histories)
