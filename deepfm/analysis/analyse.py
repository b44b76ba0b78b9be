"""From a model and a batch to its report: every measure in turn, each on a copy, within a budget."""

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import nn

from deepfm.analysis.measures.counts import measure_counts
from deepfm.analysis.measures.flops import measure_flops
from deepfm.analysis.measures.flow import measure_flow
from deepfm.analysis.measures.gradcheck import measure_gradcheck
from deepfm.analysis.measures.invariances import measure_invariances
from deepfm.analysis.measures.io import measure_contract
from deepfm.analysis.measures.latency import measure_latency
from deepfm.analysis.measures.learning_rate import measure_learning_rates
from deepfm.analysis.measures.loss_scale import measure_loss_scale
from deepfm.analysis.measures.machine import measure_roofline
from deepfm.analysis.measures.memory import measure_memory
from deepfm.analysis.measures.noise import measure_noise
from deepfm.analysis.measures.overfit import measure_overfit
from deepfm.analysis.measures.parts import measure_parts
from deepfm.analysis.measures.precision import measure_precision
from deepfm.analysis.measures.profile import measure_profile
from deepfm.analysis.measures.proof import Proof, measure_proof
from deepfm.analysis.measures.quantization import measure_quantization
from deepfm.analysis.measures.rate_race import measure_rate_race
from deepfm.analysis.measures.scaling import measure_scaling
from deepfm.analysis.measures.start import measure_start
from deepfm.analysis.measures.updates import measure_updates
from deepfm.analysis.reasons import reason_of
from deepfm.analysis.recommendation import Recommendation, recommend, settle
from deepfm.analysis.report import About, Measurements, ModelReport
from deepfm.analysis.rules import judge
from deepfm.analysis.subject import Subject, make_subject
from deepfm.engine.loop_settings import LoopSettings
from deepfm.engine.memory import free_memory
from deepfm.errors import AnalysisError

SWITCHES = ("scaling", "precision", "quantize", "profile")
MEMORY_SHARE = 0.6  # of the free memory, that a step may take
BUDGET = 60.0  # seconds in all, by default
SHARES = {
    "latency": 0.11,
    "gradcheck": 0.07,
    "overfit": 0.1,
    "rates": 0.14,
    "race": 0.2,
    "proof": 0.2,
}  # of the budget, at most
T = TypeVar("T")
Watch = Callable[[str], None]


def analyze(
    model: nn.Module,
    batch: Any,
    loss: Any = None,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    name: str | None = None,
    batch_dim: int | None = None,
    budget: float = BUDGET,
    switches: tuple[str, ...] = (),
    on_stage: Watch = lambda _: None,
) -> ModelReport:
    """Measure a model and say what is wrong with it and how to train it; the model is left as it was.

    Args:
        model: any module.
        batch: one batch, or a list or an iterator of them (see `deepfm.analysis.subject.make_subject`).
        loss: a name such as `bce`, `ce` or `mse`, a function of output and target, `probe`, or None where the model's
            output is the loss.
        optimizer: the one that trains it, whose parameters are held against the model's.
        batch_dim: the dimension of rows.
        budget: seconds that the whole should take; measures that can be shorter are.
        switches: of `scaling`, `precision`, `quantize` and `profile`.
        on_stage: told what is measured next.

    Raises:
        AnalysisError: the model cannot be run on the batch, or there is no scalar loss.

    Example:
        >>> rows = torch.randn(64, 8), torch.rand(64).round()
        >>> report = analyze(nn.Linear(8, 1), [rows] * 3, "bce", budget=5)
        >>> report.assessment
        'STABLE'
    """
    subject = make_subject(model, batch, loss, optimizer=optimizer, name=name, batch_dim=batch_dim)
    return analyze_subject(subject, budget=budget, switches=switches, on_stage=on_stage)


