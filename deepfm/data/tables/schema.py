"""A table's columns as a person describes them, in a YAML file: the description that encoders are fitted from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from deepfm.data.schema import COMBINERS
from deepfm.engine.settings import build_settings, nearest, setting
from deepfm.errors import ConfigError, SchemaError
from deepfm.utils.io import write_text

ROLES = ("user", "item", "time", "weight", "title")
TYPES = ("sparse", "dense", "sequence", "vector", "time")
PERIODS = ("hour", "weekday", "month_day", "year_day")
_OF_VOCABULARY = ("min_count", "oov", "hash_buckets")
_OF_IDS = (*_OF_VOCABULARY, "embedding_dim", "group", "shares_embedding_with")
KEYS = {  # feature type → the keys that mean something for it, beside `type`
    "sparse": (*_OF_IDS, "missing", "buckets", "num_buckets"),
    "dense": ("scale", "missing", "embedding_dim", "group"),
    "sequence": (*_OF_IDS, "separator", "max_length", "combiner"),
    "vector": ("vectors", "separator", "embedding_dim", "group"),
    "time": ("periods", "embedding_dim", "group"),
}
MISSING = {"sparse": ("unknown", "own"), "dense": ("refuse", "own")}  # what an empty cell may be; the first by default


@dataclass(frozen=True)
class TableColumn:
    """One column of a table.

    `min_count` values of training rows make a value known; others are unknown and share index 0 with padding, whose
    embedding is zero (`oov: padding`), or have a learned row at index 1 (`oov: learned`). `hash_buckets` hashes values
    to so many rows instead of listing them. `buckets` makes categories of numbers: `quantile` at `num_buckets`
    quantiles of the training rows, `log` at floor(ln(x)²) above 2 and whole numbers below (Criteo's published way).
    `missing` says what an empty cell is: unknown, refused, or (`own`) a value of its own. `scale` brings a number to
    [0, 1] over the training rows' range (`min_max`), to mean 0 and deviation 1 (`standard`), or leaves it (`none`).

    A sequence is a list, or text with a `separator`, of which `max_length` tokens stay: the first, or under
    `combiner: none` (a behaviour sequence, oldest first) the latest. A vector is a list of numbers (or text with a
    `separator`), or an id whose vector the Parquet file `vectors` holds. A time becomes sine and cosine of its
    `periods`. The other keys are those of `deepfm.data.schema.FieldSchema`.
    """

    type: str = setting("sparse", choices=TYPES)
    min_count: int = setting(1, at_least=1, also=("min_categr_count",))
    oov: str = setting("padding", choices=("padding", "learned"))
    hash_buckets: int | None = setting(None, at_least=2, also=("hash_bucket", "hash_size"))
    buckets: str = setting("none", choices=("none", "quantile", "log"), also=("quantile_bucket",))
    num_buckets: int = setting(32, at_least=2)
    missing: str | None = setting(None, choices=("unknown", "own", "refuse"), also=("fill_na", "na_value"))
    scale: str = setting("min_max", choices=("none", "min_max", "standard"), also=("normalizer",))
    periods: tuple[str, ...] = setting(("hour", "weekday"), choices=PERIODS, not_empty=True)
    vectors: str | None = setting(None, also=("pretrained_emb",))
    separator: str = setting("|", also=("splitter",))
    max_length: int | None = setting(None, at_least=1, also=("max_len", "maxlen"))
    combiner: str = setting("mean", choices=COMBINERS, also=("feature_encoder",))
    embedding_dim: int = setting(16, at_least=1)
    group: str = setting("", also=("source",))
    shares_embedding_with: str | None = setting(None, also=("share_embedding", "embedding_name"))

    @property
    def has_vocabulary(self) -> bool:
        """Whether the column becomes ids; otherwise it becomes numbers."""
        return self.type in ("sparse", "sequence")

    @property
    def has_table(self) -> bool:
        """Whether another column may share the ids: listed or hashed values of its own."""
        return self.has_vocabulary and self.buckets == "none" and self.shares_embedding_with is None

    @property
    def keeps_missing(self) -> bool:
        """Whether an empty cell is a value of its own."""
        return self.missing == "own"

    @property
    def keeps_latest(self) -> bool:
        """Whether a list that is too long loses its beginning."""
        return self.combiner == "none"


@dataclass(frozen=True)
class TableSchema:
    """What a table holds: the label, the features in the order in which models see them, and the roles of some.

    Args:
        label: the label's column, of numbers from 0 to 1.
        columns: name → the column's description.
        user, item: the sparse columns that identify the user and the item, where there are such.
        time: the column that orders events; it need not be a feature.
        weight: the column that says how much a training row counts; no feature.
        title: the column that names items for people; no feature unless it is among `columns`.

    Raises:
        SchemaError: an impossible description, in one sentence.

    Example:
        >>> TableSchema("click", {"user": TableColumn(), "price": TableColumn("dense")}, user="user").label
        'click'
    """

    label: str
    columns: Mapping[str, TableColumn]
    user: str | None = None
    item: str | None = None
    time: str | None = None
    weight: str | None = None
    title: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        for role in ("label", *ROLES):
            name = getattr(self, role)
            if role == "label" and name in (None, ""):
                raise SchemaError("the table schema has no label; expected a line such as label: click")
            if name is not None and (not name or not isinstance(name, str)):
                raise SchemaError(f"the table schema has {role} {name!r}; expected a column's name")
        for name in self.columns:
            if not name or not isinstance(name, str):
                raise SchemaError(f"column name {name!r} of the table schema is no text; put it in quotes")
        if not self.columns:
            raise SchemaError("the table schema has no columns; expected at least one feature below columns")
        for role in ("label", "weight"):
            if getattr(self, role) in self.columns:
                raise SchemaError(f"{role} {getattr(self, role)!r} is also a feature; leave it out of columns")
        for role in ("user", "item"):
            name = getattr(self, role)
            if name is not None and (name not in self.columns or self.columns[name].type != "sparse"):
                sparse = [other for other, its in self.columns.items() if its.type == "sparse"]
                what = f"of type {self.columns[name].type}" if name in self.columns else "no column of the schema"
                raise SchemaError(f"{role} {name!r} is {what}; expected a sparse one, {nearest(name, sparse)}")
        if self.user is not None and self.user == self.item:
            raise SchemaError(f"user and item are both {self.user!r}; expected two columns, or one role alone")
        for name, column in self.columns.items():
            self._check_column(name, column)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "TableSchema":
        """Build a schema from what a YAML file holds: `label`, `columns`, roles, and `defaults` for columns' keys.

        Raises:
            SchemaError: an unknown key, with the nearest that exists, or an impossible value.
        """
        known = ("label", *ROLES, "defaults", "columns")
        for key in plain:
            if key not in known:
                raise SchemaError(f"the table schema has the key {key!r}, which is unknown; {nearest(str(key), known)}")
        described, defaults = plain.get("columns") or {}, plain.get("defaults") or {}
        for key, value in (("columns", described), ("defaults", defaults)):
            if not isinstance(value, Mapping):
                raise SchemaError(f"{key} of the table schema holds a {type(value).__name__}; expected names with keys")
        _column("defaults", defaults)
        columns = {}
        for name, given in described.items():
            given = {} if given is None else given
            if not isinstance(given, Mapping):
                raise SchemaError(
                    f"column {name!r} of the table schema holds {given!r}; expected keys such as {{type: sparse}}"
                )
            kind = given.get("type", defaults.get("type", TableColumn.type))
            fitting = {key: value for key, value in defaults.items() if key in KEYS.get(str(kind), ())}
            columns[name] = _column(f"column {name!r}", {"type": kind, **fitting, **given})
            _refuse_foreign(name, columns[name].type, given)
        for name, column in columns.items():  # a shared table has one width and one vocabulary
            owner = columns.get(column.shares_embedding_with or "")
            if owner is not None:
                width = column.embedding_dim if "embedding_dim" in (described[name] or ()) else owner.embedding_dim
                shared = {key: getattr(owner, key) for key in _OF_VOCABULARY}
                columns[name] = replace(column, embedding_dim=width, **shared)
        roles = {role: plain.get(role) for role in ROLES}
        return cls(label=plain.get("label", ""), columns=columns, **roles)

    @classmethod
    def load(cls, path: str | Path) -> "TableSchema":
        """Read a YAML file.

        Raises:
            SchemaError: it is missing, no YAML, or describes no table; the file is named.
        """
        try:
            plain = _read(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise SchemaError(
                f"table schema {path} does not exist; expected a YAML file with label and columns"
            ) from error
        except IsADirectoryError as error:
            raise SchemaError(f"table schema {path} is a folder; expected a YAML file") from error
        except UnicodeDecodeError as error:
            raise SchemaError(f"table schema {path} is no UTF-8 text; save it as UTF-8") from error
        except OSError as error:
            raise SchemaError(f"table schema {path} cannot be read: {error.strerror}; name another file") from error
        except yaml.YAMLError as error:
            reason = " ".join(str(error).replace('in "<unicode string>", ', "").split())[:200]
            raise SchemaError(f"table schema {path} is no YAML: {reason}; mend that line") from error
        except SchemaError as error:
            raise SchemaError(f"{path}: {error}") from error
        if not isinstance(plain, Mapping):
            what = "is empty" if plain is None else f"holds {str(plain)[:40]!r}"
            raise SchemaError(f"table schema {path} {what}; expected lines with label: and columns:")
        try:
            return cls.from_dict(plain)
        except SchemaError as error:
            raise SchemaError(f"{path}: {error}") from error

    def save(self, path: str | Path) -> None:
        """Write YAML that `load` reads, every key of every column written out."""
        write_text(path, yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True))

    def to_dict(self) -> dict[str, Any]:
        """The schema as plain data, as `from_dict` takes it."""
        roles = {role: getattr(self, role) for role in ROLES if getattr(self, role) is not None}
        columns = {}
        for name, column in self.columns.items():
            keys = [key for key in KEYS[column.type] if not (column.shares_embedding_with and key in _OF_VOCABULARY)]
            plain = asdict(column)
            columns[name] = {"type": column.type} | {
                key: list(plain[key]) if isinstance(plain[key], tuple) else plain[key]
                for key in keys
                if plain[key] is not None
            }
        return {"label": self.label, **roles, "columns": columns}

    def owner(self, name: str) -> str:
        """The column whose vocabulary and table a column uses: its own, or the one that it shares with."""
        return self.columns[name].shares_embedding_with or name

    def group(self, name: str) -> str:
        """What a column describes: as given, else the role that it plays."""
        role = next((role for role in ("user", "item") if getattr(self, role) == name), "")
        return self.columns[name].group or role

    def _check_column(self, name: str, column: TableColumn) -> None:
        if column.type == "sequence" and column.max_length is None:
            raise SchemaError(
                f"column {name!r} is a sequence without max_length; say how many tokens stay, such as max_length: 20"
            )
        if column.type == "sequence" and not column.separator:
            raise SchemaError(f"column {name!r} has an empty separator; expected the text between two tokens")
        if column.missing is not None and column.missing not in MISSING.get(column.type, ()):
            raise SchemaError(
                f"column {name!r} is {column.type} and has missing {column.missing!r}; expected "
                f"{' or '.join(MISSING.get(column.type, ())) or 'no such key'}"
            )
        if column.hash_buckets is not None and (column.min_count > 1 or column.buckets != "none"):
            raise SchemaError(
                f"column {name!r} has hash_buckets, which every value falls into, beside min_count or buckets; keep one"
            )
        shared = column.shares_embedding_with
        if shared is None:
            return
        if column.buckets != "none" or column.keeps_missing:
            raise SchemaError(
                f"column {name!r} shares the ids of {shared!r} and has buckets or missing; leave them out, or let it "
                "have ids of its own"
            )
        owner = self.columns.get(shared)
        if owner is None or shared == name or not owner.has_table:
            tables = [other for other, its in self.columns.items() if other != name and its.has_table]
            raise SchemaError(
                f"column {name!r} has shares_embedding_with {shared!r}; expected a column with ids of its own: "
                f"{', '.join(tables) or 'there is none'}"
            )


class _EachOnce(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, where plain YAML keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping, as YAML's own."""
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                line = key.start_mark.line + 1
                if key.value in lines:
                    raise SchemaError(
                        f"{key.value!r} stands twice in the table schema, in lines {lines[key.value]} and {line}; "
                        "keep one"
                    )
                lines[key.value] = line
        return super().construct_mapping(node, deep)


def _read(text: str) -> Any:
    loader = _EachOnce(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _column(what: str, plain: Mapping[str, Any]) -> TableColumn:
    try:
        return build_settings(TableColumn, plain)
    except ConfigError as error:
        raise SchemaError(f"{what} of the table schema: {error}") from error


def _refuse_foreign(name: str, kind: str, given: Mapping[str, Any]) -> None:
    """Refuse keys that mean nothing for a column of this type."""
    for key in given:
        if key != "type" and key not in KEYS[kind]:
            of = ", ".join(other for other in KEYS if key in KEYS[other])
            raise SchemaError(f"column {name!r} is {kind} and has {key}, which is for {of} columns; leave it out")
        if given.get("shares_embedding_with") and key in _OF_VOCABULARY:
            raise SchemaError(
                f"column {name!r} has {key} and shares the ids of {given['shares_embedding_with']!r}; set it there"
            )
