import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfm.data.movielens import MovieLensAdapter
from deepfm.data.negatives import (
    Candidates,
    NegativeSampler,
    candidates_fingerprint,
    draw_candidates,
    load_candidates,
    save_candidates,
)
from deepfm.errors import DataError, RunError

UNTIMED = settings(deadline=None, max_examples=60)


@st.composite
def exclusions(draw):
    """(excluded pairs, num_users, num_items), with repeats and users who have none or nearly all excluded."""
    num_users, num_items = draw(st.integers(1, 5)), draw(st.integers(1, 9))
    pair = st.tuples(st.integers(0, num_users - 1), st.integers(0, num_items - 1))
    return draw(st.lists(pair, max_size=40)), num_users, num_items


def sampler_of(pairs, num_users, num_items):
    users, items = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return NegativeSampler(users, items, num_users, num_items)


def allowed_items(pairs, num_users, num_items):
    excluded = set(pairs)
    return [[item for item in range(num_items) if (user, item) not in excluded] for user in range(num_users)]


class TestNegativeSampler:
    @UNTIMED
    @given(exclusions())
    def test_the_rth_allowed_item_is_that_of_an_enumeration(self, case):
        sampler, allowed = sampler_of(*case), allowed_items(*case)
        assert sampler.num_allowed.tolist() == [len(items) for items in allowed]
        users = np.array([user for user, items in enumerate(allowed) for _ in items], dtype=np.int64)
        ranks = np.array([rank for items in allowed for rank in range(len(items))], dtype=np.int64)
        assert sampler._select(users, ranks).tolist() == [item for items in allowed for item in items]

    @UNTIMED
    @given(exclusions(), st.integers(0, 2**32))
    def test_only_allowed_items_are_drawn_and_each_can_be(self, case, seed):
        sampler, allowed = sampler_of(*case), allowed_items(*case)
        users = np.array([user for user, items in enumerate(allowed) if items], dtype=np.int64)
        drawn = sampler.sample(users, 300, np.random.default_rng(seed))
        assert drawn.shape == (len(users), 300)
        # 300 draws miss one of at most nine items with probability below 1e-14.
        assert [sorted(set(row)) for row in drawn.tolist()] == [allowed[user] for user in users]

    @UNTIMED
    @given(exclusions(), st.integers(1, 12))
    def test_distinct_items_are_allowed_and_distinct(self, case, count):
        sampler, allowed = sampler_of(*case), allowed_items(*case)
        for user, items in enumerate(allowed):
            if not items:
                with pytest.raises(DataError, match=f"user number {user} has every one of"):
                    sampler.sample_distinct(user, count, np.random.default_rng(0))
                continue
            drawn = sampler.sample_distinct(user, count, np.random.default_rng(0)).tolist()
            assert len(drawn) == len(set(drawn)) == min(count, len(items))
            assert set(drawn) <= set(items)

    def test_draws_are_uniform(self):
        excluded = [(0, item) for item in (0, 3, 4, 5, 11)] + [(1, item) for item in range(10)]
        sampler = sampler_of(excluded, 3, 12)
        draws = 12_000
        for user, allowed in enumerate(allowed_items(excluded, 3, 12)):
            drawn = sampler.sample(np.full(draws, user), 1, np.random.default_rng(5))
            counts = np.bincount(drawn.reshape(-1), minlength=12)[allowed]
            expected = draws / len(allowed)
            chi_square = ((counts - expected) ** 2 / expected).sum()
            assert chi_square < 3 * len(allowed) + 10  # its mean is len(allowed) - 1

    def test_distinct_draws_are_uniform(self):
        excluded = [(0, item) for item in (0, 3, 4)]
        sampler, rng = sampler_of(excluded, 1, 12), np.random.default_rng(6)
        counts = np.bincount(np.concatenate([sampler.sample_distinct(0, 3, rng) for _ in range(4000)]), minlength=12)
        expected = 4000 * 3 / 9
        assert ((counts[counts > 0] - expected) ** 2 / expected).sum() < 40
        assert (counts > 0).sum() == 9

    def test_the_columns_of_a_draw_are_independent(self):
        drawn = sampler_of([], 1, 2).sample(np.zeros(4000, dtype=np.int64), 2, np.random.default_rng(0))
        pairs = np.bincount(drawn[:, 0] * 2 + drawn[:, 1], minlength=4)
        assert (np.abs(pairs - 1000) < 150).all()

    def test_the_same_generator_state_gives_the_same_draw(self):
        sampler, users = sampler_of([(0, 1)], 2, 50), np.array([0, 1, 0])
        draws = [sampler.sample(users, 6, np.random.default_rng(seed)).tolist() for seed in (1, 1, 2)]
        assert draws[0] == draws[1] != draws[2]

    def test_a_user_without_an_allowed_item_is_named(self):
        sampler = sampler_of([(1, item) for item in range(4)], 3, 4)
        with pytest.raises(DataError, match="user number 1 has every one of the 4 items excluded"):
            sampler.sample(np.array([0, 1, 2]), 2, np.random.default_rng(0))
        assert sampler.sample(np.array([0, 2]), 2, np.random.default_rng(0)).shape == (2, 2)

    def test_no_users_draw_nothing(self):
        assert sampler_of([(0, 0)], 1, 3).sample(np.zeros(0, dtype=np.int64), 4, np.random.default_rng(0)).shape == (
            0,
            4,
        )

    def test_repeated_exclusions_count_once(self):
        assert sampler_of([(0, 2)] * 5, 1, 4).num_allowed.tolist() == [3]

    def test_narrow_integers_do_not_overflow(self):
        users, items = np.array([999], dtype=np.int16), np.array([1999], dtype=np.int16)
        sampler = NegativeSampler(users, items, 1000, 2000)
        drawn = sampler.sample(np.full(50, 999, dtype=np.int16), 100, np.random.default_rng(0))
        assert drawn.min() >= 0
        assert drawn.max() < 1999

    def test_its_text_says_how_much_is_excluded(self):
        assert repr(sampler_of([(0, 1), (1, 1)], 2, 5)) == "NegativeSampler(2 users, 5 items, 2 pairs excluded)"


