"""Ablations: each arm turns one part alone, is trained beside the experiment by its code, and is compared with it."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import yaml

from deepfm.cli import main
from deepfm.engine.loop import Observer
from deepfm.engine.run import RunFolder
from deepfm.equities.evaluation.ablation import PartDifference, compare_means
from deepfm.equities.experiment import walk
from deepfm.equities.experiment.ablate import run_ablations
from deepfm.equities.experiment.ablation import arm_of, possible_arms
from deepfm.equities.experiment.fold_run import settings_hash
from deepfm.equities.experiment.record import experiment_settings
from deepfm.equities.experiment.walk import run_experiment
from deepfm.equities.panels.files import save_panel
from deepfm.equities.panels.synthetic import SIGNALS, PlantedSettings, planted_panel
from deepfm.equities.reports.ablation import TITLE, ablation_section, reading
from deepfm.equities.settings import SWITCHES, load_equities
from deepfm.errors import ConfigError, RunError
from deepfm.reporting import Document, Section, render_markdown
from deepfm.statistics import SerialMean
from deepfm.tuning.space import flat_settings

SIZES = PlantedSettings(num_sessions=130, num_stocks=24, **{**dict.fromkeys(SIGNALS, 0.0), "own": 0.5})
TINY = (
    "device=cpu", "analysis_seconds=0", "seeds=[3, 4]", "data.sequence_length=4", "data.prediction_horizons=[1, 2]",
    "split.embargo=3", "data.features=[clv, ret1]", "split.n_splits=2", "split.test_sessions=25",
    "split.validation_sessions=8", "split.min_train=30", "model.hidden_size=4", "model.num_heads=1",
    "model.gat_heads=[1, 1]", "data.min_history=2", "model.frequency_steps=2", "model.frequency_components=1",
    "graph.min_correlation=0.1", "training.max_epochs=1", "training.batch_size=32", "training.learning_rate=0.02",
    "training.warmup_steps=0", "evaluation.baselines=[]",
)  # fmt: skip


@pytest.fixture(scope="module")
def begun(tmp_path_factory, one_thread):
    """An experiment of an earlier release, whose first fold is trained and whose second is not."""
    place = tmp_path_factory.mktemp("ablations")
    save_panel(planted_panel(SIZES, 5).panel, place / "panel.parquet")
    folder = RunFolder(place / "run")
    found = run_experiment(load_equities(None, [*TINY, f"data.path={place / 'panel.parquet'}"]), folder, folds=["1"])
    assert found["left"] == ["2 with seed 3", "2 with seed 4"]
    plain = yaml.safe_load(folder.config.read_text())
    del plain["ablation"], plain["evaluation"]["trials"], plain["evaluation"]["trial_deviation"]
    folder.config.write_text(yaml.safe_dump(plain))
    return folder


@pytest.fixture
def copy(begun, tmp_path):
    shutil.copytree(begun.path, tmp_path / "run")
    return RunFolder(tmp_path / "run")


@pytest.fixture
def sections(monkeypatch):
    """The titles of the reports, which are not drawn."""
    titles = []

    def built(found, *_):
        titles.append(TITLE if found.ablations else "")
        return Document("report", "", [])

    monkeypatch.setattr(walk, "build_report", built)
    return titles


def ablate(folder, *arguments):
    return main(["equities", "ablate", str(folder.path), "--quiet", *arguments])


def trained_at(folder):
    return {str(path.relative_to(folder.path)) for path in folder.path.glob("ablations/*/fold-*/seed-*/results.json")}


def test_an_arm_turns_its_part_and_nothing_else():
    settings = load_equities()
    plain, wanted = flat_settings(settings), {
        "graph": {"model.graph_attention": False},
        "FAN": {"model.feature_attention": False},
        "SAN": {"model.stock_attention": False},
        "VSN": {"model.variable_selection": False},
        "normalization": {"model.adaptive_normalization": "off"},
    }  # fmt: skip
    assert set(wanted) == set(SWITCHES)
    for part, change in wanted.items():
        arm = arm_of(settings, part, "slice")
        assert flat_settings(arm.settings) == {**plain, "analysis_seconds": 0, **change}
        assert arm.state == "off"
    arms = possible_arms(settings)
    assert [arm.part for arm in arms] == list(SWITCHES)
    assert len({settings_hash(arm.settings) for arm in arms} | {settings_hash(settings)}) == 6


def test_what_is_off_is_turned_on():
    off = load_equities(
        None, ["model.adaptive_normalization=off", "model.stock_attention=false", "graph.enabled=false"]
    )
    assert arm_of(off, "normalization", "slice").settings.model.adaptive_normalization == "slice"
    assert arm_of(off, "SAN", "slice").settings.model.stock_attention
    assert arm_of(off, "graph", "slice").settings.graph.enabled
    folder = RunFolder("run")
    assert [arm.folder(folder).path.name for arm in possible_arms(off)] == [
        "graph-on", "FAN-off", "SAN-on", "VSN-off", "normalization-frequency", "normalization-slice",
        "normalization-rolling",
    ]  # fmt: skip


def test_arms_are_trained_compared_and_kept(copy, sections, capsys, one_thread):
    """From an unfinished experiment of an earlier release to a report, fold by fold."""
    assert ablate(copy, "--folds", "1", "--only", "FAN", "graph") == 0
    said = capsys.readouterr().out
    assert "still to train: 2 with seed 3, 2 with seed 4" in said
    assert "FAN off" in said
    first = {f"ablations/{arm}-off/fold-1/seed-3/results.json" for arm in ("FAN", "graph")}
    assert trained_at(copy) == first
    arm = load_equities(copy.path / "ablations/FAN-off/fold-1/seed-3/config.yaml")
    whole = load_equities(copy.path / "fold-1/seed-3/config.yaml")
    assert arm == dataclasses.replace(whole, model=dataclasses.replace(whole.model, feature_attention=False))

    before = {name: (copy.path / name).read_bytes() for name in first}
    run_experiment(experiment_settings(copy), copy, resume=True)
    assert ablate(copy, "--folds", "2", "1", "--only", "FAN") == 0
    assert sections == [TITLE, TITLE]
    assert {name: (copy.path / name).read_bytes() for name in first} == before
    assert trained_at(copy) == {*first, "ablations/FAN-off/fold-2/seed-3/results.json"}

    evaluation = json.loads((copy.path / "evaluation.json").read_text())
    found = {(item["part"], item["horizon"]): item for item in evaluation["ablations"]}
    assert list(found) == [("graph", 1), ("graph", 2), ("FAN", 1), ("FAN", 2)]
    assert found["graph", 1]["runs"] == [["1", [3]]]
    assert found["FAN", 1]["runs"] == [["1", [3]], ["2", [3]]]
    tests = {
        place: RunFolder(copy.path / place / "fold-1" / "seed-3").read_results()["test"]
        for place in (".", "ablations/graph-off")
    }
    for horizon in (1, 2):
        name, item = f"rank_ic_{horizon}", found["graph", horizon]
        assert item["whole"]["mean"] == pytest.approx(tests["."][name])
        assert item["arm"]["mean"] == pytest.approx(tests["ablations/graph-off"][name])
        assert item["difference"]["mean"] == pytest.approx(item["whole"]["mean"] - item["arm"]["mean"])
        other = RunFolder(copy.path / "fold-1" / "seed-4").read_results()["test"][name]
        assert item["seed_deviation"] == pytest.approx(abs(other - tests["."][name]) / 2**0.5)
    assert evaluation["methods"]["ATFT"][0]["portfolio"]["levels"][0]["deflated"] is not None

    damaged = copy.path / "ablations/graph-off/fold-1/seed-3/results.json"
    damaged.write_text(damaged.read_text().replace(settings_hash(arm_of(whole, "graph", "slice").settings), "other"))
    assert main(["equities", "evaluate", str(copy.path)]) == 2
    assert "ablations/graph-off/fold-1/seed-3 was trained on other data or by other" in capsys.readouterr().err

    one = dataclasses.replace(whole, seeds=(3,), split=dataclasses.replace(whole.split, n_splits=1))
    run_experiment(one, copy, overwrite=True)
    assert trained_at(copy) == set()
    assert sections[-1] == ""
    assert "ablations" not in json.loads((copy.path / "evaluation.json").read_text())


def test_an_interrupted_arm_goes_on(copy, one_thread):
    class Interrupt(Observer):
        def batch_finished(self, rows):
            raise KeyboardInterrupt

    settings = experiment_settings(copy, ["ablation.folds=[1]", "ablation.switches=[VSN, SAN]", "ablation.seeds=[4]"])
    calls = []

    def watch(fold, seed):
        calls.append((fold.name, seed))
        return [Interrupt()] if len(calls) == 2 else []

    with pytest.raises(KeyboardInterrupt):
        run_ablations(settings, copy, watch)
    assert trained_at(copy) == {"ablations/VSN-off/fold-1/seed-4/results.json"}
    found, left = run_ablations(settings, copy, watch)
    assert calls == [("1", 4)] * 3
    assert {item.name for item in found} == {"VSN off", "SAN off"}
    assert len(left) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "ablation.folds is empty"),
        (["--folds", "7"], "fold '7' is none of this split; expected one of 1, 2"),
        (["--folds", "1", "--seeds", "9"], "ablation.seeds holds 9"),
        (["--folds", "1", "--only", "luck"], "expected one of graph, FAN, SAN, VSN, normalization"),
        (
            ["--folds", "1", "--override", "model.dropout=0.3"],
            "than are asked for: model.dropout = 0.3",
        ),
        (["--folds", "abc"], "ablation.folds holds 'abc', of type str; expected a list, each a whole number"),
    ],
)
def test_what_cannot_be_ablated_is_one_sentence(begun, capsys, arguments, words):
    assert ablate(begun, *arguments) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not (begun.path / "ablations").exists()


def difference(mean, error, deviation=None, seeds=(1,)):
    daily = SerialMean(mean, error, 250)
    return PartDifference("graph", "off", 5, (("2014", seeds), ("2016", seeds)), daily, daily, daily, deviation)


def test_a_difference_is_told_apart_from_days_and_from_seeds():
    assert difference(0.01, 0.004).told_apart
    assert not difference(0.007, 0.004).told_apart
    assert not difference(0.01, 0.004, deviation=0.004).told_apart  # two single trainings differ by .0057 anyway
    assert not difference(0.01, 0.004, deviation=0.0025).told_apart  # beyond two of either, not of both together
    assert difference(0.01, 0.004, deviation=0.004, seeds=(1, 2, 3, 4)).told_apart
    assert difference(0.01, 0.004, deviation=0.004).luck == pytest.approx(0.004 * 2**0.5)


def test_means_are_over_the_days_that_both_have():
    whole, arm = np.array([0.1, np.nan, 0.3, 0.5]), np.array([0.2, 0.9, np.nan, 0.1])
    ours, theirs, less = compare_means(whole, arm, 1, np.array([3, 4, 5, 200]))
    assert (ours.mean, theirs.mean, less.mean) == pytest.approx((0.3, 0.15, 0.15))
    assert ours.count == theirs.count == less.count == 2


def test_the_report_says_what_can_be_told_apart():
    found = [difference(0.01, 0.004), dataclasses.replace(difference(-0.002, 0.003), part="FAN")]
    text = render_markdown(Document("report", "", [ablation_section(found)]))
    assert isinstance(ablation_section(found), Section)
    assert "With one seed and 2 folds, 250 days, a difference of less than two errors, at best 0.0060" in text
    assert "Told apart as far as days go: graph off over 5 sessions (+0.0100)." in text
    assert "2014 (1); 2016 (1)" in text
    known = [dataclasses.replace(item, seed_deviation=0.001) for item in found]
    assert reading(known).endswith("Told apart: graph off over 5 sessions (+0.0100).")
    assert reading(known[1:]).endswith("Told apart: none.")


def test_settings_of_an_ablation_have_limits():
    with pytest.raises(ConfigError, match=r"ablation\.normalization"):
        load_equities(None, ["ablation.normalization=off"])
    with pytest.raises(RunError, match="does not exist; expected a folder that `deepfm equities train` wrote"):
        experiment_settings(RunFolder("nowhere"))
