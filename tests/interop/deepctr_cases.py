"""Models on made columns, written for either package: `inputs` and `models` are DeepCTR-Torch's modules or ours.

Imported here and by `deepctr_peer.py`, which runs where DeepCTR-Torch is installed: numpy alone.
"""

import inspect

import numpy as np

ROWS = 96


def columns(inputs, mix):
    """The linear and the dnn columns of a mix."""
    sparse, dense, several = inputs.SparseFeat, inputs.DenseFeat, inputs.VarLenSparseFeat
    a, b = sparse("a", 11, 4), sparse("b", 7, 4)
    d, wide = dense("d"), dense("w", 3)
    pooled = [
        several(sparse(f"{combiner}_{end}", 9, 4), 5, combiner, length_name="length" if end == "l" else None)
        for combiner, end in (("mean", "l"), ("mean", "m"), ("sum", "l"), ("sum", "m"), ("max", "m"))
    ]  # DeepCTR-Torch's max does not run with lengths
    shared = [
        sparse("item", 13, 4),
        sparse("other", 13, 4, embedding_name="item"),
        several(sparse("seen", 13, 4, embedding_name="item"), 5, "mean", length_name="length"),
        several(sparse("liked", 13, 4, embedding_name="item"), 5, "sum"),
    ]
    history = [
        sparse("item", 13, 4),
        d,
        sparse("cat", 6, 8),
        several(sparse("hist_item", 13, 4, embedding_name="item"), 5, length_name="length"),
        several(sparse("hist_cat", 6, 8, embedding_name="cat"), 5, length_name="length"),
    ]
    mixes = {
        "plain": [a, b, d],
        "one sparse": [a],
        "no dense": [a, b],
        "no sparse": [d, wide],
        "pooled": [pooled[3], a, *pooled[:3], *pooled[4:], wide],
        "shared": [*shared, d, b],
        "widths": [sparse("a", 11, 4), sparse("b", 7, 6), several(sparse("mean_m", 9, 2), 5), wide],
        "history": history,
        "history and pooled": [*history, pooled[1], pooled[0], a],
    }
    if mix == "linear apart":
        return [b, wide, pooled[0]], [a, b, d, pooled[0]]
    if mix == "no linear":
        return [], [a, b, d]
    if mix == "no dnn":
        return [a, b, d], []
    return mixes[mix], mixes[mix]


SMALL = {"dnn_hidden_units": (8, 6)}
CASES = {
    **{f"DeepFM, {mix}": ("DeepFM", mix, SMALL) for mix in (
        "plain", "one sparse", "no dense", "no sparse", "pooled", "shared", "linear apart", "no linear", "no dnn",
    )},
    "DeepFM, batch norm": ("DeepFM", "pooled", {**SMALL, "dnn_use_bn": True}),
    "DeepFM, prelu": ("DeepFM", "plain", {**SMALL, "dnn_activation": "prelu"}),
    "DeepFM, sigmoid, no fm": ("DeepFM", "shared", {**SMALL, "dnn_activation": "sigmoid", "use_fm": False}),
    "DeepFM, regression": ("DeepFM", "pooled", {**SMALL, "task": "regression"}),
    "DeepFM, no tower": ("DeepFM", "pooled", {"dnn_hidden_units": ()}),
    "WDL, widths": ("WDL", "widths", SMALL),
    "WDL, shared, batch norm": ("WDL", "shared", {**SMALL, "dnn_use_bn": True}),
    "WDL, no sparse": ("WDL", "no sparse", SMALL),
    "xDeepFM, split": ("xDeepFM", "pooled", {**SMALL, "cin_layer_size": (6, 4, 3)}),
    "xDeepFM, whole": ("xDeepFM", "pooled", {**SMALL, "cin_layer_size": (5, 4), "cin_split_half": False}),
    "xDeepFM, linear, split": ("xDeepFM", "plain", {**SMALL, "cin_layer_size": (6, 4), "cin_activation": "linear"}),
    "xDeepFM, linear, whole": (
        "xDeepFM", "plain", {**SMALL, "cin_layer_size": (5, 4), "cin_split_half": False, "cin_activation": "linear"},
    ),
    "xDeepFM, batch norm": ("xDeepFM", "linear apart", {**SMALL, "cin_layer_size": (4,), "dnn_use_bn": True}),
    "xDeepFM, no cin": ("xDeepFM", "plain", {**SMALL, "cin_layer_size": ()}),
    "xDeepFM, no tower": ("xDeepFM", "plain", {"dnn_hidden_units": (), "cin_layer_size": (4, 4)}),
    "AutoInt": ("AutoInt", "pooled", SMALL),
    "AutoInt, one head, no residual": ("AutoInt", "plain", {**SMALL, "att_head_num": 1, "att_res": False}),
    "AutoInt, no tower": ("AutoInt", "pooled", {"dnn_hidden_units": (), "att_layer_num": 2}),
    "AutoInt, no attention": ("AutoInt", "plain", {**SMALL, "att_layer_num": 0, "dnn_use_bn": True}),
    "DCN": ("DCN", "shared", SMALL),
    "DCN, widths, batch norm": ("DCN", "widths", {**SMALL, "dnn_use_bn": True, "cross_num": 3}),
    "DCN, matrix": ("DCN", "pooled", {**SMALL, "cross_parameterization": "matrix"}),
    "DCN, no cross": ("DCN", "no sparse", {**SMALL, "cross_num": 0}),
    "DIN, Dice": ("DIN", "history", {**SMALL, "att_hidden_size": (6, 4)}),
    "DIN, relu, pooled": ("DIN", "history and pooled", {**SMALL, "att_hidden_size": (6,), "att_activation": "relu"}),
    "DIN, softmax, batch norm": (
        "DIN", "history",
        {**SMALL, "att_hidden_size": (6, 4), "att_activation": "sigmoid", "att_weight_normalization": True,
         "dnn_use_bn": True},
    ),
}  # fmt: skip
TRAINED = {  # case → the optimizer, and the penalties beside those of the tables and the linear part
    "DeepFM, pooled": ("adam", {"l2_reg_dnn": 0.02}),
    "DeepFM, shared": ("sgd", {"l2_reg_dnn": 0.02}),
    "DeepFM, linear apart": ("adagrad", {}),
    "DeepFM, batch norm": ("sgd", {}),
    "DeepFM, regression": ("rmsprop", {}),
    "WDL, widths": ("adam", {"l2_reg_dnn": 0.02}),
    "xDeepFM, split": ("adam", {"l2_reg_cin": 0.03, "l2_reg_dnn": 0.02}),
    "AutoInt": ("adam", {"l2_reg_dnn": 0.02}),
    "DCN": ("adam", {"l2_reg_cross": 0.03, "l2_reg_dnn": 0.02}),
    "DIN, Dice": ("sgd", {}),
}
PENALTIES = {"l2_reg_linear": 0.02, "l2_reg_embedding": 0.05}
EPOCHS, BATCH = 3, 40
WITHOUT_VALIDATION = ("DeepFM, batch norm", "DIN, Dice")  # after validating, DeepCTR-Torch goes on in evaluation mode


