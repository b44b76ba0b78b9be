"""The one training loop: epochs, validation, the best weights, stopping, and resuming bit for bit."""

import copy
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from deepfm.engine.acceleration import accelerated, autocast
from deepfm.engine.checkpoint import FitState, load_fit, save_fit
from deepfm.engine.loop_settings import LoopSettings
from deepfm.engine.optim import build_optimizer
from deepfm.engine.optimizer import CombinedOptimizer
from deepfm.engine.schedule import Schedule
from deepfm.engine.sparse import clip_gradients
from deepfm.engine.task import Task
from deepfm.errors import CheckpointError, TrainingError

LOSS_CHECK_STEPS = 50  # between two looks at the loss, which wait for the device


class Observer:
    """What may watch a fit: progress bars, run folders. Every method may be left as it is.

    Attributes:
        stop_requested: whether the fit should end; looked at before each epoch.
    """

    stop_requested = False

    def fit_started(self, first_epoch: int, num_epochs: int, num_batches: int) -> None:
        """Training begins with `first_epoch`, which is above 1 in a resumed run."""

    def epoch_started(self, epoch: int) -> None:
        """The batches of an epoch (from 1) are about to be made."""

    def batches_skipped(self, batches: int) -> None:
        """So many batches of the epoch were done before an interruption; called after `epoch_started`."""

    def batch_finished(self, rows: int) -> None:
        """A batch of so many rows has been queued; no loss is known yet."""

    def loss_known(self, loss: float) -> None:
        """The mean loss of the epoch so far."""

    def evaluating(self, done: int, total: int) -> None:
        """The epoch's batches are done, and `done` of `total` parts of its validation."""

    def epoch_finished(self, state: FitState, improved: bool) -> None:
        """An epoch and its validation are done; `state.history[-1]` is its record."""

    def fit_ended(self) -> None:
        """No further epoch follows, be it by an error."""


