"""What would otherwise train or score something else in silence."""

import numpy as np
import pytest
import torch

from deepfm.errors import ConfigError, DataError, SchemaError
from deepfm.interop.deepctr.inputs import DenseFeat, SparseFeat, VarLenSparseFeat
from deepfm.interop.deepctr.models import DIN, DeepFM


def model_of(task="binary", vocabulary_size=5):
    columns = [SparseFeat("u", vocabulary_size, 2), DenseFeat("p")]
    return DeepFM(columns, columns, dnn_hidden_units=(4,), task=task)


def rows(**changes):
    return {"u": np.array([0, 1, 2, 3]), "p": np.array([0.1, 0.2, 0.3, 0.4]), **changes}


def test_a_column_that_stands_twice_is_refused():
    u, i = SparseFeat("u", 5, 4), SparseFeat("i", 6, 4)
    history = VarLenSparseFeat(SparseFeat("hist_i", 6, 4, embedding_name="i"), maxlen=3)
    with pytest.raises(SchemaError, match="column 'u' stands 2 times"):
        DIN([u, u, i, history], ["i"])
    with pytest.raises(SchemaError, match="column 'u' stands 2 times"):
        DeepFM([u, u], [u, i])


def test_a_penalty_after_compile_is_refused():
    model = model_of()
    model.add_regularization_weight(model.out.bias, l2=0.1)
    model.compile("adam", "binary_crossentropy")
    with pytest.raises(ConfigError, match="comes after compile"):
        model.add_regularization_weight(model.out.bias, l2=0.1)
    assert model.get_regularization_loss().item() > 0


@pytest.mark.parametrize("name", ["auc", "acc", "logloss", "binary_crossentropy"])
def test_a_regression_has_no_classes_to_measure(name):
    with pytest.raises(ConfigError, match=f"metric '{name}' measures classes"):
        model_of("regression").compile("adam", "mse", metrics=[name])


def test_metrics_are_a_list():
    with pytest.raises(ConfigError, match=r"metrics = 'auc' is a text; expected a list, such as \['auc'\]"):
        model_of().compile("adam", metrics="auc")


@pytest.mark.parametrize(
    "values",
    [
        np.array(["2020-01-01"] * 4, dtype="datetime64[D]"),
        np.array([1, 2, 3, 4], dtype="timedelta64[s]"),
        np.array(["1", "2", "3", "4"]),
        np.array([1 + 2j] * 4),
    ],
    ids=["dates", "spans", "texts", "complex"],
)
def test_what_is_no_number_is_refused(values):
    with pytest.raises(DataError, match=r"dense input 'p' holds .* values; expected numbers"):
        model_of().predict(rows(p=values))


@pytest.mark.parametrize("name", ["u", "p"])
def test_masked_entries_are_no_values(name):
    masked = np.ma.array([1, 2, 3, 4], mask=[0, 1, 0, 0])
    with pytest.raises(DataError, match="masked"):
        model_of().predict(rows(**{name: masked}))
    assert model_of().predict(rows(**{name: np.ma.array([1, 2, 3, 4], mask=False)})).shape == (4, 1)


def test_ids_that_a_float_cannot_tell_apart_are_refused():
    model = model_of(vocabulary_size=2**24 + 2)
    large = np.array([2**24, 2**24 + 1, 0, 1])
    with torch.no_grad():
        model.embedding_dict["u"].weight[2**24 + 1] = 1.0
    exact = model.predict(rows(u=large))
    assert exact[0] != exact[1]
    np.testing.assert_array_equal(model.predict(rows(u=large.astype(np.float64))), exact)
    with pytest.raises(DataError, match="float32 ids of 16777216 or more"):
        model.predict(rows(u=large.astype(np.float32)))
