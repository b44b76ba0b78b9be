"""The search for settings: trials on the validation split, and the winner alone on the test split.

Importing this package loads no Optuna; `deepfm.tuning.experiment`, which tunes, needs the extra `deepfm[tune]`.
"""

from deepfm.tuning.settings import PRUNERS, SAMPLERS, StudySettings, require_optuna
from deepfm.tuning.space import Space, build_space, load_space

__all__ = ["PRUNERS", "SAMPLERS", "Space", "StudySettings", "build_space", "load_space", "require_optuna"]