RATED = [(0, item) for item in range(5)] + [(1, item) for item in range(3, 11)] + [(3, 0)]
HELD_OUT_USERS, HELD_OUT_ITEMS = np.array([3, 0, 1, 0]), np.array([0, 4, 7, 2])


def drawn_candidates(num_negatives=6, seed=0):
    sampler = sampler_of(RATED, 4, 12)
    return draw_candidates(HELD_OUT_USERS, HELD_OUT_ITEMS, sampler, num_negatives, np.random.default_rng(seed))


def groups_of(candidates):
    bounds = zip(candidates.offsets[:-1], candidates.offsets[1:], strict=True)
    return {
        int(user): (candidates.items[start:end].tolist(), candidates.labels[start:end].tolist())
        for user, (start, end) in zip(candidates.users, bounds, strict=True)
    }


class TestDrawCandidates:
    def test_each_user_has_its_positives_and_then_negatives(self):
        groups = groups_of(drawn_candidates())
        assert list(groups) == [0, 1, 3]
        positives = {user: items[: int(sum(labels))] for user, (items, labels) in groups.items()}
        assert positives == {0: [4, 2], 1: [7], 3: [0]}
        for items, labels in groups.values():
            assert labels == sorted(labels, reverse=True)
            assert len(set(items)) == len(items)

    def test_no_negative_was_ever_rated(self):
        for seed in range(20):
            for user, (items, labels) in groups_of(drawn_candidates(seed=seed)).items():
                negatives = [item for item, label in zip(items, labels, strict=True) if not label]
                assert not {(user, item) for item in negatives} & set(RATED)

    def test_a_short_pool_is_taken_whole(self):
        groups = groups_of(drawn_candidates(num_negatives=10))
        assert sorted(groups[1][0][1:]) == [0, 1, 2, 11]
        assert sorted(groups[0][0][2:]) == list(range(5, 12))
        assert len(groups[3][0]) == 1 + 10

    def test_the_seed_fixes_them(self):
        one, same, other = (drawn_candidates(seed=seed) for seed in (3, 3, 4))
        assert candidates_fingerprint({"test": one}) == candidates_fingerprint({"test": same})
        assert candidates_fingerprint({"test": one}) != candidates_fingerprint({"test": other})
        assert one.items.tolist() == same.items.tolist() != other.items.tolist()

    def test_no_held_out_pairs_give_no_groups(self):
        none = np.zeros(0, dtype=np.int64)
        candidates = draw_candidates(none, none, sampler_of(RATED, 4, 12), 3, np.random.default_rng(0))
        assert len(candidates.users) == len(candidates.items) == 0
        assert candidates.offsets.tolist() == [0]

    def test_a_user_without_a_negative_is_an_error_here_and_not_in_the_middle_of_training(self):
        """A group without a negative is refused by the evaluator, after the first epoch."""
        sampler = sampler_of([(0, item) for item in range(4)], 1, 4)
        with pytest.raises(DataError):
            draw_candidates(np.array([0]), np.array([2]), sampler, 3, np.random.default_rng(0))


