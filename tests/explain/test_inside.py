"""What is gathered over rows equals a loop over them: pairs, attention maps, weights by age, the CIN's maps."""

from itertools import combinations

import numpy as np
import pytest
import torch

from deepfm.data.history import Histories
from deepfm.explain.attention import candidate_shares
from deepfm.explain.inside import look_inside
from deepfm.explain.moments import watched
from deepfm.explain.rows import RowTable, rows_of, sample_rows
from deepfm.models.layers import ActivationUnit, EncoderLayer, TargetAttention
from deepfm.models.layers.attention import attend
from deepfm.training.evaluation import score_rows
from tests.clicks import BEHAVIOUR_SCHEMA, SCHEMA, clicks, model_of, pairs, randomise, schema_of, sequence_model_of

ROWS = 90
USER_FIELDS = ("user", "tags")


def looked_at(kind, *overrides):
    model, rows = randomise(model_of(kind, *overrides)).eval(), clicks(rows=ROWS)
    return model, rows.batch(slice(0, ROWS))[0], look_inside(model, rows_of(rows, list(range(ROWS))))


def grouped(sizes=(80, 80, 80, 70), empty=1):
    """Candidates of four users, one of whom has no history."""
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    events = np.arange(1, 13) * 2 % 24 + 1
    starts, ends = np.array([0, 4, 4, 5]), np.array([4, 4, 9, 12])
    assert (ends == starts).sum() == empty
    plain = schema_of(*BEHAVIOUR_SCHEMA.interacting_fields)
    histories = {"history": Histories(events, starts, ends, 6)}
    dataset = pairs(plain, USER_FIELDS, rows=sum(sizes), group_offsets=offsets, histories=histories)
    users = np.repeat(np.arange(len(sizes)), sizes)
    dataset.users = torch.from_numpy(users)
    return dataset


def test_pair_strengths_are_those_of_a_loop():
    model, features, found = looked_at("deepfm")
    with torch.no_grad():
        fields = model.embedding(features)[1].double().numpy()
    names = [field.name for field in SCHEMA.interacting_fields]
    strengths = {(pair.first, pair.second): pair for pair in found.pairs}
    assert len(strengths) == 36
    for first, second in combinations(range(len(names)), 2):
        products = [float(np.dot(row[first], row[second])) for row in fields]
        pair = strengths[names[first], names[second]]
        assert pair.product.mean == pytest.approx(np.mean(products), abs=1e-6)
        assert pair.product.mean_abs == pytest.approx(np.mean(np.abs(products)), abs=1e-6)
        assert pair.product.deviation == pytest.approx(np.std(products), abs=1e-6)
        assert pair.term == pair.product
        assert pair.weight is None
    sizes = [pair.product.mean_abs for pair in found.pairs]
    assert sizes == sorted(sizes, reverse=True)


def test_what_nobody_uses_is_empty():
    _, _, found = looked_at("deepfm", "fm.use_second_order=false")
    assert found.pairs == found.field_attention == found.history_attention == found.cin == ()
    assert [part.name for part in found.logit_parts] == ["bias", "first order", "deep"]


@pytest.mark.parametrize("kind", ["attention_deepfm", "autoint", "autoint alone"])
def test_field_attention_adds_up_to_one_and_is_what_the_layer_uses(kind):
    model, features, found = looked_at(kind)
    layers = [part for part in model.modules() if hasattr(part, "query_key_value")]
    seen = {}
    hooks = [(layer, lambda given, _out, layer=layer: seen.__setitem__(layer, given[0])) for layer in layers]
    with torch.no_grad(), watched(hooks):
        model(features)
    heads = {}
    for number, layer in enumerate(layers, start=1):
        projected = layer.query_key_value(seen[layer])
        weights = layer.weights(seen[layer]).detach()  # (B, heads, F, F)
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:-1]))
        value = projected.unflatten(-1, (3, weights.shape[1], -1))[:, :, 2].transpose(1, 2)
        mixed = (weights @ value).transpose(1, 2).flatten(2)
        scale = getattr(layer, "scale", None)
        torch.testing.assert_close(mixed, attend(projected, weights.shape[1], scale), atol=1e-5, rtol=1e-4)
        for head in range(weights.shape[1]):
            heads[number, head + 1] = weights[:, head].double().mean(dim=0).numpy()
    assert {(one.layer, one.head) for one in found.field_attention} == set(heads)
    for one in found.field_attention:
        np.testing.assert_allclose(np.array(one.weights), heads[one.layer, one.head], atol=1e-6)
        np.testing.assert_allclose(np.sum(one.weights, axis=1), 1.0, atol=1e-6)


ATTENTIVE = ["bst target 1", "bst target 2", "bst mean 1", "bst all 2", "bst norm first", "sin gate attends"]
ATTENTIVE += ["sin gate product", "sin encoded 2 layers", "din normalize=true recency=true"]


