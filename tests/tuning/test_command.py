"""Bad input to `deepfm tune`: one sentence, exit code 2, nothing made; and what is imported when."""

import subprocess
import sys
from pathlib import Path

import pytest

from deepfm.cli import main
from deepfm.commands import tune
from deepfm.tuning import PRUNERS, SAMPLERS

pytestmark = pytest.mark.usefixtures("one_thread")
RANGE = {"training.lr": {"low": 1e-4, "high": 0.2, "log": True}}


@pytest.fixture
def refused(studies, capsys):
    """Run a tuning that must fail: its sentence."""

    def call(*argv, section=RANGE):
        path = studies.write(section)
        capsys.readouterr()
        try:
            code = main(["tune", path, "--quiet", *argv])
        except SystemExit as end:
            code = end.code
        error = capsys.readouterr().err
        assert code == 2
        assert error.count("\n") == 1
        assert "Traceback" not in error
        assert sorted(path.name for path in Path().iterdir()) == ["tiny.yaml"]
        return error.strip()

    return call


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--trials", "0"], "--trials = 0 is out of range; expected at least 1"),
        (["--trials", "many"], "invalid int value: 'many'"),
        (["--jobs", "0"], "--jobs = 0 is out of range; expected at least 1"),
        (["--timeout", "0"], "--timeout = 0.0 is out of range; expected above 0"),
        (["--seed", "-1"], "--seed = -1 is out of range"),
        (["--sampler", "tpee"], "invalid choice: 'tpee'"),
        (["--pruner", "halving"], "invalid choice: 'halving'"),
        (["--metric", "ndcg@7"], "training.metric = 'ndcg@7' is not measured; expected a K of training.ranking_ks"),
        (["--metric", "recall"], "training.metric = 'recall' is not a metric"),
        (["--sampler", "grid"], "tune.training.lr is a range without steps, which a grid cannot walk"),
        (["--override", "tune.training.lr.lwo=1"], "did you mean 'tune.training.lr.low'?"),
        (["--override", "tune.trainign.lr={low: 1}"], "tune.trainign is not a setting"),
        (["--override", "model_name=deepfn"], "did you mean 'deepfm'"),
        (["--override", "data.data_dir=nowhere"], "not found in nowhere"),
        (["--output", "tiny.yaml/study"], "cannot write tiny.yaml/study"),
        (["--override", "device=cuda:99"], "device = 'cuda:99'"),
    ],
)
def test_bad_input_is_one_sentence(refused, argv, words):
    assert words in refused(*argv)


def test_a_metric_that_a_table_cannot_measure(studies, refused):
    argv = ["--override", "data.dataset_name=table", "data.table=clicks.csv", "--metric", "ndcg@10"]
    assert "ranks candidates" in refused(*argv)


def test_a_configuration_that_is_not_there(capsys):
    assert main(["tune", "nowhere.yaml"]) == 2
    assert "configuration file nowhere.yaml does not exist" in capsys.readouterr().err


def test_a_study_of_another_space_is_refused(studies, capsys):
    assert main(["tune", studies.write(RANGE), "--setup", "--quiet"]) == 0
    assert main(["tune", studies.write({"training.lr": {"choices": [0.1]}}), "--quiet"]) == 2
    assert "study 'tiny' is of another search space (training.lr)" in capsys.readouterr().err


def test_a_folder_of_another_study_is_refused(studies, capsys):
    studies.tune(studies.write(RANGE), "--trials", "1")
    assert main(["tune", "tiny.yaml", "--quiet", "--study", "other", "--output", "outputs/tune/tiny"]) == 2
    assert "outputs/tune/tiny holds study 'tiny'; choose another --output" in capsys.readouterr().err


def test_without_optuna_the_extra_is_named(studies, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)  # importing it fails
    assert main(["tune", studies.write(RANGE)]) == 2
    assert capsys.readouterr().err == "deepfm: deepfm tune needs Optuna 4 or newer; pip install 'deepfm[tune]'\n"


def test_help_and_import_load_neither_optuna_nor_torch():
    code = (
        "import sys, contextlib, deepfm\nfrom deepfm.cli import main\n"
        "with contextlib.suppress(SystemExit): main(['tune', '--help'])\n"
        "print('LOADED', sorted({'optuna', 'torch', 'sqlalchemy', 'numpy'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--pruner" in answer.stdout
    assert answer.stdout.splitlines()[-1] == "LOADED []"


def test_the_command_names_what_there_is():
    assert (tune.SAMPLERS, tune.PRUNERS) == (SAMPLERS, PRUNERS)
