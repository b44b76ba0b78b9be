import dataclasses
from pathlib import Path

import numpy as np
import pytest
import yaml

from deepfm.config import DATA_DIR_VARIABLE, ExperimentConfig, load_config
from deepfm.engine.settings import build_settings, settings_to_dict
from deepfm.errors import ConfigError
from deepfm.utils import seed_everything

CONFIGS = Path(__file__).resolve().parent.parent / "configs"

# The table "Configuration" of the contract, row by row.
DEFAULTS = {
    "model_name": "deepfm",
    "seed": 42,
    "device": "auto",
    "output_dir": None,
    "data.dataset_name": "movielens",
    "data.data_dir": "data/ml-100k",
    "data.split_strategy": "leave_one_out",
    "data.min_interactions": 3,
    "data.label_threshold": 4.0,
    "data.num_neg_train": 4,
    "data.train_negatives": "unrated",
    "data.num_neg_eval": 999,
    "data.source": "auto",
    "feature.fm_embed_dim": 16,
    "feature.embedding_l2_reg": 1e-5,
    "feature.projection": "always",
    "fm.use_first_order": True,
    "fm.use_second_order": True,
    "dnn.hidden_units": (256, 128, 64),
    "dnn.activation": "relu",
    "dnn.dropout": 0.1,
    "dnn.use_batch_norm": True,
    "cin.layer_sizes": (128, 128),
    "cin.split_half": True,
    "cin.activation": "relu",
    "attention.num_heads": 4,
    "attention.attention_dim": 64,
    "attention.num_layers": 1,
    "attention.use_residual": True,
    "training.num_epochs": 50,
    "training.batch_size": 4096,
    "training.lr": 1e-3,
    "training.optimizer": "adam",
    "training.scheduler": "reduce_on_plateau",
    "training.plateau_factor": 0.1,
    "training.plateau_patience": 1,
    "training.warmup_steps": 0,
    "training.accumulation_steps": 1,
    "training.early_stopping_patience": 5,
    "training.metric": "ndcg@10",
    "training.gradient_clip_norm": 1.0,
    "training.ranking_ks": (5, 10, 20),
}


def value_of(config, key):
    for part in key.split("."):
        config = getattr(config, part)
    return config


def written(tmp_path, text):
    path = tmp_path / "experiment.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("key", list(DEFAULTS))
def test_the_default_is_the_contracts(key):
    value = value_of(load_config(), key)
    assert value == DEFAULTS[key]
    assert type(value) is type(DEFAULTS[key])


def test_every_setting_has_a_default_and_is_frozen():
    config = ExperimentConfig()
    assert config == load_config()
    for section in (config, *(value_of(config, key.split(".")[0]) for key in DEFAULTS if "." in key)):
        name = dataclasses.fields(section)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(section, name, None)


class TestPrecedence:
    def test_overrides_beat_yaml_beats_environment_beats_default(self, tmp_path, monkeypatch):
        path = written(tmp_path, "data: {data_dir: from/yaml}")
        override = ["data.data_dir=from/override"]
        assert load_config().data.data_dir == "data/ml-100k"
        monkeypatch.setenv(DATA_DIR_VARIABLE, "from/environment")
        assert DATA_DIR_VARIABLE == "DEEPFM_DATA_DIR"
        assert load_config().data.data_dir == "from/environment"
        assert load_config(path).data.data_dir == "from/yaml"
        assert load_config(path, override).data.data_dir == "from/override"
        assert load_config(None, override).data.data_dir == "from/override"

    def test_a_yaml_that_leaves_the_folder_out_keeps_the_environments(self, tmp_path, monkeypatch):
        monkeypatch.setenv(DATA_DIR_VARIABLE, "from/environment")
        config = load_config(written(tmp_path, "data: {num_neg_train: 2}"))
        assert (config.data.data_dir, config.data.num_neg_train) == ("from/environment", 2)

    def test_an_empty_variable_is_none(self, monkeypatch):
        monkeypatch.setenv(DATA_DIR_VARIABLE, "")
        assert load_config().data.data_dir == "data/ml-100k"

    def test_the_later_override_wins(self):
        assert load_config(overrides=["seed=1", "seed=2"]).seed == 2

    def test_an_override_leaves_the_rest_of_its_section(self, tmp_path):
        config = load_config(written(tmp_path, "training: {lr: 0.5, num_epochs: 3}"), ["training.lr=0.1"])
        assert (config.training.lr, config.training.num_epochs) == (0.1, 3)