@pytest.mark.parametrize("kind", ATTENTIVE)
def test_weights_of_a_history_add_up_to_one_over_its_events(kind):
    model, dataset = sequence_model_of(kind).eval(), clicks(BEHAVIOUR_SCHEMA, rows=ROWS)
    features, _ = dataset.batch(slice(0, ROWS))
    kinds = TargetAttention | ActivationUnit | EncoderLayer
    parts = [part for part in model.modules() if isinstance(part, kinds)]
    if any(not isinstance(part, EncoderLayer) for part in parts):
        parts = [part for part in parts if not isinstance(part, EncoderLayer)]
    calls = {}
    with torch.no_grad(), watched([(p, lambda given, _out, p=p: calls.__setitem__(p, given)) for p in parts]):
        model(features)
    found = look_inside(model, rows_of(dataset, list(range(ROWS)))).history_attention
    for part in parts:
        with torch.no_grad():
            shares, mask, own = candidate_shares(part, calls[part])
        whole = shares.sum(dim=-1) + (0.0 if own is None else own)
        there = mask.any(dim=1)
        torch.testing.assert_close(whole[there], torch.ones_like(whole[there]))
        assert not shares.masked_select(~mask[:, None, None].expand_as(shares)).any()
    longest = max(len(one.weights) for one in found)
    assert longest == int((features["history"] != 0).sum(dim=1).max())
    assert len({one.part for one in found}) == len(parts)
    for one in found:  # each row's weights add up to one, so the sums over rows do
        rows = np.array(one.rows)
        whole = (np.array(one.weights) * rows).sum() / rows[0] + (one.candidate or 0.0)
        assert whole == pytest.approx(1.0, abs=1e-6)
        equal = (np.array(one.uniform) * rows).sum() / rows[0]
        assert equal == pytest.approx(1.0, abs=1e-9) or (one.candidate is not None and 0.5 <= equal < 1)


def test_an_encoder_s_shares_are_what_it_adds_up():
    model = sequence_model_of("bst mean 1").eval()
    layer = next(part for part in model.modules() if isinstance(part, EncoderLayer))
    tokens, mask = torch.randn(5, 4, 4), torch.rand(5, 4) < 0.7
    mask[:, -1] = True
    with torch.no_grad():
        shares = layer.shares(tokens, tokens, mask)
        value = layer.query_key_value(tokens).chunk(3, dim=2)[2].unflatten(2, (2, 2)).transpose(1, 2)
        mixed = layer.output((shares @ value).transpose(1, 2).flatten(2))
        torch.testing.assert_close(mixed, layer._attend(tokens, tokens, mask, False), atol=1e-6, rtol=1e-5)


def test_weights_by_age_are_those_of_a_loop():
    model, dataset = sequence_model_of("din normalize=false recency=true").eval(), clicks(BEHAVIOUR_SCHEMA, rows=ROWS)
    features, _ = dataset.batch(slice(0, ROWS))
    (found,) = look_inside(model, rows_of(dataset, list(range(ROWS)))).history_attention
    unit = next(part for part in model.modules() if isinstance(part, ActivationUnit))
    calls = []
    with torch.no_grad(), watched([(unit, lambda given, _out: calls.append(given))]):
        model(features)
    candidates, tokens, mask, bias = calls[0]
    with torch.no_grad():
        weights = (unit.weights(candidates, tokens).squeeze(1) + bias).double().numpy()
    by_age = {}
    for row in range(ROWS):
        for age, place in enumerate(reversed(np.flatnonzero(mask[row].numpy()))):
            by_age.setdefault(age, []).append(weights[row, place])
    assert found.rows == tuple(len(by_age[age]) for age in range(len(by_age)))
    np.testing.assert_allclose(found.weights, [np.mean(by_age[age]) for age in range(len(by_age))], atol=1e-6)
    assert not found.normalised


@pytest.mark.parametrize("kind", ["sin gate attends", "bst target 1", "din normalize=true recency=true"])
def test_candidates_that_share_a_history_are_seen_as_rows_of_their_own(kind):
    model, dataset = sequence_model_of(kind).eval(), grouped()
    table, sample = sample_rows(dataset, len(dataset), seed=0)
    assert sample.whole
    assert len(table.batch(slice(0, 160))[0]["history"]) == 2
    apart = RowTable(dataset.batch(torch.arange(len(dataset)))[0], dataset.labels)
    together, alone = look_inside(model, table), look_inside(model, apart)
    for one, other in zip(together.history_attention, alone.history_attention, strict=True):
        assert one.rows == other.rows
        np.testing.assert_allclose(one.weights, other.weights, atol=1e-6)
        np.testing.assert_allclose(one.uniform, other.uniform, atol=1e-9)
    np.testing.assert_allclose(score_rows(model, table), score_rows(model, dataset), atol=1e-5)


@pytest.mark.parametrize("kind", ["xdeepfm relu split", "xdeepfm linear"])
def test_figures_of_a_cin_are_those_of_its_maps(kind):
    model, features, found = looked_at(kind)
    with torch.no_grad():
        maps = model.cin(model.embedding(features)[1]).double()
    weight = model.cin_output.weight.detach().double().squeeze(0)
    start = 0
    sizes = [3, 4] if kind == "xdeepfm relu split" else [6, 4]
    for one, size in zip(found.cin, sizes, strict=True):
        own = maps[:, start : start + size]
        term = own @ weight[start : start + size]
        assert one.maps == size
        assert one.mean == pytest.approx(float(own.mean()), abs=1e-6)
        assert one.deviation == pytest.approx(float(own.std(unbiased=False)), abs=1e-6)
        assert one.silent == int((own == 0).all(dim=0).sum())
        assert one.term.mean == pytest.approx(float(term.mean()), abs=1e-5)
        assert one.term.deviation == pytest.approx(float(term.std(unbiased=False)), abs=1e-5)
        start += size
    shares = [part.share for part in found.logit_parts if part.share is not None]
    assert sum(shares) == pytest.approx(1.0)
    assert sum(part.spread_share for part in found.logit_parts if part.spread_share is not None) == pytest.approx(1.0)
    assert [one.share for one in found.cin] == [p.share for p in found.logit_parts if p.name.startswith("CIN layer")]


def test_the_model_stays_as_it_was():
    model, rows = randomise(model_of("attention_deepfm")).train(), clicks(rows=ROWS)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    look_inside(model, rows_of(rows, list(range(ROWS))))
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert all(part.training for part in model.modules())
    assert not any(part._forward_hooks for part in model.modules())
