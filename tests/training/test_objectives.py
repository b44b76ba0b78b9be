"""Losses against loops, the blocks that they see, and scoring of candidates that share a history."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from deepfm.config import DataConfig, load_config
from deepfm.data.dataset import TabularDataset
from deepfm.data.grouplens.fields import HISTORY
from deepfm.data.history import Histories
from deepfm.data.interactions import Blocks, CatalogueBlock, InteractionDataset, TrainingInteractions
from deepfm.data.movielens import MovieLensAdapter
from deepfm.data.negatives import NegativeSampler
from deepfm.engine.loop import fit
from deepfm.errors import ConfigError
from deepfm.models import SIN, create_model
from deepfm.models.layers import ActivationUnit
from deepfm.training import objectives, scoring
from deepfm.training.evaluation import evaluate_scores, score_rows
from deepfm.training.monitors import monitored
from deepfm.training.task import CTRTask
from tests.clicks import (
    BEHAVIOUR_SCHEMA,
    CPU,
    MODEL_OPTIONS,
    PRODUCTS,
    SEQUENCE_OPTIONS,
    SEQUENCE_SMALL,
    ClickTask,
    clicks,
    columns,
    config_of,
    model_of,
    randomise,
    schema_of,
    sequence_model_of,
)

P, W = 7, 5
kinds = pytest.mark.parametrize("kind", ["bst target 1", "bst all 1", "din normalize=true recency=true",
                                         "sin gate attends", "sin encoded 2 layers", "sin of products"])  # fmt: skip
one_of_each = pytest.mark.parametrize("kind", ["bst target 1", "din normalize=false recency=false", "sin gate attends"])


@pytest.fixture(autouse=True)
def _own_random_state():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def close(got, wanted, tolerance=1e-6):
    torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def blocks_of_logits(share_hidden=0.4):
    """Logits `(P, W)` and hidden negatives; the last row has none left."""
    hidden = torch.rand(P, W) < share_hidden
    hidden[:, 0] = False
    hidden[-1, 1:] = True
    return 3 * torch.randn(P, W), hidden


class TestLosses:
    @pytest.mark.parametrize("shape", [(P,), (P, W)])
    def test_bce_is_a_loop(self, shape):
        logits, labels = 3 * torch.randn(shape), (torch.rand(shape) < 0.3).float()
        losses = [
            -math.log(sigmoid(x)) if y else -math.log(1 - sigmoid(x))
            for x, y in zip(logits.flatten().tolist(), labels.flatten().tolist(), strict=True)
        ]
        assert objectives.bce(logits, labels).item() == pytest.approx(np.mean(losses), rel=1e-5)

    def test_bce_leaves_hidden_rows_out(self):
        logits, hidden = blocks_of_logits()
        labels = (torch.rand(P, W) < 0.5).float()
        got = objectives.bce(logits, labels, hidden)
        close(got, objectives.bce(logits[~hidden], labels[~hidden]))
        close(objectives.bce(torch.where(hidden, 50.0, logits), labels, hidden), got)
        close(objectives.bce(logits, labels, torch.zeros_like(hidden)), objectives.bce(logits, labels))

    def test_bpr_is_a_loop_over_the_pairs(self):
        logits, hidden = blocks_of_logits()
        losses = [
            -math.log(sigmoid(logits[p, 0].item() - logits[p, w].item()))
            for p in range(P)
            for w in range(1, W)
            if not hidden[p, w]
        ]
        assert 0 < len(losses) < P * (W - 1)
        assert objectives.bpr(logits, hidden).item() == pytest.approx(np.mean(losses), rel=1e-5)

    @pytest.mark.parametrize("corrected", [False, True])
    def test_softmax_is_a_loop_over_the_likes(self, corrected):
        logits, hidden = blocks_of_logits()
        log_q = torch.rand(P, W).log() if corrected else None
        losses = []
        for p in range(P):
            scores = [math.exp(logits[p, w] - (log_q[p, w] if corrected else 0)) for w in range(W) if not hidden[p, w]]
            losses.append(-math.log(scores[0] / sum(scores)))
        assert losses[-1] == 0
        assert objectives.softmax(logits, hidden, log_q).item() == pytest.approx(np.mean(losses), rel=1e-5)

    def test_full_softmax_is_a_loop_over_the_catalogue(self):
        logits, items = 3 * torch.randn(P, 11), torch.randint(0, 11, (P,))
        hidden = (torch.rand(P, 11) < 0.5).scatter(1, items.unsqueeze(1), False)
        losses = []
        for p in range(P):
            scores = {c: math.exp(logits[p, c]) for c in range(11) if not hidden[p, c]}
            losses.append(-math.log(scores[int(items[p])] / sum(scores.values())))
        assert objectives.full_softmax(logits, items, hidden).item() == pytest.approx(np.mean(losses), rel=1e-5)

    @pytest.mark.parametrize(
        "loss",
        [
            lambda logits, hidden: objectives.bce(logits, torch.zeros_like(logits), hidden),
            objectives.bpr,
            objectives.softmax,
            lambda logits, hidden: objectives.softmax(logits, hidden, torch.full_like(logits, -2.0)),
            lambda logits, hidden: objectives.full_softmax(logits, torch.zeros(P, dtype=torch.int64), hidden),
        ],
        ids=["bce", "bpr", "softmax", "log_q", "full_softmax"],
    )
    def test_hidden_negatives_change_nothing_and_get_no_gradient(self, loss):
        logits, hidden = blocks_of_logits()
        logits.requires_grad_()
        value = loss(logits, hidden)
        value.backward()
        assert logits.grad.isfinite().all()
        assert not logits.grad[hidden].any()
        assert logits.grad[~hidden][:-1].all()
        for other in (1e4, -1e4, 0.0):
            assert torch.equal(loss(torch.where(hidden, other, logits), hidden), value)

    def test_nothing_but_hidden_negatives_is_zero_and_finite(self):
        logits, hidden = torch.randn(P, W, requires_grad=True), torch.ones(P, W, dtype=torch.bool)
        hidden[:, 0] = False
        for loss in (objectives.bpr, objectives.softmax):
            value = loss(logits, hidden)
            value.backward()
            assert value.item() == 0
            assert not logits.grad.any()

    def test_large_logits_are_finite(self):
        logits, hidden = torch.tensor([[-1e4, 1e4, 0.0]], requires_grad=True), torch.zeros(1, 3, dtype=torch.bool)
        for loss in (objectives.bpr, objectives.softmax):
            value = loss(logits, hidden)
            value.backward()
            assert value.isfinite()
            assert logits.grad.isfinite().all()

    def test_a_constant_chance_corrects_nothing(self):
        logits, hidden = blocks_of_logits()
        close(objectives.softmax(logits, hidden, torch.full((P, W), -5.0)), objectives.softmax(logits, hidden), 1e-5)


class TestLogQ:
    """What the correction is for: negatives that are not drawn uniformly."""

    @staticmethod
    def skewed(size):
        q = 1.0 / (1 + torch.arange(size))
        return q / q.sum()

    def test_the_gradient_is_nearer_the_full_softmaxs(self):
        generator, size, draws = torch.Generator().manual_seed(0), 40, 60
        scores, q = torch.randn(size, generator=generator), self.skewed(size).roll(7)
        positive = 5
        full = scores.softmax(0)
        full[positive] = 0
        full /= full.sum()  # of the negatives
        negatives = torch.multinomial(q, 3000 * draws, replacement=True, generator=generator).view(3000, draws)
        items = torch.cat([torch.full((3000, 1), positive), negatives], dim=1)
        hidden = (items == positive) & (torch.arange(1 + draws) > 0)
        errors = {}
        for corrected in (False, True):
            weights = scores.clone().requires_grad_()
            objectives.softmax(weights[items], hidden, q.log()[items] if corrected else None).backward()
            gradient = weights.grad.clone()
            gradient[positive] = 0
            errors[corrected] = (gradient / gradient.sum() - full).abs().sum().item()
        assert errors[True] < 0.15
        assert errors[False] > 0.5
        assert errors[True] < 0.25 * errors[False]

    def test_the_best_scores_are_the_true_log_probabilities(self):
        """Learned from popular negatives: corrected, the scores are log π; uncorrected, they are log π/q."""
        generator, size, rows, draws = torch.Generator().manual_seed(1), 8, 10_000, 6
        truth, q = torch.rand(size, generator=generator).add(0.2), self.skewed(size)
        truth /= truth.sum()
        positives = torch.multinomial(truth, rows, replacement=True, generator=generator).unsqueeze(1)
        negatives = torch.multinomial(q, rows * draws, replacement=True, generator=generator).view(rows, draws)
        items = torch.cat([positives, negatives], dim=1)
        hidden, errors = torch.zeros_like(items, dtype=torch.bool), {}
        for corrected in (False, True):
            scores = torch.zeros(size, requires_grad=True)
            optimizer = torch.optim.LBFGS([scores], max_iter=12)
            log_q = q.log()[items] if corrected else None

            def step(scores=scores, optimizer=optimizer, log_q=log_q):
                optimizer.zero_grad()
                loss = objectives.softmax(scores[items], hidden, log_q)
                loss.backward()
                return loss

            optimizer.step(step)
            errors[corrected] = (scores.detach().softmax(0) - truth).abs().max().item()
        assert errors[True] < 0.03
        assert errors[False] > 0.1


NUM_USERS, NUM_ITEMS = 6, 25


def training_rows(num_negatives=3, likes=20, histories=True, seed=0):
    """Likes of BEHAVIOUR_SCHEMA's users and items, of which user 0 may be shown only a few."""
    rng = np.random.default_rng(seed)
    sides = (
        columns(schema_of(*(BEHAVIOUR_SCHEMA.fields[name] for name in ("user", "tags"))), NUM_USERS, 1),
        columns(schema_of(*(BEHAVIOUR_SCHEMA.fields[name] for name in ("price", "item", "shop"))), NUM_ITEMS, 2),
    )
    sides[1]["item"] = np.arange(NUM_ITEMS)
    users, items = rng.integers(0, NUM_USERS, likes), rng.integers(1, NUM_ITEMS, likes)
    rated = np.concatenate([users, np.zeros(15, np.int64)]), np.concatenate([items, np.arange(15)])
    past = Histories(rng.integers(1, 25, 60), *_spans(rng, likes, 60), 6) if histories else None
    return TrainingInteractions(
        sides, users, items, sampler=NegativeSampler(*rated, NUM_USERS, NUM_ITEMS), num_negatives=num_negatives,
        seed=seed, histories={"history": past} if histories else None,
    )  # fmt: skip


