"""The analyser's look at both networks before they are trained."""

import numpy as np
import pytest
import torch
from torch import nn

from deepfm.analysis import analyse
from deepfm.errors import AnalysisError
from deepfm.model_selection.examine import examine, examine_autoencoder, examine_ranker
from deepfm.model_selection.losses import RankingLoss
from deepfm.model_selection.network_settings import AutoEncoderSettings, RankerSettings
from deepfm.model_selection.ranking_lists import RankingList


@pytest.fixture(autouse=True)
def _no_proof(monkeypatch):
    """Findings do not depend on the trial of the advised rate, which takes a third of the time."""

    def skip(*_, **__):
        raise AnalysisError("left out")

    monkeypatch.setattr(analyse, "measure_proof", skip)


def lists():
    draw = np.random.default_rng(0)
    models = draw.normal(size=(24, 20)).astype(np.float32)
    return [
        RankingList(str(at), draw.normal(size=(2 + at % 4, 16)).astype(np.float32), models, draw.random(24))
        for at in range(8)
    ]


def test_the_ranker_has_no_critical_risk():
    report = examine_ranker(lists(), RankerSettings(hidden_size=16, num_layers=1), budget=0.5)
    assert report.assessment in ("STABLE", "CAUTION")
    assert set(report.failed) == {"proof"}


def test_the_auto_encoder_has_no_critical_risk():
    source = torch.Generator().manual_seed(0)
    networks = [
        {f"{at}.weight": torch.randn(5, 5, generator=source) for at in range(1 + number % 3)} for number in range(24)
    ]
    report = examine_autoencoder(networks, AutoEncoderSettings(hidden_size=16, code_size=16), budget=0.5)
    assert report.assessment in ("STABLE", "CAUTION")
    assert set(report.failed) == {"proof"}


def test_a_critical_risk_stops():
    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, rows):
            return self.last(self.first(rows).detach())

    batches = [(torch.randn(8, 4), torch.randn(8, 3)) for _ in range(2)]
    with pytest.raises(AnalysisError, match=r"was not trained: .* gets no gradient"):
        examine(Cut(), batches, RankingLoss(), budget=1)
