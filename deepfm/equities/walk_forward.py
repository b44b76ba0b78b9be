"""Training, validation and test that follow one another in time, with a gap that no label crosses."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from deepfm.engine.settings import check_settings, setting
from deepfm.errors import ConfigError, DataError
from deepfm.reporting.tables import Column, Table

Sessions = NDArray[np.int64]
HORIZONS = (1, 5, 10, 20)


@dataclass(frozen=True, eq=False)
class Fold:
    """One training and the sessions that it is judged on, as indices of the panel's sessions.

    Args:
        name: the test year, or the fold's number from 1.
        train, validation, test: rising indices; validation may be empty.
    """

    name: str
    train: Sessions
    validation: Sessions
    test: Sessions

    def __repr__(self) -> str:
        sizes = f"{len(self.train)} train, {len(self.validation)} validation, {len(self.test)} test"
        return f"Fold({self.name}: {sizes})"

    def problems(self, last_session: NDArray[np.integer]) -> tuple[str, ...]:
        """What lets the future reach the past, one sentence each; none for a sound fold.

        Args:
            last_session: the last session that a session's labels look at, `(T,)` or `(T, K)`.
        """
        end = last_session.max(axis=1) if last_session.ndim == 2 else last_session
        found = []
        for earlier, later, first, second in (
            ("training", "validation", self.train, self.validation),
            ("training", "test", self.train, self.test),
            ("validation", "test", self.validation, self.test),
        ):
            if not len(first) or not len(second):
                continue
            begin = second.min()
            after = int((first >= begin).sum())
            across = int(((first < begin) & (end[first] >= begin)).sum())
            if after:
                found.append(f"{after} sessions of {earlier} stand at or after the first session of {later}")
            if across:
                found.append(f"the labels of {across} sessions of {earlier} look into {later}")
        return tuple(found)


@dataclass(frozen=True)
class WalkForwardSplit:
    """Folds whose test follows their training: `[train] gap [validation] gap [test]`.

    Args:
        test_years: calendar years that are tested, a fold each; empty for the last `n_splits` blocks.
        n_splits: how many blocks of `test_sessions` are tested, the last of them ending with the calendar.
        test_sessions: how long such a block is.
        validation_sessions: the sessions before the gap before the test; 0 for none.
        embargo: the least gap, in sessions.
        gap: the gap set by hand, in sessions; by default the longer of the embargo and the longest label.
        window: `expanding` trains on everything since `first_session`; `rolling` on the last `train_sessions`.
        train_sessions: how many sessions a rolling window has.
        min_train: fewer training sessions are refused.
        first_session: the first date that may be trained on, as ISO text; by default the calendar's first.
    """

    test_years: tuple[int, ...] = setting(())
    n_splits: int = setting(5, at_least=1)
    test_sessions: int = setting(252, at_least=1)
    validation_sessions: int = setting(120, at_least=0)
    embargo: int = setting(20, at_least=0)
    gap: int | None = setting(None, at_least=0)
    window: str = setting("expanding", choices=("expanding", "rolling"))
    train_sessions: int = setting(1000, at_least=1)
    min_train: int = setting(252, at_least=1)
    first_session: str | None = setting(None)

    def gap_sessions(self, horizons: Sequence[int] = HORIZONS, delay: int = 1) -> int:
        """How many sessions are left out before validation and before test.

        Raises:
            ConfigError: a gap set by hand that the longest label crosses.
        """
        longest = max(horizons) + delay
        if self.gap is None:
            return max(self.embargo, longest)
        if self.gap < longest:
            raise ConfigError(
                f"split.gap = {self.gap} sessions; expected at least {longest}, the longest horizon {max(horizons)} "
                f"plus the delay {delay}, or labels of training look into what is tested; leave it out"
            )
        return self.gap

    def folds(self, sessions: NDArray[np.datetime64], horizons: Sequence[int] = HORIZONS, delay: int = 1) -> list[Fold]:
        """The folds, in the order of their tests.

        Args:
            sessions: the panel's calendar, rising.
            horizons, delay: of the labels.

        Raises:
            ConfigError: a setting out of range, or a gap that the longest label crosses.
            DataError: fewer sessions than a fold needs, or a test year without any.
        """
        check_settings(self, "split.")
        gap = self.gap_sessions(horizons, delay)
        start = self._first(sessions)
        longest = np.arange(len(sessions)) + max(horizons) + delay
        folds = [self._fold(name, test, start, gap, sessions) for name, test in self._tests(sessions)]
        for fold in folds:
            if problems := fold.problems(longest):
                raise DataError(f"fold {fold.name} leaks: {problems[0]}; expected labels that end before")
        return folds

    def _tests(self, sessions: NDArray[np.datetime64]) -> list[tuple[str, Sessions]]:
        if self.test_years:
            years = sessions.astype("datetime64[Y]").astype(np.int64) + 1970
            if sorted(set(self.test_years)) != list(self.test_years):
                raise ConfigError(f"split.test_years = {list(self.test_years)}; expected each once, rising")
            tests = [(str(year), np.flatnonzero(years == year)) for year in self.test_years]
            for name, test in tests:
                if not len(test):
                    raise DataError(f"the panel has no session in the test year {name}; it spans {_span(sessions)}")
            return tests
        begin = len(sessions) - self.n_splits * self.test_sessions
        if begin < 0:
            raise DataError(
                f"the panel has {len(sessions)} sessions; expected at least {self.n_splits * self.test_sessions} for "
                f"{self.n_splits} tests of {self.test_sessions}; test fewer or shorter ones"
            )
        blocks = np.arange(begin, len(sessions)).reshape(self.n_splits, self.test_sessions)
        return [(str(number), block) for number, block in enumerate(blocks, start=1)]

    def _first(self, sessions: NDArray[np.datetime64]) -> int:
        if self.first_session is None:
            return 0
        try:
            return int(np.searchsorted(sessions, np.datetime64(self.first_session, "D")))
        except ValueError as error:
            raise ConfigError(f"split.first_session = {self.first_session!r}; expected a date, 2010-01-04") from error

    def _fold(self, name: str, test: Sessions, start: int, gap: int, sessions: NDArray[np.datetime64]) -> Fold:
        end = int(test[0]) - gap
        validation = np.arange(max(end - self.validation_sessions, 0), max(end, 0))
        if self.validation_sessions:
            end -= self.validation_sessions + gap
        wanted = self.min_train
        if self.window == "rolling":
            start, wanted = max(start, end - self.train_sessions), max(self.min_train, self.train_sessions)
        if end - start < wanted:
            raise DataError(
                f"fold {name}, tested from {sessions[test[0]]}, has {max(end - start, 0)} sessions to train on; "
                f"expected at least {wanted} before {self.validation_sessions} of validation and gaps of {gap}; "
                "test later, validate on fewer, or lower min_train"
            )
        return Fold(name, np.arange(start, end), validation, test)


def split_table(folds: Sequence[Fold], sessions: NDArray[np.datetime64]) -> Table:
    """What each fold trains on, validates on and tests: dates, and how many sessions."""
    columns = [Column("fold")]
    for name in ("train", "validation", "test"):
        columns += [Column(name), Column(f"{name} sessions", format="d")]
    columns.append(Column("gaps"))
    rows = []
    for fold in folds:
        parts = (fold.train, fold.validation, fold.test)
        cells: list[str | int] = [fold.name]
        for part in parts:
            cells += [_span(sessions[part]), len(part)]
        filled = [part for part in parts if len(part)]
        gaps = [int(after[0] - before[-1] - 1) for before, after in pairwise(filled)]
        rows.append([*cells, ", ".join(map(str, gaps))])
    return Table(columns, rows)


def _span(sessions: NDArray[np.datetime64]) -> str:
    return f"{sessions[0]} to {sessions[-1]}" if len(sessions) else "none"
