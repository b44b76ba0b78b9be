"""`deepfm tune` from end to end on a generated data set of 60 users."""

import json
import os
import signal
import sqlite3
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from types import SimpleNamespace

import optuna
import pytest
import torch
import yaml

from deepfm.cli import main
from deepfm.config import load_config
from deepfm.errors import RunError, TrainingError
from deepfm.training.task import CTRTask
from deepfm.training.trainer import Trainer
from deepfm.tuning import clicks, sampling, trial, work
from tests.tuning.conftest import GOOD, HOPELESS

pytestmark = pytest.mark.usefixtures("one_thread")
PLANTED = {"training.lr": {"choices": [HOPELESS, GOOD]}}
RANGE = {"training.lr": {"low": 1e-4, "high": 0.2, "log": True}}


def told(results):
    """What a study found, without what differs from run to run."""
    kept = ("state", "value", "params", "curve", "best_epoch", "validation", "error")
    return [{key: one[key] for key in kept} for one in results["trials"] if one["state"] != "interrupted"]


def without(results, *keys):
    return {key: value for key, value in results.items() if key not in keys}


class TestSearch:
    @pytest.mark.parametrize(("sampler", "metric"), [("random", "auc"), ("tpe", "logloss")])
    def test_a_planted_learning_rate_is_found(self, studies, sampler, metric):
        path = studies.write(PLANTED, data={"num_neg_train": 4})
        results = studies.tune(path, "--trials", 4, "--sampler", sampler, "--metric", metric, "--pruner", "none")
        values = {GOOD: [], HOPELESS: []}
        for one in results["trials"]:
            values[one["params"]["training.lr"]].append(one["value"] if metric == "auc" else -one["value"])
        assert results["best"]["params"] == {"training.lr": GOOD}
        assert min(values[GOOD]) > max(values[HOPELESS]) + 0.02
        assert results["direction"] == ("maximize" if metric == "auc" else "minimize")

    def test_the_winner_is_a_run_like_any_other(self, studies, tmp_path):
        path = studies.write(RANGE)
        results = studies.tune(path, "--trials", 2)
        best, winner = results["best"], results["winner"]
        run = Path(winner["run"])
        assert winner["validation"]["auc"] == best["value"]
        assert json.loads((run / "results.json").read_text())["test"] == winner["test"]
        config = load_config("outputs/tune/tiny/best.yaml")
        assert config.training.lr == best["params"]["training.lr"]
        assert load_config(run / "config.yaml") == config
        assert (
            main(["train", "--quiet", "--config", "outputs/tune/tiny/best.yaml", "--override", "output_dir=own"]) == 0
        )
        again = json.loads(Path("own/results.json").read_text())
        assert {split: again[split] for split in ("validation", "test")} == {
            split: winner[split] for split in ("validation", "test")
        }

    def test_a_hopeless_trial_is_pruned_early(self, studies):
        """Five good trials, then hopeless ones, which have fewer epochs."""
        section = {
            "training.batch_size": {"choices": [128, 160, 192, 224, 256]},
            "training.lr": {"choices": [GOOD, HOPELESS]},
        }
        path = studies.write(section, training={"num_epochs": 3, "early_stopping_patience": 3})
        results = studies.tune(path, "--trials", 7, "--sampler", "grid")
        found = [(one["state"], len(one["curve"]), one["params"]["training.lr"]) for one in results["trials"]]
        assert found == [("finished", 3, GOOD)] * 5 + [("pruned", 1, HOPELESS)] * 2

    def test_a_grid_ends_with_its_combinations(self, studies):
        section = {"training.lr": {"choices": [0.01, 0.02]}, "feature.embedding_l2_reg": {"choices": [0.0, 1e-3]}}
        results = studies.tune(studies.write(section), "--trials", 9, "--sampler", "grid")
        assert [tuple(one["params"].values()) for one in results["trials"]] == [
            (0.01, 0.0), (0.02, 0.0), (0.01, 1e-3), (0.02, 1e-3),
        ]  # fmt: skip

    def test_a_grid_walks_what_another_sampler_left(self, studies):
        section = {"training.lr": {"choices": [0.01, 0.02]}, "feature.embedding_l2_reg": {"choices": [0.0, 1e-3]}}
        path = studies.write(section)
        begun = studies.tune(path, "--trials", 2, "--sampler", "random")
        tried = {tuple(one["params"].values()) for one in begun["trials"]}
        results = studies.tune(path, "--trials", 9, "--sampler", "grid")
        walked = [tuple(one["params"].values()) for one in results["trials"][2:]]
        assert set(walked) | tried == {(0.01, 0.0), (0.02, 0.0), (0.01, 1e-3), (0.02, 1e-3)}
        assert not set(walked) & tried
        assert len(walked) == len(set(walked))

    def test_models_may_be_varied(self, studies):
        section = {
            "model_name": {"choices": ["lr", "fm"]},
            "feature.fm_embed_dim": {"choices": [4], "when": {"model_name": "fm"}},
        }
        results = studies.tune(studies.write(section), "--trials", 2, "--sampler", "grid")
        assert [one["params"] for one in results["trials"]] == [
            {"model_name": "lr"},
            {"model_name": "fm", "feature.fm_embed_dim": 4},
        ]
        assert results["winner"]["model"] == results["best"]["params"]["model_name"]

    def test_a_failed_trial_is_kept_with_its_sentence(self, studies, monkeypatch):
        run_trial = trial.run_trial

        def sometimes(one, config, *rest):
            if config.training.lr == HOPELESS:
                raise TrainingError("the loss is nan in epoch 1")
            return run_trial(one, config, *rest)

        monkeypatch.setattr(work, "run_trial", sometimes)
        results = studies.tune(studies.write(PLANTED), "--trials", 2, "--sampler", "grid")
        failed = [one for one in results["trials"] if one["state"] == "failed"]
        assert [one["error"] for one in failed] == ["the loss is nan in epoch 1"]
        assert sum(results["counts"].values()) == 2
        assert results["best"]["params"] == {"training.lr": GOOD}

    def test_values_that_do_not_fit_each_other_fail_alone(self, studies):
        section = {"attention.num_heads": {"choices": [2, 3]}}
        path = studies.write(
            section, model_name="attention_deepfm", dnn={"hidden_units": [4]}, feature={"fm_embed_dim": 4}
        )
        results = studies.tune(path, "--trials", 2, "--sampler", "grid")
        assert [one["state"] for one in results["trials"]] == ["finished", "failed"]
        assert "attention.num_heads = 3" in results["trials"][1]["error"]

    def test_where_all_fail_it_is_said(self, studies, capsys):
        path = studies.write({"attention.num_heads": {"choices": [3, 5]}}, model_name="attention_deepfm")
        results = studies.tune(path, "--trials", 2, code=2)
        assert "no trial of study 'tiny' finished; 2 failed, the first as: attention." in capsys.readouterr().err
        assert (results["best"], results["winner"]) == (None, None)


