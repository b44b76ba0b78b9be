"""Histories: what each moment sees, and that it sees nothing that is not before it."""

import dataclasses
import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from deepfm.config import DataConfig, load_config
from deepfm.data.dataset import TabularDataset
from deepfm.data.grouplens.fields import HISTORY
from deepfm.data.history import TIES, Histories, event_order, histories_before
from deepfm.data.interactions import InteractionDataset, TrainingInteractions
from deepfm.data.movielens import MovieLensAdapter
from deepfm.data.negatives import Candidates, NegativeSampler
from deepfm.data.schema import DatasetSchema, FieldSchema
from deepfm.engine.loop import fit
from deepfm.errors import DataError, SchemaError
from deepfm.models import MODELS, create_model
from deepfm.training.evaluation import score_rows
from deepfm.training.task import CTRTask
from tests.clicks import randomise

SPLITS = ("train", "validation", "test")
SEQUENCE_MODELS = [name for name, kind in MODELS.items() if kind.reads_behaviour]
CPU = torch.device("cpu")


def integers(*values):
    return np.array(values, dtype=np.int64)


def small_histories(max_length=3):
    """No event, two, four, the last two, and none at the end of all."""
    return Histories(integers(5, 6, 7, 8, 9), integers(0, 0, 0, 3, 5), integers(0, 2, 4, 5, 5), max_length)


class TestHistories:
    def test_latest_events_stand_at_the_right_oldest_first_after_padding(self):
        assert small_histories().latest(torch.arange(5)).tolist() == [
            [0, 0, 0],
            [0, 5, 6],
            [6, 7, 8],
            [0, 8, 9],
            [0, 0, 0],
        ]

    @pytest.mark.parametrize(
        ("max_length", "rows", "num_cut"),
        [
            (1, [[0], [6], [8], [9], [0]], 3),
            (2, [[0, 0], [5, 6], [7, 8], [8, 9], [0, 0]], 1),
            (4, [[0] * 4, [0, 0, 5, 6], [5, 6, 7, 8], [0, 0, 8, 9], [0] * 4], 0),
            (6, [[0] * 6, [0] * 4 + [5, 6], [0, 0, 5, 6, 7, 8], [0] * 4 + [8, 9], [0] * 6], 0),
        ],
    )
    def test_a_longer_history_is_cut_to_its_latest_and_counted(self, max_length, rows, num_cut):
        histories = small_histories(max_length)
        assert histories.latest(torch.arange(5)).tolist() == rows
        assert (histories.num_cut, histories.num_empty, histories.max_length) == (num_cut, 2, max_length)

    @pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
    def test_moments_may_come_in_any_order_and_again(self, dtype):
        histories = small_histories()
        wanted = histories.latest(torch.arange(5))
        order = torch.tensor([3, 1, 3, 0, 4, 2], dtype=dtype)
        assert torch.equal(histories.latest(order), wanted[order.long()])
        assert histories.latest(torch.tensor([], dtype=dtype)).shape == (0, 3)
        assert histories.lengths(order).tolist() == [2, 2, 2, 0, 0, 3]

    def test_lengths_are_those_that_are_seen(self):
        assert small_histories().lengths(torch.arange(5)).tolist() == [0, 2, 3, 2, 0]
        assert small_histories(1).lengths(torch.arange(5)).tolist() == [0, 1, 1, 1, 0]

    def test_ids_are_32_bits_and_events_are_stored_once(self):
        histories = small_histories()
        assert histories.latest(torch.arange(2)).dtype == torch.int32
        assert histories.events.tolist() == [5, 6, 7, 8, 9]
        assert len(histories) == 5
        assert "5 moments, 5 events, at most 3" in repr(histories)

    def test_what_a_batch_gives_is_a_copy(self):
        histories = small_histories()
        histories.latest(torch.arange(5)).fill_(77)
        assert histories.latest(torch.tensor([1])).tolist() == [[0, 5, 6]]

    def test_there_may_be_no_events_and_no_moments(self):
        none = integers()
        empty = Histories(none, integers(0, 0), integers(0, 0), 4)
        assert empty.latest(torch.arange(2)).tolist() == [[0] * 4] * 2
        assert (empty.num_cut, empty.num_empty) == (0, 2)
        assert Histories(none, none, none, 4).latest(torch.arange(0)).shape == (0, 4)

    @pytest.mark.parametrize("max_length", [0, -3])
    def test_a_length_below_one_is_refused(self, max_length):
        with pytest.raises(DataError, match=f"max_length is {max_length}; expected at least 1"):
            Histories(integers(1), integers(0), integers(1), max_length)

    @pytest.mark.parametrize(
        ("starts", "ends"), [([2], [1]), ([-1], [1]), ([0, 0], [1]), ([0], [4]), ([4], [4]), ([0, 1], [2, 9])]
    )
    def test_spans_that_are_none_are_refused(self, starts, ends):
        with pytest.raises(DataError, match="history"):
            Histories(integers(7, 8, 9), integers(*starts), integers(*ends), 5)

    def test_changing_all_tensors_keeps_the_histories(self):
        histories, seen = small_histories(), []
        before = histories.latest(torch.arange(5))
        histories.map_tensors(lambda tensor: seen.append(tensor) or tensor.clone())
        assert torch.equal(histories.latest(torch.arange(5)), before)
        assert len(seen) == 4


