"""A logit is the sum of its terms, for every registered model; pairs are what a loop over fields gives."""

from itertools import combinations

import pytest
import torch
from torch import nn

from deepfm.explain.contributions import contributions
from deepfm.explain.moments import watched
from deepfm.explain.terms import REST, TermReader, pair_names
from deepfm.models import MODELS, DeepFM
from tests.clicks import (
    BEHAVIOUR_SCHEMA,
    INTERACTION_OPTIONS,
    MODEL_OPTIONS,
    SCHEMA,
    SEQUENCE_OPTIONS,
    clicks,
    config_of,
    model_of,
    randomise,
    sequence_model_of,
)

PLAIN = MODEL_OPTIONS | INTERACTION_OPTIONS


def made(kind, *overrides):
    if kind in PLAIN:
        return randomise(model_of(kind, *overrides)).eval(), clicks(rows=60)
    return sequence_model_of(kind, *overrides).eval(), clicks(BEHAVIOUR_SCHEMA, rows=60)


def read(model, features):
    reader = TermReader(model)
    with torch.no_grad(), watched(reader.hooks):
        logits = model(features)
        return reader.terms(logits), logits


def total(terms):
    found = terms.bias + torch.zeros_like(terms.logits)
    for part in (terms.first_order, None if terms.pairs is None else terms.pairs.sum(dim=1), *terms.parts.values()):
        found = found if part is None else found + part
    return found


def test_every_registered_model_is_among_them():
    assert {name for name, _ in (PLAIN | SEQUENCE_OPTIONS).values()} == set(MODELS)


@pytest.mark.parametrize("kind", PLAIN | SEQUENCE_OPTIONS)
def test_terms_add_up_to_the_logit(kind):
    model, rows = made(kind)
    terms, logits = read(model, rows.batch(slice(0, 60))[0])
    assert REST not in terms.parts
    assert (total(terms) - logits.squeeze(1)).abs().max() < 1e-5
    assert logits.std() > 0.1


@pytest.mark.parametrize("kind", ["deepfm", "fm", "afm", "xdeepfm linear", "sin gate attends", "din second order"])
def test_terms_add_up_without_a_first_order(kind):
    model, rows = made(kind, "fm.use_first_order=false")
    terms, logits = read(model, rows.batch(slice(0, 60))[0])
    assert terms.first_order is None
    assert (total(terms) - logits.squeeze(1)).abs().max() < 1e-5


@pytest.mark.parametrize(
    "kind", PLAIN | {"bst target second order": (), "sin gate attends": (), "din second order": ()}
)
def test_a_row_is_the_sum_of_its_fields_pairs_and_parts(kind):
    model, rows = made(kind)
    schema = SCHEMA if kind in PLAIN else BEHAVIOUR_SCHEMA
    features, _ = rows.batch(slice(0, 5))
    found = contributions(model, schema, features, [f"row {row}" for row in range(5)], {})
    with torch.no_grad():
        logits = model(features).squeeze(1)
    for row, one in enumerate(found):
        assert one.total == pytest.approx(float(logits[row]), abs=1e-5)
        assert one.logit == pytest.approx(float(logits[row]), abs=1e-6)
        if one.pairs:
            names = {name for first, second, _ in one.pairs for name in (first, second)}
            whole = sum(term for _, _, term in one.pairs)
            assert sum(map(one.second_order, names)) == pytest.approx(whole, abs=1e-9)


def test_pairs_of_an_fm_are_those_of_a_loop():
    model, rows = made("deepfm")
    features, _ = rows.batch(slice(0, 20))
    terms, _ = read(model, features)
    with torch.no_grad():
        _, fields, _ = model.embedding(features)
    names = [field.name for field in SCHEMA.interacting_fields]
    assert pair_names(terms.names) == list(combinations(names, 2))
    for place, (first, second) in enumerate(combinations(range(len(names)), 2)):
        expected = (fields[:, first] * fields[:, second]).sum(dim=1).double()
        torch.testing.assert_close(terms.pairs[:, place], expected, atol=1e-5, rtol=1e-5)


def test_pairs_of_afm_are_weighted_and_projected():
    model, rows = made("afm")
    features, _ = rows.batch(slice(1, 20))
    terms, _ = read(model, features)
    with torch.no_grad():
        _, fields, _ = model.embedding(features)
    scores, products = [], []
    for first, second in combinations(range(fields.shape[1]), 2):
        product = fields[:, first] * fields[:, second]
        there = (fields[:, first] != 0).any(dim=1) & (fields[:, second] != 0).any(dim=1)
        score = model.attention.score(torch.relu(model.attention.hidden(product))).squeeze(1)
        scores.append(score.masked_fill(~there, -torch.inf))
        products.append(product @ model.output.weight.squeeze(0))
    weights = torch.stack(scores, dim=1).softmax(dim=1).detach().double()
    torch.testing.assert_close(terms.weights, weights, atol=1e-6, rtol=1e-5)
    expected = weights * torch.stack(products, dim=1).detach().double()
    torch.testing.assert_close(terms.pairs, expected, atol=1e-5, rtol=1e-5)


def test_pairs_of_nfm_are_no_terms():
    model, rows = made("nfm")
    terms, _ = read(model, rows.batch(slice(0, 5))[0])
    assert terms.pairs is None
    assert terms.products.shape == (5, 36)


def test_a_second_order_has_pairs_with_the_history():
    model, rows = made("din second order")
    terms, _ = read(model, rows.batch(slice(0, 5))[0])
    assert terms.names[-1] == "history"


class WithMore(DeepFM):
    """A model of one's own, with a part that nobody knows."""

    def _build_components(self):
        super()._build_components()
        self.more = nn.Linear(self.schema.total_embedding_dim, 2)

    def _forward_components(self, first_order, field_embeddings, flat_embeddings):
        logit = super()._forward_components(first_order, field_embeddings, flat_embeddings)
        return logit + torch.sin(self.more(flat_embeddings)).prod(dim=1, keepdim=True)


def test_what_nobody_knows_is_the_rest():
    model, rows = randomise(WithMore(SCHEMA, config_of())).eval(), clicks(rows=30)
    features, _ = rows.batch(slice(0, 30))
    reader = TermReader(model)
    with torch.no_grad(), watched(reader.hooks):
        logits = model(features)
        terms = reader.terms(logits)
        _, _, flat = model.embedding(features)
        more = torch.sin(model.more(flat)).prod(dim=1)
    torch.testing.assert_close(total(terms), logits.squeeze(1).double(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(terms.parts[REST], more.double(), atol=1e-4, rtol=1e-4)


def test_watching_ends_with_the_block():
    model, rows = made("xdeepfm linear")
    read(model, rows.batch(slice(0, 5))[0])
    assert not any(part._forward_hooks for part in model.modules())
