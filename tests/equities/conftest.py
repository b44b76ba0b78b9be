"""One small experiment, trained once for all files that look at it; whoever changes something takes a copy."""

import pytest

from deepfm.engine.device import single_thread
from deepfm.engine.run import RunFolder
from deepfm.equities.experiment import walk
from deepfm.equities.panels.files import save_panel
from deepfm.equities.panels.synthetic import planted_panel
from deepfm.equities.settings import load_equities
from deepfm.reporting import Document
from tests.equities.small_experiment import SIZES, SMALL


@pytest.fixture(scope="session")
def panel_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("panel") / "panel.parquet"
    save_panel(planted_panel(SIZES, 5).panel, path)
    return path


@pytest.fixture(scope="session")
def settings(panel_file):
    return load_equities(None, [*SMALL, f"data.path={panel_file}", "training.checkpoint_batches=4"])


@pytest.fixture(scope="session")
def trained(settings, tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("trained") / "mine")
    with single_thread(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(walk, "build_report", lambda *_: Document("report", "", []))
        results = walk.run_experiment(settings, folder)
    return folder, results
