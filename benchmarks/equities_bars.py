"""A finished experiment on the point-in-time panel beside what was asked of it, and its trainings; reads nothing else.

    python benchmarks/equities_bars.py outputs/equities/pit

Of each bar: what must be, what is aimed at, what `evaluation.json` says, and which of the two it meets. Of each
training, those of ablations too: the RankIC on its validation days, and how long it took. Exits 1 where something
that must be is not.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from deepfm.reporting import Column, Table

LGB, RIDGE = "LightGBM", "ridge"
COST = 10.0  # basis points a unit traded


def rows(found: dict[str, Any]) -> list[list[Any]]:
    """Each bar with what was measured."""
    name = found["name"]
    at = {horizon: place for place, horizon in enumerate(found["horizons"])}

    def rank_ic(method: str, horizon: int) -> float:
        return float(found["methods"][method][at[horizon]]["rank_ic"]["mean"])

    def paired(method: str, baseline: str, horizon: int) -> dict[str, float]:
        wanted = (method, baseline, horizon)
        keys = ("method", "baseline", "horizon")
        return next(one["rank_ic"] for one in found["paired"] if tuple(one[key] for key in keys) == wanted)

    def told(difference: dict[str, float]) -> str:
        return f"{difference['mean']:+.4f} (t {difference['t']:+.1f})"

    made = []
    for horizon in (5, 10):
        less = paired(name, LGB, horizon)
        aim = less["mean"] >= 0.003 and less["t"] >= 2 if horizon == 5 else None
        text = f"{rank_ic(name, horizon):.4f}; LightGBM {rank_ic(LGB, horizon):.4f}; paired {told(less)}"
        wanted = "+.003 over LightGBM with t ≥ 2" if horizon == 5 else None
        made.append([f"RankIC at {horizon}", "above LightGBM's, paired", wanted, text, less["mean"] > 0, aim])
    for horizon in (1, 20):
        ours = rank_ic(name, horizon)
        others = {baseline: rank_ic(baseline, horizon) for baseline in (RIDGE, LGB)}
        must = ours >= others[RIDGE] if horizon == 1 else ours >= 0.03
        text = f"{ours:.4f}; " + ", ".join(
            f"{baseline} {value:.4f} (paired {told(paired(name, baseline, horizon))})"
            for baseline, value in others.items()
        )
        wanted = "ridge's" if horizon == 1 else ".03"
        made.append(
            [f"RankIC at {horizon}", f"at least {wanted}", "above both", text, must, ours > max(others.values())]
        )
    portfolios = {method: found["methods"][method][at[20]]["portfolio"] for method in (name, LGB)}
    sharpe = {
        method: next(level["sharpe"] for level in portfolio["levels"] if level["cost"] == COST)
        for method, portfolio in portfolios.items()
    }
    net, share = sharpe[name], portfolios[name]["market_share"]
    text = f"{net:.2f}, the market explains {share:.0%} of its variance; LightGBM {sharpe[LGB]:.2f}"
    made.append(["Sharpe at 20, net of 10 bp", "at least .85", "at least 1.1", text, net >= 0.85, net >= 1.1])
    blend = next(one["method"] for one in found["paired"] if one["method"] != name and one["baseline"] == LGB)
    gains = {horizon: paired(blend, LGB, horizon) for horizon in at}
    text = "; ".join(f"{horizon}: {told(gain)}" for horizon, gain in gains.items())
    must = all(gain["mean"] > 0 for gain in gains.values())
    aim = sum(gain["t"] >= 2 for gain in gains.values()) >= 2
    made.append(["blend less LightGBM", "above 0 at every horizon", "t ≥ 2 at two", text, must, aim])
    return made


def trainings(run: Path) -> list[list[Any]]:
    """Each training of an experiment and of its ablations, with its validation RankIC and minutes."""
    made = []
    for path in sorted(run.glob("fold-*/seed-*/results.json")) + sorted(
        run.glob("ablations/*/fold-*/seed-*/results.json")
    ):
        arm, fold, seed = path.parts[-4:-1]
        results = json.loads(path.read_text())
        network = arm if arm != run.name else "whole"
        made.append([network, fold, seed, results["validation"]["rank_ic"], results["seconds"] / 60])
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run.resolve()
    if not (place := run / "evaluation.json").exists():
        parser.error(f"{place} does not exist; expected the folder of a finished `deepfm equities train`")
    made = rows(json.loads(place.read_text()))
    verdict = {True: "yes", False: "no", None: None}
    columns = [Column(name) for name in ("bar", "must", "aim", "measured", "must met", "aim met")]
    shown = [[*one[:4], verdict[one[4]], verdict[one[5]]] for one in made]
    print(Table(columns, shown, best=False).to_markdown())
    print()
    trained = trainings(run)
    heads = [Column("network"), Column("fold"), Column("seed"), Column("validation RankIC", format=".4f")]
    print(Table([*heads, Column("minutes", format=".1f")], trained, best=False).to_markdown())
    print()
    for kind, some in (
        ("experiment", [one for one in trained if one[0] == "whole"]),
        ("ablations", [one for one in trained if one[0] != "whole"]),
    ):
        print(f"{kind}: {len(some)} trainings, {sum(one[4] for one in some):.0f} minutes")
    return int(not all(one[4] for one in made))


if __name__ == "__main__":
    sys.exit(main())