def fit(
    task: Task,
    settings: LoopSettings,
    *,
    device: torch.device,
    checkpoint: Path | None = None,
    resume: bool = False,
    observers: Sequence[Observer] = (),
    optimizer: CombinedOptimizer | None = None,
) -> FitState:
    """Train a task to its best validation metric; the model ends with the best epoch's weights.

    Where the task has no metric, no epoch is best: all are run, and the model ends with the last one's weights.

    Args:
        task: the problem.
        settings: the knobs.
        device: where the task's model and batches live.
        checkpoint: written at the start, after each epoch and, with `checkpoint_batches`, inside epochs, whole or not
            at all; None for no file.
        resume: continue from `checkpoint`; the outcome is that of a run that was never interrupted.
        observers: told what happens.
        optimizer: keeps its state and its learning rates; None for one that the settings describe.

    Raises:
        TrainingError: the loss is no longer finite; the last checkpoint, from before that, stands.
        CheckpointError: the checkpoint is missing, damaged or of another task, or was written inside an epoch of other
            batches.
    """
    steps = -(-task.num_batches() // settings.accumulation_steps)
    scheduler = settings.scheduler if optimizer is None else "given"
    if optimizer is None:
        optimizer = build_optimizer(settings.optimizer, settings.lr, task.parameter_groups(), device)
    schedule = Schedule(
        scheduler,
        settings.lr,
        steps * settings.num_epochs,
        settings.warmup_steps,
        settings.plateau_factor,
        settings.plateau_patience,
        settings.min_lr,
    )
    state = FitState()
    if resume:
        if checkpoint is None:
            raise CheckpointError("resuming needs a checkpoint; give the run's folder")
        state = load_fit(checkpoint, task, optimizer, schedule, device)
        if state.batches % settings.accumulation_steps:
            raise CheckpointError(
                f"checkpoint {checkpoint} was written after batch {state.batches} of an epoch, inside a step of "
                f"accumulation_steps = {settings.accumulation_steps}; resume with the number that it had"
            )

    def save() -> None:
        if checkpoint is not None:
            save_fit(checkpoint, task, optimizer, schedule, device, state)

    if not resume:
        save()
    for observer in observers:
        observer.fit_started(state.epoch + 1, settings.num_epochs, task.num_batches())
    try:
        with task.training(), accelerated(task.model, device, settings.compile, settings.activation_checkpointing):
            while _goes_on(task, settings, state, observers):
                improved = _run_epoch(task, settings, device, optimizer, schedule, state, observers, save)
                save()
                for observer in observers:
                    observer.epoch_finished(state, improved)
    finally:
        for observer in observers:
            observer.fit_ended()
    if state.best_weights:
        task.model.load_state_dict(state.best_weights)
    return state


def _goes_on(task: Task, settings: LoopSettings, state: FitState, observers: Sequence[Observer]) -> bool:
    """Whether a further epoch follows."""
    patient = task.metric is None or state.epochs_since_best < settings.early_stopping_patience
    stopped = any(observer.stop_requested for observer in observers)
    return patient and not stopped and state.epoch < settings.num_epochs


def _run_epoch(
    task: Task,
    settings: LoopSettings,
    device: torch.device,
    optimizer: CombinedOptimizer,
    schedule: Schedule,
    state: FitState,
    observers: Sequence[Observer],
    save: Callable[[], None],
) -> bool:
    """Train and validate one epoch, or what is left of it; whether it is the best so far."""
    epoch, started = state.epoch + 1, time.perf_counter() - state.epoch_seconds
    for observer in observers:
        observer.epoch_started(epoch)
        if state.batches:
            observer.batches_skipped(state.batches)
    loss, rows, lr = _train_epoch(task, settings, device, optimizer, schedule, state, observers, save, started)
    trained = time.perf_counter()

    def on_progress(done: int, total: int) -> None:
        for observer in observers:
            observer.evaluating(done, total)

    on_progress(0, 1)
    task.model.eval()
    with torch.no_grad():
        metrics = task.evaluate(on_progress)
    seconds = time.perf_counter() - started
    record = {
        "epoch": epoch,
        "loss": loss,
        "lr": lr,
        "seconds": seconds,
        "rows_per_second": rows / (trained - started),
    }
    improved = task.metric is not None and _is_best(task, task.metric, settings.min_delta, state, metrics)
    state.epoch = epoch
    state.epoch_is_under_way(0, 0, 0.0, 0.0)
    state.seconds += seconds
    state.history.append(record | metrics)
    if improved:
        state.best_epoch = epoch
        state.best_weights = copy.deepcopy(task.model.state_dict())
    if schedule.epoch_ended(improved) and settings.plateau_restore:
        task.model.load_state_dict(state.best_weights)
    return improved


def _is_best(task: Task, metric: str, min_delta: float, state: FitState, metrics: dict[str, float]) -> bool:
    value = metrics[metric]
    if math.isnan(value):
        raise TrainingError(f"validation {metric} is NaN after epoch {state.epoch + 1}; look at the validation data")
    if not state.best_epoch:
        return True
    best: float = state.history[state.best_epoch - 1][metric]
    return value > best + min_delta if task.maximize else value < best - min_delta


def _train_epoch(
    task: Task,
    settings: LoopSettings,
    device: torch.device,
    optimizer: CombinedOptimizer,
    schedule: Schedule,
    state: FitState,
    observers: Sequence[Observer],
    save: Callable[[], None],
    started: float,
) -> tuple[float, int, float]:
    """One pass over the batches that are left: the epoch's mean loss, its rows, and the last step's learning rate."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    epoch, done = state.epoch + 1, state.batches
    losses, saved = _LossMeter(state), done
    task.model.train()
    optimizer.zero_grad()
    num_batches = task.num_batches()
    batches = task.batches(epoch, done) if done else task.batches(epoch)
    for number, batch in enumerate(batches, start=done + 1):
        with autocast(settings.precision, device):
            loss, rows = task.loss(batch)
        first_of_step = number - (number - 1) % settings.accumulation_steps
        batches_of_step = min(settings.accumulation_steps, num_batches - first_of_step + 1)
        (loss / batches_of_step).backward()
        stepped = number == first_of_step + batches_of_step - 1
        if stepped:
            _step(parameters, settings.gradient_clip_norm, optimizer, schedule)
        losses.add(loss, rows)
        for observer in observers:
            observer.batch_finished(rows)
        if number % LOSS_CHECK_STEPS == 0:
            mean = losses.read()
            for observer in observers:
                observer.loss_known(mean)
        if settings.checkpoint_batches and stepped and saved + settings.checkpoint_batches <= number < num_batches:
            losses.read()
            state.epoch_is_under_way(number, losses.rows, losses.total, time.perf_counter() - started)
            save()
            saved = number
    group = optimizer.param_groups[0]
    return losses.read(), losses.rows, group["lr"] / group.get("lr_factor", 1.0)


def _step(
    parameters: list[nn.Parameter],
    clip_norm: float | None,
    optimizer: CombinedOptimizer,
    schedule: Schedule,
) -> None:
    if clip_norm is not None:
        clip_gradients(parameters, clip_norm)
    schedule.apply(optimizer)
    optimizer.step()
    optimizer.zero_grad()


class _LossMeter:
    """The mean loss of an epoch, which may be under way; kept on the device until it is asked for."""

    def __init__(self, state: FitState) -> None:
        self.rows, self.total = state.rows, state.loss_sum
        self._state, self._batches = state, state.batches
        self._unread: list[tuple[Tensor, int]] = []

    def add(self, loss: Tensor, rows: int) -> None:
        self._unread.append((loss.detach(), rows))
        self.rows += rows

    def read(self) -> float:
        """The mean so far.

        Raises:
            TrainingError: a loss is not finite; its batch is named.
        """
        if self._unread:
            values = torch.stack([loss for loss, _ in self._unread]).tolist()
            for value, (_, rows) in zip(values, self._unread, strict=True):
                self._batches += 1
                if not math.isfinite(value):
                    done, batches = self._state.epoch, self._state.batches
                    kept = f"after epoch {done}" if done else "before training"
                    kept = f"after epoch {done + 1}, batch {batches}," if batches else kept
                    raise TrainingError(
                        f"the loss is {value} in epoch {done + 1}, batch {self._batches}; the state {kept} is kept; "
                        "lower training.lr, clip gradients (training.gradient_clip_norm), or check the data"
                    )
                self.total += value * rows
            self._unread.clear()
        return self.total / max(1, self.rows)
