"""What users of a shelf found out themselves: outcomes that the next answer counts with."""

from pathlib import Path

import polars as pl

from deepfm.errors import DataError
from deepfm.model_selection.outcomes import FEEDBACK, Outcomes
from deepfm.model_selection.shelf import METRIC, Shelf


def add_feedback(folder: str | Path, model: str, dataset: str, value: float) -> Shelf:
    """Add what a model reached on a data set; several values of one pair are its seeds.

    Args:
        folder: the shelf.
        model: of its catalogue.
        dataset: the data set's name, as `recommend` called it.
        value: the accuracy, from 0 to 1.

    Raises:
        DataError: the model is unknown, the data set is a task of the shelf itself, or the value is no accuracy.
    """
    shelf = Shelf.open(folder)
    shelf.catalogue.row(model)
    if not 0 <= value <= 1:
        raise DataError(f"value = {value}; expected an accuracy from 0 to 1, such as 0.87")
    own = shelf.outcomes.rows.filter((pl.col("dataset") == dataset) & (pl.col("recipe").fill_null("") != FEEDBACK))
    if len(own):
        raise DataError(f"{dataset} is a task of the shelf itself, measured by its own recipe; name another data set")
    at = shelf.folder
    before = Outcomes.load(at.feedback) if at.feedback.exists() else None
    seed = 0
    if before is not None:
        pair = (pl.col("model") == model) & (pl.col("dataset") == dataset)
        seed = len(before.rows.filter(pair))
    row = pl.DataFrame(
        {
            **{"model": [model], "dataset": [dataset], "metric": [METRIC], "split": [None], "seed": [seed]},
            **{"recipe": [FEEDBACK], "value": [float(value)], "origin": ["measured"]},
        }
    )
    further = Outcomes(row)
    (further if before is None else before.joined(further)).save(at.feedback)
    return Shelf.open(folder)
