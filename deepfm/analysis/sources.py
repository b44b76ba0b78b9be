"""Where a subject comes from: a run, a configuration, a function that gives it, or a class and a specification."""

import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deepfm.analysis.batch import Loader, make_batch
from deepfm.analysis.losses import load_attribute
from deepfm.analysis.spec import random_batch
from deepfm.analysis.subject import Subject, make_subject, refuse_unready
from deepfm.config import ExperimentConfig, load_config
from deepfm.data.dataset import TabularDataset
from deepfm.data.schema import DatasetSchema, FeatureType
from deepfm.engine.device import resolve_device
from deepfm.engine.run import RunFolder
from deepfm.errors import AnalysisError, RunError
from deepfm.models import BaseCTRModel, create_model
from deepfm.training.experiment import open_data, run_config
from deepfm.utils.seeding import random_stream, seed_everything

BATCHES = 24  # of training rows, the last of which is held out where something is trained


@dataclass(frozen=True, eq=False)
class Source:
    """A subject and what is known of it beside.

    Args:
        promises: what the data say of a field, by its name.
        dataset_rows: how many rows an epoch has; None where nobody knows.
        config: of a model of this package.
        random_inputs: whether the inputs were drawn at random.
    """

    subject: Subject
    promises: dict[str, str] = field(default_factory=dict)
    dataset_rows: int | None = None
    config: ExperimentConfig | None = None
    random_inputs: bool = False


def open_source(
    what: str,
    *,
    loss: str | None = None,
    init: str | None = None,
    spec: str | None = None,
    overrides: Sequence[str] = (),
    device: str = "cpu",
    batch_dim: int | None = None,
    name: str | None = None,
) -> Source:
    """The subject that a person names.

    Args:
        what: a run's folder, a configuration's YAML, or `module:name` or `file.py:name` of a function that returns
            `(model, batches[, loss[, optimizer]])`, or of a module class.
        loss: beats the one that a function returns.
        init: JSON of a class's arguments.
        spec: a class's inputs (see `deepfm.analysis.spec`).
        overrides: of a configuration.

    Raises:
        AnalysisError: there is no such thing, or it is not what it should be.
        DeepFMError: a run, a configuration or its data cannot be read.
    """
    path = Path(what)
    if ":" in what and not path.exists():
        if overrides:
            raise AnalysisError(f"--override goes with a run or a configuration; {what} is neither")
        return _named(what, loss, init, spec, device, batch_dim, name)
    refuse_options(what, loss, init, spec)
    if path.is_dir():
        return _run(path, overrides, device, name)
    if path.suffix in (".yaml", ".yml"):
        return _configured(load_config(path, overrides), device, name or path.stem)
    raise AnalysisError(
        f"{what} is no run folder, no configuration (.yaml), no module:name and no file.py:name; name one of them"
    )


def refuse_options(what: str, loss: str | None, init: str | None, spec: str | None) -> None:
    """Refuse what goes with a person's own class or function alone.

    Raises:
        AnalysisError: an option is given for a run or a configuration.
    """
    for option, value in (("--init", init), ("--spec", spec), ("--loss", loss)):
        if value is not None:
            raise AnalysisError(f"{option} goes with module:name; {what} says it all itself, so leave it out")


