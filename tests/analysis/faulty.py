"""Models with one planted fault each, and what must be said of it: which rule, and where.

A fault in a line of code carries the comment `# planted: <name>`, and the place that is named must be that line.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.analysis.subjects import Case, amounts, classes, clicks, sequences, texts


@dataclass(frozen=True)
class Planted:
    """A fault: the rule that must fire on it, and the module, parameter or line that it must name."""

    rule: str
    place: str
    build: Callable[[], Case]


FAULTS: dict[str, Planted] = {}


def planted(name: str, rule: str, place: str = "") -> Callable[[Callable[[], Case]], Callable[[], Case]]:
    """Register a fault; without a place it is the line that the comment marks."""

    def register(build: Callable[[], Case]) -> Callable[[], Case]:
        FAULTS[name] = Planted(rule, place or _marked(name), build)
        return build

    return register


def _marked(name: str) -> str:
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    (number,) = [at for at, line in enumerate(lines, start=1) if line.rstrip().endswith(f"# planted: {name}")]
    return f"faulty.py:{number}"


class Tower(nn.Module):
    """Two hidden layers and a head, as healthy as they come; the faults below are planted in copies of it."""

    def __init__(self, features: int = 16, width: int = 32, outputs: int = 1) -> None:
        super().__init__()
        self.first = nn.Linear(features, width)
        self.first_act = nn.ReLU()
        self.second = nn.Linear(width, width)
        self.second_act = nn.ReLU()
        self.head = nn.Linear(width, outputs)

    def hidden(self, x: Tensor) -> Tensor:
        return self.second_act(self.second(self.first_act(self.first(x))))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(x))


@planted("dead layer", "dead-units", "second_act")
def dead_layer() -> Case:
    model = Tower()
    nn.init.constant_(model.second.bias, -10.0)
    return Case(model, clicks(), "bce")


class Detached(Tower):
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first_act(self.first(x)).detach()  # planted: detach
        return self.head(self.second_act(self.second(hidden)))


@planted("detach", "graph-cut")
def detach() -> Case:
    return Case(Detached(), clicks(), "bce")


class ThroughNumpy(Tower):
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first_act(self.first(x))
        scaled = torch.from_numpy(hidden.detach().numpy() * 2)  # planted: numpy
        return self.head(self.second_act(self.second(scaled)))


@planted("numpy", "graph-cut")
def through_numpy() -> Case:
    return Case(ThroughNumpy(), clicks(), "bce")


class WithoutGradient(Tower):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            hidden = self.first_act(self.first(x))
        return self.head(self.second_act(self.second(hidden)))


@planted("no_grad", "unreached-parameters", "first")
def without_gradient() -> Case:
    return Case(WithoutGradient(), clicks(), "bce")


class UnusedHead(Tower):
    def __init__(self) -> None:
        super().__init__()
        self.second_head = nn.Linear(32, 4)


@planted("unused head", "unreached-parameters", "second_head")
def unused_head() -> Case:
    return Case(UnusedHead(), clicks(), "bce")


@planted("exploding init", "loss-at-start", "head")
def exploding_init() -> Case:
    model = Tower()
    with torch.no_grad():
        for layer in (model.first, model.second, model.head):
            layer.weight.mul_(50.0)
    return Case(model, clicks(), "bce")


class Deep(nn.Module):
    """Twenty hidden layers, each times a factor."""

    def __init__(self, activation: nn.Module, gain: float) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Linear(16, 32)]
        for _ in range(20):
            layer = nn.Linear(32, 32)
            with torch.no_grad():
                layer.weight.mul_(gain)
            layers += [layer, copy.deepcopy(activation)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


@planted("vanishing gradient", "vanishing-gradient", "body.0")
def vanishing() -> Case:
    return Case(Deep(nn.Sigmoid(), 1.0), clicks(), "bce")


@planted("exploding gradient", "exploding-gradient", "body.0")
def exploding() -> Case:
    model = Deep(nn.LeakyReLU(0.9), 3.5)
    with torch.no_grad():
        model.head.weight.mul_(1e-6)
    return Case(model, clicks(), "bce")


@planted("saturated tanh", "saturated-units", "act")
def saturated() -> Case:
    model = nn.Sequential()
    model.add_module("first", nn.Linear(16, 32))
    model.add_module("act", nn.Tanh())
    model.add_module("head", nn.Linear(32, 1))
    with torch.no_grad():
        model.first.weight.mul_(60.0)
    return Case(model, clicks(), "bce")


class Pooling(nn.Module):
    """The mean event, and a head; `masked` says whether padding is left out, as it should be."""

    def __init__(self, masked: bool) -> None:
        super().__init__()
        self.masked = masked
        self.encoder = nn.Sequential(nn.Linear(8, 16), nn.GELU())
        self.head = nn.Linear(16, 1)

    def forward(self, events: Tensor, padding: Tensor) -> Tensor:
        encoded = self.encoder(events)  # (B, L, 16)
        if self.masked:
            encoded = encoded.masked_fill(padding[..., None], 0.0)
            return self.head(encoded.sum(1) / (~padding).sum(1, keepdim=True))
        return self.head(encoded.mean(1))


@planted("ignored mask", "mask-ignored", "padding")
def ignored_mask() -> Case:
    return Case(Pooling(masked=False), sequences(), "bce")


@planted("batch norm of one row", "batch-norm-rows", "norm")
def batch_norm_of_two_rows() -> Case:
    model = nn.Sequential()
    model.add_module("first", nn.Linear(16, 32))
    model.add_module("norm", nn.BatchNorm1d(32))
    model.add_module("act", nn.ReLU())
    model.add_module("head", nn.Linear(32, 1))
    return Case(model, clicks(rows=1), "bce")


class ByItem(Tower):
    def forward(self, x: Tensor) -> Tensor:
        scale = x.abs().mean().item()  # planted: item
        return super().forward(x / scale)


@planted("item", "sync-in-forward")
def item() -> Case:
    return Case(ByItem(), clicks(), "bce")


class Probability(Tower):
    def __init__(self) -> None:
        super().__init__()
        self.squash = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return self.squash(super().forward(x))


@planted("sigmoid before BCE with logits", "sigmoid-before-bce", "squash")
def sigmoid_before_bce() -> Case:
    return Case(Probability(), clicks(), "bce")


class Distribution(Tower):
    def forward(self, x: Tensor) -> Tensor:
        return F.softmax(super().forward(x), dim=1)


@planted("softmax before cross-entropy", "softmax-before-ce", "output")
def softmax_before_ce() -> Case:
    return Case(Distribution(outputs=5), classes(), "ce")


@planted("frozen in train mode", "frozen-in-train-mode", "backbone.norm")
def frozen_in_train_mode() -> Case:
    backbone = nn.Sequential()
    backbone.add_module("linear", nn.Linear(16, 32))
    backbone.add_module("norm", nn.BatchNorm1d(32))
    backbone.add_module("act", nn.ReLU())
    backbone.requires_grad_(False)
    model = nn.Sequential()
    model.add_module("backbone", backbone)
    model.add_module("head", nn.Linear(32, 1))
    return Case(model, clicks(), "bce")


@planted("optimizer misses a part", "optimizer-misses", "head")
def optimizer_misses() -> Case:
    model = Tower()
    kept = [*model.first.parameters(), *model.second.parameters()]
    return Case(model, clicks(), "bce", torch.optim.Adam(kept))


@planted("optimizer holds a copy's parameters", "optimizer-misses", "first")
def optimizer_of_a_copy() -> Case:
    model = Tower()
    return Case(model, clicks(), "bce", torch.optim.Adam(copy.deepcopy(model).parameters()))


class Words(nn.Module):
    """Words in, the next word out, by one table."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 24)
        nn.init.normal_(self.table.weight, std=0.2)
        self.body = nn.Sequential(nn.Linear(24, 24), nn.GELU(), nn.Linear(24, 24))
        self.decoder = nn.Linear(24, 50, bias=False)
        self.decoder.weight = self.table.weight if tied else nn.Parameter(self.table.weight.detach().clone())

    def forward(self, words: Tensor) -> Tensor:
        return self.decoder(self.body(self.table(words))).transpose(1, 2)  # (B, words, L)


