"""How to train the model: one line a setting with its reason and evidence, and the YAML that `deepfm train` takes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import yaml
from torch import nn

from deepfm.analysis.measures.learning_rate import LearningRates
from deepfm.analysis.measures.noise import NoiseScale
from deepfm.analysis.measures.proof import DEFAULT, Proof, TrainingChoice
from deepfm.analysis.measures.rate_race import RateRace
from deepfm.analysis.measures.start import Start
from deepfm.analysis.measures.updates import Updates
from deepfm.analysis.subject import Subject
from deepfm.engine.loop_settings import LoopSettings
from deepfm.engine.optim import BETAS, EPS

TAME = 3.0  # times the median: norms below it call for no clipping
TRANSFORMER_DECAY = 0.01
WARMUP_STEPS = 100
SPIKY_LR_SPREAD = 10.0  # of the suggestion over seeds, from which the first steps are taken slowly


@dataclass(frozen=True)
class Line:
    """One setting.

    Args:
        name: of `TrainingConfig` where it has one, else a word such as `betas`.
        value: a number, a text or None.
        why: the rule, in a sentence.
        evidence: the numbers.
        source: `measured`, `rule` or `default`.
        in_yaml: whether the YAML says it.
    """

    name: str
    value: float | int | str | None
    why: str
    evidence: str
    source: str
    in_yaml: bool = True


@dataclass(frozen=True)
class Recommendation:
    """All settings.

    Args:
        choice: the part of them that a proof can try.
        proven: the verdict of the proof; None before `settle`.
        fell_back: whether the proof went against the advice, so that the default stands.
    """

    lines: tuple[Line, ...]
    choice: TrainingChoice
    proven: str | None = None
    fell_back: bool = False

    SOURCES: ClassVar[dict[str, str]] = {
        "lines": "derived: each line says whether it is measured, a rule or a default",
        "choice": "derived: from the lines",
        "proven": "measured: short runs against the default configuration",
        "fell_back": "derived: from the proof",
    }

    def line(self, name: str) -> Line:
        """The line of a setting."""
        return next(line for line in self.lines if line.name == name)

    def to_yaml(self) -> str:
        """A `training:` block for `deepfm train`, each setting with the source of its value."""
        text = ["training:"]
        for line in self.lines:
            if line.in_yaml:
                value = yaml.safe_dump(line.value, default_flow_style=True).removesuffix("\n...\n").strip()
                text.append(f"  {line.name}: {value}  # {line.source}")
        return "\n".join(text) + "\n"


def recommend(
    subject: Subject,
    rates: LearningRates,
    noise: NoiseScale,
    start: Start,
    updates: Updates,
    race: RateRace | None = None,
) -> Recommendation:
    """Advice from the measures; what was not measured stays at the package's default and is said to."""
    attention = any(isinstance(part, nn.MultiheadAttention) for part in subject.model.modules())
    lines = [
        *_optimizer(attention),
        _learning_rate(rates, race),
        _scheduler(),
        _warm_up(attention, rates),
        _batch_size(subject, noise),
        _clipping(updates),
        _loss(start, subject),
    ]
    values: dict[str, Any] = {line.name: line.value for line in lines}
    choice = TrainingChoice(
        values["optimizer"],
        values["lr"],
        values["weight_decay"],
        values["gradient_clip_norm"],
        values["warmup_steps"],
        None,
    )
    return Recommendation(tuple(lines), choice)


def settle(recommendation: Recommendation, proof: Proof) -> Recommendation:
    """The advice if the proof bears it, else the default: it must pay."""
    if proof.verdict is None or proof.recommended is None or proof.default is None:
        return replace(recommendation, proven=None)
    if proof.verdict != "worse":
        return replace(recommendation, proven=proof.verdict)
    evidence = f"loss {_shown(proof.recommended.mean)} as measured, {_shown(proof.default.mean)} by default"
    tried: dict[str, float | str | None] = {
        "optimizer": DEFAULT.optimizer,
        "lr": DEFAULT.lr,
        "weight_decay": DEFAULT.weight_decay,
        "gradient_clip_norm": DEFAULT.gradient_clip_norm,
        "warmup_steps": DEFAULT.warmup_steps,
    }
    why = "the recommended configuration lost against the default in the proof, so the default stands"
    lines = tuple(
        replace(line, value=tried[line.name], why=why, evidence=evidence, source="default")
        if line.name in tried
        else line
        for line in recommendation.lines
    )
    return Recommendation(lines, DEFAULT, proof.verdict, True)


def _optimizer(attention: bool) -> Sequence[Line]:
    betas, eps = f"[{BETAS[0]}, {BETAS[1]}]", EPS
    fixed = (
        Line(
            "betas", betas, "Adam's own (Kingma and Ba, 2015), which the engine has no knob for", "", "default", False
        ),
        Line("eps", eps, "Adam's own, which the engine has no knob for", "", "default", False),
    )
    if attention:
        return (
            Line(
                "optimizer",
                "adamw",
                "attention is trained with decoupled decay (Loshchilov and Hutter, 2019)",
                "the model holds torch.nn.MultiheadAttention",
                "rule",
            ),
            Line("weight_decay", TRANSFORMER_DECAY, "torch's default for AdamW", "not measured", "rule"),
            *fixed,
        )
    return (
        Line(
            "optimizer",
            "adam",
            "adaptive steps need least tuning, and the rate below was measured with Adam",
            "",
            "rule",
        ),
        Line("weight_decay", 0.0, "no decay without a reason; tune it on validation", "not measured", "default"),
        *fixed,
    )


