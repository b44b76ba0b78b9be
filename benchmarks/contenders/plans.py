"""What is measured: the workloads' data and sizes, and who takes part in each.

Adding a contender or a variant of one is a line in `WORKLOADS`.
"""

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from contenders.workload import Field, Rows, Workload

ROOT = Path(__file__).resolve().parents[2]
BATCH_ROWS, SCORING_ROWS, QUICK_ROWS = 4096, 8192, 4096
MAX_HISTORY, HISTORY_SCORING_ROWS = 50, 1024  # of 512, 1,024 and 4,096 rows the peers' fastest
# Distinct values of Criteo's 26 categorical fields (the public 45-million-row set); cut here to a total of a million.
CRITEO_VALUES = (
    *(1460, 583, 10131227, 2202608, 305, 24, 12517, 633, 3, 93145, 5683, 8351593, 3194),
    *(27, 14992, 5461306, 10, 5652, 2173, 4, 7046547, 18, 15, 286181, 105, 142572),
)
NUM_DENSE = 13


@dataclass(frozen=True)
class Entry:
    """A contender in a workload.

    Args:
        name: as the table shows it.
        script: a file of this folder, without `.py`; empty for the package's own command.
        environment: a folder of `.bench/`; empty for the package's own environment.
        overrides: `key=value` of a variant.
        predict: `bulk` or `per-user`, where candidates are scored.
        learns: whether its loss must fall.
        extra: measured only where `--contenders` asks for it.
    """

    name: str
    script: str
    environment: str = ""
    overrides: tuple[str, ...] = ()
    predict: str = ""
    learns: bool = True
    extra: bool = False


OURS = Entry("deepfm", "deepfm_run")
LEAN = Entry("lean loop, fused table", "lean")
PER_ROW = Entry("per-row Dataset", "per_row")
PRODUCTS = Entry("matrix products of the tower alone", "products", learns=False)
DEEPCTR = Entry("DeepCTR-Torch", "deepctr_torch_run", "deepctr_torch")
FUXICTR = Entry("FuxiCTR", "fuxictr_run", "fuxictr")
RECHUB = Entry("torch-rechub", "torch_rechub_run", "torch_rechub")
OURS_PLAIN = replace(OURS, name="deepfm, plain rows", overrides=("rows=plain",))
# FuxiCTR's BST is 32 wide by its positions and 16 wide without them; deepfm's, with positions, is 16 wide.
FUXICTR_BST = replace(FUXICTR, name="FuxiCTR, with positions")
FUXICTR_NO_POSITIONS = replace(FUXICTR, name="FuxiCTR, without positions", overrides=("positions=none",))
# What a peer's users could do beyond its documentation; measured on demand.
DEEPCTR_FUSED = replace(DEEPCTR, name="DeepCTR-Torch, fused Adam", overrides=("optimizer=fused",), extra=True)
FUXICTR_WORKER = replace(FUXICTR, name="FuxiCTR, one loader process", overrides=("num_workers=1",), extra=True)
RECHUB_FUSED = replace(RECHUB, name="torch-rechub, fused Adam", overrides=("optimizer=fused",), extra=True)

