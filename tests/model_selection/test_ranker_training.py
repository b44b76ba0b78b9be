"""Training the ranker: it learns what can be learned, alike each time, and from what is measured alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from deepfm.errors import CheckpointError, DataError
from deepfm.model_selection.network_settings import RankerSettings
from deepfm.model_selection.ranker_task import (
    RankerTask,
    load_ranker,
    save_ranker,
    score,
    train_ranker,
    untrained_ranker,
)
from deepfm.model_selection.ranking_lists import RankingList, pad_lists, standardised_targets
from deepfm.model_selection.ranking_parts import Part, drawn_parts

SETTINGS = RankerSettings(
    num_epochs=100, hidden_size=16, num_heads=2, num_layers=1, lr=5e-3, warmup_steps=5, model_share=0.7
)
MODELS = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)


def tasks(count, seed=0, worth=1.0):
    """What a model reaches is its worth anywhere and how well it fits the mean of the task's tokens."""
    draw, lists = np.random.default_rng(seed), []
    for at in range(count):
        centre = draw.normal(size=3)
        tokens = (centre + 0.2 * draw.normal(size=(int(draw.integers(2, 7)), 3))).astype(np.float32)
        outcomes = 0.7 + 0.05 * (worth * MODELS[:, 3] + MODELS[:, :3] @ centre)
        lists.append(RankingList(f"task{at}", tokens, MODELS, outcomes))
    return lists


def shuffled(lists, seed=0):
    draw = np.random.default_rng(seed)
    return [replace(one, outcomes=draw.permutation(one.outcomes)) for one in lists]


def mean_correlation(model, lists):
    return np.mean([spearmanr(score(model, one.tokens, one.embeddings), one.outcomes).statistic for one in lists])


@pytest.fixture(scope="module")
def trained():
    return train_ranker(tasks(24), SETTINGS)


def test_it_ranks_models_for_unseen_tasks(trained):
    unseen = tasks(12, seed=9)
    alike = np.mean([one.outcomes for one in tasks(24)], axis=0)  # history alone
    history = np.mean([spearmanr(alike, one.outcomes).statistic for one in unseen])
    assert mean_correlation(trained, unseen) > max(0.8, history + 0.2)


def test_shuffled_outcomes_teach_nothing():
    lists, unseen, few = tasks(24, worth=0), tasks(50, seed=9, worth=0), replace(SETTINGS, num_epochs=12)
    shuffles = [mean_correlation(train_ranker(shuffled(lists, seed), few), unseen) for seed in range(3)]
    assert abs(np.mean(shuffles)) < 0.15