def _spans(rng, count, events):
    """Some empty, some short, some longer than any maximum."""
    starts = rng.integers(0, events - 10, count)
    return starts, starts + rng.choice([0, 1, 3, 6, 10], count)


class TestBlocks:
    def test_a_block_is_a_like_and_the_rows_after_it(self):
        data = training_rows()
        data.resample(3)
        likes = torch.tensor([4, 0, 19])
        block = data.blocks(likes)
        rows = (likes.unsqueeze(1) * 4 + torch.arange(4)).flatten()
        features, labels = data.batch(rows)
        assert torch.equal(block.labels, labels)
        assert block.labels.view(3, 4).tolist() == [[1, 0, 0, 0]] * 3
        for name, column in features.items():
            if name != "history":
                assert torch.equal(block.features[name], column), name
        assert block.features["history"].shape == (3, 6)
        assert torch.equal(block.features["history"].repeat_interleave(4, dim=0), features["history"])
        assert not block.hidden.any()
        close(block.log_q, torch.full((3, 4), -math.log(NUM_ITEMS)))

    @pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
    def test_in_batch_negatives_are_exactly_the_next_likes_items(self, dtype):
        data, likes = training_rows(), torch.tensor([3, 11, 7, 0, 15], dtype=dtype)
        block = data.blocks(likes, num_in_batch=2)
        own = data._like_items[likes.numpy()]
        items = block.features["item"].view(5, 6)
        assert items[:, 0].tolist() == own.tolist()
        assert torch.equal(items[:, :4], data.blocks(likes).features["item"].view(5, 4))
        assert items[:, 4:].tolist() == [[own[(p + 1) % 5], own[(p + 2) % 5]] for p in range(5)]
        users = data.user_table["user"][torch.as_tensor(data._like_users[likes.numpy()])]
        assert torch.equal(block.features["user"].view(5, 6), users.unsqueeze(1).expand(5, 6))
        assert torch.equal(block.features["price"], data.item_table["price"][block.features["item"]])
        assert block.labels.view(5, 6).tolist() == [[1, 0, 0, 0, 0, 0]] * 5
        assert torch.equal(block.features["history"], data.histories["history"].latest(likes))

    def test_accidental_hits_are_hidden_and_nothing_else(self):
        data = training_rows(likes=40)
        likes = torch.randperm(40)
        block = data.blocks(likes, num_in_batch=7)
        rated = {(u, i) for u in range(NUM_USERS) for i in range(NUM_ITEMS) if _excluded(data.sampler, u, i)}
        items, hidden = block.features["item"].view(40, 11).tolist(), block.hidden.tolist()
        seen = []
        for p, like in enumerate(likes.tolist()):
            assert hidden[p][:4] == [False] * 4
            for w in range(4, 11):
                hit = (int(data._like_users[like]), items[p][w]) in rated
                assert hidden[p][w] == hit
                seen.append(hit)
        assert 0.1 < np.mean(seen) < 0.9

    def test_the_likes_own_item_is_hidden_whoever_liked_it_too(self):
        """Also where the sampler excludes nothing."""
        data = training_rows()
        data.sampler = NegativeSampler(np.zeros(0, np.int64), np.zeros(0, np.int64), NUM_USERS, NUM_ITEMS)
        data._like_items[[2, 5]] = 9
        data.resample(1)
        block = data.blocks(torch.tensor([2, 5, 8]), num_in_batch=1)
        assert block.hidden[:, 4].tolist() == [True, bool(data._like_items[5] == data._like_items[8]), False]

    def test_fewer_others_than_asked_for_stand_once_each(self):
        """The last batch of an epoch may be small; no negative may count twice, and no like be its own."""
        data = training_rows()
        data.sampler = NegativeSampler(np.zeros(0, np.int64), np.zeros(0, np.int64), NUM_USERS, NUM_ITEMS)
        data._like_items[:3] = [4, 5, 6]
        data.resample(1)
        block = data.blocks(torch.tensor([0, 1, 2]), num_in_batch=5)
        borrowed, hidden = block.features["item"].view(3, 9)[:, 4:], block.hidden[:, 4:]
        visible = [sorted(row[~out].tolist()) for row, out in zip(borrowed, hidden, strict=True)]
        assert visible == [[5, 6], [4, 6], [4, 5]]
        assert data.blocks(torch.tensor([1]), num_in_batch=3).hidden[0].tolist() == [False] * 4 + [True] * 3

    def test_log_q_is_the_chance_with_which_an_item_is_drawn(self):
        """Over many epochs, against a count of the negatives."""
        rng = np.random.default_rng(0)
        likes = rng.choice(NUM_ITEMS, 400, p=(w := 1 / np.arange(1.0, NUM_ITEMS + 1)) / w.sum())
        nobody = np.zeros(0, np.int64)
        data = TrainingInteractions(
            ({"user": np.arange(1)}, {"item": np.arange(NUM_ITEMS)}), np.zeros(400, np.int64), likes,
            sampler=NegativeSampler(nobody, nobody, 1, NUM_ITEMS), num_negatives=2, seed=0,
        )  # fmt: skip
        counts, log_q = np.zeros(NUM_ITEMS), {}
        for epoch in range(30):
            data.resample(epoch)
            block = data.blocks(torch.from_numpy(rng.permutation(400)), num_in_batch=3)
            items = block.features["item"].view(400, 6)
            counts += np.bincount(items[:, 1:].flatten().numpy(), minlength=NUM_ITEMS)
            log_q |= dict(zip(items.flatten().tolist(), block.log_q.flatten().tolist(), strict=True))
        chances = np.exp([log_q[item] for item in range(NUM_ITEMS)])
        assert chances.sum() == pytest.approx(1.0, abs=1e-4)
        np.testing.assert_allclose(counts / counts.sum(), chances, rtol=0.15)

    def test_a_catalogue_block_hides_what_the_user_may_not_be_shown_but_the_like(self):
        data, likes = training_rows(), torch.tensor([6, 2, 13], dtype=torch.int32)
        block = data.catalogue_block(likes)
        users, items = data._like_users[likes], data._like_items[likes]
        assert block.items.tolist() == items.tolist()
        for p in range(3):
            wanted = [_excluded(data.sampler, users[p], i) and i != items[p] for i in range(NUM_ITEMS)]
            assert block.hidden[p].tolist() == wanted
        assert block.features["user"].tolist() == data.user_table["user"][users].tolist()
        assert torch.equal(block.features["history"], data.histories["history"].latest(likes))
        assert {name: len(column) for name, column in block.catalogue.items()} == dict.fromkeys(
            ("price", "item", "shop"), NUM_ITEMS
        )

    @pytest.mark.parametrize("loss", ["bce", "bpr", "softmax"])
    def test_an_epoch_shows_every_like_once_with_its_history(self, loss):
        data = training_rows(likes=21)
        model = sequence_model_of("sin gate attends", f"training.loss={loss}", "training.batch_size=23")
        task = ClickTask(model, data)
        assert task.num_batches() == 4  # of five likes, and the last of six, as a like alone joins the others
        batches = list(task.batches(1))
        assert [len(batch.hidden) for batch in batches] == [5, 5, 5, 6]
        first = [
            (int(item), history.tolist())
            for batch in batches
            for item, history in zip(batch.features["item"][::4], batch.features["history"], strict=True)
        ]
        histories = data.histories["history"].latest(torch.arange(21)).tolist()
        assert sorted(first) == sorted(zip(data._like_items.tolist(), histories, strict=True))
        again = [batch.features["item"] for batch in task.batches(1)]
        other = [batch.features["item"] for batch in task.batches(2)]
        assert all(torch.equal(one.features["item"], two) for one, two in zip(batches, again, strict=True))
        assert not all(torch.equal(one, two) for one, two in zip(again, other, strict=True))


