"""Every registered model on every mix of fields: it trains, stays finite, predicts and can be saved."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from deepfm.models import MODELS, create_model
from deepfm.utils import load_checkpoint, save_checkpoint
from tests.clicks import SEQUENCE_SMALL, behaviour, columns, config_of, dense, schema_of, sequence, sparse

ROWS, STEPS = 48, 4
PLAIN = (  # without dropout, so that each step of full batches lowers the loss
    "dnn.dropout=0",
    "bst.dropout=0",
    "sin.dropout=0",
    "final_mlp.dropout_1=0",
    "final_mlp.dropout_2=0",
)
MIXES = {  # widths of several fields and of one
    "one sparse": (sparse("user", 9, 3),),
    "one dense": (dense("price", 2),),
    "one vector": (dense("text", 2, 3),),
    "one sequence": (sequence("tags", "mean", 5),),
    "one summed sequence": (sequence("tags", "sum", 5),),
    "one sequence by its maximum": (sequence("tags", "max", 5),),
    "several sparse": (sparse("user", 9, 3), sparse("shop", 7, 3), sparse("item", 6, 4)),
    "several dense": (dense("price", 2), dense("age", 3), dense("stock", 2)),
    "vectors between numbers": (dense("age", 2), dense("text", 2, 3), dense("hour", 2, 2), dense("price", 2)),
    "several sequences": (sequence("tags", "mean", 5), sequence("best", "max", 4), sequence("sum", "sum", 5)),
    "no sparse": (dense("price", 2), sequence("tags", "mean", 5)),
    "no dense": (sequence("tags", "mean", 5), sparse("item", 6, 4)),
    "no sequence": (sparse("user", 9, 3), dense("price", 2)),
    "one of each": (sparse("user", 9, 3), dense("price", 2), sequence("tags", "max", 5)),
    "a vector among each": (sparse("user", 9, 3), dense("text", 2, 3), sequence("tags", "mean", 5), dense("price", 2)),
    "several of each": (
        *(sparse("user", 9, 3), dense("price", 2), sequence("tags", "mean", 5), sparse("item", 6, 4)),
        *(dense("age", 4), sequence("best", "max", 4), sequence("sum", "sum", 3)),
    ),
}
everywhere = pytest.mark.parametrize("name", MODELS)
every_mix = pytest.mark.parametrize("mix", MIXES)


@pytest.fixture(autouse=True)
def _own_random_state():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def schema_for(name, fields, max_length=6):
    """The schema of a mix; a model of behaviour gets a history of its first field with ids, or of an item."""
    if not MODELS[name].reads_behaviour:
        return schema_of(*fields)
    candidate = next((field for field in fields if field.vocabulary_size), None)
    if candidate is None:
        candidate = sparse("item", 6, 4)
        fields = (*fields, candidate)
    size, width = candidate.vocabulary_size, candidate.embedding_dim
    return schema_of(*fields, behaviour("history", candidate.name, size, width, max_length))


def make(name, schema):
    heads = ("bst.num_heads=1", "sin.num_heads=1", "feature.fm_embed_dim=4")
    return create_model(name, schema, config_of(*SEQUENCE_SMALL, *PLAIN, *heads))


def batch_of(schema, rows=ROWS, seed=0):
    return {name: torch.as_tensor(column) for name, column in columns(schema, rows, seed).items()}


def emptied(schema, batch):
    """The batch with padding alone in every sequence and history."""
    return batch | {field.name: torch.zeros_like(batch[field.name]) for field in schema.sequence_fields}


def train(model, batch, labels, steps=STEPS):
    """Losses of a few steps, the last after them; gradients are held to be finite."""
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=0.01), []
    model.train()
    for step in range(steps + 1):
        loss = F.binary_cross_entropy_with_logits(model(batch), labels)
        losses.append(loss.item())
        if step < steps:
            optimizer.zero_grad()
            loss.backward()
            for key, weight in model.named_parameters():
                assert weight.grad is None or weight.grad.isfinite().all(), key
            optimizer.step()
    return losses


def check(name, schema, batch, folder):
    """Trains, predicts, and gives the same from saved weights, whole batches and single rows alike."""
    model, labels = make(name, schema), (torch.arange(ROWS) % 4 == 0).float().unsqueeze(1)
    losses = train(model, batch, labels)
    assert torch.tensor(losses).isfinite().all()
    assert losses[-1] < losses[0]
    probabilities = model.predict(batch)
    assert probabilities.shape == (ROWS, 1)
    assert ((probabilities > 0) & (probabilities < 1)).all()
    save_checkpoint(model.state_dict(), folder / "weights.pt")
    torch.manual_seed(9)
    other = make(name, schema)
    assert not torch.equal(other.predict(batch), probabilities)
    other.load_state_dict(load_checkpoint(folder / "weights.pt"))
    assert torch.equal(other.predict(batch), probabilities)
    for row in (0, 5):
        alone = {key: column[row : row + 1] for key, column in batch.items()}
        torch.testing.assert_close(other.predict(alone), probabilities[row : row + 1], rtol=1e-5, atol=1e-6)


@everywhere
@every_mix
def test_it_trains_predicts_and_is_saved(name, mix, tmp_path):
    schema = schema_for(name, MIXES[mix])
    check(name, schema, batch_of(schema), tmp_path)


@everywhere
@pytest.mark.parametrize("mix", [mix for mix in MIXES if "sequence" in mix or "each" in mix or mix == "no sparse"])
def test_with_empty_histories_too(name, mix, tmp_path):
    """Padding alone in all sequences: a model with nothing else to see learns how many rows are clicks."""
    schema = schema_for(name, MIXES[mix])
    check(name, schema, emptied(schema, batch_of(schema)), tmp_path)


@everywhere
@pytest.mark.parametrize("mix", ["one sequence", "several of each"])
def test_with_histories_of_one_event(name, mix, tmp_path):
    fields = [dataclasses.replace(field, max_length=1) if field.max_length else field for field in MIXES[mix]]
    schema = schema_for(name, fields, max_length=1)
    check(name, schema, batch_of(schema), tmp_path)


@pytest.mark.parametrize("name", [name for name, kind in MODELS.items() if kind.reads_behaviour])
@every_mix
def test_one_history_serves_all_rows(name, mix):
    schema = schema_for(name, MIXES[mix])
    model, batch = make(name, schema).eval(), batch_of(schema)
    for history in batch["history"][1:2], torch.zeros_like(batch["history"][:1]):
        written_out = model(batch | {"history": history.expand(ROWS, -1)})
        torch.testing.assert_close(model(batch | {"history": history}), written_out, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["fm", "afm", "nfm"])
@pytest.mark.parametrize("mix", ["one sparse", "one dense", "one vector", "one sequence"])
def test_one_field_has_no_pair(name, mix):
    """What is left of these models is logistic regression."""
    schema = schema_for(name, MIXES[mix])
    model, batch = make(name, schema), batch_of(schema)
    train(model, batch, (torch.arange(ROWS) % 2).float().unsqueeze(1))
    left = model.eval()(batch) - model.embedding(batch)[0]
    assert model.embedding(batch)[0].std() > 0.01
    torch.testing.assert_close(left, left[:1].expand(ROWS, 1), rtol=1e-6, atol=1e-6)
