import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Subset

from deepfm.data.dataset import TabularDataset
from deepfm.data.interactions import InteractionDataset, TrainingInteractions
from deepfm.data.negatives import Candidates, NegativeSampler
from deepfm.data.schema import DatasetSchema, FeatureType, FieldSchema
from deepfm.errors import DataError, SchemaError

ROWS = 23
SCHEMA = DatasetSchema(
    {
        "id": FieldSchema("id", FeatureType.SPARSE, 10, 4),
        "price": FieldSchema("price", FeatureType.DENSE, embedding_dim=4),
        "tags": FieldSchema("tags", FeatureType.SEQUENCE, 6, 4, max_length=3),
    },
    "label",
)


def columns(rows=ROWS, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "id": rng.integers(0, 10, rows),
        "price": rng.random(rows).astype(np.float32),
        "tags": rng.integers(0, 6, (rows, 3)),
    }


@pytest.fixture
def rows():
    return TabularDataset(columns(), np.random.default_rng(1).integers(0, 2, ROWS))


def tables(num_users=5, num_items=7):
    rng = np.random.default_rng(2)
    users = {"user": rng.permutation(num_users) + 1, "age": rng.random(num_users).astype(np.float32)}
    return users, {"item": rng.permutation(num_items) + 1, "tags": rng.integers(0, 6, (num_items, 3))}


@pytest.fixture
def pairs():
    rng = np.random.default_rng(3)
    users, items = rng.integers(0, 5, ROWS), rng.integers(0, 7, ROWS)
    return InteractionDataset(tables(), users, items, rng.integers(0, 2, ROWS).astype(np.float32))


@pytest.fixture
def training():
    return training_rows()


def training_rows(seed=7, num_negatives=3, num_items=40):
    rng = np.random.default_rng(4)
    users, items = rng.integers(0, 5, 11), rng.integers(0, num_items, 11)
    sampler = NegativeSampler(users, items, 5, num_items)
    return TrainingInteractions(
        tables(5, num_items), users, items, sampler=sampler, num_negatives=num_negatives, seed=seed
    )


def stacked(dataset, indices):
    """One row after another, then stacked: what a batch must equal."""
    singles = [dataset[int(index)] for index in indices]
    names = singles[0][0].keys()
    return {name: torch.stack([row[name] for row, _ in singles]) for name in names}, torch.stack(
        [label for _, label in singles]
    )


def assert_same_batch(got, wanted):
    (got_features, got_labels), (features, labels) = got, wanted
    assert list(got_features) == list(features)
    for name, column in features.items():
        assert got_features[name].dtype == column.dtype
        assert torch.equal(got_features[name], column), name
    assert got_labels.dtype == torch.float32
    assert torch.equal(got_labels, labels)


class TestTabularDataset:
    def test_a_row_is_a_dict_of_tensors_and_a_label(self, rows):
        plain = columns()
        for index in (0, 5, ROWS - 1):
            features, label = rows[index]
            assert features["id"].shape == label.shape == ()
            assert features["id"].item() == plain["id"][index]
            assert features["price"].item() == pytest.approx(plain["price"][index])
            assert features["tags"].tolist() == plain["tags"][index].tolist()
            assert label.dtype == torch.float32

    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            (np.bool_, torch.int32),
            (np.int8, torch.int32),
            (np.uint16, torch.int32),
            (np.int32, torch.int32),
            (np.uint32, torch.int64),
            (np.int64, torch.int64),
            (np.float16, torch.float32),
            (np.float32, torch.float32),
            (np.float64, torch.float32),
        ],
    )
    def test_integers_are_as_wide_as_they_came_but_for_32_bits_and_floats_float32(self, given, kept):
        data = TabularDataset({"a": np.array([1, 0], given)}, np.array([1, 0]))
        assert data.features["a"].dtype == kept
        assert data.features["a"].tolist() == [1, 0]
        assert data.labels.dtype == torch.float32

    def test_wide_ids_keep_their_value(self):
        large = [2**32 - 1, 2**31]
        for dtype in (np.uint32, np.int64):
            assert TabularDataset({"a": np.array(large, dtype)}, np.array([1, 0])).features["a"].tolist() == large

    def test_length_and_text(self, rows):
        assert len(rows) == ROWS
        assert repr(rows) == f"TabularDataset({ROWS} rows)"

    def test_negative_indices_count_from_the_end_and_others_are_refused(self, rows):
        assert_same_batch(stacked(rows, [-1]), stacked(rows, [ROWS - 1]))
        for index in (ROWS, -ROWS - 1):
            with pytest.raises(IndexError, match=f"row {index}"):
                rows[index]

    def test_iterating_ends(self, rows):
        assert len(list(rows)) == ROWS

    @pytest.mark.parametrize("choice", [slice(3, 9), slice(None), torch.tensor([4, 4, 0])])
    def test_a_batch_is_the_stacked_rows(self, rows, choice):
        indices = torch.arange(ROWS)[choice]
        assert_same_batch(rows.batch(choice), stacked(rows, indices))

    def test_many_indices_at_once_are_the_stacked_rows(self, rows):
        indices = [5, 0, 22, 5]
        gathered = rows.__getitems__(indices)
        assert len(gathered) == 4
        assert_same_batch((gathered.features, gathered.labels), stacked(rows, indices))
        for (features, label), index in zip(gathered, indices, strict=True):
            own, own_label = rows[index]
            assert all(torch.equal(features[name], own[name]) for name in own)
            assert label == own_label

    def test_no_indices_give_an_empty_batch(self, rows):
        features, labels = rows.batch(torch.tensor([], dtype=torch.int64))
        assert labels.shape == (0,)
        assert features["tags"].shape == (0, 3)

    @pytest.mark.parametrize("name", ["id", "tags"])
    def test_columns_of_another_length_are_refused_by_name(self, name):
        features = columns() | {name: columns(ROWS - 1)[name]}
        with pytest.raises(DataError, match=f"column '{name}' has 22 rows and the labels have 23"):
            TabularDataset(features, np.zeros(ROWS))

    def test_moving_keeps_the_rows_and_gives_the_data_set(self, rows):
        before = stacked(rows, range(ROWS))
        assert rows.to("cpu") is rows
        assert_same_batch(rows.batch(slice(None)), before)


