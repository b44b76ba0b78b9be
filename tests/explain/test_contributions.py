"""What stands instead of a field's value, and what a row's figures are called."""

import numpy as np
import pytest
import torch

from deepfm.data.categories import CategoryEncoder
from deepfm.data.transforms import LabelEncoder
from deepfm.explain.contributions import contributions, dense_means
from deepfm.explain.rows import rows_of
from deepfm.models.calibration import Calibration
from tests.clicks import BEHAVIOUR_SCHEMA, SCHEMA, clicks, model_of, randomise, sequence_model_of


def test_occlusion_is_what_the_model_gives_without_the_field():
    model, rows = randomise(model_of("deepfm")).eval(), clicks(rows=20)
    features, _ = rows.batch(slice(2, 4))
    table = rows_of(rows, list(range(20)))
    means = dense_means(SCHEMA, table)
    found = contributions(model, SCHEMA, features, ["a", "b"], {}, means=means)
    assert [one.name for one in found[0].occlusions] == list(SCHEMA.fields)
    with torch.no_grad():
        before = model(features)
        for place, name in enumerate(SCHEMA.fields):
            instead = torch.zeros_like(features[name])
            if name in means:
                instead = instead + rows.features[name].mean()
            after = model({**features, name: instead})
            for row, one in enumerate(found):
                assert one.occlusions[place].change == pytest.approx(float(after[row] - before[row]), abs=1e-5)
    told = {one.name: one.instead for one in found[0].occlusions}
    assert told["user"] == "unknown"
    assert told["mean"] == "no tokens"
    assert told["price"] == f"mean {float(rows.features['price'].mean()):.3g}"
    without = contributions(model, SCHEMA, features, ["a", "b"], {})
    assert {one.instead for one in without[0].occlusions if one.name in means} == {"0"}


def test_a_history_is_occluded_where_the_model_reads_it():
    model, rows = sequence_model_of("sin gate attends").eval(), clicks(BEHAVIOUR_SCHEMA, rows=20)
    features, _ = rows.batch(slice(3, 5))
    found = contributions(model, BEHAVIOUR_SCHEMA, features, ["a", "b"], {})
    (history,) = [one for one in found[0].occlusions if one.name == "history"]
    with torch.no_grad():
        empty = model({**features, "history": torch.zeros_like(features["history"])})
        assert history.change == pytest.approx(float((empty - model(features))[0]), abs=1e-5)
    assert history.instead == "no events"
    assert abs(history.change) > 1e-3


def test_an_unknown_category_has_its_own_row_where_one_is_learned():
    model, rows = randomise(model_of("deepfm")).eval(), clicks(rows=20)
    features, _ = rows.batch(slice(0, 1))
    encoder = CategoryEncoder(oov="learned").fit([f"u{number}" for number in range(38)])
    found = contributions(model, SCHEMA, features, ["a"], {"user": encoder})
    with torch.no_grad():
        change = model({**features, "user": torch.ones_like(features["user"])}) - model(features)
    assert found[0].occlusions[0].change == pytest.approx(float(change), abs=1e-5)


def test_values_are_written_as_a_person_reads_them():
    model, rows = sequence_model_of("sin gate attends").eval(), clicks(BEHAVIOUR_SCHEMA, rows=5)
    features, _ = rows.batch(slice(0, 3))
    features["user"][:2] = torch.tensor([0, 2])
    features["history"][1] = torch.tensor([0, 0, 0, 1, 2, 3])
    features["history"][2] = 0
    encoders = {"user": LabelEncoder().fit(np.arange(100, 139)), "item": LabelEncoder().fit(np.arange(24))}
    found = contributions(model, BEHAVIOUR_SCHEMA, features, ["a", "b", "c"], encoders)
    told = [{one.name: one.value for one in row.occlusions} for row in found]
    assert told[0]["user"] == "unknown"
    assert told[1]["user"] == "101"
    assert told[1]["history"] == "3 events, last 2"
    assert told[2]["history"] == "none"
    assert told[1]["price"] == f"{float(features['price'][1]):.4g}"


def test_probabilities_are_calibrated_where_the_model_is():
    model, rows = randomise(model_of("deepfm")).eval(), clicks(rows=5)
    features, _ = rows.batch(slice(0, 2))
    plain = contributions(model, SCHEMA, features, ["a", "b"], {})
    model.calibration = Calibration("platt", scale=0.5, shift=-1.0)
    found = contributions(model, SCHEMA, features, ["a", "b"], {}, labels=[1.0, 0.0])
    for one, before in zip(found, plain, strict=True):
        assert before.probability == pytest.approx(1 / (1 + np.exp(-one.logit)))
        assert one.probability == pytest.approx(1 / (1 + np.exp(1.0 - 0.5 * one.logit)))
    assert [one.label for one in found] == [1.0, 0.0]
    assert plain[0].label is None
