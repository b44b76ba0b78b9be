"""The model on which the notes measured other tools, and a module of each kind by hand; and what must not change."""

import copy
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from deepfm.analysis.subject import Subject, make_subject


class NotesRanker(nn.Module):
    """238,792 parameters: events and candidates to 64, two encoder and two decoder layers, a head; and two unused."""

    def __init__(self) -> None:
        super().__init__()
        self.events, self.candidates = nn.Linear(32, 64), nn.Linear(48, 64)
        encoder = nn.TransformerEncoderLayer(64, 4, 256, batch_first=True, norm_first=True)
        decoder = nn.TransformerDecoderLayer(64, 4, 256, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(encoder, 2, enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(decoder, 2)
        self.head = nn.Linear(64, 1)
        self.unused = nn.Parameter(torch.zeros(7))
        self.register_buffer("constants", torch.zeros(3))

    def forward(self, events: Tensor, padding: Tensor, candidates: Tensor) -> Tensor:
        memory = self.encoder(self.events(events), src_key_padding_mask=padding)
        decoded = self.decoder(self.candidates(candidates), memory, memory_key_padding_mask=padding)
        return self.head(decoded).squeeze(2)


def total(output: Tensor, _: Tensor) -> Tensor:
    """A loss that saves nothing."""
    return output.sum()


def ranker_subject() -> Subject:
    torch.manual_seed(0)
    padding = torch.arange(20)[None] >= torch.tensor([20, 18, 16, 14, 12, 10, 9, 8])[:, None]
    batch = (torch.randn(8, 20, 32), padding, torch.randn(8, 12, 48))
    return make_subject(NotesRanker(), (batch, torch.zeros(8, 12)), total)


def of(model: nn.Module, *inputs: Tensor) -> Subject:
    """A module on some inputs, with a random projection of what it gives as its loss."""
    return make_subject(model, tuple(inputs), "probe")


@contextmanager
def unchanged(model: nn.Module):
    """Fail where the model, the random stream or a setting of torch's is another afterwards."""
    torch.manual_seed(7)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.5) if parameter.requires_grad else None
    before, modes = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    grads = [None if parameter.grad is None else parameter.grad.clone() for parameter in model.parameters()]
    hooks = [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in model.modules()]
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    settings, stream = _settings(), torch.random.get_rng_state()
    yield
    assert settings == _settings()
    assert torch.equal(stream, torch.random.get_rng_state())
    after = model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert modes == [module.training for module in model.modules()]
    assert wanted == [parameter.requires_grad for parameter in model.parameters()]
    assert hooks == [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in model.modules()]
    for kept, parameter in zip(grads, model.parameters(), strict=True):
        assert (kept is None) == (parameter.grad is None)
        assert kept is None or torch.equal(kept, parameter.grad)


def _settings():
    return (
        torch.backends.mha.get_fastpath_enabled(),
        torch.backends.cuda.flash_sdp_enabled(),
        torch.backends.cuda.mem_efficient_sdp_enabled(),
        torch.backends.cuda.math_sdp_enabled(),
        torch.backends.mkldnn.enabled,
        torch.backends.cudnn.enabled,
        torch.is_grad_enabled(),
        torch.get_num_threads(),
    )
