"""Does the analyser's advice pay? The recommended configuration beside the default, after the same rows, three seeds.

    python benchmarks/analyze_advice.py --data /path/to/ml-100k > advice.md

For DeepFM, xDeepFM and SIN on MovieLens-100K and two modules that are none of the package's: an LSTM and an
auto-encoder on generated rows. The advice is that of `deepfm analyze` on 24 batches of 512 training rows (64 for the
other two). The runs are one pass over 96 batches that the advice has not seen, judged on one that neither saw.
"""

import argparse
import platform
import time
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import nn

from deepfm.analysis.analyse import analyze_subject
from deepfm.analysis.measures.proof import TrainingChoice, measure_proof
from deepfm.analysis.sources import experiment_source
from deepfm.analysis.subject import Subject, make_subject
from deepfm.config import load_config
from deepfm.models import create_model
from deepfm.reporting import Column, Table
from deepfm.training.experiment import open_data
from deepfm.utils.seeding import seed_everything

SEEN, BATCHES, STEPS = 24, 97, 96


class Memory(nn.Module):
    """The sign of a sum that a sequence's first and last event decide."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.LSTM(8, 32, batch_first=True)
        self.head = nn.Linear(32, 1)

    def forward(self, events: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(events)[0][:, -1])


def foreign() -> Iterator[tuple[str, Subject, Subject]]:
    source = torch.Generator().manual_seed(0)
    seed_everything(0)
    rows = [torch.randn(64, 12, 8, generator=source) for _ in range(SEEN + BATCHES)]
    batches = [(x, ((x[:, 0, 0] + x[:, -1, 1]) > 0).float()) for x in rows]
    model = Memory()
    yield "LSTM", make_subject(model, batches[:SEEN], "bce"), make_subject(model, batches[SEEN:], "bce")
    mix = torch.randn(6, 24, generator=source)
    codes = [torch.randn(64, 6, generator=source) @ mix for _ in range(SEEN + BATCHES)]
    coder = nn.Sequential(
        nn.Linear(24, 32), nn.GELU(), nn.Linear(32, 6), nn.Linear(6, 32), nn.GELU(), nn.Linear(32, 24)
    )
    pairs = [(x, x) for x in codes]
    yield "auto-encoder", make_subject(coder, pairs[:SEEN], "mse"), make_subject(coder, pairs[SEEN:], "mse")


def own(data: str, names: list[str]) -> Iterator[tuple[str, Subject, Subject]]:
    for name in names:
        overrides = [f"data.data_dir={data}", "training.batch_size=512"]
        config = load_config(f"configs/{name}_movielens.yaml", overrides)
        opened = open_data(config)
        opened.train.resample(1)
        seed_everything(config.seed)
        model = create_model(config.model_name, opened.schema, config)
        every = experiment_source(config, model, opened.schema, opened.train, name, batches=SEEN + BATCHES).subject
        yield name, replace(every, batches=every.batches[:SEEN]), replace(every, batches=every.batches[SEEN:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, metavar="DIR", help="MovieLens-100K")
    parser.add_argument("--models", nargs="*", default=["deepfm", "xdeepfm", "sin"], help="of the package")
    parser.add_argument("--foreign", action=argparse.BooleanOptionalAction, default=True, help="also the other two")
    args = parser.parse_args()
    rows = []
    for subjects in (own(args.data, args.models), foreign() if args.foreign else ()):
        for name, few, many in subjects:
            started = time.perf_counter()
            report = analyze_subject(few)
            seconds = time.perf_counter() - started
            choice = TrainingChoice() if report.recommendation is None else report.recommendation.choice
            proof = measure_proof(many, choice, steps=STEPS, budget_seconds=1e6)
            ours, theirs = proof.recommended, proof.default
            assert ours is not None
            assert theirs is not None
            rows.append(
                [
                    name, choice.lr, ours.mean, ours.deviation, theirs.mean, theirs.deviation, proof.verdict,
                    report.assessment, seconds,
                ]
            )  # fmt: skip
    columns = [
        Column("model"), Column("lr", format=".2g"), Column("recommended", format=".4f"), Column("±", format=".4f"),
        Column("default", format=".4f"), Column("± ", format=".4f"), Column("verdict"), Column("assessment"),
        Column("seconds of analysis", format=".0f"),
    ]  # fmt: skip
    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}\n"
    )
    print(
        Table(
            columns, rows, f"lowest loss on a held-out batch, {STEPS} steps, mean and deviation of three seeds"
        ).to_markdown()
    )


if __name__ == "__main__":
    main()
