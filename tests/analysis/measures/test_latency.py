"""Timings: what may be printed, what is refused, and in which order the figures stand."""

import pytest
import torch
from torch import nn

from deepfm.analysis.measures.latency import measure_latency, timing_of
from deepfm.analysis.measures.memory import measure_memory
from deepfm.analysis.subject import make_subject
from tests.analysis.ranker import of, unchanged

STEADY = [1.0, 1.0, 1.1, 0.9, 1.0]


def steady(run, seconds, threads):
    run()
    return STEADY


def subject_of(width=16):
    return of(nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 1)), torch.randn(4, 8))


def test_quartiles_by_hand():
    timing = timing_of(8, [4.0, 1.0, 2.0, 3.0, 5.0])
    assert (timing.median, timing.skipped[:8]) == (None, "unstable")  # quartiles 2 and 4 around 3
    timing = timing_of(8, [10.0, 11.0, 12.0, 13.0, 14.0])
    assert (timing.lower, timing.median, timing.upper, timing.runs) == (11.0, 12.0, 13.0, 5)
    assert timing.rows_per_second == 8 / 12
    assert timing.spread == pytest.approx(2 / 12)


def test_a_machine_that_is_not_steady_gets_no_figure():
    latency = measure_latency(subject_of(), rows=(1, 2), clock=lambda *_: [1.0, 1.0, 2.0, 3.0, 1.5])
    for timing in (*latency.forward, *latency.step):
        assert timing.median is timing.rows_per_second is None
        assert "unstable machine" in timing.skipped


def test_too_few_runs_get_no_figure():
    latency = measure_latency(subject_of(), rows=(1,), clock=lambda *_: [1.0, 1.0])
    assert "only 2 runs" in latency.forward[0].skipped


def test_what_memory_would_not_hold_is_skipped_with_the_reason():
    subject = subject_of()
    memory = measure_memory(subject)
    latency = measure_latency(subject, memory, rows=(1, 1024), clock=steady, free=int(memory.at(100)))
    small, large = latency.step
    assert small.median == 1.0
    assert large.median is None
    assert "activations" in large.skipped


def test_the_budget_is_kept():
    def slow(run, seconds, threads):
        spent.append(seconds)
        return STEADY

    spent = []
    measure_latency(subject_of(), rows=(1, 2, 3), clock=slow, budget=3.0)
    assert len(spent) == 6
    assert max(spent) <= 3.0
    latency = measure_latency(subject_of(), rows=(1,), clock=slow, budget=0.0)
    assert "budget" in latency.forward[0].skipped


def test_real_figures_are_ordered():
    subject = subject_of(width=64)
    with unchanged(subject.model):
        latency = measure_latency(subject, rows=(1, 4096), budget=3.0)
    assert latency.threads == torch.get_num_threads()
    for timing in (*latency.forward, *latency.step):
        assert (timing.median is None) == (timing.skipped is not None)
        if timing.median is not None:
            assert 0 < timing.lower <= timing.median <= timing.upper
            assert timing.rows_per_second == timing.rows / timing.median
    pairs = [(forward, step) for forward, step in zip(latency.forward, latency.step, strict=True)
             if forward.median and step.median]  # fmt: skip
    assert all(forward.median < step.median for forward, step in pairs)
    small, large = latency.step
    assert not (small.median and large.median) or small.rows_per_second < large.rows_per_second


def test_a_size_that_fails_says_why():
    subject = of(nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4)), torch.randn(4, 8))
    latency = measure_latency(subject, rows=(1, 4), clock=steady)
    assert "more than 1 value" in latency.step[0].skipped
    assert latency.forward[0].median == latency.step[1].median == 1.0
    assert latency.step_at(4) == 1.0
    assert latency.step_at(1) is None


def test_the_batch_of_the_model_is_timed_too():
    subject = make_subject(nn.Linear(4, 1), (torch.randn(48, 4), torch.zeros(48, 1)), "mse")
    found = measure_latency(subject, clock=steady)
    assert [timing.rows for timing in found.step] == [1, 32, 48, 1024]
    assert found.step_at(48) == 1.0
