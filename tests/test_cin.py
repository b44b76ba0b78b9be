"""The compressed interaction network against its published form (Lian et al., 2018, equations 6 to 8)."""

import pytest
import torch
import torch.nn.functional as F

from deepfm.models.layers import CIN, kernels
from deepfm.models.layers import cin as cin_module
from deepfm.models.layers.kernels import plain_kernels

FORMS = [("relu", True), ("linear", False), ("relu", False), ("linear", True)]  # the first two are published
SIZES = [(5,), (6, 4), (8, 6, 3)]
forms = pytest.mark.parametrize(("activation", "split_half"), FORMS)


def reference(compressions, x, activation, split_half):
    """The outer product of maps and fields as an image with H·F channels, and a convolution over its D pixels."""
    maps, outputs = x, []
    for depth, compress in enumerate(compressions):
        image = torch.einsum("bhd,bfd->bhfd", maps, x).flatten(1, 2)  # (B, H·F, D), equation 6's outer products
        new = F.conv1d(image, compress.weight.unsqueeze(2), compress.bias)  # (B, H', D), equation 6's sums
        new = new.relu() if activation == "relu" else new
        last = depth == len(compressions) - 1
        maps, leaving = new.tensor_split(2, dim=1) if split_half and not last else (new, new)
        outputs.append(leaving.sum(dim=2))  # equation 7: sum pooling
    return torch.cat(outputs, dim=1)  # equation 8


def make(sizes, activation, split_half, fields=5, dim=4):
    torch.manual_seed(0)
    module = CIN(fields, dim, sizes, split_half, activation)
    with torch.no_grad():
        for weight in module.parameters():
            weight.uniform_(-0.4, 0.4)
    return module


def outcome(function, module, x):
    """Outputs and all gradients of a weighted sum of them, in the precision of x."""
    x = x.clone().requires_grad_()
    out = function(x)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype)
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), [x, *module.parameters()])]


def assert_close(got, wanted, tolerance=1e-5):
    """Relative to a tensor's largest number, as its sums round."""
    for one, other in zip(got, wanted, strict=True):
        size = max(1.0, other.abs().max().item())
        torch.testing.assert_close(one.to(other.dtype), other, rtol=0, atol=tolerance * size)


@forms
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("rows", [1, 7])
def test_outputs_and_gradients_are_the_references(rows, sizes, activation, split_half):
    module, x = make(sizes, activation, split_half), torch.randn(rows, 5, 4)
    wanted = outcome(lambda x: reference(module.compressions, x, activation, split_half), module, x)
    assert wanted[0].abs().max() > 0.1
    assert_close(outcome(module, module, x), wanted)
    with plain_kernels():
        assert_close(outcome(module, module, x), wanted)


@forms
@pytest.mark.parametrize(("chunk_rows", "chunk_values"), [(16, 1 << 17), (1 << 12, 1), (300, 1)])
def test_across_the_borders_of_chunks_too(activation, split_half, chunk_rows, chunk_values, monkeypatch):
    """150 examples of width 4 are 600 rows: chunks of 4 or 75 examples, or of 64 rows within one chunk."""
    monkeypatch.setattr(kernels, "CHUNK_ROWS", chunk_rows)
    monkeypatch.setattr(kernels, "CHUNK_VALUES", chunk_values)
    module, x = make((6, 4), activation, split_half), torch.randn(150, 5, 4)
    found = outcome(module, module, x)
    module, x = module.double(), x.double()
    assert_close(found, outcome(lambda x: reference(module.compressions, x, activation, split_half), module, x))


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(("fields", "dim"), [(1, 4), (2, 1), (9, 16)])
@forms
def test_any_number_of_fields_and_any_width(sizes, fields, dim, activation, split_half):
    module, x = make(sizes, activation, split_half, fields, dim), torch.randn(3, fields, dim) * 0.5
    wanted = outcome(lambda x: reference(module.compressions, x, activation, split_half), module, x)
    assert_close(outcome(module, module, x), wanted)


@pytest.mark.parametrize("sizes", SIZES)
@forms
def test_maps_that_only_leave_a_linear_network_are_never_formed(sizes, activation, split_half, monkeypatch):
    formed = []

    def counted(maps, fields, weight, bias):
        formed.append(len(weight))
        return kernels.interact(maps, fields, weight, bias)

    monkeypatch.setattr(cin_module, "interact", counted)
    make(sizes, activation, split_half)(torch.randn(3, 5, 4))
    if activation == "relu":
        assert formed == list(sizes)
    else:
        assert formed == [size // 2 if split_half else size for size in sizes[:-1]]


def test_the_linear_layer_is_not_formed_in_the_backward_pass_either():
    """No tensor of the graph is as large as the last layer's maps `(B·D, H')` are."""
    module, x = make((4, 64), "linear", False, dim=16), torch.randn(32, 5, 16)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda t: t):
        module(x)
    assert kept
    assert max(kept) < 32 * 16 * 64
    formed = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: formed.append(tensor.numel()) or tensor, lambda t: t):
        reference(module.compressions, x, "linear", False)
    assert max(formed) >= 32 * 16 * 20, "the reference keeps outer products: this count sees them"