class TestValues:
    @pytest.mark.parametrize(
        ("override", "value"),
        [
            ("dnn.hidden_units=[256,128]", (256, 128)),
            ("dnn.hidden_units=[8]", (8,)),
            ("training.lr=1e-4", 1e-4),
            ("training.lr=1", 1.0),
            ("training.gradient_clip_norm=5e-1", 0.5),
            ("training.gradient_clip_norm=2", 2.0),
            ("training.gradient_clip_norm=null", None),
            ("feature.embedding_dim=8", 8),
            ("feature.embedding_l2_reg=0", 0.0),
            ("fm.use_first_order=false", False),
            ("output_dir=runs/one", "runs/one"),
            ("data.data_dir=/with=equals", "/with=equals"),
            ("training.metric=hr@5", "hr@5"),
            ("training.metric=logloss", "logloss"),
            (" training.lr =0.5", 0.5),
        ],
    )
    def test_an_override_is_read_as_yaml(self, override, value):
        got = value_of(load_config(overrides=[override]), override.partition("=")[0].strip())
        assert got == value
        assert type(got) is type(value)

    @pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
    def test_an_empty_file_is_the_defaults(self, text, tmp_path):
        assert load_config(written(tmp_path, text)) == load_config()


def refused(*overrides):
    with pytest.raises(ConfigError) as caught:
        load_config(overrides=list(overrides))
    return str(caught.value)


def test_numpys_numbers_are_numbers():
    settings = build_settings(ExperimentConfig, {"training": {"lr": np.float64(0.01)}})
    assert settings.training.lr == 0.01
    with pytest.raises(ConfigError, match=r"dnn\.hidden_units = \[\] is empty|din\.hidden_units = \[\] is empty"):
        build_settings(ExperimentConfig, {"din": {"hidden_units": ()}})


class TestUnknownKeys:
    @pytest.mark.parametrize(
        ("typed", "meant"),
        [
            ("training.lrr", "training.lr"),
            ("training.batchsize", "training.batch_size"),
            ("trainig.lr", "training.lr"),
            ("lr", "training.lr"),
            ("sed", "seed"),
            ("dnn.hidden_unit", "dnn.hidden_units"),
            ("data.num_negatives_train", "data.num_neg_train"),
            ("modelname", "model_name"),
            ("cin.hidden_units", "dnn.hidden_units"),
        ],
    )
    def test_the_nearest_known_key_is_named(self, typed, meant):
        message = refused(f"{typed}=3")
        assert message.startswith((f"{typed} = 3 is not a setting", f"{typed.split('.')[0]} = "))
        assert f"did you mean '{meant}'?" in message

    def test_a_key_like_no_other_lists_them_all(self):
        assert "known: model_name, seed" in refused("zzzz=1")

    def test_a_key_in_a_file_is_refused_as_well(self, tmp_path):
        with pytest.raises(ConfigError, match=r"training\.learning_rate = 0\.1 is not a setting"):
            load_config(written(tmp_path, "training:\n  learning_rate: 0.1\n"))

    @pytest.mark.parametrize("override", ["seed.value=1", "training.lr.base=1"])
    def test_nothing_stands_below_a_value(self, override):
        assert override.partition("=")[0].rpartition(".")[0] in refused(override)

    @pytest.mark.parametrize("override", ["training=3", "training=[1]", "training=null"])
    def test_a_section_is_no_value(self, override):
        assert "training = " in refused(override)
        assert "is a section; expected keys below it" in refused(override)


