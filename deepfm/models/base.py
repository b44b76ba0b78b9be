"""What every click model shares: one set of embeddings in, one logit out."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from deepfm.config import ExperimentConfig
from deepfm.data.schema import DatasetSchema
from deepfm.errors import ConfigError
from deepfm.models.calibration import Calibration
from deepfm.models.initialisation import initialise
from deepfm.models.layers import DNN, FeatureEmbedding


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; each part then goes back to the mode that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


class BaseCTRModel(nn.Module, ABC):
    """A model of the probability of a click.

    A subclass declares its parts in `_build_components` and writes its formula in `_forward_components`.

    Args:
        schema: the fields.
        config: sizes and options; a model reads the sections it uses.

    Attributes:
        reads_behaviour: whether the model needs behaviour sequences; others ignore those of a schema.
        calibration: what `predict` makes probabilities with; None for a sigmoid. Training sets it after a ranking loss.
    """

    reads_behaviour = False

    def __init__(self, schema: DatasetSchema, config: ExperimentConfig) -> None:
        super().__init__()
        self.schema = schema
        self.config = config
        self.calibration: Calibration | None = None
        projection = config.feature.projection if self._reads_fields(config) else None
        self.embedding = FeatureEmbedding(schema, config.feature.fm_embed_dim, projection, self._reads_orders(config))
        self._build_components()
        initialise(self, config.feature.init_std, config.training.linear_init)

    @abstractmethod
    def _build_components(self) -> None:
        """Make the parts beside the embedding."""

    @abstractmethod
    def _forward_components(self, first_order: Tensor, field_embeddings: Tensor, flat_embeddings: Tensor) -> Tensor:
        """Logits `(B, 1)` from first order `(B, 1)`, field embeddings `(B, F, D)` and flat embeddings `(B, T)`."""

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Raw logits `(B, 1)` of a batch `{field: (B, …)}`."""
        return self._forward_components(*self.embedding(batch))

    @torch.no_grad()
    def predict(self, batch: dict[str, Tensor]) -> Tensor:
        """Probabilities `(B, 1)`, calibrated where the model is, in evaluation mode; the mode is left as it was."""
        with evaluation_mode(self):
            logits: Tensor = self(batch)
        return torch.sigmoid(logits) if self.calibration is None else self.calibration(logits.float())

    def monitors(self) -> dict[str, nn.Module]:
        """Parts whose outputs, between 0 and 1, are worth watching in an evaluation, by name; none by default."""
        return {}

    def catalogue_logits(self, batch: dict[str, Tensor], catalogue: dict[str, Tensor]) -> Tensor:
        """Logits `(P, C)` of P rows with every one of C items, for a model whose form makes that cheap.

        Raises:
            ConfigError: this model has no such form.
        """
        self.require_catalogue()
        raise NotImplementedError

    def require_catalogue(self) -> None:
        """Make sure that `catalogue_logits` is there.

        Raises:
            ConfigError: this model has no such form.
        """
        raise ConfigError(
            f"training.loss = 'full_softmax' needs a model whose logit is an inner product, and {type(self).__name__} "
            "is none; use training.loss=softmax, or model_name=sin with sin.fusion=transformer, sin.candidate=product "
            "and sin.use_dnn=false"
        )

    def _reads_fields(self, config: ExperimentConfig) -> bool:
        """Whether the model uses the field embeddings `(B, F, D)`; they are not made for nothing."""
        return True

    def _reads_orders(self, config: ExperimentConfig) -> str:
        """Which tables the model uses: `both`, those of the `first` order or the `second`'s vectors."""
        return "both"

    def get_l2_reg_loss(self) -> Tensor:
        """λ·Σw² over the embedding tables, with λ = `feature.embedding_l2_reg`: a scalar with a gradient."""
        squares = [weight.square().sum() for weight in self.embedding.table_parameters()]
        return self.config.feature.embedding_l2_reg * torch.stack(squares).sum()

    def _dnn(self, input_dim: int) -> DNN:
        """The deep tower that the `dnn` section describes."""
        tower = self.config.dnn
        return DNN(input_dim, tower.hidden_units, tower.activation, tower.dropout, tower.use_batch_norm)


class WideModel(BaseCTRModel):
    """A click model whose wide part can go: without `fm.use_first_order` it has no linear weights and adds zeros."""

    def _reads_orders(self, config: ExperimentConfig) -> str:
        return "both" if config.fm.use_first_order else "second"
