import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from deepfm.data.saved_encoders import load_encoders, save_encoders
from deepfm.data.transforms import LabelEncoder, MinMaxScaler, MultiHotEncoder
from deepfm.errors import DataError, NotFittedError, RunError

UNTIMED = settings(deadline=None, max_examples=60)
INTEGERS = st.integers(-(2**63), 2**63 - 1)
# numpy's text drops trailing NULs, so NUL is no character of a category.
WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=6)
COLUMNS = st.one_of(
    st.tuples(st.lists(st.integers(-5, 5)), st.lists(st.integers(-8, 8))),
    st.tuples(st.lists(INTEGERS), st.lists(INTEGERS)),
    st.tuples(st.lists(WORDS), st.lists(WORDS)),
    st.tuples(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from(["a", "b", "cc", "", "z"]))),
)
TOKEN_LISTS = st.one_of(
    st.lists(st.lists(st.integers(-3, 9), max_size=7), max_size=8),
    st.lists(st.lists(st.sampled_from(["a", "b", "long word", ""]), max_size=7), max_size=8),
)


def slow_codes(fitted, values):
    codes = {value: number for number, value in enumerate(sorted(set(fitted)), start=1)}
    return [codes.get(value, 0) for value in values]


class TestLabelEncoder:
    @UNTIMED
    @given(COLUMNS)
    def test_gives_what_a_dict_of_sorted_values_gives(self, columns):
        fitted, later = columns
        encoder = LabelEncoder().fit(fitted)
        assert encoder.vocabulary_size == len(set(fitted)) + 1
        assert encoder.transform(fitted).tolist() == slow_codes(fitted, fitted)
        assert encoder.transform(later).tolist() == slow_codes(fitted, later)

    @UNTIMED
    @given(COLUMNS)
    def test_the_inverse_gives_the_values_back(self, columns):
        fitted, later = columns
        encoder = LabelEncoder()
        assert encoder.inverse_transform(encoder.fit_transform(fitted)).tolist() == fitted
        known = [value if value in set(fitted) else None for value in later]
        assert encoder.inverse_transform(encoder.transform(later)).tolist() == known

    @UNTIMED
    @given(COLUMNS)
    def test_a_json_round_trip_changes_no_bit(self, columns):
        fitted, later = columns
        encoder = LabelEncoder().fit(fitted)
        loaded = LabelEncoder.from_dict(json.loads(json.dumps(encoder.to_dict())))
        assert loaded.vocabulary_size == encoder.vocabulary_size
        assert_same_bits(loaded.transform(later), encoder.transform(later))
        assert loaded.inverse_transform(loaded.transform(fitted)).tolist() == fitted

    def test_indices_are_int64_and_start_at_one(self):
        codes = LabelEncoder().fit_transform(["b", "a", "b"])
        assert codes.dtype == np.int64
        assert codes.tolist() == [2, 1, 2]

    def test_classes_are_sorted(self):
        assert LabelEncoder().fit([30, 4, 4, 100]).classes.tolist() == [4, 30, 100]

    @pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint8, np.int64])
    def test_any_width_of_integer_is_the_same_id(self, dtype):
        encoder = LabelEncoder().fit(np.array([3, 1, 2], dtype=np.int64))
        assert encoder.transform(np.array([1, 3, 9], dtype=dtype)).tolist() == [1, 3, 0]

    def test_longer_text_than_was_fitted_is_unknown_and_not_cut(self):
        assert LabelEncoder().fit(["ab", "c"]).transform(["abc", "ab", "cc"]).tolist() == [0, 1, 0]

    def test_nothing_fitted_knows_nothing(self):
        encoder = LabelEncoder().fit([])
        assert encoder.vocabulary_size == 1
        assert encoder.transform(["a", "b"]).tolist() == [0, 0]
        assert encoder.transform([1]).tolist() == [0]

    def test_no_rows_give_no_rows(self):
        encoder = LabelEncoder().fit([1, 2])
        assert encoder.transform([]).shape == (0,)
        assert encoder.inverse_transform([]).shape == (0,)

    @pytest.mark.parametrize(("fitted", "later"), [([1, 2], ["1"]), (["1", "2"], [1]), (["a"], np.array([1]))])
    def test_text_for_numbers_and_numbers_for_text_are_refused(self, fitted, later):
        with pytest.raises(DataError, match="expected the type it was fitted on"):
            LabelEncoder().fit(fitted).transform(later)

    @pytest.mark.parametrize("values", [[1.5, 2.0], [np.nan], [1 + 2j]])
    def test_fractions_are_no_ids(self, values):
        with pytest.raises(DataError, match="expected whole numbers or text"):
            LabelEncoder().fit(values)

    def test_a_table_is_no_column(self):
        with pytest.raises(DataError, match=r"shape \(2, 2\)"):
            LabelEncoder().fit([[1, 2], [3, 4]])

    @pytest.mark.parametrize("index", [-1, 3])
    def test_an_index_outside_the_vocabulary_is_refused(self, index):
        with pytest.raises(DataError, match=f"index {index} is outside the vocabulary; expected 0 to 2"):
            LabelEncoder().fit([1, 2]).inverse_transform([0, index])

    def test_index_zero_has_no_value(self):
        assert LabelEncoder().fit([5]).inverse_transform([0, 1]).tolist() == [None, 5]

    def test_a_new_fit_forgets_the_old_one(self):
        encoder = LabelEncoder().fit([1, 2, 3])
        assert encoder.fit([9]).transform([1, 9]).tolist() == [0, 1]

    def test_whole_numbers_in_an_object_column_stay_whole_numbers(self):
        column = np.array([10, 9, 10], dtype=object)  # what pandas gives for a column that once held None
        assert LabelEncoder().fit(column).transform([9, 10, 11]).tolist() == [1, 2, 0]

    def test_unsigned_ids_beyond_int64_are_refused_instead_of_wrapped(self):
        ids = np.array([2**63 + 5, 7], dtype=np.uint64)  # hashed ids are often 64-bit unsigned
        with pytest.raises(DataError, match=r"id 9223372036854775813 is above .* give such ids as text"):
            LabelEncoder().fit(ids)