def _excluded(sampler, user, item):
    return user * sampler.num_items + item in sampler.excluded_pairs


UNDROPPED = ("dnn.dropout=0", "bst.dropout=0", "sin.dropout=0")


class TestTaskLosses:
    @kinds
    @pytest.mark.parametrize("training", [True, False])
    def test_bce_on_blocks_is_bce_on_the_rows_written_out(self, kind, training):
        data, likes, outcomes = training_rows(), torch.tensor([4, 0, 19, 8]), []
        for written_out in (False, True):
            model = sequence_model_of(kind, *UNDROPPED).train(training)
            task = ClickTask(model, data)
            if written_out:
                features, labels = data.batch((likes.unsqueeze(1) * 4 + torch.arange(4)).flatten())
                loss, rows = task.loss((features, labels))
            else:
                loss, rows = task.loss(data.blocks(likes))
            assert rows == 16
            loss.backward()
            outcomes.append([loss, *(weight.grad for weight in model.parameters() if weight.grad is not None)])
        for one, other in zip(*outcomes, strict=True):
            close(one, other, 1e-5)

    @kinds
    @pytest.mark.parametrize(
        "options", [("bpr",), ("softmax",), ("softmax", 3, False), ("softmax", 3, True), ("bpr", 2)]
    )
    def test_ranking_losses_are_those_of_the_rows_written_out(self, kind, options):
        loss, in_batch, corrected = (*options, 0, False)[:3] if len(options) == 1 else (*options, False)[:3]
        data, likes = training_rows(), torch.tensor([4, 0, 19, 8])
        overrides = (f"training.loss={loss}", f"training.in_batch_negatives={in_batch}",
                     f"training.log_q_correction={str(corrected).lower()}", *UNDROPPED)  # fmt: skip
        model = sequence_model_of(kind, *overrides).eval()
        block = data.blocks(likes, in_batch)
        wide = 4 + in_batch
        history = block.features["history"].repeat_interleave(wide, dim=0)
        logits = torch.cat(
            [
                model({name: column[row : row + 1] for name, column in {**block.features, "history": history}.items()})
                for row in range(4 * wide)
            ]
        ).view(4, wide)
        wanted = {
            "bpr": lambda: objectives.bpr(logits, block.hidden),
            "softmax": lambda: objectives.softmax(logits, block.hidden, block.log_q if corrected else None),
        }[loss]()
        got, rows = ClickTask(model, data).loss(block)
        assert rows == 4 * wide
        close(got, wanted, 1e-5)

    @pytest.mark.parametrize("kind", ["sin of products", "sin of products 6 wide"])
    def test_the_full_softmax_is_the_softmax_over_all_pairs(self, kind):
        """The users' own terms are the same for all items, and so are left out."""
        data, likes = training_rows(), torch.tensor([4, 0, 19, 8])
        model = sequence_model_of(kind, "training.loss=full_softmax", *UNDROPPED).eval()
        block = data.catalogue_block(likes)
        whole = data.describe(
            torch.as_tensor(data._like_users[likes]).repeat_interleave(NUM_ITEMS), torch.arange(NUM_ITEMS).repeat(4)
        )
        pairs = model(whole | {"history": block.features["history"]}).view(4, NUM_ITEMS)
        logits = model.catalogue_logits(block.features, block.catalogue)
        close(pairs - logits, (pairs - logits)[:, :1].expand(4, NUM_ITEMS), 1e-5)
        got, rows = ClickTask(model, data).loss(block)
        assert rows == 4
        close(got, objectives.full_softmax(pairs, block.items, block.hidden), 1e-5)
        got.backward()
        catalogue_gradient = model.embedding.field_weight("item").grad_fn
        assert catalogue_gradient is not None
        assert model.embedding.tables["4"].weight.grad.any()

    def test_a_task_takes_blocks_where_likes_are_ranked_or_have_a_history(self):
        sequence_model, plain = sequence_model_of("sin gate attends"), model_of("deepfm", schema=BEHAVIOUR_SCHEMA)
        assert ClickTask(sequence_model, training_rows()).block_rows == 4
        assert ClickTask(plain, training_rows(histories=False)).block_rows == 1
        for loss, in_batch, rows in (("bpr", 0, 4), ("softmax", 5, 9)):
            config = config_of(f"training.loss={loss}", f"training.in_batch_negatives={in_batch}")
            assert ClickTask(plain, training_rows(histories=False), config).block_rows == rows
            batch = next(iter(ClickTask(plain, training_rows(histories=False), config).batches(1)))
            assert isinstance(batch, Blocks)
        products = sequence_model_of("sin of products", "training.loss=full_softmax")
        assert isinstance(next(iter(ClickTask(products, training_rows()).batches(1))), CatalogueBlock)


