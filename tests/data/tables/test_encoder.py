"""From rows to indices: fitted on training rows alone, the same from every file format, bit for bit after saving."""

import json

import numpy as np
import polars as pl
import pytest
import torch

from deepfm.config import load_config
from deepfm.data.categories import CategoryEncoder
from deepfm.data.saved_encoders import load_encoders, save_encoders
from deepfm.data.tables.encoder import TableEncoder
from deepfm.data.tables.files import scan_table
from deepfm.data.tables.schema import TableColumn, TableSchema
from deepfm.data.transforms import MinMaxScaler
from deepfm.errors import DataError, NotFittedError, SchemaError
from deepfm.models import create_model

SCHEMA = TableSchema.from_dict(
    {
        "label": "y",
        "user": "u",
        "item": "i",
        "columns": {
            "u": {"min_count": 2},
            "p": {"type": "dense"},
            "raw": {"type": "dense", "scale": "none"},
            "g": {"type": "sequence", "max_length": 2},
            "i": {"oov": "learned", "embedding_dim": 8},
            "h": {"type": "sequence", "max_length": 2, "combiner": "none", "shares_embedding_with": "i"},
        },
    }
)
TRAIN = pl.DataFrame(
    {
        "y": [0, 1, 1, 0],
        "u": ["b", "b", "c", "a"],
        "p": [1.0, 3.0, 2.0, 1.0],
        "raw": [10, -2, 0, 5],
        "g": ["x|y|z", "", "y", None],
        "i": [5, 6, 7, 5],
        "h": [[5, 6, 9], [], None, [7]],
    }
)


@pytest.fixture
def fitted():
    return TableEncoder(SCHEMA).fit(TRAIN.lazy())


class TestByHand:
    def test_training_rows(self, fitted):
        arrays = fitted.transform(TRAIN.lazy())
        assert arrays["u"].tolist() == [1, 1, 0, 0]  # b is known, c and a stand once
        assert arrays["p"].tolist() == [0.0, 1.0, 0.5, 0.0]
        assert arrays["raw"].tolist() == [10.0, -2.0, 0.0, 5.0]
        assert arrays["g"].tolist() == [[1, 2], [0, 0], [2, 0], [0, 0]]  # the first two tokens
        assert arrays["i"].tolist() == [2, 3, 4, 2]
        assert arrays["h"].tolist() == [[3, 5], [0, 0], [0, 0], [4, 0]]  # the latest two; 9 is known from here
        assert {name: array.dtype for name, array in arrays.items()} == {
            **dict.fromkeys("ugih", np.int32),
            **dict.fromkeys(("p", "raw"), np.float32),
        }

    def test_rows_never_seen(self, fitted):
        rows = pl.DataFrame(
            {
                **{"y": [1, 0, 1], "u": ["a", "b", None], "p": [9.0, 2.0, -1.0], "raw": [1.5, 2.5, 3.5]},
                **{"g": ["q|z", "z|q|x|y", ""], "i": [7, 8, None], "h": [[5, 8], [8], [9, 5, 6]]},
            }
        )
        arrays = fitted.transform(rows.lazy())
        assert arrays["u"].tolist() == [0, 1, 0]
        assert arrays["p"].tolist() == [1.0, 0.5, 0.0]  # clipped to the training rows' range
        assert arrays["g"].tolist() == [[3, 0], [3, 1], [0, 0]]  # an unknown token takes no place
        assert arrays["i"].tolist() == [4, 1, 1]  # unknown and missing have the learned row, after padding
        assert arrays["h"].tolist() == [[2, 1], [1, 0], [2, 3]]

    def test_the_schema_that_follows(self, fitted):
        schema = fitted.dataset_schema()
        sizes = {field.name: (field.vocabulary_size, field.embedding_dim) for field in schema.fields.values()}
        assert sizes == {"u": (2, 16), "p": (0, 16), "raw": (0, 16), "g": (4, 16), "i": (6, 8), "h": (6, 8)}
        assert (schema.user_field, schema.item_field, schema.label_field) == ("u", "i", "y")
        assert [field.name for field in schema.behaviour_fields] == ["h"]
        assert (schema.fields["u"].group, schema.fields["g"].max_length) == ("user", 2)

    def test_a_dataset_fits_its_schema_and_trains_a_model_of_histories(self, fitted):
        dataset, schema = fitted.dataset(TRAIN.lazy()), fitted.dataset_schema()
        dataset.check(schema)
        assert dataset.labels.tolist() == [0.0, 1.0, 1.0, 0.0]
        torch.manual_seed(0)
        model = create_model("din", schema, load_config(None))
        features, _ = dataset.batch(slice(0, 4))
        before = model.predict(features)
        features["h"] = torch.tensor([[4, 5], [0, 0], [0, 0], [4, 0]])
        assert (model.predict(features)[0] != before[0]).all()
        assert torch.equal(model.predict(features)[1:], before[1:])