class TestCandidates:
    def test_sizes_and_text(self):
        candidates = drawn_candidates()
        assert candidates.sizes.tolist() == [8, 5, 7]
        assert repr(candidates) == "Candidates(3 users, 20 rows, 4 positives)"

    @pytest.mark.parametrize(
        ("offsets", "items", "labels"),
        [
            ([0, 2], [1, 2], [1, 0]),
            ([0, 1, 3], [1, 2], [1, 0]),
            ([1, 1, 2], [1, 2], [1, 0]),
            ([0, 0, 2], [1, 2], [1, 0]),
            ([0, 2, 2], [1, 2], [1, 0]),
            ([0, 3, 2], [1, 2], [1, 0]),
            ([0, 1, 2], [1, 2], [1]),
        ],
    )
    def test_offsets_that_do_not_fit_are_refused(self, offsets, items, labels):
        with pytest.raises(DataError, match="do not fit"):
            Candidates(np.array([0, 1]), np.array(offsets), np.array(items), np.array(labels, dtype=np.float32))


class TestFile:
    def test_candidates_survive_their_file(self, tmp_path):
        sets = {"validation": drawn_candidates(seed=1), "test": drawn_candidates(seed=2), "a_b": drawn_candidates()}
        save_candidates(sets, tmp_path / "candidates.npz")
        loaded = load_candidates(tmp_path / "candidates.npz")
        assert list(loaded) == list(sets)
        for name, one in sets.items():
            for part, array in vars(one).items():
                got = getattr(loaded[name], part)
                assert got.dtype == array.dtype
                np.testing.assert_array_equal(got, array)
        assert candidates_fingerprint(loaded) == candidates_fingerprint(sets)

    def test_a_file_that_is_not_there_is_named(self, tmp_path):
        with pytest.raises(RunError, match=r"absent\.npz does not exist"):
            load_candidates(tmp_path / "absent.npz")

    @pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
    def test_a_truncated_file_is_refused(self, share, tmp_path):
        path = tmp_path / "candidates.npz"
        save_candidates({"test": drawn_candidates()}, path)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(RunError, match=r"candidates\.npz"):
            load_candidates(path)

    @pytest.mark.parametrize("drop", ["users", "offsets", "items", "labels"])
    def test_a_file_without_a_part_is_refused(self, drop, tmp_path):
        arrays = {f"test_{name}": array for name, array in vars(drawn_candidates()).items() if name != drop}
        np.savez(tmp_path / "candidates.npz", **arrays)
        with pytest.raises(RunError, match=r"candidates\.npz"):
            load_candidates(tmp_path / "candidates.npz")

    def test_arrays_that_do_not_fit_each_other_are_refused(self, tmp_path):
        arrays = {f"test_{name}": array for name, array in vars(drawn_candidates()).items()}
        np.savez(tmp_path / "candidates.npz", **arrays | {"test_items": np.arange(3)})
        with pytest.raises(RunError, match=r"candidates\.npz"):
            load_candidates(tmp_path / "candidates.npz")

    def test_a_pickle_is_refused_and_not_executed(self, tmp_path):
        witness, path = tmp_path / "executed", tmp_path / "candidates.npz"
        path.write_bytes(pickle.dumps(_Touch(witness)))
        with pytest.raises(RunError, match=r"candidates\.npz"):
            load_candidates(path)
        assert not witness.exists()

    def test_a_pickled_array_in_the_archive_is_refused_and_not_executed(self, tmp_path):
        witness, path = tmp_path / "executed", tmp_path / "candidates.npz"
        objects = np.empty(1, dtype=object)
        objects[0] = _Touch(witness)
        arrays = {f"test_{name}": array for name, array in vars(drawn_candidates()).items()}
        np.savez(path, **arrays | {"test_items": objects})
        with zipfile.ZipFile(path) as archive:  # the attack is real: unpickling it would execute it
            archived = archive.read("test_items.npy")
        with pytest.raises(RunError, match=r"candidates\.npz"):
            load_candidates(path)
        assert not witness.exists()
        np.load(io.BytesIO(archived), allow_pickle=True)
        assert witness.exists()

    def test_a_failed_write_leaves_the_old_file(self, tmp_path, monkeypatch):
        path = tmp_path / "candidates.npz"
        save_candidates({"test": drawn_candidates()}, path)
        before = path.read_bytes()

        def full(*_, **__):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(np, "savez_compressed", full)
        with pytest.raises(RunError, match="No space left"):
            save_candidates({"test": drawn_candidates(seed=9)}, path)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]


