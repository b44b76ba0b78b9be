"""LR: logistic regression."""

import torch
from torch import Tensor, nn

from deepfm.config import ExperimentConfig
from deepfm.errors import ConfigError
from deepfm.models.base import BaseCTRModel


class LR(BaseCTRModel):
    """logit = b + first order: one weight a value, and nothing of two fields together (Richardson et al., 2007).

    Raises:
        ConfigError: the first order is switched off.
    """

    def _build_components(self) -> None:
        if not self.config.fm.use_first_order:
            raise ConfigError("fm.use_first_order = False leaves model_name = 'lr' without weights; expected true")
        self.bias = nn.Parameter(torch.zeros(1))

    def _forward_components(self, first_order: Tensor, field_embeddings: Tensor, flat_embeddings: Tensor) -> Tensor:
        return self.bias + first_order  # (B, 1)

    def _reads_fields(self, config: ExperimentConfig) -> bool:
        return False

    def _reads_orders(self, config: ExperimentConfig) -> str:
        return "first"