class TestSources:
    def text(self, value):
        return "" if value is None else "|".join(map(str, value)) if isinstance(value, list) else str(value)

    @pytest.mark.parametrize("suffix", ["csv", "csv.gz", "parquet"])
    def test_every_format_gives_the_same_indices(self, suffix, fitted, tmp_path):
        path = tmp_path / f"rows.{suffix}"
        if suffix == "parquet":
            TRAIN.write_parquet(path)
        else:
            lists = TRAIN["h"].to_list()
            flat = TRAIN.with_columns(h=pl.Series([None if v is None else "|".join(map(str, v)) for v in lists]))
            flat.write_csv(path, compression="gzip" if suffix.endswith("gz") else "uncompressed")
        table = scan_table(path)
        again = TableEncoder(SCHEMA).fit(table, path)
        expected = fitted.transform(TRAIN.lazy())
        for encoder in (fitted, again):
            arrays = encoder.transform(table, path)
            for name, array in expected.items():
                assert np.array_equal(arrays[name], array), name

    def test_ids_are_compared_as_text_whatever_holds_them(self):
        schema = TableSchema("y", {"a": TableColumn()})
        encoder = TableEncoder(schema).fit(pl.DataFrame({"a": [7, 10, 7]}).lazy())
        assert encoder.encoders["a"].values == ["10", "7"]
        for column in (
            ["7", "10"],
            [7.0, 10.0],
            pl.Series([7, 10], dtype=pl.UInt8),
            pl.Series(["7", "10"]).cast(pl.Categorical),
        ):
            assert encoder.transform(pl.DataFrame({"a": column}).lazy())["a"].tolist() == [2, 1]
        assert encoder.transform(pl.DataFrame({"a": [7.0, None, float("nan"), 7.5]}).lazy())["a"].tolist() == [
            2,
            0,
            0,
            0,
        ]

    def test_a_csv_that_pandas_rewrote_holds_the_same_ids(self, tmp_path):
        """One gap makes pandas write 7.0 for 7, and True for true."""
        schema = TableSchema("y", {"a": TableColumn(), "b": TableColumn(), "t": TableColumn("sequence", max_length=3)})
        (tmp_path / "train.csv").write_text("a,b,t\n7,true,7|x\n10,false,x\n1.05,true,v1.0\n-3,true,\n")
        (tmp_path / "test.csv").write_text("a,b,t\n7.0,True,7.0 | x\n,FALSE, x\n 10.00 ,true,v1.0\n-3.0,False,v1\n")
        encoder = TableEncoder(schema).fit(scan_table(tmp_path / "train.csv"))
        assert encoder.encoders["a"].values == ["-3", "1.05", "10", "7"]
        assert encoder.encoders["t"].values == ["7", "v1.0", "x"]  # a version is no whole number
        arrays = encoder.transform(scan_table(tmp_path / "test.csv"))
        assert arrays["a"].tolist() == [4, 0, 3, 1]
        assert arrays["b"].tolist() == [2, 1, 2, 1]
        assert arrays["t"].tolist() == [[1, 3, 0], [3, 0, 0], [2, 0, 0], [0, 0, 0]]

    def test_blanks_are_no_part_of_an_id(self):
        schema = TableSchema("y", {"a": TableColumn(), "t": TableColumn("sequence", max_length=2)})
        rows = pl.DataFrame({"a": [" 7", "7 ", "u v"], "t": ["a | b", "b|a", " | "]})
        encoder = TableEncoder(schema).fit(rows.lazy())
        assert encoder.encoders["a"].values == ["7", "u v"]
        assert encoder.encoders["t"].values == ["a", "b"]
        assert encoder.transform(rows.lazy())["t"].tolist() == [[1, 2], [2, 1], [0, 0]]

    def test_no_id_is_too_long(self):
        """2**53 + 1 is no float; as text it is itself."""
        ids = [2**53, 2**53 + 1, 2**63 - 1]
        schema = TableSchema("y", {"a": TableColumn()})
        arrays = TableEncoder(schema).fit(pl.DataFrame({"a": ids}).lazy()).transform(pl.DataFrame({"a": ids}).lazy())
        assert sorted(arrays["a"].tolist()) == [1, 2, 3]

    def test_a_column_of_one_value_and_numbers_in_text(self):
        schema = TableSchema("y", {"p": TableColumn("dense"), "b": TableColumn()})
        rows = pl.DataFrame({"p": [" 4 ", "4"], "b": [True, False]})
        arrays = TableEncoder(schema).fit(rows.lazy()).transform(rows.lazy())
        assert arrays["p"].tolist() == [0.0, 0.0]
        assert sorted(arrays["b"].tolist()) == [1, 2]

    def test_rows_keep_their_order(self):
        """A large table is worked on in pieces; each row stays where it was."""
        rng = np.random.default_rng(0)
        ids = rng.integers(0, 5_000, 300_000)
        schema = TableSchema("y", {"a": TableColumn(min_count=3)})
        rows = pl.DataFrame({"a": ids})
        encoder = TableEncoder(schema).fit(rows.lazy())
        codes = encoder.transform(rows.lazy())["a"]
        counts = np.bincount(ids, minlength=5_000)
        known = sorted(str(value) for value in np.flatnonzero(counts >= 3))
        assert encoder.encoders["a"].values == known
        place = {int(value): index for index, value in enumerate(known, start=1)}
        assert codes.tolist() == [place.get(value, 0) for value in ids.tolist()]