class TestEventOrder:
    TIMES = integers(30, 10, 10, 20, 10)

    def test_the_files_order_breaks_ties(self):
        assert event_order(self.TIMES).tolist() == [4, 0, 1, 3, 2]
        assert event_order(self.TIMES, "file_order").tolist() == [4, 0, 1, 3, 2]

    def test_events_of_one_second_are_not_before_each_other(self):
        assert event_order(self.TIMES, "strictly_earlier").tolist() == [2, 0, 0, 1, 0]

    @pytest.mark.parametrize("ties", TIES)
    def test_no_events(self, ties):
        assert event_order(integers(), ties).tolist() == []

    def test_another_rule_is_refused(self):
        with pytest.raises(DataError, match="ties = 'random' is unknown; expected one of file_order, strictly_earlier"):
            event_order(self.TIMES, "random")

    @given(st.lists(st.integers(-3, 3)))
    def test_numbers_follow_the_times(self, times):
        strict, by_file = (event_order(integers(*times), ties).tolist() for ties in ("strictly_earlier", "file_order"))
        assert sorted(by_file) == list(range(len(times)))
        for i, one in enumerate(times):
            for j, other in enumerate(times):
                assert (strict[i] < strict[j]) == (one < other)
                assert (by_file[i] < by_file[j]) == ((one, i) < (other, j))


def seen_by(events, user, before, max_length):
    """A loop over events `(user, number, id)`: those of the user with smaller numbers, oldest first, padded left."""
    own = [(number, place, item) for place, (who, number, item) in enumerate(events) if who == user and number < before]
    items = [item for _, _, item in sorted(own)][-max_length:]
    return [0] * (max_length - len(items)) + items


def columns(rows, width):
    return tuple(integers(*(row[i] for row in rows)) for i in range(width))


class TestHistoriesBefore:
    EVENTS = ((1, 3, 31), (0, 0, 10), (1, 1, 11), (0, 2, 12), (1, 2, 21))

    def test_a_case_by_hand(self):
        """Events in any order; user 2 has done nothing, and nobody sees the event of the moment itself."""
        moments = [(0, 0), (0, 1), (0, 2), (0, 9), (1, 3), (1, 2), (2, 5)]
        histories = histories_before(columns(self.EVENTS, 3), *columns(moments, 2), max_length=2)
        assert histories.latest(torch.arange(7)).tolist() == [
            [0, 0], [0, 10], [0, 10], [10, 12], [11, 21], [0, 11], [0, 0],
        ]  # fmt: skip
        assert histories.num_empty == 2
        assert len(histories.events) == 5

    def test_events_of_one_number_keep_the_order_in_which_they_came(self):
        events = [(0, 4, 1), (0, 4, 2), (0, 2, 3), (0, 4, 4)]
        histories = histories_before(columns(events, 3), integers(0, 0), integers(5, 4), max_length=5)
        assert histories.latest(torch.arange(2)).tolist() == [[0, 3, 1, 2, 4], [0, 0, 0, 0, 3]]

    def test_no_events_and_no_moments(self):
        none = integers()
        assert histories_before((none, none, none), integers(3), integers(7), 2).latest(torch.arange(1)).tolist() == [
            [0, 0]
        ]
        assert len(histories_before(columns(self.EVENTS, 3), none, none, 2)) == 0

    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(1, 99)), max_size=25),
        st.lists(st.tuples(st.integers(0, 4), st.integers(0, 11)), max_size=12),
        st.integers(1, 7),
    )
    def test_is_a_loop_over_all_events(self, events, moments, max_length):
        histories = histories_before(columns(events, 3), *columns(moments, 2), max_length)
        wanted = [seen_by(events, user, before, max_length) for user, before in moments]
        assert histories.latest(torch.arange(len(moments))).tolist() == wanted
        whole = [len([row for row in seen_by(events, *moment, 99) if row]) for moment in moments]
        assert histories.num_cut == sum(length > max_length for length in whole)
        assert histories.num_empty == whole.count(0)
        assert histories.lengths(torch.arange(len(moments))).tolist() == [min(length, max_length) for length in whole]

    @settings(max_examples=100, deadline=None)
    @given(
        st.lists(st.tuples(st.integers(0, 2), st.integers(-2, 2)), min_size=1, max_size=20),
        st.sampled_from(TIES),
        st.integers(1, 6),
    )
    def test_an_event_sees_what_was_before_it_by_its_time(self, rows, ties, max_length):
        """From users and timestamps in the file's order to each event's own history."""
        users, times = columns(rows, 2)
        numbers = event_order(times, ties)
        histories = histories_before((users, numbers, np.arange(1, len(rows) + 1)), users, numbers, max_length)
        for place, (user, time) in enumerate(rows):
            before = [
                (when, other)
                for other, (who, when) in enumerate(rows)
                if who == user and (when < time or (ties == "file_order" and when == time and other < place))
            ]
            wanted = [other + 1 for _, other in sorted(before)][-max_length:]
            got = histories.latest(torch.tensor([place]))[0].tolist()
            assert got == [0] * (max_length - len(wanted)) + wanted


