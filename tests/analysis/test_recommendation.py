"""The advice loads as a configuration, pays against the default, and gives way where it does not."""

import dataclasses
import json
import math
from dataclasses import replace

import pytest
import torch
import yaml

from deepfm.analysis.measures.learning_rate import LearningRates, measure_learning_rates
from deepfm.analysis.measures.noise import NoiseScale, measure_noise
from deepfm.analysis.measures.proof import DEFAULT, TrainingChoice, compare, measure_proof
from deepfm.analysis.measures.start import Start, measure_start
from deepfm.analysis.measures.steps import BatchesTask, batch_order
from deepfm.analysis.measures.updates import Updates, measure_updates
from deepfm.analysis.recommendation import recommend, settle
from deepfm.analysis.subject import make_subject
from deepfm.config import load_config
from tests.analysis.checks import assert_plain, assert_untouched, healthy_subject
from tests.clicks import SCHEMA, clicks, model_of

pytestmark = pytest.mark.usefixtures("one_thread")
NOTHING = LearningRates("adam"), NoiseScale(), Start(), Updates("adam", 1e-3)


def advice(subject):
    rates = measure_learning_rates(subject)
    updates = measure_updates(subject, lr=rates.suggestion or 1e-3)
    return recommend(subject, rates, measure_noise(subject), measure_start(subject), updates)


@pytest.mark.parametrize("name", ["LSTM", "auto-encoder"])
def test_the_yaml_is_a_configuration(name, tmp_path):
    found = advice(healthy_subject(name))
    path = tmp_path / "advice.yaml"
    path.write_text(found.to_yaml())
    training = load_config(path).training
    for line in found.lines:
        if line.in_yaml:
            assert getattr(training, line.name) == line.value
    assert training.lr != DEFAULT.lr
    json.dumps(dataclasses.asdict(found))
    assert {line.source for line in found.lines} <= {"measured", "rule", "default"}
    assert all(line.why for line in found.lines)


@pytest.mark.parametrize("name", ["tower for clicks", "batch norm and dropout"])
def test_the_advice_is_no_worse_than_the_default(name):
    subject = healthy_subject(name)
    proof = measure_proof(subject, advice(subject).choice)
    assert proof.verdict in ("better", "no worse")
    assert proof.evaluated_on == "held-out last batch"
    assert len(proof.recommended.losses) == len(proof.default.losses) == 3
    assert proof.difference == pytest.approx(proof.recommended.mean - proof.default.mean)
    assert_plain(proof, {"verdict"})


def test_the_advice_pays_on_a_model_of_the_package():
    dataset = clicks(SCHEMA, rows=480)
    batches = []
    for start in range(0, 480, 120):
        features, labels = dataset.batch(torch.arange(start, start + 120))
        batches.append((dict(features), labels))
    subject = make_subject(model_of(), batches, "bce")
    found = advice(subject)
    proof = measure_proof(subject, found.choice, steps=60)
    assert proof.verdict == "better"
    assert found.line("loss").value == "bce"


def test_bad_advice_gives_way_to_the_default():
    subject = healthy_subject("tower for classes")
    found = advice(subject)
    bad = replace(found, choice=replace(found.choice, lr=1e-6))
    proof = measure_proof(subject, bad.choice, steps=36)
    assert proof.verdict == "worse"
    settled = settle(bad, proof)
    assert settled.fell_back
    assert settled.choice == DEFAULT
    assert settled.line("lr").value == DEFAULT.lr
    assert "lost against the default" in settled.line("lr").why
    assert yaml.safe_load(settled.to_yaml())["training"]["lr"] == DEFAULT.lr


def test_a_rate_that_diverges_is_worse():
    subject = healthy_subject("tower for amounts")
    proof = measure_proof(subject, TrainingChoice("sgd", 1e4, gradient_clip_norm=None), steps=24)
    assert proof.verdict == "worse"
    assert all(map(math.isfinite, proof.default.losses))