class TestSaving:
    def test_a_round_trip_changes_no_index(self, fitted, tmp_path):
        save_encoders(fitted.encoders, tmp_path / "encoders.json")
        again = TableEncoder(SCHEMA, load_encoders(tmp_path / "encoders.json"))
        expected, arrays = fitted.transform(TRAIN.lazy()), again.transform(TRAIN.lazy())
        assert all(np.array_equal(arrays[name], array) for name, array in expected.items())
        assert again.dataset_schema() == fitted.dataset_schema()

    def test_only_what_is_needed_is_saved(self, fitted):
        assert set(fitted.encoders) == {"u", "p", "g", "i"}  # h has i's, raw none
        assert fitted.encoders["i"].to_dict() == {
            **{"kind": "category", "min_count": 1, "oov": "learned", "missing": False},
            "values": ["5", "6", "7", "9"],
        }

    @pytest.mark.parametrize("values", [["a", "a"], ["a", 3], "ab", None])
    def test_a_damaged_file_is_refused(self, tmp_path, values):
        state = {"kind": "category", "min_count": 1, "oov": "padding", "missing": False, "values": values}
        (tmp_path / "encoders.json").write_text(json.dumps({"a": state}))
        with pytest.raises(DataError, match=r"encoders\.json"):
            load_encoders(tmp_path / "encoders.json")