def test_one_seed_gives_one_ranker_and_leaves_the_streams_alone(trained):
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    few = replace(SETTINGS, num_epochs=3)
    one, same, other = (train_ranker(tasks(5), few, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(state, torch.random.get_rng_state())
    pairs = [(one.state_dict()[name], same.state_dict()[name]) for name in one.state_dict()]
    assert all(torch.equal(*pair) for pair in pairs)
    assert not torch.equal(one.head.weight, other.head.weight)
    assert not trained.training


def test_scores_do_not_depend_on_the_scale_of_outcomes_or_on_unmeasured_models():
    few, lists = replace(SETTINGS, num_epochs=4), tasks(6)
    base = train_ranker(lists, few)
    scaled = [replace(one, outcomes=100 * one.outcomes - 30) for one in lists]
    expected = score(base, lists[0].tokens, MODELS)
    np.testing.assert_allclose(score(train_ranker(scaled, few), lists[0].tokens, MODELS), expected, atol=1e-3)
    stray = np.concatenate([MODELS, np.full((2, 6), 1e4, np.float32)])
    more = [replace(one, embeddings=stray, outcomes=np.append(one.outcomes, [np.nan] * 2)) for one in lists]
    fitted = untrained_ranker(more, few).embedding_means
    torch.testing.assert_close(fitted, torch.from_numpy(MODELS.mean(0)), rtol=1e-4, atol=1e-5)


def test_parts_are_a_function_of_seed_and_epoch_and_hold_measured_models_alone():
    lists = tasks(7)
    lists[2].outcomes[5:] = np.nan
    small = replace(SETTINGS, batch_size=3, model_share=0.5, token_share=0.5)
    task = RankerTask(untrained_ranker(lists, small), lists, small, seed=4)
    first, again = ([*task.batches(2)] for _ in range(2))
    assert task.num_batches() == len(first) == 3
    torch.testing.assert_close(first, again, rtol=0, atol=0, equal_nan=True)
    late = [*task.batches(2, start=2)]
    assert torch.equal(late[0][1], first[2][1])
    assert not all(torch.equal(one[1], two[1]) for one, two in zip(first, task.batches(3), strict=True))
    padded = pad_lists(lists)
    whole = replace(small, batch_size=7)
    drawn = next(drawn_parts(padded, whole, 0, 1))
    order = np.argsort(drawn.rows)
    part = Part(*(each[order] for each in (drawn.rows, drawn.places, drawn.taken, drawn.token_mask))).of(padded)
    assert part.model_mask.sum(1).tolist() == [15, 15, 3, 15, 15, 15, 15]
    assert not np.isnan(part.targets[part.model_mask]).any()
    assert np.isnan(part.targets[~part.model_mask]).all()
    assert (part.token_mask.sum(1) == np.ceil(padded.token_mask.sum(1) / 2)).all()
    assert not (part.token_mask & ~padded.token_mask).any()
    where = {MODELS[at].tobytes(): at for at in range(len(MODELS))}
    for row, one in enumerate(lists):
        for column in np.flatnonzero(part.model_mask[row]):
            at = where[part.embeddings[row, column].tobytes()]
            assert part.targets[row, column] == np.float32(one.outcomes[at])


def test_targets_are_in_deviations_with_a_floor_from_the_training_tasks():
    outcomes = [np.array([0.1, 0.3, np.nan]), np.array([0.5, 0.9, 0.7]), np.array([0.5, 0.5, 0.5])]
    noise = np.array([0.5, 0.501, np.nan])
    lists = [
        RankingList(str(at), np.zeros((1, 2), np.float32), np.zeros((3, 2), np.float32), one)
        for at, one in enumerate(outcomes)
    ]
    spread = float(np.std([0.5, 0.9, 0.7]))
    first, second, third = standardised_targets(lists)
    np.testing.assert_allclose(first, [-1, 1, np.nan])
    np.testing.assert_allclose(second, np.array([-0.2, 0.2, 0.0]) / spread, atol=1e-12)
    np.testing.assert_allclose(third, 0.0, atol=1e-12)
    quiet = standardised_targets([replace(lists[0], outcomes=noise)], lists)[0]
    least = 0.25 * np.median([0.1, spread])
    np.testing.assert_allclose(quiet, (noise - 0.5005) / least)


def test_held_out_tasks_decide_which_epoch_is_best():
    lists = tasks(10)
    settings = replace(SETTINGS, num_epochs=30, early_stopping_patience=30)
    wrong = shuffled(lists[8:], 1)
    stopped = train_ranker(lists[:8], settings, held_out=wrong)
    ran = train_ranker(lists[:8], settings)
    task = RankerTask(stopped, lists[:8], settings, held_out=wrong)
    assert task.metric == "held_out_loss"
    with torch.no_grad():
        assert (
            task.evaluate()["held_out_loss"]
            < RankerTask(ran, lists[:8], settings, held_out=wrong).evaluate()["held_out_loss"]
        )
    assert RankerTask(ran, lists, settings).evaluate() == {}


def test_a_saved_ranker_scores_alike_and_a_damaged_one_is_refused(trained, tmp_path):
    tokens = tasks(1, seed=3)[0].tokens
    save_ranker(trained, SETTINGS, tmp_path)
    np.testing.assert_array_equal(score(load_ranker(tmp_path), tokens, MODELS), score(trained, tokens, MODELS))
    other = train_ranker(tasks(3), replace(SETTINGS, num_epochs=1))
    save_ranker(other, SETTINGS, tmp_path / "other")
    (tmp_path / "ranker.json").write_bytes((tmp_path / "other" / "ranker.json").read_bytes())
    with pytest.raises(CheckpointError, match="does not belong"):
        load_ranker(tmp_path)
    (tmp_path / "ranker.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        load_ranker(tmp_path)
    with pytest.raises(CheckpointError, match="does not exist"):
        load_ranker(tmp_path / "nowhere")


def test_bad_lists_are_refused_in_a_sentence():
    one = tasks(1)[0]
    with pytest.raises(DataError, match="'task0' has tokens"):
        replace(one, outcomes=one.outcomes[:3])
    with pytest.raises(DataError, match="embeddings that are NaN"):
        replace(one, embeddings=np.full_like(MODELS, np.nan))
    with pytest.raises(DataError, match=r"widths \[3, 4\]"):
        pad_lists([one, replace(one, tokens=np.zeros((2, 4), np.float32))])
    with pytest.raises(DataError, match="at least one pair"):
        train_ranker([replace(one, outcomes=np.append(0.5, np.full(29, np.nan)))], SETTINGS)
    with pytest.raises(DataError, match="no task"):
        train_ranker([], SETTINGS)
