"""FuxiCTR's keys, each taken by whoever understands it, so that none can pass unnamed."""

import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from deepfm.errors import ConfigError

LONGEST_VALUE = 100  # characters of a value in a message


class Findings:
    """What an import has to say: what stops it, what is other here, what to know, and what has no effect here.

    Args:
        nearest: whether what has a nearest form here is written in it, instead of being refused.
    """

    def __init__(self, nearest: bool = False) -> None:
        self.nearest = nearest
        self.refusals: list[str] = []
        self.differences: list[str] = []
        self.notes: list[str] = []
        self.without_effect: list[str] = []

    def refuse(self, what: str, reason: str, nearest: str | None = None) -> None:
        """Say what cannot be expressed here and what to do, and the nearest form that can, where there is one."""
        if nearest is None:
            self.refusals.append(f"{what}: {reason}")
        elif self.nearest:
            self.differences.append(f"{what}: {nearest}")
        else:
            self.refusals.append(f"{what}: {reason} (--nearest: {nearest})")

    def error(self, expid: str) -> ConfigError:
        """All refusals in one message."""
        return ConfigError(
            f"experiment {expid!r} holds what has no equal here; change it in its YAML files, or see --nearest:\n  "
            + "\n  ".join(self.refusals)
        )


class Keys:
    """A mapping of FuxiCTR's, whose keys are taken one by one.

    A value of a wrong type is refused, and FuxiCTR's default goes on in its place, so that one message can name all.

    Args:
        values: the mapping.
        findings: where refusals and notes go.
        prefix: stands before a key's name in messages.

    Attributes:
        taken: what was read, by key.
        understood: the keys that were asked for, whether they are there or not.
    """

    def __init__(self, values: Mapping[str, Any], findings: Findings, prefix: str = "") -> None:
        self.values, self.findings, self.prefix = values, findings, prefix
        self.taken: dict[str, Any] = {}
        self.understood: set[str] = set()

    @property
    def left(self) -> list[str]:
        """The keys that nobody has taken, in order."""
        return [name for name in self.values if name not in self.taken]

    def take(self, name: str, default: Any = None, *, older: Sequence[str] = ()) -> Any:
        """The value of a key, or FuxiCTR's default.

        Args:
            older: the key's names in FuxiCTR 1, which FuxiCTR 2 passes over in silence.
        """
        self.understood |= {name, *older}
        self.taken[name] = self.values.get(name, default)
        for old in older:
            if old not in self.values:
                continue
            self.taken[old] = self.values[old]
            if name not in self.values:
                self.taken[name] = self.values[old]
                self.note(old, f"read as {name}; FuxiCTR 2 does not know the key and uses {default!r}")
            elif self.values[old] != self.values[name]:
                self.refuse(old, f"is FuxiCTR 1's name of {name}, which is {self.values[name]!r}; keep one of them")
        return self.taken[name]

    def refuse(self, name: str, reason: str, nearest: str | None = None) -> None:
        """Refuse the value of a key; see `Findings.refuse`."""
        self.findings.refuse(self._shown(name), reason, nearest)

    def note(self, name: str, reason: str) -> None:
        """Say something of the value of a key."""
        self.findings.notes.append(f"{self._shown(name)}: {reason}")

    def no_effect(self, *names: str) -> None:
        """Take keys that decide nothing here."""
        self.understood |= set(names)
        for name in names:
            if name in self.values:
                self.taken[name] = self.values[name]
                self.findings.without_effect.append(self._shown(name))

    def require(
        self,
        name: str,
        default: Any,
        allowed: Sequence[Any],
        reason: str,
        nearest: str | None = None,
        *,
        older: Sequence[str] = (),
    ) -> None:
        """Take a key that can mean one thing here; what is not allowed is refused for a reason."""
        if self.take(name, default, older=older) not in allowed:
            self.refuse(name, reason, nearest)

    def whole(self, name: str, default: int, *, older: Sequence[str] = ()) -> int:
        """A whole number."""
        value = self.take(name, default, older=older)
        number = None if isinstance(value, str) else as_number(value)
        if number is None or number != int(number):
            return self._expected(name, "a whole number", default)
        return int(number)

    def number(self, name: str, default: float, *, older: Sequence[str] = ()) -> float:
        """A number, also as text: `1e-3` is text to YAML 1.1."""
        number = as_number(self.take(name, default, older=older))
        return self._expected(name, "a number", default) if number is None else number

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.take(name, default)
        return bool(value) if value in (True, False) else self._expected(name, "true or false", default)

    def widths(self, name: str, default: Sequence[int], *, older: Sequence[str] = ()) -> list[int]:
        """A list of whole numbers; empty for none."""
        value = self.take(name, list(default), older=older)
        value = [] if value is None else value
        if not isinstance(value, list) or any(isinstance(one, bool) or not isinstance(one, int) for one in value):
            return self._expected(name, "one list of whole numbers", list(default))
        return value

    def names(self, name: str, *, older: Sequence[str] = ()) -> list[str]:
        """A list of names; a single one counts as a list."""
        value = self.take(name, [], older=older)
        value = [] if value is None else [value] if isinstance(value, str) else value
        if not isinstance(value, list) or any(not isinstance(one, str) for one in value):
            return self._expected(name, "a list of names", [])
        return value

    def text(self, name: str, default: str) -> str:
        """Text; nothing is empty text."""
        value = self.take(name, default)
        value = "" if value is None else value
        return value if isinstance(value, str) else self._expected(name, "text", default)

    def l2(self, name: str) -> float:
        """λ of a regularizer, which FuxiCTR applies as λ/2·Σw² beside the mean loss."""
        value = self.take(name)
        if value is None or value == 0:
            return 0.0
        if isinstance(value, int):
            self.refuse(name, f"FuxiCTR takes a whole number for no penalty; write {float(value)} or 0")
            return 0.0
        answer = _l2(value)
        if answer is None or answer < 0:
            self.refuse(name, "expected one L2 penalty, as a number or l2(NUMBER); there is no other here")
            return 0.0
        return answer

    def _expected(self, name: str, expected: str, default: Any) -> Any:
        value = self.taken[name]
        grid = "; a tuner's grid lists several, so choose one" if isinstance(value, list) else ""
        self.refuse(name, f"expected {expected}{grid}")
        return default

    def _shown(self, name: str) -> str:
        value = repr(self.taken[name])
        value = value if len(value) <= LONGEST_VALUE else value[: LONGEST_VALUE - 1] + "…"
        default = "" if name in self.values else " by default"
        return f"{self.prefix}{name} = {value}{default}"


def close_to(name: str, known: Iterable[str]) -> str:
    """A question after the closest known name, where one is close."""
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else "; leave it out"


def as_number(value: Any) -> float | None:
    """A finite number, of a number or of text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _l2(value: Any) -> float | None:
    """The L2 part of FuxiCTR's notation, where there is no L1 part."""
    parts = re.fullmatch(r"(l1|l2|l1_l2)\(([^(),]*)(?:,([^(),]*))?\)", str(value).replace(" ", ""))
    if parts is None:
        return as_number(value)
    kind, first, second = parts[1], parts[2], parts[3] or "0"
    l1, l2 = {"l1": (first, "0"), "l2": ("0", first), "l1_l2": (first, second)}[kind]
    return as_number(l2) if as_number(l1) == 0 else None