def test_differences_within_noise_are_none():
    assert compare([1.0, 1.2, 0.8], [1.0, 1.1, 0.9], 2.0)[2] == "no worse"
    assert compare([1.0, 1.1, 0.9], [2.0, 2.1, 1.9], 3.0)[2] == "better"
    assert compare([2.0, 2.1, 1.9], [1.0, 1.1, 0.9], 3.0)[2] == "worse"
    assert compare([1.001] * 3, [1.0] * 3, 1.5)[2] == "no worse"
    assert compare([math.inf] * 3, [1.0] * 3, 1.0)[2] == "worse"
    assert compare([1.0] * 3, [math.inf] * 3, 1.0)[2] == "better"


def test_one_batch_is_said_to_be_one():
    proof = measure_proof(healthy_subject("logistic regression", batches=1), DEFAULT, steps=24)
    assert "only one" in proof.evaluated_on
    assert proof.verdict == "no worse"
    assert proof.difference == 0.0


def test_smaller_batches_see_the_same_rows():
    proof = measure_proof(healthy_subject("logistic regression"), replace(DEFAULT, batch_rows=16), steps=24)
    assert proof.recommended.steps == 4 * proof.default.steps


def test_without_measurements_the_default_stands():
    found = recommend(healthy_subject("tower for clicks"), *NOTHING)
    assert found.choice == DEFAULT
    assert found.line("lr").source == "default"
    assert found.line("batch_size").value == 64
    assert yaml.safe_load(found.to_yaml())["training"]["gradient_clip_norm"] == 1.0


@pytest.mark.parametrize(
    ("noise", "rows", "memory", "expected"),
    [(1000.0, 1024, None, 1024), (1000.0, 1024, 256, 256), (8.0, 8, None, 64), (8.0, 8, 32, 32)],
)
def test_the_batch_follows_noise_and_memory(noise, rows, memory, expected):
    resolved = NoiseScale(
        "micro-batches", 512, 16, 1.0, noise, noise, noise / 2, noise * 2, resolved=True, batch_rows=rows,
        memory_rows=memory,
    )  # fmt: skip
    rates, _, start, updates = NOTHING
    found = recommend(healthy_subject("tower for clicks"), rates, resolved, start, updates)
    assert found.line("batch_size").value == expected


def test_clipping_follows_the_norms():
    rates, noise, start, _ = NOTHING
    subject = healthy_subject("tower for clicks")
    tame = Updates("adam", 1e-3, norms=(1.0,) * 30, norm_median=1.0, norm_p90=1.5, norm_max=2.0, spread=2.0)
    wild = replace(tame, norm_p90=4.26, norm_max=50.0, spread=50.0)
    assert recommend(subject, rates, noise, start, tame).choice.gradient_clip_norm is None
    assert recommend(subject, rates, noise, start, wild).choice.gradient_clip_norm == 4.3


def test_the_model_is_untouched():
    subject = healthy_subject("frozen backbone")
    proof = assert_untouched(subject, lambda it: measure_proof(it, TrainingChoice(lr=0.01), steps=24))
    assert proof.skipped is None


def test_parts_that_are_kept_in_evaluation_mode_stay_there():
    subject = healthy_subject("frozen backbone")
    subject.model.train()
    subject.model[0].eval()
    with subject.scratch(train=True) as model:
        task = BatchesTask(subject, model, subject.batches, 3)
        model.train()
        next(iter(task.batches(1)))
        assert not model[0][1].training
        assert model.training


def test_batches_come_in_an_order_of_the_seeds():
    assert sorted(batch_order(3, 6, seed=0)) == [0, 0, 1, 1, 2, 2]
    assert batch_order(8, 8, seed=0) == batch_order(8, 8, seed=0)
    assert batch_order(8, 8, seed=0) != batch_order(8, 8, seed=1)
