"""What a validation found: plain values for people, for JSON and for tests."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

LN2 = math.log(2.0)


@dataclass(frozen=True)
class Finding:
    """Something that a check has to say.

    Args:
        model: whom it is about.
        check: which check found it: `build`, `forward`, `gradients`, `one batch`, `training`, `step 0`, `quality` or
            `leak`.
        figure: what was seen.
        meaning: what that means and what to try; the same for every model of which it is true.
        failed: whether the check failed; otherwise this is a note.
    """

    model: str
    check: str
    figure: str
    meaning: str
    failed: bool = True

    def __str__(self) -> str:
        return f"{self.model}, {self.check}: {self.figure}. {self.meaning}"


@dataclass(frozen=True)
class Part:
    """A named part of a network, or a column of a batch, and its shape for B rows, such as `(B, 7, 16)`."""

    name: str
    output: str

    def __str__(self) -> str:
        return f"{self.name} {self.output}"


@dataclass(frozen=True)
class Start:
    """The untrained model on some training rows: mean cross-entropy, and mean and standard deviation of the logits."""

    loss: float
    mean: float
    spread: float


@dataclass(frozen=True)
class ModelReport:
    """One model's checks; a figure is None where a model did not come so far.

    Args:
        name: the registry's name, or the name of a person's own class.
        parts: what the parts give, in the order of the forward pass.
        num_parameters: weights that training may change.
        start: the model before any step.
        one_batch_loss: mean cross-entropy on one small batch that a fresh copy was to learn by heart.
        metrics: of the validation rows after the brief training: `auc`, `logloss`, and `ndcg@10`, `hr@10` over groups.
        seconds: all checks together.
        findings: what the checks have to say; nothing where all is well.
    """

    name: str
    parts: tuple[Part, ...] = ()
    num_parameters: int | None = None
    start: Start | None = None
    one_batch_loss: float | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    seconds: float = 0.0
    findings: tuple[Finding, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return not any(finding.failed for finding in self.findings)


@dataclass(frozen=True)
class DataFacts:
    """The data as the checks see them.

    Args:
        train_rows, validation_rows: rows, sampled negatives among them.
        scored_rows: the first so many validation rows, on which models and popularity are measured.
        label_rate: the share of clicks among the training rows.
        num_groups: users whose candidates are ranked, in the scored rows; 0 without groups, and so without NDCG.
    """

    train_rows: int
    validation_rows: int
    scored_rows: int
    label_rate: float
    num_groups: int

    @property
    def entropy(self) -> float:
        """The cross-entropy of a model that knows the label rate and nothing else."""
        return -sum(share * math.log(share) for share in (self.label_rate, 1 - self.label_rate) if share > 0)


@dataclass(frozen=True)
class Schedule:
    """The brief training: epochs as asked for, and about how many batches they came to; `cut` where not all ran."""

    epochs: int
    batch_size: int
    lr: float
    batches: int
    cut: bool

    def __str__(self) -> str:
        epochs = f"{self.epochs} epoch{'s' * (self.epochs != 1)}"
        if self.cut:
            epochs = f"the beginning of {epochs}"
        return f"{epochs}, {self.batches:,} batches of {self.batch_size:,} rows at a learning rate of {self.lr:g}"


@dataclass(frozen=True)
class ValidationReport:
    """What `validate` found.

    Args:
        data: the data.
        schedule: how the models were trained.
        popularity: the bar: metrics of a score that knows the item and not the user.
        popularity_rule: what that score is, in words.
        models: one report a model that was checked.
        skipped: model → why it was not checked.
        inputs: the columns of a batch.
        notes: what else a reader has to know, such as that the data are generated.
    """

    data: DataFacts
    schedule: Schedule
    popularity: Mapping[str, float | None]
    popularity_rule: str
    models: tuple[ModelReport, ...]
    skipped: Mapping[str, str]
    inputs: tuple[Part, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What all checks have to say, model by model."""
        return tuple(finding for model in self.models for finding in model.findings)

    @property
    def passed(self) -> bool:
        """Whether every check of every model passed."""
        return all(model.passed for model in self.models)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data, ready for JSON."""
        return {
            "passed": self.passed,
            "data": {**asdict(self.data), "entropy": self.data.entropy, "ln2": LN2},
            "schedule": asdict(self.schedule),
            "popularity": {"rule": self.popularity_rule, **self.popularity},
            "inputs": [asdict(column) for column in self.inputs],
            "models": [{**asdict(model), "passed": model.passed} for model in self.models],
            "skipped": dict(self.skipped),
            "notes": list(self.notes),
        }
