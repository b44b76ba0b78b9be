"""The search space: what a YAML may say, what is refused, and the one that ships."""

import pytest
import yaml

from deepfm.config import load_config
from deepfm.data.movielens import MovieLensAdapter
from deepfm.errors import ConfigError
from deepfm.models import MODELS, create_model
from deepfm.tuning import build_space, load_space
from deepfm.tuning.parameters import as_plain
from deepfm.tuning.space import SHIPPED, flat_settings, with_values


def space_of(section, *overrides):
    return build_space(section, load_config(None, list(overrides)))


class TestReading:
    def test_ranges_steps_and_choices(self):
        space = space_of(
            {
                "training.lr": {"low": "1e-4", "high": 0.01, "log": True},
                "dnn": {"dropout": {"low": 0, "high": 0.3, "step": 0.1}, "hidden_units": {"choices": [[8], [16, 8]]}},
                "dcn.num_layers": {"low": 1, "high": 3},
                "feature.embedding_dim": {"choices": [None, 8]},
            }
        )
        assert [parameter.values() for parameter in space.parameters] == [
            None,
            (0.0, 0.1, 0.2, 0.3),
            ((8,), (16, 8)),
            (1, 2, 3),
            (None, 8),
        ]
        assert space.parameters[0].low == 1e-4
        assert [type(value) for value in space.parameters[3].values()] == [int] * 3
        assert as_plain(space.parameters[2].choices[1]) == "[16, 8]"

    def test_what_it_says_of_itself_loads_to_the_same(self):
        space = space_of(yaml.safe_load(SHIPPED.read_text())["tune"], "model_name=sin")
        assert build_space(space.to_dict(), load_config(None, ["model_name=sin"])).to_dict() == space.to_dict()

    def test_an_override_changes_a_range_of_the_file(self, tmp_path):
        path = tmp_path / "own.yaml"
        path.write_text("tune: {training.lr: {low: 0.001, high: 0.1, log: true}}")
        space = load_space(path, ["tune.training.lr.high=0.01"], load_config(path))
        assert (space.parameters[0].low, space.parameters[0].high) == (0.001, 0.01)

    def test_training_passes_over_the_section(self, tmp_path):
        path = tmp_path / "own.yaml"
        path.write_text("training: {lr: 0.02}\ntune: {training.lr: {nonsense: 1}}")
        assert load_config(path) == load_config(None, ["training.lr=0.02"])

    def test_conditions_on_what_stays_are_settled_at_once(self):
        section = {"dcn.num_layers": {"low": 1, "high": 3, "when": {"model_name": ["dcn", "lr"]}}}
        assert not space_of(section, "model_name=dcn").parameters[0].when
        with pytest.raises(ConfigError, match="leaves nothing to vary"):
            space_of(section, "model_name=fm")

    def test_conditions_on_what_is_varied_stay(self):
        section = {
            "model_name": {"choices": ["dcn", "fm"]},
            "dcn.num_layers": {"low": 1, "high": 2, "when": {"model_name": "dcn"}},
            "cin.layer_sizes": {"choices": [[8]], "when": {"model_name": "xdeepfm"}},
        }
        space = space_of(section)
        assert [one.name for one in space.parameters] == ["model_name", "dcn.num_layers"]
        assert space.grid(flat_settings(load_config())) == [
            {"model_name": "fm"},
            {"model_name": "dcn", "dcn.num_layers": 1},
            {"model_name": "dcn", "dcn.num_layers": 2},
        ]

    def test_the_first_parameter_of_a_grid_changes_fastest(self):
        section = {"training.lr": {"choices": [0.1, 0.2]}, "training.batch_size": {"choices": [8, 16]}}
        grid = space_of(section).grid(flat_settings(load_config()))
        assert [tuple(point.values()) for point in grid] == [(0.1, 8), (0.2, 8), (0.1, 16), (0.2, 16)]


