"""The section of how to train: each setting with its evidence, a block of YAML, and the proof."""

from deepfm.analysis.measures.proof import Proof
from deepfm.analysis.report import ModelReport
from deepfm.analysis.sections.words import figures, skipped, table, text
from deepfm.reporting import Block, Code, Figure, Note, Paragraph, line_plot


def training(report: ModelReport) -> list[Block]:
    """Settings, the curves that they come from, and the short runs that try them."""
    advice = report.recommendation
    if advice is None:
        return [skipped("How to train it", "its loss trains nothing, or the measures that it needs failed")]
    rows = [(line.name, line.value, line.why, line.evidence, line.source) for line in advice.lines]
    blocks: list[Block] = [
        table(("setting", "value", "justification", "evidence", "source"), rows),
        Code(advice.to_yaml(), "yaml"),
    ]
    if advice.fell_back:
        blocks.append(
            Note("The measured settings lost against the default in the proof, so the default stands.", "warning")
        )
    blocks += _rates(report)
    blocks += _noise(report)
    blocks += _proof(report)
    return blocks


def _rates(report: ModelReport) -> list[Block]:
    rates = report.measured.rates
    if rates is None or rates.skipped:
        return [skipped("The learning-rate range", None if rates is None else rates.skipped)]
    blocks: list[Block] = [
        figures(
            [
                (
                    "last stable learning rate",
                    rates.last_stable,
                    f"measured: {len(rates.curves)} seeds, {rates.optimizer}",
                ),
                ("steepest learning rate", rates.steepest, "measured"),
                ("suggestion", rates.suggestion, "derived: min(steepest, last stable / 10)"),
                ("over seeds, from", rates.suggestion_low, "derived"),
                ("over seeds, to", rates.suggestion_high, "derived"),
            ],
            rates.reason,
        )
    ]
    curves = {f"seed {curve.seed}": (curve.rates[: len(curve.smoothed)], curve.smoothed) for curve in rates.curves}
    if any(len(curve.smoothed) for curve in rates.curves):
        drawn = line_plot(
            curves, "Learning-rate range test", "learning rate", "smoothed loss", log_x=True, mark_x=rates.suggestion
        )
        blocks.append(Figure("Learning-rate range", drawn))
    race = report.measured.race
    if race is not None and race.chosen is not None:
        rows = list(zip(race.rates, race.losses, strict=True))
        caption = (
            f"measured: short runs of {race.steps} steps, judged on the last batch but one; chosen {text(race.chosen)}"
        )
        blocks.append(table(("learning rate", "loss"), rows, caption))
    return blocks


def _noise(report: ModelReport) -> list[Block]:
    noise = report.measured.noise
    if noise is None or noise.skipped:
        return [skipped("The gradient's noise scale", None if noise is None else noise.skipped)]
    resolved = "" if noise.resolved else noise.reason
    return [
        figures(
            [
                ("gradient noise scale, rows", noise.noise_scale, f"measured: {noise.method}, {noise.rows} rows"),
                ("from", noise.low, f"measured: bootstrap, {noise.level:.0%}"),
                ("to", noise.high, f"measured: bootstrap, {noise.level:.0%}"),
                ("rows needed to resolve it", noise.rows_needed if not noise.resolved else None, "derived"),
            ],
            resolved,
        )
    ]


def _proof(report: ModelReport) -> list[Block]:
    proof = report.proof
    if proof is None or proof.skipped or proof.recommended is None or proof.default is None:
        return [skipped("The proof", None if proof is None else proof.skipped)]
    rows = [
        (
            name,
            runs.choice.optimizer,
            runs.choice.lr,
            runs.choice.gradient_clip_norm,
            runs.mean,
            runs.deviation,
            runs.steps,
        )
        for name, runs in (("recommended", proof.recommended), ("default", proof.default))
    ]
    names = ("configuration", "optimizer", "lr", "clip", "loss", "± over seeds", "steps")
    where = f"measured: {proof.seeds} seeds of {proof.rows:,} rows each, evaluated on {proof.evaluated_on}"
    blocks: list[Block] = [
        table(names, rows, where),
        Paragraph(f"Verdict: {_verdict(proof)}."),
    ]
    curves = {
        name: (list(range(len(runs.curve))), runs.curve)
        for name, runs in (("recommended", proof.recommended), ("default", proof.default))
        if runs.curve
    }
    if curves:
        blocks.append(Figure("Proof", line_plot(curves, "Short runs, mean over seeds", "look", "loss")))
    return blocks


def _verdict(proof: Proof) -> str:
    beside = {"better": "better than", "worse": "worse than"}.get(proof.verdict or "", "no worse than")
    return f"{beside} the default (difference {proof.difference:.4g} ± {proof.standard_error:.2g})"
