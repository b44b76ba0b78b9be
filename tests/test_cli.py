"""The command line from end to end, on a generated data set."""

import contextlib
import dataclasses
import http.server
import io
import json
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from deepfm.baselines import run_baseline
from deepfm.cli import main, resolve_device
from deepfm.config import ExperimentConfig, load_config
from deepfm.data.movielens import MovieLensAdapter
from deepfm.data.sample import generate_sample
from deepfm.errors import DeviceError
from deepfm.models import create_model
from deepfm.reporting import Document
from deepfm.training import experiment

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = [
    "device=cpu",
    "data.source=files",
    "data.num_neg_eval=20",
    "training.num_epochs=2",
    "training.batch_size=256",
    "dnn.hidden_units=[8]",
    "feature.fm_embed_dim=4",
]
RUN_FILES = {  # "A run's folder" in the contract
    "config.yaml",
    "schema.json",
    "encoders.json",
    "candidates.npz",
    "best.safetensors",
    "last.ckpt",
    "metrics.jsonl",
    "results.json",
    "train.log",
    "report.html",
}
MORE_FILES = {"ranks.npz", "users.parquet", "items.parquet", "seen.parquet"}  # what a run may hold beside them
METRICS = ["auc", "logloss", "hr@5", "hr@10", "hr@20", "ndcg@5", "ndcg@10", "ndcg@20"]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_plots(monkeypatch):
    """Reports without figures, which take longer to draw than these runs to train."""
    monkeypatch.setattr(experiment, "build_run_report", lambda *_: Document("report", "", []))


@pytest.fixture
def cli(capsys):
    """Run one command: its exit code, stdout and stderr."""

    def call(*argv):
        capsys.readouterr()
        code = main([str(arg) for arg in argv])
        return code, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_dir):
    """A finished run of three epochs, report and all; tests copy it."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    overrides = [*TINY, f"data.data_dir={small_dir}", "training.num_epochs=3", f"output_dir={folder}"]
    assert main(["train", "--quiet", "--override", *overrides]) == 0
    return folder


def results_of(run):
    return json.loads((Path(run) / "results.json").read_text())


def alter(run, copy, change):
    """A copy of a run's folder whose results are changed."""
    copy = Path(copy)
    copy.mkdir(parents=True)
    results = results_of(run)
    change(results)
    (copy / "results.json").write_text(json.dumps(results))
    return copy