class TestCheck:
    def test_rows_that_fit_pass(self, rows):
        rows.check(SCHEMA)

    @pytest.mark.parametrize(("value", "name"), [(10, "id"), (-1, "id")])
    def test_an_id_outside_names_field_row_and_value(self, value, name):
        plain = columns()
        plain[name][[4, 9]] = value
        with pytest.raises(SchemaError, match=rf"field 'id' holds id {value} in row 4; expected 0 to 9"):
            TabularDataset(plain, np.zeros(ROWS)).check(SCHEMA)

    def test_a_token_outside_names_field_row_and_value(self):
        plain = columns()
        plain["tags"][6, 2] = 77
        with pytest.raises(SchemaError, match=r"field 'tags' holds id 77 in row 6; expected 0 to 5"):
            TabularDataset(plain, np.zeros(ROWS)).check(SCHEMA)

    def test_a_missing_field_is_named(self):
        plain = columns()
        del plain["price"]
        with pytest.raises(SchemaError, match="field 'price' of the schema is not in the data"):
            TabularDataset(plain, np.zeros(ROWS)).check(SCHEMA)

    def test_ids_that_came_as_floats_are_refused(self):
        """A table lookup by float32 fails in the middle of training, and large ids lose their last digits."""
        plain = columns() | {"id": columns()["id"].astype(np.float64)}
        with pytest.raises(SchemaError, match="'id'"):
            TabularDataset(plain, np.zeros(ROWS)).check(SCHEMA)

    @pytest.mark.parametrize(("field", "row"), [("user", "user_table"), ("item", "item_table")])
    def test_both_tables_of_pairs_are_held_to_the_schema(self, pairs, field, row):
        fields = {
            "user": FieldSchema("user", FeatureType.SPARSE, 6, 4),
            "item": FieldSchema("item", FeatureType.SPARSE, 8, 4),
        }
        pairs.check(DatasetSchema(fields, "label"))
        getattr(pairs, row)[field][2] = 8
        with pytest.raises(SchemaError, match=rf"field '{field}' holds id 8 in row 2"):
            pairs.check(DatasetSchema(fields, "label"))