REFUSED = {
    "an unknown key": ({"training.lr": {"lo": 1}}, "tune.training.lr.lo = 1 .*did you mean 'tune.training.lr.low'"),
    "an unknown setting": (
        {"training.lrr": {"low": 1}},
        "tune.training.lrr is not a setting; did you mean 'training.lr'",
    ),
    "an empty range": ({"training.lr": {"low": 1, "high": 1}}, "tune.training.lr is empty"),
    "a reversed range": (
        {"training.lr": {"low": 1, "high": 0.1}},
        "lr is reversed: it goes from 1 to 0.1",
    ),
    "a log range from 0": (
        {"feature.embedding_l2_reg": {"low": 0, "high": 1, "log": True}},
        "tune.feature.embedding_l2_reg is logarithmic from 0; expected low above 0",
    ),
    "half a range": ({"training.lr": {"low": 1}}, "neither choices nor both ends"),
    "both": ({"training.lr": {"low": 1, "high": 2, "choices": [1]}}, "choices and a range; expected one"),
    "log steps": ({"training.lr": {"low": 1, "high": 2, "log": True, "step": 1}}, "logarithmic and has a step"),
    "uneven steps": ({"dnn.dropout": {"low": 0, "high": 0.5, "step": 0.2}}, "in steps of 0.2"),
    "half a step": ({"dcn.num_layers": {"low": 1, "high": 2, "step": 0.5}}, "expected a whole step"),
    "a fraction": ({"training.batch_size": {"low": 1.5, "high": 3}}, "tune.training.batch_size = 1.5 .*a whole number"),
    "a range of lists": (
        {"dnn.hidden_units": {"low": 1, "high": 2}},
        "dnn.hidden_units is no number",
    ),
    "a range of words": ({"model_name": {"low": 1, "high": 2}}, "model_name is no number"),
    "a value out of range": ({"dnn.dropout": {"low": 0, "high": 2}}, "tune.dnn.dropout = 2.0 is out of range"),
    "a choice out of range": ({"training.lr": {"choices": [0.1, -1]}}, "tune.training.lr = -1.0 is out of range"),
    "an unknown word": ({"training.optimizer": {"choices": ["adamm"]}}, "did you mean 'adam'"),
    "an unknown model": ({"model_name": {"choices": ["deepfn"]}}, "did you mean 'deepfm'"),
    "a choice twice": ({"training.lr": {"choices": [0.1, 0.1]}}, "holds a value twice"),
    "no choice": ({"training.lr": {"choices": []}}, "tune.training.lr.choices = .* is empty"),
    "a value": ({"training.lr": 0.1}, "tune.training.lr = 0.1 is no range"),
    "a list": ([1], "tune = .* is a section"),
    "a section that is none": ({"training": 5}, "tune.training = 5 is a section"),
    "a condition on nothing": ({"training.lr": {"choices": [1], "when": {"nam": 1}}}, "when cannot hold: nam is not a"),
    "an impossible condition": (
        {"training.lr": {"choices": [1], "when": {"model_name": "x"}}},
        "when cannot hold: model_name = 'x'",
    ),
    "a condition on what comes later": (
        {"training.lr": {"choices": [1], "when": {"dnn.dropout": 0}}, "dnn.dropout": {"choices": [0, 0.1]}},
        "looks at dnn.dropout, which is varied below it",
    ),
    "luck": ({"seed": {"low": 1, "high": 3}}, "tune.seed cannot be varied"),
    "the judge": ({"training.metric": {"choices": ["auc"]}}, "tune.training.metric cannot be varied"),
    "the candidates": ({"data.num_neg_eval": {"low": 1, "high": 3}}, "data.num_neg_eval decides which rows"),
    "what training may know": ({"data.train_negatives": {"choices": ["unseen"]}}, "data.train_negatives decides"),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_what_is_refused(case):
    section, words = REFUSED[case]
    with pytest.raises(ConfigError, match=words.replace("[", r"\[")) as error:
        space_of(section)
    assert "\n" not in str(error.value)


def test_a_grid_needs_values():
    base = flat_settings(load_config())
    with pytest.raises(ConfigError, match="lr is a range without steps, which a grid cannot walk"):
        space_of({"training.lr": {"low": 0.1, "high": 0.2}}).grid(base)
    with pytest.raises(ConfigError, match="a range without steps"):
        space_of({"dcn.num_layers": {"low": 1, "high": 8, "log": True}}).grid(base)
    with pytest.raises(ConfigError, match="the grid has 20,001 combinations; expected at most 10,000"):
        space_of({"training.batch_size": {"low": 1, "high": 20_001}}).grid(base)


@pytest.fixture(scope="module")
def schema(small_dir):
    return MovieLensAdapter(small_dir, load_config().data, max_history=5).build()[0]


class TestShipped:
    @pytest.mark.parametrize("name", list(MODELS))
    def test_every_model_has_a_space_whose_ends_can_be_made(self, name, schema):
        config = load_config(None, [f"model_name={name}"])
        space = load_space(None, [], config)
        names = [one.name for one in space.parameters]
        assert names[:2] == ["training.lr", "training.batch_size"]  # what pays first
        assert "feature.embedding_l2_reg" in names
        regularising = [at for at, one in enumerate(names) if "l2" in one or "dropout" in one]
        assert regularising == list(range(regularising[0], len(names)))  # what pays last
        for end in (0, -1):
            values = {
                one.name: one.choices[end] if one.choices else (one.low, one.high)[end] for one in space.parameters
            }
            changed = with_values(config, values)
            model = create_model(name, schema, changed)
            assert flat_settings(changed) != flat_settings(config)
            assert sum(weight.numel() for weight in model.parameters()) > 0

    def test_every_part_of_it_is_for_a_model(self):
        described = yaml.safe_load(SHIPPED.read_text())["tune"]
        used = set()
        for name in MODELS:
            config = load_config(None, [f"model_name={name}", "sin.num_layers=1"])
            used |= {one.name for one in load_space(None, [], config).parameters}
        assert used == set(described)

    def test_it_serves_several_models_at_once(self, tmp_path):
        described = {"model_name": {"choices": list(MODELS)}, **yaml.safe_load(SHIPPED.read_text())["tune"]}
        space = space_of(described)
        assert len(space.parameters) == len(described)
        assert all(one.when for one in space.parameters if one.name.startswith(("cin.", "sin.", "dnn.")))
