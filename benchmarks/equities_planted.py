"""How much of each planted signal the network finds, with the module that should find it on and off.

Prints a table: signal, arm, RankIC over one session on days that were not trained on, the oracle's, and the share.
`python benchmarks/equities_planted.py [--sessions 500] [--stocks 100] [--seeds 0 1 2]`
"""

import argparse
import time

import numpy as np

from deepfm.equities.experiment.recovery import recover
from deepfm.equities.panels.synthetic import SIGNALS, PlantedSettings, planted_panel
from deepfm.equities.settings import load_equities
from deepfm.reporting import Column, Table, print_table
from deepfm.utils.logging import configure_console

FEATURES = "[clv, intra, vshock, range, ret1, vol20]"
BASE = [
    "device=cpu",
    f"data.features={FEATURES}",
    "data.sequence_length=10",
    "data.prediction_horizons=[1]",
    "split.n_splits=1",
    "split.test_sessions=80",
    "split.validation_sessions=40",
    "split.min_train=60",
    "model.hidden_size=16",
    "model.num_heads=2",
    "model.gat_heads=[2, 2]",
    "model.dropout=0",
    "model.adaptive_normalization=off",
    "training.batch_size=8",
    "training.learning_rate=0.005",
    "training.max_epochs=12",
    "training.scheduler=cosine",
    "training.early_stopping_patience=12",
    "training.quantile_weight=0.1",
    "training.ic_weight=1",
    "training.selection_weight=0.003",
]
ALONE = ["model.stock_attention=false", "model.graph_attention=false"]
SMALL = [
    *ALONE,
    "model.variable_selection=false",
    "model.hidden_size=8",
    "data.sequence_length=20",
    "training.max_epochs=2",
    "training.learning_rate=0.01",
]
HIDDEN = [
    "data.scaling=zscore",
    "data.features=[range, clv]",
    "data.sequence_length=20",
    *ALONE,
]
ARMS = {
    "own": {"all on": [], "adaptive normalisation frequency": ["model.adaptive_normalization=frequency"]},
    "spill_over": {
        "graph on": ["model.stock_attention=false"],
        "graph off": ALONE,
    },
    "interaction": {
        "variable selection and feature attention": ALONE,
        "variable selection": [*ALONE, "model.feature_attention=false"],
        "feature attention, small, 2 epochs": SMALL,
        "neither, small, 2 epochs": [*SMALL, "model.feature_attention=false"],
    },
    "day_wide": {
        "stock attention on": ["data.scaling=none", "model.graph_attention=false"],
        "stock attention off": ["data.scaling=none", "model.graph_attention=false", "model.stock_attention=false"],
    },
    "cycle": {
        kind: [*HIDDEN, "model.frequency_components=1", f"model.adaptive_normalization={kind}"]
        for kind in ("frequency", "off")
    },
    "drift": {
        kind + name: [*HIDDEN, f"model.adaptive_normalization={kind}", *changes]
        for name, changes in (("", []), (", 1 epoch", ["training.max_epochs=1", "training.learning_rate=0.01"]))
        for kind in ("slice", "rolling", "off")
    },
}
PLANTED = {"cycle": {"hidden": 0.4, "cycle": 10.0, "drift": 0.0}, "drift": {"hidden": 0.4, "cycle": 0.0, "drift": 10.0}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=500)
    parser.add_argument("--stocks", type=int, default=100)
    parser.add_argument("--strength", type=float, default=0.4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--signals", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--override", nargs="+", default=[])
    parser.add_argument("--planted", nargs="+", default=[], metavar="NAME=NUMBER")
    args = parser.parse_args()
    configure_console(quiet=True)
    planted = {name: float(value) for name, value in (text.split("=") for text in args.planted)}
    rows = []
    for signal in args.signals:
        strengths = {name: args.strength if name == signal else 0.0 for name in SIGNALS} | PLANTED.get(signal, {})
        sizes = PlantedSettings(num_sessions=args.sessions, num_stocks=args.stocks, **{**strengths, **planted})
        for arm, overrides in ARMS[signal].items():
            started, found = time.process_time(), []
            for seed in args.seeds:
                settings = load_equities(None, [*BASE, *overrides, *args.override, f"seeds=[{seed}]"])
                found.append(recover(planted_panel(sizes, seed, (1,)), settings))
            seconds = (time.process_time() - started) / len(found)
            rank_ic, best = (
                float(np.mean([getattr(one, name) for one in found])) for name in ("rank_ic", "attainable")
            )
            top = max(found[0].weights, key=found[0].weights.get) if found[0].weights else None
            rows.append([signal, arm, rank_ic, best, rank_ic / best, top, seconds])
            print(*rows[-1], flush=True)
    columns = [Column("signal"), Column("arm"), Column("RankIC", format="+.4f"), Column("oracle", format="+.4f")]
    columns += [Column("share", format=".0%"), Column("largest weight"), Column("CPU seconds", format=".0f")]
    print_table(Table(columns, rows, f"{args.sessions} sessions, {args.stocks} stocks, seeds {args.seeds}", best=False))


if __name__ == "__main__":
    main()
