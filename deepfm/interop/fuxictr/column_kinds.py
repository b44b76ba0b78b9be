"""Each kind of FuxiCTR's columns as one of a table schema."""

import re
from dataclasses import dataclass
from typing import Any

from deepfm.interop.fuxictr.files import Files
from deepfm.interop.fuxictr.forms import Form
from deepfm.interop.fuxictr.keys import Keys

TYPES = {"categorical": "sparse", "numeric": "dense", "sequence": "sequence"}
POOLINGS = {"MaskedAveragePooling": "mean", "MaskedSumPooling": "sum"}
ENCODERS = " or ".join(f"layers.{name}()" for name in POOLINGS)
NOT_POOLED = (None, "null", "None", "none")
MISSING = {"str": "", "int": 0, "float": 0.0}  # what FuxiCTR puts for a missing value, by dtype
PRETRAINED = ("pretrained_emb", "pretrain_dim", "pretrain_usage", "freeze_emb")
BUCKETS = ("category_processor", "num_buckets")
Column = dict[str, Any]


@dataclass(frozen=True)
class Surroundings:
    """What a column's meaning depends on beside its own keys.

    Args:
        form: the model.
        embedding_dim: the width of columns that have none of their own.
        min_count: the count of values of columns that have none of their own.
        files: the rows.
    """

    form: Form
    embedding_dim: int
    min_count: int
    files: Files


def read_column(name: str, keys: Keys, around: Surroundings) -> Column | None:
    """Take a column's keys; None for what is no feature, or has no equal here."""
    kind = str(keys.take("type"))
    if kind == "meta" or kind not in TYPES:
        for key in keys.left:
            keys.take(key)
        if kind == "meta":
            keys.note("type", "no feature, and rows of a table stand in no groups here, so the column is not read")
        else:
            keys.refuse("type", "expected categorical, numeric, sequence or meta; there is no such column here")
        return None
    keys.require("preprocess", None, (None, ""), "nothing is computed here; write it to the files")
    for key in PRETRAINED:
        keys.require(key, None, (None,), "no vectors are read here; leave it out")
    if kind == "sequence":
        column = _sequence(name, keys, around)
    else:
        column = _ids(keys, around) if kind == "categorical" else _number(keys, around)
    source = keys.text("source", "")
    if source:
        column["group"] = source
    width = keys.whole("embedding_dim", around.embedding_dim)
    if width != around.embedding_dim and around.form.equal_widths:
        keys.refuse("embedding_dim", f"{around.form.name} needs every column {around.embedding_dim} wide")
    keys.require("emb_output_dim", None, (None, width), "a column leaves its encoder as wide as it was here")
    return {"type": TYPES[kind], **column, "embedding_dim": width}


def _ids(keys: Keys, around: Surroundings) -> Column:
    for key in BUCKETS:
        keys.require(key, None, (None,), "there are no buckets here; write them to the files")
    for key in ("feature_encoder", "encoder"):
        keys.require(key, None, (*NOT_POOLED, ""), "a column of ids has no encoder here; leave it out")
    return _vocabulary(keys, around)


def _number(keys: Keys, around: Surroundings) -> Column:
    _present(keys, around)
    keys.take("dtype")
    keys.require("fill_na", 0.0, (0,), "a missing number is refused here; write it to the files", older=("na_value",))
    keys.require("feature_encoder", None, NOT_POOLED, "a number has no encoder here; leave it out")
    scaler = keys.take("normalizer")
    if scaler == "MinMaxScaler":
        keys.refuse("normalizer", "numbers outside the training rows' range are cut to it here", "they are cut to it")
    elif scaler is not None:
        keys.refuse("normalizer", "only MinMaxScaler is here; write the scaled numbers to the files")
    return {"scale": "none" if scaler is None else "min_max"}


def _sequence(name: str, keys: Keys, around: Surroundings) -> Column:
    _present(keys, around)
    combiner = _combiner(name, keys, around.form)
    separator = keys.text("splitter", "^") or "^"
    given = keys.whole("max_len", 0)
    length = given or around.files.longest(name, separator, everywhere=False)
    if not length:
        keys.refuse("max_len", "FuxiCTR takes the longest row of the training file, which is not here; write it")
    keys.require("padding", "post", ("post", "pre"), "expected post or pre")
    theirs = "latest" if keys.taken["padding"] == "pre" else "first"
    ours = "latest" if combiner == "none" else "first"
    most = around.files.longest(name, separator, everywhere=True) if theirs != ours and length else 0
    if length and (most is None or most > length):
        why = "without the files it is not known whether one has" if most is None else f"one has {most}"
        keys.refuse(
            "padding",
            f"of a row of more than {length} tokens FuxiCTR keeps the {theirs} and the {ours} are kept here; {why}",
            f"the {ours} {length} tokens of a row are kept",
        )
    shape = {"separator": separator, "max_length": length or 1, "combiner": combiner}
    return {**_vocabulary(keys, around), **shape}


def _vocabulary(keys: Keys, around: Surroundings) -> Column:
    """What columns of ids have in common."""
    dtype = str(keys.take("dtype"))
    missing = MISSING.get(dtype, "")
    reason = "a missing id is unknown here; write it to the files"
    keys.require("fill_na", missing, (missing,), reason, older=("na_value",))
    if keys.take("remap", True) is False:
        keys.note("remap", "ids are numbered anew here, so that no row of a table is without one")
    keys.take("share_embedding")
    keys.no_effect("vocab_size")
    column = {"min_count": keys.whole("min_categr_count", around.min_count), "oov": "learned"}
    return {**column, "read_as_number": True} if dtype in ("int", "float") else column


def _combiner(name: str, keys: Keys, form: Form) -> str:
    """How a sequence becomes one vector; nothing of FuxiCTR's text is run."""
    encoder = keys.take("feature_encoder", "layers.MaskedAveragePooling()", older=("encoder",))
    found = re.fullmatch(r"(?:layers\.)?(\w+)\(\)", encoder) if isinstance(encoder, str) else None
    pooling = POOLINGS.get(found[1]) if found else None
    if encoder not in NOT_POOLED and pooling is None:
        keys.refuse("feature_encoder", f"expected {ENCODERS}, or null for a history")
    elif name in form.unpooled:
        if pooling is not None:
            keys.note("feature_encoder", f"{form.name} reads the column as a history, so it is not pooled")
        return "none"
    elif pooling is None:
        keys.refuse("feature_encoder", f"{form.name} does not read the column as a history; write {ENCODERS}")
    elif form.name == "LR":
        return "sum"  # its weights are summed whatever the encoder
    elif pooling == "mean" and form.first_order:
        keys.refuse(
            "feature_encoder",
            f"{form.name}'s wide part sums a row's weights in FuxiCTR, and pools them as the vectors here; write "
            "layers.MaskedSumPooling()",
            "the wide part has the mean too",
        )
    return pooling or "mean"


def _present(keys: Keys, around: Surroundings) -> None:
    """Note a column whose vector can be zero, in a model that takes such a field for absent."""
    if around.form.always_there:
        keys.refuse(
            "type",
            f"a field of zeros, as 0 and an empty row give, has no pairs in {around.form.name} here, and has them in "
            "FuxiCTR; leave the column out",
            "it has no pairs",
        )