CLIPS = "deepfm, FuxiCTR and the lean loop clip gradients at norm 10; DeepCTR-Torch and torch-rechub do not."
PER_ROW_NOTE = "The per-row Dataset sees 32,768 rows a turn, so its loss compares with nothing."
CONVERSION = (
    "DeepCTR-Torch turns arrays into tensors within `fit` and `predict`, so that is timed; the others do before."
)
FIRST_ORDER = (
    "A sequence's first-order weights are averaged (deepfm, DeepCTR-Torch, lean) or summed (FuxiCTR); torch-rechub's "
    "first order is a linear layer on the embeddings, so it has fewer parameters."
)
DENSE = (
    "DeepCTR-Torch and torch-rechub feed dense numbers straight to the tower, whose first layer is then 429 wide, not "
    "624; the others embed them. torch-rechub's tower always has BatchNorm, here as well."
)
HISTORIES = (
    "Rows are likes, each followed by four negatives; a row's history is the movies that its user liked before that "
    "like, the last 50, padded with 0. The peers get it written out in each row, as they are documented to. deepfm "
    "keeps it once a like in training and once a user in evaluation, and shares it among the rows of a like (819 likes "
    "a batch, 4,095 rows) and of a user, which is its design; `plain rows` is deepfm fed as the peers are."
)
REDRAWN = (
    "deepfm draws its negatives anew each epoch, and is timed with that; its plain rows and the peers keep the first."
)
SCORED = (
    "Each contender has trained one pass on its own loop before; the weights differ. deepfm scores in batches of 4,096 "
    "rows or less, the peers in batches of 1,024, which suits them best; FuxiCTR's loop over users gets batches in "
    "memory, as its own loader would read a file a user."
)
DIN_NOTE = (
    "DIN: the attention network is 64-16 with ReLU, its weights not normalised, and padding weighs nothing, in all. "
    "torch-rechub has BatchNorm in the attention network (over padding, too) and in the tower, whose activation is its "
    "Dice; neither can be turned off. DeepCTR-Torch wants histories left-aligned with a column of lengths, which it "
    "gets, and also averages the history, which it does not use."
)
BST_NOTE = (
    "BST: one layer, four heads, no dropout, normalised after each part; what goes out is the candidate's own place. "
    "deepfm computes this place alone, the peers all 51. deepfm and torch-rechub add positions to tokens 16 wide and "
    "feed forward 64 wide (torch-rechub's 2,048, which it does not let one choose, were replaced); FuxiCTR appends "
    "positions, so it is 32 wide throughout, or 16 without them. ReLU (deepfm) or LeakyReLU. torch-rechub's tower has "
    "BatchNorm. DeepCTR-Torch has no BST."
)
ASSEMBLED = (
    "FuxiCTR's DIN and BST are in its repository's model zoo and not in its wheel; they are put together from its "
    "layers, as they are there."
)
SIN_NOTE = (
    "No peer has SIN, which is about a BST and an xDeepFM in one; here are the fastest DIN and BST of a peer, which "
    "have no CIN, and the one xDeepFM that has SIN's CIN, without a history. SIN: one layer, four heads, feed forward "
    "64 wide, all 50 places are encoded, the candidate attends to them, a CIN 128-128 over the seven fields, with ReLU "
    "and split halves, first order; `as configured` has the CIN of configs/sin_movielens.yaml."
)


@dataclass(frozen=True)
class Plan:
    """A workload with its contenders; the first entry is what the others are compared with.

    Args:
        kind: `train`, `predict` or `job`.
        data: the name of its training rows: `movielens`, `histories` (that with its users' histories) or `criteo`.
        sizes: changes to the defaults of `Workload`.
        rows: training rows a turn; 0 for all there are.
    """

    title: str
    kind: str
    data: str
    entries: tuple[Entry, ...]
    sizes: dict[str, Any] = field(default_factory=dict)
    rows: int = 0
    notes: tuple[str, ...] = ()


