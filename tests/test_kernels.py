"""The hand-written operations against their plain forms, and where each is used."""

import contextlib
import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deepfm.models.layers import kernels
from deepfm.models.layers.kernels import dropout, interact, lookup, pair_products, plain_kernels

HAND_WRITTEN = {"_LookupBackward", "_DropoutBackward", "_PairwiseBackward", "_InteractBackward"}


@pytest.fixture(autouse=True)
def _own_random_state():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def close(got, wanted, rtol=1e-5, atol=1e-6):
    torch.testing.assert_close(got, wanted, rtol=rtol, atol=atol)


def close_for_their_size(got, wanted, tolerance=2e-6):
    """For sums over many rows: the error is held to the largest number of a tensor."""
    got = got.to(wanted.dtype)
    torch.testing.assert_close(got, wanted, rtol=0, atol=tolerance * max([1.0, *wanted.abs().flatten().tolist()]))


def outcome(function, tensors, dtype=torch.float32):
    """A function's outputs, and the gradients of a weighted sum of them."""
    leaves = [tensor.detach().to(dtype).requires_grad_() for tensor in tensors]
    found = function(*leaves)
    found = found if isinstance(found, list) else [found]
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(out.shape, generator=generator).to(dtype) for out in found]
    total = sum((out * weight).sum() for out, weight in zip(found, weights, strict=True))
    return [out.detach() for out in found], torch.autograd.grad(total, leaves)


def assert_as_plain(function, tensors, wanted_dtype=torch.float32):
    """Outputs and gradients of the fast form are those of the plain one."""
    probe = function(*[tensor.detach().requires_grad_() for tensor in tensors])
    probe = probe[0] if isinstance(probe, list) else probe
    assert type(probe.grad_fn).__name__ in HAND_WRITTEN, "this compares the plain form with itself"
    outputs, gradients = outcome(function, tensors)
    with plain_kernels():
        plain_outputs, plain_gradients = outcome(function, tensors, wanted_dtype)
    for got, wanted in zip((*outputs, *gradients), (*plain_outputs, *plain_gradients), strict=True):
        assert got.shape == wanted.shape
        (close if wanted_dtype is torch.float32 else close_for_their_size)(got, wanted)


ROWS = 12
PADDING = (0, 7)  # where two fields begin


def ids(*shape):
    return torch.randint(0, ROWS, shape, generator=torch.Generator().manual_seed(3))


BLOCKS = {
    "one row of one field": [torch.tensor([[5]])],
    "one padding": [torch.tensor([[0]])],
    "one field": [ids(9, 1)],
    "a vector": [ids(9)],
    "all ids equal": [torch.full((6, 4), 3)],
    "all padding": [torch.full((6, 4), 7)],
    "each row once": [torch.arange(ROWS).flip(0)],
    "each row many times": [torch.arange(60).reshape(15, 4) % ROWS],
    "fields and a sequence": [ids(8, 3), ids(8, 5)],
    "several blocks of several shapes": [ids(5, 2), ids(5), ids(5, 7), torch.tensor([[0], [7], [7], [1], [1]])],
    "three axes": [ids(3, 2, 4)],
    "no rows": [ids(0, 3)],
    "no rows beside some": [ids(0, 3), ids(4, 2)],
    "not contiguous": [ids(6, 5).t()],
}
INTEGERS = {"int32": [torch.int32], "int64": [torch.int64], "both": [torch.int32, torch.int64]}


def tables(width=3):
    table, linear, keep = torch.randn(ROWS, width), torch.randn(ROWS, 1), torch.ones(ROWS, 1)
    for tensor in (table, linear, keep):
        tensor[list(PADDING)] = 0.0
    return table, linear, keep


def typed(blocks, integers):
    kinds = INTEGERS[integers]
    return [block.to(kinds[number % len(kinds)]) for number, block in enumerate(blocks)]


def flattened(pairs):
    return [view for pair in pairs for view in pair]