def signatures(inputs, models, callbacks):
    """The arguments of what scripts call, with their defaults, in order."""
    called = {name: getattr(models, name) for name in ("DeepFM", "xDeepFM", "WDL", "AutoInt", "DCN", "DIN")}
    called |= {name: getattr(callbacks, name) for name in ("EarlyStopping", "ModelCheckpoint")}
    called |= {name: getattr(inputs, name).__new__ for name in ("SparseFeat", "DenseFeat", "VarLenSparseFeat")}
    called |= {f"fit {name}": getattr(models.DeepFM, name) for name in ("compile", "fit", "evaluate", "predict")}
    called |= {
        name: getattr(inputs, name)
        for name in (
            "get_feature_names", "build_input_features", "combined_dnn_input", "create_embedding_matrix",
            "embedding_lookup", "varlen_embedding_lookup", "get_dense_input", "maxlen_lookup",
        )
    }  # fmt: skip
    return {
        name: [
            [parameter.name, _plain(parameter.default)]
            for parameter in inspect.signature(function).parameters.values()
            if parameter.name not in ("self", "cls")
        ]
        for name, function in called.items()
    }


def _plain(default):
    if default is inspect.Parameter.empty:
        return "required"
    return list(default) if isinstance(default, tuple) else default


def make(inputs, models, case, **options):
    """A case's model."""
    name, mix, own = CASES[case]
    linear, dnn = columns(inputs, mix)
    first = (dnn, ["item", "cat"]) if name == "DIN" else (linear, dnn)
    return getattr(models, name)(*first, **own, **options)


def penalties_of(case):
    """The penalties of a trained case; AutoInt's linear part and DCN's have none that can be set."""
    name = CASES[case][0]
    common = dict(PENALTIES)
    if name in ("AutoInt", "DCN", "DIN"):
        del common["l2_reg_linear"]
    return {**common, **TRAINED[case][1]}


def fit_options(case):
    """How a trained case is fitted."""
    share = 0.0 if case in WITHOUT_VALIDATION else 0.25
    return {"batch_size": BATCH, "epochs": EPOCHS, "shuffle": False, "validation_split": share, "verbose": 0}


def data(inputs, case, seed=0):
    """Inputs and labels of a case; every row has an id that counts, and ids reach both ends."""
    rng = np.random.default_rng(seed)
    linear, dnn = columns(inputs, CASES[case][1])
    x = {}
    for column in [*linear, *dnn]:
        if hasattr(column, "maxlen"):
            ids = rng.integers(0, column.vocabulary_size, (ROWS, column.maxlen))
            if column.length_name is None:
                ids[rng.random(ids.shape) < 0.4] = 0
                ids[:, 2] = 1 + ids[:, 2] % (column.vocabulary_size - 1)
            else:
                x[column.length_name] = rng.integers(1, column.maxlen + 1, ROWS)
            x[column.name] = ids
        elif hasattr(column, "dimension"):
            shape = (ROWS,) if column.dimension == 1 else (ROWS, column.dimension)
            x[column.name] = rng.normal(size=shape).astype(np.float32)
        else:
            x[column.name] = np.resize(rng.permutation(column.vocabulary_size), ROWS)
    return x, rng.integers(0, 2, ROWS).astype(np.float32)
