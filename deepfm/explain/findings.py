"""What an explanation found: plain values for people, for JSON and for tests."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from deepfm.explain.rows import Sample

Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Spread:
    """Values over rows: their mean, mean absolute value and standard deviation."""

    mean: float
    mean_abs: float
    deviation: float


@dataclass(frozen=True)
class Baseline:
    """What the model reaches with every field as it is.

    Args:
        metric: the run's own, `training.metric`.
        recorded: what the run wrote down of its validation rows.
        measured: the same, measured anew on all of them.
        sample: metrics of the sampled rows, from which drops are counted.
    """

    metric: str
    recorded: float
    measured: float
    sample: Mapping[str, float]

    @property
    def agrees(self) -> bool:
        """Whether the run's figure was met, up to float32's rounding."""
        return abs(self.recorded - self.measured) <= 1e-4


@dataclass(frozen=True)
class Importance:
    """How much worse a metric is without what a field says of its row.

    Args:
        name: the field, the behaviour sequence, or `group:NAME`.
        fields: what was exchanged together.
        unit: between what values were exchanged: `users` or `rows`.
        drops: metric → the drop in each repeat, above 0 where the model is worse (a rise of the log loss).
        user_error: the standard error over users of the mean drop of the run's own metric, where that ranks candidates:
            what other users than the sampled ones might change.
    """

    name: str
    fields: tuple[str, ...]
    unit: str
    drops: Mapping[str, tuple[float, ...]]
    user_error: float | None = None

    def mean(self, metric: str) -> float:
        """The mean drop."""
        return sum(self.drops[metric]) / len(self.drops[metric])

    def deviation(self, metric: str) -> float:
        """The standard deviation over repeats; 0 for one."""
        drops, mean = self.drops[metric], self.mean(metric)
        return (sum((drop - mean) ** 2 for drop in drops) / max(1, len(drops) - 1)) ** 0.5


@dataclass(frozen=True)
class LogitPart:
    """A term of the logit over rows.

    Args:
        share: of the mean absolute values of all terms but the bias; None for that.
        spread_share: of their deviations, which is what tells rows apart.
    """

    name: str
    values: Spread
    share: float | None
    spread_share: float | None


@dataclass(frozen=True)
class PairStrength:
    """A pair of fields in a model's pair part, over rows.

    Args:
        product: of the inner product <v_i, v_j>.
        weight: mean attention of AFM on the pair; None for others.
        term: of what the pair adds to the logit; None where that is no term of its own (NFM).
    """

    first: str
    second: str
    product: Spread
    weight: float | None
    term: Spread | None


@dataclass(frozen=True)
class FieldAttentionMap:
    """One head's mean attention `(F, F)`: how much the field of a row takes of the field of a column."""

    layer: int
    head: int
    fields: tuple[str, ...]
    weights: Matrix


@dataclass(frozen=True)
class HistoryAttention:
    """One head's mean weight of a history's event by its age, 0 for the latest.

    Args:
        history: the behaviour sequence.
        part: which part of the model weighs: `encoder layer 1`, `target attention`, `activation unit`.
        weights: mean over the rows whose history reaches so far back.
        uniform: what equal weights would give those rows.
        rows: how many such rows there are.
        candidate: mean weight of the candidate itself, where it stands in the sequence.
        normalised: whether a row's weights add up to one; DIN's do not unless `din.normalize`.
    """

    history: str
    part: str
    head: int
    weights: tuple[float, ...]
    uniform: tuple[float, ...]
    rows: tuple[int, ...]
    candidate: float | None
    normalised: bool


@dataclass(frozen=True)
class CINLayer:
    """The maps of a CIN's layer that go out, summed over the embedding.

    Args:
        maps: how many there are.
        mean, deviation: over rows and maps.
        silent: maps that are 0 in every row.
        term: of what they add to the logit, in SIN by the direct way through the gate.
        share, spread_share: as for `LogitPart`.
    """

    layer: int
    maps: int
    mean: float
    deviation: float
    silent: int
    term: Spread
    share: float
    spread_share: float


@dataclass(frozen=True)
class Occlusion:
    """What becomes of the logit when a row's field says nothing.

    Args:
        name: the field or behaviour sequence.
        value: what the row says, as a person reads it.
        instead: what stood there instead: `unknown`, `no tokens`, `no events`, `mean 0.31` or `0`.
        change: logit then minus logit as it is.
    """

    name: str
    value: str
    instead: str
    change: float


@dataclass(frozen=True)
class Contribution:
    """One row's logit as a sum: `bias` + `first_order` + `pairs` + `parts`.

    Args:
        row: its name, such as `validation row 7`.
        logit: what the model gives.
        probability: calibrated where the run is.
        label: None where the row has none.
        first_order: field → its term.
        pairs: (field, field, term).
        parts: further part → its term, such as the deep tower as a whole.
        occlusions: field by field; these do not add up.
    """

    row: str
    logit: float
    probability: float
    label: float | None
    bias: float
    first_order: Mapping[str, float]
    pairs: tuple[tuple[str, str, float], ...]
    parts: Mapping[str, float]
    occlusions: tuple[Occlusion, ...] = ()

    @property
    def total(self) -> float:
        """The sum of all terms, which is the logit."""
        second = sum(term for _, _, term in self.pairs)
        return self.bias + sum(self.first_order.values()) + second + sum(self.parts.values())

    def second_order(self, name: str) -> float:
        """Half of each pair that a field is in, so that fields add up to all pairs."""
        return sum(term for first, second, term in self.pairs if name in (first, second)) / 2


@dataclass(frozen=True)
class Explanation:
    """What `explain` found; what a model has not is empty, and `left_out` says why.

    Args:
        run: the folder.
        model: the registry's name.
        data: name, hash and source.
        sample: which rows the figures are of; None where the data are gone.
        gate: SIN's gate on all validation rows, as `monitors.json` has it.
        left_out: part → why it is not there.
    """

    run: str
    model: str
    data: Mapping[str, Any]
    sample: Sample | None = None
    baseline: Baseline | None = None
    repeats: int = 0
    importance: tuple[Importance, ...] = ()
    logit_parts: tuple[LogitPart, ...] = ()
    pairs: tuple[PairStrength, ...] = ()
    field_attention: tuple[FieldAttentionMap, ...] = ()
    history_attention: tuple[HistoryAttention, ...] = ()
    cin: tuple[CINLayer, ...] = ()
    gate: Mapping[str, Any] = field(default_factory=dict)
    contributions: tuple[Contribution, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Explanation({self.run!r}, {self.model}, {len(self.importance)} importances)"

    def to_dict(self) -> dict[str, Any]:
        """The explanation as plain data, ready for JSON."""
        plain = asdict(self)
        if self.baseline is not None:
            plain["baseline"]["agrees"] = self.baseline.agrees
        for one, entry in zip(self.importance, plain["importance"], strict=True):
            entry["mean"] = {metric: one.mean(metric) for metric in one.drops}
            entry["deviation"] = {metric: one.deviation(metric) for metric in one.drops}
        for row, entry in zip(self.contributions, plain["contributions"], strict=True):
            entry["total"] = row.total
        return plain