class TestTrain:
    def test_the_folder_holds_what_the_contract_lists(self, finished):
        files = {path.name for path in finished.iterdir()}
        assert files >= RUN_FILES
        assert files <= RUN_FILES | MORE_FILES
        assert [path.name for path in finished.iterdir() if not path.stat().st_size and path.name != "train.log"] == []

    def test_who_may_read_the_results_may_read_the_weights(self, finished):
        modes = {path.name: path.stat().st_mode & 0o777 for path in finished.iterdir()}
        assert set(modes.values()) == {modes["results.json"]}, modes

    def test_results_say_everything(self, finished):
        results = results_of(finished)
        expected = "version kind model data protocol validation test best_epoch epochs seconds rows_per_second env"
        assert list(results) == expected.split()
        assert (results["version"], results["kind"], results["model"]) == (1, "model", "deepfm")
        assert list(results["data"]) == ["name", "hash", "source"]
        assert len(results["data"]["hash"]) == 64
        for split in ("validation", "test"):
            assert list(results[split]) == METRICS
            assert all(0 <= value <= 1 for name, value in results[split].items() if name != "logloss")
        assert results["protocol"]["num_neg_eval"] == 20
        assert results["protocol"]["train_negatives"] == "unrated"
        assert (results["epochs"], results["env"]["device"]) == (3, "cpu")
        assert {"git", "python", "torch", "numpy", "deepfm"} <= set(results["env"])
        assert results["seconds"] > 0 < results["rows_per_second"]

    def test_an_epoch_is_a_line_and_the_best_one_is_the_result(self, finished):
        lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
        assert [line["epoch"] for line in lines] == [1, 2, 3]
        assert set(lines[0]) == {"epoch", "loss", "lr", "seconds", "rows_per_second", *METRICS}
        results = results_of(finished)
        best = max(lines, key=lambda line: line["ndcg@10"])
        assert results["best_epoch"] == best["epoch"]
        assert results["validation"] == {name: best[name] for name in METRICS}

    def test_the_configuration_is_complete_and_loads_to_the_same(self, finished, small_dir):
        config = load_config(finished / "config.yaml")
        own = [*TINY, f"data.data_dir={small_dir}", "training.num_epochs=3", f"output_dir={finished}"]
        assert config == load_config(None, own)

        def leaves(kind):
            for field in dataclasses.fields(kind):
                nested = field.default_factory if dataclasses.is_dataclass(field.default_factory) else None
                yield from ((field.name, *rest) for rest in leaves(nested)) if nested else [(field.name,)]

        plain = yaml.safe_load((finished / "config.yaml").read_text())
        for path in leaves(ExperimentConfig):
            node = plain
            for key in path:
                assert key in node, path
                node = node[key]

    def test_the_report_is_one_file_that_asks_no_network(self, finished):
        html = (finished / "report.html").read_text(encoding="utf-8")
        assert html.lstrip().lower().startswith("<!doctype html>")
        assert html.count("<svg") + html.count("data:image/") >= 4
        outside = re.findall(r"""(?:src|href|srcset|action)\s*=\s*["']?(?!\#|data:)[^"'>\s]+""", html)
        assert [link for link in outside if "http" in link or ".js" in link or ".css" in link] == []
        assert not re.search(r"@import|url\(\s*['\"]?(?!#|data:)|<script[^>]+src|<link[^>]+href=.?http", html)
        assert f"{results_of(finished)['test']['ndcg@10']:.4f}" in html

    def test_the_log_holds_the_epochs_also_of_a_quiet_run(self, finished):
        log = (finished / "train.log").read_text()
        assert [f"epoch {number}:" in log for number in (1, 2, 3, 4)] == [True, True, True, False]
        assert "60 users" in log

    def test_a_folder_by_name_is_used_as_it_is_and_other_files_stay(self, cli, small_dir, tmp_path, no_plots):
        (tmp_path / "mine" / "here").mkdir(parents=True)
        (tmp_path / "mine" / "here" / "notes.txt").write_text("keep")
        code, out, err = cli("train", "--override", *TINY, f"data.data_dir={small_dir}", "output_dir=mine/here")
        assert (code, err) == (0, "")
        assert {path.name for path in (tmp_path / "mine" / "here").iterdir()} >= RUN_FILES | {"notes.txt"}
        assert (tmp_path / "mine" / "here" / "notes.txt").read_text() == "keep"
        assert not (tmp_path / "outputs").exists()
        assert "run folder mine/here, report mine/here/report.html" in out
        assert "epoch 2: loss" in out

    def test_quiet_prints_the_table_and_nothing_else(self, cli, small_dir, no_plots):
        code, out, err = cli("train", "--quiet", "--override", *TINY, f"data.data_dir={small_dir}", "output_dir=run")
        assert (code, err) == (0, "")
        lines = [line for line in out.splitlines() if line.strip()]
        assert lines[0].split() == ["split", *METRICS]
        assert [line.split()[0] for line in lines[2:4]] == ["validation", "test"]
        assert len(lines) == 6
        assert "epoch 1:" not in out
        test = results_of("run")["test"]
        assert lines[3].split()[1:] == [f"{test[name]:.4f}" for name in METRICS]

    def test_overrides_beat_the_file_and_add_up(self, cli, small_dir, no_plots, tmp_path):
        (tmp_path / "mine.yaml").write_text("seed: 5\ndnn: {hidden_units: [64], dropout: 0.5}\n")
        code, *_ = cli(
            "train", "--quiet", "--config", "mine.yaml",
            "--override", *TINY, f"data.data_dir={small_dir}",
            "--override", "dnn.hidden_units=[6,4]", "training.ranking_ks=[1,10]",
            "--override", "output_dir=run",
        )  # fmt: skip
        assert code == 0
        config = load_config("run/config.yaml")
        assert (config.seed, config.dnn.dropout, config.dnn.hidden_units) == (5, 0.5, (6, 4))
        assert config.training.num_epochs == 2
        assert list(results_of("run")["test"]) == ["auc", "logloss", "hr@1", "hr@10", "ndcg@1", "ndcg@10"]

    @pytest.mark.parametrize("model", ["xdeepfm", "attention_deepfm"])
    def test_the_other_models_train_and_evaluate(self, cli, small_dir, no_plots, model):
        sizes = ["cin.layer_sizes=[4,4]", "attention.attention_dim=8", "training.num_epochs=1"]
        own = [*TINY, f"data.data_dir={small_dir}", f"model_name={model}", *sizes, "output_dir=run"]
        assert cli("train", "--quiet", "--override", *own)[0] == 0
        code, out, _ = cli("evaluate", "run", "--json")
        assert code == 0
        results = results_of("run")
        assert results["model"] == model
        assert json.loads(out)["test"] == results["test"]

    def test_the_generated_sample_is_announced(self, cli, no_plots, monkeypatch, small_dir):
        small = generate_sample(num_users=30, num_movies=60, num_ratings=900)
        monkeypatch.setattr("deepfm.data.sample.generate_sample", lambda *_, **__: small)
        code, out, err = cli("train", "--quiet", "--override", *TINY, "data.source=sample", "output_dir=run")
        assert (code, err) == (0, "")
        assert results_of("run")["data"]["source"] == "sample"
        assert "GENERATED SAMPLE" in out
        assert "GENERATED SAMPLE" in cli("compare", "run")[1]