PLAIN = {"batch_norm": False, "dropout": 0.0}
FULL = {"batch_norm": True, "dropout": 0.1}
XDEEPFM = {**PLAIN, "model": "xdeepfm", "cin_layers": (128, 128)}
RELU_CIN = {**XDEEPFM, "cin_split_half": True, "cin_activation": "relu"}
LINEAR_CIN = {**XDEEPFM, "cin_split_half": False, "cin_activation": "linear"}
SEQUENCES = {
    **PLAIN,
    "attention_units": (64, 16),
    "num_heads": 4,
    "feedforward_dim": 64,
    "scoring_rows": HISTORY_SCORING_ROWS,
}
DIN, BST = ({**SEQUENCES, "model": model} for model in ("din", "bst"))
SIN = {**SEQUENCES, "model": "sin", "cin_layers": (128, 128), "cin_split_half": True, "cin_activation": "relu"}
FUXICTR_LOOP = replace(FUXICTR, name="FuxiCTR, a loop over users", predict="per-user")
DIN_ENTRIES = (OURS, OURS_PLAIN, FUXICTR, FUXICTR_LOOP, DEEPCTR, RECHUB)
BST_ENTRIES = (
    OURS,
    OURS_PLAIN,
    FUXICTR_BST,
    FUXICTR_NO_POSITIONS,
    RECHUB,
    replace(RECHUB, name="torch-rechub, feed forward 2,048 wide", overrides=("feedforward=own",), extra=True),
)
SIN_ENTRIES = (
    OURS,
    replace(OURS, name="deepfm, CIN 16-16, as configured", overrides=("cin.layer_sizes=[16,16]",)),
    OURS_PLAIN,
    *(
        replace(entry, name=name, overrides=(f"model={model}",), extra=extra)
        for entry, name, model, extra in (
            (FUXICTR, "FuxiCTR's DIN", "din", False),
            (FUXICTR_LOOP, "FuxiCTR's DIN, a loop over users", "din", False),
            (RECHUB, "torch-rechub's BST", "bst", False),
            (DEEPCTR, "DeepCTR-Torch's xDeepFM, no history", "xdeepfm", False),
            (DEEPCTR, "DeepCTR-Torch's DIN", "din", True),
            (FUXICTR, "FuxiCTR's BST, with positions", "bst", True),
        )
    ),
)
SCORING = tuple(
    replace(entry, name=f"{entry.name}, {text}", predict=how)
    for how, text in (("bulk", "all rows at once"), ("per-user", "a loop over users"))
    for entry in (OURS, DEEPCTR, FUXICTR, RECHUB)
)


def _sequences(letter: str, what: str, kind: str, notes: tuple[str, ...]) -> tuple[Plan, ...]:
    """A table a model, for training or for evaluation, where whatever says nothing else scores all rows at once."""
    models = (
        ("DIN", DIN, DIN_ENTRIES, (DIN_NOTE, ASSEMBLED)),
        ("BST", BST, BST_ENTRIES, (BST_NOTE, ASSEMBLED)),
        ("SIN beside the peers' DIN and BST", SIN, SIN_ENTRIES, (SIN_NOTE, DIN_NOTE, BST_NOTE, ASSEMBLED)),
    )
    return tuple(
        Plan(
            f"({letter}) {name}, {what}",
            kind,
            "histories",
            tuple(
                replace(entry, predict=entry.predict or "bulk") if kind == "predict" else entry
                for entry in entries
                if kind == "predict" or not entry.predict
            ),
            sizes,
            notes=(*notes, *own),
        )
        for name, sizes, entries, own in models
    )


