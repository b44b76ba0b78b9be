"""All checks of all models, on one's own data or on those of a configuration."""

import copy
from collections.abc import Sequence
from dataclasses import replace

from deepfm.config import ExperimentConfig
from deepfm.data.dataset import TabularDataset
from deepfm.data.schema import DatasetSchema
from deepfm.engine.device import resolve_device
from deepfm.engine.memory import fits
from deepfm.errors import ConfigError, DataError, SchemaError
from deepfm.training.experiment import open_data
from deepfm.utils.logging import get_logger
from deepfm.validation.brief import brief_config, brief_schedule, brief_validation
from deepfm.validation.examine import Material, examine
from deepfm.validation.one_batch import draw_batch, draw_rows
from deepfm.validation.parts import shape_text
from deepfm.validation.popularity import evaluate_popularity, fit_popularity
from deepfm.validation.report import DataFacts, Part, ValidationReport
from deepfm.validation.sources import DEFAULT_MODELS, ModelChoice, ModelSource, model_sources

FIRST_ROWS = 2048  # on which the untrained models are looked at
log = get_logger(__name__)


def validate(
    schema: DatasetSchema,
    train: TabularDataset,
    validation: TabularDataset,
    models: Sequence[ModelChoice] = DEFAULT_MODELS,
    config: ExperimentConfig | None = None,
    *,
    epochs: int | None = None,
) -> ValidationReport:
    """Check data and models: shapes, step 0, one batch learned by heart, and a brief training against popularity.

    Args:
        schema: the fields; models that need a behaviour sequence are skipped where there is none.
        train, validation: any rows with labels 0 and 1, moved to the device where they fit; ranking metrics need
            validation rows in groups.
        models: registered names, `package.module:ClassName`, classes, or functions of `(schema, config)` that give a
            module with logits `(B,)` or `(B, 1)` for a batch `{field: (B, …)}`.
        config: sizes, seed and device; its training section gives way to a faster one, see the report's `schedule`.
        epochs: of the brief training; None for one, or more on data of few rows.

    Raises:
        ConfigError: an unknown model, a class that cannot be imported, or nothing that can be checked.
        SchemaError: the data do not fit the schema.
        DataError: labels other than 0 and 1, of one class only, or rows that all look alike.

    Example:
        >>> report = validate(schema, train, validation, ["deepfm", MyModel])  # doctest: +SKIP
        >>> report.passed, [str(finding) for finding in report.findings]  # doctest: +SKIP
    """
    sources, skipped = _able_to_read(_asked_for(models, epochs), schema)
    config = config or ExperimentConfig()
    for name, dataset in (("training", train), ("validation", validation)):
        dataset.check(schema)
        _check_labels(name, dataset)
    device = resolve_device(config.device)
    for dataset in (train, validation):
        if fits(dataset.nbytes, device):
            dataset.to(device)
    num_validation, validation = len(validation), brief_validation(validation)
    popularity = fit_popularity(schema, train)
    bar = evaluate_popularity(popularity, schema, validation)
    config = brief_config(config, len(train))
    groups = 0 if validation.group_offsets is None else len(validation.group_offsets) - 1
    facts = DataFacts(len(train), num_validation, len(validation), float(train.labels.mean()), groups)
    schedule = brief_schedule(config, len(train), epochs)
    first_rows = draw_rows(train, FIRST_ROWS, config.seed, device)
    batch = draw_batch(schema, train, config.seed, device)
    whole = Material(schema, train, validation, config, schedule.epochs, facts, first_rows, batch, bar, device)
    plain = _without_behaviour(whole)
    reports = []
    for number, source in enumerate(sources, start=1):
        log.info("checking %s (%d of %d)", source.name, number, len(sources))
        reports.append(examine(source, plain if source.reads_behaviour is False else whole))
    inputs = tuple(Part(name, shape_text(column, len(batch))) for name, column in batch.features.items())
    return ValidationReport(facts, schedule, bar.metrics, popularity.rule, tuple(reports), skipped, inputs)


def validate_experiment(
    config: ExperimentConfig, models: Sequence[ModelChoice] = DEFAULT_MODELS, *, epochs: int | None = None
) -> ValidationReport:
    """Check models on the data of a configuration, with histories for those that read them; the test part is not used.

    Raises:
        DeepFMError: as `validate` and `open_data`.
    """
    _asked_for(models, epochs)  # before the data are read
    data = open_data(replace(config, model_name="sin"))
    report = validate(data.schema, data.train, data.validation, models, config, epochs=epochs)
    note = f"data: {data.adapter.info.name}"
    if data.adapter.info.source == "sample":
        note += ", GENERATED SAMPLE, NOT REAL DATA"
    return replace(report, notes=(note, *report.notes))


def _asked_for(models: Sequence[ModelChoice], epochs: int | None) -> list[ModelSource]:
    if epochs is not None and epochs < 1:
        raise ConfigError(f"epochs = {epochs} is out of range; expected at least 1")
    return model_sources(models)


def _able_to_read(sources: Sequence[ModelSource], schema: DatasetSchema) -> tuple[list[ModelSource], dict[str, str]]:
    """The models that a schema has enough for, and for each of the others why not."""
    reason = (
        "it reads behaviour, and the schema has no behaviour sequence (a sequence field with combiner 'none': the ids "
        "of what a user did before)"
    )
    lacking = [] if schema.behaviour_fields else [source for source in sources if source.reads_behaviour]
    able = [source for source in sources if source not in lacking]
    if not able:
        names = ", ".join(source.name for source in lacking)
        raise ConfigError(f"none of the models can be checked ({names}): {reason}; add one, or other models")
    return able, {source.name: reason for source in lacking}


def _check_labels(name: str, dataset: TabularDataset) -> None:
    labels = dataset.labels
    odd = ((labels != 0) & (labels != 1)).nonzero()
    if len(odd):
        value = float(labels[odd[0]])
        raise DataError(f"{name} label {int(odd[0])} is {value:g}; expected clicks as 1 and other rows as 0")
    clicks = int((labels == 1).sum())
    if clicks in (0, len(labels)):
        raise DataError(
            f"the {name} rows hold {clicks} clicks in {len(labels)} rows; expected some of both, so take rows in "
            "another order or give other ones"
        )


def _without_behaviour(material: Material) -> Material:
    """The same data as models see them that read no behaviour: rows without histories, which then cost nothing."""
    kept = {field.name: field for field in material.schema.interacting_fields}
    try:
        schema = replace(material.schema, fields=kept)
    except SchemaError:  # a field that stays shares the table of a sequence that would go
        return material
    sets = []
    for dataset in (material.train, material.validation):
        plain = copy.copy(dataset)
        plain.histories = {}
        sets.append(plain)
    return replace(material, schema=schema, train=sets[0], validation=sets[1])
