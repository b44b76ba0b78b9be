"""The baselines against plain versions of their definitions."""

import numpy as np
import pytest

from deepfm.baselines import EASE, ItemKNN, Popularity, run_baseline
from deepfm.config import load_config
from deepfm.engine.run import RunFolder
from deepfm.errors import ConfigError

USERS, ITEMS = 9, 7


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


def scores_of(baseline, likes, pairs):
    scores = baseline.fit(*likes, USERS, ITEMS).score(*pairs)
    assert scores.shape == (USERS * ITEMS,)
    assert scores.dtype == np.float32
    table = np.zeros((USERS, ITEMS))
    table[pairs] = scores
    return table


def test_popularity_counts_users(likes, matrix, pairs):
    counts = [len({user for user, item in zip(*likes, strict=True) if item == wanted}) for wanted in range(ITEMS)]
    np.testing.assert_array_equal(scores_of(Popularity(), likes, pairs), np.tile(counts, (USERS, 1)))


@pytest.mark.parametrize("neighbours", [1, 2, 4, 100])
@pytest.mark.parametrize("shrink", [0.0, 3.0])
def test_item_knn_by_loops(likes, matrix, pairs, neighbours, shrink):
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
    found = scores_of(ItemKNN(neighbours, shrink), likes, pairs)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("l2", [0.5, 20.0])
def test_ease_solves_its_least_squares(likes, matrix, pairs, l2):
    """Each column is a ridge regression on all other columns: an independent closed form of the same optimum."""
    expected = np.zeros((ITEMS, ITEMS))
    for item in range(ITEMS):
        others = [other for other in range(ITEMS) if other != item]
        x = matrix[:, others]
        expected[others, item] = np.linalg.solve(x.T @ x + l2 * np.eye(ITEMS - 1), x.T @ matrix[:, item])
    np.testing.assert_allclose(scores_of(EASE(l2), likes, pairs), matrix @ expected, rtol=1e-4, atol=1e-6)


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
        (ItemKNN, {"neighbours": 0}),
        (ItemKNN, {"shrink": -0.5}),
        (ItemKNN, {"shrink": float("nan")}),
    ],
)
def test_options_out_of_range_are_refused(baseline, options):
    with pytest.raises(ConfigError, match=f"{next(iter(options))} = .*expected"):
        baseline(**options)


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
