"""What every model of columns shares: its tables, its penalties, and compile, fit, evaluate and predict."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deepfm.engine.device import resolve_device
from deepfm.engine.loop import fit
from deepfm.engine.loop_settings import LoopSettings
from deepfm.engine.memory import feed
from deepfm.engine.progress import progress_observers
from deepfm.engine.task import Progress, no_progress
from deepfm.errors import ConfigError, DataError, TrainingError
from deepfm.interop.deepctr.callbacks import Callback, CallbackList, History
from deepfm.interop.deepctr.columns import FeatureColumn
from deepfm.interop.deepctr.embedding import ColumnEmbedding, Views
from deepfm.interop.deepctr.fitting import (
    ColumnTask,
    EpochReport,
    Labelled,
    Penalty,
    Plan,
    make_optimizer,
    measure,
    parameter_groups,
)
from deepfm.interop.deepctr.layers import DNN, PredictionLayer
from deepfm.interop.deepctr.metrics import loss_named, metrics_named
from deepfm.interop.deepctr.rows import EncodedRows, Layout, read_labels
from deepfm.interop.deepctr.tables import TableView, table_views
from deepfm.models.base import evaluation_mode
from deepfm.models.layers.kernels import scoring_kernels
from deepfm.training.scoring import SCORING_ROWS
from deepfm.utils.logging import get_logger

log = get_logger(__name__)
HISTORY_ROWS = 512  # rows a forward pass of a model with histories, at least
DEFAULT_BATCH = 256


class BaseModel(nn.Module):
    """A model of feature columns; a subclass makes its parts and writes its formula in `_logits`.

    Args:
        linear_feature_columns, dnn_feature_columns: of the linear part, and of the interactions and the tower.
        l2_reg_linear, l2_reg_embedding: λ of λ·Σw² over the linear weights, and over the tables.
        init_std: of the tables.
        seed: of torch's generator, which is set here, and of the order of rows.
        task: `binary` or `regression`.
        device: where the model lives.
        gpus: None, or one GPU that `device` names.
        histories: names of the columns of several ids that stay unpooled.
        reads_fields: whether the model multiplies field embeddings with each other.

    Attributes:
        feature_index: name → the input's place where all stand side by side.
        columns: the tables.
        penalties: what the loss has beside that of the rows.
        history: of the last fit.
        stop_training: set by a callback, ends a fit after the epoch.

    Raises:
        ConfigError, SchemaError: columns or options that do not go together.
        DeviceError: the device is not there.
    """

    def __init__(
        self,
        linear_feature_columns: Sequence[FeatureColumn],
        dnn_feature_columns: Sequence[FeatureColumn],
        l2_reg_linear: float = 1e-5,
        l2_reg_embedding: float = 1e-5,
        init_std: float = 0.0001,
        seed: int = 1024,
        task: str = "binary",
        device: str | torch.device = "cpu",
        gpus: Sequence[Any] | None = None,
        histories: Sequence[str] = (),
        reads_fields: bool = True,
    ) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.torch_device = resolve_device(str(device))
        self.device, self.gpus, self.seed, self.task = device, gpus, seed, task
        _check_gpus(gpus, self.torch_device)
        self.linear_feature_columns, self.dnn_feature_columns = list(linear_feature_columns), list(dnn_feature_columns)
        self.layout = Layout(self.linear_feature_columns, self.dnn_feature_columns, histories)
        self.feature_index = self.layout.feature_index
        self.columns = ColumnEmbedding(
            self.linear_feature_columns, self.dnn_feature_columns, self.layout, histories, reads_fields
        )
        self.columns.reset_parameters(init_std)
        self.out = PredictionLayer(task)
        self.penalties: list[Penalty] = []
        self.add_regularization_weight(self.columns.table_parameters(), l2=l2_reg_embedding)
        self.add_regularization_weight(self.columns.linear_parameters(), l2=l2_reg_linear)
        self.history, self.stop_training = History(), False
        self._plan: Plan | None = None
        self._fits = 0

    @abstractmethod
    def _logits(self, views: Views, rows: EncodedRows) -> Tensor:
        """Logits `(B, 1)` without the bias."""

    def logits(self, rows: EncodedRows) -> Tensor:
        """Logits `(B, 1)` of encoded rows; of a regression, the predictions."""
        return self.out.logits(self._logits(self.columns(rows), rows))

    def predictions(self, logits: Tensor) -> Tensor:
        """Probabilities of logits of any shape; of a regression, the same."""
        return torch.sigmoid(logits) if self.task == "binary" else logits

    def forward(self, x: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Predictions `(B, 1)` of inputs: `{name: (B, …)}`, or all side by side `(B, Σ)`, as `feature_index` says.

        Ids in a float32 tensor are exact up to 2^24 only.
        """
        return self.predictions(self.logits(self.layout.encode_tensors(x)))

    def compile(self, optimizer: Any, loss: Any = None, metrics: Sequence[str] | None = None) -> None:
        """Say how the model is trained; not `torch.compile`.

        Args:
            optimizer: sgd, adam, adagrad or rmsprop with torch's own rates (SGD: 0.01), or a `torch.optim` instance.
            loss: binary_crossentropy, mse, mae, or a function of predictions, labels and `reduction="sum"`; None for
                the task's own.
            metrics: of auc, binary_crossentropy, logloss, mse, accuracy, acc.

        Raises:
            ConfigError: one of them is unknown, or does not go with the task.
        """
        plan = Plan(loss_named(loss, self.task), metrics_named(metrics, self.task))
        self.optim = make_optimizer(optimizer, parameter_groups(self, self.penalties), self.torch_device)
        self._plan = plan
        self.metrics, self.metrics_names = dict(plan.metrics), ["loss", *plan.metrics]

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int = 1,
        initial_epoch: int = 0,
        validation_split: float = 0.0,
        validation_data: Sequence[Any] | None = None,
        shuffle: bool = True,
        callbacks: Iterable[Callback] | None = None,
    ) -> History:
        """Train; a further fit goes on from the weights and the optimizer's state.

        Args:
            x: a dict or DataFrame of columns, or a list of arrays in the order of the inputs' names.
            y: labels `(N,)` or `(N, 1)`.
            batch_size: rows a step; None for 256.
            epochs: the number of the last epoch.
            verbose: 0 says nothing, 1 shows bars on a terminal and a line an epoch, 2 a line an epoch.
            initial_epoch: epochs that are done already.
            validation_split: the share of rows, the last, that are measured and not trained on.
            validation_data: `(x, y)` to measure instead.
            shuffle: whether each epoch has an order of its own.
            callbacks: told of each epoch.

        Returns:
            what was measured; `history.history` is name → values.

        Raises:
            DataError: an input or a label is missing, of another shape, or holds what it must not.
            ConfigError: the model is not compiled, or the options do not go together.
            TrainingError: the loss is no longer finite.
        """
        plan = self._compiled()
        size = DEFAULT_BATCH if batch_size is None else batch_size
        if size < 1:
            raise ConfigError(f"batch_size = {batch_size}; expected at least 1")
        plan = Plan(plan.loss, plan.metrics, size, shuffle, (self.seed % 2**63, self._fits))
        train, validation = self._split(self._labelled(x, y), validation_split, validation_data)
        listed = CallbackList([*(callbacks or ()), self.history])
        task = ColumnTask(self, plan, train, validation)
        self._fits, self.stop_training = self._fits + 1, False
        listed.set_model(self)
        listed.set_params({"batch_size": size, "epochs": epochs, "verbose": verbose, "metrics": list(plan.metrics)})
        if verbose:
            log.info("%s", self.torch_device)
            log.info("Train on %d samples, validate on %d samples, %d steps per epoch",
                     len(train), len(validation or ()), task.num_batches())  # fmt: skip
        report = EpochReport(self, listed, initial_epoch, epochs, verbose)
        settings = LoopSettings(num_epochs=max(0, epochs - initial_epoch), gradient_clip_norm=None)
        observers = [*progress_observers("", verbose != 1), report]
        try:
            fit(task, settings, device=self.torch_device, observers=observers, optimizer=self.optim)
        except TrainingError as error:
            what = str(error).split(";")[0]
            raise TrainingError(f"{what}; make the model anew with a lower learning rate, or check the data") from error
        listed.on_train_end()
        return self.history

    def evaluate(self, x: Any, y: Any, batch_size: int | None = DEFAULT_BATCH) -> dict[str, float]:
        """The compiled metrics of rows, as for `fit`; the batch size is of no effect on them."""
        return measure(self, self._compiled(), self._labelled(x, y))[1]

    def predict(self, x: Any, batch_size: int | None = DEFAULT_BATCH) -> NDArray[np.float64]:
        """Predictions `(N, 1)` of rows, as for `fit`; the batch size is of no effect on them."""
        logits = self.score(self.layout.encode(x), batch_size or DEFAULT_BATCH)
        return self.predictions(logits).unsqueeze(1).cpu().numpy().astype(np.float64)

    @torch.no_grad()
    def score(self, rows: EncodedRows, batch_size: int, on_progress: Progress = no_progress) -> Tensor:
        """Logits `(N,)` of encoded rows, in evaluation mode; the mode is left as it was."""
        size = max(batch_size, HISTORY_ROWS if self.columns.histories else SCORING_ROWS)
        bounds = list(pairwise([*range(0, len(rows), size), len(rows)]))
        parts = (rows.take(slice(start, end)) for start, end in bounds)
        found = []
        with evaluation_mode(self), scoring_kernels():
            for (ids, dense), (_, end) in zip(
                feed(((part.ids, part.dense) for part in parts), self.torch_device), bounds, strict=True
            ):
                found.append(self.logits(EncodedRows(ids, dense)).squeeze(1))
                on_progress(end, len(rows))
        return torch.cat(found)

    @property
    def embedding_dict(self) -> dict[str, TableView]:
        """embedding_name → its table; `.weight` is a view, row i of which is id i's."""
        return table_views(self.columns.dnn_columns, self.columns, linear=False)

    def add_regularization_weight(self, weight_list: nn.Parameter | Iterable[nn.Parameter], l2: float = 0.0) -> None:
        """Add λ·Σw² over some parameters to the loss.

        Raises:
            ConfigError: the model is compiled, and its optimizer knows the penalties that there were.
        """
        if getattr(self, "_plan", None) is not None:
            raise ConfigError(
                "add_regularization_weight comes after compile, which tells the optimizer of penalties; call it before"
            )
        weights = [weight_list] if isinstance(weight_list, nn.Parameter) else list(weight_list)
        if weights:
            self.penalties.append(Penalty(weights, l2))

    def get_regularization_loss(self) -> Tensor:
        """The penalties, a scalar without a gradient: the optimizer makes that."""
        found = [penalty.value() for penalty in self.penalties]
        return torch.stack(found).sum() if found else torch.zeros((), device=self.torch_device)

    def _tower(self, extra: int, hidden_units: Sequence[int], l2_reg: float, **options: Any) -> DNN | None:
        """The tower over the flat embeddings, `extra` values and the numbers; None where it has no layer or input."""
        width = self.columns.total_dim + extra + self.columns.dense_dim
        if not len(hidden_units) or not width:
            return None
        tower = DNN(width, hidden_units, **options)
        self.add_regularization_weight(tower.weights, l2=l2_reg)
        return tower

    def _compiled(self) -> Plan:
        if self._plan is None:
            raise ConfigError(
                f"{type(self).__name__} is not compiled; call compile(optimizer, loss, metrics) first, as in "
                'compile("adam", "binary_crossentropy")'
            )
        return self._plan

    def _labelled(self, x: Any, y: Any) -> Labelled:
        rows = self.layout.encode(x)
        return Labelled(rows, read_labels(y, len(rows), self.task == "binary"))

    def _split(
        self, data: Labelled, share: float, validation_data: Sequence[Any] | None
    ) -> tuple[Labelled, Labelled | None]:
        if validation_data:
            if len(validation_data) not in (2, 3):
                raise DataError(f"validation_data has {len(validation_data)} parts; expected (x, y)")
            if len(validation_data) == 3:
                log.warning("the sample weights in validation_data are not used")
            return data, self._labelled(*validation_data[:2])
        if not 0 <= share < 1:
            raise ConfigError(f"validation_split = {share}; expected a share from 0 to below 1")
        if not share:
            return data, None
        kept = int(len(data) * (1 - share))
        if not 0 < kept < len(data):
            raise DataError(
                f"validation_split = {share} of {len(data)} rows leaves {kept} to train and {len(data) - kept} to "
                "validate; expected some of each"
            )
        return data.part(slice(0, kept)), data.part(slice(kept, len(data)))


def _check_gpus(gpus: Sequence[Any] | None, device: torch.device) -> None:
    if not gpus:
        return
    if len(gpus) > 1:
        raise ConfigError(f"gpus = {list(gpus)} names {len(gpus)} devices; expected one, as a model is trained on one")
    if device.type != "cuda" or str(gpus[0]).removeprefix("cuda:") != str(device.index or 0):
        raise ConfigError(
            f"gpus = {list(gpus)} and device = {str(device)!r} differ; give device='cuda:{gpus[0]}' alone"
        )