@planted("tied weights broken by a copy", "tied-by-copy", "decoder.weight")
def tied_by_copy() -> Case:
    return Case(Words(tied=False), texts(), "ce")


class Doubled(Tower):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor([2.0], dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.hidden(x)
        wide = hidden * self.scale  # planted: float64
        return F.linear(wide, self.head.weight.double(), self.head.bias.double())


@planted("float64", "float64")
def float64_leak() -> Case:
    return Case(Doubled(), clicks(), "bce")


def summed_loss(output: Tensor, target: Tensor) -> Tensor:
    """A sum over rows where a mean is meant."""
    return F.binary_cross_entropy_with_logits(output.squeeze(1), target, reduction="sum")


@planted("loss grows with rows", "loss-scales-with-rows", "summed_loss")
def loss_grows_with_rows() -> Case:
    return Case(Tower(), clicks(), summed_loss)


class Rounded(Tower):
    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.round(4 * torch.sigmoid(self.first(x)))  # planted: round
        return self.head(self.second_act(self.second(hidden)))


@planted("round", "zero-gradient")
def rounded() -> Case:
    return Case(Rounded(), clicks(), "bce")


class HardChoice(Tower):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(16, 4)
        self.experts = nn.Parameter(torch.randn(4, 16) / 4)

    def forward(self, x: Tensor) -> Tensor:
        chosen = self.gate(x).argmax(dim=1)  # planted: argmax
        return super().forward(x * self.experts[chosen])


@planted("argmax", "graph-cut")
def hard_choice() -> Case:
    return Case(HardChoice(), clicks(), "bce")


@planted("equal units", "identical-units", "second")
def equal_units() -> Case:
    model = Tower()
    nn.init.constant_(model.second.weight, 0.05)
    nn.init.zeros_(model.second.bias)
    return Case(model, clicks(), "bce")


class Centred(Tower):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(dim=0, keepdim=True))


