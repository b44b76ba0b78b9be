"""Fine-tuning: every model on every task with every draw of shots, and the accuracy it reaches."""

from collections.abc import Callable, Mapping, Sequence

import polars as pl
import torch
from torch import Tensor

from deepfm.model_selection.outcomes import Outcomes
from deepfm.model_selection.zoo.networks import body_of, build_network
from deepfm.model_selection.zoo.pretraining import torch_generator
from deepfm.model_selection.zoo.rows import TransferTask
from deepfm.model_selection.zoo.settings import FineTuneSettings
from deepfm.model_selection.zoo.training import Lessons, Recipe, stack, stack_accuracy, train_stack


def finetune(
    states: Mapping[str, Mapping[str, Tensor]],
    architectures: Mapping[str, str],
    tasks: Sequence[TransferTask],
    settings: FineTuneSettings,
    recipe: str,
    seed: int,
    on_progress: Callable[[int, int], None],
) -> Outcomes:
    """Fine-tune each model on each task once for each of its draws of shots; a stack for each architecture and task.

    Args:
        states: the weights of each model by its name.
        architectures: of each model.
        tasks: what to fine-tune on.
        settings: how.
        recipe: what the outcomes call that.
        seed: the zoo's.
        on_progress: told how many stacks of how many are done.

    Returns:
        The accuracy on the test rows, measured, a row for each model, task and seed.
    """
    rows = []
    kinds = sorted(set(architectures.values()))
    for number, (architecture, task) in enumerate((kind, task) for kind in kinds for task in tasks):
        on_progress(number, len(kinds) * len(tasks))
        models = [name for name in states if architectures[name] == architecture]
        accuracies = _accuracies(architecture, [states[name] for name in models], task, settings, seed)
        for run in range(task.seeds):
            for model, value in zip(models, accuracies[run], strict=True):
                rows.append((model, task.name, "accuracy", "test", run, recipe, value, "measured"))
    on_progress(len(kinds) * len(tasks), len(kinds) * len(tasks))
    columns = ["model", "dataset", "metric", "split", "seed", "recipe", "value", "origin"]
    return Outcomes(pl.DataFrame(rows, schema=columns, orient="row"))


def _accuracies(
    architecture: str, states: Sequence[Mapping[str, Tensor]], task: TransferTask, settings: FineTuneSettings, seed: int
) -> list[list[float]]:
    """`(seeds, models)`; the heads of a seed begin alike for every model."""
    classes = len(task.classes)
    members, batches = [], []
    for run in range(task.seeds):
        start = build_network(architecture, classes, torch_generator(f"zoo head {task.name} {architecture}", seed, run))
        head = {name: weight for name, weight in start.state_dict().items() if name.startswith("head.")}
        members += [body_of(state) | head for state in states]
        batches += [torch.from_numpy(task.shots[run])] * len(states)
    open_classes = torch.full((len(members),), classes)
    pool, test = ((torch.from_numpy(rows.images), torch.from_numpy(rows.labels)) for rows in (task.pool, task.test))
    lessons = Lessons(*pool, torch.stack(batches)[None], open_classes)
    recipe = Recipe(settings.steps, settings.lr, settings.weight_decay, settings.body_lr)
    network = build_network(architecture, classes)
    tuned = train_stack(network, stack(members), lessons, recipe)
    accuracy = stack_accuracy(network, tuned, *test, open_classes)
    values: list[list[float]] = accuracy.double().reshape(task.seeds, len(states)).tolist()
    return values
