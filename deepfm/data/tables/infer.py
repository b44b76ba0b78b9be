"""A table schema from the table itself: what each column is taken for, and why, for a person to edit."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
import yaml

from deepfm.data.tables.columns import Where
from deepfm.data.tables.facts import ColumnFacts, column_facts
from deepfm.data.tables.files import reading, require_columns
from deepfm.data.tables.rows import require_rows
from deepfm.data.tables.schema import TableColumn, TableSchema
from deepfm.errors import SchemaError

SEEN_ROWS = 1_000_000  # the first of a table; facts are theirs
FEW = 64  # distinct whole numbers up to which they are categories
MANY = 1_000  # distinct values from which on rare ones become unknown
BOUNDLESS = 1_000_000  # distinct values from which on they are hashed
LONG_TEXT = 40  # characters in the mean, from which on mostly distinct texts are prose
LONGEST_LIST = 50
TAIL = 50  # times the median that the largest count is, from which on logarithms are taken
HINTS = {
    "numbers with commas between thousands": "write them without",
    "dates in a form that is not read": "write them as 2026-01-31 12:00:00",
    "times of a day": "write the day before them, as 2026-01-31 12:00:00, or declare the column sparse",
}
LABELS = ("label", "click", "clicked", "is_click", "target", "y", "conversion", "is_attributed")
USERS = ("user_id", "userid", "user", "uid", "customer_id", "visitor_id", "member_id")
ITEMS = ("item_id", "itemid", "item", "iid", "movieid", "product_id", "article_id", "ad_id", "adgroup_id")
WEIGHTS = ("sample_weight", "row_weight", "instance_weight", "example_weight")
TIMES = ("timestamp", "time", "datetime", "date", "ts", "event_time", "created_at")
IDENTIFIER = re.compile(r"(^|_)(id|uid|code|key|zip)$|[a-z]I[dD]$", re.ASCII)
TITLE = re.compile(r"(^|_)(title|name)$", re.IGNORECASE)


@dataclass(frozen=True)
class InferredSchema:
    """A schema with the grounds for it.

    Args:
        schema: the schema.
        reasons: column or role → why it is what it is.
        left_out: column → why it is no feature.
        rows: how many rows were looked at.
    """

    schema: TableSchema
    reasons: Mapping[str, str]
    left_out: Mapping[str, str]
    rows: int


def infer_schema(
    table: pl.LazyFrame,
    *,
    label: str | None = None,
    user: str | None = None,
    item: str | None = None,
    time: str | None = None,
    where: Where = "the table",
) -> InferredSchema:
    """Infer which columns are ids, categories, numbers, lists and times, from the first rows of a table.

    Args:
        label, user, item, time: columns that are known; None to go by names and values.
        where: names the table in errors.

    Raises:
        DataError: a named column is missing, or there are no rows.
        SchemaError: no column can be the label, or no feature is left.
    """
    require_columns(table, [name for name in (label, user, item, time) if name is not None], where)
    with reading(where):
        frame = table.head(SEEN_ROWS).collect(engine="streaming")
    require_rows(len(frame), where)
    facts = {name: column_facts(frame, name, where) for name in frame.columns}
    reasons: dict[str, str] = {}
    roles = {"label": label or _label(facts, where)}
    named = roles["label"].lower() in LABELS
    guessed = "two values, 0 and 1, under a label's name" if named else "the only column of 0 and 1"
    reasons["label"] = "as given" if label else guessed
    for role, given, names in (("user", user, USERS), ("item", item, ITEMS), ("time", time, TIMES)):
        found = given or next((name for name in facts if name.lower() in names and name != roles["label"]), None)
        if found is not None and (given or _can_be(role, facts[found])):
            roles[role] = found
            reasons[role] = "as given" if given else "by its name"
    weight = next((name for name, its in facts.items() if name.lower() in WEIGHTS and _can_be("weight", its)), None)
    if weight is not None and weight not in roles.values():
        roles["weight"], reasons["weight"] = weight, "by its name: how much a row counts in training"
    columns, left_out = {}, {}
    for name, its in facts.items():
        if name in (roles["label"], roles.get("time"), roles.get("weight")):
            continue
        if "time" not in roles and name.lower() in TIMES and its.missing and _can_be("time", replace(its, missing=0)):
            left_out[name] = f"the time by its name, but {its.missing:,} cells are empty; fill them, or name it as time"
            continue
        ruling = _column(its, is_role=name in (roles.get("user"), roles.get("item")))
        if isinstance(ruling, str):
            left_out[name] = ruling
        else:
            columns[name], reasons[name] = ruling
    title = next((name for name in left_out if TITLE.search(name) and facts[name].kind in ("list", "text")), None)
    if "item" in roles and title is not None and _follows(frame, title, roles["item"]):
        roles["title"] = title
        reasons["title"] = "one text an item, under a title's name"
    for role in ("user", "item"):
        _group(frame, columns, reasons, role, roles)
    if not columns:
        raise SchemaError(f"no column of {where} can be a feature: {left_out}; write the schema by hand")
    return InferredSchema(TableSchema(columns=columns, **roles), reasons, left_out, len(frame))


def to_yaml(inferred: InferredSchema) -> str:
    """The schema as YAML that `TableSchema.load` reads, a reason behind every line."""
    schema, reasons = inferred.schema, inferred.reasons
    lines = [f"# Inferred from {inferred.rows:,} rows; edit what you know better (docs/table.md lists the keys)."]
    for role in ("label", "user", "item", "time", "weight", "title"):
        if getattr(schema, role) is not None:
            lines.append(f"{role}: {_flow(getattr(schema, role))}  # {reasons.get(role, 'as given')}")
    lines.append("columns:")
    plain = schema.to_dict()["columns"]
    defaults = TableColumn()
    for name, keys in plain.items():
        kept = {key: value for key, value in keys.items() if key == "type" or value != _plain(getattr(defaults, key))}
        lines.append(f"  {_flow(name)}: {_flow(kept)}  # {_one_line(reasons.get(name, 'as given'))}")
    for name, reason in inferred.left_out.items():
        lines.append(f"  # {_flow(name)} is left out: {_one_line(reason)}")
    if schema.time is not None and schema.time not in schema.columns:
        lines.append(
            f"  # {_flow(schema.time)}: {{type: time, periods: [hour, weekday]}}  # to let hours and days count"
        )
    return "\n".join(lines) + "\n"


def _label(facts: Mapping[str, ColumnFacts], where: Where) -> str:
    binary = [name for name, its in facts.items() if (its.kind == "boolean" and its.distinct == 2) or _is_binary(its)]
    named = [name for name in binary if name.lower() in LABELS]
    if len(named) == 1:
        return named[0]
    if len(binary) == 1:
        return binary[0]
    if binary:
        raise SchemaError(
            f"the label of {where} is not clear: {', '.join(binary)} hold 0 and 1; name it with --label (data.label)"
        )
    if called := next((its for name, its in facts.items() if name.lower() in LABELS), None):
        raise SchemaError(
            f"column {called.name!r} of {where} has a label's name and holds {_held(called)}; expected both 0 and 1 "
            "(or true and false) and nothing else, so mend it, or name another with --label (data.label)"
        )
    raise SchemaError(
        f"no column of {where} holds just 0 and 1, as a label does; name it with --label (data.label), and see whether "
        f"these are the columns: {', '.join(list(facts)[:8])}"
    )


def _held(facts: ColumnFacts) -> str:
    """What a column that is no label holds instead."""
    if facts.kind == "number" and facts.distinct > 1:
        gaps = f", and nothing in {facts.missing:,} rows" if facts.missing else ""
        return f"{facts.distinct:,} different numbers from {facts.low:g} to {facts.high:g}{gaps}"
    if facts.odd:
        return repr(facts.odd[:40])
    if facts.distinct == 1:
        return f"one value in all of {facts.known:,} rows"
    return f"{facts.distinct:,} different values" if facts.distinct else "nothing"


def _is_binary(facts: ColumnFacts) -> bool:
    return facts.kind == "number" and facts.distinct == 2 and (facts.low, facts.high) == (0.0, 1.0)


def _can_be(role: str, facts: ColumnFacts) -> bool:
    if role == "time":
        return not facts.missing and (facts.kind == "moment" or (facts.kind == "number" and facts.distinct > 2))
    if role == "weight":
        return facts.kind == "number" and not facts.missing and (facts.low or 0.0) >= 0 and (facts.high or 0.0) > 0
    return facts.kind in ("text", "number", "boolean") and (facts.kind != "number" or facts.whole)


def _column(facts: ColumnFacts, is_role: bool) -> tuple[TableColumn, str] | str:
    """A column's description and the reason; or the reason for leaving it out."""
    if facts.kind == "empty":
        return "every cell is empty"
    if facts.kind == "vector":
        return TableColumn("vector"), f"lists of {facts.length:.0f} numbers"
    if facts.kind in ("list", "text") and not is_role and TITLE.search(facts.name):
        return "names for people"
    if facts.kind == "list":
        length = int(min(facts.length, LONGEST_LIST))
        described = TableColumn("sequence", max_length=length, separator=facts.separator or "|")
        between = f" between {facts.separator!r}" if facts.separator else ""
        return described, f"lists{between} of {facts.tokens:,} different tokens; 95 % have at most {facts.length:.0f}"
    if facts.form and not is_role:
        remedy = HINTS[facts.form]
        return f"{facts.form}, such as {facts.odd[:30]!r}; {remedy}"
    if not is_role and facts.distinct == 1 and not facts.missing:
        return "one value in every row"
    if not is_role and facts.kind == "moment":
        return "moments; type: time makes hours and weekdays of them"
    if facts.kind == "number" and not is_role:
        return _number(facts)
    if not is_role and facts.kind == "text" and facts.known > FEW and facts.distinct == facts.known:
        return f"another text in each of {facts.known:,} rows"
    if not is_role and facts.kind == "text" and facts.length > LONG_TEXT and 2 * facts.distinct > facts.known:
        return f"prose: {facts.length:.0f} characters in the mean, mostly different"
    mixed = f", {facts.numbers:,} of {facts.known:,} cells numbers, but not {facts.odd[:20]!r}" if facts.numbers else ""
    return _category(facts, "ids" if is_role else f"{facts.kind} of {facts.distinct:,} different values{mixed}")


