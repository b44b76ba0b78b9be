"""The fast path of training against the plain one: same losses at each of 50 steps, same weights after them.

Fast are the hand-written operations, the fused optimizer with the tables' L2 as its weight decay, sparse gradients, and
the engine's own clipping; plain are ordinary torch operations, `torch.optim.Adam` with neither `fused` nor `foreach`,
the penalty written into the loss, dense gradients and `torch.nn.utils.clip_grad_norm_`.
"""

import copy
from functools import cache

import pytest
import torch
import torch.nn.functional as F

import deepfm.training.task as task_module
from deepfm.engine.loop import fit
from deepfm.models.layers import DNN, FeatureEmbedding
from deepfm.models.layers.kernels import plain_kernels
from tests.clicks import CPU, INTERACTION_OPTIONS, MODEL_OPTIONS, ClickTask, clicks, model_of

STEPS, EPOCHS = 50, 5
VARIANTS = {
    "with L2": ("training.gradient_clip_norm=null", "feature.embedding_l2_reg=0.001"),
    "with clipping": ("training.gradient_clip_norm=0.2", "feature.embedding_l2_reg=0"),
}
# One form of each: fifty steps of small serial blocks under LayerNorm make 1e-7 in the weights 1e-2 in the loss.
INTERACTIONS = [kind for kind, (name, options) in INTERACTION_OPTIONS.items() if not options]


def start(kind, variant):
    """Dropout, batch normalisation, and fields of every kind; 640 rows in batches of 64."""
    model = model_of(kind, f"training.num_epochs={EPOCHS}", *VARIANTS[variant])
    # A constant before batch normalisation has no gradient but rounding, which Adam makes as large as any other.
    towers = [part for part in model.modules() if isinstance(part, DNN)]
    constants = [layer.linear.bias for tower in towers for layer in tower.layers if layer.norm is not None]
    if kind == "attention_deepfm":
        constants.append(model.attention.layers[-1].norm.bias)
    for constant in constants:
        constant.requires_grad_(False)
    return model


@cache
def plainly_trained(kind, variant):
    """Losses `(50,)` and weights of a loop with nothing of the engine in it."""
    model = start(kind, variant)
    task = ClickTask(model, clicks())
    model.embedding.sparse_gradients = False
    training = model.config.training
    optimizer = torch.optim.Adam(model.parameters(), lr=training.lr, foreach=False, fused=False)
    losses, clipped = [], 0
    torch.manual_seed(1)
    model.train()
    with plain_kernels():
        for epoch in range(1, EPOCHS + 1):
            for features, labels in task.batches(epoch):
                loss = F.binary_cross_entropy_with_logits(model(features).squeeze(1), labels)
                optimizer.zero_grad()
                (loss + model.get_l2_reg_loss()).backward()
                if training.gradient_clip_norm is not None:
                    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), training.gradient_clip_norm)
                    clipped += bool(norm > training.gradient_clip_norm)
                optimizer.step()
                losses.append(loss.detach())
    if training.gradient_clip_norm is not None:
        assert clipped > STEPS / 2, "this variant needs gradients that are clipped"
    return torch.stack(losses), copy.deepcopy(model.state_dict())


def quickly_trained(kind, variant, sparse_gradients, monkeypatch):
    monkeypatch.setattr(task_module, "SPARSE_ROWS", 1 if sparse_gradients else 10**9)
    model = start(kind, variant)
    task, kinds = ClickTask(model, clicks()), set()
    for weight in model.embedding.table_parameters():
        weight.register_post_accumulate_grad_hook(
            lambda weight: kinds.add((weight.shape[0] > 4, weight.grad.is_sparse))
        )
    torch.manual_seed(1)
    fit(task, model.config.training, device=CPU)
    assert kinds == {(True, sparse_gradients), (False, False)}, "tables of numbers are small and stay dense"
    return torch.stack(task.losses), model.state_dict()


@pytest.mark.parametrize(
    ("kind", "variant", "sparse_gradients"),
    [
        *((kind, variant, sparse) for kind in MODEL_OPTIONS for variant in VARIANTS for sparse in (False, True)),
        *((kind, "with L2", True) for kind in INTERACTIONS),
    ],
)
def test_fifty_fast_steps_are_fifty_plain_ones(kind, variant, sparse_gradients, monkeypatch):
    losses, weights = quickly_trained(kind, variant, sparse_gradients, monkeypatch)
    wanted_losses, wanted = plainly_trained(kind, variant)
    assert len(losses) == len(wanted_losses) == STEPS
    torch.testing.assert_close(losses, wanted_losses, rtol=1e-6, atol=1e-6)
    assert weights.keys() == wanted.keys()
    for name, weight in wanted.items():
        torch.testing.assert_close(weights[name], weight, rtol=1e-5, atol=3e-6, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("kind", [*MODEL_OPTIONS, *INTERACTIONS])
def test_these_fifty_steps_learn_and_move_every_weight(kind):
    """Two paths that both stand still would be equal as well."""
    losses, weights = plainly_trained(kind, "with L2")
    assert losses[-10:].mean() < 0.95 * losses[:10].mean()
    model = start(kind, "with L2")
    still = [name for name, weight in model.state_dict().items() if torch.equal(weight, weights[name])]
    assert still == [name for name, weight in model.named_parameters() if not weight.requires_grad]


def test_plain_and_fast_differ_in_their_kernels():
    """The comparison above is none where both sides run the same operations."""
    embedding = FeatureEmbedding(clicks_schema := model_of().schema, 4)
    batch, _ = clicks(clicks_schema, 8).batch(slice(0, 8))
    names = []
    for plain in (False, True):
        if plain:
            with plain_kernels():
                graph = embedding(batch)[2].grad_fn
        else:
            graph = embedding(batch)[2].grad_fn
        seen, queue = set(), [graph]
        while queue:
            node = queue.pop()
            seen.add(node.name())
            queue += [parent for parent, _ in node.next_functions if parent is not None]
        names.append(seen)
    assert "_LookupBackward" in names[0]
    assert "_LookupBackward" not in names[1]