class TestRefusals:
    @pytest.mark.parametrize("loss", ["bpr", "softmax", "full_softmax"])
    def test_a_ranking_loss_needs_sampled_negatives(self, loss):
        model = sequence_model_of("sin of products", f"training.loss={loss}")
        with pytest.raises(ConfigError, match=rf"training.loss = '{loss}' ranks .*; use training.loss=bce, or"):
            ClickTask(model, clicks(BEHAVIOUR_SCHEMA, 40))

    @pytest.mark.parametrize("loss", ["bce", "full_softmax"])
    def test_in_batch_negatives_need_a_loss_that_ranks_samples(self, loss):
        model = sequence_model_of("sin of products", f"training.loss={loss}", "training.in_batch_negatives=4")
        with pytest.raises(ConfigError, match=rf"in_batch_negatives = 4 goes with .* softmax or bpr, got {loss}"):
            ClickTask(model, training_rows())

    @pytest.mark.parametrize(
        "make",
        [
            lambda *overrides: model_of("deepfm", *overrides, schema=BEHAVIOUR_SCHEMA),
            lambda *overrides: sequence_model_of("bst target 1", *overrides),
            lambda *overrides: sequence_model_of("din normalize=false recency=false", *overrides),
            lambda *overrides: sequence_model_of("sin gate attends", *overrides),
            lambda *overrides: sequence_model_of("sin transformer product", *overrides),
        ],
        ids=["deepfm", "bst", "din", "sin", "sin with a tower"],
    )
    def test_the_full_softmax_needs_an_inner_product_and_says_which(self, make):
        with pytest.raises(ConfigError, match=r"training.loss = 'full_softmax' needs .*sin.candidate=product"):
            next(iter(_losses(make("training.loss=full_softmax"))))


