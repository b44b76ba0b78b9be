"""Encodings of real data by hand: hashes, buckets, missing values, cycles, vectors, weights; and saving them."""

import math

import numpy as np
import polars as pl
import pytest

from deepfm.data.saved_encoders import MOST_VALUES, load_encoders, save_encoders
from deepfm.data.tables.encoder import TableEncoder
from deepfm.data.tables.schema import TableColumn, TableSchema
from deepfm.data.vocabularies import HashEncoder, QuantileBuckets, fnv1a
from deepfm.errors import DataError, SchemaError


def encode(column: TableColumn, train: list, rows: list | None = None, kind=None):
    """One column's arrays, fitted on `train`."""
    encoder = TableEncoder(TableSchema("y", {"x": column}))
    encoder.fit(pl.DataFrame({"x": pl.Series(train, dtype=kind, strict=False)}).lazy())
    given = train if rows is None else rows
    return encoder.transform(pl.DataFrame({"x": pl.Series(given, dtype=kind, strict=False)}).lazy())["x"], encoder


class TestHashes:
    def test_published_values_of_fnv1a(self):  # draft-eastlake-fnv, appendix C
        found = fnv1a(pl.Series(["", "a", "foobar", None]))
        assert found.tolist() == [0xCBF29CE484222325, 0xAF63DC4C8601EC8C, 0x85944171F73967E8, 0xCBF29CE484222325]

    def test_every_slice_hashes_alike(self):
        texts = pl.Series(["ä", "", "long text of many letters", "b", None] * 5)
        assert fnv1a(texts[3:9]).tolist() == fnv1a(texts).tolist()[3:9]

    def test_a_new_value_has_a_bucket_and_an_empty_one_has_none(self):
        codes, encoder = encode(TableColumn(hash_buckets=50), ["a", "b"], ["a", "new", "", None])
        assert codes[0] == HashEncoder(50).encode(pl.Series(["a"]))[0]
        assert 1 <= codes[1] <= 50
        assert codes[2:].tolist() == [0, 0]
        assert encoder.dataset_schema().fields["x"].vocabulary_size == 51

    def test_seven_is_seven_in_every_type(self):
        one = HashEncoder(1000).encode(pl.Series(["7"]))[0]
        for values, kind in (([7], pl.Int64), ([7.0], pl.Float64), ([" 7.0 "], pl.String)):
            assert encode(TableColumn(hash_buckets=1000), values, kind=kind)[0].tolist() == [one]


class TestBuckets:
    def test_quantiles_by_hand(self):
        codes, encoder = encode(
            TableColumn(buckets="quantile", num_buckets=4), list(range(8)), [-5.0, 0, 2, 3.9, 4, 99, None, math.nan]
        )
        assert encoder.encoders["x"].edges.tolist() == [2.0, 4.0, 6.0]
        assert codes.tolist() == [1, 1, 2, 2, 3, 4, 0, 0]

    def test_equal_quantiles_are_one(self):
        assert QuantileBuckets.fit([0.0] * 90 + [1.0] * 10, 10).edges.tolist() == [1.0]

    def test_logarithms_by_hand(self):  # value > 2: floor(ln(x)^2)
        values = [0, 1, 2, 3, 100, 101, -3, None]
        _, encoder = encode(TableColumn(buckets="log"), values)
        squares = {str(math.floor(math.log(x) ** 2)) for x in (3, 100, 101)}
        assert set(encoder.encoders["x"].values) == {"0", "1", "2", "-3", *squares}

    def test_text_is_no_number(self):
        for buckets in ("log", "quantile"):
            with pytest.raises(DataError, match=r"'x' of the table holds 'abc' in row 2; expected a number"):
                encode(TableColumn(buckets=buckets), ["1", "2"], ["1", "abc"])


class TestMissing:
    def test_of_ids_is_a_value_of_its_own(self):
        codes, _ = encode(TableColumn(missing="own"), ["a", None, "", "b"], ["", "b", "c", None])
        assert codes.tolist() == [1, 3, 0, 1]

    def test_of_numbers_is_a_second_number(self):
        values, encoder = encode(TableColumn("dense", missing="own"), ["1", "", "3"], ["", "2", "3"])
        assert values.tolist() == [[0.0, 1.0], [0.5, 0.0], [1.0, 0.0]]
        assert encoder.dataset_schema().fields["x"].dimension == 2

    def test_text_is_not_missing(self):
        with pytest.raises(DataError, match=r"'n/a' in row 1"):
            encode(TableColumn("dense", missing="own"), ["1", "2"], ["n/a"])

    def test_refused_by_default(self):
        with pytest.raises(DataError, match=r"nothing in row 2.*missing: own"):
            encode(TableColumn("dense"), [1.0, 2.0], [1.0, None])

    def test_learned_unknown_is_index_one(self):
        codes, _ = encode(TableColumn(oov="learned", min_count=2), ["a", "a", "b"], ["a", "b", "new", None])
        assert codes.tolist() == [2, 1, 1, 1]