class TestEvaluate:
    def test_a_run_gives_exactly_its_results_again(self, cli, finished):
        code, out, err = cli("evaluate", finished, "--json")
        assert (code, err) == (0, "")
        results, found = results_of(finished), json.loads(out)
        assert found["run"] == str(finished)
        assert (found["validation"], found["test"]) == (results["validation"], results["test"])

    def test_it_changes_nothing_in_the_folder(self, cli, finished):
        before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in finished.iterdir()}
        cli("evaluate", finished)
        assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in finished.iterdir()} == before

    def test_the_table_shows_both_splits(self, cli, finished):
        code, out, _ = cli("evaluate", finished, "--quiet")
        assert code == 0
        results = results_of(finished)
        for split in ("validation", "test"):
            row = next(line for line in out.splitlines() if line.split()[:1] == [split])
            assert row.split()[1:] == [f"{results[split][name]:.4f}" for name in METRICS]

    def test_a_moved_run_on_moved_data(self, cli, finished, small_dir, tmp_path):
        shutil.copytree(finished, tmp_path / "moved")
        shutil.copytree(small_dir, tmp_path / "data")
        code, out, _ = cli("evaluate", "moved", "--json", "--override", "data.data_dir=data")
        assert code == 0
        assert json.loads(out)["test"] == results_of(finished)["test"]

    def test_a_configuration_stands_for_its_latest_run(self, cli, small_dir, no_plots, tmp_path):
        (tmp_path / "mine.yaml").write_text(f"data: {{data_dir: {small_dir}}}\n")
        for seed in (1, 2):
            own = [*TINY, f"seed={seed}", "training.num_epochs=1"]
            assert cli("train", "--quiet", "--config", "mine.yaml", "--override", *own)[0] == 0
        runs = sorted((tmp_path / "outputs" / "mine").iterdir())
        assert [re.fullmatch(r"\d{8}-\d{6}-s([12])", run.name)[1] for run in runs] == ["1", "2"]
        code, out, _ = cli("evaluate", "--config", "mine.yaml", "--json")
        assert code == 0
        assert json.loads(out)["run"] == f"outputs/mine/{runs[1].name}"
        assert json.loads(out)["test"] == results_of(runs[1])["test"]
        assert results_of(runs[0])["test"] != results_of(runs[1])["test"]

    def test_json_is_all_that_is_on_stdout_whatever_is_warned_of(self, cli, small_dir, no_plots, monkeypatch):
        from deepfm.data.grouplens import files as movielens_files
        from deepfm.errors import DataError

        def no_network(*_):
            raise DataError("no network here")

        small = generate_sample(num_users=30, num_movies=60, num_ratings=900)
        monkeypatch.setattr("deepfm.data.sample.generate_sample", lambda *_, **__: small)
        monkeypatch.setattr(movielens_files, "download_movielens", no_network)
        own = [*TINY, "data.source=auto", "data.data_dir=none", "output_dir=run"]
        code, out, _ = cli("train", "--quiet", "--override", *own)
        assert code == 0
        assert "NOT MOVIELENS" in out
        code, out, _ = cli("evaluate", "run", "--json")
        assert code == 0
        assert json.loads(out)["test"] == results_of("run")["test"]