def _losses(model):
    task = ClickTask(model, training_rows())
    for batch in task.batches(1):
        yield task.loss(batch)[0]


LOSSES = {
    "bce": (),
    "bpr": ("training.loss=bpr",),
    "softmax": ("training.loss=softmax",),
    "softmax in batch": ("training.loss=softmax", "training.in_batch_negatives=8", "training.log_q_correction=true"),
}


@pytest.mark.parametrize(
    ("name", "loss", "more"),
    [
        *(("sin", loss, ()) for loss in LOSSES),
        ("bst", "bce", ()),
        ("bst", "softmax in batch", ()),
        ("din", "bpr", ()),
        ("din", "softmax", ()),
        ("deepfm", "bpr", ()),
        ("xdeepfm", "softmax in batch", ()),
        ("sin", "full_softmax", PRODUCTS),
        ("sin", "softmax in batch", PRODUCTS),
    ],
)
def test_every_loss_falls_on_small_movielens(small_dir, name, loss, more):
    overrides = LOSSES.get(loss, (f"training.loss={loss}",))
    config = load_config(None, ["device=cpu", "training.num_epochs=3", "training.batch_size=512", "training.lr=0.01",
                                "dnn.hidden_units=[8]", "cin.layer_sizes=[4]", *overrides, *more])  # fmt: skip
    sequences = name in ("bst", "din", "sin")
    adapter = MovieLensAdapter(
        small_dir, DataConfig(source="files", num_neg_eval=30), max_history=10 if sequences else 0
    )
    schema, train, validation, _ = adapter.build()
    torch.manual_seed(0)
    task = CTRTask(create_model(name, schema, config), config, train, validation)
    state = fit(task, config.training, device=CPU)
    losses = [record["loss"] for record in state.history]
    assert losses[-1] < 0.98 * losses[0]
    assert all(np.isfinite(record["ndcg@10"]) for record in state.history)


