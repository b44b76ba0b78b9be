"""What an experiment's folder refuses: other settings, what is left to train, damaged files; and it stays as it was."""

import dataclasses
import json

import numpy as np
import pytest

from deepfm.cli import main
from deepfm.equities.experiment import walk
from deepfm.equities.experiment.fold_run import fold_folder
from deepfm.equities.experiment.market import open_market
from deepfm.equities.experiment.record import ABLATED, experiment_settings, refuse_other_settings
from deepfm.equities.experiment.walk import run_experiment
from deepfm.equities.panels.files import save_panel
from deepfm.equities.panels.synthetic import planted_panel
from deepfm.errors import RunError
from deepfm.reporting import Document
from tests.equities.small_experiment import SIZES, copied

COMMANDS = {"evaluate": [], "report": [], "backtest": [], "ablate": ["--folds", "1", "--quiet"]}


@pytest.fixture
def copy(trained, tmp_path):
    return copied(trained[0], tmp_path / "copy")


def files_of(folder):
    return {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}


def refused(capsys, *argv):
    """The one sentence that a command refuses with."""
    capsys.readouterr()
    assert main(["equities", *argv]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def change(path, edit):
    """Edit a JSON file."""
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_an_experiment_is_not_overwritten_or_mixed_with_another(trained, settings):
    folder, _ = trained
    with pytest.raises(RunError, match="already holds"):
        run_experiment(settings, folder)
    other = dataclasses.replace(settings, model=dataclasses.replace(settings.model, dropout=0.3))
    with pytest.raises(RunError, match="of other settings"):
        run_experiment(other, folder, resume=True)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("split.validation_sessions=0", "split.validation_sessions = 0; expected at least 1"),
        ("data.sequence_length=190", "fold 1 has no training session with a whole window and two stocks to rank"),
    ],
)
def test_what_cannot_be_trained_overwrites_nothing(copy, capsys, override, words):
    before = files_of(copy)
    asked = ["--override", f"output_dir={copy.path}", override, "--overwrite", "--quiet"]
    assert words in refused(capsys, "train", "--config", str(copy.config), *asked)
    assert files_of(copy) == before


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("override", ["seeds=[3]", "data.prediction_horizons=[1]", "model.hidden_size=16"])
def test_results_of_record_are_of_the_experiments_own_settings(trained, capsys, command, override):
    folder = trained[0]
    before = files_of(folder)
    said = refused(capsys, command, str(folder.path), *COMMANDS[command], "--override", override)
    assert f"other settings than are asked for: {override.replace('=', ' = ')}" in said
    assert files_of(folder) == before


def test_what_may_be_asked_for(trained):
    folder = trained[0]
    free = ["evaluation.share=0.2", "ablation.folds=[1]", "device=auto", "data.path=moved.parquet"]
    refuse_other_settings(experiment_settings(folder, free), folder)
    refuse_other_settings(experiment_settings(folder, free[1:]), folder, ABLATED)
    with pytest.raises(RunError, match=r"evaluation\.share = 0\.2, its own is 0\.1; change nothing but ablation, dev"):
        refuse_other_settings(experiment_settings(folder, free), folder, ABLATED)


@pytest.mark.parametrize("command", ["evaluate", "backtest"])
def test_other_prices_are_not_traded(trained, tmp_path, capsys, command):
    other = tmp_path / "other.parquet"
    save_panel(planted_panel(SIZES, 6).panel, other)
    said = refused(capsys, command, str(trained[0].path), "--override", f"data.path={other}")
    assert "fold-1/seed-3 was trained on other data" in said


def test_what_is_left_to_train_is_named(copy, capsys):
    (copy.path / "fold-2/seed-4/results.json").unlink()
    for command in ("evaluate", "backtest"):
        said = refused(capsys, command, str(copy.path))
        assert f"fold 2 with seed 4 is left; go on with `deepfm equities train --resume {copy.path}`" in said
    (copy.path / "fold-1/seed-3/results.json").unlink()
    assert "fold 1 with seed 3 and 1 more are left" in refused(capsys, "backtest", str(copy.path))


def drop_identity(results):
    del results["protocol"]["identity"]


def drop_split(results):
    results["protocol"]["split"] = []


def drop_about(state):
    state["about"] = {}


def drop_medians(state):
    state["scaler"] = {}


@pytest.mark.parametrize(
    ("command", "file", "edit", "words"),
    [
        ("evaluate", "results.json", drop_identity, "results.json has no protocol.identity"),
        ("predict", "results.json", drop_split, "results.json has no dates of test in protocol.split"),
        ("predict-fold", "results.json", drop_split, "results.json has no dates of train in protocol.split"),
        ("predict", "ranker.json", dict.clear, "ranker.json has no scaler"),
        ("predict", "ranker.json", drop_about, "ranker.json has no about.data"),
        ("predict", "ranker.json", drop_medians, "ranker.json is damaged"),
    ],
)
def test_damaged_folds_get_a_sentence(copy, tmp_path, capsys, command, file, edit, words):
    fold = copy.path / "fold-2" / "seed-3"
    change(fold / file, edit)
    place = fold if command == "predict-fold" else copy.path
    output = ["-o", str(tmp_path / "x.parquet"), "--device", "cpu"] if "predict" in command else []
    said = refused(capsys, command.partition("-")[0], str(place), *output)
    assert words in said
    assert f"remove {fold / 'results.json'} and let the same training go on" in said


def test_a_fold_without_results_is_written_again(copy, trained, settings, monkeypatch, one_thread):
    """As the sentences advise; and a horizon that one fold could not be validated at counts where it could."""
    monkeypatch.setattr(walk, "build_report", lambda *_: Document("report", "", []))
    fold = fold_folder(copy, open_market(settings).folds[1], 3)
    kept = fold.read_results()
    fold.results.unlink()
    (fold.path / "ranker.json").write_text("{}")
    first = copy.path / "fold-1/seed-3/results.json"
    change(first, lambda results: results["validation"].pop("rank_ic_3"))
    found = run_experiment(settings, copy, resume=True)
    assert fold.read_results()["test"] == kept["test"]
    assert found["test"] == trained[1]["test"]
    others = [path for path in copy.path.glob("fold-*/seed-*/results.json") if path != first]
    known = [json.loads(path.read_text())["validation"]["rank_ic_3"] for path in others]
    assert found["validation"]["rank_ic_3"] == pytest.approx(np.mean(known))
