"""Explaining a finished run: what its model makes of its validation rows, and of rows that one asks about."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deepfm.data.dataset import TabularDataset
from deepfm.data.saved_encoders import load_encoders
from deepfm.data.schema import DatasetSchema
from deepfm.data.tables.csv_files import ReadOptions
from deepfm.data.tables.files import DEFAULT
from deepfm.engine.device import resolve_device
from deepfm.engine.memory import fits
from deepfm.engine.run import RunFolder
from deepfm.engine.task import Progress, no_progress
from deepfm.errors import CheckpointError, ConfigError, DataError, RunError
from deepfm.explain.contributions import contributions, dense_means
from deepfm.explain.findings import Baseline, Contribution, Explanation
from deepfm.explain.importance import measure, measured_metrics, permutation_importance, subjects
from deepfm.explain.inside import Inside, look_inside
from deepfm.explain.rows import RowTable, rows_of, sample_rows
from deepfm.inference import Predictor
from deepfm.models import BaseCTRModel
from deepfm.training.evaluation import evaluate_scores, score_rows
from deepfm.training.experiment import restore_run
from deepfm.training.monitors import monitored

ROWS, REPEATS, SEED = 50_000, 5, 0
MOST_ROWS = 50  # of one's own whose logits are taken apart at once
PARTS = ("importance", "logit_parts", "pairs", "field_attention", "history_attention", "cin", "gate")


def explain(
    run: str | Path | RunFolder,
    *,
    fields: Sequence[str] | None = None,
    rows: int = ROWS,
    repeats: int = REPEATS,
    seed: int = SEED,
    row_numbers: Sequence[int] = (),
    raw_rows: Any = None,
    options: ReadOptions = DEFAULT,
    device: str = "auto",
    overrides: Sequence[str] = (),
    on_progress: Progress = no_progress,
) -> Explanation:
    """Explain a finished run on its validation rows; its test rows are not scored, and nothing is written.

    Args:
        run: the folder of a model's run.
        fields: whose importance is measured, groups as `group:NAME`; None for all fields and groups.
        rows: about how many validation rows are looked at, those of whole users where there are candidates.
        repeats: permutations of each field.
        seed: what the choice of rows and the permutations depend on.
        row_numbers: validation rows, from 0, whose logits are taken apart.
        raw_rows: raw rows whose logits are taken apart: what `Predictor.predict` takes. With these alone the run's data
            may be gone, and all else is left out.
        options: how CSV files of raw rows are read.
        overrides: settings that beat the run's own, such as `data.data_dir=…`, where the data have moved.
        on_progress: called with rows scored and rows in all.

    Raises:
        RunError: the folder holds no finished run of a model.
        ConfigError: a field is unknown, a row number is out of range, or a count is below 1.
        DataError: the data are gone, or raw rows do not fit the run.
        CheckpointError: the weights are damaged, or of other data.

    Example:
        >>> explain("outputs/clicks/20261128-120000-s42", repeats=3).importance[0].name  # doctest: +SKIP
        'user'
    """
    folder = run if isinstance(run, RunFolder) else RunFolder(run)
    for name, count in (("rows", rows), ("repeats", repeats)):
        if count < 1:
            raise ConfigError(f"{name} is {count}; expected at least 1")
    results = _finished(folder)
    found = Explanation(str(folder.path), results["model"], results["data"])
    raw = () if raw_rows is None else _raw_contributions(folder, raw_rows, options, device)
    try:
        config, data, model = restore_run(folder, [*overrides, f"device={device}"])
    except (DataError, CheckpointError) as error:
        if raw_rows is None or row_numbers:
            if isinstance(error, CheckpointError):
                raise
            raise DataError(
                f"{error}; without the run's data, rows of your own can be explained: --rows-file"
            ) from error
        return replace(found, contributions=raw, left_out=dict.fromkeys(PARTS, f"the data are gone: {error}"))
    _check_row_numbers(row_numbers, data.validation)
    exchanged = subjects(model, data.schema, fields)
    model = model.to(resolve_device(config.device))
    validation = _on_device(data.validation, data.schema, model)
    table, sample = sample_rows(validation, rows, seed)
    metrics = measured_metrics(config, validation.group_offsets is not None)
    as_it_is = measure(model, table, metrics)
    steps = _Steps(on_progress, len(validation) + len(table) * (2 + len(exchanged) * repeats))
    steps.finish(len(table))
    metric = config.training.metric
    measured, gate = _whole_validation(model, validation, metric, steps)
    steps.finish(len(validation))
    inside = look_inside(model, table, steps)
    steps.finish(len(table))
    importance = permutation_importance(
        model, table, exchanged, as_it_is, repeats=repeats, seed=seed, on_step=lambda: steps.finish(len(table))
    )
    asked = _row_contributions(model, data.schema, validation, row_numbers, table, load_encoders(folder.encoders))
    return replace(
        found,
        sample=sample,
        baseline=Baseline(metric, float(results["validation"][metric]), measured, as_it_is.metrics),
        repeats=repeats,
        importance=importance,
        **vars(inside),
        gate=gate,
        contributions=(*asked, *raw),
        left_out=_left_out(model, inside, gate),
    )


class _Steps:
    """Progress over several passes."""

    def __init__(self, on_progress: Progress, total: int) -> None:
        self._tell, self._total, self._before = on_progress, total, 0

    def __call__(self, done: int, _rows: int) -> None:
        self._tell(self._before + done, self._total)

    def finish(self, rows: int) -> None:
        self._before += rows
        self._tell(self._before, self._total)


def _finished(folder: RunFolder) -> dict[str, Any]:
    """The results of a model's finished run.

    Raises:
        RunError: it is none.
    """
    folder.require()
    if not folder.finished:
        if folder.checkpoint.exists() or folder.config.exists():
            raise RunError(f"{folder.path} is an unfinished run; end it with deepfm train --resume, or name another")
        folder.require("results")
    results = folder.read_results()
    if results["kind"] == "baseline":
        raise RunError(f"{folder.path} is a baseline's run, which has no model to explain; name a model's run")
    return results


def _on_device(dataset: TabularDataset, schema: DatasetSchema, model: BaseCTRModel) -> TabularDataset:
    dataset.check(schema)
    device = next(model.parameters()).device
    return dataset.to(device) if fits(dataset.nbytes, device) else dataset


def _whole_validation(
    model: BaseCTRModel, validation: TabularDataset, metric: str, steps: Progress
) -> tuple[float, dict[str, Any]]:
    """The run's own metric on all validation rows, and what the gate did there."""
    with monitored(model) as monitors:
        scores = score_rows(model, validation, steps)
    ks = [int(metric.partition("@")[2])] if "@" in metric else []
    measured = evaluate_scores(scores, validation, ks).metrics[metric]
    assert measured is not None
    return float(measured), {} if "gate" not in monitors else monitors["gate"].to_dict()


