"""DIN with two histories in the documentation's three rows, and on planted clicks."""

import json

import numpy as np
from deepctr_torch.inputs import DenseFeat, SparseFeat, VarLenSparseFeat, get_feature_names
from deepctr_torch.models.din import DIN
from sklearn.metrics import roc_auc_score


def get_xy_fd():
    """The columns, three rows of input and their labels, and the behaviour that is read."""
    feature_columns = [
        SparseFeat("user", 4, embedding_dim=4),
        SparseFeat("gender", 2, embedding_dim=4),
        SparseFeat("item_id", 4, embedding_dim=8),
        SparseFeat("cate_id", 3, embedding_dim=4),
        DenseFeat("pay_score", 1),
    ]
    feature_columns += [
        VarLenSparseFeat(
            SparseFeat("hist_item_id", 4, embedding_dim=8, embedding_name="item_id"), 4, length_name="seq_length"
        ),
        VarLenSparseFeat(
            SparseFeat("hist_cate_id", 3, embedding_dim=4, embedding_name="cate_id"), 4, length_name="seq_length"
        ),
    ]
    feature_dict = {
        "user": np.array([0, 1, 2]),
        "gender": np.array([0, 1, 0]),
        "item_id": np.array([1, 2, 3]),
        "cate_id": np.array([1, 2, 1]),
        "pay_score": np.array([0.1, 0.2, 0.3]),
        "hist_item_id": np.array([[1, 2, 3, 0], [1, 2, 3, 0], [1, 2, 0, 0]]),
        "hist_cate_id": np.array([[1, 1, 2, 0], [2, 1, 1, 0], [2, 1, 0, 0]]),
        "seq_length": np.array([3, 3, 2]),
    }
    x = {name: feature_dict[name] for name in get_feature_names(feature_columns)}
    return x, np.array([1, 0, 1]), feature_columns, ["item_id", "cate_id"]


def made(rows=4000, items=12):
    """Clicks that are likely where the candidate was seen before."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 6, rows)
    hist = np.where(np.arange(5) < lengths[:, None], rng.integers(1, items, (rows, 5)), 0)
    item = rng.integers(1, items, rows)
    seen = (hist == item[:, None]).any(axis=1)
    probability = np.where(seen, 0.9, 0.15)
    x = {"user": rng.integers(0, 30, rows), "item_id": item, "hist_item_id": hist, "seq_length": lengths}
    return x, (rng.random(rows) < probability).astype(int), probability


if __name__ == "__main__":
    x, y, feature_columns, behavior_feature_list = get_xy_fd()
    model = DIN(feature_columns, behavior_feature_list, device="cpu", att_weight_normalization=True)
    model.compile("adagrad", "binary_crossentropy", metrics=["binary_crossentropy"])
    history = model.fit(x, y, batch_size=3, epochs=10, verbose=2, validation_split=0.0)
    found = {"documented": history.history["loss"]}

    feature_columns = [
        SparseFeat("user", 30, embedding_dim=8),
        SparseFeat("item_id", 12, embedding_dim=8),
        VarLenSparseFeat(SparseFeat("hist_item_id", 12, 8, embedding_name="item_id"), 5, length_name="seq_length"),
    ]
    x, y, probability = made()
    train, test = {name: x[name][:3200] for name in x}, {name: x[name][3200:] for name in x}
    model = DIN(feature_columns, ["item_id"], dnn_hidden_units=(32, 16), init_std=0.1, device="cpu")
    model.compile("adam", "binary_crossentropy", metrics=["auc"])
    model.fit(train, y[:3200], batch_size=64, epochs=15, verbose=2)
    found["auc"] = roc_auc_score(y[3200:], model.predict(test)[:, 0])
    found["best"] = roc_auc_score(y[3200:], probability[3200:])
    print(json.dumps(found))