TABLES = ({"user": np.arange(1, 4)}, {"item": np.arange(1, 8)})
HISTORY_FIELD = FieldSchema(
    "past", "sequence", 8, 4, max_length=3, combiner="none", shares_embedding_with="item"
)  # fmt: skip
SCHEMA = DatasetSchema(
    {"user": FieldSchema("user", "sparse", 4, 4), "item": FieldSchema("item", "sparse", 8, 4), "past": HISTORY_FIELD},
    "label",
)


def past(moments, max_length=3):
    """History m of some moments is 1, 2, …, m."""
    return Histories(np.arange(1, 7), np.zeros(moments, np.int64), np.arange(moments), max_length)


class TestDataSets:
    def grouped(self):
        offsets = integers(0, 3, 4, 9)
        candidates = Candidates(integers(2, 0, 1), offsets, np.arange(9) % 7, np.ones(9, np.float32))
        return InteractionDataset.from_candidates(TABLES, candidates, {"past": past(3)})

    def training(self, **options):
        users, items = integers(0, 0, 1, 2), integers(0, 3, 3, 6)
        sampler = NegativeSampler(users, items, 3, 7)
        options = {"num_negatives": 2, "seed": 0, "histories": {"past": past(4)}} | options
        return TrainingInteractions(TABLES, users, items, sampler=sampler, **options)

    def test_all_candidates_of_a_group_have_its_history(self):
        data, wanted = self.grouped(), [[0, 0, 0]] * 3 + [[0, 0, 1]] + [[0, 1, 2]] * 5
        assert data.batch(slice(None))[0]["past"].tolist() == wanted
        assert data.batch(slice(2, 6))[0]["past"].tolist() == wanted[2:6]
        assert data.batch(torch.tensor([8, 0, 3, 3]))[0]["past"].tolist() == [wanted[i] for i in (8, 0, 3, 3)]
        assert [data[i][0]["past"].tolist() for i in range(-9, 9)] == wanted * 2

    def test_negatives_have_the_history_of_their_like_in_every_epoch(self):
        data = self.training()
        for epoch in (0, 1, 2):
            data.resample(epoch)
            got = data.batch(slice(None))[0]["past"].view(4, 3, 3)
            assert got[:, 0].tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3]]
            assert torch.equal(got, got[:, :1].expand_as(got))

    def test_rows_without_groups_have_one_history_each(self):
        data = InteractionDataset(TABLES, integers(0, 1), integers(2, 3), np.ones(2), histories={"past": past(2)})
        assert data.batch(torch.tensor([1, 0]))[0]["past"].tolist() == [[0, 0, 1], [0, 0, 0]]

    def test_a_plain_data_loader_gives_them_row_by_row(self):
        for data in (self.grouped(), self.training()):
            batches = [features["past"] for features, _ in DataLoader(data, batch_size=4)]
            assert torch.equal(torch.cat(batches), data.batch(slice(None))[0]["past"])

    @pytest.mark.parametrize("moments", [2, 4, 9])
    def test_one_history_a_group_is_needed(self, moments):
        rows, none = np.zeros(9, np.int64), np.zeros(moments, np.int64)
        with pytest.raises(DataError, match=f"'past' has {moments} histories; expected 3"):
            InteractionDataset(
                TABLES, rows, rows, np.ones(9), integers(0, 3, 4, 9), {"past": Histories(rows, none, none, 2)}
            )

    @pytest.mark.parametrize("moments", [3, 5, 12])
    def test_one_history_a_like_is_needed(self, moments):
        none = np.zeros(moments, np.int64)
        with pytest.raises(DataError, match=f"'past' has {moments} histories; expected 4"):
            self.training(histories={"past": Histories(none, none, none, 2)})

    def test_stored_ids_are_held_to_the_schema(self):
        self.grouped().check(SCHEMA)
        for outside in (8, -1):
            wrong = Histories(integers(1, outside), integers(0, 0, 0), integers(0, 1, 2), 3)
            data = self.grouped()
            data.histories = {"past": wrong}
            with pytest.raises(SchemaError, match=f"field 'past' holds id {outside}"):
                data.check(SCHEMA)

    def test_a_missing_history_is_named(self):
        data = self.grouped()
        data.histories = {}
        with pytest.raises(SchemaError, match="field 'past' of the schema is not in the data"):
            data.check(SCHEMA)

    def test_histories_may_be_written_out_as_columns(self):
        rows = TabularDataset(
            {"user": np.arange(3), "item": np.arange(3), "past": np.array([[0, 0, 1], [2, 3, 4], [0, 0, 0]])},
            np.zeros(3),
        )
        rows.check(SCHEMA)
        assert rows.batch(slice(1, 2))[0]["past"].tolist() == [[2, 3, 4]]

    def test_their_bytes_count_and_they_move_along(self):
        data, without = self.grouped(), self.grouped()
        without.histories = {}
        assert data.nbytes - without.nbytes == data.histories["past"].nbytes > 0
        before = data.batch(slice(None))[0]["past"]
        assert torch.equal(data.to("cpu").batch(slice(None))[0]["past"], before)