def _check_row_numbers(numbers: Sequence[int], validation: TabularDataset) -> None:
    for number in numbers:
        if not 0 <= number < len(validation):
            raise ConfigError(
                f"validation row {number} is not there; expected 0 to {len(validation) - 1}, the rows of validation"
            )


def _row_contributions(
    model: BaseCTRModel,
    schema: DatasetSchema,
    validation: TabularDataset,
    numbers: Sequence[int],
    sample: RowTable,
    encoders: Mapping[str, Any],
) -> tuple[Contribution, ...]:
    if not numbers:
        return ()
    rows = rows_of(validation, list(numbers))
    names = [f"validation row {number}" for number in numbers]
    means = dense_means(schema, sample)
    labels = rows.labels.tolist()
    return contributions(model, schema, rows.features, names, encoders, labels=labels, means=means)


def _raw_contributions(folder: RunFolder, raw_rows: Any, options: ReadOptions, device: str) -> tuple[Contribution, ...]:
    """Raw rows by the run's folder alone; dense fields then have 0 instead of a mean."""
    predictor = Predictor.load(folder, device)
    schema = DatasetSchema.load(folder.schema)
    parts: list[dict[str, NDArray[Any]]] = []
    count = 0
    for frame, features in predictor.encoded(raw_rows, options):
        parts.append(features)
        count += len(frame)
        if count > MOST_ROWS:
            raise ConfigError(
                f"the rows to explain are more than {MOST_ROWS}; expected a few, so keep those that you ask about"
            )
    if not count:
        raise DataError("the rows to explain are none; expected at least one row under the header")
    columns = {name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in parts[0]}
    names = [f"row {number}" for number in range(1, count + 1)]
    return contributions(predictor.model, schema, columns, names, load_encoders(folder.encoders))


def _left_out(model: BaseCTRModel, inside: Inside, gate: Mapping[str, Any]) -> dict[str, str]:
    """What this model has not, and why."""
    name = type(model).__name__
    reasons = {
        "pairs": f"{name} as configured has no products of pairs of fields",
        "field_attention": f"{name} has no attention over fields",
        "history_attention": f"{name} as configured weighs no histories",
        "cin": f"{name} as configured has no CIN",
        "gate": f"{name} as configured has no gate",
    }
    if model.reads_behaviour and not inside.history_attention:
        reasons["history_attention"] += ", or every history of these rows is empty"
    present = {**vars(inside), "gate": gate}
    return {part: reason for part, reason in reasons.items() if not present[part]}
