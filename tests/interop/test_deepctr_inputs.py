"""Feature columns, the schema they become, and rows: what is read, and what is refused in one sentence."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from deepfm.data.schema import FeatureType
from deepfm.errors import DataError, SchemaError
from deepfm.interop.deepctr import inputs as mirrored
from deepfm.interop.deepctr.inputs import (
    DenseFeat,
    SparseFeat,
    VarLenSparseFeat,
    build_input_features,
    combined_dnn_input,
    create_embedding_matrix,
    embedding_lookup,
    get_dense_input,
    get_feature_names,
    get_varlen_pooling_list,
    maxlen_lookup,
    varlen_embedding_lookup,
)
from deepfm.interop.deepctr.rows import Layout, read_labels
from deepfm.interop.deepctr.schema import schema_of


def several(name, rows=9, maxlen=3, **options):
    return VarLenSparseFeat(SparseFeat(name, rows, 2), maxlen, **options)


COLUMNS = [
    DenseFeat("price"),
    several("genres"),
    SparseFeat("user", 5, 2),
    several("tags", combiner="sum", length_name="num_tags"),
    DenseFeat("place", 2),
]
X = {
    "price": np.array([1.5, -2.0]),
    "genres": np.array([[0, 8, 0], [0, 0, 0]]),
    "user": np.array([0, 4]),
    "tags": np.array([[0, 3, 5], [7, 7, 7]]),
    "num_tags": np.array([2, 0]),
    "place": np.array([[1.0, 2.0], [3.0, 4.0]]),
}


class TestColumns:
    def test_defaults_are_deepctr_torchs(self):
        assert SparseFeat("a", 10) == ("a", 10, 4, False, "int32", "a", "default_group")
        assert DenseFeat("d") == ("d", 1, "float32")
        assert several("v")[1:] == (3, "mean", None)
        assert several("v").embedding_name == "v"
        assert several("v").dtype == "int32"

    @pytest.mark.parametrize(("rows", "width"), [(1, 6), (15, 6), (16, 12), (81, 18), (943, 30)])
    def test_auto_is_six_times_the_fourth_root(self, rows, width):
        assert SparseFeat("a", rows, "auto").embedding_dim == width

    def test_numpys_whole_numbers_are_sizes(self):
        column = SparseFeat("a", np.int64(7), np.int32(3))
        assert (column.vocabulary_size, column.embedding_dim) == (7, 3)
        assert all(type(size) is int for size in column[1:3])
        assert SparseFeat("a", pd.Series([3, 4]).max() + 1.0).vocabulary_size == 5

    def test_columns_hash_by_name_and_compare_whole(self):
        assert hash(SparseFeat("a", 3)) == hash("a") == hash(DenseFeat("a"))
        assert SparseFeat("a", 3) != SparseFeat("a", 4)
        assert len({several("v"), several("v")}) == 1

    @pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
    def test_columns_survive_copies(self, column):
        for other in (pickle.loads(pickle.dumps(column)), copy.deepcopy(column), column._replace()):
            assert other == column
            assert type(other) is type(column)

    @pytest.mark.parametrize(
        ("make", "match"),
        [
            (lambda: SparseFeat("a", 3, use_hash=True), "SparseFeat 'a' has use_hash=True, and values are not hashed"),
            (lambda: SparseFeat("a", 0), "column 'a' has vocabulary_size 0; expected a whole number of at least 1"),
            (lambda: SparseFeat("a", 2.5), "vocabulary_size 2.5"),
            (lambda: SparseFeat("a", 3, "large"), "embedding_dim 'large'"),
            (lambda: DenseFeat("d", 0), "dimension 0"),
            (lambda: several("v", maxlen=0), "maxlen 0"),
            (lambda: several("v", combiner="min"), "combiner 'min'; expected mean, sum, max"),
        ],
    )
    def test_impossible_columns_are_refused(self, make, match):
        with pytest.raises(SchemaError, match=match):
            make()


class TestNames:
    def test_inputs_stand_side_by_side_with_lengths_behind_their_sequence(self):
        assert list(build_input_features(COLUMNS).items()) == [
            ("price", (0, 1)), ("genres", (1, 4)), ("user", (4, 5)), ("tags", (5, 8)), ("num_tags", (8, 9)),
            ("place", (9, 11)),
        ]  # fmt: skip
        assert get_feature_names([*COLUMNS, *COLUMNS[:2]]) == list(X)

    def test_a_column_of_deepctr_torchs_own_is_refused(self):
        with pytest.raises(SchemaError, match=r"3 is a int; expected a SparseFeat, VarLenSparseFeat or DenseFeat"):
            get_feature_names([SparseFeat("a", 3), 3])

    def test_the_module_has_deepctr_torchs_names(self):
        wanted = {"SparseFeat", "DenseFeat", "VarLenSparseFeat", "get_feature_names", "build_input_features",
                  "combined_dnn_input", "create_embedding_matrix", "embedding_lookup", "varlen_embedding_lookup",
                  "get_varlen_pooling_list", "get_dense_input", "maxlen_lookup", "DEFAULT_GROUP_NAME"}  # fmt: skip
        assert set(mirrored.__all__) == wanted


class TestLookups:
    """For models of one's own: against rows taken by hand."""

    X = torch.tensor([[1.5, 0, 8, 0, 4, 3, 5, 0, 2, 6, 7], [2.5, 1, 2, 3, 0, 0, 1, 2, 3, 8, 9]])
    places = build_input_features(COLUMNS)

    def test_tables_are_shared_by_embedding_name(self):
        shared = [SparseFeat("a", 4, 3), several("b"), SparseFeat("c", 4, 3, embedding_name="a"), DenseFeat("d")]
        tables = create_embedding_matrix(shared, init_std=0.5)
        assert {name: tuple(table.weight.shape) for name, table in tables.items()} == {"a": (4, 3), "b": (9, 2)}
        assert create_embedding_matrix(shared, linear=True)["a"].weight.shape == (4, 1)
        large = create_embedding_matrix([SparseFeat("a", 5000, 4)], init_std=0.5)["a"].weight.detach()
        assert large.std().item() == pytest.approx(0.5, rel=0.05)

    def test_ids_are_looked_up_by_group_or_as_a_list(self):
        columns = [SparseFeat("user", 5, 2, group_name="people"), SparseFeat("other", 5, 2, embedding_name="user")]
        tables = create_embedding_matrix(columns, init_std=1.0)
        places = {"user": (0, 1), "other": (1, 2)}
        ids = torch.tensor([[3.0, 1.0]])
        groups = embedding_lookup(ids, tables, places, columns)
        assert {name: len(found) for name, found in groups.items()} == {"people": 1, "default_group": 1}
        both = embedding_lookup(ids, tables, places, columns, to_list=True)
        assert torch.equal(torch.cat(both, dim=1)[0], tables["user"].weight[[3, 1]])
        (one,) = embedding_lookup(ids, tables, places, columns, ["other"], to_list=True)
        assert torch.equal(one[0, 0], tables["user"].weight[1])

    def test_sequences_are_pooled_by_mask_or_by_length(self):
        columns = [COLUMNS[1], COLUMNS[3]]
        tables = create_embedding_matrix(columns, init_std=1.0)
        found = varlen_embedding_lookup(self.X, tables, self.places, columns)
        genres, tags = get_varlen_pooling_list(found, self.X, self.places, columns)
        assert torch.equal(genres[0, 0], tables["genres"].weight[8])
        torch.testing.assert_close(genres[1, 0], tables["genres"].weight[1:4].mean(dim=0))
        torch.testing.assert_close(tags[0, 0], tables["tags"].weight[[3, 5]].sum(dim=0))
        torch.testing.assert_close(tags[1, 0], tables["tags"].weight[[0, 1, 2]].sum(dim=0))

    def test_numbers_and_lengths(self):
        price, place = get_dense_input(self.X, self.places, COLUMNS)
        assert (price.tolist(), place.tolist()) == ([[1.5], [2.5]], [[6.0, 7.0], [8.0, 9.0]])
        assert maxlen_lookup(self.X, self.places, ["num_tags"]).tolist() == [[2], [3]]
        with pytest.raises(SchemaError, match="a history needs a length_name"):
            maxlen_lookup(self.X, self.places, [])

    def test_a_towers_input(self):
        embeddings, numbers = [torch.ones(2, 1, 3), torch.zeros(2, 1, 1)], [torch.full((2, 2), 5.0)]
        assert combined_dnn_input(embeddings, numbers)[0].tolist() == [1, 1, 1, 0, 5, 5]
        assert combined_dnn_input([], numbers).shape == (2, 2)
        assert combined_dnn_input(embeddings, []).shape == (2, 4)
        with pytest.raises(SchemaError, match="neither embeddings nor dense values"):
            combined_dnn_input([], [])


