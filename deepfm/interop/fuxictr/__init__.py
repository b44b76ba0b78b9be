"""FuxiCTR's experiments, from its two YAML files to a configuration and a table schema."""

from deepfm.interop.fuxictr.reading import Experiment, read_experiment
from deepfm.interop.fuxictr.translate import Translation, translate

__all__ = ["Experiment", "Translation", "read_experiment", "translate"]
