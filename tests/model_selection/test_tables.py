"""The catalogue, the outcomes and the probe scores: what they refuse, and what their matrices hold."""

import numpy as np
import polars as pl
import pytest

from deepfm.errors import DataError
from deepfm.model_selection.catalogue import Catalogue
from deepfm.model_selection.outcomes import Outcomes
from deepfm.model_selection.probe_scores import ProbeScores


def outcome(model="a", dataset="d", value=0.5, **further):
    return {"model": model, "dataset": dataset, "metric": "accuracy", "value": value, "origin": "measured", **further}


def outcomes(*rows):
    return Outcomes(pl.DataFrame(list(rows), infer_schema_length=None))


def catalogue(tmp_path, **columns):
    rows = {"model": ["a", "b"], "family": ["f", "g"], "architecture": ["x", "x"], **columns}
    return Catalogue(pl.DataFrame(rows), tmp_path)


def test_a_cell_is_the_mean_over_seeds():
    table = outcomes(
        outcome(seed=0, value=0.5), outcome(seed=1, value=0.7), outcome(model="b", value=0.9), outcome(dataset="e")
    )
    matrix = table.matrix()
    assert (matrix.models, matrix.tasks) == (("a", "b"), ("d", "e"))
    np.testing.assert_allclose(matrix.values, [[0.6, 0.5], [0.9, np.nan]])
    np.testing.assert_allclose(matrix.deviations, [[0.1 * np.sqrt(2), np.nan], [np.nan, np.nan]])
    assert matrix.seeds.tolist() == [[2, 1], [1, 0]]
    assert table.by_seed().values.shape == (2, 2, 2)
    assert table.matrix(models=["b", "z"], tasks=["d"]).values[0, 0] == 0.9


@pytest.mark.parametrize("column", ["split", "recipe"])
def test_unlike_values_of_one_task_are_not_averaged(column):
    table = outcomes(outcome(value=0.5, **{column: "one"}), outcome(model="b", value=0.9, **{column: "two"}))
    with pytest.raises(DataError, match=f"'d' are of unlike {column}s .'one', 'two'.*name one {column}"):
        table.matrix()
    assert table.matrix(**{column: "two"}).values.tolist() == [[0.9]]
    with pytest.raises(DataError, match=f"has the {column} 'three'; the table has 'one', 'two'"):
        table.matrix(**{column: "three"})


def test_tasks_may_differ_in_recipe():
    table = outcomes(outcome(recipe="one"), outcome(dataset="e", recipe="two"))
    assert table.matrix().values.shape == (1, 2)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([outcome(value=float("nan"))], "expected a finite number"),
        ([outcome() | {"origin": "guessed"}], "'guessed' of an outcome is unknown"),
        ([outcome(), outcome(value=0.6)], "stands twice"),
        ([{"model": "a"}], "no column 'dataset'"),
        ([outcome(value="high")], "'value' that is no Float64"),
        ([outcome(seed=1.5)], "'seed' that is no Int64"),
        ([outcome(model=None), outcome()], "1 rows without 'model'"),
    ],
)
def test_rows_that_are_no_outcomes_are_refused(rows, says):
    with pytest.raises(DataError, match=says):
        outcomes(*rows)


def test_a_derived_value_is_no_truth():
    table = outcomes(outcome(), outcome(model="b") | {"origin": "derived"})
    with pytest.raises(DataError, match="derived, not measured"):
        table.matrix()
    with pytest.raises(DataError, match="no outcome has the metric 'loss'; the table has 'accuracy'"):
        table.matrix(metric="loss")


def test_tables_come_back_as_they_were(tmp_path):
    table = outcomes(outcome(seed=3), outcome(model="b", recipe="r"))
    table.save(tmp_path / "outcomes.parquet")
    assert Outcomes.load(tmp_path / "outcomes.parquet").rows.equals(table.rows)
    models = catalogue(tmp_path, parameters=[5, None])
    models.rows.write_csv(tmp_path / "models.CSV")
    assert Catalogue.load(tmp_path / "models.CSV").rows.equals(models.rows)
    with pytest.raises(DataError, match="does not exist"):
        Outcomes.load(tmp_path / "nothing.parquet")
    (tmp_path / "noise.parquet").write_bytes(b"noise")
    with pytest.raises(DataError, match="cannot be read as a table"):
        Outcomes.load(tmp_path / "noise.parquet")


def test_joined_outcomes_refuse_the_same_one_twice():
    first, second = outcomes(outcome()), outcomes(outcome(model="b"))
    assert len(first.joined(second)) == 2
    with pytest.raises(DataError, match="stands twice"):
        first.joined(first)


def test_a_catalogue_keeps_order_and_costs(tmp_path):
    models = catalogue(tmp_path, parameters=[5, None], latency_ms=[1.5, 2.0], note=["x", "y"])
    assert models.subset(["b", "a"]).models == ["b", "a"]
    assert models.subset(["b"]).rows["note"].to_list() == ["y"]
    np.testing.assert_array_equal(models.costs("parameters"), [5, np.nan])
    assert models.row("a")["latency_ms"] == 1.5
    assert len(models.joined(Catalogue(models.rows.with_columns(pl.col("model") + "2"), tmp_path))) == 4
    for call in (lambda: models.subset(["a", "z"]), lambda: models.row("z")):
        with pytest.raises(DataError, match="'z' is not in the catalogue of 2"):
            call()
    with pytest.raises(DataError, match="has no weights"):
        models.weights_of("a")


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"model": ["a", "a"]}, "more than once"),
        ({"model": ["a", ""]}, "empty name"),
        ({"macs": [-1.0, 2.0]}, "macs = -1.0 for model 'a'"),
        ({"latency_ms": [1.0, float("inf")]}, "latency_ms = inf for model 'b'"),
        ({"family": ["f", None]}, "without 'family'"),
    ],
)
def test_rows_that_are_no_catalogue_are_refused(tmp_path, columns, says):
    with pytest.raises(DataError, match=says):
        catalogue(tmp_path, **columns)


def test_weights_are_relative_to_the_folder(tmp_path):
    models = catalogue(tmp_path, weights=["w.safetensors", "gone.safetensors"])
    (tmp_path / "w.safetensors").touch()
    assert models.weights_of("a") == tmp_path / "w.safetensors"
    with pytest.raises(DataError, match="are not at"):
        models.weights_of("b")
    with pytest.raises(DataError, match="save it as its own"):
        models.joined(models)


def test_probe_scores_become_matrices(tmp_path):
    rows = [("a", "d", "LogME", 0.5), ("b", "d", "LogME", 0.7), ("a", "e", "k-NN", 0.9)]
    table = ProbeScores(pl.DataFrame(rows, schema=["model", "dataset", "probe", "value"], orient="row"))
    found = table.matrices(["b", "a"], ["d", "e"])
    np.testing.assert_array_equal(found["LogME"], [[0.7, np.nan], [0.5, np.nan]])
    np.testing.assert_array_equal(found["k-NN"], [[np.nan, np.nan], [np.nan, 0.9]])
    table.save(tmp_path / "probes.parquet")
    assert ProbeScores.load(tmp_path / "probes.parquet").rows.equals(table.rows)
    with pytest.raises(DataError, match="'LogME' of model 'a' on 'd' stands twice"):
        table.joined(table)
    with pytest.raises(DataError, match="expected a finite number"):
        ProbeScores(table.rows.with_columns(pl.lit(np.nan).alias("value")))
