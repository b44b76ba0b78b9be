"""`deepfm equities tune`: every name is consumed, no test day is there, and CONFIG decides what is tuned."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from deepfm.cli import main
from deepfm.commands import tune
from deepfm.equities.experiment import tuning
from deepfm.equities.experiment.fold_run import settings_hash
from deepfm.equities.experiment.tuning import RULES, StockRanking
from deepfm.equities.panels.files import save_panel
from deepfm.equities.panels.synthetic import SIGNALS, PlantedSettings, planted_panel
from deepfm.equities.settings import METRIC, load_equities
from deepfm.errors import ConfigError
from deepfm.tuning import load_space
from deepfm.tuning.sampling import suggest_values
from deepfm.tuning.space import flat_settings, with_values

optuna = pytest.importorskip("optuna")
TINY = {
    "task": "equities", "device": "cpu", "analysis_seconds": 0, "seeds": [1],
    "data": {"sequence_length": 4, "prediction_horizons": [1], "features": ["clv", "ret1"]},
    "split": {"n_splits": 1, "test_sessions": 20, "validation_sessions": 10, "min_train": 30, "embargo": 2},
    "graph": {"enabled": False},
    "model": {"hidden_size": 4, "num_heads": 1, "gat_heads": [1, 1], "adaptive_normalization": "off"},
    "training": {"max_epochs": 2, "batch_size": 32},
    "evaluation": {"baselines": []},
}  # fmt: skip


@pytest.fixture
def configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sizes = PlantedSettings(num_sessions=110, num_stocks=24, **{**dict.fromkeys(SIGNALS, 0.0), "own": 0.5})
    save_panel(planted_panel(sizes, 2).panel, "panel.parquet")
    space = {"training": {"learning_rate": {"choices": [1e-9, 0.02]}}}
    tree = {**TINY, "data": {**TINY["data"], "path": "panel.parquet"}, "tune": space}
    Path("tiny.yaml").write_text(yaml.safe_dump(tree))
    return "tiny.yaml"


def test_a_study_is_judged_on_validation_days_and_its_winner_tested_once(configuration, monkeypatch, capsys):
    opened, last, run = [], [], tuning.run_experiment
    open_market = tuning.open_market

    def watched(config, **options):
        market = open_market(config, **options)
        opened.append(options)
        last.append(market.panel.sessions[-1])
        return market

    winners = []
    monkeypatch.setattr(tuning, "open_market", watched)
    monkeypatch.setattr(
        tuning, "run_experiment", lambda *args, **more: winners.append(len(opened)) or run(*args, **more)
    )
    assert main(["tune", configuration, "--trials", "2", "--sampler", "grid", "--quiet"]) == 0
    study = json.loads(Path("outputs/tune/tiny/study.json").read_text())
    assert study["metric"] == METRIC
    assert study["model"] == "atft"
    assert study["best"]["params"] == {"training.learning_rate": 0.02}
    assert opened == [{"without_tests": True}]  # once for all trials
    assert str(last[0]) < study["winner"]["protocol"]["split"][0]["test"][0]
    assert winners == [1]
    best = load_equities("outputs/tune/tiny/best.yaml")
    assert best.evaluation.trials == 2
    assert load_equities(Path(study["winner"]["run"]) / "config.yaml").evaluation.trials == 2
    assert set(study["winner"]["test"]) == {"rank_ic_1"}
    assert set(study["best"]["validation"]) == {"rank_ic", "rank_ic_1"}
    assert "study" in capsys.readouterr().out


def test_the_setup_makes_the_study_alone(configuration, capsys):
    assert main(["equities", "tune", configuration, "--setup", "--quiet"]) == 0
    assert "study tiny in" in capsys.readouterr().out


def test_every_name_of_the_shipped_space_is_consumed():
    """Each suggested value is a setting's, and changes what is trained."""
    config = load_equities(None, ["data.path=x"])
    space = load_space(None, [], config, RULES)
    base, seen = flat_settings(config), set()
    for number in range(10):
        draw = np.random.default_rng(number)
        values = suggest_values(_Drawing(draw), space, base)
        changed = flat_settings(with_values(config, values))
        assert {name: changed[name] for name in values} == values
        for name in set(values) - seen:
            if values[name] != base[name]:
                seen.add(name)
                assert settings_hash(with_values(config, {name: values[name]})) != settings_hash(config)
    assert seen == {parameter.name for parameter in space.parameters}


class _Drawing:
    """A trial that draws anything."""

    def __init__(self, draw):
        self.draw = draw

    def suggest_categorical(self, name, choices):
        return choices[self.draw.integers(len(choices))]

    def suggest_int(self, name, low, high, **_):
        return int(self.draw.integers(low, high + 1))

    def suggest_float(self, name, low, high, step=None, log=False):
        return low if step else float(self.draw.uniform(low, high))


@pytest.mark.parametrize(
    "name", ["data.path", "split.embargo", "seeds", "training.horizon_weights", "evaluation.share"]
)
def test_what_trials_are_judged_by_is_not_varied(name):
    with pytest.raises(ConfigError, match=f"tune.{name} cannot be varied"):
        RULES.refuse_fixed(name)
    RULES.refuse_fixed("data.sequence_length")


def test_the_configuration_decides_what_is_tuned(configuration):
    arguments = type("Arguments", (), {"config": configuration})()
    assert isinstance(tune._subject(arguments), StockRanking)
    Path("clicks.yaml").write_text("model_name: lr\n")
    arguments.config = "clicks.yaml"
    assert not isinstance(tune._subject(arguments), StockRanking)


def test_trials_share_arrays_of_the_same_data_only(configuration):
    shelf, config = tuning.MarketShelf(), load_equities(configuration)
    market = shelf._market_of(config)
    first = shelf._arrays_of(config, market)
    faster = dataclasses.replace(config, training=dataclasses.replace(config.training, learning_rate=0.5))
    assert shelf._arrays_of(faster, shelf._market_of(faster)) is first
    other = dataclasses.replace(config, data=dataclasses.replace(config.data, scaling="rank"))
    assert shelf._arrays_of(other, shelf._market_of(other)) is not first
