"""A click model as a scikit-learn classifier: `fit`, `predict_proba`, `clone`, `Pipeline`, `cross_val_score`."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import ArrayLike, NDArray

from deepfm.config import ExperimentConfig
from deepfm.data.dataset import TabularDataset
from deepfm.data.table_encoder import TableEncoder
from deepfm.data.table_schema import TableSchema
from deepfm.engine.settings import build_settings, nearest
from deepfm.errors import DeepFMError
from deepfm.models import create_model
from deepfm.training.evaluation import score_rows
from deepfm.training.trainer import Trainer
from deepfm.utils.logging import ROOT

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import check_random_state, column_or_1d
    from sklearn.utils.multiclass import check_classification_targets, type_of_target
    from sklearn.utils.validation import assert_all_finite, check_consistent_length, check_is_fitted, validate_data
except ImportError as error:
    raise ImportError("deepfm.sklearn needs scikit-learn 1.6 or newer; pip install 'deepfm[sklearn]'") from error

LABEL = "the label of a row"  # what the table schema calls y, which is no column of X
FEWEST_BATCHES, SMALLEST_BATCH, LARGEST_BATCH = 20, 32, 4096  # an epoch of few rows still takes so many steps
RESERVED = {"seed": "random_state", "model_name": "model", "data": "columns", "output_dir": "nothing"}


class CTRClassifier(ClassifierMixin, BaseEstimator):
    """Any registered model on a table with two classes.

    `X` is a DataFrame (pandas or polars), or an array of numbers. A DataFrame's columns of text, categories, booleans
    and whole numbers are ids, those of fractions numbers; an array's columns are numbers. `columns` says otherwise.
    Rows held out of `fit`, as many of each class as there are, decide the best epoch by log loss; where a class has
    one row, the training rows do.

    Args:
        model: a name of `deepfm.models.MODELS`.
        columns: a column's name, or its position in an array, → keys of `deepfm.data.table_schema.TableColumn` such as
            `{"type": "sparse", "min_count": 2}`; columns left out are inferred.
        validation_fraction: of the rows, held out to find the best epoch; 0 for none.
        random_state: what the held-out rows, weights, row order and dropout depend on.
        verbose: whether a line is printed an epoch.
        config: settings of `deepfm.config.ExperimentConfig`, sections joined by two underscores, such as
            `training__lr=0.01` or `dnn__hidden_units=(64, 32)`. `training__batch_size` follows the number of rows where
            it is left out.

    Attributes:
        classes_: `(2,)` the labels; column 1 of `predict_proba` is the second's.
        n_features_in_, feature_names_in_: the columns that `fit` saw; names where all are text.
        model_: the trained model.
        encoder_: the fitted `TableEncoder`.
        n_iter_: epochs trained.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> X = rng.random((200, 2))
        >>> y = X[:, 0] > X[:, 1]
        >>> CTRClassifier(training__num_epochs=1, random_state=0).fit(X, y).predict_proba(X).shape
        (200, 2)
    """

    def __init__(
        self,
        model: str = "deepfm",
        *,
        columns: Mapping[str | int, Mapping[str, Any]] | None = None,
        validation_fraction: float = 0.1,
        random_state: Any = None,
        verbose: bool = False,
        **config: Any,
    ) -> None:
        self.model = model
        self.columns = columns
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.verbose = verbose
        self._config = config

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """All parameters, those of the configuration among them."""
        return {**super().get_params(deep=deep), **self._config}

    def set_params(self, **params: Any) -> "CTRClassifier":
        """Set parameters; a name with two underscores is a setting of the configuration, checked by `fit`.

        Raises:
            ValueError: a name that is no parameter.
        """
        own = super().get_params(deep=False)
        for name, value in params.items():
            if name in own:
                setattr(self, name, value)
            elif name in self._config or "__" in name or name == "device":
                self._config[name] = value
            else:
                raise ValueError(
                    f"Invalid parameter {name!r} for estimator {type(self).__name__}; {nearest(name, list(own))}"
                )
        return self

    def fit(self, X: Any, y: ArrayLike) -> "CTRClassifier":  # noqa: N803 - scikit-learn's name
        """Train to the best held-out log loss.

        Args:
            X: `(N, K)`.
            y: `(N,)` of two classes.

        Raises:
            ValueError: X or y cannot be used, or a setting is wrong.
        """
        table, labels = self._validated(X, y)
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) != 2:
            if len(self.classes_) > 2:
                raise ValueError(
                    f"Only binary classification is supported. The type of the target is {type_of_target(labels)}."
                )
            raise ValueError(f"y holds one class, {str(self.classes_[0])!r}; expected two")
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        try:
            config = self._settings(len(table), seed)
            encoder = TableEncoder(self._schema(table)).fit(table.lazy(), "X")
            features = encoder.transform(table.lazy(), "X")
            with _console(self.verbose), torch.random.fork_rng():
                torch.manual_seed(seed)
                self.model_, self.n_iter_ = self._train(encoder, features, codes, config)
        except DeepFMError as error:
            raise ValueError(str(error)) from error
        self.encoder_ = encoder
        return self

    def decision_function(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Logits `(N,)` of the second class.

        Raises:
            ValueError: X cannot be used.
        """
        check_is_fitted(self)
        table, _ = self._validated(X)
        try:
            features = self.encoder_.transform(table.lazy(), "X")
            scores = score_rows(self.model_, TabularDataset(features, np.zeros(len(table), dtype=np.float32)))
        except DeepFMError as error:
            raise ValueError(str(error)) from error
        return scores.astype(np.float64)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Probabilities `(N, 2)` of the two classes, in the order of `classes_`."""
        logits = torch.from_numpy(self.decision_function(X))
        calibration = self.model_.calibration
        second = (torch.sigmoid(logits) if calibration is None else calibration(logits)).numpy()
        return np.stack([1.0 - second, second], axis=1)

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """The likelier class `(N,)`."""
        second = self.predict_proba(X)[:, 1] > 0.5
        likelier: NDArray[Any] = self.classes_[second.astype(np.int64)]
        return likelier

    def __sklearn_tags__(self) -> Any:
        """Two classes, no missing values."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def _validated(self, X: Any, y: Any = "no_validation") -> tuple[pl.DataFrame, Any]:  # noqa: N803
        """X as a polars frame, and y as an array, held to what scikit-learn asks of both."""
        fitting = not (isinstance(y, str) and y == "no_validation")
        if not hasattr(X, "columns"):
            checked = validate_data(self, X, y, reset=fitting, dtype="numeric")
            array, labels = checked if fitting else (checked, None)
            names = [f"x{number}" for number in range(array.shape[1])]
            return pl.DataFrame({name: array[:, place] for place, name in enumerate(names)}), labels
        validate_data(self, X, y, reset=fitting, skip_check_array=True)
        if fitting:
            y = column_or_1d(y, warn=True)
            assert_all_finite(y, input_name="y")
            check_consistent_length(X, y)
        if not len(X):
            raise ValueError(f"Found array with 0 sample(s) (shape={X.shape}) while a minimum of 1 is required.")
        return _frame(X), y if fitting else None

    def _schema(self, table: pl.DataFrame) -> TableSchema:
        given = {
            table.columns[name] if isinstance(name, int) and name < len(table.columns) else name: dict(keys)
            for name, keys in (self.columns or {}).items()
        }
        for name in given:
            if name not in table.columns:
                raise ValueError(f"columns describes {name!r}, no column of X; {nearest(str(name), table.columns)}")
        inferred = {
            name: {"type": "dense" if kind.is_float() else "sparse"} | given.get(name, {})
            for name, kind in table.schema.items()
        }
        return TableSchema.from_dict({"label": LABEL, "columns": inferred})

    def _settings(self, rows: int, seed: int) -> ExperimentConfig:
        batch = min(max(rows // FEWEST_BATCHES, SMALLEST_BATCH), LARGEST_BATCH)
        training: dict[str, Any] = {"metric": "logloss", "batch_size": batch}
        tree: dict[str, Any] = {"training": training}
        for name, value in self._config.items():
            section, *rest = name.split("__")
            if section in RESERVED:
                raise ValueError(f"{name} is not set here; use {RESERVED[section]}")
            place = tree
            for key in (section, *rest[:-1]) if rest else ():
                place = place.setdefault(key, {})
            place[rest[-1] if rest else section] = value
        return build_settings(ExperimentConfig, {**tree, "model_name": self.model, "seed": seed})

    def _train(
        self,
        encoder: TableEncoder,
        features: dict[str, NDArray[Any]],
        codes: NDArray[np.int64],
        config: ExperimentConfig,
    ) -> tuple[Any, int]:
        held_out = _held_out(codes, self.validation_fraction, np.random.default_rng(config.seed))
        train, validation = (
            TabularDataset({name: column[rows] for name, column in features.items()}, codes[rows].astype(np.float32))
            for rows in (~held_out, held_out if held_out.any() else ~held_out)
        )
        schema = encoder.dataset_schema()
        model = create_model(config.model_name, schema, config)
        trainer = Trainer(model, schema, config, train, validation, validation)
        return model, trainer.train().epoch


def _held_out(codes: NDArray[np.int64], fraction: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which rows `(N,)` find the best epoch: of each class the fraction, one at least; none where a class has one."""
    if not 0 <= fraction < 1:
        raise ValueError(f"validation_fraction = {fraction} is out of range; expected at least 0 and below 1")
    chosen = np.zeros(len(codes), dtype=bool)
    if not fraction or np.bincount(codes).min() < 2:
        return chosen
    for code in (0, 1):
        rows = np.flatnonzero(codes == code)
        count = min(max(1, round(fraction * len(rows))), len(rows) - 1)
        chosen[rng.choice(rows, count, replace=False)] = True
    return chosen


def _frame(X: Any) -> pl.DataFrame:  # noqa: N803
    """A pandas or polars frame as a polars one, its columns' names as text; missing values are null."""
    if isinstance(X, pl.DataFrame):
        return X
    columns = {}
    for place, name in enumerate(X.columns):
        column = X.iloc[:, place]
        values = column.to_numpy()
        if values.dtype.kind not in "fiub":  # objects, texts, categories, dates
            values = pl.Series(str(name), column.astype(object).where(column.notna(), None).tolist(), strict=False)
            values = values.cast(pl.String) if not values.dtype.is_nested() else values
        columns[str(name)] = values
    if len(columns) != X.shape[1]:
        raise ValueError(f"X has columns of the same name: {sorted(map(str, X.columns))}; give each one of its own")
    return pl.DataFrame(columns)


@contextmanager
def _console(verbose: bool) -> Iterator[None]:
    """Only warnings are printed for a while, unless more is wanted."""
    logger = logging.getLogger(ROOT)
    level = logger.level
    logger.setLevel(level if verbose else logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