FLOATS = st.floats(-1e6, 1e6, allow_subnormal=False)


class TestMinMaxScaler:
    @UNTIMED
    @given(st.lists(FLOATS, min_size=1), st.lists(FLOATS))
    def test_gives_what_a_plain_formula_gives(self, fitted, later):
        low, high = min(fitted), max(fitted)
        assume(high > low)

        def slow(value):
            return min(1.0, max(0.0, (value - low) / (high - low)))

        scaler = MinMaxScaler().fit(fitted)
        np.testing.assert_allclose(scaler.transform(later), [slow(value) for value in later], rtol=1e-6, atol=1e-7)

    @UNTIMED
    @given(st.lists(FLOATS, min_size=1))
    def test_what_was_fitted_lands_in_zero_to_one_and_comes_back(self, fitted):
        scaler = MinMaxScaler()
        scaled = scaler.fit_transform(fitted)
        assert scaled.dtype == np.float32
        assert scaled.min() == 0
        assert scaled.max() == (1 if max(fitted) > min(fitted) else 0)
        width = max(fitted) - min(fitted)
        np.testing.assert_allclose(scaler.inverse_transform(scaled), fitted, rtol=1e-6, atol=1e-6 * (1 + width))

    @UNTIMED
    @given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1), st.lists(FLOATS))
    def test_a_json_round_trip_changes_no_bit(self, fitted, later):
        assume(max(fitted) - min(fitted) < np.inf)
        scaler = MinMaxScaler().fit(fitted)
        loaded = MinMaxScaler.from_dict(json.loads(json.dumps(scaler.to_dict())))
        assert_same_bits(loaded.transform(fitted), scaler.transform(fitted))
        assert_same_bits(loaded.transform([*later, 0.0]), scaler.transform([*later, 0.0]))

    def test_a_constant_column_gives_zero(self):
        scaled = MinMaxScaler().fit_transform([7.0, 7.0, 7.0])
        assert scaled.tolist() == [0.0, 0.0, 0.0]
        assert MinMaxScaler().fit([7.0]).inverse_transform(scaled).tolist() == [7.0, 7.0, 7.0]

    def test_a_constant_column_gives_zero_for_whatever_comes_later(self):
        assert MinMaxScaler().fit([7.0, 7.0]).transform([6.0, 7.0, 7.5, 8.0, 1e9]).tolist() == [0.0] * 5

    def test_later_values_outside_are_clipped(self):
        assert MinMaxScaler().fit([0, 10]).transform([-5, 5, 15]).tolist() == [0.0, 0.5, 1.0]

    def test_each_column_of_a_table_is_scaled_by_itself(self):
        table = np.array([[0.0, 5.0, -1.0], [2.0, 5.0, 1.0], [1.0, 5.0, 0.0]])
        scaled = MinMaxScaler().fit_transform(table)
        assert scaled.tolist() == [[0.0, 0.0, 0.0], [1.0, 0.0, 1.0], [0.5, 0.0, 0.5]]
        loaded = MinMaxScaler.from_dict(json.loads(json.dumps(MinMaxScaler().fit(table).to_dict())))
        assert_same_bits(loaded.transform(table), scaled)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_a_value_that_is_not_finite_is_refused_by_its_row(self, bad):
        with pytest.raises(DataError, match="row 1 of a number column"):
            MinMaxScaler().fit([1.0, bad])
        with pytest.raises(DataError, match="row 2 of a number column"):
            MinMaxScaler().fit([1.0, 2.0]).transform([1.0, 1.0, bad])
        with pytest.raises(DataError, match="row 0 of a number column"):
            MinMaxScaler().fit([[1.0, bad]])

    def test_no_rows_to_fit_are_refused_and_no_rows_to_transform_give_none(self):
        with pytest.raises(DataError, match="no rows"):
            MinMaxScaler().fit([])
        assert MinMaxScaler().fit([1.0]).transform([]).shape == (0,)


