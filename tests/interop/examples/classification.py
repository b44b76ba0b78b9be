"""Clicks with many columns: gaps filled, text encoded, numbers scaled, one model after another."""

import json
import sys

import numpy as np
import pandas as pd
from deepctr_torch.inputs import DenseFeat, SparseFeat, get_feature_names
from deepctr_torch.models import *  # noqa: F403
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import LabelEncoder, MinMaxScaler


def made(rows=3000):
    """A log in Criteo's form, and the probabilities that its labels were drawn with."""
    rng = np.random.default_rng(0)
    data = pd.DataFrame({f"I{i}": rng.exponential(10.0, rows) for i in range(1, 5)})
    for i in range(1, 7):
        data[f"C{i}"] = np.array([f"{value:08x}" for value in rng.integers(0, 10, rows)])
    weight = {f"{value:08x}": rng.normal() for value in range(10)}
    logit = 1.5 * data["C1"].map(weight) - 1.5 * data["C2"].map(weight) + 2.0 * data["C3"].map(weight)
    logit += 0.08 * (data["I1"] - 10.0)
    probability = 1 / (1 + np.exp(-logit))
    data["label"] = (rng.random(rows) < probability).astype(int)
    for column in ("I3", "C6"):
        data.loc[rng.random(rows) < 0.1, column] = np.nan
    return data, probability


if __name__ == "__main__":
    names = sys.argv[1:] or ["DeepFM"]
    data, probability = made()

    sparse_features = ["C" + str(i) for i in range(1, 7)]
    dense_features = ["I" + str(i) for i in range(1, 5)]
    data[sparse_features] = data[sparse_features].fillna("-1")
    data[dense_features] = data[dense_features].fillna(0)
    target = ["label"]

    for feat in sparse_features:
        data[feat] = LabelEncoder().fit_transform(data[feat])
    data[dense_features] = MinMaxScaler(feature_range=(0, 1)).fit_transform(data[dense_features])

    fixlen_feature_columns = [SparseFeat(feat, data[feat].nunique()) for feat in sparse_features]
    fixlen_feature_columns += [DenseFeat(feat, 1) for feat in dense_features]
    dnn_feature_columns = fixlen_feature_columns
    linear_feature_columns = fixlen_feature_columns
    feature_names = get_feature_names(linear_feature_columns + dnn_feature_columns)

    train, test = train_test_split(data, test_size=0.2, random_state=2020)
    train_model_input = {name: train[name] for name in feature_names}
    test_model_input = {name: test[name] for name in feature_names}

    found = {"best": roc_auc_score(test["label"], probability[test.index])}
    for name in names:
        model = globals()[name](linear_feature_columns, dnn_feature_columns, task="binary", device="cpu")
        model.compile("adagrad", "binary_crossentropy", metrics=["binary_crossentropy", "auc"])
        history = model.fit(
            train_model_input, train[target].values, batch_size=32, epochs=5, verbose=2, validation_split=0.2
        )
        predictions = model.predict(test_model_input, 256)
        found[name] = {
            "loss": log_loss(test[target].values, predictions),
            "auc": roc_auc_score(test[target].values, predictions),
            "history": {key: len(values) for key, values in history.history.items()},
            "evaluated": sorted(model.evaluate(test_model_input, test[target].values)),
        }
    print(json.dumps(found))
