"""Labelled images of a user: read from a folder or an `.npz`, brought to one size, split into shots."""

from deepfm.model_selection.images.labelled_rows import LabelledRows
from deepfm.model_selection.images.reading import read_dataset
from deepfm.model_selection.images.shots import split_shots

__all__ = ["LabelledRows", "read_dataset", "split_shots"]