class TestCompare:
    def runs(self, finished):
        """Three runs on the same data whose test metrics are known."""
        for name, ndcg, logloss in (("low", 0.1, 0.3), ("high", 0.3, 0.9), ("middle", 0.2, 0.6)):
            alter(
                finished, f"runs/{name}", lambda it, n=ndcg, k=logloss: it["test"].update({"ndcg@10": n, "logloss": k})
            )

    def order(self, out):
        return re.findall(r"runs/(\w+)", out)

    def test_best_first_and_marked(self, cli, finished):
        self.runs(finished)
        code, out, err = cli("compare", "runs")
        assert (code, err) == (0, "")
        assert self.order(out) == ["high", "middle", "low"]
        assert "*0.3000" in out
        assert "*0.9000" not in out
        row = next(line for line in out.splitlines() if "runs/low" in line)
        assert "*0.3000" in row  # of log loss, less is better
        for name in METRICS:
            assert name in out
        assert "best epoch" in out
        assert "seconds" in out
        assert "ml-100k-sample" in out
        assert "do not compare" not in out

    @pytest.mark.parametrize(
        ("metric", "order"), [("logloss", ["low", "middle", "high"]), ("ndcg@10", ["high", "middle", "low"])]
    )
    def test_sorted_by_another_metric(self, cli, finished, metric, order):
        self.runs(finished)
        assert self.order(cli("compare", "runs", "--sort", metric)[1]) == order

    def test_an_unknown_metric_is_named_with_those_that_are(self, cli, finished):
        self.runs(finished)
        code, out, err = cli("compare", "runs", "--sort", "ndcg@11")
        assert (code, out) == (2, "")
        assert err == f"deepfm: --sort 'ndcg@11' is no metric of these runs; known: {', '.join(METRICS)}\n"

    def test_json(self, cli, finished):
        self.runs(finished)
        (group,) = json.loads(cli("compare", "runs", "--json")[1])
        assert [run["run"] for run in group["runs"]] == ["runs/high", "runs/middle", "runs/low"]
        assert group["runs"][0]["ndcg@10"] == 0.3
        assert group["runs"][0]["auc"] == results_of(finished)["test"]["auc"]
        assert group["runs"][0]["best epoch"] == results_of(finished)["best_epoch"]

    def test_markdown(self, cli, finished):
        self.runs(finished)
        out = cli("compare", "runs", "--markdown")[1]
        header, rule, *rows = [line for line in out.splitlines() if line.startswith("|")]
        assert header.startswith("| run | model |")
        assert set(rule) <= set("|:- ")
        assert [("**0.3000**" in row, "runs/high" in row) for row in rows] == [
            (True, True),
            (False, False),
            (True, False),
        ]

    @pytest.mark.parametrize("what", ["data", "candidates", "split"])
    def test_what_cannot_be_compared_stands_apart(self, cli, finished, what):
        self.runs(finished)
        change = {
            "data": lambda it: it["data"].update(hash="f" * 64),
            "candidates": lambda it: it["protocol"].update(candidates="f" * 16),
            "split": lambda it: it["protocol"].update(split_strategy="random", candidates="e" * 16),
        }[what]
        alter(finished, "runs/other", change)
        assert sorted(len(group["runs"]) for group in json.loads(cli("compare", "runs", "--json")[1])) == [1, 3]
        for style in ([], ["--markdown"]):
            out = cli("compare", "runs", *style)[1]
            assert out.count("do not compare across") == 1
            assert out.count("Test metrics on") == 2

    def test_a_sample_is_flagged_where_its_metrics_stand(self, cli, finished):
        alter(finished, "runs/sample", lambda it: it["data"].update(source="sample"))
        assert "GENERATED SAMPLE" in cli("compare", "runs")[1]
        assert "GENERATED SAMPLE" in cli("compare", "runs", "--markdown")[1]
        assert "GENERATED SAMPLE" in cli("compare", "runs", "--json")[1]

    def test_the_sample_read_from_files_is_flagged_too(self, cli, finished):
        """`deepfm data sample` and data_dir= give the same invented data by another way."""
        assert results_of(finished)["data"]["name"] == "ml-100k-sample"
        assert "GENERATED SAMPLE" in cli("compare", finished)[1]

    def test_runs_are_found_once_and_unfinished_ones_not_at_all(self, cli, finished, tmp_path):
        self.runs(finished)
        (tmp_path / "runs" / "unfinished").mkdir()
        shutil.copy(finished / "config.yaml", tmp_path / "runs" / "unfinished")
        out = cli("compare", "runs", "runs/high", tmp_path / "runs" / "low")[1]
        assert sorted(re.findall(r"runs/(\w+)", out)) == ["high", "low", "middle"]

    def test_by_default_the_outputs_folder(self, cli, finished):
        code, out, err = cli("compare")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "no finished run at or below outputs" in err
        alter(finished, "outputs/deepfm/one", lambda it: None)
        assert "outputs/deepfm/one" in cli("compare")[1]

    def test_a_folder_that_is_not_there_is_not_passed_over(self, cli, finished):
        self.runs(finished)
        code, _, err = cli("compare", "runs", "rusn/tuned")
        assert (code, err.count("\n")) == (2, 1)
        assert "rusn/tuned" in err

    def test_metrics_that_only_some_runs_have(self, cli, finished):
        self.runs(finished)
        alter(finished, "runs/blind", lambda it: it["test"].update({"logloss": None}))
        alter(finished, "runs/older", lambda it: it["test"].pop("logloss"))
        (group,) = json.loads(cli("compare", "runs", "--json", "--sort", "logloss")[1])
        assert [run["run"][5:] for run in group["runs"]][:3] == ["low", "middle", "high"]
        assert group["runs"][-1]["logloss"] is None


