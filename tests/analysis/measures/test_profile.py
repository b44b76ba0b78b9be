"""Where a step's time goes."""

import time

import pytest
import torch
from torch import nn

from deepfm.analysis.batch import Batch
from deepfm.analysis.measures.profile import measure_profile
from tests.analysis.ranker import of, unchanged


def test_shares_add_up():
    subject = of(nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64)), torch.randn(32, 64))
    with unchanged(subject.model):
        profile = measure_profile(subject, steps=3)
    assert (profile.steps, profile.device_use) == (3, None)
    assert set(profile.shares) == {"forward", "backward", "optimizer", "other"}  # batches were there already
    assert sum(profile.shares.values()) == pytest.approx(1.0)
    assert all(share >= 0 for share in profile.shares.values())
    assert "addmm" in [operation.name for operation in profile.operations]


def test_waiting_for_data_is_seen():
    def slow():
        while True:
            time.sleep(0.2)
            yield Batch((torch.randn(4, 8),))

    profile = measure_profile(of(nn.Linear(8, 2), torch.randn(4, 8)), slow(), steps=2)
    assert profile.shares["data"] > 0.5
    assert profile.seconds > 2 * 0.2


def test_no_batch_is_said():
    assert "no batch" in measure_profile(of(nn.Linear(8, 2), torch.randn(4, 8)), []).skipped


def test_nothing_is_written_to_the_terminal(capfd):
    measure_profile(of(nn.Linear(8, 2), torch.randn(4, 8)), steps=1)
    assert capfd.readouterr() == ("", "")
