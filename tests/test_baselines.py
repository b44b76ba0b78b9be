"""The baselines against plain versions of their definitions."""

import numpy as np
import pytest

from deepfm.baselines import EASE, NO_ITEM, ItemKNN, Moments, Popularity, Transitions, moments_in, run_baseline
from deepfm.baselines.transitions import NEGLIGIBLE, decayed_transitions
from deepfm.cli import main
from deepfm.config import DataConfig, load_config
from deepfm.data.movielens import MovieLensAdapter
from deepfm.engine.run import RunFolder
from deepfm.errors import ConfigError
from deepfm.reporting import Document
from deepfm.training import experiment

USERS, ITEMS = 9, 7
SPLITS = ["leave_one_out", "temporal", "random"]


@pytest.fixture
def likes():
    """Pairs, some of them repeated; the last item is liked by nobody, the last user likes nothing."""
    rng = np.random.default_rng(11)
    matrix = rng.random((USERS, ITEMS)) < 0.45
    matrix[-1], matrix[:, -1] = False, False
    users, items = np.nonzero(matrix)
    repeated = rng.integers(0, len(users), 5)
    return np.append(users, users[repeated]), np.append(items, items[repeated])


@pytest.fixture
def matrix(likes):
    dense = np.zeros((USERS, ITEMS))
    dense[likes] = 1.0
    return dense


@pytest.fixture
def pairs():
    users, items = np.divmod(np.random.default_rng(0).permutation(USERS * ITEMS), ITEMS)
    return users, items


@pytest.fixture
def moments():
    """Every user, with histories that say something else than the likes: most baselines have no use for them."""
    return Moments(np.arange(USERS), np.random.default_rng(5).integers(NO_ITEM, ITEMS, (USERS, 4)))


def scores_of(baseline, likes, pairs, moments):
    scores = baseline.fit(*likes, USERS, ITEMS).score(moments, *pairs)
    assert scores.shape == (USERS * ITEMS,)
    assert scores.dtype == np.float32
    table = np.zeros((USERS, ITEMS))
    table[pairs] = scores
    return table


def test_popularity_counts_users(likes, matrix, pairs, moments):
    counts = [len({user for user, item in zip(*likes, strict=True) if item == wanted}) for wanted in range(ITEMS)]
    np.testing.assert_array_equal(scores_of(Popularity(), likes, pairs, moments), np.tile(counts, (USERS, 1)))


@pytest.mark.parametrize("neighbours", [1, 2, 4, 100])
@pytest.mark.parametrize("shrink", [0.0, 3.0])
def test_item_knn_by_loops(likes, matrix, pairs, moments, neighbours, shrink):
    similarity = np.zeros((ITEMS, ITEMS))
    for one in range(ITEMS):
        for other in range(ITEMS):
            together = sum(matrix[user, one] * matrix[user, other] for user in range(USERS))
            if one != other and together:
                norm = np.sqrt(matrix[:, one].sum()) * np.sqrt(matrix[:, other].sum())
                similarity[one, other] = together / (norm + shrink)
    expected = np.zeros((USERS, ITEMS))
    for item in range(ITEMS):
        cut = sorted(similarity[:, item], reverse=True)[min(neighbours, ITEMS) - 1]
        for user in range(USERS):
            kept = [similarity[liked, item] for liked in np.flatnonzero(matrix[user])]
            expected[user, item] = sum(value for value in kept if value >= cut)
    found = scores_of(ItemKNN(neighbours, shrink), likes, pairs, moments)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("l2", [0.5, 20.0])
def test_ease_solves_its_least_squares(likes, matrix, pairs, moments, l2):
    """Each column is a ridge regression on all other columns: an independent closed form of the same optimum."""
    expected = np.zeros((ITEMS, ITEMS))
    for item in range(ITEMS):
        others = [other for other in range(ITEMS) if other != item]
        x = matrix[:, others]
        expected[others, item] = np.linalg.solve(x.T @ x + l2 * np.eye(ITEMS - 1), x.T @ matrix[:, item])
    np.testing.assert_allclose(scores_of(EASE(l2), likes, pairs, moments), matrix @ expected, rtol=1e-4, atol=1e-6)


def test_ease_is_a_minimum_with_a_zero_diagonal(likes, matrix):
    l2 = 2.0
    weights = EASE(l2).fit(*likes, USERS, ITEMS)._weights
    assert (weights.diagonal() == 0).all()

    def objective(candidate):
        return np.square(matrix - matrix @ candidate).sum() + l2 * np.square(candidate).sum()

    best, rng = objective(weights), np.random.default_rng(0)
    for size in (1e-3, 1e-2, 0.3):
        for _ in range(20):
            change = rng.normal(0, size, weights.shape)
            np.fill_diagonal(change, 0.0)
            assert objective(weights + change) > best
    for one, other in zip(*np.nonzero(~np.eye(ITEMS, dtype=bool)), strict=True):
        nudge = np.zeros_like(weights)
        nudge[one, other] = 1e-4
        assert min(objective(weights + nudge), objective(weights - nudge)) > best


