"""Embedding tables: parameters of which a pass reads some rows only."""

from torch import nn


def table_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Tables by name, each tensor once: the weights of PyTorch's embeddings, and what a class names in `LOOKED_UP`."""
    found: dict[int, tuple[str, nn.Parameter]] = {}
    for name, module in model.named_modules():
        torchs = isinstance(module, nn.Embedding | nn.EmbeddingBag)
        for own in ("weight",) if torchs else getattr(type(module), "LOOKED_UP", ()):
            part = module._parameters.get(own)
            if part is not None:
                found.setdefault(id(part), (name if torchs else f"{name}.{own}".lstrip("."), part))
    return dict(found.values())
