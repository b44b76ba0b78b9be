"""Tables through the commands: trained, resumed, evaluated and compared; bad files refused in one sentence."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from deepfm import TableAdapter, TableSchema
from deepfm.cli import main
from deepfm.config import DataConfig
from deepfm.data.tables.files import find_table, scan_table
from deepfm.engine.loop import Observer
from deepfm.engine.progress import progress_observers
from deepfm.errors import DataError, SchemaError
from deepfm.training.experiment import train_experiment

pytestmark = pytest.mark.usefixtures("one_thread")
SCHEMA = """
label: click
user: user
item: item
columns:
  user: {min_count: 2}
  item: {}
  price: {type: dense}
  tags: {type: sequence, max_length: 3}
"""
OPTIONS = ["data.dataset_name=table", "device=cpu", "training.metric=auc", "training.num_epochs=4"]
OPTIONS += ["training.batch_size=100", "training.lr=0.01", "dnn.hidden_units=[16]", "feature.fm_embed_dim=8"]


def rows(count: int, seed: int) -> pl.DataFrame:
    """Clicks that a user and an item decide, with a price and tags that do not."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, 20, count), rng.integers(0, 15, count)
    chance = 1 / (1 + np.exp(-4 * np.sin(user + 2 * item)))
    tags = ["|".join(f"t{tag}" for tag in rng.integers(0, 6, rng.integers(0, 5))) for _ in range(count)]
    return pl.DataFrame(
        {
            **{"click": (rng.random(count) < chance).astype(int), "user": user, "item": item},
            **{"price": rng.random(count) * 50, "tags": tags},
        }
    )