class TestLookup:
    @pytest.mark.parametrize("integers", INTEGERS)
    @pytest.mark.parametrize("case", BLOCKS)
    def test_rows_and_gradients_are_those_of_the_plain_form(self, case, integers):
        table, linear, keep = tables()
        blocks = typed(BLOCKS[case], integers)
        assert_as_plain(lambda *weights: flattened(lookup(*weights, blocks, keep)), [table, linear])

    @pytest.mark.parametrize("width", [1, 2, 16, 17])
    def test_any_width(self, width):
        table, linear, keep = tables(width)
        assert_as_plain(lambda *weights: flattened(lookup(*weights, [ids(8, 3)], keep)), [table, linear])

    def test_shapes_are_those_of_the_ids(self):
        table, linear, keep = tables()
        found = lookup(table, linear, [ids(5, 2), ids(5)], keep)
        assert [(rows.shape, terms.shape) for rows, terms in found] == [((5, 2, 3), (5, 2)), ((5, 3), (5,))]

    @pytest.mark.parametrize("sparse", [False, True])
    def test_a_gradient_is_the_sum_over_the_places_of_a_row(self, sparse):
        """By hand, so that fast and plain are not wrong alike."""
        table, linear, keep = tables()
        block = torch.tensor([[1, 0, 2], [1, 7, 1]])
        table, linear = table.requires_grad_(), linear.requires_grad_()
        ((rows, terms),) = lookup(table, linear, [block], keep, sparse)
        assert torch.equal(rows, table[block])
        assert torch.equal(terms, linear[block, 0])
        weights = torch.randn(2, 3, 3), torch.randn(2, 3)
        ((rows * weights[0]).sum() + (terms * weights[1]).sum()).backward()
        for weight, factor in ((table, weights[0]), (linear, weights[1].unsqueeze(2))):
            wanted = torch.zeros_like(weight)
            for place, row in enumerate(block.flatten().tolist()):
                if row not in PADDING:
                    wanted[row] += factor.flatten(0, 1)[place]
            close(weight.grad.to_dense() if sparse else weight.grad, wanted)

    @pytest.mark.parametrize("sparse", [False, True])
    @pytest.mark.parametrize("plain", [False, True])
    @pytest.mark.parametrize("case", BLOCKS)
    def test_padding_rows_get_exactly_no_gradient(self, case, plain, sparse):
        table, linear, keep = tables()
        with plain_kernels() if plain else contextlib.nullcontext():
            _, gradients = outcome(
                lambda *weights: flattened(lookup(*weights, BLOCKS[case], keep, sparse)), [table, linear]
            )
        for gradient in gradients:
            gradient = gradient.to_dense() if sparse else gradient
            assert torch.equal(gradient[list(PADDING)], torch.zeros(2, gradient.shape[1]))

    @pytest.mark.parametrize("integers", INTEGERS)
    @pytest.mark.parametrize("case", BLOCKS)
    def test_sparse_gradients_hold_each_row_once_and_equal_the_dense_ones(self, case, integers):
        table, linear, keep = tables()
        blocks = typed(BLOCKS[case], integers)
        (outputs, dense), (same, sparse) = (
            outcome(lambda *weights, kind=kind: flattened(lookup(*weights, blocks, keep, kind)), [table, linear])
            for kind in (False, True)
        )
        distinct = torch.cat([block.flatten() for block in blocks]).unique()
        for one, other in zip(outputs, same, strict=True):
            assert torch.equal(one, other)
        for one, other in zip(dense, sparse, strict=True):
            assert other.is_sparse
            assert not one.is_sparse
            assert torch.equal(other._indices()[0], distinct), "sorted, and each row once: coalesced"
            assert torch.equal(other.to_dense(), one)

    def test_the_plain_forms_sparse_gradient_is_sparse_as_well(self):
        table, linear, keep = tables()
        gradients = []
        for plain in (False, True):
            with plain_kernels() if plain else contextlib.nullcontext():
                _, found = outcome(
                    lambda *weights: flattened(lookup(*weights, BLOCKS["fields and a sequence"], keep, True)),
                    [table, linear],
                )
            assert all(gradient.is_sparse for gradient in found)
            gradients.append([gradient.to_dense() for gradient in found])
        for one, other in zip(*gradients, strict=True):
            close(one, other)

    def test_padding_rows_that_somebody_overwrote_read_alike(self):
        table, linear, keep = tables()
        table[0], linear[0] = 1.0, 1.0
        fast = lookup(table, linear, [torch.tensor([0, 1])], keep)
        with plain_kernels():
            plain = lookup(table, linear, [torch.tensor([0, 1])], keep)
        for one, other in zip(flattened(fast), flattened(plain), strict=True):
            close(one, other)

    @pytest.mark.parametrize("frozen", [0, 1])
    def test_a_frozen_table_gets_no_gradient_and_the_other_its_own(self, frozen):
        *weights, keep = tables()
        for number, weight in enumerate(weights):
            weight.requires_grad_(number != frozen)
        ((rows, terms),) = lookup(*weights, [ids(6, 2)], keep)
        (rows.sum() + terms.sum()).backward()
        assert weights[frozen].grad is None
        wanted = torch.zeros_like(weights[1 - frozen]).index_add_(
            0, ids(6, 2).flatten(), torch.ones(12, weights[1 - frozen].shape[1])
        )
        close(weights[1 - frozen].grad, wanted * keep)

    @pytest.mark.parametrize("used", [0, 1])
    def test_a_view_that_the_loss_leaves_out_adds_no_gradient(self, used):
        table, linear, keep = tables()
        weights = [table.requires_grad_(), linear.requires_grad_()]
        ((rows, terms),) = lookup(*weights, [ids(6, 2)], keep)
        (rows, terms)[used].sum().backward()
        assert weights[used].grad.any()
        assert weights[1 - used].grad is None  # so that no optimizer moves it