def adapter_of(folder, *, max_history=5, **options):
    return MovieLensAdapter(
        folder, DataConfig(source="files", num_neg_eval=30, **options), seed=3, max_history=max_history
    )


def movies_before(adapter, split, row, max_length):
    """By a loop over the file: the raw ids of the movies that the history of a row of the file may show."""
    raw, parts = adapter.raw, adapter.split
    visible = [*parts.train, *parts.validation] if split == "test" else list(parts.train)

    def earlier(other):
        if adapter.config.history_ties == "strictly_earlier":
            return raw.timestamps[other] < raw.timestamps[row]
        return (raw.timestamps[other], other) < (raw.timestamps[row], row)

    own = [other for other in visible if raw.user_ids[other] == raw.user_ids[row] and earlier(other)]
    own.sort(key=lambda other: (raw.timestamps[other], other))
    return raw.movie_ids[own[-max_length:]].tolist()


def moment_rows(adapter, split):
    """The row of the file at whose moment each history of a split stands: a like's own, or the group's first."""
    raw, rows = adapter.raw, getattr(adapter.split, split)
    if split == "train":
        return rows
    first = {}
    for row in rows:
        user = raw.user_ids[row]
        key = raw.timestamps[row], row
        first[user] = min(first.get(user, key), key)
    users = raw.users["user_id"][adapter.candidates[split].users]
    return [first[user][1] for user in users]


def assert_histories_are_the_loops(adapter, histories, split, places=None):
    rows = moment_rows(adapter, split)
    assert len(histories) == len(rows)
    encode = adapter.encoders["movie_id"].transform
    for place in range(len(rows)) if places is None else places:
        movies = movies_before(adapter, split, rows[place], histories.max_length)
        wanted = [0] * (histories.max_length - len(movies)) + encode(np.array(movies, dtype=np.int64)).tolist()
        assert histories.latest(torch.tensor([place]))[0].tolist() == wanted
        if split == "train":
            assert adapter.raw.movie_ids[rows[place]] not in movies


def parts_of(built):
    return dict(zip(SPLITS, built[1:], strict=True))


def assert_nothing_visible_is_at_or_after_a_moment(adapter):
    """Histories of order numbers instead of movies."""
    for split in SPLITS:
        users, numbers, _ = adapter.visible_likes(split)
        of, moments = adapter.moments_of(split)
        length = int(np.bincount(users).max())
        seen = histories_before((users, numbers, numbers + 1), of, moments, length).latest(torch.arange(len(of)))
        assert int(seen.max()) > 0
        assert (seen.numpy() <= moments[:, None]).all(), "an event's number + 1 is at most the moment's number"
        assert (np.diff(seen.numpy(), axis=1) >= 0).all(), "oldest first, after padding"


