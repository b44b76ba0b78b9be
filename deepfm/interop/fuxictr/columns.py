"""FuxiCTR's feature columns as a table schema."""

from collections.abc import Mapping
from typing import Any

from deepfm.engine.settings import nearest
from deepfm.interop.fuxictr.column_kinds import Surroundings, read_column
from deepfm.interop.fuxictr.forms import Form
from deepfm.interop.fuxictr.keys import Findings, Keys, close_to

AFTER_ENCODING = ("embedding_dim", "feature_encoder", "source")  # what `feature_specs` can still change
Columns = dict[str, dict[str, Any]]


def read_schema(keys: Keys, around: Surroundings) -> dict[str, Any]:
    """Take `feature_cols`, `feature_specs`, `use_features` and `label_col`.

    Returns:
        a table schema as plain data, every column with its `embedding_dim`.
    """
    described = _selected(keys, _specified(keys, _described(keys)))
    columns: Columns = {}
    for name, its in described.items():
        column = read_column(name, its, around)
        name_left(its)
        if column is not None:
            columns[name] = column
    _share(columns, described, around.form)
    numbers = [name for name in columns if columns[name].pop("read_as_number", False)]
    if numbers:
        keys.findings.notes.append(
            f"dtype of {', '.join(numbers)}: ids are compared as the text that stands in the file, so 1 and 1.0 are "
            "two, and a missing one is unknown, where FuxiCTR makes it 0"
        )
    item = _item(columns, around.form, keys.findings)
    return {"label": _label(keys), **({"item": item} if item else {}), "columns": columns}


def name_left(keys: Keys) -> None:
    """Refuse the keys of a column that nobody has taken."""
    known = frozenset(keys.understood)
    for name in keys.left:
        if keys.take(name) is not None:
            keys.refuse(name, "is unknown of such a column" + close_to(name, known))


def _described(keys: Keys) -> dict[str, Keys]:
    """Every active column's keys, lists of names spread out."""
    given = keys.take("feature_cols")
    if not isinstance(given, list) or not all(isinstance(one, dict) and one.get("name") for one in given):
        keys.refuse(
            "feature_cols",
            "expected a list of columns with name, dtype and type; data that are encoded already have none, so take "
            "the data set that they were encoded from",
        )
        return {}
    columns: dict[str, Keys] = {}
    for plain in given:
        names = plain["name"]
        for name in map(str, names if isinstance(names, list) else [names]):
            its = Keys(plain, keys.findings, f"{name}.")
            its.take("name")
            if its.take("active", True) is False:
                continue
            if name in columns:
                keys.findings.refuse(f"feature_cols name {name} twice", "a column has one description; leave one out")
            columns[name] = its
    return columns


def _specified(keys: Keys, columns: dict[str, Keys]) -> dict[str, Keys]:
    """With what the model's `feature_specs` say of some columns."""
    given = keys.take("feature_specs")
    given = [] if given is None else given
    if not isinstance(given, list) or not all(isinstance(one, dict) and one.get("name") for one in given):
        keys.refuse("feature_specs", "expected a list of entries with a name and the keys that it changes")
        return columns
    for spec in given:
        names = spec["name"] if isinstance(spec["name"], list) else [spec["name"]]
        changed = {key: value for key, value in spec.items() if key != "name"}
        late = sorted(set(changed) - set(AFTER_ENCODING))
        if late:
            keys.refuse("feature_specs", f"{late[0]} comes too late there; write it in feature_cols")
        for name in map(str, names):
            if name not in columns:
                keys.refuse("feature_specs", f"{name} is no active column; {nearest(name, list(columns))}")
                continue
            its = Keys({**columns[name].values, **changed}, keys.findings, f"{name}.")
            its.taken = dict(columns[name].taken)
            columns = {**columns, name: its}
    return columns


def _selected(keys: Keys, columns: dict[str, Keys]) -> dict[str, Keys]:
    """Those of `use_features`, in its order, where it is given."""
    names = keys.names("use_features", older=("ordered_features",))
    for name in names:
        if name not in columns:
            keys.refuse("use_features", f"{name} is no active column; {nearest(name, list(columns))}")
    return {name: columns[name] for name in names if name in columns} if names else columns


def _share(columns: Columns, described: Mapping[str, Keys], form: Form) -> None:
    """Tables that columns share; a table's vocabulary has the values of all its columns."""
    tables = {name for name in columns if described[name].taken.get("share_embedding") is None}
    for name, column in columns.items():
        its = described[name]
        if name in tables or column["type"] == "dense":  # a number's key is refused as unknown
            continue
        owner = its.taken["share_embedding"]
        known = [other for other in columns if other in tables and columns[other]["type"] != "dense"]
        if owner not in known:
            its.refuse("share_embedding", f"expected a column with a table of its own; {nearest(str(owner), known)}")
            continue
        if max(column["min_count"], columns[owner]["min_count"]) > 1:
            its.refuse(
                "share_embedding",
                "values of both columns are counted together here, and in each by itself in FuxiCTR; write "
                "min_categr_count: 1 for both",
                "they are counted together",
            )
        if form.first_order:
            its.refuse(
                "share_embedding",
                f"{form.name}'s wide part has weights for every column in FuxiCTR, and shares them here; leave it out",
                "the wide part shares its weights too",
            )
        del column["min_count"], column["oov"]
        column["shares_embedding_with"] = owner


def _item(columns: Mapping[str, Mapping[str, Any]], form: Form, findings: Findings) -> str | None:
    """Hold the model's columns to what is there; the target of histories that have tables of their own."""
    items = set()
    wanted: list[tuple[str, tuple[str, ...]]] = [(name, ("sparse",)) for name, _ in form.histories]
    wanted += [(name, ("sequence",)) for _, name in form.histories]
    wanted += [(name, ("sparse", "dense", "sequence")) for name in form.context]
    for name, types in wanted:
        known = [other for other in columns if columns[other]["type"] in types]
        if name not in known:
            findings.refuse(f"{form.name} names {name}", f"no {' or '.join(types)} column; {nearest(name, known)}")
    for target, sequence in form.histories:
        width = columns.get(sequence, {}).get("embedding_dim", 0)
        if form.heads > 1 and width % form.heads:
            findings.refuse(
                f"{form.name}'s num_heads = {form.heads}",
                f"heads share a token's width here, and {sequence}'s is {width}; write a num_heads that divides it, or "
                "another embedding_dim",
            )
        owner = columns.get(sequence, {}).get("shares_embedding_with")
        if owner is None:
            items.add(target)
        elif owner != target:
            findings.refuse(
                f"{sequence}.share_embedding = {owner!r}",
                f"a history's target is the column whose table it shares here, and {form.name}'s is {target}; write "
                f"share_embedding: {target}",
            )
    if len(items) > 1:
        names = ", ".join(sorted(items))
        findings.refuse(f"{form.name}'s targets {names}", "histories with tables of their own have one target here")
    return min(items, default=None)


def _label(keys: Keys) -> str:
    given = keys.take("label_col")
    labels = given if isinstance(given, list) else [given]
    if len(labels) != 1 or not isinstance(labels[0], dict) or not isinstance(labels[0].get("name"), str):
        keys.refuse("label_col", "expected one label with its name, such as {name: label, dtype: float}")
        return "label"
    its = Keys(labels[0], keys.findings, "label_col.")
    name: str = its.take("name")
    its.take("dtype")
    its.require("preprocess", None, (None, ""), "nothing is computed here; write it to the files")
    its.require("fill_na", None, (None,), "a missing label is refused here; write it to the files")
    name_left(its)
    return name