def double_loop(x):
    total = 0 * x.sum(dim=(1, 2)).unsqueeze(1)
    for i in range(x.shape[1]):
        for j in range(i + 1, x.shape[1]):
            total = total + (x[:, i] * x[:, j]).sum(dim=1, keepdim=True)
    return total


class TestPairwise:
    @pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 3), (7, 1, 4), (6, 4, 2), (33, 10, 8), (2, 3, 1), (0, 3, 2)])
    def test_is_the_double_loop_and_its_gradient(self, shape):
        x = torch.randn(shape)
        (got,), (gradient,) = outcome(pair_products, [x])
        (wanted,), (wanted_gradient,) = outcome(double_loop, [x], torch.float64)
        assert got.shape == (shape[0], 1)
        close(got.double(), wanted, atol=1e-5)
        close(gradient.double(), wanted_gradient)
        assert_as_plain(pair_products, [x], torch.float64)

    def test_one_field_has_no_pairs(self):
        close(pair_products(torch.randn(5, 1, 4)), torch.zeros(5, 1))

    def test_any_layout_in_memory(self):
        x = torch.randn(4, 6, 3).permute(1, 2, 0)
        assert not x.is_contiguous()
        assert_as_plain(pair_products, [x])
        expanded = torch.randn(5, 1, 4).expand(5, 3, 4)
        close(pair_products(expanded), double_loop(expanded))


def interaction(rows, maps, fields, out):
    """Maps, fields, weight and bias."""
    scale = (maps * fields) ** -0.5
    return [
        torch.randn(rows, maps),
        torch.randn(rows, fields),
        torch.randn(out, maps * fields) * scale,
        torch.randn(out),
    ]


class TestInteract:
    @pytest.mark.parametrize(
        "sizes", [(1, 1, 1, 1), (1, 3, 2, 4), (5, 1, 3, 2), (5, 3, 1, 2), (9, 4, 4, 1), (300, 6, 7, 5)]
    )
    def test_outputs_and_gradients_are_those_of_the_plain_form(self, sizes):
        assert_as_plain(interact, interaction(*sizes), torch.float64)

    @pytest.mark.parametrize("rows", [1, 63, 64, 65, 127, 128, 129, 200])
    def test_the_borders_of_chunks_change_nothing(self, rows, monkeypatch):
        monkeypatch.setattr(kernels, "CHUNK_VALUES", 64 * 3 * 5)
        tensors = interaction(rows, 3, 5, 4)
        chunks = list(kernels._chunks(*tensors[:2]))
        assert len(chunks) == math.ceil(rows / 64)
        assert torch.cat([torch.arange(rows)[part] for part in chunks]).tolist() == list(range(rows))
        assert_as_plain(interact, tensors, torch.float64)

    def test_is_the_outer_product_compressed(self):
        """By hand: weight `(O, H·F)` counts maps first."""
        maps, fields, weight, bias = interaction(2, 2, 3, 1)
        got = interact(maps, fields, weight, bias)
        for row in range(2):
            wanted = bias[0]
            for h in range(2):
                for f in range(3):
                    wanted = wanted + weight[0, h * 3 + f] * maps[row, h] * fields[row, f]
            close(got[row, 0], wanted)

    def test_the_outer_product_is_not_kept_for_the_backward_pass(self):
        tensors = [tensor.requires_grad_() for tensor in interaction(100, 6, 7, 5)]
        largest = {}
        for plain in (False, True):
            kept = []
            hooks = torch.autograd.graph.saved_tensors_hooks(
                lambda x, kept=kept: kept.append(x.numel()) or x, lambda x: x
            )
            with hooks, plain_kernels() if plain else contextlib.nullcontext():
                interact(*tensors)
            largest[plain] = max(kept)
        assert largest == {False: 100 * 7, True: 100 * 6 * 7}

    def test_maps_and_fields_may_be_one_tensor_and_weights_a_part(self):
        weight, bias = torch.randn(6, 16) * 0.2, torch.randn(6)
        assert_as_plain(lambda x, w, b: interact(x, x, w[:3], b[:3]), [torch.randn(70, 4), weight, bias])

    def test_any_layout_in_memory(self):
        maps, fields, weight, bias = interaction(70, 4, 3, 5)
        wide = torch.cat([maps, maps], dim=1)
        assert_as_plain(
            lambda m, f, w, b: interact(m[:, :4], f.t().contiguous().t(), w.t().contiguous().t(), b),
            [wide, fields, weight, bias],
            torch.float64,
        )


