"""Ratings with genres, several a movie: encoded with 0 as padding, pooled by their mean."""

import json

import numpy as np
import pandas as pd
from deepctr_torch.inputs import SparseFeat, VarLenSparseFeat, get_feature_names
from deepctr_torch.models import DeepFM
from sklearn.preprocessing import LabelEncoder

GENRES = ["Action", "Comedy", "Drama", "Horror", "Romance", "Western"]
NOISE = 0.3


def made(rows=4000):
    """Ratings that are what a movie's genres are worth on average, and noise."""
    rng = np.random.default_rng(0)
    worth = dict(zip(GENRES, [2.0, -1.5, 1.0, -2.0, 0.5, 0.0], strict=True))
    movies = [rng.choice(GENRES, rng.integers(1, 4), replace=False) for _ in range(300)]
    data = pd.DataFrame({"movie_id": rng.integers(0, 300, rows), "user_id": rng.integers(0, 50, rows)})
    data["genres"] = ["|".join(movies[movie]) for movie in data["movie_id"]]
    means = np.array([np.mean([worth[genre] for genre in movie]) for movie in movies])
    data["rating"] = 3.0 + means[data["movie_id"]] + rng.normal(0, NOISE, rows)
    return data


def split(x):
    """Ids of a row's genres; a new one gets the next number, as 0 is padding."""
    key_ans = x.split("|")
    for key in key_ans:
        if key not in key2index:
            key2index[key] = len(key2index) + 1
    return [key2index[key] for key in key_ans]


if __name__ == "__main__":
    data = made()
    sparse_features = ["user_id"]
    target = ["rating"]
    for feat in sparse_features:
        data[feat] = LabelEncoder().fit_transform(data[feat])

    key2index: dict[str, int] = {}
    genres_list = list(map(split, data["genres"].values))
    max_len = max(map(len, genres_list))
    genres_list = np.array([genres + [0] * (max_len - len(genres)) for genres in genres_list])

    fixlen_feature_columns = [SparseFeat(feat, data[feat].nunique(), embedding_dim=4) for feat in sparse_features]
    varlen_feature_columns = [
        VarLenSparseFeat(
            SparseFeat("genres", vocabulary_size=len(key2index) + 1, embedding_dim=4), maxlen=max_len, combiner="mean"
        )
    ]
    linear_feature_columns = fixlen_feature_columns + varlen_feature_columns
    dnn_feature_columns = fixlen_feature_columns + varlen_feature_columns
    feature_names = get_feature_names(linear_feature_columns + dnn_feature_columns)

    model_input = {name: data[name] for name in sparse_features}
    model_input["genres"] = genres_list

    model = DeepFM(linear_feature_columns, dnn_feature_columns, task="regression", device="cpu")
    model.compile("adam", "mse", metrics=["mse"])
    history = model.fit(model_input, data[target].values, batch_size=64, epochs=10, verbose=2, validation_split=0.2)
    print(
        json.dumps(
            {
                "names": feature_names,
                "mse": history.history["val_mse"][-1],
                "chance": float(data["rating"].var()),
                "best": NOISE**2,
            }
        )
    )
