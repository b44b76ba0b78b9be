"""The configuration: names that practitioners type, the engine's knobs, and no key that nothing reads."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deepfm.engine.loop_settings import LoopSettings
from deepfm.engine.setting_names import setting_names
from deepfm.engine.settings import settings_to_dict
from deepfm.equities.settings import EquitiesSettings, load_equities
from deepfm.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted((ROOT / "configs" / "atft").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_configuration_is_made_of_parts_and_loads(path):
    settings = load_equities(path)
    assert "include:" in path.read_text()
    assert settings.data.path
    again = load_equities(None, [])
    assert dataclasses.asdict(again) != dataclasses.asdict(settings)


def test_the_names_of_the_field_are_there():
    names = setting_names(EquitiesSettings)
    of_model = ("hidden_size", "num_heads", "num_layers", "dropout")
    of_training = ("learning_rate", "batch_size", "max_epochs", "warmup_steps", "horizon_weights", "rankic_weight")
    wanted = [f"model.{name}" for name in of_model] + [f"training.{name}" for name in (*of_training, "sharpe_weight")]
    assert {*wanted, "data.sequence_length", "data.prediction_horizons"} <= set(names)


def test_every_knob_of_the_engine_can_be_turned():
    """Each field of the loop's settings has a key here, and its value arrives."""
    defaults = load_equities().training.loop()
    changed = {
        "precision": "bf16", "optimizer": "sgd", "scheduler": "cosine", "compile": True, "plateau_restore": False,
        "gradient_clip_norm": 0.25, "checkpoint_batches": 3, "activation_checkpointing": True, "min_lr": 1e-7,
        "min_delta": 1e-3, "plateau_factor": 0.45,
    }  # fmt: skip
    ours = {"lr": "learning_rate", "num_epochs": "max_epochs"}
    for item in dataclasses.fields(LoopSettings):
        value = changed[item.name] if item.name in changed else getattr(defaults, item.name) * 2 + 1
        loop = load_equities(None, [f"training.{ours.get(item.name, item.name)}={value}"]).training.loop()
        assert getattr(loop, item.name) == value


def test_every_key_is_read_somewhere():
    """Each setting's name stands as an attribute in the wing's code outside the classes that define it."""
    defining = {"settings.py", "network_settings.py", "loss_settings.py", "panel_settings.py"}
    files = [path for path in (ROOT / "deepfm" / "equities").rglob("*.py") if path.name not in defining]
    text = "\n".join(path.read_text() for path in files)
    by_the_engine = {item.name for item in dataclasses.fields(LoopSettings)} | {"learning_rate", "max_epochs"}
    weights = {f"{part}_weight" for part in ("quantile", "huber", "ic", "rankic", "listnet", "student_t")}
    nowhere = [
        name
        for name in setting_names(EquitiesSettings)
        if (leaf := name.rsplit(".", 1)[-1]) not in by_the_engine | weights | {"task", "output_dir"}
        and not re.search(rf"\.{leaf}\b", text)
    ]
    assert nowhere == []


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.lr=0.1", "did you mean 'training.learning_rate'"),
        ("data.horizons=[1]", "did you mean 'data.prediction_horizons'"),
        ("split.gap=5", r"split.gap = 5 sessions; expected at least 21"),
        ("training.horizon_weights=[1, 2]", "expected one for each"),
        ("training.sharpe_weight=0.1", "expected at least sharpe_days"),
        ("seeds=[1, 1]", "holds one twice"),
        ("seeds=[]", "is empty"),
        ("evaluation.baselines=[oracle]", "out of range; expected one of"),
        ("data.prediction_horizons=[]", "is empty"),
        ("task=clicks", "expected one of equities"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(override, words):
    with pytest.raises(ConfigError, match=words):
        load_equities(None, [override])


def test_the_bare_word_off_is_no_false():
    assert load_equities(None, ["model.adaptive_normalization=off"]).model.adaptive_normalization == "off"


def test_a_configuration_survives_its_yaml(tmp_path):
    import yaml

    settings = load_equities(SHIPPED[0], ["training.weight_decay=0.125"])
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings_to_dict(settings)))
    assert load_equities(path) == settings


def test_settings_and_the_command_load_no_torch():
    code = (
        "import sys, deepfm.equities.settings, deepfm.commands.equities as c, argparse;"
        "c.add_arguments(argparse.ArgumentParser());"
        "sys.exit(any(name in sys.modules for name in ('torch', 'optuna', 'polars')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
