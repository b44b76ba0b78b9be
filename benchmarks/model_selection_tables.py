"""Leave-one-task-out leaderboards on published tables of fine-tunes, and how little the stack's settings matter.

Usage: python benchmarks/model_selection_tables.py FOLDER

FOLDER holds `model_spider_single_source_10ptm.csv`, `transfergraph_image_long.csv` and
`transfergraph_image_models.csv`. Takes about 13 CPU seconds.
"""

import sys
from pathlib import Path

import numpy as np

from deepfm.model_selection.imports import import_table
from deepfm.model_selection.leaderboard import evaluate
from deepfm.model_selection.methods import (
    AVERAGE_RANK,
    AVERAGE_VALUE,
    AVERAGE_Z,
    COMPLETED,
    Chance,
    Method,
    OneProbe,
    Stack,
    SumOfZ,
)
from deepfm.model_selection.protocols import Evidence
from deepfm.model_selection.stacker import Stacker, StackerSettings
from deepfm.model_selection.variance import variance_shares
from deepfm.reporting.tables import print_table

HISTORY = (AVERAGE_RANK, AVERAGE_Z, AVERAGE_VALUE, COMPLETED)


def read(path: Path, split: str | None = None) -> Evidence:
    """The evidence of a published table."""
    table = import_table(path)
    matrix = table.outcomes.matrix(split=split)
    return Evidence(
        matrix.models, matrix.tasks, matrix.values, table.probe_scores.matrices(matrix.models, matrix.tasks)
    )


def sweep() -> list[Method]:
    """The stack under other histories, penalties and signs."""
    histories = (("rank",), ("rank", "z"), ("rank", "z", "value"))
    return [
        Stack(
            f"{' + '.join(history)}, penalty {penalty}{'' if signed else ', any sign'}",
            Stacker(StackerSettings(history=history, penalty=penalty, non_negative=signed)),
        )
        for history in histories
        for signed in (True, False)
        for penalty in (0.003, 0.01, 0.02, 0.05, 0.1, 0.3)
    ]


def main() -> None:
    """Print the tables."""
    folder = Path(sys.argv[1])
    spider = read(folder / "model_spider_single_source_10ptm.csv")
    graph = read(folder / "transfergraph_image_long.csv", "eval")
    judged = ~np.isnan(graph.probes["LogME"])
    eight = [task for task, any_judged in zip(graph.tasks, judged.any(axis=0), strict=True) if any_judged]
    shown = ("weighted tau by truth", "weighted tau", "regret@1", "recall@5")
    turned = ("weighted tau", "weighted tau by truth", "regret@1", "recall@5")
    probes = [OneProbe(name) for name in spider.probes]
    print("Model Spider, 10 models, 8 data sets")
    print_table(evaluate(spider, [*HISTORY, *probes, SumOfZ("NCE"), Stack(), Chance()]).table(shown))
    print("TransferGraph, 8 data sets, models with LogME; history of 12")
    others = [OneProbe("LogME"), OneProbe("H-score"), SumOfZ("LogME"), Stack(), Chance()]
    print_table(evaluate(graph, [*HISTORY, *others], tasks=eight, judged=judged).table(turned))
    print("TransferGraph, 8 data sets, all 180 models")
    print_table(evaluate(graph, [*HISTORY, *others], tasks=eight).table(turned))
    for name, evidence in (("Model Spider", spider), ("TransferGraph", graph)):
        print(f"{name}: {variance_shares(evidence.outcomes[:, :, None]).sentence()}")
    print("Model Spider, settings of the stack")
    print_table(evaluate(spider, [AVERAGE_RANK, *sweep()]).table(shown))
    print("TransferGraph, models with LogME, settings of the stack")
    print_table(evaluate(graph, [AVERAGE_RANK, *sweep()], tasks=eight, judged=judged).table(turned))


if __name__ == "__main__":
    main()