USER_SIDES = {
    "users and items": ("user", "tags"),
    "in turns": ("user", "price"),
    "a user alone": ("user",),
    "the candidate with the users": ("user", "item", "tags"),
}


def grouped_rows(sizes, side="users and items", num_users=8, written_out=False, seed=0):
    """Candidates of a user a group; histories once a group, or one a user in the users' table."""
    rng = np.random.default_rng(seed)
    own = [field for field in BEHAVIOUR_SCHEMA.fields.values() if not field.is_behaviour]
    tables = [
        columns(schema_of(*(field for field in own if (field.name in USER_SIDES[side]) == of_users)), rows, seed + 1)
        for of_users, rows in ((True, num_users), (False, NUM_ITEMS))
    ]
    group_users = rng.integers(0, num_users, len(sizes))
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    rows = int(offsets[-1])
    past = Histories(rng.integers(1, 25, 60), *_spans(rng, len(sizes), 60), 6)
    if written_out:
        tables[0]["history"] = rng.integers(0, 25, (num_users, 6))
    return InteractionDataset(
        tuple(tables),
        np.repeat(group_users, sizes),
        rng.integers(0, NUM_ITEMS, rows),
        np.isin(np.arange(rows), offsets[:-1]).astype(np.float32),
        group_offsets=offsets,
        histories=None if written_out else {"history": past},
    )


def row_by_row(model, dataset, at_once=True):
    """The model's own forward pass in evaluation mode, each row with its history written out."""
    model.eval()
    size = len(dataset) if at_once else 1
    with torch.no_grad():
        logits = [model(dataset.batch(slice(row, row + size))[0]) for row in range(0, len(dataset), size)]
    return torch.cat(logits).squeeze(1).numpy()


def assert_same_scores(model, dataset, at_once=True):
    got, wanted = score_rows(model, dataset), row_by_row(model, dataset, at_once)
    assert got.shape == (len(dataset),)
    assert wanted.std() > 0.05
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5 * max(1.0, abs(wanted).max()))


SIZES = {
    "ragged": [1, 7, 1, 40, 3, 5, 2, 12],
    "one row a group": [1] * 40,
    "equal": [13] * 5,
    "one group": [50],
    "a large one last": [2, 5, 60],
}