class TestMovieLens:
    @pytest.mark.parametrize("strategy", ["leave_one_out", "temporal", "random"])
    @pytest.mark.parametrize("ties", TIES)
    @pytest.mark.parametrize("max_history", [3, 50])
    def test_each_history_is_the_users_earlier_visible_likes(self, small_dir, strategy, ties, max_history):
        adapter = adapter_of(small_dir, max_history=max_history, split_strategy=strategy, history_ties=ties)
        for split, part in parts_of(adapter.build()).items():
            assert_histories_are_the_loops(adapter, part.histories[HISTORY], split)

    @pytest.mark.parametrize("strategy", ["leave_one_out", "temporal", "random"])
    @pytest.mark.parametrize("ties", TIES)
    def test_nothing_visible_is_at_or_after_the_moment(self, small_dir, strategy, ties):
        adapter = adapter_of(small_dir, split_strategy=strategy, history_ties=ties)
        adapter.build()
        assert_nothing_visible_is_at_or_after_a_moment(adapter)

    def test_ties_are_what_tells_the_two_readings_apart(self, small_dir):
        """Under `strictly_earlier` the likes of the same second are gone, and no history is longer."""
        by_file, strict = (
            adapter_of(small_dir, max_history=200, history_ties=ties).build()[1].histories[HISTORY] for ties in TIES
        )
        lengths = [histories.lengths(torch.arange(len(histories))) for histories in (by_file, strict)]
        assert (lengths[1] <= lengths[0]).all()
        assert (lengths[1] < lengths[0]).float().mean() > 0.2

    def test_validation_sees_all_training_likes_and_the_test_the_validation_like_too(self, small_dir):
        adapter = adapter_of(small_dir, max_history=200)
        _, train, validation, test = adapter.build()
        for part in (validation, test):
            assert part.histories[HISTORY].num_empty == 0
        liked = np.bincount(adapter._users[adapter.split.train], minlength=adapter.num_users)
        everyone = torch.arange(adapter.num_users)
        assert validation.histories[HISTORY].lengths(everyone).tolist() == liked.tolist()
        assert test.histories[HISTORY].lengths(everyone).tolist() == (liked + 1).tolist()
        last = test.histories[HISTORY].latest(everyone)[:, -1]
        positives = validation.labels > 0
        assert torch.equal(last.long(), validation.batch(slice(None))[0]["movie_id"][positives].long())
        assert train.histories[HISTORY].num_empty == adapter.num_users

    @pytest.mark.parametrize("strategy", ["leave_one_out", "temporal", "random"])
    def test_what_may_be_seen_is_the_training_likes_and_in_the_test_the_validation_likes(self, small_dir, strategy):
        adapter = adapter_of(small_dir, split_strategy=strategy)
        for split, parts in (("train", ("train",)), ("validation", ("train",)), ("test", ("train", "validation"))):
            rows = np.concatenate([getattr(adapter.split, part) for part in parts])
            numbers = event_order(adapter.raw.timestamps)[rows]
            wanted = zip(adapter._users[rows].tolist(), numbers.tolist(), adapter._movies[rows].tolist(), strict=True)
            seen = zip(*(part.tolist() for part in adapter.visible_likes(split)), strict=True)
            assert sorted(seen) == sorted(wanted)

    def test_negatives_and_candidates_share_the_history_of_their_positive(self, small_dir):
        _, train, validation, test = adapter_of(small_dir).build()
        train.resample(4)
        histories = train.batch(slice(None))[0][HISTORY].view(train.num_likes, 5, 5)
        assert torch.equal(histories, train.histories[HISTORY].latest(torch.arange(train.num_likes))[:, None].expand(
            -1, 5, -1
        ))  # fmt: skip
        for part in (validation, test):
            rows = part.batch(slice(None))[0][HISTORY]
            assert torch.equal(rows, part.histories[HISTORY].latest(torch.as_tensor(part.group_ids)))

    def test_no_training_history_holds_the_rows_own_movie(self, small_dir):
        _, train, _, _ = adapter_of(small_dir, max_history=200).build()
        likes = torch.arange(0, len(train), 5)
        features, _ = train.batch(likes)
        assert not (features[HISTORY] == features["movie_id"].unsqueeze(1)).any()

    def test_a_history_is_stored_once_a_user_not_once_a_row(self, small_dir):
        adapter = adapter_of(small_dir, max_history=50)
        for split, part in parts_of(adapter.build()).items():
            histories = part.histories[HISTORY]
            assert len(histories.events) == len(adapter.visible_likes(split)[0])
            assert 20 * histories.nbytes < 4 * len(part) * 50
            assert part.nbytes < 4 * len(part) * 50

    def test_the_schema_gains_one_behaviour_sequence_in_the_movies_space(self, small_dir):
        plain, schema = adapter_of(small_dir, max_history=0).build()[0], adapter_of(small_dir).build()[0]
        assert [field.name for field in schema.behaviour_fields] == [HISTORY]
        assert schema.table_owner(HISTORY).name == schema.item_field == "movie_id"
        assert schema.fields[HISTORY].max_length == 5
        assert (schema.num_fields, schema.total_embedding_dim) == (7, 64)
        assert {name: field for name, field in schema.fields.items() if name != HISTORY} == plain.fields
        for part in parts_of(adapter_of(small_dir).build()).values():
            part.check(schema)

    def test_without_a_maximum_there_is_no_history(self, small_dir):
        schema, *parts = adapter_of(small_dir, max_history=0).build()
        assert not schema.behaviour_fields
        assert [dict(part.histories) for part in parts] == [{}, {}, {}]
        assert HISTORY not in parts[0].batch(slice(0, 2))[0]
        with pytest.raises(DataError, match="max_history is -1"):
            adapter_of(small_dir, max_history=-1)

    def test_histories_leave_negatives_candidates_and_rows_as_they_were(self, small_dir):
        plain, seeing = (parts_of(adapter_of(small_dir, max_history=length).build()) for length in (0, 50))
        for split in SPLITS:
            plain[split].resample(2)
            seeing[split].resample(2)
            assert torch.equal(plain[split].users, seeing[split].users)
            assert torch.equal(plain[split].items, seeing[split].items)

    def test_candidates_of_users_without_a_held_out_like_are_refused(self, small_dir):
        adapter = adapter_of(small_dir)
        adapter.build()
        with pytest.raises(DataError, match=r"the candidates name user number \d+, who has no validation like here"):
            adapter_of(small_dir, min_interactions=40).build(candidates=adapter.candidates)


