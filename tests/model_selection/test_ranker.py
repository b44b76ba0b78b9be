"""The ranker: what must not change a model's logit, what must, and gradients to both inputs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfm.errors import ConfigError, DataError
from deepfm.model_selection.losses import RankingLoss
from deepfm.model_selection.ranker import SimilarityTransformerModel

F, E = 12, 20


def make(**changes):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SimilarityTransformerModel(F, E, **{"hidden_size": 16, **changes}).eval()


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


RANKERS = {compares: make(attend_to_models=compares) for compares in (False, True)}


def close(one, other, tolerance=1e-5):
    torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@settings(max_examples=12, deadline=None)
@given(tokens=st.integers(0, 9), models=st.integers(1, 9), compares=st.booleans(), seed=st.integers(0, 99))
def test_padding_and_orders_change_nothing(tokens, models, compares, seed):
    ranker, source = RANKERS[compares], torch.Generator().manual_seed(seed)
    seen, asked = draw(2, tokens, F, seed=seed), draw(2, models, E, seed=seed + 1)
    logits = ranker(seen, asked)
    assert logits.shape == (2, models)
    assert logits.dtype == torch.float32
    padded = torch.cat([seen, torch.full((2, 3, F), float("nan"))], dim=1)
    mask = torch.arange(tokens + 3).expand(2, -1) < tokens
    close(ranker(padded, asked, mask), logits)
    order = torch.randperm(tokens + 3, generator=source)
    close(ranker(padded[:, order], asked, mask[:, order]), logits)
    order = torch.randperm(models, generator=source)
    close(ranker(seen, asked[:, order]), logits[:, order])
    stands = torch.arange(models + 2).expand(2, -1) < models
    more = ranker(seen, torch.cat([asked, 50 * draw(2, 2, E, seed=5)], 1), model_mask=stands)
    close(more[:, :models], logits)
    assert not more[:, models:].any()


def test_a_models_logit_depends_on_the_others_only_where_that_is_asked_for():
    seen, asked = draw(1, 4, F), draw(1, 6, E, seed=1)
    for compares, ranker in RANKERS.items():
        alone = torch.cat([ranker(seen, asked[:, at : at + 1]) for at in range(6)], dim=1)
        together = ranker(seen, asked)
        assert torch.allclose(alone, together, atol=1e-5) is not compares
        twice = ranker(seen, asked[:, [0, 1, 0]])
        close(twice[:, 0], twice[:, 2])


def test_the_data_set_decides():
    """Other tokens give another order, not just other logits."""
    ranker, asked = make(num_layers=2), draw(1, 40, E, seed=1)
    orders = {tuple(ranker(3 * draw(1, 4, F, seed=seed), asked).argsort().flatten().tolist()) for seed in range(4)}
    assert len(orders) == 4


def test_a_data_set_without_a_token_is_that_of_the_null_token():
    ranker, asked = RANKERS[False], draw(2, 5, E)
    nothing = ranker(draw(2, 0, F), asked)
    close(ranker(draw(2, 3, F), asked, torch.zeros(2, 3, dtype=torch.bool)), nothing)
    assert torch.isfinite(nothing).all()
    compared = RANKERS[True](draw(1, 2, F), asked[:1], model_mask=torch.zeros(1, 5, dtype=torch.bool))
    assert not compared.any()


def test_the_defaults_are_small():
    model = SimilarityTransformerModel(token_width=256, embedding_width=512)
    assert sum(part.numel() for part in model.parameters()) < 200_000


@pytest.mark.parametrize("kind", ["hinge", "logistic", "listmle"])
@pytest.mark.parametrize("widths", [(256, 512), (16, 24)])
def test_gradients_reach_both_inputs_at_similar_size(kind, widths):
    """Neither the projection of tokens nor that of models starves, whatever their widths and scales."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        ranker = SimilarityTransformerModel(*widths).train()
        seen, asked = 30 * draw(8, 10, widths[0]), 0.1 * draw(8, 20, widths[1], seed=1)
        ranker.fit_inputs(seen.flatten(0, 1).numpy(), asked.flatten(0, 1).numpy())
        RankingLoss(0.1, kind)(ranker(seen, asked), draw(8, 20, seed=2)).backward()
    assert all(part.grad is not None and torch.isfinite(part.grad).all() for part in ranker.parameters())
    to_tokens, to_models = (float(part[0].weight.grad.norm()) for part in (ranker.tokens, ranker.models))
    assert 1 / 20 < to_tokens / to_models < 20


def test_inputs_are_standardised_by_the_constants_that_were_fitted():
    ranker, seen, asked = make(), draw(1, 4, F), draw(1, 5, E)
    with torch.no_grad():
        plain = ranker(seen, asked)
        scale, shift = torch.linspace(1, 9, F), torch.linspace(-4, 4, F)
        ranker.token_means.copy_(shift)
        ranker.token_deviations.copy_(scale)
        close(ranker(seen * scale + shift, asked), plain, 1e-4)
    assert "token_means" in ranker.state_dict()
    rows = draw(50, E).numpy() * np.linspace(0.1, 3, E, dtype=np.float32)
    ranker.fit_inputs(draw(20, F).numpy(), rows)
    assert ranker.embedding_deviations.tolist() == pytest.approx([rows.std(axis=0).max()] * E, rel=1e-5)
    ranker.fit_inputs(draw(20, F).numpy(), np.ones((3, E), np.float32))
    assert torch.isfinite(ranker(seen, asked)).all()


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ((draw(1, 2, F + 1), draw(1, 3, E)), "tokens have the shape"),
        ((draw(2, 2, F), draw(1, 3, E)), "model embeddings have the shape"),
        ((draw(1, 2, F), draw(3, E)), "model embeddings have the shape"),
        ((draw(1, 2, F), draw(1, 3, E), torch.ones(1, 3, dtype=torch.bool)), "mask of tokens"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(inputs, words):
    with pytest.raises(DataError, match=words):
        RANKERS[False](*inputs)
    with pytest.raises(ConfigError, match="no multiple of num_heads"):
        make(num_heads=3)