class TestMultiHotEncoder:
    @UNTIMED
    @given(TOKEN_LISTS, TOKEN_LISTS, st.integers(1, 5))
    def test_gives_what_a_plain_loop_gives(self, fitted, later, max_length):
        encoder = MultiHotEncoder(max_length).fit(fitted)
        if any(fitted) and any(later) and type(flat(fitted)[0]) is not type(flat(later)[0]):
            with pytest.raises(DataError):
                encoder.transform(later)
            return
        rows = [slow_codes(flat(fitted), tokens)[:max_length] for tokens in later]
        encoded = encoder.transform(later)
        assert encoded.shape == (len(later), max_length)
        assert encoded.dtype == np.int64
        assert encoded.tolist() == [row + [0] * (max_length - len(row)) for row in rows]
        assert encoder.num_cut == sum(len(tokens) > max_length for tokens in later)
        assert encoder.vocabulary_size == len(set(flat(fitted))) + 1

    @UNTIMED
    @given(TOKEN_LISTS, st.integers(1, 5))
    def test_the_inverse_gives_the_kept_tokens_back(self, lists, max_length):
        encoder = MultiHotEncoder(max_length)
        encoded = encoder.fit_transform(lists)
        assert encoder.inverse_transform(encoded) == [tokens[:max_length] for tokens in lists]

    @UNTIMED
    @given(TOKEN_LISTS, st.integers(1, 5))
    def test_a_json_round_trip_changes_no_bit(self, lists, max_length):
        encoder = MultiHotEncoder(max_length).fit(lists)
        loaded = MultiHotEncoder.from_dict(json.loads(json.dumps(encoder.to_dict())))
        assert_same_bits(loaded.transform(lists), encoder.transform(lists))
        assert loaded.num_cut == encoder.num_cut
        assert loaded.tokens.tolist() == encoder.tokens.tolist()

    def test_an_unknown_token_is_zero_where_it_stands(self):
        assert MultiHotEncoder(3).fit([["a", "b"]]).transform([["a", "z", "b"]]).tolist() == [[1, 0, 2]]

    def test_the_cut_is_counted_anew_each_time(self):
        encoder = MultiHotEncoder(2).fit([["a"]])
        encoder.transform([["a", "a", "a"], ["a"] * 5, ["a", "a"], []])
        assert encoder.num_cut == 2
        encoder.transform([["a"]])
        assert encoder.num_cut == 0

    def test_tuples_arrays_and_generators_are_lists_too(self):
        encoder = MultiHotEncoder(2).fit(tokens for tokens in [("a",), np.array(["b", "c"])])
        assert encoder.transform(tokens for tokens in [np.array(["c"]), ("b", "a")]).tolist() == [[3, 0], [2, 1]]

    def test_numbers_for_text_are_refused(self):
        with pytest.raises(DataError, match="expected the type it was fitted on"):
            MultiHotEncoder(2).fit([["a"]]).transform([[1]])

    @pytest.mark.parametrize("max_length", [0, -1])
    def test_a_length_below_one_is_refused(self, max_length):
        with pytest.raises(DataError, match=f"max_length is {max_length}"):
            MultiHotEncoder(max_length)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: LabelEncoder().transform([1]),
        lambda: LabelEncoder().inverse_transform([1]),
        lambda: LabelEncoder().vocabulary_size,
        lambda: LabelEncoder().to_dict(),
        lambda: MinMaxScaler().transform([1.0]),
        lambda: MinMaxScaler().inverse_transform([1.0]),
        lambda: MinMaxScaler().to_dict(),
        lambda: MultiHotEncoder(2).transform([["a"]]),
        lambda: MultiHotEncoder(2).inverse_transform([[1, 0]]),
        lambda: MultiHotEncoder(2).vocabulary_size,
        lambda: MultiHotEncoder(2).to_dict(),
    ],
)
def test_nothing_is_answered_before_fit(ask):
    with pytest.raises(NotFittedError, match="before it was fitted"):
        ask()


