"""Where models come from: the registry, a class of one's own, or any function that gives a module."""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deepfm.config import ExperimentConfig
from deepfm.data.schema import DatasetSchema
from deepfm.engine.settings import nearest
from deepfm.errors import ConfigError
from deepfm.models import MODELS, BaseCTRModel, schema_for

DEFAULT_MODELS = ("deepfm", "xdeepfm", "attention_deepfm", "bst", "din", "sin")

ModelFactory = Callable[[DatasetSchema, ExperimentConfig], nn.Module]
ModelChoice = str | ModelFactory


@dataclass(frozen=True)
class ModelSource:
    """A model that can be built any number of times.

    Args:
        name: what reports call it.
        factory: a `BaseCTRModel`, or anything else that takes `(schema, config)` and gives a module.
        reads_behaviour: whether it needs behaviour sequences; None where that is not known, as of a plain function.
    """

    name: str
    factory: ModelFactory
    reads_behaviour: bool | None

    def build(self, schema: DatasetSchema, config: ExperimentConfig) -> BaseCTRModel:
        """A fresh model, with the embedding widths that the configuration gives.

        Raises:
            ConfigError: the factory gives no module, or one without a parameter.
        """
        schema = schema_for(schema, config)
        module = self.factory(schema, config)
        if not isinstance(module, nn.Module):
            raise ConfigError(f"{self.name} gives a {type(module).__name__}; expected a torch.nn.Module")
        if not any(weight.requires_grad for weight in module.parameters()):
            raise ConfigError(f"{self.name} has no parameter that training may change; expected at least one")
        return module if isinstance(module, BaseCTRModel) else OwnModule(module, schema, config)


class OwnModule(BaseCTRModel):
    """Any module that gives logits `(B,)` or `(B, 1)` for a batch `{field: (B, …)}`, as a click model.

    Histories reach it once a row, `(B, L)`, also where the data hold one for several rows.
    """

    def __init__(self, module: nn.Module, schema: DatasetSchema, config: ExperimentConfig) -> None:
        nn.Module.__init__(self)
        self.schema, self.config, self.calibration = schema, config, None
        self.module = module
        self.embedding: Any = _NoTables()

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Raw logits `(B, 1)`."""
        rows = max(len(column) for column in batch.values())
        whole = {
            name: column if len(column) == rows else column.repeat_interleave(rows // len(column), dim=0)
            for name, column in batch.items()
        }
        logits: Tensor = self.module(whole)
        return logits.unsqueeze(1) if torch.is_tensor(logits) and logits.dim() == 1 else logits

    def _build_components(self) -> None:
        """The module has its own."""

    def _forward_components(self, *views: Tensor) -> Tensor:
        raise NotImplementedError


class _NoTables(nn.Module):
    """What training and scoring ask of an embedding, for a model whose tables nobody knows."""

    num_rows = 0
    embed_dim = 0
    sparse_gradients = False

    def table_parameters(self) -> list[nn.Parameter]:
        return []


def model_source(choice: ModelChoice) -> ModelSource:
    """The source of a registry name, of `package.module:ClassName`, of a class or of a function.

    Raises:
        ConfigError: the name is unknown, or the class cannot be imported.
    """
    if isinstance(choice, str):
        if choice in MODELS:
            return ModelSource(choice, MODELS[choice], MODELS[choice].reads_behaviour)
        if ":" not in choice:
            raise ConfigError(
                f"model {choice!r} is unknown; {nearest(choice, list(MODELS))}, or give a class of your own as "
                "package.module:ClassName"
            )
        choice = import_model(choice)
    if not callable(choice):
        raise ConfigError(
            f"model {choice!r} is a {type(choice).__name__}; expected a registered name, a class, or a function of "
            "(schema, config)"
        )
    name = getattr(choice, "__name__", type(choice).__name__)
    return ModelSource(name, choice, getattr(choice, "reads_behaviour", None))


def model_sources(choices: Sequence[ModelChoice]) -> list[ModelSource]:
    """The sources of several models, each once.

    Raises:
        ConfigError: a name is unknown, a class cannot be imported, or there is nothing to check.
    """
    sources = list(dict.fromkeys(model_source(choice) for choice in choices))
    if not sources:
        raise ConfigError(f"there is no model to check; expected some of {', '.join(MODELS)}, or one of your own")
    return sources


def import_model(spec: str) -> ModelFactory:
    """The class or function that `package.module:ClassName` names, importable from the current folder too.

    Raises:
        ConfigError: there is none.
    """
    module_name, _, name = spec.partition(":")
    if not module_name or not name:
        raise ConfigError(f"model {spec!r} names no class; expected package.module:ClassName")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a person's own file may raise anything
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"model {spec}: {module_name} cannot be imported from {os.getcwd()} ({type(error).__name__}: {reason}); "
            "expected a Python module that is installed or lies there"
        ) from error
    factory = getattr(module, name, None)
    if not callable(factory):
        classes = {key for key, value in vars(module).items() if isinstance(value, type)}
        known = sorted(key for key in classes if getattr(module, key).__module__ == module.__name__)
        raise ConfigError(
            f"model {spec}: {module_name} has no class or function {name!r}; "
            + (nearest(name, known) if known else "it defines no class")
        )
    found: ModelFactory = factory
    return found
