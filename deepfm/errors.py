"""The package's own errors.

Each message is one sentence for a person: the thing, the value, what was expected, what to do.
The command line prints it and exits with code 2.
"""


class DeepFMError(Exception):
    """Base of every error that the package raises on purpose."""


class ConfigError(DeepFMError):
    """A setting that does not exist, has the wrong type or is out of range."""


class DataError(DeepFMError):
    """Data that is missing, truncated, foreign or inconsistent."""


class SchemaError(DeepFMError):
    """An impossible schema, or data that does not fit its schema."""


class NotFittedError(DeepFMError):
    """A transform that was asked to transform before it was fitted."""


class CheckpointError(DeepFMError):
    """A checkpoint that is missing, damaged or belongs to another model."""


class RunError(DeepFMError):
    """A run's folder that cannot be read, or must not be written."""


class DeviceError(DeepFMError):
    """A device that was asked for by name and is not there."""


class TrainingError(DeepFMError):
    """Training that cannot go on, such as a loss that turned NaN."""


class AnalysisError(DeepFMError):
    """A model that cannot be analysed as it is given, or a report that cannot be read."""


class ExtraError(DeepFMError, ImportError):
    """A package that an extra of this one installs, and that is not here."""
