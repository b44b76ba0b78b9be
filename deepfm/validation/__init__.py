"""Whether data and models are sound, found out in minutes: shapes, step 0, one batch by heart, brief training."""

from deepfm.validation.experiment import validate, validate_experiment
from deepfm.validation.report import Finding, ModelReport, ValidationReport
from deepfm.validation.rows import hold_out, load_rows
from deepfm.validation.sources import DEFAULT_MODELS, import_model
from deepfm.validation.text import print_report

__all__ = [
    "DEFAULT_MODELS",
    "Finding",
    "ModelReport",
    "ValidationReport",
    "hold_out",
    "import_model",
    "load_rows",
    "print_report",
    "validate",
    "validate_experiment",
]
