"""A generated panel and a small experiment on it: from nothing to a report in less than a minute."""

from pathlib import Path

from deepfm.engine.run import RunFolder
from deepfm.equities.panels.files import save_panel
from deepfm.equities.panels.synthetic import PlantedSettings, planted_panel
from deepfm.equities.settings import EquitiesSettings, load_equities

PANEL = "panel.parquet"
PLANTED = PlantedSettings(
    num_sessions=320, num_stocks=50, own=0.3, spill_over=0.0, interaction=0.0, day_wide=0.0, hidden=0.0
)
SETTINGS = (
    "device=cpu",
    "analysis_seconds=1",
    "data.sequence_length=10",
    "data.prediction_horizons=[1, 5]",
    "data.features=[ret1, ret5, ret20, clv, intra, vshock, range, vol20]",
    "split.n_splits=2",
    "split.test_sessions=50",
    "split.validation_sessions=30",
    "split.min_train=60",
    "model.hidden_size=16",
    "model.num_heads=2",
    "model.gat_heads=[2, 2]",
    "training.max_epochs=4",
    "training.warmup_steps=10",
    "training.learning_rate=0.003",
    "evaluation.baselines=[reversal 5, momentum 20, ridge]",
)


def prepare_smoke(folder: str | Path, seed: int = 0) -> tuple[RunFolder, EquitiesSettings]:
    """Write a generated panel, and give the folder and the settings of an experiment on it.

    The place of the close between low and high predicts the return that begins a session later, so that RankIC is far
    from what any real panel has.

    Raises:
        RunError: the folder cannot be written.
    """
    place = Path(folder)
    panel = place.parent / f"{place.name}-{PANEL}"  # a run's folder takes no table
    save_panel(planted_panel(PLANTED, seed).panel, panel)
    return RunFolder(place), load_equities(None, [*SETTINGS, f"data.path={panel}", f"seeds=[{seed}]"])