@pytest.mark.parametrize(
    ("baseline", "options"),
    [
        (EASE, {"l2": 0.0}),
        (EASE, {"l2": -1.0}),
        (EASE, {"l2": float("nan")}),
        (EASE, {"l2": float("inf")}),
        (EASE, {"half_life": 0.0}),
        (EASE, {"half_life": float("inf")}),
        (ItemKNN, {"neighbours": 0}),
        (ItemKNN, {"shrink": -0.5}),
        (ItemKNN, {"shrink": float("nan")}),
        (Transitions, {"tau": 0.0}),
        (Transitions, {"tau": float("inf")}),
        (Transitions, {"damping": -0.1}),
        (Transitions, {"damping": 1.1}),
        (Transitions, {"damping": float("nan")}),
        (Transitions, {"half_life": -5.0}),
        (Transitions, {"half_life": float("nan")}),
    ],
)
def test_options_out_of_range_are_refused(baseline, options):
    with pytest.raises(ConfigError, match=f"{next(iter(options))} = .*expected"):
        baseline(**options)


class TestMoments:
    def test_decayed_likes_by_hand(self):
        moments = Moments(np.array([4, 2, 7]), np.array([[NO_ITEM, 0, 1], [2, 1, 2], [NO_ITEM] * 3]))
        half = np.sqrt(0.5)  # after one like of two that halve
        wanted = [[half, 1.0, 0.0], [0.0, half, 1.5], [0.0, 0.0, 0.0]]
        np.testing.assert_allclose(moments.decayed_likes(2.0, 3).toarray(), wanted, rtol=1e-12)

    @pytest.mark.parametrize("ties", ["file_order", "strictly_earlier"])
    @pytest.mark.parametrize("strategy", SPLITS)
    @pytest.mark.parametrize("split", ["validation", "test"])
    def test_they_hold_what_came_before_the_first_positive(self, small_dir, strategy, split, ties):
        adapter = adapter_of(small_dir, strategy, ties)
        raw, parts = adapter.raw, adapter.split
        visible = np.sort(np.append(parts.train, parts.validation) if split == "test" else parts.train)
        place = np.arange(len(raw.timestamps)) if ties == "file_order" else np.zeros(len(raw.timestamps))
        when = list(zip(raw.timestamps.tolist(), place.tolist(), strict=True))
        found = moments_in(adapter, split)
        assert found.users.tolist() == adapter.candidates[split].users.tolist()
        for user, history in zip(found.users, found.histories, strict=True):
            user_id = raw.users["user_id"][user]
            first = min(when[row] for row in getattr(parts, split) if raw.user_ids[row] == user_id)
            rows = [row for row in visible if raw.user_ids[row] == user_id and when[row] < first]
            movies = [raw.movie_ids[row] for row in sorted(rows, key=lambda row: when[row])]
            assert raw.movies["movie_id"][history[len(history) - len(movies) :]].tolist() == movies
            assert (history[: len(history) - len(movies)] == NO_ITEM).all()

    @pytest.mark.parametrize("strategy", SPLITS)
    @pytest.mark.parametrize("baseline", [Transitions(), EASE(half_life=5.0)])
    def test_a_like_at_or_after_the_moment_changes_nothing(self, small_dir, strategy, baseline, monkeypatch):
        adapter = adapter_of(small_dir, strategy)
        baseline.fit(*adapter.training_likes(), adapter.num_users, adapter.num_items)
        users, numbers = adapter.moments_of("test")
        seen = adapter.visible_likes("test")
        groups, items = (grid.ravel() for grid in np.indices((len(users), adapter.num_items)))

        def scores_with(shift):
            """Every user is seen to have liked one movie more, so long after the moment."""
            planted = users, numbers + shift, np.arange(len(users)) % adapter.num_items
            both = tuple(np.concatenate(pair) for pair in zip(seen, planted, strict=True))
            monkeypatch.setattr(adapter, "visible_likes", lambda split: both)
            return baseline.score(moments_in(adapter, "test"), groups, items)

        as_it_is = baseline.score(moments_in(adapter, "test"), groups, items)
        for shift in (0, 1, 1000):
            np.testing.assert_array_equal(scores_with(shift), as_it_is)
        assert (scores_with(-1) != as_it_is).any()

    def test_the_validation_like_is_seen_by_the_test_alone(self, small_adapter):
        small_adapter.build()
        validation, test = (moments_in(small_adapter, split) for split in ("validation", "test"))
        seen = dict(zip(validation.users.tolist(), validation.histories, strict=True))
        rows = small_adapter.split.validation
        held_out = dict(zip(small_adapter._users[rows].tolist(), small_adapter._movies[rows].tolist(), strict=True))
        for user, history in zip(test.users.tolist(), test.histories, strict=True):
            assert history[-1] == held_out[user]
            assert held_out[user] not in seen[user]


