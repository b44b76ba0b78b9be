"""The whole way through the command line on a tiny zoo: build, train, bench, recommend, feedback, import."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from deepfm.cli import main
from deepfm.commands import zoo
from deepfm.engine.device import single_thread
from deepfm.model_selection.protocols import PROTOCOLS
from deepfm.model_selection.recommendation import recommend
from deepfm.model_selection.settings import above, load_wing_settings
from deepfm.model_selection.shelf import Shelf
from deepfm.model_selection.stacker import Stacker
from deepfm.model_selection.training import STAGES, embeddings_of, of_unit_size, stage_key, trained
from deepfm.model_selection.wing_reports import sentences
from deepfm.model_selection.zoo.rows import Draw
from deepfm.model_selection.zoo.shapes import shapes_kind
from deepfm.utils.seeding import random_stream

TINY = [
    *("build.models.sources=[digits_plain,patches_noise,gratings_orientation,random]", "build.models.rows=300"),
    *("build.models.architectures=[mlp64x1,mlp48x2]", "build.models.steps=60", "build.models.state_seeds=1"),
    *("build.models.checkpoints=1", "build.tasks.shots=40", "build.tasks.test_rows=120", "build.tasks.pool_rows=80"),
    "build.tasks.names=[digits_inverted,patches_noise,gratings_frequency,shapes_kind]",
    *("build.tasks.seeds=2", "build.finetune.steps=20", "autoencoder.num_epochs=3", "autoencoder.hidden_size=16"),
    *("ranker.num_epochs=8", "ranker.hidden_size=16", "analysis_seconds=0.5"),
]
MODELS = 8
PROBES = ["LogME", "H-score", "k-NN", "ridge", "ridge R²", "LEEP", "NCE"]
TOLD = ["feedback", "add", "--model", "random-mlp64x1", "--dataset"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A zoo that was built and trained by the commands; tests only add reports to it."""
    place = tmp_path_factory.mktemp("shelf") / "zoo"
    with single_thread():
        assert main(["zoo", "build", "--quiet", "--folder", str(place), "--override", *TINY]) == 0
        assert main(["zoo", "train", "--quiet", "--folder", str(place)]) == 0
    return place


