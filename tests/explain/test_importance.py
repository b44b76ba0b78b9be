"""Importance finds what was planted, exchanges what belongs together, and repeats."""

import numpy as np
import pytest
import torch

from deepfm.errors import ConfigError, DataError
from deepfm.explain import explain
from deepfm.explain.importance import measure, permutation_importance, subjects
from deepfm.explain.rows import RowTable, sample_rows
from deepfm.training.evaluation import score_rows
from tests.clicks import BEHAVIOUR_SCHEMA, SCHEMA, clicks, model_of, randomise, sequence_model_of
from tests.explain.test_inside import grouped


@pytest.fixture(scope="module")
def found(planted):
    return explain(planted, device="cpu", repeats=4)


def test_the_planted_field_is_first_and_what_says_nothing_is_nothing(found):
    by_name = {one.name: one for one in found.importance}
    assert found.importance[0].name == "signal"
    assert by_name["signal"].mean("auc") > 0.2
    for name in ("left", "right"):
        assert by_name[name].mean("auc") > 0.02
    for name in ("noise", "price"):
        assert abs(by_name[name].mean("auc")) < 0.01
        assert abs(by_name[name].mean("auc")) < by_name["left"].mean("auc") / 3
    assert by_name["signal"].mean("logloss") > by_name["left"].mean("logloss") > 0.02


def test_the_planted_pair_is_the_strongest(found):
    first = max(found.pairs, key=lambda pair: pair.product.deviation)
    assert {first.first, first.second} == {"left", "right"}
    others = [pair.product.deviation for pair in found.pairs if pair is not first]
    assert first.product.deviation > 1.3 * max(others)


def test_the_same_seed_gives_the_same_numbers(planted, found):
    assert explain(planted, device="cpu", repeats=4).to_dict() == found.to_dict()
    other = explain(planted, device="cpu", repeats=4, seed=1)
    assert other.importance[0].drops != found.importance[0].drops
    assert other.baseline == found.baseline


def test_a_field_has_the_same_permutations_alone_and_in_company(planted, found):
    alone = explain(planted, device="cpu", repeats=2, fields=["noise"])
    (noise,) = alone.importance
    whole = next(one for one in found.importance if one.name == "noise")
    assert noise.drops["auc"] == whole.drops["auc"][:2]


def test_a_drop_is_what_exchanged_columns_cost():
    """A column that is one value everywhere can be exchanged without harm, and one that decides cannot."""
    model, data = randomise(model_of("deepfm")).eval(), clicks(rows=400)
    features, labels = data.batch(slice(0, 400))
    features["city"] = torch.full_like(features["city"], 3)
    with torch.no_grad():
        labels = (model(features).squeeze(1) > 0).float()
    table = RowTable(features, labels)
    base = measure(model, table, ["auc"])
    assert base.metrics == {"auc": 1.0}
    found = permutation_importance(model, table, {"city": ("city",), "item": ("item",)}, base, repeats=2, seed=0)
    drops = {one.name: one.drops["auc"] for one in found}
    assert drops["city"] == (0.0, 0.0)
    assert min(drops["item"]) > 0.005


def test_what_candidates_share_is_exchanged_between_users():
    model, dataset = sequence_model_of("sin gate attends").eval(), grouped()
    table, sample = sample_rows(dataset, len(dataset), seed=0)
    assert (sample.groups, sample.rows) == (4, 310)
    assert table.is_shared("user")
    assert table.is_shared("history")
    assert not table.is_shared("item")
    names = ["auc", "logloss"]
    base = measure(model, table, names)
    asked = {"user": ("user",), "item": ("item",), "all": ("user", "history"), "mix": ("user", "item")}
    found = permutation_importance(model, table, asked, base, repeats=1, seed=0)
    assert {one.name: one.unit for one in found} == {
        "user": "users", "item": "rows", "all": "users", "mix": "users and rows",
    }  # fmt: skip