def adapter_of(folder, strategy, ties="file_order"):
    config = DataConfig(source="files", num_neg_eval=20, split_strategy=strategy, history_ties=ties)
    adapter = MovieLensAdapter(folder, config)
    adapter.build()
    return adapter


class TestTransitions:
    LIKES = np.array([3, 0, 3, 3, 0]), np.array([0, 2, 1, 2, 0])  # user 3 liked 0, 1, 2 and user 0 liked 2, 0

    def test_weights_by_hand(self):
        skipped = np.exp(-1 / 2)  # one like between
        table = np.array([[0, 1, skipped, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
        np.testing.assert_allclose(decayed_transitions(*self.LIKES, 4, tau=2.0), table, rtol=1e-12)
        popularity = np.array([2, 1, 2, 1])  # the last has no like, and no weight either
        for damping in (0.0, 0.5, 1.0):
            weights = Transitions(tau=2.0, damping=damping).fit(*self.LIKES, 5, 4)._weights
            np.testing.assert_allclose(weights, table / popularity**damping, rtol=1e-12)

    def test_scores_by_hand(self):
        baseline = Transitions(tau=2.0, damping=0.5, half_life=2.0).fit(*self.LIKES, 5, 4)
        moments = Moments(np.array([3, 1, 2]), np.array([[0, 2, 1], [NO_ITEM, NO_ITEM, 2], [NO_ITEM] * 3]))
        groups, items = np.divmod(np.arange(12), 4)
        age_1, age_2, skipped, popular = np.sqrt(0.5), 0.5, np.exp(-0.5), np.sqrt(2)
        of_three = [age_1 / popular, age_2, age_2 * skipped / popular + 1 / popular, 0]  # by likes 2; 0; 0 and 1
        wanted = [*of_three, 1 / popular, 0, 0, 0, *np.zeros(4)]
        scores = baseline.score(moments, groups, items)
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, wanted, rtol=1e-6)

    @pytest.mark.parametrize("tau", [0.05, 1.0, 3.0, 1e6])
    def test_weights_by_loops(self, tau):
        rng = np.random.default_rng(3)
        users, items = rng.integers(0, 6, 200), rng.integers(0, 30, 200)
        table = np.zeros((30, 30))
        for user in range(6):
            own = items[users == user]
            for earlier, one in enumerate(own):
                for later in range(earlier + 1, len(own)):
                    weight = np.exp(-(later - earlier - 1) / tau)
                    table[one, own[later]] += weight if weight >= NEGLIGIBLE else 0.0
        np.testing.assert_allclose(decayed_transitions(users, items, 30, tau), table, rtol=1e-10, atol=1e-12)

    def test_nobody_liked_two(self):
        assert not decayed_transitions(np.array([2, 0, 1]), np.array([0, 0, 1]), 3, 10.0).any()
        assert not decayed_transitions(np.array([0]), np.array([1]), 3, 10.0).any()

    def test_the_order_matters(self, likes, pairs, moments):
        users, items = likes
        forwards, backwards = decayed_transitions(*likes, ITEMS, 2.0), decayed_transitions(*reverse(likes), ITEMS, 2.0)
        np.testing.assert_allclose(backwards, forwards.T, rtol=1e-12)
        assert not np.allclose(forwards, forwards.T)
        scores = scores_of(Transitions(), likes, pairs, moments)
        assert not np.allclose(scores_of(Transitions(), reverse(likes), pairs, moments), scores)
        turned = Moments(moments.users, moments.histories[:, ::-1])
        assert not np.allclose(scores_of(Transitions(), likes, pairs, turned), scores)
        by_user = np.argsort(users, kind="stable")  # how users are mixed does not
        np.testing.assert_allclose(scores_of(Transitions(), (users[by_user], items[by_user]), pairs, moments), scores)


def reverse(likes):
    return tuple(column[::-1] for column in likes)


class TestEASEWithHalfLife:
    def test_the_latest_likes_count_most(self, likes, pairs, moments):
        weights = EASE(5.0).fit(*likes, USERS, ITEMS)._weights
        recent = EASE(5.0, half_life=2.0)
        expected = np.zeros((USERS, ITEMS))
        for user, history in enumerate(moments.histories):
            for age, item in enumerate(history[::-1]):
                if item != NO_ITEM:
                    expected[user] += 0.5 ** (age / 2.0) * weights[item]
        np.testing.assert_allclose(scores_of(recent, likes, pairs, moments), expected, rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(recent._weights, weights)

    def test_without_it_histories_are_not_looked_at(self, likes, matrix, pairs, moments):
        nothing = Moments(moments.users, np.full((USERS, 0), NO_ITEM))
        plain = scores_of(EASE(5.0), likes, pairs, moments)
        np.testing.assert_array_equal(scores_of(EASE(5.0, half_life=None), likes, pairs, nothing), plain)
        np.testing.assert_allclose(plain, matrix @ EASE(5.0).fit(*likes, USERS, ITEMS)._weights, rtol=1e-5, atol=1e-7)


class TestRuns:
    @pytest.fixture(autouse=True)
    def _no_plots(self, monkeypatch, tmp_path):
        monkeypatch.setattr(experiment, "build_run_report", lambda *_: Document("report", "", []))
        monkeypatch.chdir(tmp_path)

    def baseline(self, folder, name, *options, more=(), data):
        own = [f"data.data_dir={data}", "data.source=files", *more, f"output_dir={folder}"]
        assert main(["baseline", "--name", name, *options, "--quiet", "--override", *own]) == 0
        return RunFolder(folder).read_results()

    @pytest.mark.parametrize("strategy", SPLITS)
    def test_transitions(self, small_dir, strategy):
        more = ["data.num_neg_eval=20", f"data.split_strategy={strategy}"]
        results = self.baseline("run", "transitions", data=small_dir, more=more)
        assert (results["kind"], results["model"], results["weights"]) == ("baseline", "transitions", None)
        assert results["options"] == {"tau": 10.0, "damping": 0.5, "half_life": 5.0}
        assert 0 < results["validation"]["ndcg@10"] < 1
        popularity = self.baseline("popularity", "popularity", data=small_dir, more=more)
        assert results["protocol"] == popularity["protocol"]
        assert results["test"] != popularity["test"]

    def test_the_options_stand_in_results_and_in_compare(self, small_dir, capsys):
        more = ["data.num_neg_eval=20"]
        options = ["--tau", "3", "--damping", "0.25", "--half-life", "5"]
        transitions = self.baseline("runs/transitions", "transitions", *options, data=small_dir, more=more)
        assert transitions["options"] == {"tau": 3.0, "damping": 0.25, "half_life": 5.0}
        ease = self.baseline("runs/recent", "ease", "--half-life", "2.5", data=small_dir, more=more)
        assert ease["options"] == {"l2": 200.0, "half_life": 2.5}
        plain = self.baseline("runs/plain", "ease", data=small_dir, more=more)
        assert plain["options"] == {"l2": 200.0}
        assert plain["test"] != ease["test"]
        capsys.readouterr()
        assert main(["compare", "runs", "--json"]) == 0
        shown = capsys.readouterr().out
        for label in ("transitions (tau=3, damping=0.25)", "ease (half_life=2.5)", '"ease"'):
            assert label in shown

    @pytest.mark.parametrize(
        ("name", "option", "value"),
        [("transitions", "tau", "0"), ("transitions", "damping", "2"), ("ease", "half-life", "-1")],
    )
    def test_an_option_out_of_range(self, small_dir, tmp_path, capsys, name, option, value):
        own = [f"data.data_dir={small_dir}", "data.source=files", "output_dir=run"]
        assert main(["baseline", "--name", name, f"--{option}", value, "--override", *own]) == 2
        assert f"{option.replace('-', '_')} = {float(value)} is out of range" in capsys.readouterr().err
        assert not (tmp_path / "run").exists()

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("name", "options", "ndcg"),
        [("transitions", [], 0.165), ("ease", ["--half-life", "5"], 0.165), ("ease", [], 0.14)],
    )
    def test_on_movielens(self, movielens_dir, name, options, ndcg):
        results = self.baseline("run", name, *options, data=movielens_dir)
        assert ndcg <= results["validation"]["ndcg@10"] <= ndcg + 0.03


def test_an_unknown_name_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"'ese' is unknown; did you mean 'ease'\?"):
        run_baseline("ese", load_config(), RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_only_training_likes_are_seen(small_adapter):
    """No baseline scores a held-out like by having counted it."""
    adapter = small_adapter
    users, items = adapter.training_likes()
    seen = set(zip(users.tolist(), items.tolist(), strict=True))
    assert len(seen) == len(users) == len(adapter.split.train)
    adapter.build()
    for part in adapter.candidates.values():
        positive = part.labels > 0
        held_out = zip(np.repeat(part.users, part.sizes)[positive].tolist(), part.items[positive].tolist(), strict=True)
        assert not seen & set(held_out)
