"""What a file of prices held, and what was done about it."""

from dataclasses import asdict, dataclass
from typing import Any

from deepfm.reporting.tables import Column, Table

SHOWN = 5


@dataclass(frozen=True)
class Jump:
    """One close that jumped by more than half.

    Args:
        ticker: the stock.
        session: its date, as ISO text.
        change: the return from the print before.
    """

    ticker: str
    session: str
    change: float

    def __str__(self) -> str:
        return f"{self.ticker} {self.session} {self.change:+.0%}"


@dataclass(frozen=True)
class PanelReport:
    """What `panel check` says.

    Args:
        rows, sessions, tickers: how many the file held, of which sessions and tickers the panel has.
        first, last: the panel's first and last session, as ISO text.
        was_sorted: whether dates rose within each ticker; they are sorted in any case.
        bad_prices: prices of zero or less, or not finite, which are missing now.
        bad_volumes: negative volumes, which are missing now.
        high_below_low: rows whose high stood below their low; both are missing now.
        outside_range: closes outside their day's low and high; kept.
        empty_sessions: dates without one close; they are no sessions.
        gaps: neighbouring sessions more than four calendar days apart: missing ones between them, or a rare holiday.
        partial_last: the last date of the file where it is partial; whether it went is `dropped_last`.
        undone: jumps by more than half that the next print undid.
        jumped: jumps by more than half that were not undone, such as splits that nobody adjusted for.
        masked: how many closes were masked as bad prints.
        listed_later: tickers whose first print is not on the first session.
        ended_early: tickers whose last print is more than five sessions before the last; none means that only
            survivors are in the file.
        holes: missing closes between a ticker's first and last.
        unknown_sectors: tickers without a sector.
        eligible: the least, the median and the largest number of stocks in the universe of a session that has any.
        computed_eligibility: whether the universe comes from the rule instead of the file.
    """

    rows: int
    sessions: int
    tickers: int
    first: str
    last: str
    was_sorted: bool
    bad_prices: int
    bad_volumes: int
    high_below_low: int
    outside_range: int
    empty_sessions: tuple[str, ...]
    gaps: tuple[tuple[str, str], ...]
    partial_last: str | None
    dropped_last: bool
    undone: tuple[Jump, ...]
    jumped: tuple[Jump, ...]
    masked: int
    listed_later: int
    ended_early: int
    holes: int
    unknown_sectors: tuple[str, ...]
    eligible: tuple[int, int, int]
    computed_eligibility: bool

    def warnings(self) -> tuple[str, ...]:
        """One sentence for each thing that a user ought to look at."""
        found = []
        if self.gaps:
            found.append(
                f"gaps of more than 4 days between sessions, {len(self.gaps)}: {_some(map(' to '.join, self.gaps))}"
            )
        if self.partial_last:
            fate = "it was dropped" if self.dropped_last else "it was kept; drop_partial_last leaves it out"
            found.append(f"the last session {self.partial_last} is partial; {fate}")
        if self.jumped:
            found.append(
                f"{len(self.jumped)} closes jumped by more than half and stayed, as unadjusted splits do: "
                f"{_some(map(str, self.jumped))}"
            )
        if self.undone:
            found.append(
                f"{len(self.undone)} closes jumped by more than half and back, as bad prints do; {self.masked} closes "
                f"were masked: {_some(map(str, self.undone))}"
            )
        for count, what in (
            (self.bad_prices, "prices of zero or less are missing now"),
            (self.bad_volumes, "negative volumes are missing now"),
            (self.high_below_low, "rows with a high below their low, where both are missing now"),
            (len(self.empty_sessions), "dates without one close are no sessions"),
        ):
            if count:
                found.append(f"{count} {what}")
        if not self.ended_early:
            found.append(
                "no ticker ends before the last session: the file holds survivors only, which flatters returns"
            )
        return tuple(found)

    def to_table(self) -> Table:
        """Everything counted, a row each."""
        counts = [
            ("rows", f"{self.rows:,}"),
            ("sessions", f"{self.sessions:,}, {self.first} to {self.last}"),
            ("tickers", f"{self.tickers:,}"),
            ("sorted by date", "yes" if self.was_sorted else "no; sorted on reading"),
            ("gaps of more than 4 days", _count(map(" to ".join, self.gaps), len(self.gaps))),
            ("dates without a close", _count(self.empty_sessions, len(self.empty_sessions))),
            ("partial last session", f"{self.partial_last or 'no'}{', dropped' if self.dropped_last else ''}"),
            ("prices of zero or less", f"{self.bad_prices:,}"),
            ("negative volumes", f"{self.bad_volumes:,}"),
            ("high below low", f"{self.high_below_low:,}"),
            ("close outside low and high", f"{self.outside_range:,}"),
            ("jumps undone", _count(map(str, self.undone), len(self.undone))),
            ("jumps that stayed", _count(map(str, self.jumped), len(self.jumped))),
            ("closes masked as bad prints", f"{self.masked:,}"),
            ("listed after the first session", f"{self.listed_later:,}"),
            ("ended before the last session", f"{self.ended_early:,}"),
            ("missing closes while listed", f"{self.holes:,}"),
            ("tickers of unknown sector", _count(self.unknown_sectors, len(self.unknown_sectors))),
            ("universe", f"{self.eligible[0]:,} to {self.eligible[2]:,}, median {self.eligible[1]:,}"),
            ("universe from", "trailing rule" if self.computed_eligibility else "the file"),
        ]
        return Table([Column("what"), Column("found")], counts)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def _some(names: Any) -> str:
    listed = list(names)
    return ", ".join(listed[:SHOWN]) + (", ..." if len(listed) > SHOWN else "")


def _count(names: Any, count: int) -> str:
    return f"{count:,}: {_some(names)}" if count else "0"
