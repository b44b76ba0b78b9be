"""Ratings from ids and what is known of a user: encoded, split, one model."""

import json

import numpy as np
import pandas as pd
from deepctr_torch.inputs import SparseFeat, get_feature_names
from deepctr_torch.models import DeepFM
from sklearn.metrics import mean_squared_error
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import LabelEncoder

NOISE = 0.5


def made(rows=6000):
    """Ratings in MovieLens' form: what users and movies add, and noise."""
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"movie_id": rng.integers(1, 41, rows), "user_id": rng.integers(1, 61, rows)})
    genders, ages = rng.choice(["M", "F"], 61), rng.choice([1, 18, 25, 35], 61)
    data["gender"], data["age"] = genders[data["user_id"]], ages[data["user_id"]]
    kindness, quality = rng.normal(0, 0.7, 61), rng.normal(0, 0.9, 41)
    data["rating"] = 3.5 + kindness[data["user_id"]] + quality[data["movie_id"]] + rng.normal(0, NOISE, rows)
    return data


if __name__ == "__main__":
    data = made()
    sparse_features = ["movie_id", "user_id", "gender", "age"]
    target = ["rating"]
    for feat in sparse_features:
        data[feat] = LabelEncoder().fit_transform(data[feat])

    fixlen_feature_columns = [SparseFeat(feat, data[feat].nunique()) for feat in sparse_features]
    linear_feature_columns = fixlen_feature_columns
    dnn_feature_columns = fixlen_feature_columns
    feature_names = get_feature_names(linear_feature_columns + dnn_feature_columns)

    train, test = train_test_split(data, test_size=0.2, random_state=2020)
    train_model_input = {name: train[name] for name in feature_names}
    test_model_input = {name: test[name] for name in feature_names}

    model = DeepFM(linear_feature_columns, dnn_feature_columns, task="regression", device="cpu")
    model.compile("adam", "mse", metrics=["mse"])
    history = model.fit(
        train_model_input, train[target].values, batch_size=64, epochs=12, verbose=2, validation_split=0.2
    )
    pred_ans = model.predict(test_model_input, batch_size=256)
    print(
        json.dumps(
            {
                "mse": mean_squared_error(test[target].values, pred_ans),
                "chance": float(test["rating"].var()),
                "best": NOISE**2,
                "history": {key: len(values) for key, values in history.history.items()},
            }
        )
    )