class TestDropout:
    SHARES = (0.1, 0.25, 0.5, 0.9, 1 / 1024)

    @pytest.mark.parametrize("plain", [False, True])
    @pytest.mark.parametrize("p", SHARES)
    def test_a_share_of_p_is_dropped(self, p, plain):
        size = 200_003
        with plain_kernels() if plain else contextlib.nullcontext():
            dropped = (dropout(torch.ones(size), p, True) == 0).sum().item()
        assert abs(dropped - size * p) < 4 * (size * p * (1 - p)) ** 0.5

    @pytest.mark.parametrize(
        ("p", "plain"),
        [
            *((p, plain) for p in (*SHARES, 1 / 65_536, 65_534 / 65_536, 1 / 3, 0.9999) for plain in (False, True)),
            (1e-9, False),
            (1e-9, True),
        ],
    )
    def test_of_all_65536_draws_as_many_drop_as_p_says_and_the_mean_stays(self, p, plain, monkeypatch):
        every = torch.arange(-32_768, 32_768, dtype=torch.int16).view(torch.int64)
        monkeypatch.setattr(torch.Tensor, "random_", lambda self, *_: self.copy_(every))
        with plain_kernels() if plain else contextlib.nullcontext():
            dropped = dropout(torch.ones(65_536), p, True)
        kept = 65_536 - round(p * 65_536)
        assert (dropped != 0).sum() == kept
        assert dropped.unique().tolist() == pytest.approx(([0.0] if kept < 65_536 else []) + [65_536 / kept], rel=1e-6)
        assert dropped.double().mean().item() == pytest.approx(1.0, rel=1e-6)

    def test_a_draw_covers_all_lanes_and_all_their_values(self):
        """One 64-bit draw serves four values; a draw of fewer bits would leave a lane's ends out."""
        lanes = torch.empty(100_000, dtype=torch.int64).random_(-(2**63), None).view(torch.int16).reshape(-1, 4)
        for low, high in zip(lanes.amin(dim=0).tolist(), lanes.amax(dim=0).tolist(), strict=True):
            assert low < -32_750
            assert high > 32_750
        for p in (0.001, 0.999):  # both ends, through the function itself, by lane
            dropped = (dropout(torch.ones(400_000), p, True) == 0).reshape(-1, 4).float().mean(dim=0)
            assert (dropped - p).abs().max() < 4.5 * (p * (1 - p) / 100_000) ** 0.5

    def test_lanes_and_neighbours_are_independent(self):
        rows = 50_000
        dropped = (dropout(torch.ones(rows, 8), 0.3, True) == 0).double()  # 8 columns: two draws a row
        assert (torch.corrcoef(dropped.t()) - torch.eye(8)).abs().max() < 4.5 / rows**0.5
        flat = dropped.flatten() - 0.3
        for lag in (1, 2, 3, 4, 5, 8, 16, 64, 4096):
            correlation = (flat[lag:] * flat[:-lag]).mean() / (0.3 * 0.7)
            assert abs(correlation) < 4.5 / (8 * rows) ** 0.5, lag

    @pytest.mark.parametrize("plain", [False, True])
    @pytest.mark.parametrize("shape", [(1,), (3,), (5, 7), (2, 3, 5), (64, 16), (0, 4)])
    def test_gradients_have_the_outputs_mask(self, shape, plain):
        x = (torch.rand(shape) + 0.5).requires_grad_()
        with plain_kernels() if plain else contextlib.nullcontext():
            dropped = dropout(x, 0.4, True)
        factor = torch.rand(shape) + 0.5
        (dropped * factor).sum().backward()
        scale = 65_536 / (65_536 - round(0.4 * 65_536))
        mask = (dropped != 0).float() * scale
        close(dropped, x * mask)
        close(x.grad, factor * mask)

    @pytest.mark.parametrize("shape", [(5, 7), (64, 16)])
    def test_the_plain_form_draws_the_same_mask(self, shape):
        def seeded(x):
            torch.manual_seed(5)
            return dropout(x, 0.4, True)

        assert_as_plain(seeded, [torch.randn(shape)])

    def test_any_layout_in_memory(self):
        x = torch.randn(6, 9).t()
        dropped = dropout(x, 0.4, True)
        kept = dropped != 0
        close(dropped[kept], x[kept] * 65_536 / (65_536 - round(0.4 * 65_536)))

    def test_the_seed_decides(self):
        masks = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            masks.append(dropout(torch.ones(1000), 0.5, True))
        assert torch.equal(masks[0], masks[1])
        assert not torch.equal(masks[0], masks[2])
        assert not torch.equal(masks[2], dropout(torch.ones(1000), 0.5, True)), "each call draws anew"

    @pytest.mark.parametrize(("p", "training"), [(0.0, True), (0.0, False), (0.5, False), (1.0, False)])
    def test_nothing_is_dropped_or_drawn_in_evaluation_or_at_zero(self, p, training):
        x, before = torch.randn(10), torch.get_rng_state()
        assert dropout(x, p, training) is x
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize("p", [0.999999, 1.0])
    def test_all_may_be_dropped(self, p):
        """`dnn.dropout` may be any number below 1."""
        x = torch.ones(100, requires_grad=True)
        dropped = dropout(x, p, True)
        dropped.sum().backward()
        assert not dropped.any()
        assert not x.grad.any()

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
    def test_other_numbers_are_dropped_by_torch(self, dtype):
        dropped = dropout(torch.ones(10_000, dtype=dtype), 0.25, True)
        assert dropped.dtype == dtype
        assert (dropped == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)