class TestBaseline:
    def test_the_three_stand_beside_a_model(self, cli, finished, small_dir, no_plots, tmp_path):
        own = [*TINY, f"data.data_dir={small_dir}"]
        for name in ("popularity", "itemknn", "ease"):
            code, out, err = cli("baseline", "--name", name, "--quiet", "--override", *own)
            assert (code, err) == (0, "")
            assert out.split()[: 1 + len(METRICS)] == ["split", *METRICS]
            (run,) = (tmp_path / "outputs" / name).iterdir()
            files = {path.name for path in run.iterdir()}
            assert files >= RUN_FILES - {"best.safetensors", "last.ckpt", "metrics.jsonl", "train.log"}
            assert not files & {"best.safetensors", "last.ckpt"}
            results = results_of(run)
            assert (results["kind"], results["model"], results["best_epoch"]) == ("baseline", name, None)
            assert results["weights"] is None
            assert results["protocol"]["candidates"] == results_of(finished)["protocol"]["candidates"]
            assert results["test"]["logloss"] is None
            assert results["test"]["auc"] > 0.6
        (group,) = json.loads(cli("compare", "outputs", finished, "--json")[1])
        assert {run["model"] for run in group["runs"]} == {"popularity", "itemknn", "ease", "deepfm"}
        assert "popularity" in cli("compare", "outputs", finished)[1]

    def test_options_reach_it_and_stand_in_the_results(self, cli, small_dir, no_plots):
        own = [*TINY, f"data.data_dir={small_dir}"]
        metrics = []
        for number, options in enumerate((["--l2", "0.5"], ["--l2", "5000"])):
            code, *_ = cli("baseline", "--name", "ease", *options, "--override", *own, f"output_dir=ease{number}")
            assert code == 0
            results = results_of(f"ease{number}")
            assert results["options"] == {"l2": float(options[1])}
            metrics.append(results["test"]["auc"])
        assert metrics[0] != metrics[1]

    def test_its_report_draws(self, cli, small_dir):
        own = [*TINY, f"data.data_dir={small_dir}"]
        assert cli("baseline", "--name", "popularity", "--override", *own, "output_dir=pop")[0] == 0
        assert Path("pop/report.html").read_text().count("<svg") >= 1

    def test_as_a_library(self, small_dir, tmp_path, no_plots):
        from deepfm.engine.run import RunFolder

        config = load_config(None, [*TINY, f"data.data_dir={small_dir}"])
        results = run_baseline("itemknn", config, RunFolder(tmp_path / "knn").create(), neighbours=5, shrink=0.0)
        assert results == results_of(tmp_path / "knn")
        assert results["options"] == {"neighbours": 5, "shrink": 0.0}


