"""Everything that was measured of a model, what the rules say of it, and how to train it."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepfm.analysis.measures.counts import Counts
from deepfm.analysis.measures.flops import Flops
from deepfm.analysis.measures.flow import Flow
from deepfm.analysis.measures.gradcheck import GradientCheck
from deepfm.analysis.measures.invariances import Invariances
from deepfm.analysis.measures.io import Contract
from deepfm.analysis.measures.latency import Latency
from deepfm.analysis.measures.learning_rate import LearningRates
from deepfm.analysis.measures.loss_scale import LossScale
from deepfm.analysis.measures.machine import Roofline
from deepfm.analysis.measures.memory import Memory
from deepfm.analysis.measures.noise import NoiseScale
from deepfm.analysis.measures.overfit import Overfit
from deepfm.analysis.measures.parts import Parts
from deepfm.analysis.measures.precision import Precision
from deepfm.analysis.measures.profile import Profile
from deepfm.analysis.measures.proof import Proof
from deepfm.analysis.measures.quantization import Quantization
from deepfm.analysis.measures.rate_race import RateRace
from deepfm.analysis.measures.scaling import Scaling
from deepfm.analysis.measures.start import Start
from deepfm.analysis.measures.updates import Updates
from deepfm.analysis.recommendation import Recommendation
from deepfm.analysis.rules import Finding
from deepfm.errors import AnalysisError
from deepfm.utils.io import read_json, write_json

if TYPE_CHECKING:
    from deepfm.reporting import Document, Table

VERSION = 1
VERDICTS = ("STABLE", "CAUTION", "RISK")


@dataclass(frozen=True)
class About:
    """What was analysed, and on what."""

    name: str
    type: str
    loss: str
    rows: int
    batches: int
    device: str
    random_inputs: bool
    dataset_rows: int | None
    notes: tuple[str, ...]
    seconds: float = 0.0


@dataclass(frozen=True)
class Measurements:
    """What was measured; None where a measure was left out."""

    about: About
    counts: Counts
    contract: Contract
    flow: Flow
    parts: Parts
    invariances: Invariances
    loss_scale: LossScale | None = None
    flops: Flops | None = None
    memory: Memory | None = None
    memory_share: float | None = None
    latency: Latency | None = None
    roofline: Roofline | None = None
    gradcheck: GradientCheck | None = None
    start: Start | None = None
    overfit: Overfit | None = None
    rates: LearningRates | None = None
    race: RateRace | None = None
    noise: NoiseScale | None = None
    updates: Updates | None = None
    scaling: Scaling | None = None
    precision: tuple[Precision, ...] = ()
    quantization: Quantization | None = None
    profile: Profile | None = None


@dataclass(frozen=True)
class ModelReport:
    """The report of one model.

    Args:
        measured: all figures.
        findings: what the rules say of them, critical ones first.
        recommendation: how to train it; None where its loss trains nothing.
        proof: short runs of the recommendation beside the default.
        failed: measures that failed, with the reason.
    """

    measured: Measurements
    findings: tuple[Finding, ...]
    recommendation: Recommendation | None = None
    proof: Proof | None = None
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The model's."""
        return self.measured.about.name

    @property
    def assessment(self) -> str:
        """`RISK` with a critical finding, `CAUTION` with an important one, else `STABLE`."""
        worst = min((finding.priority for finding in self.findings), default=3)
        return VERDICTS[3 - worst]

    def refuse_critical(self) -> None:
        """Make sure that nothing critical was found, before the model is trained.

        Raises:
            AnalysisError: a finding of priority 1, with its place and what to do.
        """
        critical = [finding for finding in self.findings if finding.priority == 1]
        if critical:
            first = critical[0]
            others = f", and {len(critical) - 1} more" if len(critical) > 1 else ""
            raise AnalysisError(
                f"{self.name} was not trained: {first.state} at {first.place} ({first.rule}){others}; {first.fix}"
            )

    def to_document(self) -> "Document":
        """The report as sections of text, tables and plots."""
        from deepfm.analysis.sections.document import build_document

        return build_document(self)

    def to_markdown(self) -> str:
        """The report as Markdown, from a heading of the second level; plots are left out."""
        from deepfm.reporting import Document, Figure, Section, render_markdown

        document = self.to_document()
        sections = [
            Section(section.title, [block for block in section.blocks if not isinstance(block, Figure)])
            for section in document.sections
        ]
        return render_markdown(Document(document.title, document.subtitle, sections), level=2)

    def to_dict(self) -> dict[str, Any]:
        """The whole report as plain data; numbers that are not finite are None."""
        plain = {
            "version": VERSION,
            "assessment": self.assessment,
            "measured": asdict(self.measured),
            "findings": [asdict(finding) for finding in self.findings],
            "recommendation": None if self.recommendation is None else asdict(self.recommendation),
            "proof": None if self.proof is None else asdict(self.proof),
            "failed": dict(self.failed),
            "sources": sources(self.measured),
        }
        return {key: _plain(value) for key, value in plain.items()}

    def save_json(self, path: str | Path) -> None:
        """Write `to_dict` whole or not at all."""
        write_json(path, self.to_dict())

    def diff(self, earlier: str | Path | Mapping[str, Any]) -> "Table":
        """What changed since an earlier report.

        Args:
            earlier: a JSON file that `save_json` wrote, or its content.

        Raises:
            AnalysisError: it is no such report.
        """
        from deepfm.analysis.differences import differences

        return differences(read_report(earlier), self.to_dict())


def read_report(earlier: str | Path | Mapping[str, Any]) -> Mapping[str, Any]:
    """The content of an earlier report.

    Raises:
        AnalysisError: it is no such report.
    """
    content = read_json(earlier, "report", "deepfm analyze --json") if isinstance(earlier, str | Path) else earlier
    if not isinstance(content, Mapping) or content.get("version") != VERSION or "measured" not in content:
        what = str(earlier) if isinstance(earlier, str | Path) else "this"
        raise AnalysisError(f"{what} is no analysis report of version {VERSION}; write one with --json")
    return content


def sources(measured: Measurements) -> dict[str, dict[str, str]]:
    """For each measure, where its figures come from: measured, derived or assumed."""
    found = {}
    for item in dataclasses.fields(measured):
        value = getattr(measured, item.name)
        first = value[0] if isinstance(value, tuple) and value else value
        if hasattr(first, "SOURCES"):
            found[item.name] = dict(first.SOURCES)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, set | frozenset):
        return sorted(_plain(part) for part in value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
