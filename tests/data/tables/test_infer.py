"""Inference: each kind of column planted and found, CSV as Parquet, YAML read back, and no table that breaks it."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfm.data.tables.encoder import TableEncoder
from deepfm.data.tables.files import scan_table
from deepfm.data.tables.infer import infer_schema, to_yaml
from deepfm.data.tables.schema import TableSchema
from deepfm.errors import DataError, SchemaError

ROWS = 600


def base(**planted):
    rng = np.random.default_rng(1)
    user, item = rng.integers(0, 30, ROWS), rng.integers(0, 25, ROWS)
    frame = pl.DataFrame({"click": rng.integers(0, 2, ROWS), "user_id": user, "item_id": item})
    return frame.with_columns(**{name: pl.Series(values) for name, values in planted.items()})


def inferred(frame, **roles):
    return infer_schema(frame.lazy(), **roles)


def column(values, name="planted"):
    """How a planted column is described; None where it is left out."""
    found = inferred(base(**{name: values}))
    assert (name in found.reasons) != (name in found.left_out)
    return found.schema.columns.get(name)


RNG = np.random.default_rng(2)
START = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def _same_numbers_in_any_order():
    RNG.bit_generator.state = START


class TestRules:
    def test_few_texts(self):
        assert column([f"c{code}" for code in RNG.integers(0, 5, ROWS)]).type == "sparse"

    def test_fractions(self):
        its = column(RNG.random(ROWS))
        assert (its.type, its.missing) == ("dense", None)

    def test_fractions_with_gaps(self):
        assert column([None, *RNG.random(ROWS - 1)]).missing == "own"

    def test_whole_numbers_of_few_values(self):
        assert column(RNG.integers(0, 7, ROWS)).type == "sparse"

    def test_whole_numbers_under_a_name_of_ids(self):
        assert column(RNG.integers(0, 10**6, ROWS // 2).repeat(2), "campaign_id").type == "sparse"

    def test_many_whole_numbers(self):
        assert column(RNG.integers(0, 10_000, ROWS)).type == "dense"

    def test_counts_with_a_long_tail(self):
        assert column(np.floor(np.exp(RNG.normal(1, 3, ROWS))).astype(int)).buckets == "log"

    def test_lists_in_text(self):
        its = column(["|".join(f"t{tag}" for tag in RNG.integers(0, 6, 3)) for _ in range(ROWS)])
        assert (its.type, its.separator, its.max_length) == ("sequence", "|", 3)

    def test_lists(self):
        assert column([RNG.integers(0, 6, 4).tolist() for _ in range(ROWS)]).type == "sequence"

    def test_vectors(self):
        assert column([RNG.random(4).tolist() for _ in range(ROWS)]).type == "vector"

    def test_booleans(self):
        found = inferred(base(flag=RNG.random(ROWS) < 0.5), label="click")
        assert found.schema.columns["flag"].type == "sparse"

    @pytest.mark.parametrize(
        "values",
        [
            ["same"] * ROWS,
            [None] * ROWS,
            list(range(ROWS)),
            [f"r{row}" for row in range(ROWS)],
            [f"{row % 7 + 1},{row % 10}70.00" for row in range(ROWS)],
            [f"{row % 12 + 1}/{row % 28 + 1}/2026 12:{row % 60:02d}" for row in range(ROWS)],
            [f"{row % 24:02d}:{row % 60:02d}" for row in range(ROWS)],
        ],
        ids=["constant", "empty", "row number", "unique text", "thousands", "other dates", "times of a day"],
    )
    def test_left_out(self, values):
        assert column(values) is None

    def test_left_out_as_every_row_has_another_id(self):
        assert column(RNG.permutation(ROWS), "session_id") is None
        assert column(RNG.permutation(ROWS) // 2, "session_id").type == "sparse"

    def test_numbers_with_a_cell_that_is_none(self):
        frame = base(price=["nan", *(str(cell % 9 / 2) for cell in range(ROWS - 1))])
        found = inferred(frame)
        assert found.schema.columns["price"].type == "sparse"
        assert "599 of 600 cells numbers, but not 'nan'" in found.reasons["price"]

    def test_a_column_of_any_name(self):
        assert column([f"c{code}" for code in RNG.integers(0, 5, ROWS)], "count").type == "sparse"

    def test_rare_values(self):
        codes = [*range(2_000), *range(1_000)]
        frame = pl.DataFrame({"click": [0, 1] * 1_500, "code": [f"c{code}" for code in codes]})
        its = inferred(frame).schema.columns["code"]
        assert (its.min_count, its.oov) == (2, "learned")


class TestRoles:
    def test_by_name_and_group(self):
        frame = base(time=np.arange(ROWS) * 60 + 1_700_000_000)
        frame = frame.with_columns(
            city=pl.col("user_id").map_elements(lambda user: f"city{user % 4}", pl.String),
            title=pl.col("item_id").map_elements(lambda item: f"The film number {item}", pl.String),
        )
        schema = inferred(frame).schema
        roles = (schema.label, schema.user, schema.item, schema.time, schema.title)
        assert roles == ("click", "user_id", "item_id", "time", "title")
        assert "time" not in schema.columns
        assert schema.group("city") == "user"

    @pytest.mark.parametrize("form", ["%Y-%m-%d %H:%M:%S+00:00", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S.%f+01:00"])
    def test_moments_with_a_zone(self, form):
        hours = pl.datetime_range(pl.datetime(2026, 1, 1), pl.datetime(2026, 1, 25, 23), "1h", eager=True)[:ROWS]
        assert inferred(base(timestamp=hours.dt.strftime(form))).schema.time == "timestamp"

    def test_a_time_with_gaps_is_no_feature(self):
        found = inferred(base(timestamp=[None, *(1_700_000_000 + RNG.integers(0, 10**6, ROWS - 1))]))
        assert found.schema.time is None
        assert "1 cells are empty" in found.left_out["timestamp"]

    def test_row_weights(self):
        found = inferred(base(sample_weight=RNG.random(ROWS), weight=RNG.random(ROWS)))
        assert found.schema.weight == "sample_weight"
        assert set(found.schema.columns) == {"user_id", "item_id", "weight"}

    @pytest.mark.parametrize(("no", "yes"), [("False", "True"), ("false", "TRUE")])
    def test_truth_in_words(self, no, yes):
        frame = base().with_columns(click=pl.when(pl.col("click") == 1).then(pl.lit(yes)).otherwise(pl.lit(no)))
        schema = inferred(frame).schema
        assert schema.label == "click"
        rows = TableEncoder(schema).fit(frame).encode(frame)
        assert np.array_equal(rows.labels, base()["click"].to_numpy())

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (pl.col("click") * 2, "holds 2 different numbers from 0 to 2"),
            (pl.col("click") + pl.int_range(ROWS) % 2, "holds 3 different numbers from 0 to 2"),
            (pl.lit(1), "holds one value in all of 600 rows"),
            (pl.when(pl.int_range(ROWS) == 5).then(pl.lit("yes")).otherwise(pl.col("click").cast(pl.String)), "'yes'"),
        ],
    )
    def test_a_label_that_is_none_says_what_it_holds(self, change, words):
        with pytest.raises(SchemaError, match="column 'click' of the table has a label's name and holds") as refusal:
            inferred(base().with_columns(click=change))
        assert words in str(refusal.value)

    def test_as_given(self):
        frame = base(bought=RNG.integers(0, 2, ROWS), who=RNG.integers(0, 30, ROWS))
        schema = inferred(frame, label="bought", user="who").schema
        assert (schema.label, schema.user) == ("bought", "who")

    @pytest.mark.parametrize(("name", "words"), [("click", "under a label's name"), ("paid", "the only column of 0")])
    def test_the_reason_for_the_label(self, name, words):
        found = inferred(base().rename({"click": name}))
        assert found.schema.label == name
        assert words in found.reasons["label"]

    def test_labels_that_could_be_meant_are_listed(self):
        frame = base(a=RNG.integers(0, 2, ROWS), b=RNG.integers(0, 2, ROWS)).drop("click")
        with pytest.raises(SchemaError, match=r"a, b hold 0 and 1; name it with --label"):
            inferred(frame)

    def test_a_column_that_is_not_there(self):
        with pytest.raises(DataError, match="no column 'clik'; did you mean 'click'"):
            inferred(base(), label="clik")

    def test_no_rows(self):
        with pytest.raises(DataError, match="no rows"):
            inferred(base().head(0))


def test_csv_and_parquet_give_the_same(tmp_path):
    frame = base(price=RNG.random(ROWS), tags=["a|b", "b|c"] * (ROWS // 2), count=RNG.integers(0, 9_000, ROWS))
    frame.write_csv(tmp_path / "t.csv")
    frame.write_parquet(tmp_path / "t.parquet")
    first, second = (infer_schema(scan_table(tmp_path / f"t.{kind}")) for kind in ("csv", "parquet"))
    assert first.schema == second.schema


def test_reasons_stand_beside_their_columns():
    text = to_yaml(inferred(base(price=np.linspace(0.25, 9.5, ROWS), row=np.arange(ROWS))))
    (line,) = [line for line in text.splitlines() if line.startswith("  price:")]
    assert "# numbers from 0.25 to 9.5" in line
    assert "  # row is left out: whole numbers that only go up" in text


CELLS = st.one_of(
    st.none(),
    st.sampled_from(["0", "1", "1.5", "-7", "nan", "inf", "a|b", "a,b", "true", "2026-01-31", " ", "#", "1e400"]),
    st.text(max_size=6),
)
NAMES = st.sampled_from(["user_id", "item", "price", "time", "a: b", "#x", "yes", "1", "title", "ü", "'", "a\nb"])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_table_infers_or_is_refused_and_encodes_its_own_rows(tmp_path_factory, data):
    rows = data.draw(st.integers(0, 8))
    names = data.draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    table = {name: data.draw(st.lists(CELLS, min_size=rows, max_size=rows)) for name in names}
    table["click"] = [str(row % 2) for row in range(rows)]
    frame = pl.DataFrame(table, schema=dict.fromkeys(table, pl.String)).lazy()
    try:
        found = infer_schema(frame, label="click")
    except (DataError, SchemaError):
        return
    path = tmp_path_factory.mktemp("inferred") / "schema.yaml"
    path.write_text(to_yaml(found), encoding="utf-8")
    assert TableSchema.load(path) == found.schema
    encoded = TableEncoder(found.schema).fit(frame).transform(frame)
    assert {len(values) for values in encoded.values()} == {rows}