class TestNumbers:
    def test_standard(self):
        values, _ = encode(TableColumn("dense", scale="standard"), [1.0, 3.0], [1.0, 2.0, 5.0])
        assert values.tolist() == [-1.0, 0.0, 3.0]

    def test_batches_are_joined_exactly(self, monkeypatch):
        from deepfm.data.tables import rows as table_rows

        monkeypatch.setattr(table_rows.frames, "__defaults__", (7,))
        numbers = np.random.default_rng(0).lognormal(0, 2, 100)
        _, encoder = encode(TableColumn("dense", scale="standard"), numbers.tolist())
        scaler = encoder.encoders["x"]
        assert np.allclose([scaler.mean, scaler.deviation], [numbers.mean(), numbers.std()], rtol=1e-12)

    def test_cycles_by_hand(self):
        column = TableColumn("time", periods=("hour", "weekday"))
        noon_of_a_monday = 4 * 86_400 + 12 * 3_600  # 1970-01-05
        for moment in (noon_of_a_monday, noon_of_a_monday + 0.0, "1970-01-05 12:00:00", "1970-01-05T12:00:00Z"):
            values, _ = encode(column, [moment])
            assert np.allclose(values, [[0, -1, 0, 1]], atol=1e-6)
        assert encode(column, [1_700_000_000_000])[0].tolist() == encode(column, [1_700_000_000])[0].tolist()
        assert encode(column, ["1970-01-05", None])[0][1].tolist() == [0, 0, 0, 0]
        with pytest.raises(DataError, match="'soon' in row 1"):
            encode(column, ["soon"])

    def test_weights_have_mean_one_over_training(self):
        schema = TableSchema("y", {"x": TableColumn()}, weight="w")
        rows = pl.DataFrame({"x": ["a", "b"], "y": [0, 1], "w": [1.0, 3.0]})
        encoder = TableEncoder(schema).fit(rows.lazy())
        assert encoder.dataset(rows.lazy()).weights.tolist() == [0.5, 1.5]
        with pytest.raises(DataError, match=r"weight column 'w'.*-1.0 in row 1"):
            encoder.dataset(rows.with_columns(w=pl.lit(-1.0)).lazy())


class TestVectors:
    def test_lists_in_the_rows(self):
        values, encoder = encode(TableColumn("vector"), [[1.0, 2.0], None, [3.0, 4.0]])
        assert values.tolist() == [[1, 2], [0, 0], [3, 4]]
        assert encoder.dataset_schema().fields["x"].dimension == 2
        with pytest.raises(DataError, match="3 numbers in row 1; expected 2"):
            encoder.transform(pl.DataFrame({"x": [[1.0, 2.0, 3.0]]}).lazy())

    def test_by_id_from_a_file_and_saved_with_the_run(self, tmp_path):
        pl.DataFrame({"id": [7, 8], "v": [[1.0, 2.0], [3.0, 4.0]]}).write_parquet(tmp_path / "v.parquet")
        schema = TableSchema("y", {"x": TableColumn("vector", vectors=str(tmp_path / "v.parquet"))})
        rows = pl.DataFrame({"x": ["8", "7", "9"]}).lazy()
        encoder = TableEncoder(schema).fit(rows)
        assert encoder.transform(rows)["x"].tolist() == [[3, 4], [1, 2], [0, 0]]
        save_encoders(encoder.encoders, tmp_path / "encoders.json")
        (tmp_path / "v.parquet").unlink()
        again = TableEncoder(schema, load_encoders(tmp_path / "encoders.json"))
        assert again.transform(rows)["x"].tolist() == [[3, 4], [1, 2], [0, 0]]


def test_everything_is_the_same_after_saving(tmp_path):
    columns = {
        "many": TableColumn(),
        "hashed": TableColumn(hash_buckets=9, missing="own"),
        "quantile": TableColumn(buckets="quantile", num_buckets=3),
        "log": TableColumn(buckets="log", min_count=2, oov="learned"),
        "standard": TableColumn("dense", scale="standard", missing="own"),
        "vector": TableColumn("vector"),
        "time": TableColumn("time", periods=("month_day", "year_day")),
    }
    count = MOST_VALUES + 10
    rng = np.random.default_rng(0)
    rows = pl.DataFrame(
        {
            "many": [f"v{number}" for number in range(count)],
            "hashed": rng.choice(["a", "b", ""], count),
            "quantile": rng.random(count),
            "log": rng.integers(0, 10**6, count),
            "standard": [None, *rng.random(count - 1)],
            "vector": rng.random((count, 3)).tolist(),
            "time": rng.integers(0, 2 * 10**9, count),
        }
    ).lazy()
    encoder = TableEncoder(TableSchema("y", columns)).fit(rows)
    save_encoders(encoder.encoders, tmp_path / "encoders.json")
    assert (tmp_path / "vocabularies.parquet").exists()
    assert (tmp_path / "encoders.json").stat().st_size < 100_000
    again = TableEncoder(TableSchema("y", columns), load_encoders(tmp_path / "encoders.json"))
    expected, found = encoder.transform(rows), again.transform(rows)
    assert all(np.array_equal(found[name], values) for name, values in expected.items())
    assert again.dataset_schema() == encoder.dataset_schema()
    (tmp_path / "vocabularies.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="encoders"):
        load_encoders(tmp_path / "encoders.json")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"x": {"hash_buckets": 9, "min_count": 2}}, "hash_buckets"),
        ({"x": {"type": "dense", "missing": "unknown"}}, "refuse or own"),
        ({"x": {"type": "time", "missing": "own"}}, "missing"),
        ({"x": {}, "z": {"shares_embedding_with": "x", "buckets": "log"}}, "buckets"),
        ({"x": {"type": "time", "periods": ["minute"]}}, "minute"),
    ],
)
def test_an_impossible_description_is_refused(columns, words):
    with pytest.raises(SchemaError, match=words):
        TableSchema.from_dict({"label": "y", "columns": columns})
