"""Dense fields of several numbers a row: their values and gradients by hand, and everything that counts numbers."""

import numpy as np
import pytest
import torch

from deepfm.data.dataset import TabularDataset
from deepfm.data.schema import DatasetSchema, FeatureType, FieldSchema
from deepfm.engine.loop import fit
from deepfm.errors import SchemaError
from deepfm.models import create_model
from deepfm.models.initialisation import initialise
from deepfm.models.layers import FeatureEmbedding
from deepfm.training.evaluation import score_rows
from tests.clicks import CPU, ClickTask, clicks, columns, config_of, dense, model_of, pairs, schema_of, sequence, sparse

K, WIDTH = 3, 4
SCHEMA = schema_of(
    dense("age"), dense("text", WIDTH, K), dense("hour", WIDTH, 2), dense("price"), sparse("item"), dense("other", 2, 5)
)
# Fingerprints of saved runs, from before fields had a dimension.
OLD = "46b021665c86a223f086ab281841032179334d71b0841bcc38c30e24ba34f7dc"


@pytest.fixture(autouse=True)
def _own_random_state():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def batch_of(schema, rows=6, seed=0):
    return {name: torch.as_tensor(column) for name, column in columns(schema, rows, seed).items()}


def embedding_of(schema=SCHEMA, orders="both"):
    return FeatureEmbedding(schema, WIDTH, "if_needed", orders)


class TestTheSchema:
    @pytest.mark.parametrize("name", ["schema.json", "schema.yaml"])
    def test_a_dimension_is_saved_and_read(self, name, tmp_path):
        SCHEMA.save(tmp_path / name)
        read = DatasetSchema.load(tmp_path / name)
        assert read == SCHEMA
        assert read.fields["text"].dimension == K

    def test_one_number_is_written_as_before(self):
        before = {
            "name": "price", "feature_type": "dense", "vocabulary_size": 0, "embedding_dim": 4, "group": "",
            "max_length": 0, "combiner": "mean",
        }  # fmt: skip
        assert dense("price").to_dict() == before
        assert dense("price", dimension=2).to_dict() == before | {"dimension": 2}
        assert schema_of(dense("price")).fingerprint() != schema_of(dense("price", dimension=2)).fingerprint()

    def test_schemas_without_it_keep_their_fingerprints(self):
        fields = dense("price"), sparse("item"), sequence("tags")
        assert schema_of(*fields).fingerprint() == OLD

    @pytest.mark.parametrize("kind", [FeatureType.SPARSE, FeatureType.SEQUENCE])
    def test_ids_have_none(self, kind):
        with pytest.raises(SchemaError, match=rf"{kind} field 'shop' has dimension 2; expected 1"):
            FieldSchema("shop", kind, 9, 4, max_length=3, dimension=2)

    @pytest.mark.parametrize("dimension", [0, -1])
    def test_no_number_at_all_is_refused(self, dimension):
        with pytest.raises(SchemaError, match=f"dense field 'text' has dimension {dimension}; expected 1, or more"):
            dense("text", dimension=dimension)

    def test_a_fraction_is_refused(self):
        with pytest.raises(SchemaError, match=r"field 'text' has dimension 2.5; expected a whole number"):
            dense("text", dimension=2.5)


class TestTheRows:
    def test_vectors_of_the_right_length_pass(self):
        TabularDataset(columns(SCHEMA, 5), np.zeros(5)).check(SCHEMA)

    @pytest.mark.parametrize("shape", [(5,), (5, 1), (5, K + 1), (5, K, 1)])
    def test_others_are_named(self, shape):
        rows = TabularDataset(columns(SCHEMA, 5) | {"text": np.zeros(shape, np.float32)}, np.zeros(5))
        with pytest.raises(
            SchemaError, match=r"dense field 'text' has rows of shape .*; expected \(3,\), its dimension"
        ):
            rows.check(SCHEMA)

    def test_a_vector_for_one_number_is_named(self):
        rows = TabularDataset(columns(SCHEMA, 5) | {"age": np.zeros((5, K), np.float32)}, np.zeros(5))
        with pytest.raises(SchemaError, match=r"field 'age' has rows of shape \(3,\); expected one value a row"):
            rows.check(SCHEMA)