class _Touch:
    """Whoever unpickles this creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


class TestFingerprint:
    def test_the_order_of_splits_does_not_matter(self):
        one, two = drawn_candidates(seed=1), drawn_candidates(seed=2)
        prints = [candidates_fingerprint(sets) for sets in ({"a": one, "b": two}, {"b": two, "a": one})]
        assert prints[0] == prints[1]
        assert candidates_fingerprint({"a": two, "b": one}) != prints[0]
        assert candidates_fingerprint({"c": one, "b": two}) != prints[0]

    @pytest.mark.parametrize("part", ["users", "items", "labels"])
    def test_it_changes_with_any_value(self, part):
        plain = drawn_candidates()
        changed = {name: array.copy() for name, array in vars(plain).items()}
        changed[part][0] = 0 if changed[part][0] else 1
        assert candidates_fingerprint({"a": plain}) != candidates_fingerprint({"a": Candidates(**changed)})

    def test_it_changes_with_the_bounds_of_groups(self):
        items, labels = np.arange(4), np.array([1, 0, 0, 0], dtype=np.float32)
        prints = {
            candidates_fingerprint({"a": Candidates(np.array([0, 1]), np.array([0, cut, 4]), items, labels)})
            for cut in (1, 2, 3)
        }
        assert len(prints) == 3


class TestSmallMovieLens:
    @pytest.fixture
    def rated(self, small_adapter):
        return set(zip(small_adapter._users.tolist(), small_adapter._movies.tolist(), strict=True))

    def drawn_negatives(self, adapter, epochs=10):
        _, train, _, _ = adapter.build()
        drawn = set()
        for epoch in range(1, epochs + 1):
            train.resample(epoch)
            negative = train.labels == 0
            drawn |= set(zip(train.users[negative].tolist(), train.items[negative].tolist(), strict=True))
        return drawn

    def test_unrated_negatives_were_never_rated(self, small_adapter, rated):
        assert not self.drawn_negatives(small_adapter) & rated

    def test_unseen_negatives_were_never_rated_but_for_held_out_likes(self, small_dir, small_config, rated):
        adapter = MovieLensAdapter(small_dir, type(small_config)(source="files", train_negatives="unseen"))
        held_out = {
            (int(adapter._users[row]), int(adapter._movies[row]))
            for part in (adapter.split.validation, adapter.split.test)
            for row in part
        }
        rated_and_drawn = self.drawn_negatives(adapter) & rated
        assert rated_and_drawn
        assert rated_and_drawn <= held_out

    def test_candidates_are_distinct_and_never_rated_but_for_the_positive(self, small_adapter, rated):
        small_adapter.build()
        for split, part in (
            ("validation", small_adapter.split.validation),
            ("test", small_adapter.split.test),
        ):
            positives = dict(
                zip(small_adapter._users[part].tolist(), small_adapter._movies[part].tolist(), strict=True)
            )
            for user, (items, labels) in groups_of(small_adapter.candidates[split]).items():
                assert labels == [1] + [0] * (len(items) - 1)
                assert items[0] == positives[user]
                assert len(set(items)) == len(items)
                assert not {(user, item) for item in items[1:]} & rated

    def test_the_models_seed_does_not_move_the_candidates(self, small_dir, small_config):
        prints = []
        for seed, candidate_seed in ((1, 42), (2, 42), (1, 43)):
            config = type(small_config)(source="files", num_neg_eval=50, candidate_seed=candidate_seed)
            adapter = MovieLensAdapter(small_dir, config, seed=seed)
            adapter.build()
            prints.append(candidates_fingerprint(adapter.candidates))
        assert prints[0] == prints[1] != prints[2]
