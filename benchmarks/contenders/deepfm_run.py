"""deepfm itself, through its public API: `TabularDataset`, `CTRTask` and one `fit` over all turns.

`fit` runs on from turn to turn: an observer answers when an epoch is done and waits for the next command, so that the
optimizer keeps its state as the peers' do. Validation is replaced by a constant, since only training is timed.
`--predict` scores the package's own test candidates with `score_rows` and `evaluate_scores`, or user by user with
`model.predict`.
"""

from collections.abc import Iterator
from typing import Any

import torch
from ranking import K
from worker import Channel, Clock, arguments, evaluate_per_user, greeting, peak_bytes
from workload import Rows, Workload

from deepfm.config import ExperimentConfig, load_config
from deepfm.data.dataset import TabularDataset
from deepfm.data.schema import DatasetSchema, FieldSchema
from deepfm.engine.checkpoint import FitState
from deepfm.engine.loop import Observer, fit
from deepfm.engine.task import Progress, no_progress
from deepfm.models import create_model
from deepfm.training.evaluation import evaluate_scores, score_rows
from deepfm.training.experiment import open_data
from deepfm.training.task import CTRTask
from deepfm.utils.logging import configure_console
from deepfm.utils.seeding import seed_everything

ENDLESS = [
    "training.num_epochs=1000000",
    "training.early_stopping_patience=1000000",
    "training.scheduler=none",
    "training.metric=auc",
]


class TrainingOnly(CTRTask):
    """Clicks, with a validation that costs nothing."""

    def evaluate(self, on_progress: Progress = no_progress) -> dict[str, float]:
        return {self.metric: 0.5}


class Turns(Observer):
    """Makes an epoch of `fit` a turn: times it, answers, and waits for the next command."""

    def __init__(self, channel: Channel, hello: dict[str, Any], rows: int) -> None:
        self.channel, self.hello, self.rows = channel, hello, rows
        self.commands: Iterator[str] = channel.commands()

    def fit_started(self, first_epoch: int, num_epochs: int, num_batches: int) -> None:
        self.channel.answer(self.hello)
        self._wait()

    def evaluating(self, done: int, total: int) -> None:
        self.times = self.clock.read()

    def epoch_finished(self, state: FitState, improved: bool) -> None:
        loss = state.history[-1]["loss"]
        self.channel.answer({"rows": self.rows, **self.times, "loss": loss, "peak": peak_bytes()})
        self._wait()

    def _wait(self) -> None:
        if next(self.commands, "quit") == "quit":
            raise SystemExit
        self.clock = Clock()


def train_in_turns(workload: Workload, rows: Rows, config: ExperimentConfig, channel: Channel) -> None:
    fields = {
        field.name: FieldSchema(
            field.name, field.kind, field.vocabulary_size, workload.embedding_dim, max_length=field.max_length
        )
        for field in workload.fields
    }
    schema = DatasetSchema(fields, "label")
    model = create_model(config.model_name, schema, config)
    dataset = TabularDataset(rows.columns, rows.labels)
    dataset.check(schema)
    task = TrainingOnly(model, config, dataset, dataset)
    hello = greeting("deepfm", sum(weight.numel() for weight in model.parameters()))
    turns = Turns(channel, hello, len(dataset))
    fit(task, config.training, device=torch.device("cpu"), observers=[turns])


def evaluate_in_turns(config: ExperimentConfig, candidates: Rows, how: str, channel: Channel) -> None:
    data = open_data(config)
    columns = data.test.batch(slice(None))[0]
    if not all((column.numpy() == candidates.columns[name]).all() for name, column in columns.items()):
        raise SystemExit("the package's test candidates are not those of the workload")
    model = create_model(config.model_name, data.schema, config)
    fit(TrainingOnly(model, config, data.train, data.validation), config.training, device=torch.device("cpu"))
    channel.answer(greeting("deepfm", sum(weight.numel() for weight in model.parameters())))
    for command in channel.commands():
        if command == "quit":
            break
        clock = Clock()
        if how == "bulk":
            found = evaluate_scores(score_rows(model, data.test), data.test, (K,)).metrics
            metrics = {name: found[name] for name in (f"hr@{K}", f"ndcg@{K}", "auc")}
        else:
            metrics = evaluate_per_user(
                lambda start, end: model.predict(data.test.batch(slice(start, end))[0]).squeeze(1).numpy(), candidates
            )
        channel.answer({"rows": len(data.test), **clock.read(), "metrics": metrics, "peak": peak_bytes()})


def main() -> None:
    args = arguments()
    channel = Channel(args.answers)
    torch.set_num_threads(args.threads)
    configure_console(quiet=True)
    workload = Workload.read(args.folder)
    seed_everything(workload.seed)
    if args.predict:
        data = [
            "training.num_epochs=1",
            "data.source=files",
            f"data.data_dir={workload.raw_data}",
            f"data.num_neg_eval={workload.num_candidates}",
        ]
        config = load_config(None, [*workload.as_overrides(), *data, *args.override])
        candidates = Rows.read(args.folder / "candidates.npz", workload.fields)
        evaluate_in_turns(config, candidates, args.predict, channel)
    else:
        config = load_config(None, [*workload.as_overrides(), *ENDLESS, *args.override])
        rows = Rows.read(args.folder / "train.npz", workload.fields)
        train_in_turns(workload, rows, config, channel)


if __name__ == "__main__":
    main()
