"""Arguments and output that several verbs share."""

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepfm.config import ExperimentConfig
    from deepfm.data.tables.csv_files import ReadOptions
    from deepfm.engine.run import RunFolder
    from deepfm.reporting import Table

RUNS_DIR = "outputs"


OF_CLICKS = "training.lr=0.01 or dnn.hidden_units=[256,128]"


def add_config_arguments(parser: argparse.ArgumentParser, example: str = OF_CLICKS) -> None:
    """`--config` and `--override`; `example` is of settings that the command has."""
    parser.add_argument("--config", metavar="FILE", help="a YAML file, see configs/; left out: the defaults")
    add_override_argument(parser, example)


def add_override_argument(parser: argparse.ArgumentParser, example: str = OF_CLICKS) -> None:
    """`--override key=value …`; `example` is of settings that the command has."""
    parser.add_argument(
        "--override",
        metavar="KEY=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help=f"settings that beat the configuration's, such as {example}",
    )


def add_table_arguments(parser: argparse.ArgumentParser) -> None:
    """`--columns`, `--separator`, `--encoding`, `--on-bad-row`: how files of a table are read."""
    parser.add_argument("--columns", metavar="A,B,C", help="the names of the columns of files without a header")
    parser.add_argument("--separator", help="between two cells; left out: a comma, or a tab in .tsv and .txt")
    parser.add_argument("--encoding", help="of CSV files; left out: utf-8")
    parser.add_argument("--on-bad-row", choices=("fail", "skip"), help="a CSV row with too few or too many cells")


def add_role_arguments(parser: argparse.ArgumentParser) -> None:
    """`--label`, `--user`, `--item`, `--time`: columns that inference cannot tell by itself."""
    for role in ("label", "user", "item", "time"):
        parser.add_argument(f"--{role}", metavar="COLUMN", help=f"the {role} column")


def table_settings(args: argparse.Namespace) -> list[str]:
    """The overrides that table and role arguments stand for."""
    import json

    given = {
        name: getattr(args, name, None)
        for name in ("label", "user", "item", "time", "separator", "encoding", "on_bad_row")
    }
    settings = [f"data.{name}={json.dumps(value)}" for name, value in given.items() if value is not None]
    if getattr(args, "columns", None) is not None:
        settings.append(f"data.columns={json.dumps(column_names(args))}")
    return settings


def column_names(args: argparse.Namespace) -> list[str] | None:
    """What `--columns` lists; None where it is not given.

    Raises:
        ConfigError: it lists nothing.
    """
    from deepfm.errors import ConfigError

    if args.columns is None:
        return None
    names = [name.strip() for name in args.columns.split(",")]
    if not all(names):
        raise ConfigError(f"--columns {args.columns!r} has an empty name; expected names with commas between them")
    return names


def read_options(args: argparse.Namespace) -> "ReadOptions":
    """How `add_table_arguments` says that files are read."""
    from deepfm.data.tables.csv_files import ReadOptions

    names = column_names(args)
    columns = None if names is None else tuple(names)
    return ReadOptions(columns, args.separator, args.encoding or "utf-8", args.on_bad_row or "fail")


def add_quiet_argument(parser: argparse.ArgumentParser) -> None:
    """`--quiet`."""
    parser.add_argument("--quiet", action="store_true", help="print warnings and the final table only")


def load_experiment(args: argparse.Namespace) -> "ExperimentConfig":
    """The configuration that `--config` and `--override` describe."""
    from deepfm.config import load_config

    return load_config(args.config, [*_data_settings(args), *args.override])


def _data_settings(args: argparse.Namespace) -> list[str]:
    """The overrides that `--data` and what goes with it stand for; none where the verb has no such argument."""
    import json

    from deepfm.errors import ConfigError

    if not getattr(args, "takes_table", False):
        return []
    settings = table_settings(args)
    data = getattr(args, "data", None)
    if data is None:
        if settings or getattr(args, "split", None) or getattr(args, "schema", None):
            raise ConfigError(
                "--label, --schema, --split and their like go with --data; give the table with --data FILE"
            )
        return []
    three = holds_split(data)
    settings += ["data.dataset_name=table", f"data.{'data_dir' if three else 'table'}={json.dumps(data)}"]
    if args.schema:
        settings.append(f"data.table_schema={json.dumps(args.schema)}")
    if not three:
        settings.append(f"data.split_strategy={args.split or ('temporal' if args.time else 'random')}")
    elif args.split:
        raise ConfigError(f"{data} holds train and valid files, which are the split; leave out --split {args.split}")
    if not args.config:
        settings.append("training.metric=auc")
    return settings


def holds_split(data: str) -> bool:
    """Whether a folder's files are the split: it holds `train` and `valid`."""
    return Path(data).is_dir() and all(any(Path(data).glob(f"{stem}.*")) for stem in ("train", "valid"))


def config_name(args: argparse.Namespace, config: "ExperimentConfig") -> str:
    """What a configuration's runs are filed under: its file's name, or the model's without a file."""
    if args.config:
        return Path(args.config).stem
    data = getattr(args, "data", None)
    if data is None:
        return config.model_name
    from deepfm.utils.io import table_name

    return f"{table_name(data).split('.')[0] or 'table'}-{config.model_name}"


def runs_place(args: argparse.Namespace) -> Path:
    """Where the runs that the arguments speak of are: `output_dir`, else those of `--config`, else all."""
    config = load_experiment(args)
    if config.output_dir:
        return Path(config.output_dir)
    return Path(RUNS_DIR, config_name(args, config)) if args.config else Path(RUNS_DIR)


def new_run(config: "ExperimentConfig", name: str) -> "RunFolder":
    """The folder for a new run, not yet made: `output_dir` as it is given, else a new one below `outputs/<name>`."""
    from deepfm.engine.run import RunFolder, new_run_path

    return RunFolder(config.output_dir or new_run_path(RUNS_DIR, name, config.seed))


def metrics_table(metrics: Mapping[str, Mapping[str, Any]], caption: str = "") -> "Table":
    """Splits as rows, metrics as columns."""
    from deepfm.reporting import Column, Table

    names = list(dict.fromkeys(name for values in metrics.values() for name in values))
    columns = [Column("split"), *(Column(name, format=".4f") for name in names)]
    rows = [[split, *(values.get(name) for name in names)] for split, values in metrics.items()]
    return Table(columns, rows, caption, best=False)


def print_results(run: "RunFolder", results: Mapping[str, Any]) -> None:
    """The end of a run: its metrics as a table, and where its files are."""
    from deepfm.reporting import print_table

    source = "" if results["data"]["source"] != "sample" else ", GENERATED SAMPLE, NOT REAL DATA"
    caption = f"{results['model']} on {results['data']['name']}{source}"
    if results["kind"] == "model" and "train_negatives" in results["protocol"]:
        caption += f"; training negatives {results['protocol']['train_negatives']}"
    if results["best_epoch"]:
        caption += f"; best epoch {results['best_epoch']} of {results['epochs']}, {results['seconds']:.0f} s"
    splits = {split: results[split] for split in ("validation", "test")}
    print_table(metrics_table(splits, caption))
    print(f"run folder {run.path}, report {run.report}")


def print_warnings(sentences: Iterable[str]) -> None:
    """Print each sentence as a warning beside what a command says."""
    for sentence in sentences:
        print(f"warning: {sentence}")
