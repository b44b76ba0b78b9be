"""Progress on a terminal: a bar for the epochs and one for the batches; nothing where nobody looks."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from deepfm.engine.checkpoint import FitState
from deepfm.engine.loop import Observer
from deepfm.engine.task import Progress, no_progress


class ProgressBars(Observer):
    """Two rich bars with loss, metric, rows per second and time left.

    Args:
        metric: the validation metric to show.
    """

    def __init__(self, metric: str) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.metric = metric
        self._bars = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            transient=True,
        )
        self._epochs: Any = None
        self._batches: Any = None
        self._rows, self._started, self._num_batches = 0, 0.0, 0
        self._best, self._loss = "", ""

    def fit_started(self, first_epoch: int, num_epochs: int, num_batches: int) -> None:
        """Show both bars."""
        self._num_batches = num_batches
        self._epochs = self._bars.add_task("epochs", total=num_epochs, completed=first_epoch - 1, note="")
        self._batches = self._bars.add_task("training", total=num_batches, note="")
        self._bars.start()
        self._restart()

    def batches_skipped(self, batches: int) -> None:
        """Move the batch bar to where the epoch goes on."""
        self._bars.update(self._batches, advance=batches)

    def batch_finished(self, rows: int) -> None:
        """Move the batch bar."""
        self._rows += rows
        rate = self._rows / max(1e-9, time.perf_counter() - self._started)
        self._bars.update(self._batches, advance=1, note=f"{self._loss}{rate:,.0f} rows/s")

    def loss_known(self, loss: float) -> None:
        """Show the loss from the next batch on."""
        self._loss = f"loss {loss:.4f}  "

    def evaluating(self, done: int, total: int) -> None:
        """Let the batch bar show the validation."""
        self._bars.update(self._batches, description="validating", completed=done, total=total, note="")

    def epoch_finished(self, state: FitState, improved: bool) -> None:
        """Move the epoch bar, and begin the batch bar anew."""
        self._loss = f"loss {state.history[-1]['loss']:.4f}  "
        if improved:
            self._best = f"best {self.metric} {state.history[-1][self.metric]:.4f} in epoch {state.best_epoch}"
        self._bars.update(self._epochs, completed=state.epoch, note=self._loss + self._best)
        self._bars.reset(self._batches, total=self._num_batches, description="training")
        self._restart()

    def fit_ended(self) -> None:
        """Take the bars away."""
        self._bars.stop()

    def _restart(self) -> None:
        self._rows, self._started = 0, time.perf_counter()


def progress_observers(metric: str, quiet: bool) -> list[Observer]:
    """Bars where stdout is a terminal and quiet is not asked for; else none."""
    return [] if quiet or not sys.stdout.isatty() else [ProgressBars(metric)]


@contextmanager
def evaluation_bar(quiet: bool) -> Iterator[Progress]:
    """One bar for an evaluation, moved by the callback it gives; nothing where nobody looks."""
    if quiet or not sys.stdout.isatty():
        yield no_progress
        return
    from rich.progress import Progress as Bars

    with Bars(transient=True) as bars:
        bar = bars.add_task("evaluating", total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)