def experiment_source(
    config: ExperimentConfig,
    model: BaseCTRModel,
    schema: DatasetSchema,
    rows: TabularDataset,
    name: str,
    batches: int = BATCHES,
) -> Source:
    """A click model with batches of its training rows.

    Args:
        rows: the training rows.
        batches: how many batches are drawn, at random and each row once.
    """
    size = max(2, min(config.training.batch_size, len(rows) // batches))
    order = random_stream("rows to analyse", config.seed).permutation(len(rows))[: size * batches]
    places = torch.as_tensor(order, device=rows.device).split(size)
    places = places[: len(order) // size]
    subject = make_subject(model, [rows.batch(some) for some in places], "bce", name=name)
    subject.loader = Loader(places, lambda some: make_batch(model, rows.batch(some), True))
    if config.training.loss != "bce":
        subject.notes.append(
            f"trained with {config.training.loss}; measured here with binary cross-entropy of its rows"
        )
    return Source(subject, _promises(schema), len(rows), config)


def _configured(config: ExperimentConfig, device: str, name: str) -> Source:
    data = open_data(config)
    data.train.resample(1)
    seed_everything(config.seed)
    model = create_model(config.model_name, data.schema, config).to(resolve_device(device))
    return experiment_source(config, model, data.schema, data.train.to(resolve_device(device)), name)


def _run(path: Path, overrides: Sequence[str], device: str, name: str | None) -> Source:
    run = RunFolder(path)
    if run.finished and run.read_results()["kind"] == "baseline":
        raise RunError(f"{path} is a baseline's run, which has no model; name a model's run")
    run.require("config", "schema", "weights")
    config = run_config(run, overrides)
    data = open_data(config, run)
    data.train.resample(1)
    model = create_model(config.model_name, data.schema, config)
    identity = {"schema": data.schema.fingerprint(), "model": config.model_name, "data set": data.adapter.info.hash}
    model.load_state_dict(run.load_weights(identity))
    target = resolve_device(device)
    return experiment_source(
        config, model.to(target), data.schema, data.train.to(target), name or f"{config.model_name} of {path.name}"
    )


def _promises(schema: DatasetSchema) -> dict[str, str]:
    found = {}
    for schema_field in schema.fields.values():
        if schema_field.feature_type is FeatureType.DENSE:
            found[schema_field.name] = "numbers"
        else:
            ids = f"ids 0 to {schema_field.vocabulary_size - 1:,}, 0 is padding and unknown"
            lists = f"; up to {schema_field.max_length} of them" if schema_field.max_length else ""
            found[schema_field.name] = ids + lists
    return found


def _named(
    what: str, loss: Any, init: str | None, spec: str | None, device: str, batch_dim: int | None, name: str | None
) -> Source:
    found = load_attribute(what)
    target = resolve_device(device)
    if inspect.isclass(found) and issubclass(found, nn.Module):
        if spec is None:
            raise AnalysisError(f"{what} is a class; say what it takes with --spec, such as 'x:f32[32,16]'")
        model, batches, optimizer = _built(what, found, init), random_batch(spec), None
        if loss is None and isinstance(batches, tuple):
            raise AnalysisError("--spec has a target and no --loss; name the loss, or leave the target out")
    else:
        if not callable(found) or init is not None or spec is not None:
            if callable(found):
                option = "--spec" if spec is not None else "--init"
                raise AnalysisError(
                    f"{option} goes with a module class and {what} is none; expected a function that returns (model, "
                    f"batches[, loss]), which says its inputs itself, so leave {option} out"
                )
            raise AnalysisError(
                f"{what} is a {type(found).__name__}; expected a function that returns (model, batches[, loss]), or a "
                "module class with --spec"
            )
        model, batches, given, optimizer = _returned(what, found)
        loss = given if loss is None else loss
    refuse_unready(model)
    model = model.to(target)
    subject = make_subject(
        model, _moved(batches, target), loss, optimizer=optimizer, name=name or _title(what), batch_dim=batch_dim
    )
    return Source(subject, random_inputs=spec is not None)


def _title(what: str) -> str:
    return what.rpartition(":")[2]


def _built(what: str, kind: type[nn.Module], init: str | None) -> nn.Module:
    try:
        arguments = json.loads(init) if init else {}
    except ValueError as error:
        raise AnalysisError(f"--init {init!r} is no JSON: {error}; expected such as '{{\"width\": 64}}'") from error
    if not isinstance(arguments, dict):
        raise AnalysisError(f"--init {init!r} is no JSON object; expected such as '{{\"width\": 64}}'")
    seed_everything(0)
    try:
        return kind(**arguments)
    except Exception as error:  # whatever a foreign constructor raises
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise AnalysisError(f"{what} cannot be made with --init {init or '{}'}: {reason}") from error


def _returned(what: str, function: Any) -> tuple[Any, Any, Any, Any]:
    seed_everything(0)
    try:
        parts = function()
    except Exception as error:  # whatever a foreign function raises
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise AnalysisError(f"{what} fails: {type(error).__name__}: {reason}") from error
    if not isinstance(parts, tuple) or not 2 <= len(parts) <= 4:
        raise AnalysisError(
            f"{what} returns a {type(parts).__name__}; expected (model, batches), (model, batches, loss) or (model, "
            "batches, loss, optimizer)"
        )
    return parts[0], parts[1], parts[2] if len(parts) > 2 else None, parts[3] if len(parts) > 3 else None


def _moved(batches: Any, device: torch.device) -> Any:
    from torch.utils._pytree import tree_map

    def moved(part: Any) -> Any:
        return tree_map(lambda leaf: leaf.to(device) if isinstance(leaf, torch.Tensor) else leaf, part)

    if isinstance(batches, tuple | dict | list | torch.Tensor):
        return moved(batches)
    return map(moved, batches) if hasattr(batches, "__next__") else Loader(batches, moved)