class TestTypes:
    @pytest.mark.parametrize(
        ("override", "expected"),
        [
            ("seed=many", "seed = 'many' is of type str; expected a whole number"),
            ("seed=1.5", "seed = 1.5 is of type float; expected a whole number"),
            ("seed=null", "seed = None is of type NoneType; expected a whole number"),
            ("training.num_epochs=3.0", "training.num_epochs = 3.0 is of type float; expected a whole number"),
            ("training.lr=fast", "training.lr = 'fast' is of type str; expected a number"),
            ("training.lr=[0.1]", "training.lr = "),
            ("training.lr=", "training.lr = None is of type NoneType; expected a number"),
            ("data.data_dir=3", "data.data_dir = 3 is of type int; expected text"),
            ("model_name=[deepfm]", "model_name = "),
            ("dnn.hidden_units=64", "dnn.hidden_units = 64 is of type int; expected a list, each a whole number"),
            ("dnn.hidden_units=[64,wide]", "dnn.hidden_units holds 'wide', of type str; expected a list, each a whole"),
            ("dnn.hidden_units=[64,0.5]", "dnn.hidden_units holds 0.5, of type float; expected a list, each a whole"),
            ("dnn.use_batch_norm=1", "dnn.use_batch_norm = 1 is of type int; expected true or false"),
            ("dnn.use_batch_norm='yes'", "dnn.use_batch_norm = 'yes' is of type str; expected true or false"),
            ("feature.embedding_dim=wide", "feature.embedding_dim = 'wide' is of type str"),
            ("training.metric=3", "training.metric = 3 is of type int; expected text"),
        ],
    )
    def test_a_wrong_type_is_refused_with_the_right_one(self, override, expected):
        assert expected in refused(override)

    @pytest.mark.parametrize(
        "key",
        [
            "seed", "training.num_epochs", "training.batch_size", "training.lr", "data.num_neg_train",
            "data.label_threshold", "training.gradient_clip_norm", "feature.embedding_dim", "dnn.dropout",
        ],
    )  # fmt: skip
    def test_a_truth_is_no_number(self, key):
        assert f"{key} = True is of type bool; expected a" in refused(f"{key}=true")

    @pytest.mark.parametrize("key", ["dnn.hidden_units", "cin.layer_sizes", "training.ranking_ks"])
    def test_a_truth_in_a_list_is_no_number(self, key):
        assert key in refused(f"{key}=[8,true,10]")