class TestData:
    def test_check(self, cli, small_dir):
        code, out, _ = cli("data", "check", small_dir)
        assert code == 0
        found = json.loads(out)
        assert (found["ratings"], found["users"], found["movies"], found["is_official"]) == (2400, 60, 150, False)

    def test_sample_then_check(self, cli):
        code, out, _ = cli("data", "sample", "made", "--seed", "3")
        assert code == 0
        assert "not real data" in out
        assert {path.name for path in Path("made").iterdir()} == {"README", "u.data", "u.user", "u.item"}
        found = json.loads(cli("data", "check", "made")[1])
        assert (found["name"], found["ratings"], found["users"]) == ("ml-100k-sample", 100_000, 943)

    def test_describe(self, cli, small_dir):
        code, out, _ = cli("data", "describe", "--override", *TINY, f"data.data_dir={small_dir}")
        assert code == 0
        for field in ("user_id", "gender", "age", "occupation", "zip_prefix", "movie_id", "genres"):
            assert re.search(rf"^\s*{field}\s", out, re.MULTILINE)
        assert "7 fields, width 64 in all" in out
        assert re.search(r"test\s+1,260\s+60", out)
        assert not Path("outputs").exists()

    def test_an_archive_that_is_not_the_one_expected_is_refused(self, cli):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"not the archive")

            def log_message(self, *_):
                pass

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/ml-100k.zip"
        code, _, err = cli("data", "fetch", "made", "--url", url)
        thread.join()
        server.server_close()
        assert (code, err.count("\n")) == (2, 1)
        assert re.match(r"deepfm: http://127.* has MD5 \w{32}; expected 0e33842e24a9c977be4e0107933c0723", err)
        assert not Path("made").exists()


