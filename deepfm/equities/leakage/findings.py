"""What a check for leaks found."""

from dataclasses import asdict, dataclass
from typing import Any

from deepfm.reporting.tables import Column, Table


@dataclass(frozen=True)
class Finding:
    """One leak.

    Args:
        check: future truncation, look-back, labels among features, cleaning, sectors, or split.
        name: the feature, the fold or the setting.
        detail: what is wrong, one sentence.
        with_leak: mean daily RankIC with the leak; None where it was not measured.
        without: the same without it.
        horizon: the sessions that the return is over.
    """

    check: str
    name: str
    detail: str
    with_leak: float | None = None
    without: float | None = None
    horizon: int | None = None

    @property
    def inflation(self) -> float | None:
        """How much RankIC the leak adds."""
        return None if self.with_leak is None or self.without is None else self.with_leak - self.without

    def __str__(self) -> str:
        measured = (
            ""
            if self.inflation is None
            else (f"; RankIC over {self.horizon} sessions {self.with_leak:+.3f} with it, {self.without:+.3f} without")
        )
        return f"{self.check}: {self.name}: {self.detail}{measured}"


@dataclass(frozen=True)
class LeakReport:
    """What `leak_check` found.

    Args:
        findings: the leaks.
        features: the features that were computed again without the future.
        cuts: the sessions at which they were.
        folds: the folds that were looked at.
    """

    findings: tuple[Finding, ...]
    features: tuple[str, ...]
    cuts: tuple[str, ...]
    folds: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def to_table(self) -> Table:
        """A leak a row."""
        columns = [
            Column("check"),
            Column("name"),
            Column("detail"),
            Column("horizon", format="d"),
            Column("RankIC with", format="+.4f"),
            Column("RankIC without", format="+.4f"),
            Column("inflation", format="+.4f"),
        ]
        rows = [
            [each.check, each.name, each.detail, each.horizon, each.with_leak, each.without, each.inflation]
            for each in self.findings
        ]
        looked = f"{len(self.features)} features at {len(self.cuts)} sessions, {len(self.folds)} folds"
        return Table(columns, rows, f"{looked}: {len(rows) or 'no'} leaks")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)
