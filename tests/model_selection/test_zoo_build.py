"""A zoo's folder: built whole, gone on with after an interruption, opened only when complete."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml

from deepfm.engine.settings import build_settings, settings_to_dict
from deepfm.errors import ConfigError, DataError
from deepfm.model_selection.catalogue import Catalogue
from deepfm.model_selection.zoo import PRESETS, BuildSettings, Zoo, ZooModel, build_zoo
from deepfm.model_selection.zoo.settings import FineTuneSettings, ModelSettings, TaskSettings

SMALL = BuildSettings(
    ModelSettings(
        sources=("digits_plain", "gratings_orientation", "random"),
        architectures=("mlp64x1", "cnn12x2"),
        rows=500,
        steps=80,
        state_seeds=2,
        checkpoints=3,
    ),
    TaskSettings(names=("digits_loops", "shapes_kind"), pool_rows=80, test_rows=100, shots=40, seeds=2),
    FineTuneSettings(steps=10),
)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    return build_zoo(SMALL, tmp_path_factory.mktemp("zoo") / "built", seed=3)


def test_every_model_is_measured_on_every_task_with_every_seed(zoo):
    assert len(zoo.catalogue) == 6
    assert set(zoo.catalogue.families) == {"digits_plain", "gratings_orientation", "random"}
    assert len(zoo.outcomes) == 6 * 2 * 2
    matrix = zoo.outcomes.matrix(zoo.catalogue.models, zoo.tasks)
    assert (matrix.seeds == 2).all()
    assert ((matrix.values > 0.1) & (matrix.values <= 1)).all()
    assert set(zoo.outcomes.rows["origin"]) == {"measured"}
    assert set(zoo.outcomes.rows["recipe"]) == {zoo.manifest.recipe}
    assert zoo.seed == 3
    assert zoo.settings == SMALL


def test_the_catalogue_says_what_a_model_costs_and_how_good_it_is_at_its_source(zoo):
    rows = zoo.catalogue.rows
    assert rows["latency_ms"].min() > 0
    assert zoo.catalogue.row("digits_plain-mlp64x1")["parameters"] == 64 * 64 + 64
    accuracy = dict(zip(rows["model"], rows["source_accuracy"], strict=True))
    assert accuracy["digits_plain-mlp64x1"] > 0.7
    assert accuracy["gratings_orientation-mlp64x1"] > 0.4  # chance is .17
    assert accuracy["random-mlp64x1"] is None


def test_a_model_gives_features_and_probabilities_of_its_source(zoo):
    test = zoo.task("digits_loops").test
    model = zoo.model("digits_plain-cnn12x2")
    assert model.width == 48
    features, probabilities = model.features(test.images), model.source_probabilities(test.images)
    assert features.shape == (100, 48)
    assert features.dtype == np.float32
    assert probabilities.shape == (100, 10)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(model.features(test.images[:3]), features[:3], atol=1e-5)
    said = np.isin(probabilities.argmax(1), (0, 6, 8, 9))
    assert (said == test.labels).mean() > 0.75  # the source's head knows digits it never saw
    random = zoo.model("random-cnn12x2")
    assert random.source_probabilities(test.images) is None
    assert random.features(test.images).shape == (100, 48)
    with pytest.raises(DataError, match=r"expected \(n, 8, 8\) in grey"):
        model.features(np.zeros((2, 28, 28), np.float32))


@pytest.mark.parametrize("name", ["digits_plain-mlp64x1", "random-cnn12x2"])
def test_further_states_are_of_the_same_network_and_none_has_outcomes(zoo, name):
    own, states = zoo.model(name).state, zoo.states(name)
    assert len(states) == 2 * 3
    seen = [own, *states]
    for number, state in enumerate(seen):
        assert {key: weight.shape for key, weight in state.items()} == {key: w.shape for key, w in own.items()}
        for other in seen[:number]:
            assert not torch.equal(state["body.0.weight" if "cnn" in name else "body.1.weight"],
                                   other["body.0.weight" if "cnn" in name else "body.1.weight"])  # fmt: skip


class StoppedError(Exception):
    pass


def test_an_interrupted_build_is_refused_and_goes_on_to_what_it_would_have_been(zoo, tmp_path):
    def interrupt(stage, done, total):
        if stage == "outcomes" and done == 1:
            raise StoppedError

    with pytest.raises(StoppedError):
        build_zoo(SMALL, tmp_path / "z", seed=3, on_progress=interrupt)
    with pytest.raises(DataError, match=r"half built: its outcomes .* run deepfm zoo build"):
        Zoo.open(tmp_path / "z")
    stages = set()
    finished = build_zoo(SMALL, tmp_path / "z", seed=3, on_progress=lambda stage, done, total: stages.add(stage))
    assert stages == {"outcomes"}
    assert finished.outcomes.rows.equals(zoo.outcomes.rows)
    for name in zoo.catalogue.models:
        one, other = zoo.model(name).state, finished.model(name).state
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_only_stages_whose_settings_changed_are_built_again(tmp_path):
    tiny = dataclasses.replace(
        SMALL,
        models=dataclasses.replace(SMALL.models, sources=("blobs_count",), architectures=("mlp64x1",), steps=5),
        tasks=dataclasses.replace(SMALL.tasks, names=("shapes_kind",)),
    )

    def built(settings, seed=0):
        stages = set()
        zoo = build_zoo(settings, tmp_path / "z", seed=seed, on_progress=lambda stage, done, total: stages.add(stage))
        return zoo, stages

    first, stages = built(tiny)
    assert stages == {"models", "tasks", "outcomes"}
    assert built(tiny)[1] == set()
    longer = dataclasses.replace(tiny, finetune=FineTuneSettings(steps=11))
    second, stages = built(longer)
    assert stages == {"outcomes"}
    assert second.manifest.recipe != first.manifest.recipe
    assert built(dataclasses.replace(longer, tasks=dataclasses.replace(tiny.tasks, shots=41)))[1] == {
        "tasks",
        "outcomes",
    }
    assert built(longer, seed=1)[1] == {"models", "tasks", "outcomes"}
    fewer = dataclasses.replace(longer, models=dataclasses.replace(tiny.models, sources=("random",)))
    zoo, _ = built(fewer, seed=1)
    assert [path.name for path in (zoo.folder / "weights").iterdir()] == ["random-mlp64x1.safetensors"]


def test_folders_that_are_no_zoo_are_refused(tmp_path, zoo):
    with pytest.raises(DataError, match=r"is no zoo: it has no zoo\.yaml; build one"):
        Zoo.open(tmp_path)
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(DataError, match="holds something that is no zoo"):
        build_zoo(SMALL, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    plain = yaml.safe_load(zoo.layout.manifest.read_text())
    other = tmp_path / "other"
    other.mkdir()
    for change, message in [
        ({"version": 99}, "is of version 99; expected 1; delete it and build it again"),
        ({"settings": {"models": {"stpes": 3}}}, "models.stpes = 3 is not a setting"),
        ({"seed": 4}, "half built: its models are missing or of other settings"),
    ]:
        (other / "zoo.yaml").write_text(yaml.safe_dump(plain | change))
        with pytest.raises((DataError, ConfigError), match=message):
            Zoo.open(other)
    for text in ("seed: 3", "[", "- 1"):
        (other / "zoo.yaml").write_text(text)
        with pytest.raises(DataError, match="delete the zoo and build it again"):
            Zoo.open(other)


def test_damaged_and_unknown_parts_are_named(zoo, tmp_path):
    with pytest.raises(DataError, match="has no task 'digits'; expected one of digits_loops, shapes_kind"):
        zoo.task("digits")
    with pytest.raises(DataError, match="'nobody' is not in the catalogue"):
        zoo.model("nobody")
    with pytest.raises(DataError, match="'nobody' is not in the catalogue"):
        zoo.states("nobody")
    whole = zoo.layout.weights("digits_plain-mlp64x1").read_bytes()
    cut = tmp_path / "cut.safetensors"
    for content in (whole[: len(whole) // 2], b"", whole[:4]):
        cut.write_bytes(content)
        with pytest.raises(
            DataError, match=r"cut\.safetensors are missing or damaged; delete the zoo and build it again"
        ):
            ZooModel.load(cut)
    state = zoo.model("digits_plain-mlp64x1").state
    with pytest.raises(DataError, match="are not those of a mlp64x1 with 3 classes"):
        ZooModel("mine", "mlp64x1", ("a", "b", "c"), state)
    with pytest.raises(DataError, match="architecture 'resnet50'; expected mlp64x1"):
        ZooModel("mine", "resnet50", (), state)


def test_presets_are_as_large_as_they_say_and_survive_yaml(tmp_path):
    def size(preset):
        models, tasks = PRESETS[preset].models, PRESETS[preset].tasks
        return len(models.sources) * len(models.architectures), len(tasks.names), tasks.seeds

    assert size("full") == (60, 18, 3)
    assert size("ci") == (20, 8, 2)
    for settings in PRESETS.values():
        assert settings.models.state_seeds * settings.models.checkpoints >= 5
        assert build_settings(BuildSettings, yaml.safe_load(yaml.safe_dump(settings_to_dict(settings)))) == settings


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"models": {"sources": ["digits"]}}, "models.sources"),
        ({"models": {"sources": ["random", "random"]}}, "'random' more than once"),
        ({"models": {"checkpoints": 50, "steps": 20}}, "models.checkpoints = 50; expected at most models.steps = 20"),
        ({"tasks": {"shots": 301}}, "tasks.shots = 301; expected at most tasks.pool_rows = 300"),
        ({"finetune": {"lr": 0}}, "finetune.lr"),
    ],
)
def test_settings_that_cannot_be_built_are_refused(tree, message):
    with pytest.raises(ConfigError, match=message):
        build_settings(BuildSettings, tree)


def test_a_catalogue_of_a_zoo_loads_alone(zoo):
    assert Catalogue.load(zoo.layout.catalogue).weights_of("random-mlp64x1").is_file()


def test_presets_are_read_without_torch_and_scikit_learn():
    code = (
        "import sys; from deepfm.model_selection.zoo import PRESETS, BuildSettings; assert PRESETS; "
        "print({'torch', 'sklearn', 'polars'} & set(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (answer.stdout, answer.stderr) == ("set()\n", "")
