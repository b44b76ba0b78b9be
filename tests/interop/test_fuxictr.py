"""`deepfm import-fuxictr`: what FuxiCTR's files mean, held to FuxiCTR itself, to hand-made numbers and to training."""

import contextlib
import csv
import json
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from deepfm.cli import main
from deepfm.config import load_config
from deepfm.data.schema import DatasetSchema, FeatureType, FieldSchema
from deepfm.data.tables.schema import TableSchema
from deepfm.engine.loop import Observer
from deepfm.errors import ConfigError, DeepFMError
from deepfm.interop.fuxictr import Experiment, read_experiment, translate
from deepfm.interop.fuxictr.models import MODELS
from deepfm.models import create_model
from deepfm.training.experiment import open_data
from deepfm.training.trainer import Trainer
from deepfm.utils.seeding import random_stream, seed_everything

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).resolve().parents[2]
PEER = ROOT / ".bench" / "fuxictr" / "bin" / "python"
SUM, MEAN = "layers.MaskedSumPooling()", "layers.MaskedAveragePooling()"
BASE = {
    "model_root": "./checkpoints/",
    "num_workers": 3,
    "verbose": 1,
    "early_stop_patience": 2,
    "pickle_feature_encoder": True,
    "save_best_only": True,
    "eval_steps": None,
    "debug_mode": False,
    "group_id": None,
    "use_features": None,
    "feature_specs": None,
    "feature_config": None,
}
COMMON = {
    "dataset_id": "tiny",
    "loss": "binary_crossentropy",
    "metrics": ["logloss", "AUC"],
    "task": "binary_classification",
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "batch_size": 64,
    "epochs": 1,
    "shuffle": True,
    "seed": 2019,
    "monitor": "AUC",
    "monitor_mode": "max",
}
NETWORK = {"embedding_regularizer": 0.02, "net_regularizer": 0, "embedding_dim": 4}
DEEPFM = {
    **{**COMMON, **NETWORK, "model": "DeepFM"},
    **{"hidden_units": [8, 6], "hidden_activations": "relu", "net_dropout": 0, "batch_norm": False},
}
IDS = {"name": ["user", "item", "shop"], "active": True, "dtype": "str", "type": "categorical"}
PRICE = {"name": "price", "active": True, "dtype": "float", "type": "numeric"}
TAGS = {"name": "tags", "active": True, "dtype": "str", "type": "sequence", "splitter": "|", "max_len": 3}
HISTORY = {
    **{"name": "clicked", "active": True, "dtype": "str", "type": "sequence", "splitter": "^", "max_len": 4},
    **{"padding": "pre", "share_embedding": "item"},
}
DATASET = {
    "data_root": "../data/",
    "data_format": "csv",
    "train_data": "./data/train.csv",
    "valid_data": "./data/valid.csv",
    "test_data": "./data/test.csv",
    "min_categr_count": 2,
    "feature_cols": [IDS, PRICE, {**TAGS, "feature_encoder": SUM}],
    "label_col": {"name": "click", "dtype": "float"},
}
ROWS = {"train": 640, "valid": 300, "test": 200}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder with `data/{train,valid,test}.csv`: clicks that user and item decide at 9 to 1."""
    folder = tmp_path_factory.mktemp("rows")
    (folder / "data").mkdir()
    rng = np.random.default_rng(3)
    for part, count in ROWS.items():
        with open(folder / "data" / f"{part}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["click", "user", "item", "shop", "price", "tags", "clicked"])
            for _ in range(count):
                user, item, shop = rng.integers(0, 30), rng.integers(0, 40), rng.zipf(1.7) % 50
                tags = rng.choice(list("abcdefg"), rng.integers(0, 4), replace=False)
                clicked = rng.integers(0, 45, rng.integers(0, 5))
                taste = np.sin(user) + np.cos(item) + (item in clicked)
                click = rng.random() < (0.9 if taste > 0.2 else 0.1)
                history = "^".join(f"i{one}" for one in clicked)
                columns = [f"u{user}", f"i{item}", f"s{shop}", f"{rng.random():.3f}", "|".join(tags), history]
                writer.writerow([int(click), *columns])
    return folder


def write(folder, experiments=None, datasets=None, base=None) -> tuple[str, str]:
    """FuxiCTR's two files in `folder/config`."""
    (folder / "config").mkdir(exist_ok=True)
    experiments = {"Base": BASE if base is None else base, **({"X": DEEPFM} if experiments is None else experiments)}
    for name, tree in (("dataset", datasets or {"tiny": DATASET}), ("model", experiments)):
        (folder / "config" / f"{name}_config.yaml").write_text(yaml.safe_dump(tree))
    return str(folder / "config" / "dataset_config.yaml"), str(folder / "config" / "model_config.yaml")


