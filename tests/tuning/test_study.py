"""A study in its storage: of one thing only, its trials in slots, and storages that cannot be used."""

import os
from dataclasses import asdict
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from deepfm.config import load_config
from deepfm.data.adapter import DataInfo
from deepfm.errors import RunError
from deepfm.tuning import build_space
from deepfm.tuning.study import claim, identity_of, next_slot, open_study, shown_url

INFO = DataInfo("clicks", "a" * 64, "files")
SECTION = {"training.lr": {"choices": [0.1, 0.2]}, "training.batch_size": {"choices": [8, 16]}}


def identity(section=None, info=INFO, overrides=()):
    config = load_config(None, list(overrides))
    return identity_of(config, build_space(section or SECTION, config), info)


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/study.db"


class TestIdentity:
    def test_the_same_goes_on(self, url):
        study = open_study(url, "mine", identity())
        study.tell(study.ask(), 1.0)
        assert len(open_study(url, "mine", identity()).trials) == 1
        with pytest.raises(RunError, match="judged by ndcg@10, not auc"):
            open_study(url, "mine", identity(overrides=["training.metric=auc"]))

    @pytest.mark.parametrize(
        ("other", "words"),
        [
            (identity(overrides=["training.metric=auc"]), r"study 'mine' is judged by ndcg@10, not auc"),
            (identity(info=DataInfo("others", "b" * 64, "files")), r"study 'mine' is of other data \(clicks\)"),
            (
                identity({**SECTION, "training.lr": {"choices": [0.1]}}),
                r"another search space \(training\.lr\)",
            ),
            (identity({**SECTION, "dnn.dropout": {"choices": [0.1]}}), r"another search space \(dnn\.dropout\)"),
            (identity(dict(reversed(SECTION.items()))), "another search space"),
            (identity(overrides=["training.num_epochs=3"]), r"study 'mine' has training\.num_epochs = 50, not 3"),
            (identity(overrides=["seed=1"]), "study 'mine' has seed = 42, not 1"),
            (identity(overrides=["data.num_neg_eval=9"]), r"study 'mine' has data\.num_neg_eval = 999, not 9"),
        ],
    )
    def test_another_is_refused_by_what_differs(self, other, words):
        with pytest.raises(RunError, match=words) as error:
            other.refuse_other("mine", asdict(identity()))
        assert "--study" in str(error.value)

    def test_what_is_varied_and_where_it_lies_may_differ(self):
        same = identity(overrides=["training.lr=0.5", "device=cpu", "data.data_dir=elsewhere"])
        same.refuse_other("mine", asdict(identity()))

    def test_a_study_of_another_program_is_refused(self, url):
        optuna.create_study(storage=url, study_name="mine").add_trial(optuna.trial.create_trial(value=1.0))
        with pytest.raises(RunError, match="study 'mine' was not made by deepfm tune"):
            open_study(url, "mine", identity())

    def test_a_log_loss_is_minimised(self):
        assert identity().direction == "maximize"
        assert identity(overrides=["training.metric=logloss"]).direction == "minimize"


class TestSlots:
    def test_what_came_to_an_end_keeps_its_slot(self, url):
        study = open_study(url, "mine", identity())
        for slot, (state, error) in enumerate([("COMPLETE", 0), ("PRUNED", 0), ("FAIL", 1)]):
            assert next_slot(study, 9) == slot
            trial = study.ask()
            claim(trial, slot)
            if error:
                trial.set_user_attr("error", "the loss is nan")
            study.tell(trial, 1.0 if state == "COMPLETE" else None, state=TrialState[state])
        assert next_slot(study, 9) == 3
        assert next_slot(study, 3) is None

    def test_an_interrupted_trial_is_tried_again(self, url):
        study = open_study(url, "mine", identity())
        for slot in (0, 1, 2):
            trial = study.ask()
            claim(trial, slot)
            study.tell(trial, **({"state": TrialState.FAIL} if slot == 1 else {"values": 1.0}))
        assert next_slot(study, 9) == 1

    def test_a_trial_of_a_process_that_is_gone_is_tried_again(self, url, monkeypatch):
        study = open_study(url, "mine", identity())
        trial = study.ask()
        claim(trial, 0)
        assert next_slot(study, 9) == 1  # this process is at work on it
        host, number, created = trial.user_attrs["process"]
        assert number == os.getpid()
        trial.set_user_attr("process", [host, number, created - 60])  # another had the number before
        assert next_slot(study, 9) == 0
        assert study.trials[0].state is TrialState.FAIL

    def test_one_of_another_machine_is_left_alone(self, url):
        study = open_study(url, "mine", identity())
        trial = study.ask()
        claim(trial, 0)
        trial.set_user_attr("process", ["elsewhere", 1, 0.0])
        assert next_slot(study, 9) == 1
        assert study.trials[0].state is TrialState.RUNNING


class TestStorages:
    @pytest.mark.parametrize(
        "address",
        [
            "study.db",
            "sqlite:///file/study.db",
            "sqlite:///file",
            "sqlite:////proc/nothing/study.db",
            "nosuch:///study",
            "mysql+nosuch://user:secret@host/study",
        ],
    )
    def test_one_that_cannot_be_used_is_one_sentence(self, tmp_path, monkeypatch, address):
        monkeypatch.chdir(tmp_path)
        Path("file").write_text("not a database, but long enough to be looked at as one " * 20)
        with pytest.raises(
            RunError, match=r"storage .* cannot be used \(.*\); expected one that can be written"
        ) as error:
            open_study(address, "mine", identity())
        assert "\n" not in str(error.value)
        assert "secret" not in str(error.value)
        assert [path.name for path in tmp_path.iterdir()] == ["file"]

    def test_a_password_is_never_shown(self):
        assert shown_url("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"