WORKLOADS: dict[str, tuple[Plan, ...]] = {
    "a": (
        Plan(
            "(a) DeepFM, MovieLens-100K's seven fields, one epoch, no BatchNorm, no dropout",
            "train",
            "movielens",
            (OURS, DEEPCTR, FUXICTR, LEAN, PER_ROW, PRODUCTS, DEEPCTR_FUSED, FUXICTR_WORKER),
            PLAIN,
            notes=(CLIPS, FIRST_ORDER, PER_ROW_NOTE, CONVERSION),
        ),
        Plan(
            "(a) DeepFM, MovieLens-100K's seven fields, one epoch, BatchNorm and dropout 0.1",
            "train",
            "movielens",
            (OURS, DEEPCTR, FUXICTR, RECHUB, LEAN, PER_ROW, PRODUCTS, DEEPCTR_FUSED, FUXICTR_WORKER, RECHUB_FUSED),
            FULL,
            notes=(CLIPS, FIRST_ORDER, PER_ROW_NOTE, CONVERSION),
        ),
    ),
    "b": (
        Plan(
            "(b) DeepFM, Criteo-shaped: 13 dense and 26 sparse fields, tower 400-400-400",
            "train",
            "criteo",
            (OURS, DEEPCTR, FUXICTR, RECHUB, LEAN, PER_ROW, PRODUCTS, DEEPCTR_FUSED, FUXICTR_WORKER, RECHUB_FUSED),
            {**PLAIN, "hidden_units": (400, 400, 400)},
            notes=(CLIPS, DENSE, PER_ROW_NOTE, CONVERSION),
        ),
    ),
    "c": (
        Plan(
            "(c) xDeepFM on (a)'s rows, CIN 128-128 with ReLU and split halves",
            "train",
            "movielens",
            (OURS, DEEPCTR),
            RELU_CIN,
            rows=65_536,
            notes=(CLIPS, "FuxiCTR's CIN has neither ReLU nor split; torch-rechub has no xDeepFM."),
        ),
        Plan(
            "(c) xDeepFM on (a)'s rows, CIN 128-128, linear, no split",
            "train",
            "movielens",
            (OURS, FUXICTR, DEEPCTR),
            LINEAR_CIN,
            rows=65_536,
            notes=(CLIPS, FIRST_ORDER, "torch-rechub has no xDeepFM."),
        ),
    ),
    "d": (
        Plan(
            "(d) evaluation: each user's candidates to HR@10, NDCG@10 and AUC",
            "predict",
            "movielens",
            SCORING,
            FULL,
            rows=65_536,
            notes=(
                "Each contender has trained one pass on its own loop before; the weights differ.",
                "deepfm scores its own tables of users and items in batches of 4,096, with its own metrics; the peers "
                "score the same candidates as flat rows in batches of 8,192, with one vectorised file of metrics.",
                "FuxiCTR's loop over users gets batches in memory, as its own loader would read a file a user.",
                CONVERSION,
            ),
        ),
    ),
    "e": (
        Plan(
            "(e) the whole job: raw files, epochs each with validation, best weights to test metrics",
            "job",
            "movielens",
            (Entry("deepfm train", ""), DEEPCTR, FUXICTR, RECHUB),
            FULL,
            notes=(
                "From process start to its end, seen from outside. The peers' jobs share "
                "`benchmarks/contenders/job.py`, which reads with pandas and draws negatives vectorised; candidates "
                "follow the same protocol and are drawn anew. deepfm also writes its run folder: configuration, "
                "checkpoint, weights, candidates, report.",
            ),
        ),
    ),
    "f": _sequences(
        "f",
        "MovieLens-100K's seven fields and the user's last 50 likes, one epoch",
        "train",
        (HISTORIES, REDRAWN, CLIPS, CONVERSION),
    ),
    "g": _sequences(
        "g",
        "evaluation: each user's candidates behind a history to HR@10, NDCG@10 and AUC",
        "predict",
        (SCORED, HISTORIES, CONVERSION),
    ),
}


def prepare(plan: Plan, folder: Path, quick: bool, seed: int, epochs: int) -> Workload:
    """Write the files that a plan's workers read."""
    sizes: dict[str, Any] = {
        "model": "deepfm",
        "embedding_dim": 16,
        "hidden_units": (256, 128, 64),
        "batch_size": 1024 if quick else BATCH_ROWS,
        "scoring_rows": SCORING_ROWS,
        "lr": 1e-3,
        "clip_norm": 10.0,
        "seed": seed,
        "slow_rows": 2048 if quick else 8 * BATCH_ROWS,
        "epochs": epochs,
        **plan.sizes,
    }
    candidates = None
    if plan.data == "criteo":
        rows, shape = criteo(quick, seed)
    else:
        max_history = MAX_HISTORY if plan.data == "histories" else 0
        rows, candidates, shape = movielens(folder.parent, quick, seed, max_history)
    if plan.rows:
        limit = min(plan.rows, QUICK_ROWS) if quick else plan.rows
        chosen = np.sort(np.random.default_rng(seed).permutation(len(rows.labels))[:limit])
        rows = Rows({name: column[chosen] for name, column in rows.columns.items()}, rows.labels[chosen])
    workload = Workload(**{**shape, **sizes})
    folder.mkdir(parents=True)
    (folder / "workload.json").write_text(json.dumps(asdict(workload), indent=2), encoding="utf-8")
    np.savez(folder / "train.npz", **rows.columns, label=rows.labels)
    if plan.kind == "predict" and candidates is not None:
        own = {"label": candidates.labels, "offsets": candidates.offsets}
        np.savez(folder / "candidates.npz", **candidates.columns, **own)
    return workload


