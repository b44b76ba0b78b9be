"""Models with nothing wrong, of many kinds: no rule of Priority 1 may fire on any of them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.analysis.faulty import Pooling, Tower, Words
from tests.analysis.subjects import ROWS, Case, amounts, classes, clicks, images, seeded, sequences, texts

HEALTHY: dict[str, Callable[[], Case]] = {}


def healthy(name: str) -> Callable[[Callable[[], Case]], Callable[[], Case]]:
    """Register a model."""

    def register(build: Callable[[], Case]) -> Callable[[], Case]:
        HEALTHY[name] = build
        return build

    return register


@healthy("logistic regression")
def logistic_regression() -> Case:
    return Case(nn.Linear(16, 1), clicks(), "bce")


@healthy("tower for clicks")
def tower() -> Case:
    return Case(Tower(), clicks(), "bce", None)


@healthy("tower with its optimizer")
def tower_with_optimizer() -> Case:
    model = Tower()
    return Case(model, clicks(), "bce", torch.optim.AdamW(model.parameters()))


@healthy("tower for classes")
def tower_for_classes() -> Case:
    return Case(Tower(outputs=5), classes(), "ce")


@healthy("tower for amounts")
def tower_for_amounts() -> Case:
    return Case(Tower(), amounts(), "mse")


@healthy("batch norm and dropout")
def batch_norm_and_dropout() -> Case:
    model = nn.Sequential(
        nn.Linear(16, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 32), nn.BatchNorm1d(32),
        nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 5),
    )  # fmt: skip
    return Case(model, classes(), "ce")


@healthy("frozen backbone")
def frozen_backbone() -> Case:
    backbone = nn.Sequential(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU()).requires_grad_(False).eval()
    return Case(nn.Sequential(backbone, nn.Linear(32, 1)), clicks(), "bce")


@healthy("masked pooling")
def masked_pooling() -> Case:
    return Case(Pooling(masked=True), sequences(), "bce")


@healthy("tied words")
def tied_words() -> Case:
    return Case(Words(tied=True), texts(), "ce")


class Residual(nn.Module):
    """Two convolutions around which the input goes on."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.two = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.two(F.relu(self.one(x))))


@healthy("residual network")
def residual_network() -> Case:
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), Residual(16), nn.MaxPool2d(2),
        Residual(16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4),
    )  # fmt: skip
    return Case(model, images(), "ce")


class Recurrent(nn.Module):
    """The last state of a recurrent network over whole sequences."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.body = kind(8, 32, batch_first=True)
        self.head = nn.Linear(32, 1)

    def forward(self, events: Tensor) -> Tensor:
        return self.head(self.body(events)[0][:, -1])


def _ordered() -> list[tuple[Tensor, Tensor]]:
    return [(events, (events[:, -1, 0] > 0).float()) for (events, _), _ in sequences()]


@healthy("LSTM")
def lstm() -> Case:
    return Case(Recurrent(nn.LSTM), _ordered(), "bce")


@healthy("GRU")
def gru() -> Case:
    return Case(Recurrent(nn.GRU), _ordered(), "bce")


class Encoder(nn.Module):
    """PyTorch's encoder over events with padding, and the mean of what it says."""

    def __init__(self, norm_first: bool) -> None:
        super().__init__()
        self.project = nn.Linear(8, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 1)

    def forward(self, events: Tensor, padding: Tensor) -> Tensor:
        encoded = self.encoder(self.project(events), src_key_padding_mask=padding)
        encoded = encoded.masked_fill(padding[..., None], 0.0)
        return self.head(encoded.sum(1) / (~padding).sum(1, keepdim=True))


@healthy("Transformer, norm first")
def transformer() -> Case:
    return Case(Encoder(norm_first=True), sequences(), "bce")


@healthy("Transformer, norm last")
def transformer_norm_last() -> Case:
    return Case(Encoder(norm_first=False), sequences(), "bce")


class Ranker(nn.Module):
    """Candidates that attend to a user's events, by PyTorch's whole Transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.events, self.candidates = nn.Linear(8, 32), nn.Linear(6, 32)
        self.transformer = nn.Transformer(32, 4, 1, 1, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.head = nn.Linear(32, 1)

    def forward(self, events: Tensor, padding: Tensor, candidates: Tensor) -> Tensor:
        mixed = self.transformer(
            self.events(events),
            self.candidates(candidates),
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
        )
        return self.head(mixed).squeeze(2)  # (B, C)


@healthy("Transformer that ranks")
def ranker() -> Case:
    source = seeded(3)
    batches = []
    for (events, padding), _ in sequences():
        candidates = torch.randn(ROWS, 5, 6, generator=source)
        batches.append(((events, padding, candidates), candidates[..., 0].argmax(dim=1)))
    return Case(Ranker(), batches, "ce")


class AutoEncoder(nn.Module):
    """Through a narrow place and back."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 4))
        self.decoder = nn.Sequential(nn.Linear(4, 32), nn.GELU(), nn.Linear(32, 16))

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


@healthy("auto-encoder")
def auto_encoder() -> Case:
    mix = torch.randn(4, 16, generator=seeded(5))
    return Case(AutoEncoder(), [(x[:, :4] @ mix, x[:, :4] @ mix) for x, _ in amounts()], "mse")