def _number(facts: ColumnFacts) -> tuple[TableColumn, str] | str:
    named = bool(IDENTIFIER.search(facts.name))
    if facts.whole and named and facts.distinct == facts.known > FEW:
        return f"another id in each of {facts.known:,} rows, from which nothing can be learned"
    if facts.whole and facts.increasing and facts.known > FEW:
        return "whole numbers that only go up, as a row's number does"
    if facts.whole and (named or (facts.distinct <= FEW and 2 * facts.distinct <= facts.known)):
        return _category(facts, f"whole numbers {'under a name of ids' if named else 'of few different values'}")
    missing = "own" if facts.missing else None
    gaps = f", missing in {facts.missing:,} rows" if facts.missing else ""
    low, high, median = facts.low or 0.0, facts.high or 0.0, facts.median or 0.0
    if facts.whole and low >= -10 and high > TAIL * max(1.0, median):
        described = TableColumn(buckets="log", missing=missing, min_count=2, oov="learned")
        return described, f"counts with a long tail (median {median:g}, largest {high:g}){gaps}"
    what = "whole numbers" if facts.whole else "numbers"
    return TableColumn("dense", missing=missing), f"{what} from {low:g} to {high:g}, {facts.distinct:,} different{gaps}"


def _category(facts: ColumnFacts, what: str) -> tuple[TableColumn, str]:
    missing = "own" if facts.missing else None
    gaps = f"; missing in {facts.missing:,} rows" if facts.missing else ""
    if facts.distinct > BOUNDLESS // 2:
        described = TableColumn(hash_buckets=BOUNDLESS, missing=missing)
        return described, f"{what}; {facts.distinct:,} different, hashed as more will come{gaps}"
    if facts.distinct > MANY and facts.singles:
        described = TableColumn(min_count=2, oov="learned", missing=missing)
        return described, f"{what}; {facts.distinct:,} different, {facts.singles:,} of them once{gaps}"
    return TableColumn(missing=missing), f"{what}; {facts.distinct:,} different{gaps}"