@pytest.fixture
def logged():
    """What the package logs (its root's logger does not propagate): level and text."""
    records = []

    class Keep(logging.Handler):
        def emit(self, record):
            records.append((record.levelname, record.getMessage()))

    handler, logger = Keep(level=logging.INFO), logging.getLogger("deepfm")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield records
    logger.removeHandler(handler)
    logger.setLevel(level)


def rewritten(folder, target, movies=None, times=None):
    """A copy of a data set in which rows of u.data, by number, have other movies or other seconds."""
    target.mkdir(exist_ok=True)
    for name in ("u.user", "u.item"):
        (target / name).write_bytes((folder / name).read_bytes())
    lines = [line.split("\t") for line in (folder / "u.data").read_text().splitlines()]
    for place, changes in ((1, movies or {}), (3, times or {})):
        for row, value in changes.items():
            lines[row][place] = str(value)
    (target / "u.data").write_text("".join("\t".join(line) + "\n" for line in lines))
    return target


def movies_never_rated(raw, rows):
    """Another movie for each of some rows: one that its user has not rated, and no two the same for one user."""
    free = {}
    for row in rows:
        user = raw.user_ids[row]
        if user not in free:
            free[user] = np.setdiff1d(raw.movies["movie_id"], raw.movie_ids[raw.user_ids == user]).tolist()
    return {int(row): free[raw.user_ids[row]].pop() for row in rows}


class TestWhatIsSaid:
    def test_how_many_histories_are_cut_and_empty(self, small_dir, logged):
        _, train, _, _ = adapter_of(small_dir).build()
        history = train.histories[HISTORY]
        assert history.num_cut > 0
        said = [message for _, message in logged if message.startswith(f"training: {len(history)} histories")]
        assert f"{history.num_cut} of them longer than 5 likes and cut to the latest" in said[0]
        assert f"{history.num_empty} empty" in said[0]
        assert not [message for level, message in logged if level == "WARNING"]

    @pytest.mark.parametrize("name", SEQUENCE_MODELS)
    def test_all_empty_histories_are_warned_of_and_train(self, small_dir, tmp_path, logged, name):
        rows = len((small_dir / "u.data").read_text().splitlines())
        folder = rewritten(small_dir, tmp_path / "one second", times=dict.fromkeys(range(rows), 880_000_000))
        schema, train, validation, _ = adapter_of(folder, history_ties="strictly_earlier").build()
        assert train.histories[HISTORY].num_empty == train.num_likes
        config = load_config(None, ["device=cpu", "training.num_epochs=2", "training.batch_size=1024",
                                    "dnn.hidden_units=[8]", "cin.layer_sizes=[4]"])  # fmt: skip
        task = CTRTask(create_model(name, schema, config), config, train, validation)
        state = fit(task, config.training, device=CPU)
        assert [message for level, message in logged if level == "WARNING" and "every history is empty" in message]
        assert state.history[-1]["loss"] < state.history[0]["loss"]
        assert np.isfinite(score_rows(task.model, validation)).all()


