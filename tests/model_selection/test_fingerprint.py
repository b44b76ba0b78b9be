"""Fingerprints of what models do, and metadata of what they are."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfm.errors import DataError, RunError
from deepfm.model_selection.catalogue import Catalogue
from deepfm.model_selection.fingerprint import FunctionalFingerprint, kernel_vector, kernel_vectors, probe_inputs
from deepfm.model_selection.metadata import MetadataEncoder

INPUTS = probe_inputs(20)


def model(seed, width=16):
    weights = np.random.default_rng(seed).normal(size=(64, width))
    return lambda rows: np.tanh(rows.reshape(len(rows), -1) @ weights)


def test_the_dot_product_of_two_vectors_is_their_kernel_alignment():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(10, 4)), rng.normal(size=(10, 7))
    centred = [each - each.mean(axis=0) for each in (first, second)]
    cross = np.linalg.norm(centred[0].T @ centred[1]) ** 2
    own = [np.linalg.norm(each.T @ each) for each in centred]
    assert kernel_vector(first) @ kernel_vector(second) == pytest.approx(cross / (own[0] * own[1]))
    assert kernel_vector(first).shape == (55,)
    assert np.linalg.norm(kernel_vector(first)) == pytest.approx(1)


@settings(max_examples=25, deadline=None)
@given(width=st.integers(1, 20), scale=st.sampled_from([1e-6, -3.0, 1e200]), seed=st.integers(0, 99))
def test_rotation_scale_and_shift_change_nothing(width, scale, seed):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(12, width))
    rotation = np.linalg.qr(rng.normal(size=(width, width)))[0]
    assert kernel_vector(scale * (features @ rotation + 2)) == pytest.approx(kernel_vector(features), abs=1e-9)


def test_a_model_that_does_nothing_has_no_kernel():
    assert not kernel_vector(np.full((5, 3), 0.1)).any()


def test_components_part_models_by_what_they_do():
    vectors = kernel_vectors({str(seed): model(seed) for seed in range(8)}, INPUTS)
    fitted = FunctionalFingerprint.fit(vectors, 24)
    assert fitted.width == 7  # eight models differ in seven directions
    codes = fitted.transform(vectors)
    assert codes.shape == (8, 7)
    assert codes.dtype == np.float32
    assert codes @ fitted.directions + fitted.mean == pytest.approx(vectors, abs=1e-6)
    assert np.all(np.diff(codes.std(axis=0)) <= 1e-6)
    few = FunctionalFingerprint.fit(vectors, 3)
    assert few.transform(vectors) == pytest.approx(codes[:, :3], abs=1e-5)
    # a held-out model's code takes no part in the fit, and is its own whatever is asked with it
    held = kernel_vectors({"held": model(99)}, INPUTS)
    assert few.transform(np.concatenate([vectors, held]))[-1] == pytest.approx(few.transform(held)[0], abs=1e-6)


def test_directions_do_not_flip_with_the_order_of_models():
    vectors = kernel_vectors({str(seed): model(seed) for seed in range(6)}, INPUTS)
    first, second = (FunctionalFingerprint.fit(each, 4) for each in (vectors, vectors[::-1]))
    assert second.transform(vectors) == pytest.approx(first.transform(vectors), abs=1e-5)


def test_a_saved_fingerprint_gives_the_same_codes(tmp_path):
    vectors = kernel_vectors({str(seed): model(seed) for seed in range(4)}, INPUTS)
    fitted = FunctionalFingerprint.fit(vectors, 2)
    fitted.save(tmp_path / "fingerprint.npz")
    again = FunctionalFingerprint.load(tmp_path / "fingerprint.npz")
    assert np.array_equal(again.transform(vectors), fitted.transform(vectors))
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    with pytest.raises(DataError, match="holds x; expected a fingerprint"):
        FunctionalFingerprint.load(tmp_path / "other.npz")
    with pytest.raises(RunError, match="does not exist"):
        FunctionalFingerprint.load(tmp_path / "none.npz")


def test_probe_inputs_are_fixed_and_unlike():
    assert np.array_equal(probe_inputs(20), INPUTS)
    assert not np.array_equal(probe_inputs(20, seed=1), INPUTS)
    wide = probe_inputs(9, channels=3, size=(5, 16))
    assert wide.shape == (9, 3, 5, 16)
    assert wide.dtype == np.float32
    assert (wide.min(), wide.max()) == (0, 1)
    assert np.linalg.matrix_rank(INPUTS.reshape(20, -1)) == 20
    assert np.isfinite(probe_inputs(3, size=(1, 1))).all()


VECTORS = kernel_vectors({str(seed): model(seed) for seed in range(3)}, INPUTS)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: kernel_vector(np.ones(4)), r"shape \(4,\)"),
        (lambda: kernel_vector(np.array([[1.0], [np.nan]])), "expected finite numbers"),
        (lambda: kernel_vectors({}, INPUTS), "no models"),
        (lambda: kernel_vectors({"m": lambda rows: rows}, INPUTS), "m gives features of shape"),
        (lambda: FunctionalFingerprint.fit(VECTORS[:1]), "two models or more"),
        (lambda: FunctionalFingerprint.fit(VECTORS[[0, 0]]), "2 models do the same to every probe input"),
        (lambda: FunctionalFingerprint.fit(VECTORS, 0), "components = 0"),
        (
            lambda: FunctionalFingerprint.fit(VECTORS).transform(VECTORS[:, 1:]),
            "of the probe inputs that the fingerprint",
        ),
        (lambda: probe_inputs(1), "1 probe inputs"),
    ],
)
def test_bad_input_gets_a_sentence(call, words):
    with pytest.raises(DataError, match=words):
        call()


def catalogue(rows):
    names = ("model", "family", "architecture", "parameters", "macs")
    return Catalogue(pl.DataFrame(rows, schema=names, orient="row"), Path())


def test_metadata_are_categories_and_standardised_logs():
    known = catalogue([("a", "digits", "mlp", 99, 1e3), ("b", "shapes", "cnn", 9999, None)])
    encoder = MetadataEncoder.fit(known)
    assert encoder.names == (
        "architecture=cnn",
        "architecture=mlp",
        "family=digits",
        "family=shapes",
        "log parameters",
        "parameters missing",
        "log macs",
        "macs missing",
    )
    assert encoder.transform(known) == pytest.approx(
        np.array([[0, 1, 1, 0, -1, 0, 0, 0], [1, 0, 0, 1, 1, 0, 0, 1]]), abs=1e-12
    )
    unseen = catalogue([("c", "faces", "cnn", 999, 1e3 * np.e + np.e - 1)])
    assert encoder.transform(unseen) == pytest.approx(np.array([[1, 0, 0, 0, 0, 0, 1, 0]]), abs=1e-9)
    with pytest.raises(DataError, match="has no models"):
        MetadataEncoder.fit(catalogue([("a", "digits", "mlp", 99, 1e3)]).subset([]))