@pytest.mark.parametrize("kind", ["rows", "pairs", "training"])
class TestPlainDataLoader:
    def test_batches_equal_stacked_rows(self, kind, request):
        dataset = request.getfixturevalue(kind)
        batches = list(DataLoader(dataset, batch_size=5))
        assert [len(labels) for _, labels in batches] == [len(part) for part in torch.arange(len(dataset)).split(5)]
        for number, batch in enumerate(batches):
            start = 5 * number
            assert_same_batch(batch, stacked(dataset, range(start, min(start + 5, len(dataset)))))

    def test_shuffled_batches_equal_stacked_rows(self, kind, request):
        dataset = request.getfixturevalue(kind)
        order = list(torch.utils.data.RandomSampler(dataset, generator=torch.Generator().manual_seed(3)))
        sampler = torch.utils.data.RandomSampler(dataset, generator=torch.Generator().manual_seed(3))
        batches = list(DataLoader(dataset, batch_size=6, sampler=sampler))
        assert sorted(order) == list(range(len(dataset)))
        for number, batch in enumerate(batches):
            assert_same_batch(batch, stacked(dataset, order[6 * number : 6 * number + 6]))

    def test_shuffle_shows_every_row_once(self, kind, request):
        dataset = request.getfixturevalue(kind)
        loader = DataLoader(dataset, batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(0))
        seen = [label for _, labels in loader for label in labels.tolist()]
        assert sorted(seen) == sorted(dataset.labels.tolist())

    def test_one_row_at_a_time_has_no_batch_axis(self, kind, request):
        dataset = request.getfixturevalue(kind)
        features, label = next(iter(DataLoader(dataset, batch_size=None)))
        assert label.shape == ()
        assert {name: column.shape for name, column in features.items()} == {
            name: column.shape for name, column in dataset[0][0].items()
        }

    def test_parts_and_joins_of_torch_work(self, kind, request):
        dataset = request.getfixturevalue(kind)
        part = Subset(dataset, [7, 2, 2])
        assert_same_batch(next(iter(DataLoader(part, batch_size=3))), stacked(dataset, [7, 2, 2]))
        both = ConcatDataset([dataset, dataset])
        batch = next(iter(DataLoader(both, batch_size=3, sampler=[1, len(dataset) + 4, 3])))
        assert_same_batch(batch, stacked(dataset, [1, 4, 3]))

    def test_a_collate_function_of_ones_own_sees_rows(self, kind, request):
        dataset = request.getfixturevalue(kind)
        loader = DataLoader(dataset, batch_size=4, collate_fn=lambda batch: [(row, label) for row, label in batch])
        batch = next(iter(loader))
        assert len(batch) == 4
        assert [label.item() for _, label in batch] == dataset.labels[:4].tolist()


def test_a_worker_process_gives_the_same_batches(pairs):
    for got, wanted in zip(
        DataLoader(pairs, batch_size=8, num_workers=1), DataLoader(pairs, batch_size=8), strict=True
    ):
        assert_same_batch(got, wanted)


class TestInteractionDataset:
    def test_gathers_what_a_dict_per_row_holds(self, pairs):
        user_table, item_table = tables()
        naive = []
        for user, item in zip(pairs.users.tolist(), pairs.items.tolist(), strict=True):
            row = {name: column[user] for name, column in user_table.items()}
            naive.append(row | {name: column[item] for name, column in item_table.items()})
        features, _ = pairs.batch(slice(None))
        assert list(features) == ["user", "age", "item", "tags"]
        for name, column in features.items():
            np.testing.assert_array_equal(column.numpy(), np.stack([row[name] for row in naive]))

    def test_groups_number_the_rows_of_ragged_candidates(self):
        offsets = np.array([0, 3, 4, 9])
        candidates = Candidates(
            np.array([4, 0, 2]), offsets, np.arange(9) % 7, np.array([1, 0, 0, 1, 1, 0, 0, 0, 0], np.float32)
        )
        data = InteractionDataset.from_candidates(tables(), candidates)
        assert data.group_ids.tolist() == [0, 0, 0, 1, 2, 2, 2, 2, 2]
        assert data.users.tolist() == [4, 4, 4, 0, 2, 2, 2, 2, 2]
        assert data.items.tolist() == candidates.items.tolist()
        assert data.labels.tolist() == candidates.labels.tolist()
        assert len(data.group_ids) == len(data) == 9

    def test_rows_without_groups_say_so(self, pairs):
        with pytest.raises(DataError, match="has no groups"):
            _ = pairs.group_ids

    @pytest.mark.parametrize("drop", ["users", "items", "labels"])
    def test_pairs_of_different_lengths_are_refused(self, drop):
        parts = {"users": np.zeros(4, int), "items": np.zeros(4, int), "labels": np.zeros(4, np.float32)}
        parts[drop] = parts[drop][:3]
        with pytest.raises(DataError):
            InteractionDataset(tables(), parts["users"], parts["items"], parts["labels"])

    def test_moving_keeps_the_rows(self, pairs):
        before = pairs.batch(slice(None))
        assert_same_batch(pairs.to("cpu").batch(slice(None)), before)


