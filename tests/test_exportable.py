"""Every registered model as an exported program: one graph for batches of any size, with the model's own logits."""

import pytest
import torch

from deepfm.models import MODELS
from tests.clicks import (
    BEHAVIOUR_SCHEMA,
    INTERACTION_OPTIONS,
    MODEL_OPTIONS,
    SEQUENCE_OPTIONS,
    columns,
    dense,
    model_of,
    randomise,
    schema_of,
    sequence,
    sequence_model_of,
    sparse,
)

OPTIONS = MODEL_OPTIONS | INTERACTION_OPTIONS | SEQUENCE_OPTIONS
FIRST = {OPTIONS[kind][0]: kind for kind in reversed(OPTIONS)}  # of each model
KINDS = (*FIRST.values(), "dcn_v2 experts", "final_mlp contexts", "mask_net serial", "din normalize=true recency=true")
FIELDS = schema_of(sparse("user"), sequence("mean"), dense("price", 3), dense("text", 3, 3), sparse("item", 25, 3))


def batch_of(schema, rows, seed):
    return {name: torch.as_tensor(column) for name, column in columns(schema, rows, seed).items()}


def exported(model, schema):
    rows = torch.export.Dim("rows", min=1)
    example = batch_of(schema, 6, seed=0)
    program = torch.export.export(model, (example,), dynamic_shapes=({name: {0: rows} for name in example},))
    return program.module()


def assert_same(model, schema):
    program = exported(model.eval(), schema)
    with torch.no_grad():
        for rows in (1, 2, 57):
            batch = batch_of(schema, rows, seed=rows)
            torch.testing.assert_close(program(batch), model(batch), rtol=1e-5, atol=1e-5)


def test_every_registered_model_is_among_them():
    assert {OPTIONS[kind][0] for kind in KINDS} == set(MODELS)


@pytest.mark.parametrize("kind", KINDS)
def test_an_exported_model_takes_batches_of_any_size(kind):
    if kind in SEQUENCE_OPTIONS:
        assert_same(sequence_model_of(kind), BEHAVIOUR_SCHEMA)
    else:
        assert_same(randomise(model_of(kind, schema=FIELDS)), FIELDS)


def test_one_field_without_a_pair_is_exported_too():
    schema = schema_of(sparse("user"))
    assert_same(randomise(model_of("afm", schema=schema)), schema)