@pytest.fixture(scope="module")
def table_dir(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clicks")
    (folder / "schema.yaml").write_text(SCHEMA)
    for seed, (part, count) in enumerate({"train": 1500, "valid": 400, "test": 400}.items()):
        rows(count, seed).write_csv(folder / f"{part}.csv")
    return folder


@pytest.fixture(scope="module")
def trained(table_dir, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "clicks"
    command = ["train", "--quiet", "--override", *OPTIONS, f"data.data_dir={table_dir}", f"output_dir={run}"]
    assert main(command) == 0
    return run


@pytest.fixture
def own(table_dir, tmp_path):
    """A copy of the data to spoil, and the overrides of a run on it."""
    folder = tmp_path / "clicks"
    shutil.copytree(table_dir, folder)
    return folder, [*OPTIONS, f"data.data_dir={folder}", f"output_dir={tmp_path / 'run'}"]


@pytest.fixture
def refused(capsys):
    def call(*argv):
        capsys.readouterr()
        assert main([str(arg) for arg in argv]) == 2
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        assert err.count("\n") == 1, err
        return err.removeprefix("deepfm: ").strip()

    return call


class TestRuns:
    def test_it_learns_what_is_planted(self, trained):
        results = json.loads((trained / "results.json").read_text())
        assert list(results["test"]) == ["auc", "logloss"]
        assert results["test"]["auc"] > 0.75
        assert results["data"]["name"].startswith("clicks")
        assert results["protocol"] == {"split_strategy": "files", "label": "click"}
        assert (results["validation"]["auc"], results["best_epoch"]) == max(
            (json.loads(line)["auc"], json.loads(line)["epoch"]) for line in (trained / "metrics.jsonl").open()
        )

    def test_the_folder_holds_what_a_table_needs(self, trained):
        files = {path.name for path in trained.iterdir()}
        assert {"table_schema.yaml", "encoders.json", "schema.json", "best.safetensors", "report.html"} <= files
        assert not {"candidates.npz", "ranks.npz"} & files
        assert TableSchema.load(trained / "table_schema.yaml").columns["user"].min_count == 2
        report = (trained / "report.html").read_text()
        assert "candidate rows" not in report
        assert "AUC and log loss are taken over all rows." in report
        assert "HR@" not in report

    def test_evaluation_needs_the_rows_and_the_run_alone(self, trained, own, capsys):
        folder, _ = own
        (folder / "schema.yaml").unlink()
        assert main(["evaluate", str(trained), "--json", "--override", f"data.data_dir={folder}"]) == 0
        printed = json.loads(capsys.readouterr().out)
        results = json.loads((trained / "results.json").read_text())
        for split in ("validation", "test"):
            assert printed[split] == pytest.approx(results[split], abs=1e-6)

    def test_other_rows_are_not_the_runs(self, trained, own, refused):
        folder, _ = own
        rows(400, 9).write_csv(folder / "test.csv")
        assert "another data set" in refused("evaluate", trained, "--override", f"data.data_dir={folder}")

    def test_encoders_know_the_training_rows_alone(self, own, trained):
        folder, options = own
        rows(400, 1).with_columns(item=pl.lit(99)).write_csv(folder / "valid.csv")
        assert main(["train", "--quiet", "--override", *options, "training.num_epochs=1"]) == 0
        encoders = json.loads((folder.parent / "run" / "encoders.json").read_text())
        assert encoders == json.loads((trained / "encoders.json").read_text())

    def test_a_column_that_is_all_unknown_is_said(self, own, capsys):
        folder, _ = own
        strange = rows(400, 1).with_columns(item=pl.lit("i") + pl.col("item").cast(pl.String), tags=pl.lit("new"))
        strange.write_csv(folder / "valid.csv")
        TableAdapter(folder, DataConfig(dataset_name="table")).build()
        warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("WARNING")]
        assert len(warnings) == 2
        for name, line in zip(("item", "tags"), warnings, strict=True):
            assert f"every value of column '{name}' of {folder / 'valid.csv'} is empty or unknown" in line

    def test_resuming_changes_no_weight(self, own, trained, table_dir):
        _, options = own
        from deepfm.config import load_config
        from deepfm.engine.run import RunFolder

        class Interrupt(Observer):
            def epoch_finished(self, state, improved):
                if state.epoch == 2:
                    raise KeyboardInterrupt

        run = RunFolder(Path(options[-1].partition("=")[2]))
        config = load_config(None, [*options, f"data.data_dir={table_dir}"])
        with pytest.raises(KeyboardInterrupt):
            train_experiment(config, run, [*progress_observers("auc", True), Interrupt()])
        assert main(["train", "--quiet", "--resume", str(run.path)]) == 0
        weights, expected = load_file(run.weights), load_file(trained / "best.safetensors")
        assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())

    def test_runs_stand_side_by_side(self, trained, capsys, tmp_path):
        other = tmp_path / "other"
        shutil.copytree(trained, other)
        results = json.loads((other / "results.json").read_text())
        results["test"] = {"auc": 0.99, "logloss": 0.1}
        (other / "results.json").write_text(json.dumps(results))
        assert main(["compare", str(trained), str(other), "--json"]) == 0
        (group,) = json.loads(capsys.readouterr().out)
        assert [row["auc"] == 0.99 for row in group["runs"]] == [True, False]
        assert list(group["runs"][0]) == ["run", "model", "auc", "logloss", "best epoch", "seconds"]
        assert main(["compare", str(trained), str(other), "--sort", "logloss"]) == 0

    def test_describe_shows_fields_and_rows(self, table_dir, capsys):
        assert main(["data", "describe", "--override", *OPTIONS, f"data.data_dir={table_dir}"]) == 0
        out = capsys.readouterr().out
        assert "tags" in out
        assert "1,500" in out

    def test_roles_beside_a_schema(self, refused, table_dir):
        for given in (["--user", "nope"], ["--label", "price"], ["--time", "price", "--item", "tags"]):
            assert "leave out data." in refused("train", "--data", table_dir, *given)

    def test_the_time_beside_a_schema_that_has_none(self, tmp_path):
        (tmp_path / "s.yaml").write_text(SCHEMA)
        frame = rows(300, 1).with_columns(when=pl.int_range(300) + 1_700_000_000)
        config = DataConfig("table", table_schema=str(tmp_path / "s.yaml"), time="when", split_strategy="temporal")
        _, train, _, test = TableAdapter(frame, config).build()
        assert (len(train), len(test)) == (240, 30)

    def test_a_globs_run_has_a_plain_name(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "logs").mkdir()
        for part in range(2):
            rows(600, part).write_csv(tmp_path / "logs" / f"part{part}.csv")
        options = [*OPTIONS[1:3], "training.num_epochs=1"]
        assert main(["train", "--data", "logs/part*.csv", "--label", "click", "--override", *options]) == 0
        assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["logs-deepfm"]
        assert "on logs" in capsys.readouterr().out

    def test_a_folder_of_tables_is_no_run(self, own, refused, tmp_path):
        (tmp_path / "mine").mkdir()
        rows(10, 1).write_csv(tmp_path / "mine" / "part.csv")
        sentence = refused("train", "--override", *own[1], f"output_dir={tmp_path / 'mine'}")
        assert "is no run and holds part.csv" in sentence
        assert [path.name for path in (tmp_path / "mine").iterdir()] == ["part.csv"]

    def test_every_format_and_name_gives_the_same_run(self, own, trained):
        folder, options = own
        for part, name in (("train", "train.parquet"), ("valid", "dev.csv.gz"), ("test", "last.parquet")):
            table = pl.read_csv(folder / f"{part}.csv")
            (folder / f"{part}.csv").unlink()
            if name.endswith("parquet"):
                table.write_parquet(folder / name)
            else:
                table.write_csv(folder / name, compression="gzip")
        (folder / "schema.yaml").rename(folder / "mine.yaml")
        named = [
            "data.valid_file=dev.csv.gz",
            "data.test_file=last.parquet",
            f"data.table_schema={folder / 'mine.yaml'}",
        ]
        assert main(["train", "--quiet", "--override", *options, *named]) == 0
        weights, expected = (
            load_file(folder.parent / "run" / "best.safetensors"),
            load_file(trained / "best.safetensors"),
        )
        assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())

    def test_from_python(self, table_dir):
        adapter = TableAdapter(table_dir, DataConfig(dataset_name="table"))
        schema, train, validation, test = adapter.build()
        assert (len(train), len(validation), len(test)) == (1500, 400, 400)
        for part in (train, validation, test):
            part.check(schema)
        assert schema.fields["tags"].vocabulary_size == 7
        given, *_ = TableAdapter(table_dir, DataConfig(), schema=adapter.schema).build(adapter.encoders)
        assert given == schema