def analyze_subject(
    subject: Subject,
    *,
    budget: float = BUDGET,
    switches: tuple[str, ...] = (),
    promises: Mapping[str, str] | None = None,
    dataset_rows: int | None = None,
    random_inputs: bool = False,
    trials: bool = True,
    on_stage: Watch = lambda _: None,
) -> ModelReport:
    """As `analyze`, of a subject that is ready.

    Args:
        promises: what the data say of an input, by its name.
        dataset_rows: how many rows an epoch has.
        random_inputs: whether the inputs were drawn at random, so that nothing can be learned from them.
        trials: whether the model is trained a little too, which takes most of the time; without, the report recommends
            nothing, and no rule of priority 1 is missing.
    """
    if unknown := [switch for switch in switches if switch not in SWITCHES]:
        raise AnalysisError(f"switch {unknown[0]!r} is unknown; expected {', '.join(SWITCHES)}")
    started = time.perf_counter()
    failed: dict[str, str] = {}

    def part(stage: str, measure: Callable[[], T]) -> T | None:
        """A measure that may fail without taking the report along."""
        on_stage(stage)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what the model has to say of itself was said in the first run
                return measure()
        except AnalysisError as error:
            failed[stage] = str(error)
        except Exception as error:  # a foreign model under a measure that it was not made for
            failed[stage] = reason_of(error)
        return None

    on_stage("gradient flow")
    flow = measure_flow(subject)
    on_stage("inputs and outputs")
    contract = measure_contract(subject, promises)
    about = About(
        subject.name,
        type(subject.model).__name__,
        subject.loss.name,
        subject.rows,
        len(subject.batches),
        str(subject.device),
        random_inputs,
        dataset_rows,
        tuple(subject.notes),
    )
    on_stage("parameters")
    counts = measure_counts(subject)
    on_stage("invariances")
    invariances = measure_invariances(subject)
    measured = Measurements(about, counts, contract, flow, measure_parts(subject), invariances)
    trains = trials and subject.loss.trains and not random_inputs
    measured = _cost(measured, subject, part, budget, switches, dataset_rows)
    measured = replace(measured, loss_scale=part("loss by rows", lambda: measure_loss_scale(subject)))
    measured = replace(
        measured,
        gradcheck=part("gradcheck", lambda: measure_gradcheck(subject, budget_seconds=SHARES["gradcheck"] * budget)),
        start=part("the first loss", lambda: measure_start(subject)),
    )
    recommendation: Recommendation | None = None
    proof: Proof | None = None
    if trains:
        measured, recommendation, proof = _training(measured, subject, part, budget)
    findings = judge(measured)
    seconds = round(time.perf_counter() - started, 1)
    measured = replace(measured, about=replace(about, seconds=seconds))
    return ModelReport(measured, findings, recommendation, proof, failed)


def _cost(
    measured: Measurements,
    subject: Subject,
    part: Callable[..., Any],
    budget: float,
    switches: tuple[str, ...],
    dataset_rows: int | None,
) -> Measurements:
    flops = part("FLOPs", lambda: measure_flops(subject))
    memory = part("memory", lambda: measure_memory(subject))
    latency = part("latency", lambda: measure_latency(subject, memory, budget=SHARES["latency"] * budget))
    step = None if latency is None else latency.step_at(subject.rows)
    roofline = None
    if flops is not None and memory is not None:
        roofline = part(
            "roofline",
            lambda: measure_roofline(
                subject, measured.counts, flops, memory, measured_step=step, dataset_rows=dataset_rows
            ),
        )
    peak = None if memory is None or memory.peak is None else memory.peak.total
    share = None if peak is None else peak / max(1, free_memory(subject.device))
    if "scaling" in switches and flops is not None and memory is not None:
        scaling = part("scaling", lambda: measure_scaling(subject, measured.counts, flops, memory, step_seconds=step))
        measured = replace(measured, scaling=scaling)
    if "precision" in switches:
        measured = replace(measured, precision=part("precision", lambda: measure_precision(subject)) or ())
    if "quantize" in switches:
        measured = replace(measured, quantization=part("quantisation", lambda: measure_quantization(subject)))
    if "profile" in switches:
        measured = replace(measured, profile=part("profile", lambda: measure_profile(subject, subject.loader)))
    return replace(measured, flops=flops, memory=memory, latency=latency, roofline=roofline, memory_share=share)


def _training(
    measured: Measurements, subject: Subject, part: Callable[..., Any], budget: float
) -> tuple[Measurements, Recommendation | None, Proof | None]:
    rates = part("learning rates", lambda: measure_learning_rates(subject, budget_seconds=SHARES["rates"] * budget))
    noise = part("gradient noise", lambda: measure_noise(subject, memory_rows=_rows_in_memory(measured, subject)))
    rate = LoopSettings.lr if rates is None or rates.suggestion is None else rates.suggestion
    updates = part("updates", lambda: measure_updates(subject, lr=rate))
    overfit = part("one batch", lambda: measure_overfit(subject, budget_seconds=SHARES["overfit"] * budget))
    measured = replace(measured, rates=rates, noise=noise, updates=updates, overfit=overfit)
    if rates is None or noise is None or measured.start is None or updates is None:
        return measured, None, None
    start = measured.start
    first = part("recommendation", lambda: recommend(subject, rates, noise, start, updates))
    if first is None:
        return measured, None, None
    race = part(
        "rates side by side",
        lambda: measure_rate_race(subject, rates, first.choice, budget_seconds=SHARES["race"] * budget),
    )
    measured = replace(measured, race=race)
    advice = part("recommendation", lambda: recommend(subject, rates, noise, start, updates, race))
    if advice is None:
        return measured, None, None
    proof = part("proof", lambda: measure_proof(subject, advice.choice, budget_seconds=SHARES["proof"] * budget))
    return measured, advice if proof is None else settle(advice, proof), proof


def _rows_in_memory(measured: Measurements, subject: Subject) -> int | None:
    """The most rows of which a training step takes no more than 60 % of the free memory; None where nobody knows."""
    memory = measured.memory
    if memory is None or memory.peak is None or not memory.per_row:
        return None
    fixed = memory.peak.parameters + memory.peak.gradients + memory.peak.optimizer
    return max(1, int((MEMORY_SHARE * free_memory(subject.device) - fixed) / memory.per_row))