class Variational(AutoEncoder):
    """An auto-encoder whose code is drawn in training, and which gives its own loss."""

    def __init__(self) -> None:
        super().__init__()
        self.spread = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        code = self.encoder(x)
        log_variance = self.spread(code)
        drawn = code + torch.randn_like(code) * (0.5 * log_variance).exp() if self.training else code
        divergence = -0.5 * (1 + log_variance - code**2 - log_variance.exp()).sum(1).mean()
        return F.mse_loss(self.decoder(drawn), x) + 0.01 * divergence


@healthy("variational auto-encoder with its own loss")
def variational() -> Case:
    return Case(Variational(), [x for x, _ in amounts()], None)


class DeepSet(nn.Module):
    """A sum over a set, of any order."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32))
        self.outer = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, items: Tensor) -> Tensor:
        return self.outer(self.inner(items).mean(dim=1))


@healthy("deep set")
def deep_set() -> Case:
    return Case(DeepSet(), [(x, x[..., 0].mean(1, keepdim=True)) for (x, _), _ in sequences()], "mse")


class Graph(nn.Module):
    """Two rounds of messages over a given neighbourhood of each row's own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(8, 32), nn.Linear(32, 32), nn.Linear(32, 1)

    def forward(self, nodes: Tensor, links: Tensor) -> Tensor:
        share = links / links.sum(dim=2, keepdim=True).clamp(min=1.0)
        nodes = F.relu(self.first(share @ nodes + nodes))
        nodes = F.relu(self.second(share @ nodes + nodes))
        return self.head(nodes.mean(dim=1))


@healthy("graph network")
def graph() -> Case:
    source = seeded(7)
    batches = []
    for (nodes, _), label in sequences():
        links = (torch.rand(ROWS, nodes.shape[1], nodes.shape[1], generator=source) < 0.3).float()
        batches.append(((nodes, links), label))
    return Case(Graph(), batches, "bce")


class ByName(nn.Module):
    """Ids, an amount and a list with padding 0, given by name in one dict."""

    def __init__(self) -> None:
        super().__init__()
        self.user = nn.Embedding(40, 8)
        self.items = nn.Embedding(60, 8, padding_idx=0)
        self.tower = nn.Sequential(nn.Linear(17, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        seen = (batch["items"] > 0).float()[..., None]
        items = (self.items(batch["items"]) * seen).sum(1) / seen.sum(1).clamp(min=1.0)
        return self.tower(torch.cat([self.user(batch["user"]), items, batch["amount"]], dim=1))


@healthy("a dict of ids")
def by_name() -> Case:
    source = seeded(11)
    batches = []
    for _ in range(3):
        items = torch.randint(60, (ROWS, 6), generator=source)
        batch = {
            "user": torch.randint(40, (ROWS,), generator=source),
            "items": items,
            "amount": torch.randn(ROWS, 1, generator=source),
        }
        batches.append((batch, (batch["amount"][:, 0] + 0.05 * (batch["user"] - 20) > 0).float()))
    return Case(ByName(), batches, "bce")


class Siamese(nn.Module):
    """Two inputs through one encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16))
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.scale * F.cosine_similarity(self.encoder(left), self.encoder(right), dim=1)


@healthy("one encoder used twice")
def siamese() -> Case:
    batches = []
    for x, _ in clicks():
        other = torch.where(torch.arange(ROWS)[:, None] % 2 == 0, x + 0.3 * x.roll(1, 1), x.roll(1, 0))
        batches.append(((x, other), (torch.arange(ROWS) % 2 == 0).float()))
    return Case(Siamese(), batches, "bce")


class Mixer(nn.Module):
    """Layers over positions and over channels, in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(8, 32)
        self.norms = nn.ModuleList(nn.LayerNorm(32) for _ in range(4))
        self.over_positions = nn.ModuleList(nn.Linear(10, 10) for _ in range(2))
        self.over_channels = nn.ModuleList(nn.Linear(32, 32) for _ in range(2))
        self.head = nn.Linear(32, 1)

    def forward(self, events: Tensor) -> Tensor:
        x = self.enter(events)
        for at in range(2):
            x = x + F.gelu(self.over_positions[at](self.norms[2 * at](x).transpose(1, 2))).transpose(1, 2)
            x = x + F.gelu(self.over_channels[at](self.norms[2 * at + 1](x)))
        return self.head(x.mean(dim=1))


@healthy("mixer")
def mixer() -> Case:
    return Case(Mixer(), _ordered(), "bce")


class Convolution(nn.Module):
    """Text by one-dimensional convolutions and the strongest answer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 16)
        self.wide = nn.Conv1d(16, 32, 3, padding=1)
        self.head = nn.Linear(32, 4)

    def forward(self, words: Tensor) -> Tensor:
        found = F.relu(self.wide(self.table(words).transpose(1, 2)))
        return self.head(found.amax(dim=2))


@healthy("convolution over words")
def convolution() -> Case:
    return Case(Convolution(), [(words, words[:, 0] % 4) for words, _ in texts()], "ce")


class Gated(nn.Module):
    """Experts, weighed softly."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(Tower() for _ in range(3))
        self.gate = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        outputs = torch.stack([expert(x) for expert in self.experts], dim=1)  # (B, 3, 1)
        return (F.softmax(self.gate(x), dim=1)[..., None] * outputs).sum(dim=1)


@healthy("mixture of experts")
def mixture() -> Case:
    return Case(Gated(), amounts(), "mse")