class TestGroupedScoring:
    @pytest.mark.parametrize("kind", SEQUENCE_OPTIONS)
    def test_is_row_by_row(self, kind):
        assert_same_scores(sequence_model_of(kind), grouped_rows(SIZES["ragged"]), at_once=False)

    @kinds
    @pytest.mark.parametrize("sizes", SIZES)
    @pytest.mark.parametrize("smallest", [1, 64])
    @pytest.mark.parametrize("rows", [1, 16, 64])
    def test_is_row_by_row_in_parts_of_any_size(self, kind, sizes, rows, smallest, monkeypatch):
        monkeypatch.setattr(scoring, "SCORING_ROWS", rows)
        monkeypatch.setattr(scoring, "SMALL_GROUP", smallest)
        assert_same_scores(sequence_model_of(kind), grouped_rows(SIZES[sizes]))

    @kinds
    @pytest.mark.parametrize("side", USER_SIDES)
    def test_wherever_the_fields_stand(self, kind, side):
        assert_same_scores(sequence_model_of(kind), grouped_rows(SIZES["ragged"], side))

    @pytest.mark.parametrize("kind", ["din normalize=false recency=false", "sin gate attends"])
    def test_few_rows_for_many_users_and_items(self, kind):
        """Which are then not embedded beforehand."""
        assert_same_scores(sequence_model_of(kind), grouped_rows([3, 5, 1]))

    @pytest.mark.parametrize("kind", MODEL_OPTIONS)
    def test_models_without_behaviour_ignore_the_histories(self, kind):
        model = randomise(model_of(kind, schema=BEHAVIOUR_SCHEMA))
        assert_same_scores(model, grouped_rows(SIZES["ragged"]))

    @one_of_each
    @pytest.mark.parametrize("rows", [16, 4096])
    def test_histories_may_stand_in_the_users_table(self, kind, rows, monkeypatch):
        """One a user, as another column of the user's."""
        monkeypatch.setattr(scoring, "SCORING_ROWS", rows)
        assert_same_scores(sequence_model_of(kind), grouped_rows(SIZES["ragged"], written_out=True))

    @kinds
    def test_likes_with_their_negatives_are_scored_too(self, kind):
        """Training rows have no groups."""
        assert_same_scores(sequence_model_of(kind), training_rows())

    @kinds
    def test_rows_without_tables_are_scored_too(self, kind):
        assert_same_scores(sequence_model_of(kind), clicks(BEHAVIOUR_SCHEMA, 50))

    @kinds
    def test_rows_that_have_a_history_each_are_scored_too(self, kind):
        grouped = grouped_rows([1] * 40)
        grouped.group_offsets = None
        assert_same_scores(sequence_model_of(kind), grouped)

    @kinds
    def test_the_mode_the_statistics_and_the_weights_are_left_as_they_were(self, kind):
        model = sequence_model_of(kind).train()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        one = score_rows(model, grouped_rows(SIZES["ragged"]))
        assert all(part.training for part in model.modules())
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
        np.testing.assert_array_equal(one, score_rows(model, grouped_rows(SIZES["ragged"])))
        model(training_rows().batch(slice(0, 8))[0]).sum().backward()  # nothing has become part of inference mode

    def test_weights_that_changed_between_two_calls_change_the_scores(self):
        model, dataset = sequence_model_of("sin gate attends"), grouped_rows(SIZES["ragged"])
        for part in ("embedding.tables.4.weight", "behaviours.history.match.weight", "fusion.gate.bias"):
            before = score_rows(model, dataset)
            with torch.no_grad():
                model.state_dict()[part][1:] += 0.7
            assert abs(score_rows(model, dataset) - before).max() > 1e-4, part
            assert_same_scores(model, dataset)

    def test_a_formula_of_ones_own_is_what_is_scored(self):
        class Shifted(SIN):
            def forward(self, batch):
                return super().forward(batch) + 100

        torch.manual_seed(0)
        model = Shifted(BEHAVIOUR_SCHEMA, config_of(*SEQUENCE_SMALL))
        assert score_rows(model, grouped_rows(SIZES["ragged"])).min() > 50

    @one_of_each
    def test_a_history_is_embedded_once_a_group(self, kind, monkeypatch):
        from deepfm.models.layers import FeatureEmbedding

        seen, embed = [], FeatureEmbedding.embed_histories
        monkeypatch.setattr(
            FeatureEmbedding,
            "embed_histories",
            lambda self, batch: seen.append(len(batch["history"])) or embed(self, batch),
        )
        score_rows(sequence_model_of(kind), grouped_rows([40] * 7))
        assert sum(seen) == 7

    @pytest.mark.parametrize("kind", [kind for kind in SEQUENCE_OPTIONS if kind.startswith("din")])
    @pytest.mark.parametrize("written_out", [False, True])
    def test_din_weighs_each_pair_of_items_once_where_there_are_few(self, kind, written_out, monkeypatch):
        tables, make = [], ActivationUnit.table
        monkeypatch.setattr(ActivationUnit, "table", lambda *args: tables.append(make(*args)) or tables[-1])
        model = sequence_model_of(kind)
        assert_same_scores(model, grouped_rows(SIZES["ragged"], written_out=written_out))
        assert not tables
        many = grouped_rows([40] * 12, written_out=written_out)
        assert_same_scores(model, many)
        assert [table.shape for table in tables] == ([] if written_out else [(25, NUM_ITEMS)])
        monkeypatch.setattr(scoring, "PAIR_TABLE", 25 * NUM_ITEMS - 1)
        assert_same_scores(model, many)
        assert len(tables) == (0 if written_out else 1)

    def test_din_forms_its_pairs_anew_for_changed_weights(self):
        model, dataset = sequence_model_of("din normalize=false recency=false"), grouped_rows([40] * 12)
        for part in ("embedding.tables.4.weight", "attention.history.unit.hidden.0.weight"):
            before = score_rows(model, dataset)
            with torch.no_grad():
                model.state_dict()[part][1:] += 0.7
            assert abs(score_rows(model, dataset) - before).max() > 1e-4, part
            assert_same_scores(model, dataset)

    @pytest.mark.parametrize(
        ("smallest", "ends"), [(64, [10, 20, 30, 40, 44]), (1, [8, 12, 22, 32, 42, 44])], ids=["by count", "by group"]
    )
    def test_progress_ends_with_all_rows(self, smallest, ends, monkeypatch):
        monkeypatch.setattr(scoring, "SCORING_ROWS", 10)
        monkeypatch.setattr(scoring, "SMALL_GROUP", smallest)
        seen = []
        score_rows(
            sequence_model_of("sin gate attends"), grouped_rows([4, 4, 4, 30, 2]), lambda *args: seen.append(args)
        )
        assert seen == [(end, 44) for end in ends]

    @one_of_each
    def test_short_lists_beside_a_long_one_are_not_filled_up_without_bound(self, kind, monkeypatch):
        """40 users with one candidate and one with 24: a forward pass of 64 rows must not become one of 984."""
        monkeypatch.setattr(scoring, "SCORING_ROWS", 64)
        model, rows = sequence_model_of(kind), []
        last = model.fused_output if isinstance(model, SIN) else model.dnn_output
        last.register_forward_hook(lambda *args: rows.append(len(args[2])))
        score_rows(model, grouped_rows([1] * 40 + [24]))
        assert max(rows) <= 2 * 64

    @pytest.mark.parametrize("sizes", SIZES)
    def test_a_watched_gate_counts_each_row_once(self, sizes):
        """What fills up a short list is no row."""
        model, dataset = sequence_model_of("sin gate attends").eval(), grouped_rows(SIZES[sizes])
        with monitored(model) as monitors:
            score_rows(model, dataset)
        gates = []
        handle = model.fusion.values.register_forward_hook(lambda *args: gates.append(args[2]))
        row_by_row(model, dataset)
        handle.remove()
        got = monitors["gate"].to_dict()
        assert got["rows"] == len(dataset)
        assert got["mean"] == pytest.approx(torch.cat(gates).mean().item(), abs=1e-5)

    def test_metrics_are_those_of_the_groups(self):
        dataset = grouped_rows([20] * 6)  # of different items, as equal ones would be ties
        dataset.items = torch.cat([torch.randperm(NUM_ITEMS - 1)[:20] + 1 for _ in range(6)])
        evaluation = evaluate_scores(score_rows(sequence_model_of("sin gate attends"), dataset), dataset, (10,))
        scores = row_by_row(sequence_model_of("sin gate attends"), dataset).reshape(6, 20)
        ranks = 1 + (scores[:, 1:] > scores[:, :1]).sum(axis=1)
        assert evaluation.ranks.tolist() == ranks.tolist()
        assert evaluation.metrics["hr@10"] == pytest.approx((ranks <= 10).mean())