def model_of(name, schema):
    torch.manual_seed(0)
    config = load_config(None, ["dnn.hidden_units=[16]", "cin.layer_sizes=[6,4]", "sin.fusion_dim=8"])
    return randomise(create_model(name, schema, config), 0.2).eval()


class TestPlantedFuture:
    """Whatever a user does at or after a moment is another movie, and nothing that stands for the moment moves."""

    @pytest.fixture
    def plain(self, small_dir):
        return adapter_of(small_dir, max_history=8)

    def replanted(self, plain, folder, target, rows, **options):
        """The data sets in which rows of the file have other movies; encoders and candidates stay."""
        changes = movies_never_rated(plain.raw, rows)
        adapter = adapter_of(rewritten(folder, target, movies=changes), max_history=8, **options)
        assert (adapter.raw.movie_ids != plain.raw.movie_ids).sum() == len(changes)
        return adapter, parts_of(adapter.build(plain.encoders, plain.candidates))

    def all_histories(self, part):
        histories = part.histories[HISTORY]
        return histories.latest(torch.arange(len(histories)))

    @pytest.mark.parametrize("name", SEQUENCE_MODELS)
    @pytest.mark.parametrize("future", [True, False])
    def test_logits_of_earlier_rows_stay_where_the_future_changes_and_move_where_the_past_does(
        self, plain, small_dir, tmp_path, name, future
    ):
        schema, train, *_ = plain.build()
        numbers, users = event_order(plain.raw.timestamps), plain._users
        now = np.array([np.sort(numbers[users == user])[(users == user).sum() // 2] for user in range(users.max() + 1)])
        likes = np.sort(plain.split.train)
        earlier = likes[numbers[likes] < now[users[likes]]]
        rows = np.flatnonzero(numbers >= now[users]) if future else earlier
        _, planted = self.replanted(plain, small_dir, tmp_path / "planted", rows)
        own = numbers[plain.split.train] - now[users[plain.split.train]]  # each training like's moment, from now on
        before, after = self.all_histories(train), self.all_histories(planted["train"])
        moved = (before != after).any(dim=1).numpy()
        model = model_of(name, schema)
        positives = torch.arange(train.num_likes) * 5  # negatives follow what a user has rated, and so the future
        with torch.no_grad():
            logits, planted_logits = (model(part.batch(positives)[0]).squeeze(1) for part in (train, planted["train"]))
        difference = (logits - planted_logits).abs().numpy()
        if future:
            assert not moved[own <= 0].any()
            assert moved[own > 0].mean() > 0.8
            assert not difference[own < 0].any()
        else:
            assert moved[own >= 0].mean() > 0.3
            assert (difference[(own >= 0) & moved] > 1e-6).mean() > 0.95, "an earlier like that changes moves the logit"
            assert not difference[(own >= 0) & ~moved].any()

    @pytest.mark.parametrize("ties", TIES)
    def test_the_same_second_counts_as_the_future_only_under_strictly_earlier(self, small_dir, tmp_path, ties):
        plain = adapter_of(small_dir, max_history=8, history_ties=ties)
        train = parts_of(plain.build())["train"]
        raw, likes = plain.raw, plain.split.train
        twins = [
            i
            for i in range(1, len(likes))
            if raw.user_ids[likes[i - 1]] == raw.user_ids[likes[i]]
            and raw.timestamps[likes[i - 1]] == raw.timestamps[likes[i]]
        ]
        place = twins[0]
        _, planted = self.replanted(plain, small_dir, tmp_path / "tie", [likes[place - 1]], history_ties=ties)
        before, after = (self.all_histories(part)[place] for part in (train, planted["train"]))
        assert torch.equal(before, after) == (ties == "strictly_earlier")

    @pytest.mark.parametrize("strategy", ["leave_one_out", "temporal", "random"])
    def test_held_out_likes_are_seen_by_nothing_before_them(self, small_dir, tmp_path, strategy):
        plain = adapter_of(small_dir, max_history=8, split_strategy=strategy)
        parts = parts_of(plain.build())
        _, planted = self.replanted(
            plain, small_dir, tmp_path / "test", plain.split.test, split_strategy=strategy
        )  # fmt: skip
        for split in SPLITS:
            assert torch.equal(self.all_histories(parts[split]), self.all_histories(planted[split])), split
        _, planted = self.replanted(
            plain, small_dir, tmp_path / "validation", plain.split.validation, split_strategy=strategy
        )  # fmt: skip
        for split in ("train", "validation"):
            assert torch.equal(self.all_histories(parts[split]), self.all_histories(planted[split])), split
        moved = self.all_histories(parts["test"]) != self.all_histories(planted["test"])
        assert moved.any()
        if strategy == "leave_one_out":
            known = self.all_histories(parts["test"])[:, -1] > 0  # a movie that training does not know is 0
            assert moved[known, -1].all()
            assert not moved[:, :-1].any()

    @pytest.mark.parametrize("name", SEQUENCE_MODELS)
    def test_candidates_scores_do_not_move_with_the_like_that_they_are_asked_for(
        self, plain, small_dir, tmp_path, name
    ):
        built = plain.build()
        model, parts = model_of(name, built[0]), parts_of(built)
        _, planted = self.replanted(plain, small_dir, tmp_path / "planted", plain.split.test)
        for split in ("validation", "test"):
            np.testing.assert_array_equal(score_rows(model, parts[split]), score_rows(model, planted[split]))
        _, planted = self.replanted(plain, small_dir, tmp_path / "validation", plain.split.validation)
        scores = [score_rows(model, part) for part in (parts["test"], planted["test"])]
        assert (np.abs(scores[0] - scores[1]) > 1e-6).mean() > 0.9


@pytest.fixture(scope="module", params=TIES)
def real(movielens_dir, request):
    config = DataConfig(source="files", history_ties=request.param)
    adapter = MovieLensAdapter(movielens_dir, config, max_history=50)
    return adapter, parts_of(adapter.build())


@pytest.mark.slow
class TestRealMovieLens:
    def test_each_history_is_the_users_earlier_visible_likes(self, real):
        adapter, parts = real
        rng = np.random.default_rng(0)
        for split in SPLITS:
            histories = parts[split].histories[HISTORY]
            places = rng.choice(len(histories), 15, replace=False)
            assert_histories_are_the_loops(adapter, histories, split, places.tolist())

    def test_nothing_visible_is_at_or_after_the_moment(self, real):
        assert_nothing_visible_is_at_or_after_a_moment(real[0])

    def test_hand_counted_lengths(self, real):
        adapter, parts = real
        assert [len(parts[split].histories[HISTORY]) for split in SPLITS] == [53_491, 942, 942]
        assert [len(parts[split].histories[HISTORY].events) for split in SPLITS] == [53_491, 53_491, 54_433]
        if adapter.config.history_ties == "file_order":
            assert parts["train"].histories[HISTORY].num_empty == 942, "each user's first like, and no other"
            for split in ("validation", "test"):
                assert parts[split].histories[HISTORY].num_empty == 0

    def test_a_history_is_stored_once_a_user_not_once_a_row(self, real):
        _, parts = real
        for part in parts.values():
            assert 40 * part.histories[HISTORY].nbytes < 4 * len(part) * 50
        assert sum(part.histories[HISTORY].nbytes for part in parts.values()) < 2_000_000

    def test_no_training_history_holds_the_rows_own_movie(self, real):
        train = real[1]["train"]
        for likes in (torch.arange(train.num_likes) * 5).split(10_000):
            features, labels = train.batch(likes)
            assert labels.all()
            assert not (features[HISTORY] == features["movie_id"].unsqueeze(1)).any()

    def test_a_future_that_changes_is_not_seen(self, real, monkeypatch):
        adapter, parts = real
        numbers = event_order(adapter.raw.timestamps, adapter.config.history_ties)
        now = int(np.median(numbers))
        changes = movies_never_rated(adapter.raw, np.flatnonzero(numbers >= now))
        movies = adapter.raw.movie_ids.copy()
        movies[list(changes)] = list(changes.values())
        raw = dataclasses.replace(adapter.raw, movie_ids=movies)
        monkeypatch.setattr("deepfm.data.movielens.load_movielens", lambda *_: raw)
        planted = MovieLensAdapter("anywhere", adapter.config, max_history=50)
        after = parts_of(planted.build(adapter.encoders, adapter.candidates))
        for split in SPLITS:
            of = adapter.moments_of(split)[1]
            seen, seen_after = (
                part.histories[HISTORY].latest(torch.arange(len(of))) for part in (parts[split], after[split])
            )
            moved = (seen != seen_after).any(dim=1).numpy()
            assert not moved[of <= now].any()
            assert moved[of > now].mean() > 0.5
