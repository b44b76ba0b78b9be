"""A data set as a set of tokens: one a class or one an image, with what is known of it as a whole."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepfm.errors import DataError
from deepfm.model_selection.tokens.encoder import TokenEncoder, checked_features_of


@dataclass(frozen=True)
class DatasetMeta:
    """What is known of a data set as a whole.

    Args:
        rows: n.
        classes: K, those without rows included.
        channels: C of the images.
        imbalance: rows of the largest class over those of the smallest that has any; 1 where all are alike.
        label_entropy: of the labels, in nats; log K where all classes are alike.
    """

    rows: int
    classes: int
    channels: int
    imbalance: float
    label_entropy: float

    @classmethod
    def of(cls, counts: NDArray[np.int64], channels: int) -> "DatasetMeta":
        """From the rows of each class, `(K,)`."""
        present = counts[counts > 0]
        shares = present / present.sum()
        entropy = max(float(-(shares * np.log(shares)).sum()), 0.0)
        return cls(int(present.sum()), len(counts), channels, float(present.max() / present.min()), entropy)


@dataclass(frozen=True, eq=False)
class DatasetTokens:
    """The tokens of a data set: a set, in no order, of any length.

    Args:
        tokens: `(C, F)`, float32; zeros where `mask` is False.
        mask: `(C,)`, True for a token, False for a place that holds none. Attention in torch takes its negation as
            `key_padding_mask`.
        counts: `(K,)`, int64, the rows of each class.
        meta: what is known of the data set as a whole.
        encoder: the name of what made the tokens.

    Raises:
        DataError: shapes or types that do not fit, values that are not finite, or no token at all.
    """

    tokens: NDArray[np.float32]
    mask: NDArray[np.bool_]
    counts: NDArray[np.int64]
    meta: DatasetMeta
    encoder: str

    def __post_init__(self) -> None:
        if self.tokens.ndim != 2 or self.tokens.dtype != np.float32 or not self.tokens.shape[1]:
            raise DataError(
                f"tokens have shape {self.tokens.shape} and type {self.tokens.dtype}; expected float32 (tokens, width)"
            )
        if self.mask.shape != self.tokens.shape[:1] or self.mask.dtype != np.bool_:
            raise DataError(
                f"the mask has shape {self.mask.shape}; expected a boolean for each of {len(self.tokens)} tokens"
            )
        if not self.mask.any():
            raise DataError("a data set has no token; expected one or more that the mask lets through")
        if not np.isfinite(self.tokens).all():
            raise DataError("tokens are not finite; expected numbers; look at the encoder's features")

    def __repr__(self) -> str:
        return f"DatasetTokens({self.mask.sum()} x {self.width} by {self.encoder}, {self.meta.rows} rows)"

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def width(self) -> int:
        """F."""
        return self.tokens.shape[1]


def class_tokens(
    rows: NDArray[np.float32], labels: NDArray[np.int64], encoder: TokenEncoder, *, classes: int | None = None
) -> DatasetTokens:
    """One token a class: the mean of its rows' features and their standard deviation, so that F is twice their width.

    Args:
        rows: `(n, C, H, W)` images from 0 to 1.
        labels: `(n,)`, classes from 0.
        encoder: what makes features of images.
        classes: K, where some have no rows: their tokens are masked; None for those that occur.

    Raises:
        DataError: no rows, labels that do not fit, or features that do not.
    """
    features, counts = _encoded(rows, labels, encoder, classes)
    of_class = np.zeros((len(counts), len(labels)))
    of_class[labels, np.arange(len(labels))] = 1 / np.maximum(counts, 1)[labels]
    wide = features.astype(np.float64)
    means = of_class @ wide
    spread = np.sqrt(of_class @ (wide - means[labels]) ** 2)
    tokens = np.concatenate([means, spread], axis=1, dtype=np.float32, casting="same_kind")
    return DatasetTokens(tokens, counts > 0, counts, DatasetMeta.of(counts, rows.shape[1]), encoder.name)


def image_tokens(
    rows: NDArray[np.float32], labels: NDArray[np.int64], encoder: TokenEncoder, *, classes: int | None = None
) -> DatasetTokens:
    """One token an image: its features, whatever its class.

    Args:
        rows: `(n, C, H, W)` images from 0 to 1.
        labels: `(n,)`, classes from 0; they are counted only.
        encoder: what makes features of images.
        classes: K, where some have no rows; None for those that occur.

    Raises:
        DataError: no rows, labels that do not fit, or features that do not.
    """
    features, counts = _encoded(rows, labels, encoder, classes)
    meta = DatasetMeta.of(counts, rows.shape[1])
    return DatasetTokens(features, np.ones(len(features), np.bool_), counts, meta, f"{encoder.name}-images")


def _encoded(
    rows: NDArray[np.float32], labels: NDArray[np.int64], encoder: TokenEncoder, classes: int | None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The features of each row, and the rows of each class."""
    if rows.ndim != 4 or not len(rows):
        raise DataError(f"rows have shape {rows.shape}; expected images (rows, channels, height, width), one or more")
    if labels.shape != rows.shape[:1] or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise DataError(
            f"labels have shape {labels.shape} and type {labels.dtype} for {len(rows)} rows; expected classes from 0, "
            "one a row"
        )
    if classes is not None and labels.max() >= classes:
        raise DataError(f"label {labels.max()} is not among {classes} classes; expected from 0 to {classes - 1}")
    features = checked_features_of(encoder.name, encoder.encode(rows), len(rows))
    counts = np.bincount(labels, minlength=classes or 0).astype(np.int64)
    return features.astype(np.float32, copy=False), counts
