"""The zoo's data sets: labels that say what is in the image, and tasks that share nothing with sources."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfm.errors import DataError, ExtraError
from deepfm.model_selection.zoo import bundled, digits, patches, shapes
from deepfm.model_selection.zoo.datasets import DATASETS, make_source, make_task
from deepfm.model_selection.zoo.rows import Draw, Rows, TransferTask, stratified
from deepfm.model_selection.zoo.settings import RANDOM, SOURCES, TASKS, TaskSettings


def draw(for_source=False, size=200, seed=0, stream=0):
    return Draw(for_source, size, seed, np.random.default_rng(stream))


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_a_data_set_is_what_its_generator_and_seed_make_it(name):
    rows, again, other = (DATASETS[name](draw(stream=stream)) for stream in (0, 0, 1))
    assert len(rows) == 200
    assert set(rows.labels) == set(range(len(rows.classes)))
    np.testing.assert_array_equal(rows.images, again.images)
    np.testing.assert_array_equal(rows.labels, again.labels)
    assert not np.array_equal(rows.images, other.images)


def test_every_name_has_a_data_set():
    assert set(TASKS) | set(SOURCES) == set(DATASETS) | {RANDOM}


def as_set(images):
    return {image.tobytes() for image in images}


def test_no_digit_of_a_source_is_in_a_task():
    source = make_source("digits_plain", 2000, 3)
    task = make_task("digits_plain", TaskSettings(), 3)
    assert len(source) == digits.FOR_SOURCES
    assert not as_set(source.images) & (as_set(task.pool.images) | as_set(task.test.images))
    assert not as_set(task.pool.images) & as_set(task.test.images)


def test_sources_and_tasks_cut_patches_of_different_columns(monkeypatch):
    rng = np.random.default_rng(0)
    marked = rng.random((60, 640), dtype=np.float32) * 0.2
    marked[:, 320:] += 0.8
    monkeypatch.setattr(patches, "load_photographs", lambda: (marked, marked))
    patches._places.cache_clear()
    try:
        source, task = patches.photograph(draw(True)), patches.photograph(draw(False))
    finally:
        patches._places.cache_clear()
    assert source.images.max() < 0.3
    assert task.images.min() > 0.7
    assert len(as_set(task.images[task.labels == 0])) == 100  # each cell once


def test_permuted_digits_share_one_order_and_reshuffled_ones_have_another():
    def mean_image(name, for_source):
        return DATASETS[name](draw(for_source, 600)).images.mean(0).ravel()

    def correlation(one, other):
        return np.corrcoef(one, other)[0, 1]

    source = mean_image("digits_permuted", True)
    assert correlation(source, mean_image("digits_permuted", False)) > 0.97
    assert correlation(source, mean_image("digits_permuted_parity", False)) > 0.97
    assert abs(correlation(source, mean_image("digits_reshuffled", False))) < 0.5
    assert abs(correlation(source, mean_image("digits_plain", False))) < 0.5


def test_digits_changed_by_hand():
    plain, inverted, mirrored, parity, loops = (
        of(draw()) for of in (digits.plain, digits.inverted, digits.mirrored, digits.parity, digits.loops)
    )
    np.testing.assert_allclose(inverted.images, 1 - plain.images)
    np.testing.assert_array_equal(mirrored.images[:, :, 0], plain.images[:, :, 7])
    np.testing.assert_array_equal(parity.labels, plain.labels % 2)
    assert {int(label) for label in plain.labels[loops.labels == 1]} == {0, 6, 8, 9}


def test_a_turned_digit_turns_back():
    images = np.random.default_rng(0).random((4, 8, 8), dtype=np.float32)
    turned = digits.turned(images, np.array([0, 1, 2, 3]))
    np.testing.assert_array_equal(turned[0], images[0])
    np.testing.assert_array_equal(turned[1][0], images[1][:, 7])  # a quarter turn to the left
    np.testing.assert_array_equal(turned[2], images[2][::-1, ::-1])
    np.testing.assert_array_equal(np.rot90(turned[3], 1), images[3])


def test_labels_of_generated_images_say_what_is_in_them():
    blobs = shapes.blobs_count(draw(size=1000))
    light = [blobs.images[blobs.labels == label].sum((1, 2)).mean() for label in range(5)]
    assert (np.diff(light) > 1).all()
    wide = shapes.blobs_size(draw(size=1000))
    lit = [(wide.images[wide.labels == label] > 0.3).mean() for label in range(4)]
    assert (np.diff(lit) > 0.02).all()
    gratings = shapes.gratings_orientation(draw(size=1000))
    across = np.abs(np.diff(gratings.images, axis=2)).mean((1, 2))
    down = np.abs(np.diff(gratings.images, axis=1)).mean((1, 2))
    assert (across - down)[gratings.labels == 0].mean() > 0.1
    assert (across - down)[gratings.labels == 3].mean() < -0.1
    waves = shapes.gratings_frequency(draw(size=1000))
    rough = np.abs(np.diff(waves.images, axis=2)).mean((1, 2))
    assert (np.diff([rough[waves.labels == label].mean() for label in range(4)]) > 0).all()


def test_labels_of_patches_say_what_was_done_to_them():
    noisy, blurred = patches.noise(draw(size=800)), patches.blur(draw(size=800))

    def roughness(rows, label):
        return np.abs(np.diff(rows.images[rows.labels == label], 2, axis=2)).mean()

    assert (np.diff([roughness(noisy, label) for label in range(4)]) > 0).all()
    assert (np.diff([roughness(blurred, label) for label in range(3)]) < 0).all()


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_shots_keep_the_classes_shares(counts, share, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    size = len(counts) + round(share * (len(labels) - len(counts)))
    chosen = stratified(labels, size, np.random.default_rng(seed))
    assert len(set(chosen)) == len(chosen) == size
    have = np.bincount(labels[chosen], minlength=len(counts))
    assert (have >= 1).all()
    assert (have <= counts).all()
    exact = np.array(counts) * size / len(labels)
    if (exact >= 1).all():
        assert (np.abs(have - exact) < 1).all()


def test_a_task_draws_its_shots_from_its_pool_alone():
    chosen = TaskSettings(pool_rows=100, test_rows=50, shots=40, seeds=2)
    task = make_task("blobs_count", chosen, 0)
    assert task.shots.shape == (2, 40)
    assert len(task.pool) == 100
    assert len(task.test) == 50
    assert not np.array_equal(task.shots[0], task.shots[1])
    shots = task.training(1)
    np.testing.assert_array_equal(shots.images, task.pool.images[task.shots[1]])
    np.testing.assert_array_equal(shots.labels, task.pool.labels[task.shots[1]])
    with pytest.raises(DataError, match=r"no shots of seed 2; expected 0 to 1"):
        task.training(2)


def test_rows_refuse_what_they_are_not():
    images, labels = np.zeros((2, 8, 8), np.float32), np.array([0, 1])
    with pytest.raises(DataError, match=r"expected float32 \(2, 8, 8\)"):
        Rows(np.zeros((2, 9, 9), np.float32), labels, ("a", "b"))
    with pytest.raises(DataError, match=r"from 0 to 16; expected 0 to 1"):
        Rows(images + np.float32(16) * np.eye(8, dtype=np.float32), labels, ("a", "b"))
    with pytest.raises(DataError, match=r"pixels run from nan"):
        Rows(images * np.float32(np.nan), labels, ("a", "b"))
    with pytest.raises(DataError, match=r"labels run from 0 to 1; expected 0 to 0"):
        Rows(images, labels, ("a",))
    with pytest.raises(DataError, match="at least one"):
        Rows(images[:0], labels[:0], ("a",))
    rows = Rows(images, labels, ("a", "b"))
    with pytest.raises(DataError, match="a pool of 2"):
        TransferTask("mine", rows, rows, np.array([[0, 2]]))
    with pytest.raises(DataError, match="1 shots of 2 rows in 2 classes"):
        stratified(labels, 1, np.random.default_rng(0))


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    bundled.load_digits.cache_clear()
    with pytest.raises(ExtraError, match=r"pip install 'deepfm\[zoo\]'"):
        digits.plain(draw())
