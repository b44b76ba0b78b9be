"""Cases as the rules see them, without what costs time and decides nothing."""

import pytest
import torch

from deepfm.analysis.measures.counts import measure_counts
from deepfm.analysis.measures.flow import measure_flow
from deepfm.analysis.measures.invariances import measure_invariances
from deepfm.analysis.measures.io import measure_contract
from deepfm.analysis.measures.loss_scale import measure_loss_scale
from deepfm.analysis.measures.overfit import measure_overfit
from deepfm.analysis.measures.parts import measure_parts
from deepfm.analysis.measures.start import measure_start
from deepfm.analysis.report import About, Measurements
from deepfm.analysis.subject import make_subject


def subject_of(build):
    torch.manual_seed(0)
    case = build()
    return make_subject(case.model, case.batches, case.loss, optimizer=case.optimizer)


def examined(subject, *, learns=True):
    """What the rules read of a subject."""
    about = About(subject.name, "", subject.loss.name, subject.rows, len(subject.batches), "cpu", False, None, ())
    return Measurements(
        about,
        measure_counts(subject),
        measure_contract(subject),
        measure_flow(subject),
        measure_parts(subject),
        measure_invariances(subject),
        loss_scale=measure_loss_scale(subject),
        start=measure_start(subject),
        overfit=measure_overfit(subject, budget_seconds=60) if learns else None,
    )


@pytest.fixture(autouse=True)
def quiet(recwarn):
    """Faulty models warn of themselves."""
    yield
    recwarn.clear()