def test_a_hundred_thousand_rows_agree_with_a_dict():
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 5000, 100_000)
    assert LabelEncoder().fit(ids[:50_000]).transform(ids).tolist() == slow_codes(ids[:50_000].tolist(), ids.tolist())
    lists = np.split(ids, np.sort(rng.integers(0, len(ids), 30_000)))
    encoded = MultiHotEncoder(4).fit_transform(lists)
    assert encoded[:, 0].astype(bool).tolist() == [len(tokens) > 0 for tokens in lists]


def test_encoders_survive_their_file(tmp_path):
    encoders = {
        "id": LabelEncoder().fit([7, 3]),
        "word": LabelEncoder().fit(["é", "\U0001f600"]),
        "price": MinMaxScaler().fit([0.1, 0.2 + 0.1]),
        "tags": MultiHotEncoder(2).fit([["x"], ["y", "z"]]),
        "none": LabelEncoder().fit([]),
    }
    save_encoders(encoders, tmp_path / "encoders.json")
    loaded = load_encoders(tmp_path / "encoders.json")
    assert {name: type(encoder) for name, encoder in loaded.items()} == {
        name: type(encoder) for name, encoder in encoders.items()
    }
    assert {name: encoder.to_dict() for name, encoder in loaded.items()} == {
        name: encoder.to_dict() for name, encoder in encoders.items()
    }
    assert_same_bits(loaded["price"].transform([0.15, 0.3]), encoders["price"].transform([0.15, 0.3]))


def test_a_missing_or_foreign_file_is_a_run_error(tmp_path):
    with pytest.raises(RunError, match="does not exist"):
        load_encoders(tmp_path / "encoders.json")
    (tmp_path / "encoders.json").write_text("no json")
    with pytest.raises(RunError, match="cannot be read as JSON"):
        load_encoders(tmp_path / "encoders.json")


@pytest.mark.parametrize(
    "plain",
    [
        [],
        {"a": 3},
        {"a": {}},
        {"a": {"kind": "one_hot"}},
        {"a": {"kind": "label"}},
        {"a": {"kind": "label", "classes": [1.5]}},
        {"a": {"kind": "multi_hot", "max_length": 0, "tokens": []}},
        {"a": {"kind": "multi_hot", "max_length": "many", "tokens": []}},
        {"a": {"kind": "min_max", "low": 0.0}},
        {"a": {"kind": "min_max", "low": "low", "high": "high"}},
        {"a": {"kind": "min_max", "low": None, "high": 1.0}},
    ],
)
def test_json_that_holds_no_encoder_is_a_data_error(plain, tmp_path):
    (tmp_path / "encoders.json").write_text(json.dumps(plain))
    with pytest.raises(DataError):
        load_encoders(tmp_path / "encoders.json")


def flat(lists):
    return [token for tokens in lists for token in tokens]


def assert_same_bits(got, wanted):
    assert got.dtype == wanted.dtype
    assert got.shape == wanted.shape
    assert got.tobytes() == wanted.tobytes()
