"""The rules: what each reads, from which value on it speaks, what it means and what to do."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deepfm.analysis.report import Measurements

CRITICAL, IMPORTANT = 1, 2
Found = Iterator[tuple[int, str, str, float | str]]
"""Priority, place, current state and the measured value of each thing that a rule has to say."""


@dataclass(frozen=True)
class Rule:
    """One rule.

    Args:
        id: its name.
        reads: what it looks at.
        threshold: from where on it speaks, in words.
        impact: what happens if nothing is done.
        fix: what to do.
        check: gives what it found.
    """

    id: str
    reads: str
    threshold: str
    impact: str
    fix: str
    check: Callable[["Measurements"], Found] = field(repr=False)


@dataclass(frozen=True)
class Finding:
    """What a rule said of a place; `priority` 1 is critical, 2 important."""

    rule: str
    priority: int
    place: str
    state: str
    impact: str
    fix: str
    measured: float | str
    threshold: str


def judge(measured: "Measurements") -> tuple[Finding, ...]:
    """Everything that the rules have to say, critical things first."""
    found = [
        Finding(rule.id, priority, place, state, rule.impact, rule.fix, value, rule.threshold)
        for rule in RULES
        for priority, place, state, value in rule.check(measured)
    ]
    return tuple(sorted(found, key=lambda finding: finding.priority))


def _share(level: float, high: float, share: float) -> int | None:
    return CRITICAL if share > high else IMPORTANT if share > level else None


def _group(names: tuple[str, ...]) -> str:
    """Parameters by the modules that hold all of them: `head.weight, head.bias` is `head`."""
    owners = list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))
    return ", ".join(owners[:6]) + (f" and {len(owners) - 6} more" if len(owners) > 6 else "")


def _unreached(m: "Measurements") -> Found:
    if m.flow.unreached:
        share = f"{len(m.flow.unreached)} of {m.flow.trainable} trainable parameters"
        yield CRITICAL, _group(m.flow.unreached), f"{share} never get a gradient", len(m.flow.unreached)


def _cuts(m: "Measurements") -> Found:
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


def _steps(m: "Measurements") -> Found:
    zero = set(m.flow.zero)
    for event in m.flow.events:
        if event.kind == "step" and event.upstream and event.upstream <= zero:
            behind = _group(tuple(sorted(event.upstream)))
            yield CRITICAL, event.place, f"{event.what} has the derivative 0, and so has all behind it: {behind}", 0.0


def _unregistered(m: "Measurements") -> Found:
    for place in m.flow.unregistered:
        yield CRITICAL, place, "the loss reaches tensors here that parameters() does not list", place


def _output_not_finite(m: "Measurements") -> Found:
    if not m.flow.output_finite:
        yield CRITICAL, "output", "outputs hold NaN or infinity", "NaN or inf"


def _gradient_not_finite(m: "Measurements") -> Found:
    if m.flow.not_finite:
        yield CRITICAL, _group(m.flow.not_finite), "the gradient is NaN or infinite", len(m.flow.not_finite)


def _vanishing(m: "Measurements") -> Found:
    rates = [layer.output_gradient for layer in m.flow.layers if layer.output_gradient is not None]
    if len(rates) > 2 and max(rates) > 0 and rates[0] < 1e-4 * max(rates):
        ratio = rates[0] / max(rates)
        yield CRITICAL, m.flow.layers[0].name, f"the gradient falls to {ratio:.1e} of its largest on the way", ratio


def _exploding(m: "Measurements") -> Found:
    rates = [layer.output_gradient for layer in m.flow.layers if layer.output_gradient]
    if len(rates) > 2:
        low = sorted(rates)[len(rates) // 4]  # not the least: a branch that counts little is no fault
        ratio = rates[0] / low
    if len(rates) > 2 and ratio > 1e3:
        yield CRITICAL, m.flow.layers[0].name, f"the gradient grows {ratio:.1e} times on the way back", ratio


def _dead(m: "Measurements") -> Found:
    for unit in m.flow.units:
        if unit.kind == "relu" and (priority := _share(0.5, 0.9, unit.share)):
            yield priority, unit.place or "the model", f"{unit.share:.0%} of units gave 0 for every row", unit.share


def _saturated(m: "Measurements") -> Found:
    for unit in m.flow.units:
        if unit.kind != "relu" and (priority := _share(0.5, 0.9, unit.share)):
            state = f"{unit.share:.0%} of the {unit.kind}'s outputs are at an end of its range"
            yield priority, unit.place or "the model", state, unit.share


def _identical(m: "Measurements") -> Found:
    for name, share in m.parts.identical.items():
        if share > 0.5:
            yield CRITICAL, name, f"{share:.0%} of its units have the weights of another one", share


def _loss_at_start(m: "Measurements") -> Found:
    start = m.start
    if start is None or start.ratio is None:
        return
    last = m.flow.layers[-1].name if m.flow.layers else "output"
    state = f"the loss begins at {start.loss:.4g}; a constant output of 0 has {start.zero_loss:.4g}"
    if start.ratio > 3:
        yield CRITICAL, last, state, start.ratio
    elif start.ratio > 1.5:
        yield IMPORTANT, last, state, start.ratio


def _collapsed(m: "Measurements") -> Found:
    spread = m.flow.output_deviation
    if spread is not None and spread < 1e-7 and m.flow.output_finite:
        yield CRITICAL, "output", f"all rows get the same output (deviation {spread:.1e})", spread


def _mask(m: "Measurements") -> Found:
    for one in m.invariances.get("padding"):
        if one.holds is False and one.difference is not None:
            state = f"other values in what it hides change the output by {one.difference:.2g} of its spread"
            yield CRITICAL, one.place, state, one.difference


def _rows(m: "Measurements") -> Found:
    for one in m.invariances.get("independence of rows"):
        if one.holds is False and one.difference is not None:
            state = f"in evaluation mode a row's output changes by {one.difference:.2g} of the spread with the rows beside it"
            yield CRITICAL, "output", state, one.difference


def _random(m: "Measurements") -> Found:
    for one in m.invariances.get("determinism"):
        if one.holds is False and one.difference is not None and not m.flow.written:
            yield (
                CRITICAL,
                "output",
                f"two runs in evaluation mode differ by {one.difference:.2g} of the spread",
                one.difference,
            )


def _written(m: "Measurements") -> Found:
    if m.flow.written:
        yield CRITICAL, ", ".join(m.flow.written), "a forward pass changes the parameter", len(m.flow.written)


def _norms(m: "Measurements") -> Found:
    rows = {norm.rows for norm in m.parts.norms}
    if rows and min(rows) < 8:
        places = ", ".join(norm.place for norm in m.parts.norms)
        priority = CRITICAL if min(rows) < 2 else IMPORTANT
        yield priority, places, f"batch normalisation sees {min(rows)} row{'s' * (min(rows) > 1)} at a time", min(rows)


def _frozen(m: "Measurements") -> Found:
    if m.parts.frozen_training:
        yield (
            IMPORTANT,
            ", ".join(m.parts.frozen_training),
            "it is in training mode in a part that is frozen",
            "training",
        )


def _missed(m: "Measurements") -> Found:
    if m.parts.missed:
        state = f"the optimizer does not hold {len(m.parts.missed)} trainable parameters"
        yield CRITICAL, _group(m.parts.missed), state, len(m.parts.missed)


def _held_frozen(m: "Measurements") -> Found:
    if m.parts.held_frozen:
        state = f"the optimizer holds {len(m.parts.held_frozen)} frozen parameters"
        yield IMPORTANT, _group(m.parts.held_frozen), state, len(m.parts.held_frozen)


def _copies(m: "Measurements") -> Found:
    for table, other in m.parts.copies:
        yield IMPORTANT, other, f"it equals {table} and is another tensor, so training drives them apart", "a copy"


def _double(m: "Measurements") -> Found:
    found = next((event for event in m.flow.events if event.kind == "float64"), None)
    if found is not None:
        yield IMPORTANT, found.place, f"{found.what} makes float64 of float32", "float64"
    elif m.parts.double and len(m.parts.double) < m.flow.trainable:
        yield IMPORTANT, _group(m.parts.double), "it is in float64 beside others in float32", "float64"


def _sync(m: "Measurements") -> Found:
    for event in m.flow.events:
        if event.kind == "sync" and event.module != "loss":
            yield (
                IMPORTANT,
                event.place,
                f"{event.what} waits for the device and takes a value out of the graph",
                event.what,
            )


def _wrong_loss(wanted: tuple[str, ...], producers: tuple[str, ...]) -> Callable[["Measurements"], Found]:
    def check(m: "Measurements") -> Found:
        for call in m.flow.loss_calls:
            if call.function in wanted and call.producer in producers:
                state = f"{call.function} is applied to a {call.producer.lower()}'s output, and expects logits"
                yield CRITICAL, call.module or "output", state, call.producer

    return check


def _broadcast(m: "Measurements") -> Found:
    for event in m.flow.events:
        if event.kind == "broadcast":
            yield CRITICAL, "output", f"{event.what} compares every row with every other one", event.what


def _loss_scale(m: "Measurements") -> Found:
    ratio = None if m.loss_scale is None else m.loss_scale.ratio
    if ratio is not None and ratio > 1.5:
        yield IMPORTANT, m.loss_name, f"twice the rows give {ratio:.2f} times the loss", ratio


def _one_batch(m: "Measurements") -> Found:
    start = m.start
    if start is not None and start.learned is False:
        state = f"{start.share:.0%} of the loss is left after {start.steps} steps on one batch"
        yield IMPORTANT, "the model", state, start.share or 1.0


def _activations(m: "Measurements") -> Found:
    if m.memory_share is not None and m.memory_share > 0.6:
        state = f"a training step of this batch needs {m.memory_share:.0%} of the free memory"
        yield CRITICAL, "the model", state, m.memory_share


RULES: tuple[Rule, ...] = (
    Rule(
        "graph-cut", "calls that take a tensor with a gradient and give one without",
        "all parameters behind the call get no gradient", "nothing behind that line is trained",
        "leave the call out, or replace it by something with a derivative", _cuts,
    ),
    Rule(
        "zero-gradient", "calls of functions whose derivative is 0 everywhere",
        "the gradient of all parameters behind the call is exactly 0", "nothing behind that line is trained",
        "use a smooth function, or a straight-through estimator: x + (round(x) - x).detach()", _steps,
    ),
    Rule(
        "unreached-parameters", "gradients of trainable parameters over all batches",
        "no gradient in any batch", "these parameters keep their first values, and weight decay shrinks them",
        "use them in forward, freeze them with requires_grad_(False), or remove them", _unreached,
    ),
    Rule(
        "unregistered-parameters", "leaves of the loss's graph that the model does not list",
        "any", "no optimizer trains them, no checkpoint keeps them, and .to(device) leaves them behind",
        "hold modules in nn.ModuleList or nn.ModuleDict, and tensors in nn.Parameter", _unregistered,
    ),
    Rule(
        "non-finite-output", "outputs over all batches", "any NaN or infinity", "the loss is NaN, and nothing is learned",
        "look for a division by 0, a logarithm of 0, or a softmax over nothing", _output_not_finite,
    ),
    Rule(
        "non-finite-gradient", "gradients over all batches", "any NaN or infinity", "the first step destroys the weights",
        "look for a root or a norm of 0 and for 0 · infinity under torch.where; add a small number inside",
        _gradient_not_finite,
    ),
    Rule(
        "vanishing-gradient", "the gradient's norm at each layer's output", "the first below 1e-4 of the largest",
        "early layers hardly learn", "use ReLU or GELU, residual paths or normalisation, or another initialisation", _vanishing,
    ),
    Rule(
        "exploding-gradient", "the gradient's norm at each layer's output", "the first above 1e3 times the lower quartile",
        "steps are as large as the weights, and training diverges",
        "initialise with a gain for the activation (Kaiming), add normalisation, clip gradients", _exploding,
    ),
    Rule(
        "dead-units", "outputs of ReLUs over all batches", "above 50 % of units are 0 for every row (critical above 90 %)",
        "dead units get no gradient and do not come back", "lower the bias or learning rate, use LeakyReLU or GELU", _dead,
    ),
    Rule(
        "saturated-units", "outputs of sigmoid (below .03 or above .97), tanh (beyond ±.97) and softmax (largest above .97)",
        "above 50 % (critical above 90 %)", "the gradient through it is close to 0",
        "scale its input down: smaller weights, normalisation, or 1/√d for attention", _saturated,
    ),
    Rule(
        "identical-units", "rows of weight matrices", "more than half equal another row",
        "equal units get equal gradients and stay equal, so that the layer is as narrow as its different ones",
        "initialise at random", _identical,
    ),
    Rule(
        "loss-at-start", "the first loss beside that of an output of 0", "above 1.5 times (critical above 3 times)",
        "the first steps undo the initialisation, and may not recover",
        "make the last layer's weights smaller, and set its bias to the mean of the labels", _loss_at_start,
    ),
    Rule(
        "collapsed-output", "the outputs' deviation over rows", "below 1e-7", "the model does not see its input",
        "look for weights of 0, a wrong axis of a softmax or a normalisation over one value", _collapsed,
    ),
    Rule(
        "mask-ignored", "outputs when what a boolean mask hides is changed", "above 1e-3 of the spread",
        "padding counts as data, so that scores depend on how a batch was padded",
        "leave masked positions out of attention, sums and means, and divide by the number of the others", _mask,
    ),
    Rule(
        "rows-depend", "a row's output alone and among others, in evaluation mode", "above 1e-3 of the spread",
        "a prediction depends on which other rows are scored with it",
        "do not reduce over the rows: use statistics of the training set, and check the axes of softmax and mean", _rows,
    ),
    Rule(
        "random-in-eval", "two runs of one batch in evaluation mode", "above 1e-6 of the spread",
        "predictions change from call to call", "use nn.Dropout, or pass training=self.training to F.dropout", _random,
    ),
    Rule(
        "writes-in-forward", "parameters before and after a forward pass", "any difference",
        "weights change in evaluation too, and the optimizer's state no longer fits them",
        "clamp or scale a copy, or after the optimizer's step", _written,
    ),
    Rule(
        "batch-norm-rows", "rows that batch normalisation sees in training", "below 8 (critical below 2)",
        "statistics of so few rows are noise, of one row there are none",
        "use larger batches, or layer or group normalisation", _norms,
    ),
    Rule(
        "frozen-in-train-mode", "modes of normalisation and dropout in frozen parts", "training mode",
        "running statistics drift, or dropout disturbs what is not trained", "put the frozen part in .eval()", _frozen,
    ),
    Rule(
        "optimizer-misses", "the optimizer's parameters beside the model's", "any trainable one missing",
        "these parameters are never updated",
        "make the optimizer from model.parameters() after the model is complete and moved", _missed,
    ),
    Rule(
        "optimizer-holds-frozen", "the optimizer's parameters beside the model's", "any frozen one",
        "weight decay may move what is meant to stay", "give the optimizer trainable parameters only", _held_frozen,
    ),
    Rule(
        "tied-by-copy", "weights of embeddings and of other modules", "equal and not the same tensor",
        "what looks tied is not: memory twice, and two weights that drift apart",
        "assign the parameter itself: decoder.weight = embedding.weight", _copies,
    ),
    Rule(
        "float64", "types of what is computed", "float64 beside float32",
        "twice the memory, many times slower on GPUs, and impossible on MPS",
        "keep constants in float32, and give new tensors the dtype of those they meet", _double,
    ),
    Rule(
        "sync-in-forward", "values that go to Python in forward", "any",
        "the device stops at every such line, compilation breaks there, and the value has no gradient",
        "keep the value a tensor, and branch with torch.where", _sync,
    ),
    Rule(
        "sigmoid-before-bce", "what the loss is applied to", "a sigmoid before BCE with logits",
        "the sigmoid is taken twice: probabilities stay between .5 and .73 and gradients are small",
        "give logits to the loss, and apply the sigmoid when predicting",
        _wrong_loss(("binary_cross_entropy_with_logits",), ("Sigmoid", "Softmax")),
    ),
    Rule(
        "softmax-before-ce", "what the loss is applied to", "a softmax before cross-entropy",
        "the softmax is taken twice: no class can reach a high probability and gradients are small",
        "give logits to the loss, and apply the softmax when predicting", _wrong_loss(("cross_entropy",), ("Softmax",)),
    ),
    Rule(
        "loss-broadcasts", "shapes inside the loss", "(B, 1) meets (B,)",
        "every output is pulled to the mean of all targets", "squeeze the output or unsqueeze the target", _broadcast,
    ),
    Rule(
        "loss-scales-with-rows", "the loss of a batch and of the batch twice", "above 1.5 times",
        "the learning rate's effect changes with the batch, and a last small batch counts less",
        "take the mean over rows", _loss_scale,
    ),
    Rule(
        "one-batch-not-learned", "the loss after training on one batch alone", "above half of the first loss",
        "what does not fit one batch does not fit more",
        "look at the findings above; else at the labels, the learning rate and the capacity", _one_batch,
    ),
    Rule(
        "activation-memory", "bytes of a training step beside those free", "above 60 %",
        "training will run out of memory", "use smaller batches with accumulation, or activation checkpointing", _activations,
    ),
)  # fmt: skip