def _group(
    frame: pl.DataFrame, columns: dict[str, TableColumn], reasons: dict[str, str], role: str, roles: Mapping[str, str]
) -> None:
    """Mark the columns that have one value for each user, or for each item."""
    owner = roles.get(role)
    if owner is None or owner not in columns or frame[owner].n_unique() * 2 > len(frame):
        return
    for name, column in columns.items():
        if name not in (roles.get("user"), roles.get("item")) and not column.group and _follows(frame, name, owner):
            columns[name] = TableColumn(**{**vars(column), "group": role})
            reasons[name] += f"; the same in all rows of one {role}"


def _follows(frame: pl.DataFrame, name: str, owner: str) -> bool:
    """Whether a column has one value for each value of another."""
    if name == owner or frame[name].dtype == pl.Object:
        return False
    pairs = frame.select(owner, name).unique()
    return len(pairs) == frame[owner].n_unique()


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _flow(value: Any) -> str:
    quotes = (
        '"' if isinstance(value, str) and not value.isprintable() else None
    )  # the one style that keeps all on a line
    text = yaml.safe_dump(
        value, default_style=quotes, default_flow_style=True, width=10**6, allow_unicode=True, sort_keys=False
    )
    return text.removesuffix("...\n").strip()


def _one_line(text: str) -> str:
    return " ".join(text.split())
