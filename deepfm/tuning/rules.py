"""What of a class of settings a search may vary."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepfm.engine.settings import build_setting
from deepfm.errors import ConfigError


def _any_value(name: str, value: Any) -> None:
    """What the setting's own limits allow is allowed."""


@dataclass(frozen=True)
class Rules:
    """What of a class of settings a search may vary.

    Args:
        settings_class: a frozen dataclass, nested to any depth; its `training.metric` judges trials.
        never_vary: a setting or a section that stays → why.
        may_vary: settings of those sections that may be varied all the same.
        of_the_place: settings that say where something is done, and not what.
        epochs: the setting that says how many epochs a training has at most.
        shipped: the YAML file with the space where a configuration has none.
        check: called with a setting's name and a value of it; raises ConfigError where the value cannot be.
    """

    settings_class: Any
    never_vary: Mapping[str, str]
    may_vary: tuple[str, ...]
    of_the_place: tuple[str, ...]
    epochs: str
    shipped: Path
    check: Callable[[str, Any], None] = _any_value

    def refuse_fixed(self, name: str) -> None:
        """Make sure that a setting may be varied.

        Raises:
            ConfigError: it may not, with the reason.
        """
        if name in self.may_vary:
            return
        for fixed, reason in self.never_vary.items():
            if name == fixed or name.startswith(fixed + "."):
                raise ConfigError(f"tune.{name} cannot be varied, as {name} {reason}; set it with --override {name}=…")

    def checked(self, name: str, value: Any) -> Any:
        """A value of a setting, by its type and limits.

        Raises:
            ConfigError: it cannot have it.
        """
        checked = build_setting(self.settings_class, name, value)
        self.check(name, checked)
        return checked
