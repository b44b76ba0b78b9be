"""What the rules look for: each check gives the priority, the place, the state and the measured value it found."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deepfm.analysis.report import Measurements

CRITICAL, IMPORTANT = 1, 2
ROWS_TO_JUDGE = 32  # fewer say nothing of a unit that gave 0 for all of them
Found = Iterator[tuple[int, str, str, float | str]]
"""Priority, place, current state and the measured value of each thing that a rule has to say."""


def _share(level: float, high: float, share: float) -> int | None:
    return CRITICAL if share > high else IMPORTANT if share > level else None


def _group(names: tuple[str, ...]) -> str:
    """Parameters by the modules that hold all of them: `head.weight, head.bias` is `head`."""
    owners = list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))
    return ", ".join(owners[:6]) + (f" and {len(owners) - 6} more" if len(owners) > 6 else "")


def unreached(m: "Measurements") -> Found:
    """Trainable parameters that no batch's loss reaches."""
    if m.flow.unreached:
        share = f"{len(m.flow.unreached)} of {m.flow.trainable} trainable parameters"
        yield CRITICAL, _group(m.flow.unreached), f"{share} never get a gradient", len(m.flow.unreached)


def cuts(m: "Measurements") -> Found:
    """Calls that cut the graph, where nothing else reaches what is behind them."""
    unreached = set(m.flow.unreached)
    for event in m.flow.events:
        if event.kind == "cut" and event.upstream and event.upstream <= unreached:
            behind = _group(tuple(sorted(event.upstream)))
            yield (
                CRITICAL,
                event.place,
                f"{event.what} cuts the graph, and {behind} behind it gets no gradient",
                event.what,
            )


def steps(m: "Measurements") -> Found:
    """Functions whose derivative is 0, where nothing else reaches what is behind them."""
    zero = set(m.flow.zero)
    for event in m.flow.events:
        if event.kind == "step" and event.upstream and event.upstream <= zero:
            behind = _group(tuple(sorted(event.upstream)))
            yield CRITICAL, event.place, f"{event.what} has the derivative 0, and so has all behind it: {behind}", 0.0


def unregistered(m: "Measurements") -> Found:
    """Trained tensors that `parameters()` does not list."""
    for place in m.flow.unregistered:
        yield CRITICAL, place, "the loss reaches tensors here that parameters() does not list", place


def output_not_finite(m: "Measurements") -> Found:
    """NaN and infinity in outputs."""
    if not m.flow.output_finite:
        yield CRITICAL, "output", "outputs hold NaN or infinity", "NaN or inf"


def gradient_not_finite(m: "Measurements") -> Found:
    """NaN and infinity in gradients."""
    if m.flow.not_finite:
        yield CRITICAL, _group(m.flow.not_finite), "the gradient is NaN or infinite", len(m.flow.not_finite)


def vanishing(m: "Measurements") -> Found:
    """Gradients that fade on their way back."""
    rates = [layer.output_gradient for layer in m.flow.layers if layer.output_gradient is not None]
    if len(rates) > 2 and max(rates) > 0 and rates[0] < 1e-4 * max(rates):
        ratio = rates[0] / max(rates)
        yield CRITICAL, m.flow.layers[0].name, f"the gradient falls to {ratio:.1e} of its largest on the way", ratio