class TestSchema:
    def test_ids_shift_by_one_and_numbers_become_fields(self):
        schema = schema_of(COLUMNS)
        assert {name: str(field.feature_type) for name, field in schema.fields.items()} == {
            "user": "sparse", "genres": "sequence", "tags": "sequence", "price": "dense", "place[0]": "dense",
            "place[1]": "dense",
        }  # fmt: skip
        assert schema.fields["user"].vocabulary_size == 6
        assert (schema.fields["tags"].combiner, schema.fields["tags"].max_length) == ("sum", 3)
        assert schema.label_field == "label"
        assert schema_of([SparseFeat("label", 3)]).label_field == "__label__"

    def test_tables_are_shared_and_as_large_as_their_largest_column(self):
        item, hist = SparseFeat("item", 5, 2), VarLenSparseFeat(SparseFeat("hist_item", 7, 2, embedding_name="item"), 4)
        schema = schema_of([hist, item], histories=["hist_item"])
        assert schema.fields["hist_item"].shares_embedding_with == "item"
        assert schema.fields["item"].vocabulary_size == schema.fields["hist_item"].vocabulary_size == 8
        assert schema.fields["hist_item"].is_behaviour
        assert schema.fields["item"].feature_type is FeatureType.SPARSE

    @pytest.mark.parametrize(
        ("columns", "match"),
        [
            ([SparseFeat("a", 3), SparseFeat("a", 4)], "column 'a' stands twice, as .*3.* and as .*4"),
            ([SparseFeat("a", 3, 2), SparseFeat("b", 3, 4, embedding_name="a")], "'b' has embedding_dim 4 and shares"),
            ([SparseFeat("a", 2**31 - 1)], "2,147,483,647 rows together; expected at most"),
        ],
    )
    def test_impossible_schemas_are_refused(self, columns, match):
        with pytest.raises(SchemaError, match=match):
            schema_of(columns)