def test_fields_of_a_group_move_together():
    from deepfm.explain.importance import _exchanged

    table, _ = sample_rows(grouped(), 310, seed=0)
    moved = _exchanged(table, ("user", "tags", "history"), ("user", "tags", "history"), "group:user", 0, 0)
    starts = table.first_rows
    assert len(set(table.features["user"][starts].tolist())) == 4
    before = {int(table.features["user"][row]): (table.features["tags"][row].tolist(), number)
              for number, row in enumerate(starts.tolist())}  # fmt: skip
    lengths = table.histories["history"].lengths(torch.arange(4)).tolist()
    for number, row in enumerate(starts.tolist()):
        tags, owner = before[int(moved.features["user"][row])]
        assert moved.features["tags"][row].tolist() == tags
        assert int(moved.histories["history"].lengths(torch.tensor([number]))) == lengths[owner]
    for start, end in zip(table.group_offsets[:-1], table.group_offsets[1:], strict=True):
        assert len(set(moved.features["user"][start:end].tolist())) == 1
    assert torch.equal(moved.features["item"], table.features["item"])
    assert torch.equal(moved.labels, table.labels)


def test_a_sample_is_of_whole_users_and_of_the_seed():
    dataset = grouped()
    table, sample = sample_rows(dataset, 160, seed=3)
    assert sample.groups == 2
    assert sample.of_groups == 4
    assert len(table) == sample.rows
    assert str(sample) == "all candidates of 2 of 4 users of validation, chosen by seed 3"
    again, _ = sample_rows(dataset, 160, seed=3)
    assert torch.equal(table.features["item"], again.features["item"])
    flat = clicks(rows=50)
    table, sample = sample_rows(flat, 20, seed=0)
    assert len(table) == 20
    assert str(sample) == "20 of 50 rows of validation, chosen by seed 0"
    assert str(sample_rows(flat, 50, seed=0)[1]) == "all 50 rows of validation"


def test_groups_are_named_by_the_schema():
    import dataclasses

    of = {"user": "user", "tags": "user", "history": "user", "item": "item"}
    fields = {name: dataclasses.replace(f, group=of.get(name, "")) for name, f in BEHAVIOUR_SCHEMA.fields.items()}
    schema = dataclasses.replace(BEHAVIOUR_SCHEMA, fields=fields)
    found = subjects(sequence_model_of("sin gate attends"), schema, None)
    assert list(found) == [*schema.fields, "group:user"]
    assert set(found["group:user"]) == {"user", "tags", "history"}
    assert "history" not in subjects(model_of("deepfm"), schema, None)
    assert list(subjects(model_of("deepfm"), schema, ["item", "item", "group:user"])) == ["item", "group:user"]


def test_an_unknown_field_is_a_sentence():
    with pytest.raises(ConfigError, match=r"--fields names 'usr', which is no field .*user"):
        subjects(model_of("deepfm"), SCHEMA, ["usr"])


def test_rows_of_one_class_are_a_sentence():
    data = clicks(rows=30)
    table = RowTable(data.features, torch.ones(30))
    with pytest.raises(DataError, match="30 sampled validation rows are all of one class"):
        measure(model_of("deepfm"), table, ["auc"])


def test_deviation_is_over_repeats(found):
    drops = np.array(found.importance[0].drops["auc"])
    assert found.importance[0].deviation("auc") == pytest.approx(drops.std(ddof=1))
    assert found.importance[0].mean("auc") == pytest.approx(drops.mean())


def test_the_error_over_users_is_that_of_their_mean_drop():
    from deepfm.explain.importance import _exchanged
    from deepfm.training.metrics import compute_ndcg_at_k

    model, dataset = sequence_model_of("sin gate attends").eval(), grouped()
    dataset.labels = torch.zeros(310)
    dataset.labels[torch.tensor([3, 83, 163, 243])] = 1.0
    table, _ = sample_rows(dataset, 310, seed=0)
    base = measure(model, table, ["ndcg@50", "auc"])
    (found,) = permutation_importance(model, table, {"item": ("item",)}, base, repeats=2, seed=0)

    def gains(rows):
        scores = score_rows(model, rows)
        ends = zip(rows.group_offsets[:-1], rows.group_offsets[1:], strict=True)
        ranks = [1 + int((np.delete(scores[a:b], 3) >= scores[a + 3]).sum()) for a, b in ends]
        return np.array([compute_ndcg_at_k([rank], 50) for rank in ranks])

    before = gains(table)
    drops = [before - gains(_exchanged(table, ("item",), (), "item", 0, repeat)) for repeat in range(2)]
    assert found.drops["ndcg@50"] == pytest.approx([one.mean() for one in drops])
    assert found.user_error == pytest.approx(np.mean(drops, axis=0).std(ddof=1) / 2)
    assert found.user_error > 0
