"""Compare settings on the validation split of MovieLens-100K; the test split is never scored.

    python benchmarks/tune_movielens.py --config configs/deepfm_movielens.yaml --trials benchmarks/trials.yaml

The trials are a list of lists of overrides, such as `- [feature.embedding_l2_reg=1e-4, dnn.dropout=0.3]`. A line per
trial and seed goes to `--out` as JSON, and the table of means is printed at the end. Finished trials are not run again.
"""

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from statistics import mean, stdev


def run_trial(config_path: str, overrides: list[str], seed: int) -> dict:
    import torch

    from deepfm.config import load_config
    from deepfm.models import create_model
    from deepfm.training.experiment import open_data
    from deepfm.training.trainer import Trainer
    from deepfm.utils import seed_everything
    from deepfm.utils.logging import configure_console

    torch.set_num_threads(1)
    configure_console(quiet=True)
    config = load_config(config_path, ["data.train_negatives=unseen", "device=cpu", *overrides, f"seed={seed}"])
    data = open_data(config)
    seed_everything(seed)
    model = create_model(config.model_name, data.schema, config)
    trainer = Trainer(model, data.schema, config, data.train, data.validation, data.test)
    state = trainer.train()
    best = state.history[state.best_epoch - 1]
    curve = [round(record["ndcg@10"], 4) for record in state.history]
    return {
        "config": config_path,
        "overrides": overrides,
        "seed": seed,
        "best_epoch": state.best_epoch,
        "epochs": state.epoch,
        "seconds": round(state.seconds, 1),
        **{name: round(best[name], 5) for name in ("ndcg@10", "hr@10", "auc", "logloss", "loss")},
        "curve": curve,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/deepfm_movielens.yaml")
    parser.add_argument("--trials", default="benchmarks/trials.yaml", help="YAML: a list of lists of overrides")
    parser.add_argument("--table", action="store_true", help="train nothing, print what is there")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--out", default="outputs/tuning/movielens.jsonl")
    args = parser.parse_args()
    import yaml

    out = Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    if args.table and not Path(args.trials).exists():
        known = {tuple(row["overrides"]) for row in done if row["config"] == args.config}
        trials = [list(overrides) for overrides in sorted(known, key=len)]
    else:
        trials = yaml.safe_load(Path(args.trials).read_text())
    known = {(row["config"], tuple(row["overrides"]), row["seed"]) for row in done}
    wanted = [(args.config, trial, seed) for seed in args.seeds for trial in trials]
    left = [job for job in wanted if (job[0], tuple(job[1]), job[2]) not in known and not args.table]
    with ProcessPoolExecutor(args.workers) as pool, out.open("a") as file:
        for future in as_completed([pool.submit(run_trial, *job) for job in left]):
            row = future.result()
            done.append(row)
            file.write(json.dumps(row) + "\n")
            file.flush()
            print(json.dumps({key: value for key, value in row.items() if key != "curve"}), flush=True)
    print("\n| overrides | seeds | validation NDCG@10 | HR@10 | AUC | best epoch | seconds |")
    print("|---|---|---|---|---|---|---|")
    for trial in trials:
        rows = [row for row in done if (row["config"], row["overrides"]) == (args.config, trial)]
        if rows:
            ndcg = [row["ndcg@10"] for row in rows]
            spread = f" ± {stdev(ndcg):.4f}" if len(ndcg) > 1 else ""
            print(
                f"| {' '.join(trial) or '(none)'} | {len(rows)} | {mean(ndcg):.4f}{spread} | "
                f"{mean(row['hr@10'] for row in rows):.4f} | {mean(row['auc'] for row in rows):.4f} | "
                f"{mean(row['best_epoch'] for row in rows):.0f} | {mean(row['seconds'] for row in rows):.0f} |"
            )


if __name__ == "__main__":
    main()