class TestTrainingInteractions:
    def test_rows_are_the_likes_times_one_and_their_negatives(self, training):
        assert len(training) == 11 * (1 + 3)
        assert len(training_rows(num_negatives=1)) == 22

    def test_each_like_stands_before_its_negatives(self, training):
        rng = np.random.default_rng(4)
        users, items = rng.integers(0, 5, 11), rng.integers(0, 40, 11)
        for epoch in (1, 2):
            training.resample(epoch)
            assert training.labels.reshape(11, 4).tolist() == [[1, 0, 0, 0]] * 11
            assert training.users.reshape(11, 4).tolist() == [[user] * 4 for user in users.tolist()]
            assert training.items.reshape(11, 4)[:, 0].tolist() == items.tolist()

    def test_no_negative_is_a_like(self, training):
        likes = set(zip(training.users[::4].tolist(), training.items[::4].tolist(), strict=True))
        for epoch in range(5):
            training.resample(epoch)
            negative = training.labels == 0
            drawn = zip(training.users[negative].tolist(), training.items[negative].tolist(), strict=True)
            assert not likes & set(drawn)

    def test_epochs_differ_and_repeat_in_any_order(self, training):
        drawn = {}
        for epoch in (1, 2, 3):
            training.resample(epoch)
            drawn[epoch] = training.items.tolist()
        assert drawn[1] != drawn[2] != drawn[3] != drawn[1]
        again = training_rows()
        for epoch in (3, 1, 2, 1):
            again.resample(epoch)
            assert again.items.tolist() == drawn[epoch]

    def test_seeds_differ(self, training):
        other = training_rows(seed=8)
        training.resample(1)
        other.resample(1)
        assert training.items.tolist() != other.items.tolist()

    def test_a_draw_leaves_the_global_generators_alone(self, training):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        training.resample(1)
        assert torch.equal(torch.rand(1), torch.rand(1, generator=torch.Generator().manual_seed(0)))
        assert np.random.rand() == np.random.RandomState(0).rand()  # noqa: NPY002

    def test_negatives_bring_their_own_features(self, training):
        _, item_table = tables(5, 40)
        features, _ = training.batch(slice(None))
        np.testing.assert_array_equal(features["item"].numpy(), item_table["item"][training.items.numpy()])
        np.testing.assert_array_equal(features["tags"].numpy(), item_table["tags"][training.items.numpy()])

    def test_training_rows_have_no_groups(self, training):
        with pytest.raises(DataError, match="has no groups"):
            _ = training.group_ids


class TestSmallMovieLens:
    def test_the_sizes_are_the_contracts(self, small_adapter):
        schema, train, validation, test = small_adapter.build()
        likes = len(small_adapter.split.train)
        assert len(train) == likes * (1 + small_adapter.config.num_neg_train)
        for part in (validation, test):
            assert len(part.group_offsets) - 1 == len(np.unique(part.users))
            assert len(part) == part.group_offsets[-1]
        for part in (train, validation, test):
            part.check(schema)

    def test_a_batch_holds_every_field_of_the_schema(self, small_adapter):
        schema, train, _, test = small_adapter.build()
        for part in (train, test):
            features, labels = part.batch(torch.arange(10))
            assert set(features) == set(schema.fields)
            assert labels.shape == (10,)
            assert features["genres"].shape == (10, schema.fields["genres"].max_length)


class TestOwnDataThatCannotBe:
    SCHEMA = DatasetSchema(
        {"a": FieldSchema("a", "sparse", 3, 4), "t": FieldSchema("t", "sequence", 3, 4, max_length=2)}, "y"
    )

    def rows(self, **changed):
        columns = {"a": np.array([1, 2]), "t": np.array([[1, 0], [2, 1]]), "labels": np.array([0, 1])} | changed
        labels = columns.pop("labels")
        return TabularDataset(columns, labels)

    def test_good_rows_pass(self):
        self.rows().check(self.SCHEMA)
        self.rows(labels=np.array([0.25, 1.0])).check(self.SCHEMA)

    @pytest.mark.parametrize("label", [5, -1, float("nan")])
    def test_a_label_that_is_no_probability(self, label):
        with pytest.raises(DataError, match=r"label 1 is .*; expected 0 to 1"):
            self.rows(labels=np.array([0, label])).check(self.SCHEMA)

    @pytest.mark.parametrize(("field", "column"), [("a", [[1], [2]]), ("t", [1, 2])])
    def test_a_column_of_another_shape(self, field, column):
        with pytest.raises(SchemaError, match=f"field '{field}' has rows of shape"):
            self.rows(**{field: np.array(column)}).check(self.SCHEMA)
