"""A click model as a scikit-learn classifier: `fit`, `predict_proba`, `clone`, `Pipeline`, `cross_val_score`."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import ArrayLike, NDArray

from deepfm.config import ExperimentConfig
from deepfm.data.dataset import TabularDataset
from deepfm.data.tables.encoder import TableEncoder
from deepfm.data.tables.frames import polars_frame
from deepfm.data.tables.schema import TableSchema
from deepfm.engine.settings import load_settings, nearest
from deepfm.errors import ConfigError, DeepFMError
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
FEWEST_BATCHES, SMALLEST_BATCH, LARGEST_BATCH = 100, 32, 4096  # an epoch of few rows still takes so many steps
RESERVED = {
    **{"seed": "use random_state", "model_name": "use model", "data": "use columns"},
    "output_dir": "leave it out, as nothing is written",
}


class CTRClassifier(ClassifierMixin, BaseEstimator):
    """Any registered model on a table with two classes.

    `X` is a DataFrame (pandas or polars), or an array of numbers. Columns of text, categories, booleans and whole
    numbers are ids, those of a floating-point type numbers. `columns` says otherwise.
    Columns are found by name; where `fit` or `predict` is given an array, by position.
    Rows held out of `fit`, a share of each class, decide the best epoch by log loss and teach nothing else; where a
    class has one row, the training rows do.

    Args:
        model: a name of `deepfm.models.MODELS`.
        columns: a frame's column by its name, or an array's by its position, → keys of
            `deepfm.data.tables.schema.TableColumn` such as `{"type": "sparse", "min_count": 2}`; columns left out are
            inferred.
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
        _require_order(y)
        with _one_sentence():
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
        held_out = _held_out(codes, self.validation_fraction, np.random.default_rng(seed))
        with _one_sentence():
            config = self._settings(len(table), seed)
            encoder = TableEncoder(self._schema(table, by_position=not hasattr(X, "columns")))
            encoder.fit(table.filter(~held_out).lazy(), "X")
            features = encoder.transform(table.lazy(), "X")
            with _console(self.verbose), torch.random.fork_rng():
                torch.manual_seed(seed)
                self.model_, self.n_iter_ = self._train(encoder, features, codes, held_out, config)
        self.encoder_ = encoder
        self._types, self._by_position = dict(table.schema), not hasattr(X, "columns")
        return self

    def decision_function(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Logits `(N,)` of the second class.

        Raises:
            ValueError: X cannot be used.
        """
        check_is_fitted(self)
        with _one_sentence():
            table, _ = self._validated(X)
            features = self.encoder_.transform(table.lazy(), "X")
            scores = score_rows(self.model_, TabularDataset(features, np.zeros(len(table), dtype=np.float32)))
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
            columns = {f"x{place}": pl.Series(array[:, place]) for place in range(array.shape[1])}
            return (pl.DataFrame(columns) if fitting else self._as_fitted(columns)), labels
        validate_data(self, X, y, reset=fitting, skip_check_array=True)
        if fitting:
            y = column_or_1d(y, warn=True)
            assert_all_finite(y, input_name="y")
            check_consistent_length(X, y)
        if not len(X):
            raise ValueError(f"Found array with 0 sample(s) (shape={X.shape}) while a minimum of 1 is required.")
        table = polars_frame(X)
        if not fitting and self._by_position:
            table = self._as_fitted(table.to_dict())
        return table, y if fitting else None

    def _as_fitted(self, columns: Mapping[str, pl.Series]) -> pl.DataFrame:
        """Columns under the names that `fit` saw, in its order; its booleans, 0 and 1 in an array, are such again."""
        renamed = {}
        for (name, kind), column in zip(self._types.items(), columns.values(), strict=True):
            flag = kind == pl.Boolean and column.dtype.is_numeric() and ((column == 0) | (column == 1)).all()
            renamed[name] = column.cast(pl.Boolean) if flag else column
        return pl.DataFrame(renamed)

    def _schema(self, table: pl.DataFrame, by_position: bool) -> TableSchema:
        given = {}
        described = {} if self.columns is None else self.columns
        if not isinstance(described, Mapping):
            raise ConfigError(f"columns = {described!r} describes no column; expected names with keys")
        for name, keys in described.items():
            place = f"x{name}" if by_position and isinstance(name, int | np.integer) else str(name)
            if place not in table.columns:
                known = f"expected 0 to {table.width - 1}" if by_position else nearest(place, table.columns)
                raise ConfigError(f"columns describes {name!r}, no column of X; {known}")
            if not isinstance(keys, Mapping):
                raise ConfigError(f"columns has {keys!r} for {name!r}; expected keys such as {{'type': 'sparse'}}")
            given[place] = _plain(keys)
        inferred = {
            name: {"type": "dense" if kind.is_float() or kind.is_decimal() else "sparse"} | given.get(name, {})
            for name, kind in table.schema.items()
        }
        return TableSchema.from_dict({"label": LABEL, "columns": inferred})

    def _settings(self, rows: int, seed: int) -> ExperimentConfig:
        batch = min(max(rows // FEWEST_BATCHES, SMALLEST_BATCH), LARGEST_BATCH)
        settings: dict[str, Any] = {"training.metric": "logloss", "training.batch_size": batch}
        for name, value in self._config.items():
            section = name.partition("__")[0]
            if section in RESERVED:
                raise ConfigError(f"{name} is not set here; {RESERVED[section]}")
            settings |= _dotted(name.replace("__", "."), _plain(value))
        own = {"model_name": _plain(self.model), "seed": seed}
        return load_settings(ExperimentConfig, defaults={**settings, **own})

    def _train(
        self,
        encoder: TableEncoder,
        features: dict[str, NDArray[Any]],
        codes: NDArray[np.int64],
        held_out: NDArray[np.bool_],
        config: ExperimentConfig,
    ) -> tuple[Any, int]:
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
    if not isinstance(fraction, Real) or not 0 <= fraction < 1:
        raise ValueError(
            f"validation_fraction = {fraction!r} is out of range; expected a number, at least 0 and below 1"
        )
    chosen = np.zeros(len(codes), dtype=bool)
    if not fraction or np.bincount(codes).min() < 2:
        return chosen
    for code in (0, 1):
        rows = np.flatnonzero(codes == code)
        count = min(max(1, round(fraction * len(rows))), len(rows) - 1)
        chosen[rng.choice(rows, count, replace=False)] = True
    return chosen


def _require_order(y: ArrayLike) -> None:
    """Refuse labels that numpy cannot sort: None, or texts among numbers."""
    labels = np.asarray(y)
    if labels.dtype.kind != "O":
        return
    try:
        np.unique(labels)
    except TypeError as error:
        types = ", ".join(sorted({type(label).__name__ for label in labels.ravel().tolist()}))
        raise ValueError(f"y holds labels of type {types}; expected numbers or texts, none missing") from error


def _plain(value: Any) -> Any:
    """A value with Python's own numbers and lists in place of numpy's."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(element) for key, element in value.items()}
    return [_plain(element) for element in value] if isinstance(value, list | tuple) else value


def _dotted(name: str, value: Any) -> dict[str, Any]:
    """A section given whole as its settings, so that it leaves others of the section as they are."""
    if not isinstance(value, Mapping):
        return {name: value}
    return {key: leaf for part, inner in value.items() for key, leaf in _dotted(f"{name}.{part}", inner).items()}


@contextmanager
def _one_sentence() -> Iterator[None]:
    """The package's errors as the ValueError that scikit-learn expects."""
    try:
        yield
    except DeepFMError as error:
        raise ValueError(str(error)) from error


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