class TestRows:
    layout = Layout(COLUMNS, COLUMNS)

    def part(self, rows, name, kind):
        return self.layout.blocks[name, kind].of(rows.ids).tolist()

    def test_every_id_is_a_row_and_padding_is_zero(self):
        rows = self.layout.encode(X)
        assert self.part(rows, "user", "id") == [1, 5]
        assert self.part(rows, "genres", "pooled") == [[0, 9, 0], [0, 0, 0]]
        assert self.part(rows, "tags", "pooled") == [[1, 4, 0], [0, 0, 0]]  # id 0 within the length counts
        assert rows.dense.tolist() == [[1.5, 1.0, 2.0], [-2.0, 3.0, 4.0]]

    def test_a_history_keeps_its_tokens_and_its_length(self):
        layout = Layout([], COLUMNS, histories=["tags"])
        rows = layout.encode(X)
        assert layout.blocks["tags", "tokens"].of(rows.ids).tolist() == [[1, 4, 6], [8, 8, 8]]
        assert layout.blocks["num_tags", "length"].of(rows.ids).tolist() == [2, 0]

    def test_dicts_lists_frames_series_and_tensors_say_the_same(self):
        flat = [DenseFeat("price"), SparseFeat("user", 5, 2), SparseFeat("zip", 100, 2)]
        layout = Layout(flat, flat)
        columns = {"user": np.array([4, 0, 2]), "zip": np.array([99, 1, 0]), "price": np.array([0.5, 1.0, 2.0])}
        frame = pd.DataFrame({**columns, "unused": ["a", "b", "c"]})
        forms = [
            columns,
            frame,
            {name: frame[name] for name in frame},
            [columns[name] for name in get_feature_names(flat)],
            (frame["price"].to_numpy(), frame[["user"]].to_numpy(), list(columns["zip"])),
            {name: torch.from_numpy(column) for name, column in columns.items()},
            {name: column[:, None] for name, column in columns.items()},
            frame.astype({"user": "float64", "zip": "int8"}),
        ]
        for form in forms:
            rows = layout.encode(form)
            assert rows.ids.tolist() == [[5, 100], [1, 2], [3, 1]]
            assert rows.dense.tolist() == [[0.5], [1.0], [2.0]]
        tensor = torch.tensor([[0.5, 4, 99], [1.0, 0, 1], [2.0, 2, 0]])
        assert torch.equal(layout.encode_tensors(tensor).ids, rows.ids)
        assert torch.equal(layout.encode_tensors(forms[5]).dense, rows.dense)

    def test_the_callers_columns_stay_as_they_are(self):
        given = {name: column.copy() for name, column in X.items()}
        listed = list(given.values())
        self.layout.encode(given)
        self.layout.encode(listed)
        assert all(np.array_equal(given[name], X[name]) for name in X)
        assert [column.shape for column in listed] == [column.shape for column in X.values()]

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            ({"user": np.array([0, 4, 1])}, "input 'user' has 3 rows and 'price' has 2; expected as many in each"),
            (
                {"user": np.array([0, 5])},
                "input 'user' holds id 5 in row 1; expected 0 to 4, as its vocabulary_size is",
            ),
            ({"user": np.array([-1, 0])}, "input 'user' holds id -1 in row 0"),
            ({"genres": np.array([[0, 8, 9], [0, 0, 0]])}, "input 'genres' holds id 9 in row 0; expected 0 to 8"),
            ({"num_tags": np.array([2, 4])}, "length input 'num_tags' holds 4 in row 1; expected 0 to 3, the maxlen"),
            ({"user": np.array([0.0, np.nan])}, "input 'user' holds nan in row 1; expected ids"),
            ({"user": np.array([0.5, 1.0])}, "input 'user' holds 0.5 in row 0; expected ids"),
            ({"user": np.array(["ann", "bob"])}, "input 'user' holds str.* values, .*'ann'.* first; expected ids"),
            ({"user": np.zeros((2, 2), int)}, r"input 'user' has shape \(2, 2\); expected \(2,\) or \(2, 1\)"),
            ({"genres": np.zeros((2, 4), int)}, r"input 'genres' has shape \(2, 4\); expected \(2, 3\)"),
            ({"genres": np.zeros(2, int)}, r"input 'genres' has shape \(2,\); expected \(2, 3\)"),
            ({"price": np.array([1.0, np.nan])}, "dense input 'price' holds nan in row 1; expected finite numbers"),
            ({"price": np.array([np.inf, 1.0])}, "dense input 'price' holds inf in row 0"),
            ({"price": np.array([1.0, 1e300])}, "dense input 'price' holds 1e\\+300 in row 1"),
            ({"price": np.array(["cheap", "dear"])}, "dense input 'price' holds str.* values; expected numbers"),
            ({"place": np.array([[1.0, 2.0], [np.nan, 4.0]])}, "dense input 'place' holds nan in row 1"),
            ({"place": np.zeros((2, 3))}, r"input 'place' has shape \(2, 3\); expected \(2, 2\)"),
            ({"user": np.array([True, False])}, None),
        ],
    )
    def test_what_does_not_fit_is_named(self, change, match):
        if match is None:
            self.layout.encode({**X, **change})
            return
        with pytest.raises(DataError, match=match) as caught:
            self.layout.encode({**X, **change})
        assert "\n" not in str(caught.value)

    def test_a_missing_input_is_named(self):
        without = {name: column for name, column in X.items() if name != "num_tags"}
        with pytest.raises(DataError, match="input 'num_tags' is missing; expected an array for each of price, genres"):
            self.layout.encode(without)
        with pytest.raises(DataError, match=r"input 'price' is missing; .* got none"):
            self.layout.encode({})
        with pytest.raises(DataError, match="x holds 5 arrays; expected 6, one for each of price, genres, user"):
            self.layout.encode(list(without.values()))
        with pytest.raises(DataError, match="x is a ndarray; expected a dict or DataFrame"):
            self.layout.encode(np.zeros((2, 11)))
        with pytest.raises(DataError, match="the inputs have no rows"):
            self.layout.encode({name: column[:0] for name, column in X.items()})

    def test_a_name_that_is_two_inputs_is_refused(self):
        with pytest.raises(SchemaError, match="input 'a' is 1 wide and 3 wide"):
            Layout([SparseFeat("a", 9, 2)], [several("a")])
        with pytest.raises(SchemaError, match="there are no feature columns"):
            Layout([], [])