def weights_of_lookup():
    (table, linear, keep), block = tables(), ids(8, 3)
    return lambda x: lookup(x, linear, [block], keep)[0][0], table


CALLS = {
    "lookup": weights_of_lookup,
    "dropout": lambda: (lambda x: dropout(x, 0.5, True), torch.randn(8, 6)),
    "pair_products": lambda: (pair_products, torch.randn(8, 4, 3)),
    "interact": lambda: (lambda x: interact(x, x, torch.full((2, 16), 0.1), torch.zeros(2)), torch.randn(8, 4)),
}
each = pytest.mark.parametrize("kernel", CALLS)


def is_fast(out):
    return type(out.grad_fn).__name__ in HAND_WRITTEN


class TestWhereTheFastFormIsUsed:
    @each
    def test_by_default_on_cpu(self, kernel):
        function, x = CALLS[kernel]()
        assert is_fast(function(x.requires_grad_()))

    @each
    def test_not_under_plain_kernels_which_nest_and_end(self, kernel):
        function, x = CALLS[kernel]()
        x.requires_grad_()
        with plain_kernels():
            with plain_kernels():
                assert not is_fast(function(x))
            assert not is_fast(function(x))
        assert is_fast(function(x))
        with pytest.raises(KeyError), plain_kernels():
            raise KeyError
        assert is_fast(function(x))

    @each
    def test_not_under_autocast(self, kernel):
        function, x = CALLS[kernel]()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert not is_fast(function(x.requires_grad_()))

    @each
    def test_not_for_other_numbers(self, kernel):
        if kernel in ("lookup", "interact"):  # whose other tensors are float32
            function, x = (lambda x: interact(x, x, x[:2].repeat(1, 4), x[0, :2])), torch.randn(8, 4)
            if kernel == "lookup":
                function = lambda x: lookup(x, x[:, :1], [ids(8, 3)], torch.ones(12, 1).double())[0][0]  # noqa: E731
                x = torch.randn(12, 3)
        else:
            function, x = CALLS[kernel]()
        assert not is_fast(function(x.double().requires_grad_()))

    @each
    def test_not_in_a_compiled_graph(self, kernel):
        """Inductor makes better code of the plain form; the graph holds no function that it cannot look into."""
        function, x = CALLS[kernel]()
        graphs = []

        def keep(graph, example_inputs):
            graphs.append(graph)
            return graph.forward

        torch._dynamo.reset()
        got = torch.compile(function, backend=keep, fullgraph=True)(x.requires_grad_())
        (graph,) = graphs
        called = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
        assert called
        assert [name for name in called if "autograd" in name] == []
        if kernel != "dropout":
            close(got, function(x))

    @each
    def test_not_in_an_exported_program(self, kernel):
        function, x = CALLS[kernel]()

        class Module(nn.Module):
            def forward(self, x):
                return function(x)

        program = torch.export.export(Module(), (x,), strict=False)
        called = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
        assert called
        assert [name for name in called if not name.startswith("aten.")] == []
        if kernel != "dropout":
            close(program.module()(x), function(x))

    @pytest.mark.parametrize("kernel", ["lookup", "pair_products", "interact", "dropout"])
    def test_not_in_a_trace(self, kernel):
        function, x = CALLS[kernel]()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(function, (x.requires_grad_(),), check_trace=False)
        assert "aten::" in str(traced.graph)
        assert "PythonOp" not in str(traced.graph)
        assert "^_" not in str(traced.graph)
        if kernel != "dropout":
            close(traced(x), function(x))

    @each
    def test_not_on_the_meta_device_where_shapes_are_the_same(self, kernel):
        function, x = CALLS[kernel]()
        wanted = function(x).shape
        if kernel == "lookup":
            got = lookup(x.to("meta").requires_grad_(), torch.empty(12, 1, device="meta"), [ids(8, 3).to("meta")],
                         torch.empty(12, 1, device="meta"))[0][0]  # fmt: skip
        elif kernel == "interact":
            x = x.to("meta").requires_grad_()
            got = interact(x, x, torch.empty(2, 16, device="meta"), torch.empty(2, device="meta"))
        else:
            got = function(x.to("meta").requires_grad_())
        assert got.shape == wanted
        assert not is_fast(got)

    @each
    def test_the_plain_form_is_differentiable_twice_and_the_fast_one_says_that_it_is_not(self, kernel):
        function, x = CALLS[kernel]()
        x.requires_grad_()
        with plain_kernels():
            torch.manual_seed(0)
            (gradient,) = torch.autograd.grad(function(x).square().sum(), x, create_graph=True)
            (second,) = torch.autograd.grad(gradient.square().sum(), x)
        assert second.any()
        (gradient,) = torch.autograd.grad(function(x).square().sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            gradient.square().sum().backward()


class TestChunkSize:
    def test_few_examples_on_cpu_and_all_elsewhere(self, monkeypatch):
        monkeypatch.setattr(kernels, "CHUNK_ROWS", 40)
        x = torch.zeros(100, 3, 16)
        assert kernels.chunk_size(x) == 2
        assert kernels.chunk_size(torch.zeros(100, 3, 64)) == 1
        assert kernels.chunk_size(x.to("meta")) == 100
        assert kernels.chunk_size(x[:0].to("meta")) == 1
        with plain_kernels():
            assert kernels.chunk_size(x) == 100


class TestScoringKernels:
    def test_what_is_remembered_is_made_once_and_forgotten_at_the_end(self):
        made = []

        def make():
            made.append(None)
            return len(made)

        assert not kernels.scoring()
        for wanted in (1, 2):
            with kernels.scoring_kernels():
                assert kernels.scoring()
                assert [kernels.remembered("key", make) for _ in range(3)] == [wanted] * 3
                with plain_kernels():
                    assert not kernels.scoring()
        assert not kernels.scoring()
        with pytest.raises(KeyError), kernels.scoring_kernels():
            raise KeyError
        assert not kernels.scoring()


def test_the_gradient_of_an_embedding_bag_layer_is_torchs():
    """The whole lookup against torch's own embedding with a padding row."""
    reference = nn.Embedding(ROWS, 3, padding_idx=0)
    keep = torch.ones(ROWS, 1)
    keep[0] = 0.0
    table = reference.weight.detach().clone().requires_grad_()
    ((rows, _),) = lookup(table, torch.zeros(ROWS, 1), [ids(30, 4)], keep)
    wanted = reference(ids(30, 4))
    assert torch.equal(rows, wanted)
    F.silu(rows).sum().backward()
    F.silu(wanted).sum().backward()
    close(table.grad, reference.weight.grad)
