"""What ranking stocks costs on a panel: features, graph, a day's forecast, days a second of training; prints a table.

    python benchmarks/equities_cost.py [--data ../shared/datasets/equities] [--hidden 32 64 256] [--days 20]
        [--stocks 1000] [--device cpu]

Features and graph are of the point-in-time panel; the network is timed on drawn days of `--stocks` stocks with 36
features, 20 sessions and ten edges a stock. Wall times; the median of the days, and of graphs the mean, as only every
fifth is made anew.
"""

import argparse
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from deepfm.engine.device import resolve_device
from deepfm.equities.days.batch import DayBatch
from deepfm.equities.days.graph import GraphSettings, TrailingGraphs
from deepfm.equities.features import compute_features
from deepfm.equities.loss_settings import LossSettings
from deepfm.equities.losses import CombinedLoss
from deepfm.equities.network import ATFT
from deepfm.equities.network_settings import NetworkSettings
from deepfm.equities.panels.files import read_panel
from deepfm.reporting import Column, Table, print_table

FEATURES, SESSIONS, SECTORS, EDGES, HORIZONS = 36, 20, 100, 10, 4
WARM_UP = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/datasets/equities"))
    parser.add_argument("--hidden", type=int, nargs="+", default=[32, 64, 256])
    parser.add_argument("--days", type=int, default=20)
    parser.add_argument("--stocks", type=int, default=1000)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    device = resolve_device(args.device)
    rows = panel_rows(args.data) if args.data.is_dir() else []
    for hidden in args.hidden:
        rows += network_rows(hidden, args.stocks, args.days, device)
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    title = f"{machine}, {device}, torch {torch.__version__}; load {os.getloadavg()[0]:.1f}"
    print_table(Table([Column("what"), Column("figure", "right")], rows, title, best=False))


def panel_rows(folder: Path) -> list[list[str]]:
    """Reading, features and graphs of the whole panel."""
    started = time.perf_counter()
    panel = read_panel(folder / "nasdaq_pit_ohlcv_2009_2017.parquet", folder / "nasdaq_meta.csv")
    read = time.perf_counter() - started
    started = time.perf_counter()
    table = compute_features(panel)
    made = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    graphs = TrailingGraphs(panel, GraphSettings())
    days = np.arange(panel.num_sessions - 250, panel.num_sessions)
    started = time.perf_counter()
    for day in days:
        graphs.at(int(day))
    each = (time.perf_counter() - started) / len(days)
    return [
        [f"read {panel}", f"{read:.1f} s"],
        [f"{len(table.names)} features of it", f"{made:.1f} s"],
        ["peak memory so far", f"{peak:.2f} GB"],
        [
            f"graph of a day, {len(days)} days, {int(panel.eligible[days].sum(axis=1).mean())} stocks",
            f"{1000 * each:.1f} ms",
        ],
    ]


def network_rows(hidden: int, stocks: int, days: int, device: torch.device) -> list[list[str]]:
    """A day's forecast and a training step."""
    generator = torch.Generator().manual_seed(0)
    settings = NetworkSettings(hidden_size=hidden)
    model = ATFT(settings, FEATURES, tuple(at % 5 for at in range(FEATURES)), SECTORS, SESSIONS, HORIZONS).to(device)
    loss = CombinedLoss(LossSettings(), settings.quantiles, HORIZONS)
    batch = drawn_day(stocks, generator).to(device)

    def forecast() -> None:
        with torch.no_grad():
            model(batch)

    def step() -> None:
        model.zero_grad()
        torch.autograd.backward(loss(model(batch), batch))

    model.eval()
    predicting = median_seconds(forecast, days, device)
    model.train()
    training = median_seconds(step, days, device)
    size = sum(part.numel() for part in model.parameters())
    return [
        [f"hidden {hidden}, {size:,} parameters: forecast of a day of {stocks:,}", f"{1000 * predicting:.0f} ms"],
        [f"hidden {hidden}: training, forward and backward", f"{1 / training:.2f} days/s"],
    ]


def drawn_day(stocks: int, generator: torch.Generator) -> DayBatch:
    edges = torch.randint(0, stocks, (2, stocks * EDGES), generator=generator)
    return DayBatch(
        sequences=torch.randn(stocks, SESSIONS, FEATURES, generator=generator),
        day=torch.zeros(stocks, dtype=torch.long),
        stock=torch.arange(stocks),
        sector=torch.randint(0, SECTORS, (stocks,), generator=generator),
        edge_index=edges,
        edge_attr=torch.rand(edges.shape[1], 3, generator=generator),
        targets=torch.rand(stocks, HORIZONS, generator=generator) - 0.5,
        returns=torch.randn(stocks, HORIZONS, generator=generator) / 100,
    )


def median_seconds(work: Callable[[], None], times: int, device: torch.device) -> float:
    def once() -> float:
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    return statistics.median([once() for _ in range(WARM_UP + times)][WARM_UP:])


if __name__ == "__main__":
    main()
