"""Probes of features: values by hand, slow references, and what must not change them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import KNeighborsClassifier

from deepfm.errors import DataError
from deepfm.model_selection.probes import (
    PROBES,
    h_score,
    leep,
    logme,
    logme_of_targets,
    nce,
    neighbour_accuracy,
    ridge_accuracy,
    ridge_explained,
    run_probes,
    standardised,
)

ON_FEATURES = (logme, h_score, neighbour_accuracy, ridge_accuracy, ridge_explained)


def planted(rows=60, width=8, classes=3, apart=1.5, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    return rng.normal(size=(rows, width)) + apart * rng.normal(size=(classes, width))[labels], labels


def evidence_by_density(features, target):
    """The log density of y ~ N(0, I/β + FFᵀ/α) over n at its maximum, by a general optimiser."""

    def negative(logs):
        covariance = np.eye(len(target)) * np.exp(-logs[1]) + features @ features.T * np.exp(-logs[0])
        white = np.linalg.solve(np.linalg.cholesky(covariance), target)
        volume = np.linalg.slogdet(2 * np.pi * covariance)[1]
        return 0.5 * (white @ white + volume)

    found = [minimize(negative, start, method="Nelder-Mead", tol=1e-6) for start in ([0.0, 0.0], [2.0, 2.0])]
    return -min(each.fun for each in found) / len(target)


@pytest.mark.parametrize(("rows", "width"), [(24, 3), (12, 20)])
def test_logme_is_the_evidence_that_a_general_optimiser_finds(rows, width):
    features, labels = planted(rows, width, classes=3)
    by_density = [evidence_by_density(features, (labels == each).astype(float)) for each in range(3)]
    assert logme(features, labels) == pytest.approx(np.mean(by_density), abs=2e-5)
    target = features @ np.linspace(-1, 1, width) + np.random.default_rng(1).normal(size=rows)
    assert logme_of_targets(features, target) == pytest.approx(evidence_by_density(features, target), abs=2e-5)


def test_logme_of_regression_sees_the_signal_and_averages_targets():
    rng = np.random.default_rng(3)
    features = rng.normal(size=(80, 5))
    signal, noise = features @ rng.normal(size=5), rng.normal(size=80)
    apart = [logme_of_targets(features, target) for target in (signal / signal.std(), noise / noise.std())]
    assert apart[0] > apart[1] + 5
    both = np.stack([signal / signal.std(), noise / noise.std()], axis=1)
    assert logme_of_targets(features, both) == pytest.approx(np.mean(apart))


def test_logme_without_signal_is_the_evidence_of_noise():
    """Features of zeros leave y ~ N(0, 1/β) with β = n/Σy²."""
    target = np.array([1.0, -2.0, 0.5, 3.0])
    expected = -0.5 * (np.log(2 * np.pi * (target**2).mean()) + 1)
    assert logme_of_targets(np.zeros((4, 2)), target) == pytest.approx(expected)
    assert logme_of_targets(np.array([[1.0], [0], [0], [0]]), target) >= expected - 1e-9


def test_h_score_by_hand():
    features, labels = np.array([[0.0], [2], [4], [6]]), np.array([0, 0, 1, 1])
    assert h_score(features, labels, shrinkage=0.0) == pytest.approx(4 / 5)  # means 1 and 5 about 3; variance 5
    plane = np.array([[0.0, 1], [2, -1], [4, -1], [6, 1]])  # the second axis parts no class
    assert h_score(plane, labels, shrinkage=0.0) == pytest.approx(4 / 5)
    # half the covariance diag(5, 1) and half its mean 3·I, and half of the 4 between the means
    assert h_score(plane, labels, shrinkage=0.5) == pytest.approx(2 / 4)


def test_h_score_shrinks_as_ledoit_and_wolf_do():
    features, labels = planted(30, 12)
    fitted = LedoitWolf().fit(features)
    means = np.stack([features[labels == each].mean(axis=0) for each in range(3)])[labels]
    between = np.cov(means.T, bias=True)
    expected = np.trace(np.linalg.solve(fitted.covariance_, (1 - fitted.shrinkage_) * between))
    assert h_score(features, labels) == pytest.approx(expected)
    assert 0 < fitted.shrinkage_ < 1


def test_plain_h_score_is_full_where_rows_are_fewer_than_dimensions_and_the_shrunk_one_is_not():
    features, labels = planted(20, 40, classes=4, apart=0.0)
    assert h_score(features, labels, shrinkage=0.0) == pytest.approx(3.0)  # the classes less one, of pure noise
    assert h_score(features, labels) < 1.5


def test_leep_and_nce_by_hand():
    source = np.array([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.1, 0.9]])
    labels = np.array([0, 0, 0, 1])
    # column sums 1.8 and 2.2; P(0|z) = 1.7/1.8, 1.3/2.2; P(1|z) = 0.1/1.8, 0.9/2.2
    of_zero, of_one = np.array([1.7 / 1.8, 1.3 / 2.2]), np.array([0.1 / 1.8, 0.9 / 2.2])
    expected = np.mean(np.log([*(source[:3] @ of_zero), source[3] @ of_one]))
    assert leep(source, labels) == pytest.approx(expected)
    # z = 0, 0, 1, 1: the first source class is pure, the second an even split of two rows of four
    assert nce(source, labels) == pytest.approx(-0.5 * np.log(2))
    assert leep(np.eye(2)[[0, 0, 1, 1]], ["a", "a", "b", "b"]) == pytest.approx(0.0)
    assert nce(np.full((4, 3), 1 / 3), labels) == pytest.approx(0.75 * np.log(0.75) + 0.25 * np.log(0.25))


@pytest.mark.parametrize("penalty", [0.01, 1.0])
@pytest.mark.parametrize("width", [1, 4, 30])
def test_ridge_leaves_out_as_refits_do(penalty, width):
    features, labels = planted(21, width, apart=0.7)
    indicators, right = np.eye(3)[labels], []
    centred = features - features.mean(axis=0)
    singular = np.linalg.svd(centred, compute_uv=False)
    strength = penalty * (singular[singular > 1e-9] ** 2).mean()
    for row in range(len(labels)):
        kept = np.arange(len(labels)) != row
        with_one = np.column_stack([features[kept], np.ones(kept.sum())])
        held = np.diag([strength] * width + [0.0])
        weights = np.linalg.solve(with_one.T @ with_one + held, with_one.T @ indicators[kept])
        right.append(np.append(features[row], 1) @ weights)
    assert ridge_accuracy(features, labels, penalty=penalty) == np.mean(np.argmax(right, axis=1) == labels)
    others = (7 - indicators) / 20  # of 21 rows seven are of each class
    expected = 1 - ((right - indicators) ** 2).sum() / ((others - indicators) ** 2).sum()
    assert ridge_explained(features, labels, penalty=penalty) == pytest.approx(expected)


def test_the_ridge_penalty_is_the_one_with_the_least_error_where_none_is_given():
    features, labels = planted(30, 25, apart=0.7)
    tried = [ridge_explained(features, labels, penalty=each) for each in (1e-4, 1e-2, 1.0, 1e2)]
    assert ridge_explained(features, labels, penalty=None) >= max(tried)
    assert 0 <= ridge_accuracy(features, labels, penalty=None) <= 1


def test_logme_with_an_intercept_takes_the_means_off():
    features, labels = planted(30, 5)
    centred, indicators = features - features.mean(axis=0), np.eye(3)[labels] - 1 / 3
    with_intercept = logme(features + 100, labels, intercept=True)
    assert with_intercept == pytest.approx(logme_of_targets(centred, indicators))
    assert run_probes(features, labels).values["logme"] == pytest.approx(
        logme(standardised(features), labels, intercept=True)
    )


@pytest.mark.parametrize("neighbours", [1, 3])
def test_neighbours_leave_out_as_refits_do(neighbours):
    features, labels = planted(40, 4, classes=2, apart=0.7)
    right = [
        KNeighborsClassifier(neighbours)
        .fit(np.delete(features, row, 0), np.delete(labels, row))
        .predict(features[row : row + 1])[0]
        == labels[row]
        for row in range(40)
    ]
    assert neighbour_accuracy(features, labels, neighbours=neighbours) == pytest.approx(np.mean(right))


def test_neighbours_at_one_distance_share_the_place():
    features, labels = np.array([[0.0], [1], [1], [5], [5.1]]), np.array([0, 0, 1, 2, 2])
    # row 0 has rows 1 and 2 at distance 1; rows 1 and 2 have each other; 3 and 4 have each other
    assert neighbour_accuracy(features, labels) == pytest.approx((0.5 + 0 + 0 + 1 + 1) / 5)


def test_neighbours_of_many_rows_are_found_in_chunks():
    features, labels = planted(1500, 3, apart=1.0)
    right = KNeighborsClassifier(2).fit(features, labels).kneighbors(features, return_distance=False)[:, 1]
    assert neighbour_accuracy(features, labels) == pytest.approx(np.mean(labels[right] == labels))


@settings(max_examples=15, deadline=None)
@given(
    rows=st.integers(4, 40),
    width=st.integers(1, 50),
    classes=st.integers(2, 4),
    scale=st.sampled_from([1e-3, 10.0, 1e6]),
    seed=st.integers(0, 99),
)
def test_no_probe_changes_with_scale_shift_order_or_names(rows, width, classes, scale, seed):
    rng = np.random.default_rng(seed)
    features, labels = rng.normal(size=(rows, width)), np.arange(rows) % min(classes, rows // 2)
    source = rng.dirichlet(np.ones(5), size=rows)
    order = rng.permutation(rows)
    first = run_probes(features, labels, source)
    named = np.array([f"class {label}" for label in labels])
    second = run_probes((scale * features + 3 * scale)[order], named[order], source[order])
    assert tuple(first.values) == tuple(second.values) == PROBES
    for probe in PROBES:
        assert second.values[probe] == pytest.approx(first.values[probe], rel=1e-6, abs=1e-6), probe


def test_logme_of_raw_features_changes_with_their_scale():
    """The trap that standardised features avoid."""
    features, labels = planted(15, 30)
    raw = logme(features + 1, labels), logme(100 * features + 1, labels)
    assert abs(raw[0] - raw[1]) > 1e-3


@pytest.mark.parametrize("probe", ON_FEATURES)
def test_probes_see_classes_that_lie_apart(probe):
    near, far = (probe(*planted(apart=apart)) for apart in (0.2, 3.0))
    assert far > near + 0.1


def test_shuffled_labels_are_at_chance():
    rng = np.random.default_rng(5)
    features, labels = planted(100, 30, classes=4, apart=2.0)
    results = [run_probes(features, rng.permutation(labels)).values for _ in range(12)]
    # what features without a signal have: LogME that of no features, H-score little of the most, 3
    empty = logme(np.zeros((100, 1)), labels, intercept=True)
    assert abs(np.mean([each["logme"] for each in results]) - empty) < 0.01
    assert np.mean([each["h_score"] for each in results]) < 0.8
    assert np.mean([each["ridge_explained"] for each in results]) < 0.02
    for name in ("neighbour", "ridge"):
        assert np.mean([each[name] for each in results]) < 0.25 + 0.04


def test_features_that_say_nothing_score_what_is_known_without_them():
    labels = np.array([0, 0, 0, 1, 1, 2])
    values = run_probes(np.full((6, 4), 0.1), labels).values
    assert values["h_score"] == 0.0
    assert values["ridge"] == pytest.approx(0.5)
    assert values["ridge_explained"] == 0.0
    assert values["neighbour"] == pytest.approx((3 * 2 / 5 + 2 * 1 / 5) / 6)
    assert np.isfinite(values["logme"])
    assert np.isnan(values["leep"])
    assert np.isnan(values["nce"])


@pytest.mark.parametrize(("rows", "width"), [(4, 1), (5, 200), (3, 2)])
def test_few_rows_and_classes_with_one_row_are_probed(rows, width):
    features = np.random.default_rng(0).normal(size=(rows, width))
    labels = [0, 0, *range(1, rows - 1)]
    values = run_probes(features, labels).values
    assert all(np.isfinite(values[name]) for name in ("logme", "h_score", "neighbour", "ridge"))
    assert 0 <= values["neighbour"] <= 2 / rows


def test_a_column_that_hardly_moves_does_not_weigh_as_much_as_the_rest():
    features, labels = planted(40, 6, apart=3.0)
    with_noise = np.column_stack([features, 1e-3 * np.random.default_rng(1).normal(size=(40, 30))])
    assert neighbour_accuracy(standardised(with_noise), labels) == neighbour_accuracy(standardised(features), labels)


def test_standardised_features_have_one_spread_a_group():
    features = np.random.default_rng(0).normal(size=(50, 5)) * [1, 2, 300, 400, 0] + 7
    taken = standardised(features, ["a", "a", "b", "b", "c"])
    assert taken.mean(axis=0) == pytest.approx(0)
    assert [(taken[:, group] ** 2).mean() for group in ([0, 1], [2, 3], [4])] == pytest.approx([1, 1, 0])
    assert np.ptp(taken[:, 1]) / np.ptp(taken[:, 0]) == pytest.approx(np.ptp(features[:, 1]) / np.ptp(features[:, 0]))
    assert np.isfinite(standardised(features * 1e200)).all()


def test_seconds_are_told_of_what_ran():
    features, labels = planted(100, 64)
    results = run_probes(features, labels)
    print({name: f"{1e3 * seconds:.2f} ms" for name, seconds in results.seconds.items()})
    assert set(results.seconds) == {"decomposition", "logme", "h_score", "neighbour", "ridge", "ridge_explained"}
    assert results.total_seconds == pytest.approx(sum(results.seconds.values()))


GOOD = np.arange(8.0).reshape(4, 2)
SOURCE = np.full((4, 2), 0.5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: logme(GOOD, [1, 1, 1, 1]), "all 4 rows are of class '1'"),
        (lambda: run_probes(GOOD, [0, 1, 2, 3]), "each of the 4 rows has a class of its own"),
        (lambda: run_probes(GOOD, [0, 1]), r"labels have shape \(2,\) for 4 rows"),
        (lambda: run_probes(GOOD, [0.5, 1, 1, 0]), "labels hold 0.5; expected classes"),
        (lambda: run_probes(GOOD, [np.nan, 1, 1, 0]), "labels hold nan"),
        (lambda: run_probes(GOOD, [None, 1, 1, 0]), "labels are of type object"),
        (lambda: run_probes(GOOD[:, 0], [0, 0, 1, 1]), r"features have shape \(4,\)"),
        (lambda: run_probes([["a"], ["b"]], [0, 1]), "features cannot be read as numbers"),
        (lambda: h_score(np.where(GOOD == 3, np.inf, GOOD), [0, 0, 1, 1]), "1 rows are not finite, first of row 1"),
        (lambda: h_score(GOOD, [0, 0, 1, 1], shrinkage=2.0), "shrinkage = 2.0"),
        (lambda: ridge_accuracy(GOOD, [0, 0, 1, 1], penalty=0.0), "penalty = 0.0"),
        (lambda: neighbour_accuracy(GOOD, [0, 0, 1, 1], neighbours=4), "neighbours = 4; expected from 1 to 3"),
        (lambda: leep(SOURCE * 4, [0, 0, 1, 1]), "row 0 sum to 4 with a smallest of 2"),
        (lambda: nce(SOURCE[:, 0], [0, 0, 1, 1]), "source probabilities have shape"),
        (lambda: logme_of_targets(GOOD, [0, 0, 0, 0]), "a target is zero in every row"),
        (lambda: logme_of_targets(GOOD, [1, np.nan, 0, 0]), "expected finite numbers"),
        (lambda: standardised(GOOD, [0]), "expected one for each of 2 dimensions"),
    ],
)
def test_bad_input_gets_a_sentence(call, words):
    with pytest.raises(DataError, match=words):
        call()