class TestTheEmbedding:
    def test_values_are_those_by_hand(self):
        embedding, batch = embedding_of(), batch_of(SCHEMA)
        linear, fields, flat = embedding(batch)
        start = terms = 0
        for position, (name, field) in enumerate(SCHEMA.fields.items()):
            weight, first = embedding.field_weight(name), embedding.field_weight(name, first_order=True)
            if field.feature_type is FeatureType.DENSE:
                assert weight.shape == (field.dimension, field.embedding_dim)
                assert first.shape == (field.dimension, 1)
                numbers = batch[name].view(6, -1)
                vectors, term = [
                    torch.stack([sum(row[k] * w[k] for k in range(field.dimension)) for row in numbers])
                    for w in (weight, first)
                ]
            else:
                vectors, term = weight[batch[name]], first[batch[name]]
            terms = terms + term
            torch.testing.assert_close(flat[:, start : start + field.embedding_dim], vectors)
            projection = embedding.projection_of(name)
            wanted = vectors if projection is None else projection(vectors)
            torch.testing.assert_close(fields[:, position], wanted)
            start += field.embedding_dim
        torch.testing.assert_close(linear, terms)
        assert flat.shape == (6, start)

    def test_gradients_are_those_by_hand(self):
        schema = schema_of(dense("age"), dense("text", WIDTH, K), dense("price"))
        embedding, batch = embedding_of(schema), batch_of(schema)
        linear, fields, flat = embedding(batch)
        above = torch.randn(6, 1), torch.randn(6, 3, WIDTH), torch.randn(6, 3 * WIDTH)
        sum((view * g).sum() for view, g in zip((linear, fields, flat), above, strict=True)).backward()
        table = embedding.tables[str(WIDTH)]
        numbers = torch.cat([batch[name].view(6, -1) for name in schema.fields], dim=1)  # (B, 1 + K + 1)
        of_vectors = (above[1] + above[2].view(6, 3, WIDTH))[:, [0, 1, 1, 1, 2]]  # (B, 5, width)
        torch.testing.assert_close(table.dense_weight.grad, (numbers.unsqueeze(2) * of_vectors).sum(0))
        torch.testing.assert_close(table.dense_first_order.grad, numbers.T @ above[0])

    def test_a_zero_vector_adds_exactly_nothing(self):
        schema = schema_of(dense("age"), dense("text", WIDTH, K))
        embedding, batch = embedding_of(schema), batch_of(schema)
        batch["text"].zero_()
        linear, fields, flat = embedding(batch)
        assert torch.equal(fields[:, 1], torch.zeros(6, WIDTH))
        assert torch.equal(flat[:, WIDTH:], torch.zeros(6, WIDTH))
        assert torch.equal(linear.squeeze(1), batch["age"] * embedding.field_weight("age", True).squeeze())

    def test_one_and_zero_pick_a_row(self):
        """A (value, is missing) pair: a missing value has a vector of its own."""
        schema = schema_of(dense("age", WIDTH, 2), sparse("item"))
        embedding = embedding_of(schema)
        batch = {"age": torch.tensor([[0, 1], [2, 0]]), "item": torch.zeros(2, dtype=torch.int64)}  # whole numbers too
        _, fields, _ = embedding(batch)
        weight = embedding.field_weight("age")
        torch.testing.assert_close(fields[:, 0], torch.stack([weight[1], 2 * weight[0]]))

    @pytest.mark.parametrize("orders", ["first", "second"])
    def test_one_order_alone(self, orders):
        schema = schema_of(dense("age"), dense("text", WIDTH, K))
        embedding, batch = embedding_of(schema, orders), batch_of(schema)
        linear, fields, _ = embedding(batch)
        if orders == "first":
            wanted = batch["age"].view(6, 1) @ embedding.field_weight("age", True)
            torch.testing.assert_close(linear, wanted + batch["text"] @ embedding.field_weight("text", True))
            assert fields.shape == (6, 0, WIDTH)
        else:
            assert torch.equal(linear, torch.zeros(6, 1))
            torch.testing.assert_close(fields[:, 1], batch["text"] @ embedding.field_weight("text"))

    def test_xavier_counts_a_fields_own_numbers(self):
        schema = schema_of(dense("age", 64), dense("text", 64, 128))
        embedding = FeatureEmbedding(schema, 64)
        bound = (6 / (128 + 64)) ** 0.5
        weight = embedding.field_weight("text").abs()
        assert 0.95 * bound < weight.max() <= bound
        initialise(embedding, linear_init="xavier_normal")
        assert embedding.field_weight("text").std().item() == pytest.approx((2 / (128 + 64)) ** 0.5, rel=0.05)


class TestModels:
    def test_one_number_gives_what_it_gave(self):
        """A field of dimension 1 has the weights and logits of a plain one, as `(B,)` and as `(B, 1)`."""
        schema = schema_of(dense("age"), sparse("item"), dense("price"))
        model, batch = model_of(schema=schema).eval(), batch_of(schema)
        assert torch.equal(model(batch), model(batch | {"age": batch["age"].view(-1, 1)}))

    def test_two_numbers_are_two_fields_to_the_linear_part(self):
        """Logistic regression cannot tell a vector from its numbers."""
        whole, parts = schema_of(dense("text", 4, 2)), schema_of(dense("a"), dense("b"))
        one, other = (create_model("lr", schema, config_of()) for schema in (whole, parts))
        other.load_state_dict(one.state_dict())
        batch = batch_of(whole)
        torch.testing.assert_close(one(batch), other({"a": batch["text"][:, 0], "b": batch["text"][:, 1]}))

    def test_a_vector_teaches(self):
        train = clicks(SCHEMA)
        train.check(SCHEMA)
        task = ClickTask(model_of(schema=SCHEMA), train, config_of("training.num_epochs=2"))
        before = task.model.embedding.field_weight("text").clone()
        fit(task, task.config.training, device=CPU)
        assert torch.stack(task.losses[-5:]).mean() < torch.stack(task.losses[:5]).mean()
        assert ((task.model.embedding.field_weight("text") - before).abs() > 1e-4).all()

    @pytest.mark.parametrize("of_users", [("text", "age"), ("item", "age"), ()])
    def test_scoring_pairs_is_scoring_rows(self, of_users):
        model = model_of(schema=SCHEMA).eval()
        dataset = pairs(SCHEMA, (*of_users, "hour"))
        features, _ = dataset.batch(slice(0, len(dataset)))
        with torch.no_grad():
            wanted = model(features).squeeze(1).numpy()
        np.testing.assert_allclose(score_rows(model, dataset), wanted, rtol=1e-5, atol=1e-5)