@pytest.fixture
def settings(folder):
    return load_wing_settings(folder / "settings.yaml")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A person's folder of images: three classes of shapes, larger than the zoo's, one file damaged, sizes mixed."""
    place = tmp_path_factory.mktemp("mine") / "mine"
    drawn = shapes_kind(Draw(False, 60, 7, random_stream("a person's images", 3)))
    for at, (image, label) in enumerate(zip(drawn.images, drawn.labels, strict=True)):
        part = place / drawn.classes[label]
        part.mkdir(parents=True, exist_ok=True)
        side = 16 if at % 9 else 24
        Image.fromarray((255 * image).astype(np.uint8)).resize((side, side)).save(part / f"{at}.png")
    (place / drawn.classes[0] / "broken.png").write_bytes(b"no image")
    return place


def tell(*argv, code=0):
    assert main(["zoo", *map(str, argv)]) == code


def test_all_artefacts_are_there_and_kept_while_they_are_true(folder, settings):
    shelf = Shelf.open(folder)
    assert len(shelf.catalogue) == MODELS
    assert set(shelf.tokens) == set(shelf.tasks)
    assert shelf.probes.probes == PROBES
    at = shelf.folder
    files = [at.embeddings, at.rows, at.networks / "ranker.safetensors", at.networks / "autoencoder.safetensors"]
    before = {path: path.stat().st_mtime_ns for path in files}
    tell("train", "--quiet", "--folder", folder)
    after = {path: path.stat().st_mtime_ns for path in files}
    assert {path for path in files if before[path] != after[path]} == {at.rows}
    other = above(settings, overrides=["ranker.num_epochs=9"])
    assert stage_key(shelf, settings, "autoencoder") == stage_key(shelf, other, "autoencoder")
    assert stage_key(shelf, settings, "ranker") != stage_key(shelf, other, "ranker")
    for network in ("autoencoder", "ranker"):
        report = (at.networks / f"{network}.analysis.md").read_text()
        assert "Stability Assessment" in report
        assert "Priority 1" not in report


def test_codes_are_of_512_numbers_and_the_encoder_is_frozen(folder):
    with np.load(folder / "trained" / "embeddings.npz", allow_pickle=False) as arrays:
        assert arrays["codes"].shape == (MODELS, 512)
        assert np.isfinite(arrays["codes"]).all()
        assert len(np.unique(arrays["codes"].round(4), axis=0)) == MODELS


def test_the_leaderboard_has_every_method_and_its_intervals(folder, tmp_path, capsys):
    figures = tmp_path / "bench.json"
    tell("bench", "--quiet", "--folder", folder, "--json", figures, "-o", tmp_path / "bench.html")
    out = capsys.readouterr().out
    found = json.loads(figures.read_text())
    known, blind = found["boards"]["unseen task"], found["boards"]["unseen family and task"]
    assert {"chance", "average rank", "similar tasks' history", "metadata", "LogME", "neural ranker", "stack"} <= set(
        known
    )
    assert {"chance", "average rank", "metadata", "LogME", "neural ranker", "stack of probes"} <= set(blind)
    tau = known["stack"]["weighted tau"]
    assert tau["low"] <= tau["mean"] <= tau["high"]
    assert set(tau["tasks"]) == {"digits_inverted", "patches_noise", "gratings_frequency", "shapes_kind"}
    assert set(blind["average rank"]["weighted tau"]["tasks"].values()) == {0.0}  # no history of an unseen family
    assert "seed ceiling" in out
    assert "Interaction of model and task" in out
    assert (tmp_path / "bench.html").read_text().count("<svg") == 6


def test_blocks_of_embeddings_weigh_alike(folder, settings):
    rng = np.random.default_rng(0)
    block = of_unit_size(5 + 100 * rng.normal(size=(30, 7)) * np.arange(1, 8))
    assert (block**2).sum(axis=1).mean() == pytest.approx(1.0)
    assert block.std(axis=0)[6] > 3 * block.std(axis=0)[0]  # widths within it stay
    both = embeddings_of(Shelf.open(folder), settings)
    lengths = [(both[:, part] ** 2).sum(axis=1).mean() for part in (slice(512), slice(512, None))]
    assert lengths == pytest.approx([1.0, 1.0], rel=1e-4)


def test_the_command_names_the_stages_and_protocols():
    assert (zoo.STAGES, zoo.PROTOCOLS) == (STAGES, PROTOCOLS)


def test_no_ranker_of_a_fold_saw_what_is_hidden(folder, settings):
    shelf = Shelf.open(folder)
    rankers = trained(shelf, settings).rankers
    hidden = frozenset({0, 1})
    lists = rankers.lists(frozenset({2}), hidden)
    assert [one.name for one in lists] == [name for at, name in enumerate(shelf.tasks) if at != 2]
    assert all(np.isnan(one.outcomes[[0, 1]]).all() and np.isfinite(one.outcomes[2:]).all() for one in lists)


class TestRecommend:
    def test_a_persons_images(self, folder, settings, images, tmp_path, capsys):
        figures, report = tmp_path / "r.json", tmp_path / "r.html"
        tell("recommend", "--quiet", "--folder", folder, "--data", images, "--probe", "--json", figures, "-o", report)
        out = capsys.readouterr().out
        found = json.loads(figures.read_text())
        assert [one["place"] for one in found["models"]] == [1, 2, 3, 4, 5]
        assert found["considered"] == MODELS
        assert found["probes"] == PROBES
        assert all(0 <= one["expected"] <= 1 for one in found["models"])
        scores = [one["score"] for one in found["models"]]
        assert scores == sorted(scores, reverse=True)
        assert "broken.png" in out
        assert "most alike by the data's tokens: shapes_kind" in out
        assert "no interval: too few tasks" in out
        page = report.read_text()
        for words in ("What to try", "Why", "What would change the answer", "Best for its cost"):
            assert words in page

    def test_an_npz_and_a_task(self, folder, settings, tmp_path):
        rng = np.random.default_rng(0)
        np.savez(tmp_path / "noise.npz", x=rng.integers(0, 256, (30, 12, 12, 3), dtype=np.uint8), y=np.arange(30) % 3)
        found = recommend(folder, settings, str(tmp_path / "noise.npz"), top=3)
        assert (found.data, len(found.models), found.probes) == ("noise", 3, ())
        assert any("--probe" in line for line in found.changes)
        task = recommend(folder, settings, "digits_inverted", top=MODELS, probe=True)
        reached = Shelf.open(folder).outcomes.matrix(metric="accuracy")
        at = reached.tasks.index("digits_inverted")
        for one in task.models:
            assert one.reached == pytest.approx(reached.values[reached.models.index(one.model), at])
            assert not one.measured

    def test_the_stacks_stage_is_used_where_it_saw_nothing_of_the_task(self, folder, settings, images, monkeypatch):
        answer = recommend(folder, settings, str(images), top=MODELS)

        made = Stacker.training_rows

        def made_anew(stacker, visible):
            assert visible.around is not None, "made anew"
            return made(stacker, visible)

        monkeypatch.setattr(Stacker, "training_rows", made_anew)
        assert recommend(folder, settings, str(images), top=MODELS).to_dict() == answer.to_dict()
        with pytest.raises(AssertionError, match="made anew"):
            recommend(folder, settings, "shapes_kind")
        with pytest.raises(AssertionError, match="made anew"):
            recommend(folder, above(settings, overrides=["stacker.penalty=0.5"]), str(images))

    def test_images_that_are_all_the_same_are_remarked(self, folder, settings, tmp_path):
        np.savez(tmp_path / "flat.npz", x=np.full((40, 8, 8), 0.5), y=np.arange(40) % 2)
        hint = "all images are the same, so nothing can tell the classes apart"
        assert hint in recommend(folder, settings, str(tmp_path / "flat.npz")).notes

    def test_a_budget(self, folder, settings):
        found = recommend(folder, settings, "shapes_kind", budget="params<=5k", top=MODELS)
        assert {one.architecture for one in found.models} == {"mlp64x1"}
        assert (found.considered, found.left_out) == (4, (4, 0))

    def test_feedback_makes_the_next_answer_better(self, folder, settings, images, tmp_path):
        import shutil

        copy = tmp_path / "zoo"
        shutil.copytree(folder, copy)
        before = recommend(copy, settings, str(images), top=MODELS)
        last = before.models[-1].model
        tell("feedback", "add", "--folder", copy, "--model", last, "--dataset", "mine", "--value", "0.99")
        after = recommend(copy, settings, str(images), top=MODELS)
        assert (after.models[0].model, after.models[0].measured, after.models[0].expected) == (last, True, 0.99)
        assert not any(one.measured for one in after.models[1:])
        tell("feedback", "add", "--folder", copy, "--model", last, "--dataset", "mine", "--value", "0.89")
        again = recommend(copy, settings, str(images), top=1)
        assert again.models[0].expected == pytest.approx(0.94)  # the mean of both

    def test_a_few_models_feedback_is_no_task_to_learn_from(self, folder, settings, images, tmp_path):
        import shutil

        copy = tmp_path / "zoo"
        shutil.copytree(folder, copy)
        before = recommend(copy, settings, str(images), top=MODELS)
        for one in before.models[:2]:
            tell("feedback", "add", "--folder", copy, "--model", one.model, "--dataset", "mine", "--value", "0.01")
        after = recommend(copy, settings, str(images), top=MODELS)
        assert (after.tasks, after.enough) == (before.tasks, before.enough)
        assert {one.model for one in after.models[-2:]} == {one.model for one in before.models[:2]}

    def test_a_folder_with_the_name_of_a_task_has_not_its_outcomes(self, folder, settings, images, tmp_path):
        import shutil

        shutil.copytree(images, tmp_path / "shapes_kind")
        found = recommend(folder, settings, str(tmp_path / "shapes_kind"))
        assert not any(one.measured for one in found.models)
        assert any("has a task shapes_kind of its own" in note for note in found.notes)

    def test_the_stack_may_hear_the_ranker(self, folder, settings, images):
        heard = above(settings, overrides=["join.stack_ranker=true", "ranker.num_epochs=1"])
        found = recommend(folder, heard, str(images), top=2)
        assert all("neural ranker" in one.contributions or "neural ranker" in one.missing for one in found.models)

    def test_labels_that_say_nothing_probe_at_chance(self, folder, settings, tmp_path):
        rng = np.random.default_rng(1)
        np.savez(tmp_path / "random.npz", x=rng.random((90, 8, 8), dtype=np.float32), y=rng.integers(0, 3, 90))
        found = recommend(
            folder, load_wing_settings(folder / "settings.yaml"), str(tmp_path / "random.npz"), probe=True
        )
        asked = pl.read_parquet(folder / "asked" / "random.parquet")
        for probe in ("k-NN", "ridge"):
            values = asked.filter(pl.col("probe") == probe)["value"]
            assert abs(values.mean() - 1 / 3) < 0.12, probe
        assert found.models


@pytest.mark.parametrize(
    ("enough", "words"),
    [(None, "no evidence"), (3, "is among the first 3 with 90%"), (7, "no small number is sure to hold the best")],
)
def test_how_many_to_try(folder, settings, enough, words):
    found = dataclasses.replace(recommend(folder, settings, "shapes_kind"), enough=enough)
    assert words in " ".join(sentences(found))


def test_training_keeps_the_settings_that_it_was_given(folder, images, tmp_path):
    import shutil

    copy = tmp_path / "zoo"
    shutil.copytree(folder, copy)
    tell("train", "--quiet", "--folder", copy, "--override", "embed.tokens=image", "ranker.num_epochs=2")
    kept = load_wing_settings(copy / "settings.yaml")
    assert (kept.embed.tokens, kept.ranker.num_epochs) == ("image", 2)
    tell("recommend", "--quiet", "--folder", copy, "--data", images)


def test_a_zoo_that_was_only_built_says_what_comes_next(folder, tmp_path, capsys):
    import shutil

    copy = tmp_path / "zoo"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("stages", "trained", "tokens.npz", "kernels.npz"))
    tell("recommend", "--folder", copy, "--data", "shapes_kind", code=2)
    assert f"has no stage behind it yet; run deepfm zoo train --folder {copy}" in capsys.readouterr().err


def test_feedback_on_data_that_nobody_asked_about_is_remarked(folder, images, tmp_path, capsys):
    import shutil

    copy = tmp_path / "zoo"
    shutil.copytree(folder, copy)
    tell("recommend", "--quiet", "--folder", copy, "--data", images)
    model = ["--model", "random-mlp64x1", "--value", "0.5"]
    tell("feedback", "add", "--folder", copy, "--dataset", "mien", *model)
    assert re.search(r"nobody has asked this shelf about mien yet \(asked so far: .*mine", capsys.readouterr().out)
    tell("feedback", "add", "--folder", copy, "--dataset", "mine", *model)
    assert "nobody" not in capsys.readouterr().out


class TestRefused:
    @pytest.mark.parametrize(
        ("argv", "words"),
        [
            (["recommend", "--data", "nowhere"], "is neither a folder of images, nor an .npz file, nor one of the"),
            (["recommend", "--data", "shapes_kind", "--budget", "params<=1"], "nearest"),
            (["recommend", "--data", "shapes_kind", "--budget", "speed<=1"], "speed"),
            (["recommend", "--data", "shapes_kind", "--budget", "licence=mit"], "has the licences Apache-2.0"),
            (["recommend", "--data", "shapes_kind", "--top", "0"], "top = 0"),
            (
                ["recommend", "--data", "shapes_kind", "--override", "embed.tokens=image"],
                "has other settings of embed than these; run deepfm zoo train --folder",
            ),
            (
                ["bench", "--override", "autoencoder.hidden_size=8"],
                "auto-encoder in {folder} was trained with other settings than these",
            ),
            (["recommend", "--data", "shapes_kind", "-o", "r.txt"], "neither .md nor .html"),
            (["recommend", "--data", "shapes_kind", "--override", "ranker.heads=1"], "ranker.heads"),
            (["train", "--override", "join.embedding=other"], "join.embedding"),
            (["feedback", "add", "--model", "none", "--dataset", "mine", "--value", "0.5"], "'none' is not in the"),
            (["feedback", "add", "--model", "random-mlp64x1", "--dataset", "mine", "--value", "50"], "from 0 to 1"),
            (
                ["feedback", "add", "--model", "random-mlp64x1", "--dataset", "shapes_kind", "--value", "0.5"],
                "own recipe",
            ),
            (["import", "settings.yaml"], "into another --folder"),
        ],
    )
    def test_in_one_sentence(self, folder, capsys, monkeypatch, tmp_path, argv, words):
        monkeypatch.chdir(tmp_path)
        if argv[0] == "import":
            table = tmp_path / "t.csv"
            table.write_text("dataset,model,finetune_acc\na,FTD_x_y,50\na,FTD_z_y,60\n")
            argv = ["import", str(table)]
        before = sorted(folder.rglob("*"))
        tell(*argv, "--folder", folder, code=2)
        err = capsys.readouterr().err.strip()
        assert words.format(folder=folder) in err
        assert len(err.splitlines()) == 1
        assert sorted(folder.rglob("*")) == before

    def test_a_folder_without_a_shelf(self, tmp_path, capsys):
        tell("bench", "--folder", tmp_path, code=2)
        assert "holds no models; build some with deepfm zoo build" in capsys.readouterr().err

    def test_one_class_and_one_image(self, folder, tmp_path, capsys):
        one = tmp_path / "one" / "cat"
        one.mkdir(parents=True)
        Image.new("L", (8, 8)).save(one / "a.png")
        tell("recommend", "--folder", folder, "--data", tmp_path / "one", code=2)
        assert re.search(r"one class|1 image", capsys.readouterr().err)

    def test_weights_that_are_gone(self, folder, tmp_path, capsys):
        import shutil

        copy = tmp_path / "zoo"
        shutil.copytree(folder, copy)
        next((copy / "weights").glob("*.safetensors")).unlink()
        shutil.rmtree(copy / "stages")
        tell("train", "--quiet", "--folder", copy, code=2)
        assert "restore the file" in capsys.readouterr().err

    def test_a_stage_whose_predecessor_is_of_other_models(self, folder, tmp_path, capsys):
        import shutil

        copy = tmp_path / "zoo"
        shutil.copytree(folder, copy)
        rows = pl.read_parquet(copy / "catalogue.parquet")
        rows[::-1].write_parquet(copy / "catalogue.parquet")
        tell("bench", "--quiet", "--folder", copy, code=2)
        assert "of other models; run deepfm zoo train again" in capsys.readouterr().err


class TestImport:
    def test_published_tables_rank_by_history(self, tmp_path, capsys):
        table = tmp_path / "multi.csv"
        rng = np.random.default_rng(0)
        models = [f"FTD_{arch}_{source}" for arch in ("r", "d") for source in ("a", "b", "c")]
        lines = [
            f"t{task},{model},{60 + 5 * at + rng.normal():.2f}" for task in range(6) for at, model in enumerate(models)
        ]
        table.write_text("dataset,model,finetune_acc\n" + "\n".join(lines) + "\n")
        place = tmp_path / "shelf"
        tell("import", table, "--folder", place)
        assert "6 models, 36 outcomes" in capsys.readouterr().out
        found = recommend(place, load_wing_settings(), "t0", top=2)
        assert [one.model for one in found.models] == models[:-3:-1]
        assert found.interaction < 0.2
        assert any(line.startswith("little") for line in found.changes)
        tell("bench", "--quiet", "--folder", place)
        out = capsys.readouterr().out
        assert "neural ranker" not in out
        assert "unseen family and task" in out
        tell("import", table, "--folder", place, code=2)
        assert "stands twice" in capsys.readouterr().err
        tell("train", "--folder", place, "--stage", "ranker", code=2)
        assert "only the stacker can be trained" in capsys.readouterr().err

    @pytest.mark.parametrize("cell", ["a,FTD_x_y,many", "a,,50"])
    def test_cells_that_cannot_be_read(self, tmp_path, capsys, cell):
        table = tmp_path / "t.csv"
        table.write_text(f"dataset,model,finetune_acc\na,FTD_x_z,50\n{cell}\n")
        tell("import", table, "--folder", tmp_path / "shelf", code=2)
        assert "t.csv" in capsys.readouterr().err
        table.write_text("dataset,model,finetune_acc\n")
        tell("import", table, "--folder", tmp_path / "shelf", code=2)
        assert not (tmp_path / "shelf").exists()

    def test_outcomes_of_a_model_that_the_catalogue_has_not(self, tmp_path, capsys):
        place = tmp_path / "shelf"
        place.mkdir()
        names = {"model": ["a", "b"], "family": ["x", "y"], "architecture": ["m", "m"]}
        pl.DataFrame(names).write_parquet(place / "catalogue.parquet")
        rows = {"model": ["a", "c"], "dataset": ["t", "t"], "metric": ["accuracy"] * 2, "value": [0.5, 0.6]}
        pl.DataFrame({**rows, "origin": ["measured"] * 2}).write_parquet(place / "outcomes.parquet")
        tell("recommend", "--folder", place, "--data", "t", code=2)
        assert "outcomes name model 'c', which the catalogue has not" in capsys.readouterr().err

    def test_a_derived_value_is_no_truth(self, tmp_path, capsys):
        place = tmp_path / "shelf"
        place.mkdir()
        names = {"model": ["a", "b"], "family": ["x", "y"], "architecture": ["m", "m"]}
        pl.DataFrame(names).write_parquet(place / "catalogue.parquet")
        rows = {"model": ["a", "b"], "dataset": ["t", "t"], "metric": ["accuracy"] * 2, "value": [0.5, 0.6]}
        pl.DataFrame({**rows, "origin": ["measured", "derived"]}).write_parquet(place / "outcomes.parquet")
        tell("recommend", "--folder", place, "--data", "t", code=2)
        assert "is derived, not measured" in capsys.readouterr().err
        assert not Path(place / "reports").exists()