def movielens(folder: Path, quick: bool, seed: int, max_history: int = 0) -> tuple[Rows, Rows, dict[str, Any]]:
    """The package's own training rows and test candidates; generated ones where it must be quick.

    Args:
        max_history: the longest history of a user; 0 for none.
    """
    from deepfm.config import load_config
    from deepfm.data.sample import write_sample
    from deepfm.training.experiment import open_data
    from deepfm.utils.logging import configure_console

    configure_console(quiet=True)
    raw = folder / f"sample-{max_history}"
    if not quick:
        raw = Path(os.environ.get("DEEPFM_DATA_DIR") or ROOT.parent / "shared" / "datasets" / "ml-100k")
    elif not raw.exists():
        users, ratings = (60, 2_400) if max_history else (120, 6_000)  # a row with a history is more work
        write_sample(raw, seed, num_users=users, num_movies=300, num_ratings=ratings)
    count = 99 if quick else 999
    changes = [f"data.data_dir={raw}", "data.source=files", f"data.num_neg_eval={count}", f"seed={seed}"]
    changes += ["model_name=sin", f"feature.max_history={max_history}"] if max_history else []
    data = open_data(load_config(ROOT / "configs" / "deepfm_movielens.yaml", changes))
    fields = tuple(
        Field(one.name, str(one.feature_type), one.vocabulary_size, one.max_length, one.shares_embedding_with or "")
        for one in data.schema.fields.values()
    )
    train, test = (
        Rows({name: column.numpy() for name, column in columns.items()}, labels.numpy(), part.group_offsets)
        for part in (data.train, data.test)
        for columns, labels in [part.batch(slice(None))]
    )
    return train, test, {"fields": fields, "raw_data": str(raw.resolve()), "num_candidates": count}


def criteo(quick: bool, seed: int) -> tuple[Rows, dict[str, Any]]:
    """Rows shaped like Criteo's: Zipf-distributed ids, clicks from a planted logistic model with interactions."""
    total, count = (20_000, 8_192) if quick else (1_000_000, 163_840)
    draw = np.random.default_rng(seed)
    columns: dict[str, np.ndarray] = {}
    logit = np.full(count, -1.1)
    tastes = np.zeros((count, 4))
    for number in range(NUM_DENSE):
        values = draw.normal(size=count).astype(np.float32)
        columns[f"I{number + 1}"] = values
        logit += 0.15 * draw.normal() * values
    fields = [Field(name, "dense") for name in columns]
    for number, size in enumerate(vocabulary_sizes(total)):
        rank = np.exp(draw.random(count) * np.log(size)).astype(np.int64)  # 1 … size - 1, P(rank) ~ 1 / rank
        ids = (1 + draw.permutation(size - 1))[np.minimum(rank, size - 1) - 1]
        columns[f"C{number + 1}"] = ids
        fields.append(Field(f"C{number + 1}", "sparse", size))
        logit += 0.25 * draw.normal(size=size)[ids]
        tastes += 0.1 * draw.normal(size=(size, tastes.shape[1]))[ids]
    logit += (tastes**2 - tastes.var(axis=0)).sum(axis=1)
    labels = (draw.random(count) < 1.0 / (1.0 + np.exp(-logit))).astype(np.float32)
    return Rows(columns, labels), {"fields": tuple(fields)}


def vocabulary_sizes(total: int) -> list[int]:
    """Criteo's 26 sizes, padding rows included, cut at one largest size so that they add up to about `total`."""
    low, high = 4.0, float(max(CRITEO_VALUES))
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(min(v + 1, middle) for v in CRITEO_VALUES) <= total else (low, middle)
    return [int(min(values + 1, low)) for values in CRITEO_VALUES]
