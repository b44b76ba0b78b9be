"""Draw SIN: its architecture, and what the gate of a trained run does.

    python benchmarks/sin_figures.py outputs/sequence/sin-unseen/s1

Writes `docs/images/sin_architecture.png` and `docs/images/sin_gate.png`, and prints the figures behind the second.
"""

import argparse
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch

from deepfm.engine.run import RunFolder
from deepfm.models import SIN, create_model, evaluation_mode
from deepfm.training.experiment import ExperimentData, open_data, run_config

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

IMAGES = Path("docs/images")
EDGES = [0, 1, 6, 11, 21, 51, 10_000]  # of the users' numbers of likes before the test like
CIN, TRANSFORMER, SHARED, JOINED = "#f2a65a", "#5a8fd6", "#d9d9d9", "#7bbf6a"
Figure = Any

BOXES = {  # name → centre, size, text, colour
    "fields": ((1.5, 0.5), (2.4, 0.7), "fields\n(user, item, context)", SHARED),
    "candidate": ((4.6, 0.5), (1.7, 0.7), "candidate", SHARED),
    "history": ((7.6, 0.5), (2.4, 0.7), "history, oldest first\n(B, L) ids, one table", SHARED),
    "cin": ((1.5, 2.0), (2.4, 0.8), "CIN\n(B, F, D) → (B, H)", CIN),
    "encoder": ((7.6, 2.0), (2.4, 0.8), "Transformer encoder\n(U, L, E), once a history", TRANSFORMER),
    "attention": ((6.4, 3.4), (3.0, 0.8), "candidate attends,\nrecency bias per head; ∘ candidate", TRANSFORMER),
    "cin_output": ((1.5, 4.8), (2.4, 0.7), "linear → (B, G)", CIN),
    "transformer_output": ((6.4, 4.8), (2.4, 0.7), "linear → (B, G)", TRANSFORMER),
    "gate": (
        (4.0, 6.1),
        (4.6, 0.8),
        "gate = sigmoid(W [cin ; transformer] + b)\nfused = gate ∘ cin + (1 - gate) ∘ transformer",
        JOINED,
    ),
    "dnn": ((6.9, 7.4), (2.6, 0.7), "DNN(flat ⊕ fused) → linear", SHARED),
    "linear": ((3.4, 7.4), (1.9, 0.7), "linear(fused)", JOINED),
    "first": ((1.1, 7.4), (1.7, 0.7), "first order", SHARED),
    "logit": ((4.0, 8.6), (1.6, 0.6), "logit (sum)", SHARED),
}
ARROWS = [
    *(("fields", "cin"), ("candidate", "cin"), ("candidate", "attention"), ("history", "encoder")),
    *(("encoder", "attention"), ("cin", "cin_output"), ("attention", "transformer_output")),
    *(("cin_output", "gate"), ("transformer_output", "gate"), ("gate", "linear"), ("gate", "dnn")),
    *(("linear", "logit"), ("dnn", "logit"), ("first", "logit")),
]


def architecture() -> Figure:
    """The boxes and arrows of SIN."""
    figure, axes = plt.subplots(figsize=(9, 8.2))
    for (x, y), (width, height), text, colour in BOXES.values():
        corner = (x - width / 2, y - height / 2)
        axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle="round,pad=0.06", color=colour, ec="#444444"))
        axes.text(x, y, text, ha="center", va="center", fontsize=9)
    for start, end in ARROWS:
        (x0, y0), (_, h0) = BOXES[start][:2]
        (x1, y1), (_, h1) = BOXES[end][:2]
        ends = (x0, y0 + h0 / 2 + 0.06), (x1, y1 - h1 / 2 - 0.06)
        axes.add_patch(FancyArrowPatch(*ends, arrowstyle="-|>", mutation_scale=12, color="#444444"))
    axes.set(xlim=(0, 9), ylim=(0, 9.1))
    axes.axis("off")
    return figure


def gate_of_positives(run: RunFolder, data: ExperimentData) -> tuple[np.ndarray, np.ndarray]:
    """The gate `(U, G)` of each test positive, and the users' numbers of likes before it `(U,)`, cut at the maximum."""
    config = run_config(run)
    model = create_model(config.model_name, data.schema, config)
    if not isinstance(model, SIN) or model.fusion is None:
        raise SystemExit(f"{run.path} is no run of SIN with its gate")
    model.load_state_dict(run.load_weights({}))
    rows = (data.test.labels > 0).nonzero().squeeze(1)
    seen: list[torch.Tensor] = []
    handle = model.fusion.values.register_forward_hook(lambda _part, _inputs, gate: seen.append(gate))
    with evaluation_mode(model), torch.inference_mode():
        model(data.test.batch(rows)[0])
    handle.remove()
    (history,) = data.test.histories.values()
    return seen[0].numpy(), history.lengths(data.test.moments(rows)).numpy()


def gate_plot(run: RunFolder, gate: np.ndarray, lengths: np.ndarray) -> tuple[Figure, list[str]]:
    """Three views of the gate, and the lines that say them in figures."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.6), constrained_layout=True)
    history = run.read_history()
    epochs = [record["epoch"] for record in history]
    means, spreads = (np.array([record[f"gate_{name}"] for record in history]) for name in ("mean", "spread"))
    left.plot(epochs, means, color=TRANSFORMER)
    left.fill_between(epochs, means - spreads, means + spreads, color=TRANSFORMER, alpha=0.2)
    left.set(title="validation rows, by epoch", xlabel="epoch", ylabel="gate (share of the CIN)", ylim=(0, 1))
    middle.bar(range(gate.shape[1]), np.sort(gate.mean(axis=0)), color=CIN)
    middle.set(title="test positives, by dimension (sorted)", xlabel="dimension of the fusion", ylim=(0, 1))
    lines = [f"epoch {epochs[-1]}: mean {means[-1]:.3f}, spread {spreads[-1]:.3f} over validation rows"]
    labels, values = [], []
    for low, high in pairwise(EDGES):
        inside = (lengths >= low) & (lengths < high)
        if inside.any():
            last = min(high - 1, int(lengths.max()))
            labels.append(str(low) if last == low else f"{low}-{last}")
            values.append(float(gate[inside].mean()))
            lines.append(f"{labels[-1]} events: mean gate {values[-1]:.3f} over {int(inside.sum())} test positives")
    right.bar(labels, values, color=JOINED)
    right.set(title="test positives, by length of the history", xlabel="events in the history", ylim=(0, 1))
    return figure, lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a finished SIN run")
    args = parser.parse_args()
    run = RunFolder(args.run).require("config", "weights")
    gate, lengths = gate_of_positives(run, open_data(run_config(run), run))
    figure, lines = gate_plot(run, gate, lengths)
    IMAGES.mkdir(parents=True, exist_ok=True)
    options = {"dpi": 110, "bbox_inches": "tight"}
    figure.savefig(IMAGES / "sin_gate.png", **options)
    architecture().savefig(IMAGES / "sin_architecture.png", **options)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
