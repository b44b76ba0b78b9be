"""FuxiCTR's keys of training: its rule of cuts and stops, its penalties and what it watches."""

from typing import Any

from deepfm.interop.fuxictr.forms import Section
from deepfm.interop.fuxictr.keys import Keys, as_number

MIN_LR, MIN_DELTA, FACTOR = 1e-6, 1e-6, 0.1  # of FuxiCTR's `lr_decay` and `checkpoint_and_earlystop`
INIT_STD = 1e-4  # of FuxiCTR's embedding tables
METRICS = {"AUC": ("auc", 1), "logloss": ("logloss", -1), "binary_crossentropy": ("logloss", -1)}  # name, direction
LOSSES = ("binary_crossentropy", "binary_cross_entropy", "bce")
OPTIMIZERS = {"adam": "adam", "sgd": "sgd"}
ONE_PENALTY = ("LR", "FM")  # models whose `regularizer` is on tables and network alike


def read_training(keys: Keys, model: str) -> tuple[dict[str, Section], dict[str, Any]]:
    """Take the keys of training.

    Args:
        model: FuxiCTR's name of the model.

    Returns:
        our sections `feature` (penalty and initialisation) and `training`, and the settings that stand in no section.
    """
    if model in ONE_PENALTY:
        tables = network = keys.l2("regularizer")
    else:
        tables, network = keys.l2("embedding_regularizer"), keys.l2("net_regularizer")
    _refuse_others(keys)
    plateau = keys.flag("reduce_lr_on_plateau", True)
    training: Section = {
        "loss": "bce",
        "num_epochs": keys.whole("epochs", 1),
        "batch_size": keys.whole("batch_size", 32),
        "lr": keys.number("learning_rate", 1e-3),
        "optimizer": _optimizer(keys),
        "weight_decay": network,
        "linear_init": "xavier_normal",
        "metric": _metric(keys),
        "scheduler": "reduce_on_plateau" if plateau else "none",
        "plateau_factor": FACTOR,
        "plateau_patience": 0,
        "plateau_restore": False,
        "min_lr": MIN_LR,
        "min_delta": MIN_DELTA,
        "early_stopping_patience": keys.whole("early_stop_patience", 2, older=("patience",)),
        "gradient_clip_norm": keys.number("max_gradient_norm", 10.0),
    }
    if tables or network:
        keys.note("max_gradient_norm", "holds for the loss's gradient, in FuxiCTR for that of loss and penalties")
    whole: dict[str, Any] = {}
    if "seed" in keys.values:
        whole["seed"] = keys.whole("seed", 0)
    else:
        keys.take("seed")
        keys.note("seed", "FuxiCTR stops without one; ours stands")
    return {"feature": {"embedding_l2_reg": tables / 2, "init_std": INIT_STD}, "training": training}, whole


def _refuse_others(keys: Keys) -> None:
    """Take the keys that can have one meaning here."""
    keys.require("loss", LOSSES[0], LOSSES, f"expected {LOSSES[0]}; a table has no other loss here")
    keys.require("task", "binary_classification", ("binary_classification",), "expected binary_classification")
    keys.require("shuffle", True, (True,), "training rows are always shuffled here; write true")
    keys.require("save_best_only", True, (True,), "the best epoch's weights are kept here; write true", "they are")
    keys.require("eval_steps", None, (None,), "every epoch ends with the one validation here; leave it out")
    for old in ("every_x_epochs", "eval_interval"):
        if old in keys.values:
            keys.require(old, 1, (1,), "every epoch ends with the one validation here; write 1")
    for name in keys.names("metrics"):
        if name not in METRICS:
            keys.note("metrics", f"{name} is not measured here, as rows of a table stand in no groups")
    if keys.take("group_id") is not None:
        keys.note("group_id", "no metric of groups is measured here, so the column is not read")


def _optimizer(keys: Keys) -> str:
    name = keys.take("optimizer", "adam")
    ours = OPTIMIZERS.get(name.lower()) if isinstance(name, str) else None
    if ours is None:
        keys.refuse("optimizer", "expected adam or SGD, the ones that are as FuxiCTR's here")
    return ours or "adam"


def _metric(keys: Keys) -> str:
    """The one metric that decides which epoch is best."""
    monitor, mode = keys.take("monitor", "AUC"), keys.take("monitor_mode", "max")
    if mode not in ("max", "min"):
        keys.refuse("monitor_mode", "expected max or min")
    given = monitor if isinstance(monitor, dict) else {str(monitor): 1}
    weights = {name: as_number(weight) for name, weight in given.items()}
    watched = [(METRICS.get(str(name)), weight or 0.0) for name, weight in weights.items() if weight != 0]
    metric, weight = watched[0] if watched else (None, 0.0)
    if len(watched) != 1 or metric is None or None in weights.values():
        keys.refuse("monitor", "one metric decides here, AUC or logloss; write one of them", "AUC decides")
        return "auc"
    if (weight > 0) != ((metric[1] > 0) == (mode != "min")):
        keys.refuse("monitor_mode", f"would keep the worst epoch by {metric[0]}; turn it round")
    return metric[0]