def loaded_after(code):
    """Which heavy modules a fresh interpreter has after some code."""
    heavy = ["torch", "numpy", "scipy", "matplotlib", "rich", "dacite", "jinja2", "safetensors"]
    script = f"{code}\nimport sys\nprint('LOADED', *[name for name in {heavy} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return answer.stdout.rpartition("LOADED")[2].split(), answer.stdout


class TestLightness:
    @pytest.mark.parametrize("argv", [["--help"], ["train", "--help"], ["data", "fetch", "--help"], ["--version"]])
    def test_help_loads_nothing_heavy(self, argv):
        loaded, out = loaded_after(
            f"import sys, runpy\nsys.argv = ['deepfm', *{argv}]\n"
            "try:\n    runpy.run_module('deepfm', run_name='__main__')\n"
            "except SystemExit as end:\n    assert not end.code"
        )
        assert loaded == []
        assert "usage: deepfm" in out or "deepfm 0." in out

    def test_importing_the_package_loads_nothing_heavy_and_names_come_when_used(self):
        assert loaded_after("import deepfm; dir(deepfm); deepfm.cli if hasattr(deepfm, 'cli') else None")[0] == []
        assert "torch" in loaded_after("import deepfm; deepfm.DeepFM")[0]

    def test_every_promised_name_is_there(self):
        import deepfm

        for name in deepfm.__all__:
            assert getattr(deepfm, name) is not None
        with pytest.raises(AttributeError, match="DeepFFM"):
            _ = deepfm.DeepFFM

    def test_help_names_every_verb(self, capsys):
        with pytest.raises(SystemExit) as end:
            main(["--help"])
        assert end.value.code == 0
        out = capsys.readouterr().out
        assert all(verb in out for verb in ("train", "evaluate", "compare", "baseline", "data"))


class Terminal(io.StringIO):
    """What a terminal looks like to the package."""

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "150")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)

    def switch_on():  # in the test itself: between fixtures and tests pytest exchanges stdout
        screen = Terminal()
        monkeypatch.setattr(sys, "stdout", screen)
        return screen

    return switch_on


HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


class TestProgress:
    def test_training_shows_epochs_loss_metric_and_speed(self, terminal, small_dir, no_plots):
        own = [*TINY, f"data.data_dir={small_dir}", "training.batch_size=32", "output_dir=run"]
        stdout = terminal()
        assert main(["train", "--override", *own]) == 0
        assert sys.stdout is stdout
        screen = stdout.getvalue()
        assert "epochs" in screen
        assert "2/2" in screen
        assert re.search(r"loss \d\.\d{4}", re.sub(r"epoch \d: loss", "", screen))
        assert re.search(r"[\d,]+ rows/s", screen)
        assert re.search(r"best ndcg@10 0\.\d{4} in epoch \d", screen)
        assert screen.rfind(SHOW_CURSOR) > screen.rfind(HIDE_CURSOR)
        assert "epoch 1: loss" in screen

    def test_a_loss_is_shown_also_where_epochs_are_short(self, terminal, small_dir, no_plots):
        """24 batches an epoch: the bars must not wait for more than an epoch has."""
        own = [*TINY, f"data.data_dir={small_dir}", "output_dir=run"]
        stdout = terminal()
        assert main(["train", "--override", *own]) == 0
        assert re.search(r"loss \d\.\d{4}", re.sub(r"epoch \d+: loss", "", stdout.getvalue()))

    def test_evaluation_shows_a_bar(self, terminal, finished):
        stdout = terminal()
        assert main(["evaluate", str(finished)]) == 0
        assert "evaluating" in stdout.getvalue()
        assert sys.stdout is stdout

    def test_quiet_shows_none(self, terminal, finished, small_dir, no_plots):
        stdout = terminal()
        assert main(["evaluate", str(finished), "--quiet"]) == 0
        own = [*TINY, f"data.data_dir={small_dir}", "output_dir=run"]
        assert main(["train", "--quiet", "--override", *own]) == 0
        assert HIDE_CURSOR not in stdout.getvalue()
        assert "ndcg@10" in stdout.getvalue()

    @pytest.mark.parametrize("ending", ["error", "interrupt"])
    def test_the_terminal_is_left_as_it_was_when_training_breaks_off(self, terminal, small_dir, monkeypatch, ending):
        from deepfm.training.task import CTRTask

        def evaluate(*_):
            raise KeyboardInterrupt

        if ending == "interrupt":
            monkeypatch.setattr(CTRTask, "evaluate", evaluate)
        own = [*TINY, f"data.data_dir={small_dir}", "output_dir=run"]
        own += ["training.lr=1e30", "training.gradient_clip_norm=null"] if ending == "error" else []
        before, stdout = set(threading.enumerate()), terminal()
        with contextlib.redirect_stderr(io.StringIO()):
            assert main(["train", "--override", *own]) == {"error": 2, "interrupt": 130}[ending]
        screen = stdout.getvalue()
        started = set(threading.enumerate()) - before
        redirected, sys.stdout = sys.stdout, stdout  # whatever stands there, the next test gets its own
        for thread in started:
            thread.join(timeout=3)
        assert HIDE_CURSOR in screen
        assert screen.rfind(SHOW_CURSOR) > screen.rfind(HIDE_CURSOR), "the cursor stays hidden"
        assert redirected is stdout, "stdout is still redirected to the bars"
        assert not any(thread.is_alive() for thread in started), "the bars' thread still runs"

    def test_no_bars_where_nobody_looks(self, cli, finished, monkeypatch):
        monkeypatch.setitem(sys.modules, "rich.progress", None)  # importing it would fail
        assert cli("evaluate", finished)[0] == 0