class TestBadInput:
    def spoil(self, folder, part, change):
        path = folder / f"{part}.csv"
        path.write_bytes(change(path.read_bytes()))

    @pytest.mark.parametrize(
        ("part", "change", "words"),
        [
            ("train", lambda _: b"", ["train.csv is empty"]),
            ("train", lambda content: content.splitlines()[0] + b"\n", ["train.csv", "no rows"]),
            ("test", lambda content: content.splitlines()[0] + b"\n", ["test.csv", "no rows"]),
            ("valid", lambda content: content.replace(b"price", b"prize", 1), ["valid.csv", "'price'", "'prize'"]),
            ("valid", lambda content: content.replace(b"click", b"klick", 1), ["valid.csv", "'click'", "'klick'"]),
            ("train", lambda content: content.replace(b"user", b"item", 1), ["train.csv has two columns 'item'"]),
            ("test", lambda content: content + b"1,2,3,dear,t1\n", ["test.csv", "'dear' in row 401", "'price'"]),
            ("test", lambda content: content + b"2,2,3,4.0,t1\n", ["test.csv", "'2' in row 401", "'click'"]),
            ("train", lambda content: content + b"1,2,3\n", ["train.csv has 3 cells in row 1501; expected 5"]),
            ("train", lambda content: content + b"1,2,3,4,5,6\n", ["train.csv has 6 cells in row 1501; expected 5"]),
            (
                "train",
                lambda content: content.replace(b"t1", b"\xff\xfe", 1),
                ["train.csv holds bytes that are no utf-8 text", "latin-1"],
            ),
            ("test", lambda content: content + b"0.5,2,3,4.0,t1\n", ["test.csv", "0.5 in row 401", "0 or 1"]),
            (
                "valid",
                lambda content: b"\n".join([content.splitlines()[0], *[b"1,2,3,4.0,t1"] * 5]) + b"\n",
                ["valid.csv is 1 in every one of 5 rows", "both 0 and 1"],
            ),
        ],
    )
    def test_a_file_is_named(self, own, refused, part, change, words):
        folder, options = own
        self.spoil(folder, part, change)
        sentence = refused("train", "--override", *options)
        for word in words:
            assert word in sentence
        assert not (folder.parent / "run").exists()

    def test_a_missing_file(self, own, refused):
        folder, options = own
        (folder / "valid.csv").unlink()
        sentence = refused("train", "--override", *options)
        assert "valid.csv, valid.csv.gz, valid.tsv, valid.tsv.gz, valid.parquet" in sentence
        assert "data.valid_file" in sentence
        assert "gone.csv does not exist" in refused("train", "--override", *options, "data.valid_file=gone.csv")
        (folder / "data.doc").write_text("x")
        assert "data.doc is none of .csv" in refused("train", "--override", *options, "data.valid_file=data.doc")

    def test_two_files_that_could_be_meant(self, own, refused):
        folder, options = own
        (folder / "train.parquet").write_bytes(b"x")
        assert "train.csv and train.parquet" in refused("train", "--override", *options)
        sentence = refused("train", "--override", *options, "data.train_file=train.parquet")
        assert "train.parquet cannot be read" in sentence

    def test_a_schema_that_is_missing_or_wrong(self, own, refused):
        folder, options = own
        (folder / "schema.yaml").write_text(SCHEMA.replace("min_count", "min_cont"))
        assert "did you mean 'min_count'?" in refused("train", "--override", *options)
        (folder / "schema.yaml").unlink()
        assert "schema.yaml does not exist" in refused("train", "--override", *options)

    @pytest.mark.parametrize(
        ("override", "words"),
        [
            ("training.metric=ndcg@10", ["training.metric = 'ndcg@10'", "auc or logloss"]),
            ("training.loss=softmax", ["training.loss = 'softmax'", "training.loss=bce"]),
            ("model_name=bst", ["behaviour"]),
            ("data.dataset_name=movielens", ["not found"]),
        ],
    )
    def test_settings_that_a_table_cannot_serve(self, own, refused, override, words):
        _, options = own
        sentence = refused("train", "--override", *options, "data.source=files", override)
        for word in words:
            assert word in sentence

    def test_a_tables_settings_without_a_table(self, refused):
        assert "data.dataset_name=table" in refused("train", "--override", "data.train_file=x.csv")

    def test_baselines_need_candidates(self, own, refused):
        _, options = own
        assert "data.dataset_name=movielens" in refused("baseline", "--name", "ease", "--override", *options)

    def test_from_python(self, tmp_path):
        with pytest.raises(DataError, match=r"data\.train_file"):
            find_table(tmp_path, "train")
        with pytest.raises(SchemaError, match=r"schema\.yaml"):
            TableAdapter(tmp_path, DataConfig(dataset_name="table"))
        with pytest.raises(DataError, match="does not exist"):
            scan_table(tmp_path / "none.csv")


def test_only_tables_load_polars():
    code = "import sys, deepfm, deepfm.cli, deepfm.training.experiment; sys.exit('polars' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
