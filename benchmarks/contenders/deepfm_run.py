"""deepfm itself, through its public API: a data set, `CTRTask` and one `fit` over all turns.

Training data are the workload's rows in a `TabularDataset`. Where there are histories, they are the package's own
`TrainingInteractions`, a like and its negatives sharing one history, and drawn anew each epoch; `--override rows=plain`
gives it the rows that the peers get instead.

`fit` runs on from turn to turn: an observer answers when an epoch is done and waits for the next command, so that the
optimizer keeps its state as the peers' do. Validation is replaced by a constant, since only training is timed.
`--predict` scores the package's own test candidates (or the rows, under `rows=plain`) with `score_rows` and
`evaluate_scores`, or user by user with `model.predict`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from ranking import K
from worker import Channel, Clock, arguments, evaluate_per_user, greeting, peak_bytes
from workload import Field, Rows, Workload

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
PLAIN_ROWS = "rows=plain"
Sets = tuple[DatasetSchema, TabularDataset, TabularDataset]  # schema, training rows, candidates


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


def sets_of_rows(workload: Workload, folder: Path, with_candidates: bool) -> Sets:
    """The workload's rows, histories written out; without candidates the training rows stand for both sets."""
    schema = DatasetSchema({field.name: _schema(field, workload.embedding_dim) for field in workload.fields}, "label")
    files = ["train.npz", "candidates.npz"] if with_candidates else ["train.npz"]
    sets = []
    for file in files:
        rows = Rows.read(folder / file, workload.fields)
        sets.append(TabularDataset(rows.columns, rows.labels))
        sets[-1].check(schema)
        sets[-1].group_offsets = rows.offsets
    return schema, sets[0], sets[-1]


def own_sets(workload: Workload, folder: Path, config: ExperimentConfig, with_candidates: bool) -> Sets:
    """The package's own data sets, which have to be what the peers get."""
    data = open_data(config)
    if data.schema.behaviour_fields:
        _check_same(data.train, Rows.read(folder / "train.npz", workload.fields))
    if with_candidates:  # without the histories, which are large where they are written out
        fields = tuple(field for field in workload.fields if not field.shares_table_with)
        _check_same(data.test, Rows.read(folder / "candidates.npz", fields))
    return data.schema, data.train, data.test


def train_in_turns(config: ExperimentConfig, sets: Sets, channel: Channel) -> None:
    schema, train, _ = sets
    model = create_model(config.model_name, schema, config)
    task = TrainingOnly(model, config, train, train)
    hello = greeting("deepfm", sum(weight.numel() for weight in model.parameters()))
    turns = Turns(channel, hello, len(train))
    fit(task, config.training, device=torch.device("cpu"), observers=[turns])


def evaluate_in_turns(config: ExperimentConfig, sets: Sets, how: str, channel: Channel) -> None:
    schema, train, test = sets
    model = create_model(config.model_name, schema, config)
    fit(TrainingOnly(model, config, train, test), config.training, device=torch.device("cpu"))
    channel.answer(greeting("deepfm", sum(weight.numel() for weight in model.parameters())))
    labels = Rows({}, test.labels.numpy(), test.group_offsets)
    for command in channel.commands():
        if command == "quit":
            break
        clock = Clock()
        if how == "bulk":
            found = evaluate_scores(score_rows(model, test), test, (K,)).metrics
            metrics = {name: found[name] for name in (f"hr@{K}", f"ndcg@{K}", "auc")}
        else:
            metrics = evaluate_per_user(
                lambda start, end: model.predict(test.batch(slice(start, end))[0]).squeeze(1).numpy(), labels
            )
        channel.answer({"rows": len(test), **clock.read(), "metrics": metrics, "peak": peak_bytes()})


def main() -> None:
    args = arguments()
    channel = Channel(args.answers)
    torch.set_num_threads(args.threads)
    configure_console(quiet=True)
    workload = Workload.read(args.folder)
    seed_everything(workload.seed)
    data = ["data.source=files", f"data.data_dir={workload.raw_data}"] if workload.raw_data else []
    data += [f"data.num_neg_eval={workload.num_candidates}"] if workload.num_candidates else []
    epochs = ["training.num_epochs=1"] if args.predict else ENDLESS
    changes = [change for change in args.override if change != PLAIN_ROWS]
    config = load_config(None, [*workload.as_overrides(), *data, *epochs, *changes])
    behaviour = any(field.shares_table_with for field in workload.fields)
    predict = bool(args.predict)
    if PLAIN_ROWS not in args.override and (predict or behaviour):
        sets = own_sets(workload, args.folder, config, predict)
    else:
        sets = sets_of_rows(workload, args.folder, predict)
    if predict:
        evaluate_in_turns(config, sets, args.predict, channel)
    else:
        train_in_turns(config, sets, channel)


def _schema(field: Field, width: int) -> FieldSchema:
    combiner, owner = ("none", field.shares_table_with) if field.shares_table_with else ("mean", None)
    return FieldSchema(
        field.name,
        field.kind,
        field.vocabulary_size,
        width,
        max_length=field.max_length,
        combiner=combiner,
        shares_embedding_with=owner,
    )


def _check_same(dataset: TabularDataset, rows: Rows) -> None:
    if len(dataset) != len(rows.labels):
        raise SystemExit(f"the package has {len(dataset)} rows and the workload {len(rows.labels)}")
    for start in range(0, len(dataset), 8192):  # in parts, as histories are wide
        part = slice(start, start + 8192)
        columns = dataset.batch(part)[0]
        for name, column in rows.columns.items():
            if not (columns[name].numpy() == column[part]).all():
                raise SystemExit(f"{name} of the package's rows is not that of the workload")


if __name__ == "__main__":
    main()