class TestCategories:
    def test_inverse_gives_the_values_back(self):
        encoder = CategoryEncoder(min_count=2, oov="learned").fit(["b", "a", "b", "a", "c", None, "", ""])
        assert encoder.values == ["a", "b"]
        assert encoder.transform(["c", "b", None, "a", ""]).tolist() == [1, 3, 1, 2, 1]
        assert encoder.inverse_transform([0, 1, 2, 3]).tolist() == [None, None, "a", "b"]
        with pytest.raises(DataError, match="index 4"):
            encoder.inverse_transform([4])

    def test_nothing_known_is_all_unknown(self):
        encoder = CategoryEncoder(min_count=9).fit(["a", None])
        assert (encoder.vocabulary_size, encoder.transform(["a", None, "b"]).tolist()) == (1, [0, 0, 0])

    def test_it_must_be_fitted(self):
        with pytest.raises(NotFittedError, match="fit on the training split"):
            CategoryEncoder().transform(["a"])
        with pytest.raises(NotFittedError, match="column 'u'"):
            TableEncoder(SCHEMA).transform(TRAIN.lazy())


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"p": ["1", "dear", "2", "3"]}, ["dense column 'p' of rows.csv", "'dear' in row 2", "finite number"]),
            ({"p": [1.0, 2.0, None, 3.0]}, ["dense column 'p'", "nothing in row 3"]),
            ({"raw": [1.0, float("nan"), 2.0, 3.0]}, ["dense column 'raw'", "nan in row 2"]),
            ({"raw": [1.0, 2.0, 3.0, float("-inf")]}, ["dense column 'raw'", "-inf in row 4"]),
            ({"raw": [1.0, 1e300, 3.0, 0.0]}, ["dense column 'raw'", "1e+300 in row 2"]),
            ({"raw": [[1], [2], [3], [4]]}, ["column 'raw' of rows.csv is of type List", "expected numbers"]),
            ({"u": [[1], [2], [3], [4]]}, ["column 'u' of rows.csv is of type List", "type: sequence"]),
            ({"y": [0, 1, 2, 0]}, ["column 'y' of rows.csv", "2 in row 3", "from 0 to 1"]),
            ({"y": [0.0, 1.0, -0.5, 0.0]}, ["-0.5 in row 3"]),
            ({"y": ["0", "1", "yes", "0"]}, ["'yes' in row 3"]),
            ({"y": [0, None, 1, 0]}, ["nothing in row 2"]),
        ],
    )
    def test_a_row_is_named(self, fitted, changes, words):
        rows = TRAIN.with_columns(**{name: pl.Series(values, strict=False) for name, values in changes.items()})
        with pytest.raises(DataError) as refusal:
            fitted.dataset(rows.lazy(), "rows.csv")
        for word in words:
            assert word in str(refusal.value)
        assert "\n" not in str(refusal.value)

    def test_a_missing_column_is_named_with_the_nearest(self, fitted):
        with pytest.raises(DataError, match=r"rows\.csv has no column 'raw'; did you mean 'row'"):
            fitted.dataset(TRAIN.rename({"raw": "row"}).lazy(), "rows.csv")
        with pytest.raises(DataError, match="no column 'y'"):
            fitted.dataset(TRAIN.drop("y").lazy(), "rows.csv")
        fitted.transform(TRAIN.drop("y").lazy())  # features alone need no label

    def test_no_rows(self, fitted):
        with pytest.raises(DataError, match=r"rows\.csv holds a header and no rows"):
            fitted.dataset(TRAIN.clear().lazy(), "rows.csv")

    def test_nothing_to_learn(self):
        with pytest.raises(DataError, match="no value of column 'a' stands in 3 or more rows"):
            TableEncoder(TableSchema("y", {"a": TableColumn(min_count=3)})).fit(pl.DataFrame({"a": [1, 2, 2]}).lazy())
        with pytest.raises(DataError, match="column 'a' of the table holds no number"):
            TableEncoder(TableSchema("y", {"a": TableColumn("dense")})).fit(pl.DataFrame({"a": ["x", None]}).lazy())

    def test_lists_that_are_all_empty_are_no_missing_rows(self):
        rows = pl.DataFrame({"h": pl.Series([[], []], dtype=pl.List(pl.Int64))})
        schema = TableSchema("y", {"h": TableColumn("sequence", max_length=2)})
        with pytest.raises(DataError, match="no value of column 'h' stands in 1 or more rows"):
            TableEncoder(schema).fit(rows.lazy())
        with pytest.raises(DataError, match="a header and no rows"):
            TableEncoder(schema).fit(rows.clear().lazy())

    def test_a_range_that_no_float_holds(self):
        schema = TableSchema("y", {"p": TableColumn("dense")})
        with pytest.raises(DataError, match=r"column 'p' of the table goes from -1e\+308 to 1e\+308"):
            TableEncoder(schema).fit(pl.DataFrame({"p": [-1e308, 1e308]}).lazy())
        saved = TableEncoder(schema, {"p": MinMaxScaler.from_dict({"low": -1e308, "high": 1e308})})
        with pytest.raises(DataError, match=r"1e\+308 in row 2"):
            saved.transform(pl.DataFrame({"p": [-1e308, 1e308]}).lazy())

    @pytest.mark.parametrize("values", [pl.Series([1], dtype=pl.Duration), pl.Series([{1}], dtype=pl.Object)])
    def test_a_type_that_is_no_id(self, values):
        with pytest.raises(DataError, match=r"column 'a' of the table is of type .*; expected text or whole numbers"):
            TableEncoder(TableSchema("y", {"a": TableColumn()})).fit(pl.DataFrame({"a": values}).lazy())

    def test_widths_of_a_shared_table(self):
        columns = {"a": {"embedding_dim": 4}, "b": {"shares_embedding_with": "a", "embedding_dim": 8}}
        schema = TableSchema.from_dict({"label": "y", "columns": columns})
        encoder = TableEncoder(schema).fit(pl.DataFrame({"a": [1], "b": [2]}).lazy())
        with pytest.raises(SchemaError, match="embedding_dim 8"):
            encoder.dataset_schema()