class TestLabels:
    @pytest.mark.parametrize("y", [np.array([0, 1]), np.array([[0.0], [1.0]]), [0, 1], pd.DataFrame({"y": [0, 1]})])
    def test_labels_come_in_a_row_or_a_column(self, y):
        labels = read_labels(y, 2, binary=True)
        assert labels.tolist() == [0.0, 1.0]
        assert labels.dtype is torch.float32

    @pytest.mark.parametrize(
        ("y", "binary", "match"),
        [
            (None, True, "y is None; expected a label for each row"),
            (np.array([0, 1, 1]), True, r"y has shape \(3,\) and the inputs have 2 rows"),
            (np.zeros((2, 2)), True, r"y has shape \(2, 2\)"),
            (np.array([0, 2]), True, r"label 1 is 2; expected 0 or 1, as task='binary' \(use task='regression'"),
            (np.array([0.5, 1]), True, "label 0 is 0.5"),
            (np.array([3.5, np.nan]), False, "y holds nan in row 1"),
            (np.array(["yes", "no"]), False, "y holds str.* values; expected numbers"),
        ],
    )
    def test_other_labels_are_refused(self, y, binary, match):
        with pytest.raises(DataError, match=match):
            read_labels(y, 2, binary)

    def test_a_regression_takes_any_number(self):
        assert read_labels(np.array([-3.5, 7]), 2, binary=False).tolist() == [-3.5, 7.0]


def test_the_tables_of_the_lookups_are_torchs_own():
    assert isinstance(create_embedding_matrix([SparseFeat("a", 3)], sparse=True)["a"], nn.Embedding)
    assert create_embedding_matrix([SparseFeat("a", 3)], sparse=True)["a"].sparse