def _learning_rate(rates: LearningRates, race: RateRace | None) -> Line:
    if race is not None and race.chosen is not None and race.chosen != rates.suggestion:
        pairs = zip(race.rates, race.losses, strict=True)
        evidence = ", ".join(f"{_shown(rate)}: {_shown(loss)}" for rate, loss in pairs)
        return Line(
            "lr",
            _rounded(race.chosen),
            "the lowest loss of short runs at the rate of the range test (Smith, 2017), above it and by default",
            f"loss by rate, {race.steps} steps: {evidence}",
            "measured",
        )
    if rates.suggestion is None:
        return Line(
            "lr",
            LoopSettings.lr,
            "the range test gave no rate, so the default stands",
            rates.skipped or rates.reason,
            "default",
        )
    seeds = f"{len(rates.curves)} seed{'s' * (len(rates.curves) != 1)}"
    interval = f"{_shown(rates.suggestion_low)} to {_shown(rates.suggestion_high)} over {seeds}"
    return Line(
        "lr",
        _rounded(rates.suggestion),
        "min(steepest, last stable / 10) of the range test (Smith, 2017)",
        f"steepest {_shown(rates.steepest)}, last stable {_shown(rates.last_stable)}; {interval}",
        "measured",
    )


def _scheduler() -> Line:
    return Line(
        "scheduler",
        "reduce_on_plateau",
        "a cut where the validation metric stalls needs no length of training to be known",
        "not measured",
        "default",
    )


def _warm_up(attention: bool, rates: LearningRates) -> Line:
    low, high = rates.suggestion_low, rates.suggestion_high
    if attention:
        return Line(
            "warmup_steps",
            WARMUP_STEPS,
            "attention's first gradients are large (Xiong et al., 2020)",
            "the model holds torch.nn.MultiheadAttention",
            "rule",
        )
    if low is not None and high is not None and high > SPIKY_LR_SPREAD * low:
        evidence = f"suggestions from {_shown(low)} to {_shown(high)}"
        return Line(
            "warmup_steps", WARMUP_STEPS, "seeds disagree on the rate, so it rises slowly", evidence, "measured"
        )
    return Line("warmup_steps", 0, "no sign that the first steps need to be smaller", "", "default")


def _batch_size(subject: Subject, noise: NoiseScale) -> Line:
    given = subject.rows
    if not noise.resolved or noise.batch_rows is None:
        kept = given if noise.memory_rows is None else max(1, min(given, noise.memory_rows))
        reason = noise.skipped or noise.reason or "not measured"
        return Line("batch_size", kept, "the noise scale is not resolved, so the given batch stands", reason, "default")
    evidence = (
        f"noise scale {_shown(noise.noise_scale)} rows, {_shown(noise.low)} to {_shown(noise.high)} "
        f"({100 * noise.level:.0f} %), over {noise.rows} rows"
    )
    chosen = max(given, noise.batch_rows)
    if noise.memory_rows is not None:
        chosen = max(1, min(chosen, noise.memory_rows))
    if chosen <= given:
        why = (
            "rows beyond the noise scale save few steps (McCandlish et al., 2018); the given batch stands, as the "
            "scale grows while the loss falls and the learning rate was measured at it"
        )
        return Line("batch_size", chosen, why, evidence, "measured")
    why = f"the noise scale is above the given batch of {given} rows, at which rate and proof were measured"
    return Line("batch_size", chosen, why, evidence, "measured")


def _clipping(updates: Updates) -> Line:
    name, default = "gradient_clip_norm", LoopSettings.gradient_clip_norm
    if updates.spread is None or updates.norm_p90 is None:
        reason = updates.skipped or "not measured"
        return Line(name, default, "norms were not measured, so the default stands", reason, "default")
    evidence = (
        f"median {_shown(updates.norm_median)}, p90 {_shown(updates.norm_p90)}, max {_shown(updates.norm_max)} "
        f"in {len(updates.norms)} steps"
    )
    if updates.spread <= TAME:
        why = f"no norm is above {TAME:.0f} times the median, so there is nothing to clip"
        return Line(name, None, why, evidence, "measured")
    return Line(
        name,
        _rounded(updates.norm_p90),
        "the 90th percentile cuts the spikes and leaves the rest",
        evidence,
        "measured",
    )


def _loss(start: Start, subject: Subject) -> Line:
    name = subject.loss.name
    if start.kind == "bce":
        evidence = f"equals bce on the outputs; zero outputs lose {_shown(start.zero_loss)} (ln 2 = 0.6931)"
        return Line("loss", "bce", "binary cross-entropy on logits, which the labels are for", evidence, "measured")
    evidence = f"start {_shown(start.loss_eval)}, zero outputs {_shown(start.zero_loss)}"
    what = {"ce": "cross-entropy of logits over classes", "mse": "squared error"}.get(start.kind or "")
    why = f"{what}, as given" if what else "as given; it is none of the losses that this analyser knows by its numbers"
    return Line("loss", name, why, evidence, "measured" if what else "default", in_yaml=False)


def _rounded(value: float) -> float:
    """Two significant digits."""
    return float(f"{value:.1e}")


def _shown(value: float | None) -> str:
    return "not measured" if value is None or not math.isfinite(value) else f"{value:.3g}"
