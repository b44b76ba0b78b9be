"""Where a trial's values come from: the seed, the slot and what is known; and which of them pay."""

import optuna
import pytest

from deepfm.config import load_config
from deepfm.tuning import StudySettings, build_space
from deepfm.tuning.sampling import make_pruner, make_sampler, suggest_values, values_of
from deepfm.tuning.space import flat_settings

CONFIG = load_config()
BASE = flat_settings(CONFIG)
SPACE = build_space(
    {
        "training.lr": {"low": 1e-6, "high": 1.0, "log": True},
        "dnn.hidden_units": {"choices": [[8], [16, 8]]},
        "dnn.dropout": {"low": 0.0, "high": 0.4, "step": 0.1},
        "dnn.use_batch_norm": {"choices": [True, False]},
        "feature.embedding_dim": {"choices": [None, 8]},
        "dcn.num_layers": {"low": 1, "high": 4},
    },
    CONFIG,
)
GRID_SPACE = build_space({"training.lr": {"choices": [0.1, 0.2]}, "dcn.num_layers": {"low": 1, "high": 3}}, CONFIG)


def search(space, settings, trials, value, grid=()):
    """Trials in slots from 0, each with a value; what they had."""
    study, found = optuna.create_study(direction="maximize"), []
    for slot in range(trials):
        study.sampler = make_sampler(settings, slot, space, BASE, grid[slot] if grid else None)
        trial = study.ask()
        found.append(suggest_values(trial, space, BASE))
        study.tell(trial, value(found[-1]))
    assert [values_of(trial.params, space) for trial in study.trials] == found
    return found


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_first_trial_is_the_configuration_where_the_space_holds_it(sampler):
    (first,) = search(SPACE, StudySettings(sampler=sampler), 1, lambda _: 0.0)
    assert first["training.lr"] == CONFIG.training.lr
    assert (first["dnn.dropout"], first["dnn.use_batch_norm"]) == (0.1, True)
    assert (first["feature.embedding_dim"], first["dcn.num_layers"]) == (None, 3)
    assert first["dnn.hidden_units"] in [(8,), (16, 8)]  # the configuration's own is outside


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_search_is_a_function_of_its_seed(sampler):
    def value(chosen):
        return -abs(chosen["dnn.dropout"] - 0.3)

    one, again, other = (search(SPACE, StudySettings(sampler=sampler, seed=seed), 14, value) for seed in (3, 3, 4))
    assert one == again
    assert one[1:] != other[1:]
    assert len({repr(chosen) for chosen in one}) == 14


def test_tpe_looks_where_it_was_good():
    """A planted learning rate of 0.01: after ten random trials, TPE's are nearer to it than random ones are."""
    import math

    def miss(chosen):
        return abs(math.log10(chosen["training.lr"]) + 2)

    def mean_miss(sampler):
        tries = search(SPACE, StudySettings(sampler=sampler), 40, lambda chosen: -miss(chosen))[15:]
        return sum(map(miss, tries)) / len(tries)

    assert mean_miss("tpe") < 0.6 * mean_miss("random")


def test_a_grid_tries_every_combination_once():
    grid = GRID_SPACE.grid(BASE)
    found = search(GRID_SPACE, StudySettings(sampler="grid"), len(grid), lambda _: 0.0, grid)
    assert found == grid
    assert len({tuple(point.values()) for point in found}) == 6


def test_parameters_that_take_no_part_are_not_chosen():
    space = build_space(
        {
            "model_name": {"choices": ["fm", "dcn"]},
            "dcn.num_layers": {"low": 1, "high": 2, "when": {"model_name": "dcn"}},
        },
        CONFIG,
    )
    found = search(space, StudySettings(sampler="random"), 12, lambda _: 0.0)
    assert {(one["model_name"], "dcn.num_layers" in one) for one in found} == {("fm", False), ("dcn", True)}


class TestPruners:
    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("median", optuna.pruners.MedianPruner),
            ("hyperband", optuna.pruners.HyperbandPruner),
            ("none", optuna.pruners.NopPruner),
        ],
    )
    def test_each_name_is_one(self, name, kind):
        assert type(make_pruner(StudySettings(pruner=name), 5)) is kind

    def test_the_median_waits_for_five_trials_and_a_fifth_of_the_epochs(self):
        study = optuna.create_study(direction="maximize", pruner=make_pruner(StudySettings(), 10))
        ended = {}
        for number in range(7):
            trial = study.ask()
            for epoch in range(1, 11):
                trial.report(0.0 if number in (2, 6) else 1.0, epoch)
                if trial.should_prune():
                    ended[number] = epoch
                    study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                    break
            else:
                study.tell(trial, 1.0)
        assert ended == {6: 3}
