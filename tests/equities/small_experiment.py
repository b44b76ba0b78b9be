"""An experiment of seconds: a generated panel, two folds, two seeds."""

import shutil

from deepfm.engine.run import RunFolder
from deepfm.equities.panels.synthetic import SIGNALS, PlantedSettings

SIZES = PlantedSettings(num_sessions=210, num_stocks=24, **{**dict.fromkeys(SIGNALS, 0.0), "own": 0.4})
SMALL = (
    "device=cpu", "analysis_seconds=0", "seeds=[3, 4]", "data.sequence_length=6", "data.prediction_horizons=[1, 3]",
    "split.embargo=4",
    "data.features=[clv, ret1, vshock]", "split.n_splits=2", "split.test_sessions=25", "split.validation_sessions=12",
    "split.min_train=40", "model.hidden_size=8", "model.num_heads=2", "model.gat_heads=[2, 2]",
    "model.adaptive_normalization=off", "graph.min_correlation=0.2", "training.max_epochs=2", "training.batch_size=24",
    "evaluation.baselines=[ridge]", "training.learning_rate=0.02", "training.warmup_steps=0",
)  # fmt: skip


def copied(folder, place):
    """A copy that may be spoilt."""
    shutil.copytree(folder.path, place)
    return RunFolder(place)
