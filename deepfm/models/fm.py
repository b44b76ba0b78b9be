"""FM: a factorisation machine of degree two."""

import torch
from torch import Tensor, nn

from deepfm.errors import ConfigError
from deepfm.models.base import WideModel
from deepfm.models.layers import FMInteraction


class FM(WideModel):
    """logit = b + first order + Σ over pairs of fields of their inner product (Rendle, 2010, equation 1).

    One field alone has no pair: the model is then logistic regression.

    Raises:
        ConfigError: the pairs are switched off.
    """

    def _build_components(self) -> None:
        if not self.config.fm.use_second_order:
            raise ConfigError(
                "fm.use_second_order = False leaves model_name = 'fm' without pairs; expected true, or model_name=lr"
            )
        self.fm = FMInteraction()
        self.bias = nn.Parameter(torch.zeros(1))

    def _forward_components(self, first_order: Tensor, field_embeddings: Tensor, flat_embeddings: Tensor) -> Tensor:
        logit: Tensor = self.bias + first_order + self.fm(field_embeddings)  # (B, 1)
        return logit
