"""What a search needs to know of what it tunes; click models are the first, wings bring their own."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepfm.engine.loop import Observer
from deepfm.engine.run import RunFolder
from deepfm.tuning.rules import Rules
from deepfm.tuning.trial import Shelf


class Subject(ABC):
    """A kind of experiment that can be tuned; it travels to other processes, so it holds no data.

    Attributes:
        rules: what of its settings may be varied.
    """

    rules: Rules

    @abstractmethod
    def load(self, path: str | Path | None, overrides: Sequence[str]) -> Any:
        """The configuration of a YAML file and overrides.

        Raises:
            ConfigError: they hold what is no setting.
        """

    @abstractmethod
    def check(self, config: Any) -> None:
        """Find what would stop every trial before data are read.

        Raises:
            DeepFMError: that.
        """

    @abstractmethod
    def shelf(self) -> Shelf:
        """An empty shelf for the trials of a process."""

    @abstractmethod
    def model(self, config: Any) -> str:
        """What is trained, in one word."""

    def winner(self, config: Any, trials: int) -> Any:
        """The best of so many trials' configurations as it is trained: as it is, unless a wing notes the number."""
        return config

    @abstractmethod
    def run_config(self, run: RunFolder) -> Any:
        """The configuration that a run folder was made with."""

    @abstractmethod
    def train(self, config: Any, run: RunFolder, observers: Sequence[Observer]) -> dict[str, Any]:
        """Train from the start to test metrics, over what the folder holds; the content of `results.json`."""

    @abstractmethod
    def resume(self, run: RunFolder, observers: Sequence[Observer]) -> dict[str, Any]:
        """Go on with an interrupted run; the content of `results.json`."""