class TestTestSplit:
    def test_it_is_scored_once_after_the_search(self, studies, monkeypatch):
        """While trials run, touching the test rows fails; then the winner's run scores them once."""

        class Forbidden:
            def __getattribute__(self, name):
                raise AssertionError(f"a trial looked at the test split's {name}")

        open_data, evaluate, scored = clicks.open_data, Trainer.evaluate, []

        def without_test(config):
            data = open_data(config)
            object.__setattr__(data, "test", Forbidden())
            return data

        def recorded(self, dataset, split_name, *rest):
            scored.append((split_name, self.run.path.name))
            return evaluate(self, dataset, split_name, *rest)

        monkeypatch.setattr(clicks, "open_data", without_test)
        monkeypatch.setattr(Trainer, "evaluate", recorded)
        results = studies.tune(studies.write(RANGE), "--trials", 3)
        assert scored == [("test", f"trial-{results['best']['number']:04d}")]
        assert "test" not in json.dumps(results["trials"])

    def test_trials_evaluate_the_validation_rows_alone(self, studies, monkeypatch):
        evaluate, seen = CTRTask.evaluate, set()

        def recorded(self, *rest):
            seen.add(id(self.val_ds))
            return evaluate(self, *rest)

        monkeypatch.setattr(CTRTask, "evaluate", recorded)
        monkeypatch.setattr(clicks, "train_experiment", lambda *_, **__: {"validation": {}, "test": {}})
        monkeypatch.setattr("deepfm.commands.tune.print_results", lambda *_: None)
        studies.tune(studies.write(RANGE), "--trials", 3)
        assert len(seen) == 1

    def test_data_are_read_once_for_all_trials(self, studies, monkeypatch):
        opened, open_data = [], clicks.open_data
        monkeypatch.setattr(clicks, "open_data", lambda config: opened.append(config.data) or open_data(config))
        section = {"data.num_neg_train": {"choices": [2, 4]}, "training.lr": {"choices": [0.01, 0.02]}}
        studies.tune(studies.write(section), "--trials", 4, "--sampler", "grid")
        assert sorted(data.num_neg_train for data in opened) == [1, 2, 4]  # 1 is the configuration's own