@pytest.mark.parametrize("name", ["bst", "din", "sin"])
def test_small_movielens_scores_row_by_row(small_dir, name):
    adapter = MovieLensAdapter(small_dir, DataConfig(source="files", num_neg_eval=20), max_history=10)
    schema, _, validation, test = adapter.build()
    torch.manual_seed(0)
    config = load_config(None, ["dnn.hidden_units=[8]", "cin.layer_sizes=[4]"])
    model = randomise(create_model(name, schema, config), 0.1)
    for part in (validation, test):
        features, _ = part.batch(slice(None))
        assert features[HISTORY].shape == (len(part), 10)
        with torch.no_grad():
            wanted = model.eval()(features).squeeze(1).numpy()
        np.testing.assert_allclose(score_rows(model, part), wanted, rtol=1e-5, atol=1e-5)


def test_a_tabular_data_set_without_groups_keeps_rows_as_units():
    task = ClickTask(sequence_model_of("sin gate attends"), clicks(BEHAVIOUR_SCHEMA, 130))
    assert isinstance(task.train_ds, TabularDataset)
    assert task.block_rows == 1
    assert sorted(len(labels) for _, labels in task.batches(1)) == [2, 64, 64]


def test_batch_normalisation_sees_two_rows_in_every_batch_of_blocks():
    data = training_rows(likes=9, num_negatives=1)
    task = ClickTask(sequence_model_of("sin gate attends", "training.batch_size=2"), data)
    assert any(isinstance(part, nn.BatchNorm1d) for part in task.model.modules())
    for batch in task.batches(1):
        assert task.loss(batch)[0].isfinite()