@planted("rows that see each other", "rows-depend", "output")
def rows_that_see_each_other() -> Case:
    return Case(Centred(), amounts(), "mse")


@planted("softmax over the batch", "rows-depend", "output")
def softmax_over_the_batch() -> Case:
    class Gated(Tower):
        def forward(self, x: Tensor) -> Tensor:
            hidden = self.hidden(x)
            return self.head(hidden * torch.softmax(hidden, dim=0) * len(x))

    return Case(Gated(), amounts(), "mse")


class AlwaysDropped(Tower):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.dropout(self.hidden(x), 0.3))


@planted("dropout in evaluation", "random-in-eval", "output")
def dropout_in_evaluation() -> Case:
    return Case(AlwaysDropped(), clicks(), "bce")


class Unregistered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = [nn.Linear(16, 32), nn.Linear(32, 32)]
        self.head = nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.head(x)


@planted("layers in a list", "unregistered-parameters", "layers")
def layers_in_a_list() -> Case:
    return Case(Unregistered(), clicks(), "bce")


@planted("loss that broadcasts", "loss-broadcasts", "output")
def loss_that_broadcasts() -> Case:
    return Case(Tower(), amounts(column=False), F.mse_loss)


class Distance(Tower):
    def __init__(self) -> None:
        super().__init__()
        self.centre = nn.Parameter(torch.zeros(32))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.hidden(x)
        apart = (self.centre - self.centre.detach()) ** 2
        return self.head(hidden + apart.sum().sqrt())


@planted("square root of zero", "non-finite-gradient", "centre")
def square_root_of_zero() -> Case:
    return Case(Distance(), clicks(), "bce")


class Unscaled(nn.Module):
    """Attention whose logits are far too large for a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(8, 64)
        self.key = nn.Linear(8, 64)
        self.softmax = nn.Softmax(dim=-1)
        self.head = nn.Linear(8, 1)
        with torch.no_grad():
            self.query.weight.mul_(12.0)
            self.key.weight.mul_(12.0)

    def forward(self, events: Tensor, padding: Tensor) -> Tensor:
        scores = self.query(events) @ self.key(events).transpose(1, 2)
        weights = self.softmax(scores.masked_fill(padding[:, None], -torch.inf))
        mixed = (weights @ events).masked_fill(padding[..., None], 0.0)
        return self.head(mixed.sum(1) / (~padding).sum(1, keepdim=True))


@planted("saturated attention", "saturated-units", "softmax")
def saturated_attention() -> Case:
    return Case(Unscaled(), sequences(), "bce")


class InPlace(Tower):
    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        self.temperature.data.clamp_(min=0.5).mul_(1.01)  # planted: weights written in forward
        return super().forward(x) / self.temperature


@planted("weights written in forward", "writes-in-forward", "temperature")
def weights_written_in_forward() -> Case:
    return Case(InPlace(), clicks(), "bce")


@planted("constant output", "collapsed-output", "output")
def constant_output() -> Case:
    model = Tower()
    nn.init.constant_(model.first.weight, 0.0)
    nn.init.constant_(model.first.bias, 1.0)
    return Case(model, clicks(), "bce")
