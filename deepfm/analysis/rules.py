"""The rules: what each reads, from which value on it speaks, what it means and what to do."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deepfm.analysis import checks
from deepfm.analysis.checks import Found

if TYPE_CHECKING:
    from deepfm.analysis.report import Measurements


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


RULES: tuple[Rule, ...] = (
    Rule(
        "graph-cut",
        "calls that take a tensor with a gradient and give one without",
        "all parameters behind the call get no gradient",
        "nothing behind that line is trained",
        "leave the call out, or replace it by something with a derivative",
        checks.cuts,
    ),
    Rule(
        "zero-gradient",
        "calls of functions whose derivative is 0 everywhere",
        "the gradient of all parameters behind the call is exactly 0",
        "nothing behind that line is trained",
        "use a smooth function, or a straight-through estimator: x + (round(x) - x).detach()",
        checks.steps,
    ),
    Rule(
        "unreached-parameters",
        "gradients of trainable parameters over all batches",
        "no gradient in any batch",
        "these parameters keep their first values, and weight decay shrinks them",
        "use them in forward, freeze them with requires_grad_(False), or remove them",
        checks.unreached,
    ),
    Rule(
        "unregistered-parameters",
        "leaves of the loss's graph that the model does not list",
        "any",
        "no optimizer trains them, no checkpoint keeps them, and .to(device) leaves them behind",
        "hold modules in nn.ModuleList or nn.ModuleDict, and tensors in nn.Parameter",
        checks.unregistered,
    ),
    Rule(
        "non-finite-output",
        "outputs over all batches",
        "any NaN or infinity",
        "the loss is NaN, and nothing is learned",
        "look for a division by 0, a logarithm of 0, or a softmax over nothing",
        checks.output_not_finite,
    ),
    Rule(
        "non-finite-gradient",
        "gradients over all batches",
        "any NaN or infinity",
        "the first step destroys the weights",
        "look for a root or a norm of 0 and for 0 · infinity under torch.where; add a small number inside",
        checks.gradient_not_finite,
    ),
    Rule(
        "vanishing-gradient",
        "the gradient's norm at each layer's output",
        "the first below 1e-4 of the largest",
        "early layers hardly learn",
        "use ReLU or GELU, residual paths or normalisation, or another initialisation",
        checks.vanishing,
    ),
    Rule(
        "exploding-gradient",
        "the gradient's norm at each layer's output",
        "the first above 1e3 times the lower quartile",
        "steps are as large as the weights, and training diverges",
        "initialise with a gain for the activation (Kaiming), add normalisation, clip gradients",
        checks.exploding,
    ),
    Rule(
        "dead-units",
        "outputs of ReLUs over all batches",
        "above 50 % of units are 0 for every row (critical above 90 %)",
        "dead units get no gradient and do not come back",
        "lower the bias or learning rate, use LeakyReLU or GELU",
        checks.dead,
    ),
    Rule(
        "saturated-units",
        "outputs of sigmoid (below .03 or above .97), tanh (beyond ±.97) and softmax (largest above .97)",
        "above 50 % (critical above 90 %)",
        "the gradient through it is close to 0",
        "scale its input down: smaller weights, normalisation, or 1/√d for attention",
        checks.saturated,
    ),
    Rule(
        "identical-units",
        "rows of weight matrices",
        "more than half equal another row",
        "equal units get equal gradients and stay equal, so that the layer is as narrow as its different ones",
        "initialise at random",
        checks.identical,
    ),
    Rule(
        "loss-at-start",
        "the first loss beside that of an output of 0",
        "above 1.75 times (critical above 3 times)",
        "the first steps undo the initialisation, and may not recover",
        "make the last layer's weights smaller, and set its bias to the mean of the labels",
        checks.loss_at_start,
    ),
    Rule(
        "collapsed-output",
        "the outputs' deviation over rows",
        "below 1e-7",
        "the model does not see its input",
        "look for weights of 0, a wrong axis of a softmax or a normalisation over one value",
        checks.collapsed,
    ),
    Rule(
        "mask-ignored",
        "outputs when what a boolean mask hides is changed",
        "above 1e-3 of the spread",
        "padding counts as data, so that scores depend on how a batch was padded",
        "leave masked positions out of attention, sums and means, and divide by the number of the others",
        checks.mask,
    ),
    Rule(
        "rows-depend",
        "a row's output alone and among others, in evaluation mode",
        "above 1e-3 of the spread",
        "a prediction depends on which other rows are scored with it",
        "do not reduce over the rows: use statistics of the training set, and check the axes of softmax and mean",
        checks.rows,
    ),
    Rule(
        "random-in-eval",
        "two runs of one batch in evaluation mode",
        "above 1e-6 of the spread",
        "predictions change from call to call",
        "use nn.Dropout, or pass training=self.training to F.dropout",
        checks.random,
    ),
    Rule(
        "writes-in-forward",
        "parameters before and after a forward pass",
        "any difference",
        "weights change in evaluation too, and the optimizer's state no longer fits them",
        "clamp or scale a copy, or after the optimizer's step",
        checks.written,
    ),
    Rule(
        "batch-norm-rows",
        "rows that batch normalisation sees in training",
        "below 8 (critical below 2)",
        "statistics of so few rows are noise, of one row there are none",
        "use larger batches, or layer or group normalisation",
        checks.norms,
    ),
    Rule(
        "frozen-in-train-mode",
        "modes of normalisation and dropout in frozen parts",
        "training mode",
        "running statistics drift, or dropout disturbs what is not trained",
        "put the frozen part in .eval()",
        checks.frozen,
    ),
    Rule(
        "optimizer-misses",
        "the optimizer's parameters beside the model's",
        "any trainable one missing",
        "these parameters are never updated",
        "make the optimizer from model.parameters() after the model is complete and moved",
        checks.missed,
    ),
    Rule(
        "optimizer-holds-frozen",
        "the optimizer's parameters beside the model's",
        "any frozen one",
        "weight decay may move what is meant to stay",
        "give the optimizer trainable parameters only",
        checks.held_frozen,
    ),
    Rule(
        "tied-by-copy",
        "weights of embeddings and of other modules",
        "equal and not the same tensor",
        "what looks tied is not: memory twice, and two weights that drift apart",
        "assign the parameter itself: decoder.weight = embedding.weight",
        checks.copies,
    ),
    Rule(
        "float64",
        "types of what is computed",
        "float64 beside float32",
        "twice the memory, many times slower on GPUs, and impossible on MPS",
        "keep constants in float32, and give new tensors the dtype of those they meet",
        checks.double,
    ),
    Rule(
        "sync-in-forward",
        "values that go to Python in forward",
        "any",
        "the device stops at every such line, compilation breaks there, and the value has no gradient",
        "keep the value a tensor, and branch with torch.where",
        checks.sync,
    ),
    Rule(
        "sigmoid-before-bce",
        "what the loss is applied to",
        "a sigmoid before BCE with logits",
        "the sigmoid is taken twice: probabilities stay between .5 and .73 and gradients are small",
        "give logits to the loss, and apply the sigmoid when predicting",
        checks.wrong_loss(("binary_cross_entropy_with_logits",), ("Sigmoid", "Softmax")),
    ),
    Rule(
        "softmax-before-ce",
        "what the loss is applied to",
        "a softmax before cross-entropy",
        "the softmax is taken twice: no class can reach a high probability and gradients are small",
        "give logits to the loss, and apply the softmax when predicting",
        checks.wrong_loss(("cross_entropy",), ("Softmax",)),
    ),
    Rule(
        "loss-broadcasts",
        "shapes inside the loss",
        "(B, 1) meets (B,)",
        "every output is pulled to the mean of all targets",
        "squeeze the output or unsqueeze the target",
        checks.broadcast,
    ),
    Rule(
        "loss-scales-with-rows",
        "the loss of a batch and of the batch twice",
        "above 1.5 times",
        "the learning rate's effect changes with the batch, and a last small batch counts less",
        "take the mean over rows",
        checks.loss_scale,
    ),
    Rule(
        "one-batch-not-learned",
        "the loss after training on one batch alone",
        "above half of the first loss",
        "what does not fit one batch does not fit more",
        "look at the findings above; else at the labels, the learning rate and the capacity",
        checks.one_batch,
    ),
    Rule(
        "activation-memory",
        "bytes of a training step beside those free",
        "above 60 %",
        "training will run out of memory",
        "use smaller batches with accumulation, or activation checkpointing",
        checks.activations,
    ),
)