class TestRanges:
    @pytest.mark.parametrize(
        ("override", "expected"),
        [
            ("seed=-1", "seed = -1 is out of range; expected at least 0"),
            ("data.source=file", "expected one of auto, files, download, sample; did you mean 'files'?"),
            ("data.split_strategy=leave_one", "did you mean 'leave_one_out'?"),
            ("data.train_negatives=all", "expected one of unrated, unseen"),
            ("data.min_interactions=2", "expected at least 3"),
            ("data.num_neg_train=0", "expected at least 1"),
            ("data.num_neg_eval=0", "expected at least 1"),
            ("feature.fm_embed_dim=0", "expected at least 1"),
            ("feature.embedding_dim=0", "expected at least 1"),
            ("feature.embedding_l2_reg=-1e-9", "expected at least 0"),
            ("feature.projection=sometimes", "expected one of always, if_needed, none"),
            ("dnn.hidden_units=[64,0]", "dnn.hidden_units = 0 is out of range; expected at least 1"),
            ("dnn.activation=rleu", "did you mean 'relu'?"),
            ("dnn.dropout=1", "dnn.dropout = 1.0 is out of range; expected below 1"),
            ("dnn.dropout=-0.1", "expected at least 0"),
            ("cin.layer_sizes=[-4]", "expected at least 1"),
            ("cin.activation=tanh", "expected one of relu, linear"),
            ("attention.num_heads=0", "expected at least 1"),
            ("attention.attention_dim=0", "expected at least 1"),
            ("attention.num_layers=0", "expected at least 1"),
            ("training.num_epochs=0", "expected at least 1"),
            ("training.batch_size=0", "expected at least 1"),
            ("training.lr=0", "training.lr = 0.0 is out of range; expected above 0"),
            ("training.lr=.nan", "training.lr = nan is out of range; expected above 0"),
            ("training.optimizer=adm", "did you mean 'adam'?"),
            ("training.weight_decay=-1", "expected at least 0"),
            ("training.scheduler=plateau", "expected one of reduce_on_plateau, cosine, none"),
            ("training.plateau_factor=1", "expected below 1"),
            ("training.plateau_factor=0", "expected above 0"),
            ("training.plateau_patience=-1", "expected at least 0"),
            ("training.warmup_steps=-1", "expected at least 0"),
            ("training.accumulation_steps=0", "expected at least 1"),
            ("training.early_stopping_patience=0", "expected at least 1"),
            ("training.gradient_clip_norm=0", "expected above 0"),
            ("training.ranking_ks=[0,10]", "training.ranking_ks = 0 is out of range; expected at least 1"),
        ],
    )
    def test_a_value_out_of_range_is_refused_with_what_is_allowed(self, override, expected):
        message = refused(override)
        assert expected in message
        assert message.startswith(override.partition("=")[0] + " = ")

    @pytest.mark.parametrize("metric", ["ndcg", "hr@", "recall@10", "AUC", "ndcg@ten", "loss", ""])
    def test_an_unknown_metric_is_refused(self, metric):
        assert "expected auc, logloss, hr@K or ndcg@K" in refused(f"training.metric='{metric}'")

    @pytest.mark.parametrize("metric", ["ndcg@7", "hr@100"])
    def test_a_metric_that_is_not_measured_is_refused(self, metric):
        assert "expected a K of training.ranking_ks = [5, 10, 20]" in refused(f"training.metric={metric}")

    @pytest.mark.parametrize("metric", ["ndcg@010", "hr@05"])
    def test_a_metric_is_written_as_it_is_measured(self, metric):
        """No result has this name: training would stop after its first epoch."""
        assert "training.metric" in refused(f"training.metric={metric}")

    def test_a_metric_of_other_cut_offs_is_measured_with_them(self):
        config = load_config(overrides=["training.ranking_ks=[3]", "training.metric=ndcg@3"])
        assert config.training.metric == "ndcg@3"

    def test_every_seed_that_is_accepted_can_be_used(self):
        try:
            seed = load_config(overrides=[f"seed={2**32}"]).seed
        except ConfigError:
            return
        seed_everything(seed)

    @pytest.mark.parametrize("key", ["training.lr", "data.label_threshold", "feature.embedding_l2_reg"])
    def test_infinity_is_no_setting(self, key):
        assert key in refused(f"{key}=.inf")


