"""Dataset tokens: values by hand, and what must not change them."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfm.errors import DataError, ExtraError
from deepfm.model_selection.tokens import (
    AnalyticEncoder,
    ClipEncoder,
    DatasetTokens,
    FeatureEncoder,
    class_tokens,
    image_tokens,
    pad,
    task_embedding,
    task_similarity,
)
from deepfm.model_selection.tokens.clip import weights_file
from deepfm.model_selection.tokens.dataset_tokens import DatasetMeta

MEANS = FeatureEncoder("means", lambda rows: rows.mean(axis=(2, 3)))


def images(count=12, channels=1, size=(8, 8), seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((count, channels, *size), dtype=np.float32), np.arange(count) % 3


def test_a_class_token_is_mean_and_spread_of_its_rows():
    rows = np.array([0.0, 0.4, 1.0, 0.5], np.float32)[:, None, None, None] * np.ones((1, 1, 2, 2), np.float32)
    taken = class_tokens(rows, np.array([0, 0, 2, 0]), MEANS, classes=4)
    assert taken.tokens == pytest.approx(
        np.array([[0.3, np.sqrt((0.09 + 0.01 + 0.04) / 3)], [0, 0], [1, 0], [0, 0]]), abs=1e-6
    )
    assert taken.mask.tolist() == [True, False, True, False]
    assert taken.counts.tolist() == [3, 0, 1, 0]
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert taken.meta == DatasetMeta(4, 4, 1, 3.0, pytest.approx(entropy))
    assert taken.tokens.dtype == np.float32
    assert repr(taken) == "DatasetTokens(2 x 2 by means, 4 rows)"


def test_an_image_token_is_one_image():
    rows, labels = images()
    taken = image_tokens(rows, labels, MEANS)
    assert taken.tokens == pytest.approx(rows.mean(axis=(2, 3)))
    assert taken.mask.all()
    assert taken.counts.tolist() == [4, 4, 4]
    assert taken.encoder != class_tokens(rows, labels, MEANS).encoder


def test_the_analytic_encoder_tells_frequencies_from_places():
    across = np.cos(2 * np.pi * 2 * np.arange(8) / 8)  # two waves
    wave = 0.5 + 0.25 * np.broadcast_to(across, (1, 1, 8, 8)).astype(np.float32)
    moved = np.roll(wave, 1, axis=3)
    encoder = AnalyticEncoder()
    still, shifted = encoder.encode(wave), encoder.encode(moved)
    assert still.shape == (1, 128)
    assert still.dtype == np.float32
    assert still[0, :64] == pytest.approx(wave.ravel())
    assert np.flatnonzero(still[0, 64:] > 1e-4).tolist() == [2, 6]  # and its mirror
    assert still[0, 66] == pytest.approx(8 * 0.25 / 2)
    assert shifted[0, 64:] == pytest.approx(still[0, 64:], abs=1e-5)
    assert np.abs(shifted[0, :64] - still[0, :64]).max() > 0.1


@pytest.mark.parametrize(("channels", "size"), [(1, (1, 1)), (3, (5, 40)), (1, (64, 3))])
def test_the_analytic_encoder_takes_images_of_any_size(channels, size):
    rows, labels = images(channels=channels, size=size)
    taken = class_tokens(rows, labels, AnalyticEncoder())
    assert taken.tokens.shape == (3, 256)
    assert taken.meta.channels == channels


@settings(max_examples=25, deadline=None)
@given(count=st.integers(2, 30), seed=st.integers(0, 99))
def test_tokens_do_not_change_with_the_order_of_rows_and_move_with_that_of_classes(count, seed):
    rng = np.random.default_rng(seed)
    rows, labels = rng.random((count, 1, 4, 4), dtype=np.float32), rng.integers(0, 4, count)
    order, names = rng.permutation(count), rng.permutation(4)
    first = class_tokens(rows, labels, AnalyticEncoder(), classes=4)
    second = class_tokens(rows[order], names[labels[order]], AnalyticEncoder(), classes=4)
    assert second.tokens[names] == pytest.approx(first.tokens, abs=1e-5)
    assert second.mask[names].tolist() == first.mask.tolist()
    assert task_embedding(second) == pytest.approx(task_embedding(first), abs=1e-5)


def test_padding_is_masked_and_changes_no_embedding():
    short, long = (class_tokens(*images(count), AnalyticEncoder(), classes=3) for count in (2, 9))
    tokens, mask = pad([short, long, short], length=5)
    assert tokens.shape == (3, 5, 256)
    assert mask.tolist() == [[True, True, False, False, False], [True, True, True, False, False], mask[0].tolist()]
    assert np.array_equal(tokens[1, :3], long.tokens)
    assert not tokens[~mask].any()
    filled = tokens[0] + np.float32(7) * ~mask[0][:, None]
    padded = DatasetTokens(filled, mask[0], short.counts, short.meta, short.encoder)
    assert task_embedding(padded) == pytest.approx(task_embedding(short))
    assert np.array_equal(pad([padded])[0][0], tokens[0])


def test_any_models_features_are_an_encoder():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5))
    encoder = FeatureEncoder("linear", lambda rows: network(torch.from_numpy(rows)))
    rows, labels = images(1030)
    expected = network(torch.from_numpy(rows)).detach().numpy()
    assert encoder.encode(rows) == pytest.approx(expected, abs=1e-6)
    assert class_tokens(rows, labels, encoder).tokens.shape == (3, 10)


def test_alike_tasks_are_near_and_far_ones_are_not():
    def task(level, seed):
        rows, labels = images(60, seed=seed)
        return task_embedding(class_tokens(0.2 * rows + level, labels, AnalyticEncoder()))

    known = [task(0.0, 0), task(0.0, 1), task(0.7, 2), task(0.7, 3)]
    similar = task_similarity(known)
    assert similar.shape == (4, 4)
    assert similar == pytest.approx(similar.T)
    assert np.diag(similar) == pytest.approx(1)
    assert min(similar[0, 1], similar[2, 3]) > 1.3 * similar[:2, 2:].max()
    asked = task_similarity(known, [task(0.7, 9)])
    assert asked.shape == (1, 4)
    assert asked[0, 2:].min() > asked[0, :2].max()
    assert task_similarity(known[:1]) == pytest.approx(np.ones((1, 1)))
    assert task_similarity([known[0]] * 3) == pytest.approx(np.ones((3, 3)))


ROWS, LABELS = images()
GOOD = class_tokens(ROWS, LABELS, MEANS)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: class_tokens(ROWS[0], LABELS, MEANS), r"rows have shape \(1, 8, 8\)"),
        (lambda: class_tokens(ROWS[:0], LABELS[:0], MEANS), r"rows have shape \(0, 1, 8, 8\)"),
        (lambda: class_tokens(ROWS, LABELS[:3], MEANS), r"labels have shape \(3,\)"),
        (lambda: class_tokens(ROWS, LABELS - 1, MEANS), "expected classes from 0"),
        (lambda: class_tokens(ROWS, LABELS, MEANS, classes=2), "label 2 is not among 2 classes"),
        (lambda: class_tokens(ROWS, LABELS, FeatureEncoder("bad", lambda rows: rows)), r"bad gives features of shape"),
        (
            lambda: class_tokens(ROWS, LABELS, FeatureEncoder("nan", lambda rows: np.log(rows[:, 0, 0] * 0 - 1))),
            "nan gives features that are not finite for 12 of 12 rows, first row 0",
        ),
        (lambda: AnalyticEncoder(0), "side = 0"),
        (lambda: pad([]), "no token sets to pad"),
        (
            lambda: pad([GOOD, class_tokens(ROWS, LABELS, AnalyticEncoder())]),
            "2 wide by means and 256 wide by analytic-8",
        ),
        (lambda: pad([GOOD], length=2), "length = 2 for token sets of up to 3"),
        (lambda: task_similarity(np.zeros((2, 9)), np.zeros((1, 11))), "of one width"),
        (
            lambda: DatasetTokens(GOOD.tokens, ~GOOD.mask, GOOD.counts, GOOD.meta, "x"),
            "has no token; expected one or more",
        ),
        (lambda: DatasetTokens(GOOD.tokens, GOOD.mask[:1], GOOD.counts, GOOD.meta, "x"), "the mask has shape"),
        (lambda: DatasetTokens(GOOD.tokens * np.nan, GOOD.mask, GOOD.counts, GOOD.meta, "x"), "tokens are not finite"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_bad_input_gets_a_sentence(call, words):
    with pytest.raises(DataError, match=words):
        call()


def test_clip_names_its_extra_where_it_is_absent(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "open_clip", None)
    with pytest.raises(ExtraError, match=r"pip install 'deepfm\[clip\]'"):
        ClipEncoder(weights="openai")


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory):
    """A CLIP model of one layer that open_clip builds, with weights on disk."""
    clip = pytest.importorskip("open_clip", reason="open_clip is not installed; pip install 'deepfm[clip]'")
    folder = tmp_path_factory.mktemp("clip")
    (folder / "tiny.json").write_text(
        '{"embed_dim": 16, "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},'
        ' "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1}}'
    )
    clip.add_model_config(folder)
    torch.manual_seed(0)
    torch.save(clip.create_model("tiny").state_dict(), folder / "weights.pt")
    return folder


def test_clip_loads_weights_from_a_file_and_embeds_images(tiny_clip):
    encoder = ClipEncoder("tiny", weights=tiny_clip / "weights.pt")
    rows, labels = images(70)
    features = encoder.encode(rows)
    assert features.shape == (70, 16)
    assert np.linalg.norm(features, axis=1) == pytest.approx(1, abs=1e-5)
    assert encoder.encode(np.repeat(rows[:3], 3, axis=1)) == pytest.approx(features[:3], abs=1e-5)
    assert ClipEncoder("tiny", weights=tiny_clip / "weights.pt").encode(rows) == pytest.approx(features, abs=1e-5)
    assert class_tokens(rows, labels, encoder).width == 32
    assert encoder.name == "clip-tiny-weights"


def test_clip_weights_are_never_fetched(tiny_clip, tmp_path):
    with pytest.raises(DataError, match="'openai' of CLIP model ViT-B-32 are not on this machine"):
        ClipEncoder("ViT-B-32", weights="openai", cache=str(tmp_path))
    with pytest.raises(DataError, match="'laion2b_s34b_b79k' of CLIP model ViT-B-32 are not on this machine"):
        ClipEncoder("ViT-B-32", weights="laion2b_s34b_b79k", cache=str(tmp_path))
    with pytest.raises(DataError, match="neither a file nor a tag of ViT-B-32"):
        ClipEncoder("ViT-B-32", weights="nowhere")
    with pytest.raises(DataError, match="CLIP model 'ViT' is unknown"):
        ClipEncoder("ViT", weights="openai")
    assert list(tmp_path.iterdir()) == []
    hub = tmp_path / "models--laion--CLIP-ViT-B-32-laion2B-s34B-b79K"
    kept = hub / "snapshots" / "one" / "open_clip_model.safetensors"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"weights")
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text("one")
    assert weights_file("ViT-B-32", "laion2b_s34b_b79k", str(tmp_path))[0] == kept
    (tmp_path / "broken.pt").write_bytes(b"broken")
    with pytest.raises(DataError, match="cannot be loaded into CLIP model tiny"):
        ClipEncoder("tiny", weights=tmp_path / "broken.pt")


def test_published_clip_weights_put_like_images_together():
    file = Path(os.environ.get("DEEPFM_CLIP_WEIGHTS", "/nowhere"))
    if importlib.util.find_spec("open_clip") is None or not file.is_file():
        pytest.skip("needs open_clip, and a file of ViT-B-32 weights named in DEEPFM_CLIP_WEIGHTS")
    encoder = ClipEncoder("ViT-B-32", weights=file)
    flat, noise = np.full((4, 3, 64, 64), 0.5, np.float32), np.random.default_rng(0).random((4, 3, 64, 64), np.float32)
    flat *= np.linspace(0.9, 1.1, 4, dtype=np.float32)[:, None, None, None]
    alike = encoder.encode(np.concatenate([flat, noise]))
    alike = alike @ alike.T
    assert min(alike[:4, :4].min(), alike[4:, 4:].min()) > alike[:4, 4:].max()
