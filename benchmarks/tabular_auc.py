"""AUC of DeepFM beside logistic regression and LightGBM on binary tables; prints a Markdown table.

    python benchmarks/tabular_auc.py [--rows 50000] [--folds 5]

A generated table whose label hangs on pairs of categories and a product of numbers, and scikit-learn's bundled breast
cancer data and digits (is it an 8?). Means and standard deviations over stratified folds, the same for all models: each
library's defaults but for the most epochs and iterations allowed, then with one setting chosen on a quarter of the
fold's training rows.
"""

import argparse
import os
import platform
import warnings
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold, StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


def interactions(rows: int, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Six columns; what decides are pairs, which no column shows alone."""
    rng = np.random.default_rng(seed)
    user, item, kind = rng.integers(0, 200, rows), rng.integers(0, 100, rows), rng.integers(0, 12, rows)
    effects = rng.normal(0, 1, (200, 6)) @ rng.normal(0, 0.8, (6, 100))  # of low rank, as tastes are
    numbers = rng.normal(0, 1, (rows, 3))
    logit = effects[user, item] + np.where(kind % 3 == user % 3, 1.0, -0.5) + numbers[:, 0] * numbers[:, 1]
    label = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(int)
    frame = pd.DataFrame({"user": user, "item": item, "kind": kind}).astype(str)
    return frame.assign(**{f"number{place}": numbers[:, place] for place in range(3)}), label


def tables(rows: int) -> dict[str, tuple[pd.DataFrame, np.ndarray]]:
    """Name → features and labels."""
    cancer, digits = load_breast_cancer(as_frame=True), load_digits(as_frame=True)
    return {
        f"interactions, {rows:,} rows": interactions(rows),
        f"breast cancer, {len(cancer.data):,} rows": (cancer.data, cancer.target.to_numpy()),
        f"digits, 8 or not, {len(digits.data):,} rows": (digits.data, (digits.target == 8).astype(int).to_numpy()),
    }


def chosen(model: Any, settings: dict[str, list[float]]) -> GridSearchCV:
    """The model with the setting that does best on a quarter of its own training rows."""
    return GridSearchCV(
        model, settings, scoring="roc_auc", cv=StratifiedShuffleSplit(1, test_size=0.25, random_state=0)
    )


def models(frame: pd.DataFrame) -> dict[str, Any]:
    """Column of the printed table → classifier: each library's defaults, then one setting chosen on training rows."""
    from lightgbm import LGBMClassifier

    from deepfm.sklearn import CTRClassifier

    numbers = list(frame.select_dtypes("number"))
    columns = make_column_transformer(
        (StandardScaler(), numbers),
        (OneHotEncoder(handle_unknown="ignore"), [name for name in frame if name not in numbers]),
    )
    logistic = make_pipeline(columns, LogisticRegression(max_iter=2000))
    lightgbm = LGBMClassifier(verbose=-1, random_state=0)
    deepfm = CTRClassifier("deepfm", random_state=0, training__num_epochs=50)
    return {
        "logistic regression": logistic,
        "LightGBM": lightgbm,
        "DeepFM": deepfm,
        "logistic regression, C chosen": chosen(logistic, {"logisticregression__C": [0.1, 1.0, 10.0]}),
        "LightGBM, trees chosen": chosen(lightgbm, {"n_estimators": [100, 300, 1000]}),
        "DeepFM, learning rate chosen": chosen(deepfm, {"training__lr": [0.001, 0.003, 0.01]}),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--folds", type=int, default=5)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    print(f"AUC over {args.folds} folds; {platform.machine()}, {os.cpu_count()} cores\n")
    for number, (name, (frame, labels)) in enumerate(tables(args.rows).items()):
        kinds = {text: pd.CategoricalDtype(sorted(set(frame[text]))) for text in frame.select_dtypes(exclude="number")}
        frame = frame.astype(kinds)  # as LightGBM wants its categories
        found: dict[str, list[float]] = {}
        for train, test in StratifiedKFold(args.folds, shuffle=True, random_state=0).split(frame, labels):
            for title, model in models(frame).items():
                scores = model.fit(frame.iloc[train], labels[train]).predict_proba(frame.iloc[test])[:, 1]
                found.setdefault(title, []).append(roc_auc_score(labels[test], scores))
        if not number:
            print(f"| data | {' | '.join(found)} |\n|{'---|' * (len(found) + 1)}")
        cells = [f"{np.mean(values):.4f} ± {np.std(values):.4f}" for values in found.values()]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
