"""`deepfm schema`: a schema written with its reasons, read back, and held against rows."""

import numpy as np
import polars as pl
import pytest

from deepfm.cli import main
from deepfm.data.tables.schema import TableSchema


@pytest.fixture
def clicks(tmp_path):
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            **{"user_id": rng.integers(0, 30, 400), "item_id": rng.integers(0, 20, 400)},
            **{"price": rng.random(400) * 9, "click": rng.integers(0, 2, 400)},
        }
    )
    frame.write_csv(tmp_path / "clicks.csv")
    frame.write_parquet(tmp_path / "clicks.parquet")
    return tmp_path


def check(folder, frame, capsys):
    frame.write_csv(folder / "other.csv")
    code = main(["schema", "check", str(folder / "other.csv"), str(folder / "s.yaml")])
    return code, capsys.readouterr().err


@pytest.fixture
def described(clicks, capsys):
    assert main(["schema", "infer", str(clicks / "clicks.csv"), "-o", str(clicks / "s.yaml")]) == 0
    capsys.readouterr()
    return clicks


def test_csv_and_parquet_give_the_same_schema(clicks):
    for kind in ("csv", "parquet"):
        assert main(["schema", "infer", str(clicks / f"clicks.{kind}"), "-o", str(clicks / f"{kind}.yaml")]) == 0
    schema = TableSchema.load(clicks / "csv.yaml")
    assert schema == TableSchema.load(clicks / "parquet.yaml")
    assert (schema.label, schema.user, schema.item) == ("click", "user_id", "item_id")
    assert {name: its.type for name, its in schema.columns.items()} == {
        **{"user_id": "sparse", "item_id": "sparse", "price": "dense"}
    }


def test_nothing_is_overwritten_unasked(described, capsys):
    before = (described / "s.yaml").read_bytes()
    argv = ["schema", "infer", str(described / "clicks.csv"), "-o", str(described / "s.yaml"), "--time", "price"]
    assert main(argv) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (described / "s.yaml").read_bytes() == before
    assert main([*argv, "--overwrite"]) == 0
    assert (described / "s.yaml").read_bytes() != before


def test_the_table_itself_is_never_replaced(clicks, capsys):
    before = (clicks / "clicks.csv").read_bytes()
    assert main(["schema", "infer", str(clicks / "clicks.csv"), "-o", str(clicks / "clicks.csv"), "--overwrite"]) == 2
    assert "is a file of the table that is read" in capsys.readouterr().err
    assert (clicks / "clicks.csv").read_bytes() == before


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_first_bad_row_and_what_stands_in_it(tmp_path, capsys, suffix):
    prices = ["1.5"] * 6000
    prices[9], prices[4000] = "cheap", "dear"
    frame = pl.DataFrame({"click": [0, 1] * 3000, "price": prices, "device": ["web", "ios"] * 3000})
    (tmp_path / "s.yaml").write_text("label: click\ncolumns: {price: {type: dense}, device: {type: dense}}\n")
    file = tmp_path / f"t.{suffix}"
    (frame.write_csv if suffix == "csv" else frame.write_parquet)(file)
    assert main(["schema", "check", str(file), str(tmp_path / "s.yaml")]) == 2
    said = capsys.readouterr().err
    assert "holds 'cheap' in row 10 (2 such rows)" in said
    assert "holds 'web' in row 1 (6,000 such rows)" in said


def test_vectors_and_weights_are_looked_at(tmp_path, capsys):
    frame = pl.DataFrame({"click": [0, 1] * 50, "item": list(range(100)), "w": [0.0] * 100})
    frame.write_csv(tmp_path / "t.csv")
    columns = f"{{item: {{type: vector, vectors: {tmp_path / 'none.parquet'}}}}}"
    (tmp_path / "s.yaml").write_text(f"label: click\nweight: w\ncolumns: {columns}\n")
    assert main(["schema", "check", str(tmp_path / "t.csv"), str(tmp_path / "s.yaml")]) == 2
    said = capsys.readouterr().err
    assert "none.parquet does not exist; name a Parquet file of two columns" in said
    assert "weight column 'w'" in said
    assert "is 0 in every row" in said


@pytest.mark.parametrize("names", ["", "a,,b"])
def test_names_that_are_none(clicks, capsys, names):
    assert main(["schema", "infer", str(clicks / "clicks.csv"), "--columns", names]) == 2
    assert "has an empty name" in capsys.readouterr().err


def test_a_table_fits_its_own_schema(described, capsys):
    assert main(["schema", "check", str(described / "clicks.parquet"), str(described / "s.yaml")]) == 0
    assert "400 rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("column", "cell", "words"),
    [
        ("click", "2", ["'click'", "'2' in row 8", "0 or 1"]),
        ("click", "yes", ["'click'", "'yes' in row 8", "0 or 1"]),
        ("click", None, ["'click'", "nothing in row 8", "0 or 1"]),
        ("price", "cheap", ["'price'", "'cheap' in row 8", "finite number"]),
    ],
)
def test_a_bad_cell_is_named_with_its_row(described, capsys, column, cell, words):
    frame = pl.read_csv(described / "clicks.csv", infer_schema=False).with_row_index("row of the file")
    spoilt = pl.when(pl.col("row of the file") == 7).then(pl.lit(cell)).otherwise(pl.col(column))
    code, err = check(described, frame.with_columns(spoilt.alias(column)).drop("row of the file"), capsys)
    assert code == 2
    assert err.count("\n") == 1
    for word in words:
        assert word in err


def test_every_fault_is_listed(described, capsys):
    frame = pl.read_csv(described / "clicks.csv").drop("price").with_columns(click=pl.lit(1))
    code, err = check(described, frame, capsys)
    assert code == 2
    assert "no dense column 'price'" in err
    assert "is 1 in every one of 400 rows" in err