class TestDevices:
    @pytest.fixture
    def machine(self, monkeypatch):
        def make(mps, cuda):
            monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
            monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
            monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)

        return make

    @pytest.mark.parametrize(
        ("mps", "cuda", "expected"), [(True, 2, "mps"), (True, 0, "mps"), (False, 1, "cuda"), (False, 0, "cpu")]
    )
    def test_auto_takes_mps_then_cuda_then_cpu(self, machine, mps, cuda, expected):
        machine(mps, cuda)
        assert resolve_device("auto").type == resolve_device().type == expected

    def test_auto_on_this_machine(self):
        if not (torch.backends.mps.is_available() or torch.cuda.is_available()):
            assert resolve_device() == torch.device("cpu")

    def test_a_device_by_name(self, machine):
        machine(True, 2)
        assert resolve_device("cpu") == torch.device("cpu")
        assert resolve_device("mps") == torch.device("mps")
        assert resolve_device("cuda:1") == torch.device("cuda:1")

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("mps", "is not on this machine, which has 0 of type mps; use device=auto"),
            ("cuda", "is not on this machine"),
            ("cuda:3", "is not on this machine"),
            ("cpu:1", "is not on this machine"),
            ("gpu", "is no device; expected auto, cpu, mps, cuda or cuda:N"),
            ("", "is no device"),
            ("meta", "is not supported"),
        ],
    )
    def test_an_absent_device_is_an_error(self, machine, name, words):
        machine(False, 0)
        with pytest.raises(DeviceError, match=re.escape(f"device = {name!r} {words}")):
            resolve_device(name)


def test_the_example_of_the_readme_loads_every_shipped_configuration(small_dir, small_config):
    """Each YAML in configs/ names a model that can be made."""
    schema, *_ = MovieLensAdapter(small_dir, small_config, max_history=20).build()
    files = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))
    assert len(files) >= 3
    for file in files:
        config = load_config(file)
        model = create_model(config.model_name, schema, config)
        fewest = schema.num_fields if config.model_name == "lr" else 1000
        assert sum(np.prod(weight.shape) for weight in model.parameters()) > fewest