class TestGoingOn:
    def test_two_sittings_are_one_study(self, studies, monkeypatch):
        monkeypatch.setattr(sampling, "RANDOM_TRIALS", 2)  # TPE chooses from the third trial on
        whole = studies.tune(studies.write(RANGE, name="whole"), "--trials", 4, "--seed", 5)
        path = studies.write(RANGE, name="parts")
        assert len(studies.tune(path, "--trials", 3, "--seed", 5)["trials"]) == 3
        parts = studies.tune(path, "--trials", 4, "--seed", 5)
        assert told(parts) == told(whole)
        assert len({one["params"]["training.lr"] for one in whole["trials"]}) == 4
        assert parts["winner"]["test"] == whole["winner"]["test"]

    def test_ctrl_c_keeps_finished_trials(self, studies, monkeypatch, capsys):
        whole = studies.tune(studies.write(RANGE, name="whole"), "--trials", 4)
        path, run_trial, begun = studies.write(RANGE), trial.run_trial, []

        def interrupted(*arguments):
            begun.append(None)
            if len(begun) == 3:
                raise KeyboardInterrupt
            return run_trial(*arguments)

        monkeypatch.setattr(work, "run_trial", interrupted)
        assert main(["tune", path, "--trials", "4", "--quiet"]) == 130
        assert "2 trials are kept in sqlite:///outputs/tune/tiny/study.db, and the same" in capsys.readouterr().err
        results = studies.tune(path, "--trials", 4)
        assert [one["state"] for one in results["trials"]].count("interrupted") == 1
        assert told(results) == told(whole)

    def test_a_finished_study_trains_nothing_again(self, studies, monkeypatch):
        path = studies.write(RANGE)
        first = studies.tune(path, "--trials", 2)
        for name in ("run_trial", "make_sampler"):
            monkeypatch.setattr(work, name, None)
        monkeypatch.setattr(clicks, "train_experiment", None)
        assert without(studies.tune(path, "--trials", 2), "env") == without(first, "env")

    def test_an_interrupted_winner_is_resumed(self, studies, monkeypatch):
        path = studies.write(RANGE)
        first = studies.tune(path, "--trials", 2)
        (Path(first["winner"]["run"]) / "results.json").unlink()
        monkeypatch.setattr(clicks, "train_experiment", None)
        assert studies.tune(path, "--trials", 2)["winner"]["test"] == first["winner"]["test"]

    def test_a_run_of_an_earlier_study_is_no_winner(self, studies):
        """The storage is gone and the settings are others: the folder's run is trained anew."""
        first = studies.tune(studies.write(RANGE), "--trials", 1)
        Path("outputs/tune/tiny/study.db").unlink()
        second = studies.tune(studies.write(RANGE, training={"num_epochs": 2}), "--trials", 1)
        assert (first["winner"]["run"], first["winner"]["epochs"]) == (second["winner"]["run"], 1)
        assert second["winner"]["epochs"] == 2

    def test_the_time_limits_when_trials_start(self, studies, capsys):
        results = studies.tune(studies.write(RANGE), "--trials", 3, "--timeout", 1e-9, code=2)
        assert results["trials"] == []
        assert "no trial of study 'tiny' finished in the time" in capsys.readouterr().err

    def test_set_up_makes_the_study_and_prints_its_name(self, studies, capsys):
        path = studies.write(RANGE)
        place = ["--storage", "sqlite:///deep/hpo.db", "--study", "mine"]
        assert main(["tune", path, "--setup", "--quiet", *place]) == 0
        assert capsys.readouterr().out == "study mine in sqlite:///deep/hpo.db\n"
        with sqlite3.connect("deep/hpo.db") as database:
            assert database.execute("SELECT study_name FROM studies").fetchall() == [("mine",)]
        assert main(["tune", path, "--trials", "1", "--quiet", *place]) == 0
        assert len(studies.read("mine")["trials"]) == 1
        assert (
            main(["tune", path, "--trials", "1", "--quiet", "--storage", "sqlite:///deep/hpo.db", "--study", "mine"])
            == 0
        )
        assert len(studies.read("mine")["trials"]) == 1