@pytest.fixture
def place(data, tmp_path, monkeypatch) -> Path:
    """A working folder from which the rows are found."""
    (tmp_path / "data").symlink_to(data / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def translated(place, changes=None, dataset=None, nearest=False):
    """DeepFM's experiment with other keys; None takes one away."""
    changed = {key: value for key, value in {**DEEPFM, **(changes or {})}.items() if value != "ABSENT"}
    files = write(place, {"X": changed}, {"tiny": {**DATASET, **(dataset or {})}})
    return translate(read_experiment(*files, "X"), nearest_form=nearest)


def refused(capsys, place, changes=None, dataset=None, options=()) -> str:
    """What the command says when it refuses."""
    files = write(place, {"X": {**DEEPFM, **(changes or {})}}, {"tiny": {**DATASET, **(dataset or {})}})
    assert main(["import-fuxictr", *files, "--expid", "X", "-o", str(place / "out"), *options]) == 2
    assert not (place / "out").exists()
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("deepfm: ")
    return said.err


def known(data: Path, column: str, min_count: int, separator: str | None = None) -> set[str]:
    """The values of training rows that are not too rare, counted by hand."""
    with open(data / "data" / "train.csv", newline="", encoding="utf-8") as file:
        cells = [row[column] for row in csv.DictReader(file)]
    values = [value for cell in cells for value in (cell.split(separator) if separator else [cell])]
    return {value for value, count in Counter(values).items() if count >= min_count and value}


# ---- from the files to a trained run


def test_what_is_imported_trains(place, capsys):
    """FuxiCTR's files → the command → `deepfm train`, which finds what was planted."""
    files = write(place, {"X": {**DEEPFM, "learning_rate": 0.02, "epochs": 12, "embedding_regularizer": 0.001}})
    assert main(["import-fuxictr", *files, "--expid", "X", "-o", "out"]) == 0
    said = capsys.readouterr().out
    assert "train with: deepfm train --config out/X.yaml" in said
    assert "num_workers = 3" in said.split("no effect here: ")[1]
    assert "share one bias" in said
    options = ["--quiet", "--override", "device=cpu", "output_dir=run"]
    assert main(["train", "--config", "out/X.yaml", *options]) == 0
    results = json.loads((place / "run" / "results.json").read_text())
    assert results["model"] == "deepfm"
    assert 0.8 < results["test"]["auc"] < 0.95  # nine of ten rows follow the rule


def test_parameters_are_counted_as_fuxictr_counts_them(place, data):
    """Rows: the values that occur twice, padding and one for all others; DeepFM: those × (D + 1), and a tower."""
    translated(place).write("out")
    config = load_config("out/X.yaml", ["device=cpu"])
    schema = open_data(config).schema
    columns = {"user": None, "item": None, "shop": None, "tags": "|"}
    rows = sum(len(known(data, name, 2, separator)) + 2 for name, separator in columns.items())
    assert len(known(data, "shop", 1)) > len(known(data, "shop", 2))  # so that the count of two matters
    tower = (5 * 4 + 1) * 8 + (8 + 1) * 6 + 6 + 1
    model = create_model(config.model_name, schema, config)
    assert sum(weight.numel() for weight in model.parameters()) == (rows + 1) * 5 + tower
    assert schema.fields["shop"].vocabulary_size == len(known(data, "shop", 2)) + 2


def test_the_numbers_that_go_over(place):
    """Every setting that FuxiCTR's keys decide, by hand."""
    done = translated(
        place,
        {
            **{"learning_rate": "1e-3", "net_regularizer": "l2(0.004)", "net_dropout": [0.3, 0.3], "batch_norm": True},
            **{"hidden_activations": ["SiLU", "SiLU"], "monitor": {"logloss": -1}, "early_stop_patience": 3},
            "max_gradient_norm": 7,
        },
    )
    assert done.config["feature"] == {
        **{"fm_embed_dim": 4, "embedding_dim": 4, "projection": "none"},
        **{"embedding_l2_reg": 0.01, "init_std": 1e-4},  # FuxiCTR's λ/2·Σw², ours λ·Σw²
    }
    assert done.config["dnn"] == {
        **{"hidden_units": [8, 6], "activation": "silu", "dropout": 0.3},
        "use_batch_norm": True,
    }
    assert done.config["fm"] == {"use_first_order": True, "use_second_order": True}
    assert done.config["training"] == {
        **{"loss": "bce", "num_epochs": 1, "batch_size": 64, "lr": 0.001, "optimizer": "adam"},
        **{"weight_decay": 0.004, "linear_init": "xavier_normal", "metric": "logloss"},
        **{"scheduler": "reduce_on_plateau", "plateau_factor": 0.1, "plateau_patience": 0, "plateau_restore": False},
        **{"min_lr": 1e-6, "min_delta": 1e-6, "early_stopping_patience": 3, "gradient_clip_norm": 7.0},
    }
    assert done.config["seed"] == 2019
    assert done.config["data"]["train_file"] == "train.csv"


def test_what_a_file_leaves_out_is_fuxictrs_default(place):
    """Defaults of FuxiCTR's classes and loop, none of which is ours."""
    bare = {"model": "DCNv2", "dataset_id": "tiny", "parallel_dnn_hidden_units": [5]}
    done = translate(read_experiment(*write(place, {"X": bare}, base={}), "X"))
    training = done.config["training"]
    assert (training["batch_size"], training["num_epochs"], training["lr"]) == (32, 1, 1e-3)
    assert (training["metric"], training["early_stopping_patience"]) == ("auc", 2)
    assert training["gradient_clip_norm"] == 10.0
    assert done.config["feature"]["embedding_dim"] == 10
    assert done.config["feature"]["embedding_l2_reg"] == 0.0
    assert done.config["dnn"] == {"hidden_units": [5], "activation": "relu", "dropout": 0.0, "use_batch_norm": False}
    assert done.config["dcn_v2"] == {"num_layers": 3, "structure": "parallel"}
    assert "seed" not in done.config
    assert any(note.startswith("seed = None by default: ") for note in done.findings.notes)


def test_base_is_beaten_by_the_experiment_and_that_by_the_data_set(place):
    base = {**BASE, "early_stop_patience": 9, "batch_size": 1, "group_id": "user"}
    files = write(place, {"X": DEEPFM}, {"tiny": {**DATASET, "epochs": 5, "group_id": None}}, base)
    config = translate(read_experiment(*files, "X")).config
    assert config["training"]["early_stopping_patience"] == 9
    assert config["training"]["batch_size"] == 64
    assert config["training"]["num_epochs"] == 5


@pytest.mark.parametrize("name", ["deepfm", "xdeepfm"])
def test_the_published_settings_are_the_shipped_ones(tmp_path, name):
    """BARS' keys for Frappe_x1, of FuxiCTR 1, give the settings of configs/bars, which were written by hand."""
    experiment = {
        **{"batch_norm": True, "batch_size": 4096, "dataset_id": "frappe", "debug": False, "embedding_dim": 10},
        **{"embedding_regularizer": 0.05, "epochs": 100, "every_x_epochs": 1, "hidden_activations": "relu"},
        **{"hidden_units": [400, 400, 400], "learning_rate": 0.001, "loss": "binary_crossentropy", "model": "DeepFM"},
        **{"metrics": ["AUC", "logloss"], "model_id": "DeepFM_base", "model_root": "./Frappe/", "monitor": "AUC"},
        **{"monitor_mode": "max", "net_dropout": 0.2, "net_regularizer": 0, "num_workers": 3, "optimizer": "adam"},
        **{"patience": 2, "pickle_feature_encoder": True, "save_best_only": True, "seed": 2021, "shuffle": True},
        **{"task": "binary_classification", "use_hdf5": True, "verbose": 1},
    }
    if name == "xdeepfm":
        del experiment["hidden_units"]
        experiment |= {"model": "xDeepFM", "embedding_regularizer": 0.1, "cin_layer_units": [64]}
        experiment |= {"dnn_hidden_units": [400, 400, 400], "partition_block_size": -1}
    columns = ["user", "item", "daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city"]
    dataset = {
        **{"data_format": "csv", "data_root": "../data/Frappe/", "min_categr_count": 1},
        **{f"{part}_data": f"../data/Frappe/Frappe_x1/{part}.csv" for part in ("train", "valid", "test")},
        "feature_cols": [{"active": True, "dtype": "float", "name": columns, "type": "categorical"}],
        "label_col": {"dtype": "float", "name": "label"},
    }
    files = write(tmp_path, {"X": experiment}, {"frappe": dataset}, base={})
    done = translate(read_experiment(*files, "X"))
    path, _ = done.write(tmp_path / "out")
    ours, shipped = load_config(path), load_config(ROOT / "configs" / "bars" / f"{name}_frappe_x1.yaml")
    for section in ("model_name", "seed", "feature", "fm", "dnn", "cin", "training"):
        assert getattr(ours, section) == getattr(shipped, section), section
    assert list(done.schema["columns"]) == columns
    older = [note.split(" = ")[0] for note in done.findings.notes if "FuxiCTR 2 does not know the key" in note]
    assert older == (["cin_layer_units", "hidden_activations", "patience"] if name == "xdeepfm" else ["patience"])


# ---- the models

R, F, D = 50, 4, 4  # rows of all tables, fields and width of the schema below
TOWER = {"dnn_hidden_units": [8, 6], "dnn_activations": "relu", "net_dropout": 0, "batch_norm": True}


def mlp(width: int, *units: int, batch_norm: bool = False, out: int = 1) -> int:
    """The parameters of FuxiCTR's MLP_Block."""
    total = 0
    for unit in units:
        total += (width + 1) * unit + (2 * unit if batch_norm else 0)
        width = unit
    return total + ((width + 1) * out if out else 0)


PAIRS_ATTENTION = (D + 1) * 5 + 5 + D  # AFM: hidden, score, output; the bias is the wide part's
CROSS = 3 * (F * D + F * D)  # DCN: a vector and a bias a layer
INTERACTING = (3 * D * 6 + D * 6) + 3 * 6 * 6 + 2 * (2 * 6)  # AutoInt: Q, K, V, the first layer's residual, norms
GATES = mlp(D, 7, out=F * D) + mlp(2 * D, 7, out=F * D)
FUSION = (8 + 1) + (6 + 1) + 2 * (8 // 2) * (6 // 2)


def mask_block(masked: int, ratio: float, out: int) -> int:
    hidden = int(masked * ratio)
    return (F * D + 1) * hidden + (hidden + 1) * masked + masked * out + 2 * out


WIDE = R * (D + 1)
CASES = {  # keys beside COMMON; parameters of FuxiCTR's class on the same columns: in tables, which λ is on, and others
    "LR": ({"regularizer": 0.1}, R, 1),
    "FM": ({"regularizer": 0.1, "embedding_dim": D}, WIDE, 1),
    "WideDeep": ({**NETWORK, "hidden_units": [8, 6]}, WIDE, mlp(F * D, 8, 6)),
    "DeepFM": ({**NETWORK, "hidden_units": [8, 6]}, WIDE, mlp(F * D, 8, 6)),  # and a second bias in FuxiCTR 2
    "xDeepFM": (
        {**NETWORK, **TOWER, "cin_hidden_units": [5, 3]},
        WIDE,
        mlp(F * D, 8, 6, batch_norm=True) + (F * F + 1) * 5 + (5 * F + 1) * 3 + (5 + 3) + 1,
    ),
    "DCN": (
        {**NETWORK, **TOWER, "num_cross_layers": 3},
        R * D,
        CROSS + mlp(F * D, 8, 6, batch_norm=True, out=0) + F * D + 6 + 1,
    ),
    "DCNv2": (
        {**NETWORK, **TOWER, "num_cross_layers": 2, "model_structure": "stacked", "stacked_dnn_hidden_units": [8, 6]},
        R * D,
        2 * (F * D + 1) * F * D + mlp(F * D, 8, 6, batch_norm=True),
    ),
    "DCNv2 mixture": (
        {
            **{**NETWORK, **TOWER, "num_cross_layers": 2, "model_structure": "parallel"},
            **{"parallel_dnn_hidden_units": [8], "use_low_rank_mixture": True, "low_rank": 3, "num_experts": 2},
        },
        R * D,
        2 * (2 * (2 * F * D * 3 + 3 * 3) + F * D) + 2 * F * D + mlp(F * D, 8, batch_norm=True, out=0) + F * D + 9,
    ),
    "AutoInt": (
        {
            **{**NETWORK, **TOWER, "attention_layers": 2, "num_heads": 2, "attention_dim": 6, "layer_norm": True},
            **{"use_scale": True, "use_wide": True},
        },
        WIDE,
        INTERACTING + F * 6 + 1 + mlp(F * D, 8, 6, batch_norm=True),
    ),
    "AutoInt alone": (
        {**NETWORK, "attention_layers": 1, "num_heads": 1, "attention_dim": D, "dnn_hidden_units": []},
        R * D,
        3 * D * D + F * D + 1,
    ),
    "AFM": ({**NETWORK, "attention_dim": 5, "attention_dropout": [0, 0.1]}, WIDE, 1 + PAIRS_ATTENTION),
    "NFM": ({**NETWORK, "hidden_units": [8, 6]}, WIDE, mlp(D, 8, 6)),
    "FinalMLP": (
        {
            **{**NETWORK, "mlp1_hidden_units": [8], "mlp2_hidden_units": [9, 6], "mlp1_batch_norm": True},
            **{"use_fs": True, "fs_hidden_units": [7], "fs1_context": [], "fs2_context": ["a", "b"], "num_heads": 2},
        },
        (R + 10 + 12) * D,  # a context has tables of its own
        D + mlp(F * D, 8, batch_norm=True, out=0) + mlp(F * D, 9, 6, out=0) + GATES + FUSION,
    ),
    "MaskNet": (
        {**NETWORK, "dnn_hidden_units": [8, 8], "model_type": "SerialMaskNet", "reduction_ratio": 0.5},
        R * D,
        2 * F * D + mask_block(F * D, 0.5, 8) + mask_block(8, 0.5, 8) + 8 + 1,
    ),
    "MaskNet parallel": (
        {
            **{**NETWORK, "dnn_hidden_units": [8], "model_type": "ParallelMaskNet", "emb_layernorm": False},
            **{"parallel_num_blocks": 3, "parallel_block_dim": 5, "reduction_ratio": 2},
        },
        R * D,
        3 * mask_block(F * D, 2, 5) + mlp(15, 8),
    ),
}
SIZES = {"a": 10, "b": 12, "c": 13, "d": 15}
SMALL = {
    **{f"{part}_data": f"{part}.csv" for part in ("train", "valid", "test")},
    "feature_cols": [{"name": ["a", "b", "c", "d"], "active": True, "dtype": "str", "type": "categorical"}],
    "label_col": {"name": "label", "dtype": "float"},
}


@pytest.mark.parametrize("case", CASES)
def test_a_model_has_the_parameters_of_fuxictrs(tmp_path, case):
    """Counted by hand from FuxiCTR 2.3.10's classes, on four columns of 10, 12, 13 and 15 rows."""
    keys, tables, others = CASES[case]
    files = write(tmp_path, {"X": {**COMMON, "model": case.split()[0], **keys}}, {"tiny": SMALL})
    config = load_config(translate(read_experiment(*files, "X")).write(tmp_path / "out")[0])
    fields = {name: FieldSchema(name, FeatureType.SPARSE, size, D) for name, size in SIZES.items()}
    model = create_model(config.model_name, DatasetSchema(fields, "label"), config)
    penalised = sum(weight.numel() for weight in model.embedding.table_parameters())
    assert (penalised, sum(weight.numel() for weight in model.parameters())) == (tables, tables + others)
    assert config.feature.embedding_l2_reg == (0.05 if "regularizer" in keys else 0.01)
    assert config.training.weight_decay == keys.get("regularizer", 0.0)


def test_every_model_that_both_have_is_tried():
    assert {case.split()[0] for case in CASES} | {"DIN", "BST"} == set(MODELS)


# ---- FuxiCTR itself


class _Seen(Observer):
    """The validation AUC and the rate of every epoch."""

    def __init__(self):
        self.epochs = []

    def epoch_finished(self, state, improved):
        self.epochs.append((state.history[-1]["auc"], state.history[-1]["lr"]))


PEER_NETWORK = {**TOWER, "batch_norm": False, "embedding_regularizer": 0.002, "net_regularizer": 0.0005}
PEERS = {
    "xDeepFM": {
        **{**COMMON, **PEER_NETWORK, "model": "xDeepFM", "embedding_dim": 6, "cin_hidden_units": [5, 4]},
        **{"learning_rate": 0.02, "epochs": 9},
    },
    "DIN": {
        **{**COMMON, **PEER_NETWORK, "model": "DIN", "dataset_id": "histories", "embedding_dim": 6},
        **{"attention_hidden_units": [5, 3], "attention_hidden_activations": "relu", "din_use_softmax": True},
        **{"din_target_field": "item", "din_sequence_field": "clicked", "batch_norm": True},
        "optimizer": "SGD",  # before BatchNorm a bias has no gradient but rounding, of which Adam would make steps
        **{"feature_specs": [{"name": "clicked", "feature_encoder": None}], "learning_rate": 0.2, "epochs": 5},
    },
}
HISTORIES = {**DATASET, "min_categr_count": 1, "feature_cols": [IDS, PRICE, HISTORY]}


def trained_here(folder: Path, name: str) -> tuple[list[tuple[float, float]], np.ndarray, int]:
    """Import, write what FuxiCTR needs to begin alike, train: epochs, predictions for the test rows, parameters."""
    files = str(folder / "config" / "dataset_config.yaml"), str(folder / "config" / "model_config.yaml")
    path, _ = translate(read_experiment(*files, name)).write(folder / "out")
    config = load_config(path, ["device=cpu"])
    data = open_data(config)
    seed_everything(config.seed)
    model = create_model(config.model_name, data.schema, config)
    start = {key: weight.numpy().copy() for key, weight in model.state_dict().items() if "tables" not in key}
    for field in data.schema.fields.values():
        for order, first in (("first", True), ("second", False)):
            start[f"{order}.{field.name}"] = model.embedding.field_weight(field.name, first).detach().numpy().copy()
        if field.feature_type is not FeatureType.DENSE:
            encoder = data.adapter.encoders[data.schema.table_owner(field.name).name]
            start[f"values.{field.name}"] = np.array(encoder.values)
    orders = np.stack([np.arange(len(data.train), dtype=np.int32) for _ in range(config.training.num_epochs)])
    for epoch, order in enumerate(orders, start=1):
        random_stream("row order", config.seed, epoch).shuffle(order)
    np.savez(folder / f"{name}_start.npz", orders=orders, **start)
    seen = _Seen()
    trainer = Trainer(model, data.schema, config, data.train, data.validation, data.test, observers=[seen])
    trainer.train()
    predicted = model.predict(data.test.batch(torch.arange(len(data.test)))[0]).squeeze(1).numpy()
    return seen.epochs, predicted, sum(weight.numel() for weight in model.parameters())


@pytest.mark.skipif(not PEER.exists(), reason=f"{PEER} is missing; make bench-peers makes it")
def test_training_is_fuxictrs(place):
    """FuxiCTR 2.3.10 reads the same two files and trains from the same weights in the same order of rows.

    Its vocabularies, its penalties, its cuts and stops, its best weights: all epochs' AUC and rates, and the
    predictions for the test rows, are ours.
    """
    write(place, PEERS, {"tiny": DATASET, "histories": HISTORIES})
    ours = {name: trained_here(place, name) for name in PEERS}
    script = Path(__file__).with_name("fuxictr_peer.py")
    done = subprocess.run([PEER, script, place], cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    for name, (epochs, predicted, parameters) in ours.items():
        with np.load(place / f"{name}_end.npz") as end:
            assert end["seen"].shape == (len(epochs), 2)
            np.testing.assert_allclose(np.array(epochs), end["seen"], rtol=1e-3)
            np.testing.assert_allclose(predicted, end["predicted"], atol=5e-4)
            assert predicted.std() > 0.1
            if name == "xDeepFM":  # it was cut once and stopped early, so that all of the rule was there
                assert [rate for _, rate in epochs][-2:] == [0.02, 0.002]
                assert len(epochs) < PEERS[name]["epochs"]
                assert parameters == end["parameters"]


# ---- columns

FEATURES = [
    {**IDS, "name": "user", "source": "user", "min_categr_count": 1},
    {"name": "group", "active": True, "dtype": "int", "type": "meta", "preprocess": "copy_from(user)", "remap": False},
    {**IDS, "name": "item", "source": "item", "dtype": "int", "remap": False, "min_categr_count": 1},
    {**IDS, "name": "shop", "active": False, "preprocess": "convert_hour"},
    {**PRICE, "fill_na": 0, "normalizer": None},
    {**TAGS, "feature_encoder": SUM},
    HISTORY | {"feature_encoder": "null", "min_categr_count": 1},
]


def din(place, changes=None, features=None, specs=None, nearest=False, **dataset):
    """A DIN on the columns above."""
    experiment = {**PEERS["DIN"], "dataset_id": "tiny", "feature_specs": specs, **(changes or {})}
    tiny = {**DATASET, "min_categr_count": 1, "feature_cols": features or FEATURES, **dataset}
    return translate(read_experiment(*write(place, {"X": experiment}, {"tiny": tiny}), "X"), nearest_form=nearest)


def test_every_kind_of_column(place):
    done = din(place, {"use_features": ["item", "user", "price", "tags", "clicked"]}, min_categr_count=3)
    ids = {"type": "sparse", "oov": "learned"}
    tokens = {"type": "sequence", "separator": "|", "max_length": 3, "combiner": "sum"}
    assert done.schema == {
        "label": "click",
        "columns": {
            "item": {**ids, "min_count": 1, "group": "item"},
            "user": {**ids, "min_count": 1, "group": "user"},
            "price": {"type": "dense", "scale": "none"},
            "tags": {**tokens, "min_count": 3, "oov": "learned"},
            "clicked": {
                **{"type": "sequence", "separator": "^", "max_length": 4, "combiner": "none"},
                "shares_embedding_with": "item",
            },
        },
    }
    assert list(done.schema["columns"]) == ["item", "user", "price", "tags", "clicked"]
    told = "\n".join(done.findings.notes)
    assert "dtype of item: ids are compared as the text" in told


def test_lr_sums_whatever_the_encoder(place):
    """As FuxiCTR's linear weights always do, so that there is nothing to refuse."""
    files = write(place, {"X": {**COMMON, "model": "LR"}}, {"tiny": {**DATASET, "feature_cols": [IDS, TAGS]}})
    assert translate(read_experiment(*files, "X")).schema["columns"]["tags"]["combiner"] == "sum"


def test_meta_columns_are_named_and_left(place):
    done = din(place)
    assert "group" not in done.schema["columns"]
    assert any(note.startswith("group.type = 'meta'") for note in done.findings.notes)
    assert list(done.schema["columns"]) == ["user", "item", "price", "tags", "clicked"]


def test_feature_specs_change_columns_after_encoding(place):
    specs = [{"name": ["tags"], "feature_encoder": MEAN, "embedding_dim": 8}]
    done = din(place, specs=specs)
    assert done.schema["columns"]["tags"]["combiner"] == "mean"
    assert done.schema["columns"]["tags"]["embedding_dim"] == 8
    assert done.schema["columns"]["item"]["embedding_dim"] == 6
    assert "embedding_dim" not in done.config["feature"]  # the columns keep theirs
    path, schema = done.write("out")
    assert TableSchema.load(schema).columns["tags"].embedding_dim == 8
    config = load_config(path, ["device=cpu"])
    create_model("din", open_data(config).schema, config)


def test_values_of_shared_tables_are_counted_apart_in_fuxictr(place):
    """The same where every value counts; else a rare one of each could be known here alone."""
    columns = [{**IDS, "min_categr_count": 2}, {**HISTORY, "feature_encoder": None, "min_categr_count": 1}]
    with pytest.raises(ConfigError, match=r"clicked\.share_embedding = 'item': values of both columns are counted"):
        din(place, features=columns)
    shared = din(place, features=columns, nearest=True).schema["columns"]["clicked"]
    assert shared["shares_embedding_with"] == "item"


def test_a_history_with_a_table_of_its_own_has_its_target_as_the_item(place):
    alone = {key: value for key, value in HISTORY.items() if key != "share_embedding"}
    done = din(place, features=[IDS, {**alone, "feature_encoder": None}])
    assert done.schema["item"] == "item"
    config = load_config(done.write("out")[0], ["device=cpu"])
    create_model("din", open_data(config).schema, config)


def test_without_max_len_the_longest_row_of_the_training_file_counts(place):
    """As in FuxiCTR; a row of three tags and of four clicks stands in every file."""
    long = place / "long"
    long.mkdir()
    for part, tokens in (("train", "a|b|c|d|e"), ("valid", "a|b|c|d|e|f|g"), ("test", "a")):
        lines = [f"{i % 2},u{i % 3},i{i % 2},s,0.5,{tokens if i == 4 else 'a|b'}," for i in range(12)]
        text = "\n".join(["click,user,item,shop,price,tags,clicked", *lines])
        (long / f"{part}.csv").write_text(text + "\n")
    files = {f"{part}_data": f"./long/{part}.csv" for part in ROWS}
    free = {key: value for key, value in TAGS.items() if key != "max_len"}
    done = translated(place, dataset={**files, "feature_cols": [IDS, {**free, "feature_encoder": SUM}]})
    assert done.schema["columns"]["tags"]["max_length"] == 5
    # padding: pre keeps the last tokens in FuxiCTR, the first ones here: the same where no row is too long
    for length, fits in ((7, True), (6, False)):
        columns = [IDS, {**TAGS, "feature_encoder": SUM, "padding": "pre", "max_len": length}]
        if fits:
            assert translated(place, dataset={**files, "feature_cols": columns}).schema["columns"]["tags"]
        else:
            with pytest.raises(ConfigError, match=r"tags\.padding = 'pre'.* one has 7"):
                translated(place, dataset={**files, "feature_cols": columns})


# ---- what is refused, and what is told

CODE = "os.system('touch hacked')"
CHANGED = {  # what an experiment says otherwise, and how it is named
    "model": ({"model": "DeepFm"}, "model = 'DeepFm'", "did you mean 'DeepFM'?"),
    "unknown model": ({"model": "FiGNN"}, "model = 'FiGNN'", "not a model of FuxiCTR's that is here too"),
    "unknown key": ({"hiden_units": [3]}, "hiden_units = [3]", "did you mean 'hidden_units'?"),
    "code": ({"data_loader": CODE}, "data_loader = ", "is unknown"),
    "wrong type": ({"batch_size": "many"}, "batch_size = 'many'", "expected a whole number"),
    "grid": ({"learning_rate": [0.1, 0.01]}, "learning_rate = [0.1, 0.01]", "a tuner's grid lists several"),
    "flag": ({"batch_norm": "yes"}, "batch_norm = 'yes'", "expected true or false"),
    "l1": ({"net_regularizer": "l1(0.1)"}, "net_regularizer = 'l1(0.1)'", "expected one L2 penalty"),
    "l1 beside l2": ({"embedding_regularizer": "l1_l2(1,2)"}, "= 'l1_l2(1,2)'", "expected one L2 penalty"),
    "whole penalty": ({"embedding_regularizer": 1}, "embedding_regularizer = 1", "write 1.0 or 0"),
    "loss": ({"loss": "focal"}, "loss = 'focal'", "expected binary_crossentropy"),
    "task": ({"task": "regression"}, "task = 'regression'", "expected binary_classification"),
    "optimizer": ({"optimizer": "AdamW"}, "optimizer = 'AdamW'", "expected adam or SGD"),
    "order of rows": ({"shuffle": False}, "shuffle = False", "always shuffled"),
    "steps": ({"eval_steps": 100}, "eval_steps = 100", "every epoch ends with the one validation"),
    "monitor": ({"monitor": {"AUC": 1, "logloss": -1}}, "monitor = {'AUC': 1, 'logloss': -1}", "--nearest: AUC"),
    "groups": ({"monitor": "gAUC"}, "monitor = 'gAUC'", "one metric decides here"),
    "worst epoch": ({"monitor_mode": "min"}, "monitor_mode = 'min'", "would keep the worst epoch by auc"),
    "last epoch": ({"save_best_only": False}, "save_best_only = False", "best epoch's weights are kept"),
    "activation": ({"hidden_activations": "Dice"}, "hidden_activations = 'Dice'", "--nearest: relu"),
    "dropouts": ({"net_dropout": [0.1, 0.2]}, "net_dropout = [0.1, 0.2]", "expected one share"),
    "no tower": ({"hidden_units": []}, "hidden_units = []", "write one width at least"),
    "feature": ({"use_features": ["usr"]}, "use_features = ['usr']", "did you mean 'user'?"),
    "late": ({"feature_specs": [{"name": "user", "type": "meta"}]}, "feature_specs = ", "type comes too late there"),
    "two names": ({"patience": 5, "early_stop_patience": 2}, "patience = 5", "keep one of them"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_what_has_no_equal_is_refused_by_name(place, capsys, case):
    changes, key, reason = CHANGED[case]
    said = refused(capsys, place, changes)
    line = next(line for line in said.splitlines() if key in line)
    assert reason in line
    assert len(said.splitlines()) == 2  # nothing else is wrong
    assert not list(place.glob("**/hacked"))


COLUMNS = {
    "unknown key": ([{**IDS, "min_count": 3}], "user.min_count = 3", "did you mean 'min_categr_count'?"),
    "unknown type": ([{**IDS, "type": "embedding"}], "user.type = 'embedding'", "expected categorical"),
    "preprocess": ([{**IDS, "preprocess": "convert_hour"}], "item.preprocess = 'convert_hour'", "to the files"),
    "vectors": ([{**IDS, "pretrained_emb": "v.h5"}], "user.pretrained_emb = 'v.h5'", "no vectors are read here"),
    "buckets": ([{**IDS, "category_processor": "hash_bucket"}], "user.category_processor", "no buckets here"),
    "missing": ([{**IDS, "fill_na": "-1"}], "user.fill_na = '-1'", "a missing id is unknown here"),
    "scaler": ([IDS, {**PRICE, "normalizer": "StandardScaler"}], "price.normalizer", "only MinMaxScaler is here"),
    "clipped": ([IDS, {**PRICE, "normalizer": "MinMaxScaler"}], "price.normalizer", "--nearest: they are cut"),
    "own width": ([IDS, {**PRICE, "embedding_dim": 9}], "price.embedding_dim = 9", "every column 4 wide"),
    "twice": ([IDS, {**IDS, "name": "item"}], "feature_cols name item twice", "leave one out"),
    "pooled wide": ([IDS, TAGS], "tags.feature_encoder = 'layers.MaskedAveragePooling()' by default", "wide part sums"),
    "encoder": ([IDS, {**TAGS, "feature_encoder": CODE}], "tags.feature_encoder", "expected layers.Masked"),
    "not pooled": ([IDS, {**TAGS, "feature_encoder": None}], "tags.feature_encoder = None", "write layers.Masked"),
    "shared wide": (
        [IDS, {**TAGS, "feature_encoder": SUM, "share_embedding": "item", "min_categr_count": 1}],
        "tags.share_embedding = 'item'",
        "has weights for every column",
    ),
    "shared with none": (
        [IDS, PRICE, {**TAGS, "feature_encoder": SUM, "share_embedding": "price"}],
        "tags.share_embedding = 'price'",
        "expected a column with a table of its own",
    ),
    "shared number": (
        [IDS, {**PRICE, "share_embedding": "item"}],
        "price.share_embedding = 'item'",
        "is unknown of such a column",
    ),
    "encoded": (None, "feature_cols = None", "take the data set that they were encoded from"),
}


@pytest.mark.parametrize("case", COLUMNS)
def test_columns_that_have_no_equal_are_refused_by_name(place, capsys, case):
    columns, key, reason = COLUMNS[case]
    said = refused(capsys, place, {}, {"feature_cols": columns, "min_categr_count": 1})
    assert reason in next(line for line in said.splitlines() if key in line)
    assert not list(place.glob("**/hacked"))


FILES = {
    "format": ({"data_format": "npz"}, "data_format = 'npz'", "expected csv or parquet"),
    "encoded": ({"rebuild_dataset": False}, "rebuild_dataset = False", "not encoded yet"),
    "tabs": ({"sep": "\t"}, "sep = '\\t'", "parted by commas"),
    "split off": ({"valid_size": 0.1}, "valid_size = 0.1", "files of their own"),
    "a folder": ({"train_data": "./data"}, "train_data = './data'", "join a folder's files"),
    "no test": ({"test_data": None}, "test_data = None", "expected a file"),
    "two labels": ({"label_col": [{"name": "a"}, {"name": "b"}]}, "label_col = ", "expected one label"),
    "unknown key": ({"min_category_count": 2}, "min_category_count = 2", "did you mean 'min_categr_count'?"),
}


@pytest.mark.parametrize("case", FILES)
def test_data_sets_that_have_no_equal_are_refused_by_name(place, capsys, case):
    dataset, key, reason = FILES[case]
    said = refused(capsys, place, {}, dataset)
    assert reason in next(line for line in said.splitlines() if key in line)


MODEL_KEYS = {
    "AFM's attention": ("AFM", {"attention_dropout": [0.1, 0]}, "attention_dropout = [0.1, 0]"),
    "AFM without": ("AFM", {"use_attention": False}, "use_attention = False"),
    "AFM's zeros": ("AFM", {}, "price.type = 'numeric'"),
    "DCN alone": ("DCN", {"dnn_hidden_units": []}, "dnn_hidden_units = []"),
    "DCNv2's structure": ("DCNv2", {"model_structure": "crossnet_only"}, "model_structure = 'crossnet_only'"),
    "FinalMLP's context": ("FinalMLP", {"fs1_context": ["usr"]}, "FinalMLP names usr"),
    "FinalMLP's activations": ("FinalMLP", {"mlp2_hidden_activations": "tanh"}, "mlp2_hidden_activations = 'tanh'"),
    "MaskNet's widths": ("MaskNet", {"dnn_hidden_units": [8, 4]}, "dnn_hidden_units = [8, 4]"),
    "MaskNet's norms": ("MaskNet", {"net_layernorm": False}, "net_layernorm = False"),
    "DIN's target": ("DIN", {"din_target_field": "user"}, "clicked.share_embedding = 'item'"),
    "DIN's sequences": ("DIN", {"din_sequence_field": ["clicked", "tags"]}, "din_sequence_field = ['clicked'"),
    "DIN's Dice": ("DIN", {"attention_hidden_activations": "Dice"}, "--nearest: relu"),
    "BST's positions": ("BST", {"bst_target_field": "item"}, "use_position_emb = True by default"),
}


@pytest.mark.parametrize("case", MODEL_KEYS)
def test_forms_of_models_that_are_not_here_are_refused_by_name(place, case):
    model, changes, named = MODEL_KEYS[case]
    with pytest.raises(ConfigError) as error:
        din(place, {"model": model, **({} if model == "DIN" else TOWER), **changes})
    assert any(named in line for line in str(error.value).splitlines())


def test_all_that_is_refused_stands_in_one_message(place, capsys):
    changes = {"loss": "focal", "monitor": {"AUC": 1, "gAUC": 1}, "hiden_units": [1], "net_regularizer": "l1(1)"}
    said = refused(capsys, place, changes, {"feature_cols": [IDS, TAGS], "valid_size": 0.5})
    for key in ("loss", "monitor", "hiden_units", "net_regularizer", "tags.feature_encoder", "valid_size"):
        assert sum(line.strip().startswith(f"{key} = ") for line in said.splitlines()) == 1, key


def test_the_nearest_form_is_written_where_it_is_asked_for(place, capsys):
    """Every difference is printed and stands at the head of both files; what has no nearest form is still refused."""
    changes = {"monitor": {"AUC": 1, "logloss": -1}, "hidden_activations": "Dice"}
    refused(capsys, place, {**changes, "loss": "focal"}, options=["--nearest"])
    files = write(place, {"X": {**DEEPFM, **changes}}, {"tiny": {**DATASET, "feature_cols": [IDS, TAGS]}})
    assert main(["import-fuxictr", *files, "--expid", "X", "-o", "out", "--nearest"]) == 0
    said = capsys.readouterr().out.splitlines()
    config = load_config("out/X.yaml")
    assert (config.training.metric, config.dnn.activation) == ("auc", "relu")
    assert TableSchema.load("out/X.schema.yaml").columns["tags"].combiner == "mean"
    for key in ("monitor", "hidden_activations", "tags.feature_encoder"):
        (line,) = [line for line in said if line.startswith(f"other than FuxiCTR's: {key} = ")]
        for name in ("X.yaml", "X.schema.yaml"):
            assert "# Other than FuxiCTR's: " + line.split(": ", 1)[1] in (place / "out" / name).read_text()


BST = {
    **{**COMMON, **NETWORK, **TOWER, "model": "BST", "num_heads": 2, "stacked_transformer_layers": 1},
    **{"bst_target_field": ["item"], "bst_sequence_field": ["clicked"], "seq_pooling_type": "target"},
}
BST_ROWS = {**DATASET, "min_categr_count": 1, "feature_cols": [IDS, {**HISTORY, "feature_encoder": None}]}


def test_the_nearest_bst_trains(place):
    """Its positions are added instead of put beside the tokens, which the head of the file says."""
    files = write(place, {"X": BST}, {"tiny": BST_ROWS})
    path, _ = translate(read_experiment(*files, "X"), nearest_form=True).write("out")
    assert "Other than FuxiCTR's: use_position_emb = True by default: positions are added" in path.read_text()
    assert main(["train", "--config", str(path), "--quiet", "--override", "device=cpu", "output_dir=run"]) == 0


@pytest.mark.parametrize(("width", "heads"), [(7, 2), (4, 3)])
def test_heads_that_do_not_divide_the_history_are_refused(place, width, heads):
    """At the import, and not when training starts; heads that divide it go over as they are."""
    files = write(place, {"X": {**BST, "embedding_dim": width, "num_heads": heads}}, {"tiny": BST_ROWS})
    experiment = read_experiment(*files, "X")
    with pytest.raises(ConfigError, match=f"BST's num_heads = {heads}: .* clicked's is {width}; write a num_heads"):
        translate(experiment, nearest_form=True)
    files = write(place, {"X": {**BST, "embedding_dim": 3 * width, "num_heads": 3}}, {"tiny": BST_ROWS})
    assert translate(read_experiment(*files, "X"), nearest_form=True).config["bst"]["num_heads"] == 3


def test_keys_of_other_models_and_of_fuxictr_1_are_told(place):
    done = translated(
        place,
        {"crossing_layers": 3, "cin_hidden_units": [1], "every_x_epochs": 1, "gpu": 0},
    )
    told = "\n".join(done.findings.notes)
    for key in ("crossing_layers = 3", "cin_hidden_units = [1]"):
        assert f"{key}: FuxiCTR's DeepFM does not read it, and it is not used" in told
    assert "gpu = 0" in done.findings.without_effect


ODD = [None, [], {}, "x", "", -1, 0.5, True, [1, "a"], {"a": [1]}, float("nan"), [[1]], ["user"]]


@pytest.mark.parametrize("model", ["DeepFM", "DCNv2", "AFM", "FinalMLP", "MaskNet", "DIN", "BST"])
def test_no_value_is_too_odd_to_be_refused(place, model):
    """Whatever stands at a key, it is read, or refused in words; a hundred keys with odd values each."""
    columns = [{**IDS}, {**PRICE}, {**TAGS, "feature_encoder": SUM}, {**HISTORY, "feature_encoder": None}]
    settings = {**BASE, **COMMON, **NETWORK, **TOWER, **DATASET, "hidden_units": [3], **PEERS["DIN"]}
    settings |= {"bst_target_field": "item", "bst_sequence_field": "clicked", "model": model, "feature_cols": columns}
    more = ["regularizer", "attention_dropout", "model_type", "fs1_context", "fill_na", "normalizer", "use_features"]
    places = [(spot, key) for spot in (settings, *columns) for key in [*spot, *more]]
    rng = np.random.default_rng(0)
    refusals = 0
    for _ in range(100):
        spot, key = places[rng.integers(len(places))]
        kept = dict(spot)
        spot[key] = ODD[rng.integers(len(ODD))]
        experiment = Experiment("X", "tiny", settings, place / "d.yaml", place / "m.yaml")
        with contextlib.suppress(DeepFMError):
            translate(experiment, nearest_form=bool(rng.integers(2)))
            refusals -= 1
        refusals += 1
        spot.clear()
        spot.update(kept)
    assert refusals > 20


# ---- the files themselves


def test_names_that_are_not_there_lead_to_the_nearest(place, capsys):
    files = write(place, {"DeepFM_tiny": DEEPFM, "Lost": {**DEEPFM, "dataset_id": "tyni"}, "None": {"model": "LR"}})
    for options, said in (
        ([], "--expid is missing; "),
        (["--expid", "DeepFM_tny"], "did you mean 'DeepFM_tiny'?"),
        (["--expid", "Base"], "--expid Base is not in"),
        (["--expid", "Lost"], "did you mean 'tiny'?"),
        (["--expid", "None"], "names no dataset_id; "),
    ):
        assert main(["import-fuxictr", *files, *options, "-o", "out"]) == 2
        assert said in capsys.readouterr().err
    assert not (place / "out").exists()


def test_nothing_is_overwritten_unasked(place, capsys):
    files = write(place)
    command = ["import-fuxictr", *files, "--expid", "X", "-o", "out"]
    assert main(command) == 0
    (place / "out" / "X.yaml").unlink()
    (place / "out" / "X.schema.yaml").write_text("mine")
    assert main(command) == 2
    assert "out/X.schema.yaml exists; choose another folder, or replace it with --overwrite" in capsys.readouterr().err
    assert not (place / "out" / "X.yaml").exists()
    assert (place / "out" / "X.schema.yaml").read_text() == "mine"
    assert main([*command, "--overwrite"]) == 0
    assert (place / "out" / "X.schema.yaml").read_text() != "mine"


def test_an_expid_is_no_path(place):
    files = write(place, {"../../a b": DEEPFM})
    paths = translate(read_experiment(*files, "../../a b")).write("out")
    assert [path.name for path in paths] == ["_.._a_b.yaml", "_.._a_b.schema.yaml"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Base: {a: 1}\n", "holds no experiment beside 'Base'"),
        ("X: !!python/object/apply:os.system ['touch hacked']\n", "holds what is not plain YAML, and is not run"),
        ("X: !!python/name:os.system\n", "holds what is not plain YAML, and is not run"),
        ("X: [1, 2\n", "is not YAML"),
        ("X: 3\n", "'X' in"),
        ("- X\n", "expected named sections"),
        ("", "holds nothing"),
    ],
)
def test_files_that_hold_something_else(place, capsys, text, said):
    files = write(place)
    Path(files[1]).write_text(text)
    assert main(["import-fuxictr", *files, "--expid", "X", "-o", "out"]) == 2
    assert said in capsys.readouterr().err
    assert not list(place.glob("**/hacked"))
    Path(files[1]).unlink()
    assert main(["import-fuxictr", *files, "--expid", "X", "-o", "out"]) == 2
    assert "model_config.yaml does not exist" in capsys.readouterr().err


def test_groups_of_fields_are_read_as_tuples(place):
    """`!!python/tuple` is the one tag beyond plain YAML that FuxiCTR's own files have."""
    changes = {"din_target_field": "GROUP", "din_sequence_field": "SEQUENCES"}
    with pytest.raises(ConfigError):
        din(place, changes)
    path = place / "config" / "model_config.yaml"
    text = path.read_text().replace("GROUP", "[!!python/tuple [item, user]]")
    path.write_text(text.replace("SEQUENCES", "[!!python/tuple [clicked, clicked]]"))
    files = str(place / "config" / "dataset_config.yaml"), str(path)
    with pytest.raises(ConfigError, match="item, user attend as one in FuxiCTR"):
        translate(read_experiment(*files, "X"))


def test_paths_start_where_fuxictr_is_run(place, data, tmp_path_factory, monkeypatch):
    """From the working folder, from the YAML's or one above it, or from --root; else it is said."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    nested = place / "model_zoo" / "DeepFM"
    nested.mkdir(parents=True)
    (nested / "data").symlink_to(data / "data")
    files = write(nested)
    found = {"data_dir": str((data / "data").resolve()), "train_file": "train.csv", "valid_file": "valid.csv"}
    assert found.items() <= translate(read_experiment(*files, "X")).config["data"].items()
    other = write(elsewhere, datasets={"tiny": {**DATASET, "test_data": "./other/test.csv"}})
    lost = translate(read_experiment(*other, "X"))
    assert "test.csv not found; set data.data_dir" in "\n".join(lost.findings.notes)
    there = translate(read_experiment(*other, "X"), root=nested)
    assert there.config["data"]["test_file"] == str(nested.resolve() / "other" / "test.csv")
