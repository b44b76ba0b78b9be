"""Stacks of networks: they train as their members would alone."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from deepfm.model_selection.zoo.networks import (
    Network,
    SmallConvolution,
    build_network,
    initialise,
    multiply_adds,
)
from deepfm.model_selection.zoo.settings import ARCHITECTURES
from deepfm.model_selection.zoo.training import Lessons, Recipe, stack, stack_accuracy, train_one_by_one, train_stack

MEMBERS, ROWS, BATCH = 3, 40, 16
CLASSES = torch.tensor([4, 2, 3])


def lessons(steps=50):
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(MEMBERS * ROWS, 8, 8, generator=generator)
    labels = torch.cat([torch.randint(int(count), (ROWS,), generator=generator) for count in CLASSES])
    batches = torch.randint(ROWS, (steps, MEMBERS, BATCH), generator=generator)
    return Lessons(images, labels, batches + ROWS * torch.arange(MEMBERS)[:, None], CLASSES)


def start(architecture):
    return stack(
        [build_network(architecture, 4, torch.Generator().manual_seed(i)).state_dict() for i in range(MEMBERS)]
    )


def largest_difference(one, other):
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_stack_trains_as_its_members_do_one_by_one(architecture):
    network, recipe = build_network(architecture, 4), Recipe(steps=50, lr=5e-3, weight_decay=1e-2, body_lr=0.5)
    stacked = train_stack(network, start(architecture), lessons(), recipe)
    alone = train_one_by_one(network, start(architecture), lessons(), recipe)
    assert largest_difference(start(architecture), stacked) > 1e-2  # it did train
    assert largest_difference(stacked, alone) < 1e-4


def test_one_members_rows_do_not_reach_the_others():
    network, recipe = build_network("mlp64x1", 4), Recipe(20, 1e-2, 0.0)
    usual = lessons(20)
    other_images = usual.images.clone()
    other_images[:ROWS] = 1 - other_images[:ROWS]
    other = Lessons(other_images, usual.labels, usual.batches, CLASSES)
    one, two = (train_stack(network, start("mlp64x1"), each, recipe) for each in (usual, other))
    assert not torch.equal(one["body.1.weight"][0], two["body.1.weight"][0])
    for name in one:
        assert torch.equal(one[name][1:], two[name][1:])


def test_a_body_without_a_rate_stays_as_it_was():
    begun = start("cnn12x2")
    trained = train_stack(build_network("cnn12x2", 4), begun, lessons(5), Recipe(5, 1e-2, 0.1, body_lr=0.0))
    assert torch.equal(trained["body.0.weight"], begun["body.0.weight"])
    assert not torch.equal(trained["head.weight"], begun["head.weight"])


def test_training_learns_and_closed_classes_are_never_chosen():
    images = torch.rand(60, 8, 8, generator=torch.Generator().manual_seed(2))
    labels = (images.mean((1, 2)) > images.mean()).long()
    classes = torch.tensor([2, 2, 2])
    everything = Lessons(images, labels, torch.arange(60).expand(1, MEMBERS, 60), classes)
    network = build_network("mlp48x2", 4)
    begun = start("mlp48x2")
    begun["head.bias"] = begun["head.bias"] + torch.tensor([0.0, 0.0, 50.0, 50.0])
    trained = train_stack(network, begun, everything, Recipe(60, 1e-2, 0.0))
    assert (stack_accuracy(network, trained, images, labels, classes) > 0.9).all()
    assert (stack_accuracy(network, trained, images, labels, torch.tensor([4, 4, 4])) == 0).all()


def test_accuracy_by_hand():
    network = build_network("mlp64x1", 2)
    zero = {name: torch.zeros_like(weight) for name, weight in network.state_dict().items()}
    says = [dict(zero) | {"head.bias": torch.tensor(bias)} for bias in ([1.0, 0.0], [0.0, 1.0])]
    labels = torch.tensor([0, 0, 1, 0])
    accuracy = stack_accuracy(network, stack(says), torch.zeros(4, 8, 8), labels, torch.tensor([2, 2]))
    assert accuracy.tolist() == [0.75, 0.25]


@pytest.mark.parametrize(("side", "stride"), [(8, 2), (4, 1), (4, 2)])
def test_a_small_convolution_is_torchs(side, stride):
    layer = SmallConvolution(3, 5, side, stride)
    initialise(layer, torch.Generator().manual_seed(0))
    maps = torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(1))
    theirs = F.conv2d(maps, layer.weight, layer.bias, stride=stride, padding=1)
    ours = layer(maps)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    (want,) = torch.autograd.grad(theirs.square().sum(), layer.weight)
    (have,) = torch.autograd.grad(ours.square().sum(), layer.weight)
    torch.testing.assert_close(have, want, atol=1e-3, rtol=1e-4)


def test_sizes_by_hand():
    def of(architecture):
        network = build_network(architecture, 10)
        return network.width, sum(p.numel() for p in network.body.parameters()), multiply_adds(network)

    assert of("mlp64x1") == (64, 64 * 64 + 64, 64 * 64)
    assert of("mlp48x2") == (48, 64 * 48 + 48 + 48 * 48 + 48, 64 * 48 + 48 * 48)
    assert of("cnn12x2") == (48, 9 * 12 + 12 + 9 * 144 + 12, 9 * 12 * 16 + 9 * 144 * 4)
    assert of("cnn16x2n") == (64, 9 * 16 + 16 + 9 * 256 + 16 + 4 * 16, 9 * 16 * 16 + 9 * 256 * 4)
    assert of("cnn12x3n") == (48, 9 * 12 + 12 + 2 * (9 * 144 + 12) + 6 * 12, 9 * 12 * 16 + 9 * 144 * (16 + 4))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_initial_weights_are_within_the_fan_in_and_come_from_the_generator_alone(architecture):
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    network = build_network(architecture, 3, torch.Generator().manual_seed(5))
    assert torch.equal(torch.random.get_rng_state(), before)
    again = build_network(architecture, 3, torch.Generator().manual_seed(5)).state_dict()
    assert isinstance(network, Network)
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, again[name])
    for layer in network.modules():
        if isinstance(layer, nn.Linear | SmallConvolution):
            bound = layer.weight[0].numel() ** -0.5
            assert bound * 0.8 < float(layer.weight.detach().abs().max()) <= bound