class TestFiles:
    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(ConfigError, match=r"absent\.yaml does not exist; see configs/"):
            load_config(tmp_path / "absent.yaml")

    def test_a_folder_is_no_file(self, tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            load_config(tmp_path)

    @pytest.mark.parametrize("text", ["training: [", "a: b: c", "\t- x", "training: !!python/object:os.system {}"])
    def test_what_is_no_yaml_is_refused_in_one_line(self, text, tmp_path):
        with pytest.raises(ConfigError, match=r"experiment\.yaml is not YAML") as caught:
            load_config(written(tmp_path, text))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(("text", "kind"), [("[1, 2]", "list"), ("text", "str"), ("3", "int")])
    def test_a_file_without_sections_is_refused(self, text, kind, tmp_path):
        with pytest.raises(ConfigError, match=f"holds a {kind}; expected sections with keys"):
            load_config(written(tmp_path, text))

    def test_a_binary_file_is_refused(self, tmp_path):
        (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x80")
        with pytest.raises(ConfigError, match="is not UTF-8 text"):
            load_config(tmp_path / "binary.yaml")

    @pytest.mark.parametrize("override", ["training.lr", "", "=3", "training.lr 0.1"])
    def test_an_override_without_a_key_and_equals_is_refused(self, override):
        assert "expected section.key=value" in refused(override)

    def test_an_override_that_is_no_yaml_is_refused(self):
        assert "has a value that is not YAML" in refused("dnn.hidden_units=[64")


class TestRoundTrip:
    @pytest.mark.parametrize(
        "overrides",
        [
            [],
            ["training.gradient_clip_norm=null", "output_dir=runs/a", "feature.embedding_dim=4"],
            [
                "dnn.hidden_units=[7]",
                "training.lr=3e-7",
                "model_name=xdeepfm",
                "training.metric=auc",
                "data.source=sample",
            ],
        ],
    )
    def test_a_configuration_survives_its_yaml(self, overrides, tmp_path):
        config = load_config(overrides=overrides)
        path = written(tmp_path, yaml.safe_dump(settings_to_dict(config)))
        assert load_config(path) == config

    def test_the_plain_form_is_complete(self):
        plain = settings_to_dict(load_config())
        for key, default in DEFAULTS.items():
            value = plain
            for part in key.split("."):
                value = value[part]
            assert value == (list(default) if isinstance(default, tuple) else default)

    def test_a_complete_file_beats_the_environment(self, tmp_path, monkeypatch):
        """A run's config.yaml names its data, whatever the shell says later."""
        path = written(tmp_path, yaml.safe_dump(settings_to_dict(load_config())))
        monkeypatch.setenv(DATA_DIR_VARIABLE, "elsewhere")
        assert load_config(path).data.data_dir == "data/ml-100k"


SHIPPED = sorted(CONFIGS.glob("*.yaml"))


def test_the_contracts_files_ship():
    names = {path.name for path in SHIPPED}
    assert names >= {f"{model}_movielens.yaml" for model in ("deepfm", "xdeepfm", "attention_deepfm")}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_file_loads(path):
    config = load_config(path)
    recipes = {"sasrec": "sin"}  # named after what it is a recipe of
    name = path.stem.partition("_movielens")[0]
    assert recipes.get(name, name) == config.model_name


BEHAVIOUR_DEFAULTS = {  # those that the specification of behaviour sequences names
    "data.history_ties": "file_order",
    "feature.max_history": 50,
    "sin.fusion": "gate",
    "sin.candidate": "attends",
    "training.loss": "bce",
    "training.in_batch_negatives": 0,
    "training.log_q_correction": False,
}


@pytest.mark.parametrize("key", list(BEHAVIOUR_DEFAULTS))
def test_the_default_is_the_specifications(key):
    value = value_of(load_config(), key)
    assert value == BEHAVIOUR_DEFAULTS[key]
    assert type(value) is type(BEHAVIOUR_DEFAULTS[key])


@pytest.mark.parametrize(
    "override",
    [
        "data.history_ties=random",
        "feature.max_history=0",
        "feature.max_history=-5",
        "feature.max_history=null",
        "bst.pooling=last",
        "bst.num_layers=0",
        "bst.dropout=1",
        "din.hidden_units=[]",
        "sin.fusion=mean",
        "sin.candidate=attend",
        "sin.num_layers=-1",
        "sin.encoder_dim=0",
        "training.loss=hinge",
        "training.in_batch_negatives=-1",
    ],
)
def test_a_setting_of_behaviour_that_cannot_be_is_refused_by_its_key(override):
    with pytest.raises(ConfigError, match=override.partition("=")[0].replace(".", r"\.")):
        load_config(overrides=[override])


@pytest.mark.parametrize("model", ["deepfm", "xdeepfm", "attention_deepfm"])
def test_the_contracts_files_are_the_defaults_but_for_patience(model):
    defaults = load_config(overrides=[f"model_name={model}", "training.plateau_patience=2"])
    assert load_config(CONFIGS / f"{model}_movielens.yaml") == defaults


def test_compiling_and_recomputing_exclude_each_other():
    with pytest.raises(ConfigError, match=r"training\.compile and training\.activation_checkpointing are both true"):
        load_config(None, ["training.compile=true", "training.activation_checkpointing=true"])