class TestProcesses:
    def test_two_processes_make_as_many_trials_in_all(self, studies):
        path = studies.write(RANGE)
        results = studies.tune(path, "--trials", 3, "--jobs", 2)
        assert results["counts"]["finished"] + results["counts"]["pruned"] == 3
        stored = optuna.load_study(study_name="tiny", storage="sqlite:///outputs/tune/tiny/study.db").trials
        assert sorted(one.user_attrs["slot"] for one in stored) == [0, 1, 2]
        assert os.getpid() not in {one.user_attrs["process"][1] for one in stored}
        assert torch.get_num_threads() == 1

    def test_an_error_of_a_process_is_passed_on_as_one_sentence(self, monkeypatch):
        """What a process does with an error, in this process; then what the one that started it does."""
        sentences, signals = SimpleQueue(), []
        monkeypatch.setattr("signal.signal", lambda *arguments: signals.append(arguments))

        def fail(*_):
            raise RunError("storage sqlite:///gone cannot be used")

        monkeypatch.setattr(work, "run_trials", fail)
        with pytest.raises(SystemExit):
            work._work_in_process(SimpleNamespace(quiet=True, subject=clicks.ClickModels()), None, None, sentences, 1)
        assert sentences.get() == "storage sqlite:///gone cannot be used"
        assert signals == [(signal.SIGINT, signal.SIG_IGN)]

    def test_ctrl_c_waits_for_the_last_words_of_each_process(self, monkeypatch):
        class Process:
            pid, waits = 1, []

            def start(self):
                pass

            def join(self, seconds=None):
                self.waits.append(seconds)
                if seconds is None:
                    raise KeyboardInterrupt

        context = SimpleNamespace(Lock=Event, Event=Event, SimpleQueue=SimpleQueue, Process=lambda **_: Process())
        monkeypatch.setattr(work.multiprocessing, "get_context", lambda _: context)
        with pytest.raises(KeyboardInterrupt):
            work.run_in_processes(SimpleNamespace(settings=SimpleNamespace(jobs=2)))
        assert Process.waits == [None, work.LAST_WORDS_SECONDS, work.LAST_WORDS_SECONDS]


class TestReport:
    def test_it_shows_the_search(self, studies, monkeypatch):
        monkeypatch.undo()
        path = studies.write(RANGE, name=str(studies.data_dir.parent / "shown"))
        folder = studies.data_dir.parent / "shown-study"
        assert main(["tune", path, "--trials", "5", "--pruner", "none", "--quiet", "--output", str(folder)]) == 0
        html = (folder / "report.html").read_text()
        for words in (
            "Best trial",
            "Optimisation history",
            "Importance of each setting",
            "Learning curves",
            "training.lr",
        ):
            assert words in html
        assert yaml.safe_load((folder / "best.yaml").read_text())["model_name"] == "lr"