def exploding(m: "Measurements") -> Found:
    """Gradients that grow on their way back."""
    rates = [layer.output_gradient for layer in m.flow.layers if layer.output_gradient]
    if len(rates) > 2:
        low = sorted(rates)[len(rates) // 4]  # not the least: a branch that counts little is no fault
        ratio = rates[0] / low
    if len(rates) > 2 and ratio > 1e3:
        yield CRITICAL, m.flow.layers[0].name, f"the gradient grows {ratio:.1e} times on the way back", ratio


def dead(m: "Measurements") -> Found:
    """ReLUs whose units give 0 for every row; of a few rows that is no wonder."""
    if m.about.rows * m.flow.batches < ROWS_TO_JUDGE:
        return
    for unit in m.flow.units:
        if unit.kind == "relu" and (priority := _share(0.5, 0.9, unit.share)):
            yield priority, unit.place or "the model", f"{unit.share:.0%} of units gave 0 for every row", unit.share


def saturated(m: "Measurements") -> Found:
    """Sigmoids, tanhs and softmaxes at an end of their range."""
    for unit in m.flow.units:
        if unit.kind != "relu" and (priority := _share(0.5, 0.9, unit.share)):
            state = f"{unit.share:.0%} of the {unit.kind}'s outputs are at an end of its range"
            yield priority, unit.place or "the model", state, unit.share


def identical(m: "Measurements") -> Found:
    """Units with the weights of another one."""
    for name, share in m.parts.identical.items():
        if share > 0.5:
            yield CRITICAL, name, f"{share:.0%} of its units have the weights of another one", share


def loss_at_start(m: "Measurements") -> Found:
    """A first loss far above that of an output of 0."""
    start = m.start
    if start is None or start.ratio is None or start.loss_eval is None or start.kind is None:
        return
    last = m.flow.layers[-1].name if m.flow.layers else "output"
    state = f"the loss begins at {start.loss_eval:.4g}; an output of 0 has {start.expected:.4g}"
    if start.ratio > 3:
        yield CRITICAL, last, state, start.ratio
    elif start.ratio > 1.75:
        yield IMPORTANT, last, state, start.ratio


def collapsed(m: "Measurements") -> Found:
    """Outputs that are the same for all rows."""
    spread = m.flow.output_deviation
    if spread is not None and spread < 1e-7 and m.flow.output_finite:
        yield CRITICAL, "output", f"all rows get the same output (deviation {spread:.1e})", spread


def mask(m: "Measurements") -> Found:
    """Masks that hide nothing."""
    for one in m.invariances.get("padding"):
        if one.holds is False and one.difference is not None:
            state = f"other values in what it hides change the output by {one.difference:.2g} of its spread"
            yield CRITICAL, one.place, state, one.difference


def rows(m: "Measurements") -> Found:
    """Outputs that depend on the rows beside."""
    for one in m.invariances.get("independence of rows"):
        if one.holds is False and one.difference is not None:
            state = (
                f"in evaluation mode other rows beside it change a row's output by {one.difference:.2g} of the spread"
            )
            yield CRITICAL, "output", state, one.difference


def random(m: "Measurements") -> Found:
    """Chance in evaluation mode."""
    for one in m.invariances.get("determinism"):
        if one.holds is False and one.difference is not None and not m.flow.written:
            yield (
                CRITICAL,
                "output",
                f"two runs in evaluation mode differ by {one.difference:.2g} of the spread",
                one.difference,
            )


def written(m: "Measurements") -> Found:
    """Forward passes that change parameters."""
    if m.flow.written:
        yield CRITICAL, ", ".join(m.flow.written), "a forward pass changes the parameter", len(m.flow.written)


def norms(m: "Measurements") -> Found:
    """Batch normalisation over few rows."""
    rows = {norm.rows for norm in m.parts.norms}
    if rows and min(rows) < 8:
        places = ", ".join(norm.place for norm in m.parts.norms)
        priority = CRITICAL if min(rows) < 2 else IMPORTANT
        yield priority, places, f"batch normalisation sees {min(rows)} row{'s' * (min(rows) > 1)} at a time", min(rows)


def frozen(m: "Measurements") -> Found:
    """Frozen parts in training mode."""
    if m.parts.frozen_training:
        yield (
            IMPORTANT,
            ", ".join(m.parts.frozen_training),
            "it is in training mode in a part that is frozen",
            "training",
        )


def missed(m: "Measurements") -> Found:
    """Parameters that the optimizer does not hold."""
    if m.parts.missed:
        state = f"the optimizer does not hold {len(m.parts.missed)} trainable parameters"
        yield CRITICAL, _group(m.parts.missed), state, len(m.parts.missed)


def held_frozen(m: "Measurements") -> Found:
    """Frozen parameters that the optimizer holds."""
    if m.parts.held_frozen:
        state = f"the optimizer holds {len(m.parts.held_frozen)} frozen parameters"
        yield IMPORTANT, _group(m.parts.held_frozen), state, len(m.parts.held_frozen)


def copies(m: "Measurements") -> Found:
    """Tied weights that are copies."""
    for table, other in m.parts.copies:
        yield IMPORTANT, other, f"it equals {table} and is another tensor, so training drives them apart", "a copy"


def double(m: "Measurements") -> Found:
    """float64 among float32."""
    found = next((event for event in m.flow.events if event.kind == "float64"), None)
    if found is not None:
        yield IMPORTANT, found.place, f"{found.what} makes float64 of float32", "float64"
    elif m.parts.double and len(m.parts.double) < m.flow.trainable:
        yield IMPORTANT, _group(m.parts.double), "it is in float64 beside others in float32", "float64"


def sync(m: "Measurements") -> Found:
    """Values that go to Python in forward."""
    for event in m.flow.events:
        if event.kind == "sync" and event.module != "loss":
            yield (
                IMPORTANT,
                event.place,
                f"{event.what} waits for the device and takes a value out of the graph",
                event.what,
            )


def wrong_loss(wanted: tuple[str, ...], producers: tuple[str, ...]) -> Callable[["Measurements"], Found]:
    """A loss of logits on what is none."""

    def check(m: "Measurements") -> Found:
        for call in m.flow.loss_calls:
            if call.function in wanted and call.producer in producers:
                state = f"{call.function} is applied to a {call.producer.lower()}'s output, and expects logits"
                yield CRITICAL, call.module or "output", state, call.producer

    return check


def broadcast(m: "Measurements") -> Found:
    """Losses that compare each row with all."""
    for event in m.flow.events:
        if event.kind == "broadcast":
            yield CRITICAL, "output", f"{event.what} compares every row with every other one", event.what


def loss_scale(m: "Measurements") -> Found:
    """Losses that grow with the rows."""
    ratio = None if m.loss_scale is None else m.loss_scale.ratio
    if ratio is not None and ratio > 1.5:
        yield IMPORTANT, m.about.loss, f"twice the rows give {ratio:.2f} times the loss", ratio


def one_batch(m: "Measurements") -> Found:
    """A batch that is not learned by heart."""
    overfit = m.overfit
    if overfit is not None and overfit.passed is False and overfit.share is not None and overfit.share > 0.5:
        state = f"{overfit.share:.0%} of the loss is left after {overfit.steps} steps on {overfit.rows} rows"
        yield IMPORTANT, "the model", state, overfit.share


def activations(m: "Measurements") -> Found:
    """Steps that hardly fit into memory."""
    if m.memory_share is not None and m.memory_share > 0.6:
        state = f"a training step of this batch needs {m.memory_share:.0%} of the free memory"
        yield CRITICAL, "the model", state, m.memory_share
