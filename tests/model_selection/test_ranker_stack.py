"""Rankers that are trained together: each is what it would have been alone, and blind to what its fold hides."""

from dataclasses import replace

import numpy as np
import pytest

from deepfm.errors import DataError
from deepfm.model_selection.network_settings import LOSSES, RankerSettings
from deepfm.model_selection.ranker_stack import train_rankers
from deepfm.model_selection.ranker_task import score, train_ranker
from deepfm.model_selection.ranking_lists import RankingList

EXACT = RankerSettings(
    num_epochs=50, hidden_size=8, num_heads=2, num_layers=1, dropout=0.0, input_dropout=0.0, warmup_steps=5,
    gradient_clip_norm=None, model_share=1.0, batch_size=3,
)  # fmt: skip
MODELS = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)


def lists(seed=0):
    draw = np.random.default_rng(seed)
    return [
        RankingList(str(at), draw.normal(size=(2 + at % 3, 3)).astype(np.float32), MODELS, draw.random(9))
        for at in range(6)
    ]


def hides(task=None, models=()):
    hidden = np.zeros((6, 9), bool)
    if task is not None:
        hidden[task] = True
    hidden[:, list(models)] = True
    return hidden


@pytest.mark.parametrize("loss", LOSSES)
def test_fifty_steps_together_are_fifty_steps_alone(loss):
    """With nothing hidden from one member; parts are drawn for all at once, so others differ by their parts alone."""
    settings = replace(EXACT, num_epochs=25, loss=loss)  # two batches an epoch
    tasks = lists()
    together = train_rankers(tasks, [hides(), hides(2, (1, 4))], settings)[0]
    alone = train_ranker(tasks, settings)
    tokens = lists(9)[0].tokens
    np.testing.assert_allclose(score(together, tokens, MODELS), score(alone, tokens, MODELS), atol=1e-4)
    for name, weights in alone.named_parameters():
        if "in_proj_bias" not in name:  # that of the keys has no gradient but rounding errors, and no effect
            np.testing.assert_allclose(together.get_parameter(name).detach(), weights.detach(), atol=1e-4, err_msg=name)


def test_what_a_fold_hides_changes_nothing():
    tasks, settings = lists(), replace(EXACT, num_epochs=8, dropout=0.1, gradient_clip_norm=1.0, model_share=0.7)
    other = [replace(one, outcomes=one.outcomes.copy()) for one in tasks]
    other[2].outcomes[:] = np.random.default_rng(5).random(9)
    for one in other:
        one.outcomes[[1, 4]] *= -3
    tokens = lists(9)[0].tokens
    hidden = [hides(2, (1, 4)), hides(2, (1, 4))]
    ours, theirs = (score(train_rankers(each, hidden, settings)[0], tokens, MODELS) for each in (tasks, other))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    open_, _ = (score(train_rankers(each, [hides()], settings)[0], tokens, MODELS) for each in (tasks, other))
    assert not np.allclose(ours, open_, atol=1e-3)


def test_folds_have_rankers_of_their_own_and_more_than_a_stack_holds(monkeypatch):
    monkeypatch.setattr("deepfm.model_selection.ranker_stack.TOGETHER", 2)
    tokens, settings = lists(9)[0].tokens, replace(EXACT, num_epochs=10)
    found = [score(one, tokens, MODELS) for one in train_rankers(lists(), [hides(at) for at in range(5)], settings)]
    assert len(found) == 5
    assert all(not np.allclose(found[0], other, atol=1e-3) for other in found[1:])


def test_folds_that_do_not_fit_are_refused_in_a_sentence():
    with pytest.raises(DataError, match="expected tasks by models"):
        train_rankers(lists(), [np.zeros((6, 8), bool)], EXACT)
    with pytest.raises(DataError, match="at least one pair"):
        train_rankers(lists(), [np.ones((6, 9), bool)], EXACT)
