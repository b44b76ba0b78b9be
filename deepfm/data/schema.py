"""What the columns of a data set mean: the one description that models, encoders and evaluation are built from."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from deepfm.errors import SchemaError
from deepfm.utils.io import write_text

COMBINERS = ("mean", "sum", "max", "none")  # none: a behaviour sequence, which is not pooled


class FeatureType(StrEnum):
    """How a field reaches the model."""

    SPARSE = "sparse"  # one id of a vocabulary
    DENSE = "dense"  # one number
    SEQUENCE = "sequence"  # up to max_length ids, padded with 0


@dataclass(frozen=True)
class FieldSchema:
    """One field.

    Args:
        name: the key of the field in a batch.
        feature_type: SPARSE, DENSE or SEQUENCE (or its text).
        vocabulary_size: rows of the embedding table, index 0 (padding and unknown) among them; 0 for DENSE.
        embedding_dim: the field's own embedding width.
        group: what the field describes, such as "user" or "item"; free text.
        max_length: the longest sequence; 0 for other types.
        combiner: how a sequence's tokens become one vector: mean, sum or max; none for a behaviour sequence, which
            reaches the model as `(B, max_length)` tokens, oldest first, and is no field of the interactions.
        shares_embedding_with: another field of the same vocabulary and width, whose table this one uses; a behaviour
            sequence and its candidate then live in one space.
        dimension: how many numbers a row of a DENSE field has; k > 1 are a vector `(B, k)`, embedded by k learned
            vectors and added up.

    Raises:
        SchemaError: the combination is impossible.

    Example:
        >>> FieldSchema("genres", FeatureType.SEQUENCE, 20, 8, max_length=6).combiner
        'mean'
    """

    name: str
    feature_type: FeatureType
    vocabulary_size: int = 0
    embedding_dim: int = 16
    group: str = ""
    max_length: int = 0
    combiner: str = "mean"
    shares_embedding_with: str | None = None
    dimension: int = 1

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not self.name or not isinstance(self.name, str):
            raise SchemaError(f"field name {self.name!r} is empty or no text; give every field a name")
        try:
            object.__setattr__(self, "feature_type", FeatureType(self.feature_type))
        except ValueError as error:
            kinds = ", ".join(FeatureType)
            raise SchemaError(
                f"field {self.name!r} has feature_type {self.feature_type!r}; expected one of {kinds}"
            ) from error
        for size in ("vocabulary_size", "embedding_dim", "max_length", "dimension"):
            if not isinstance(getattr(self, size), int):
                raise SchemaError(f"field {self.name!r} has {size} {getattr(self, size)!r}; expected a whole number")
        if self.feature_type is not FeatureType.DENSE and self.vocabulary_size < 2:
            raise SchemaError(
                f"field {self.name!r} has vocabulary_size {self.vocabulary_size}; expected at least 2, "
                "index 0 for padding and unknown and one for a token"
            )
        if self.dimension < 1 or (self.dimension > 1 and self.feature_type is not FeatureType.DENSE):
            raise SchemaError(
                f"{self.feature_type} field {self.name!r} has dimension {self.dimension}; expected 1, or more of a "
                "dense field"
            )
        if self.embedding_dim < 1:
            raise SchemaError(f"field {self.name!r} has embedding_dim {self.embedding_dim}; expected at least 1")
        if self.feature_type is FeatureType.SEQUENCE and self.max_length < 1:
            raise SchemaError(f"sequence field {self.name!r} has max_length {self.max_length}; expected at least 1")
        if self.combiner not in COMBINERS:
            raise SchemaError(
                f"field {self.name!r} has combiner {self.combiner!r}; expected one of {', '.join(COMBINERS)}"
            )
        if self.combiner == "none" and self.feature_type is not FeatureType.SEQUENCE:
            raise SchemaError(
                f"field {self.name!r} has combiner 'none' and is {self.feature_type}; expected a sequence, as only "
                "that can stay unpooled"
            )
        if self.shares_embedding_with is not None and self.feature_type is FeatureType.DENSE:
            raise SchemaError(f"dense field {self.name!r} has no embedding table; leave out shares_embedding_with")

    @property
    def is_behaviour(self) -> bool:
        """Whether this is a behaviour sequence: neither pooled nor one of the F interacting fields."""
        return self.combiner == "none"

    def to_dict(self) -> dict[str, Any]:
        """The field as plain data."""
        plain = dataclasses.asdict(self) | {"feature_type": str(self.feature_type)}
        if self.shares_embedding_with is None:  # schemas from before there were shared tables keep their fingerprints
            del plain["shares_embedding_with"]
        if self.dimension == 1:
            del plain["dimension"]
        return plain


@dataclass(frozen=True)
class DatasetSchema:
    """All fields of a data set, its label, and the roles that evaluation and recommending need.

    Args:
        fields: name → field, in the order in which models see them.
        label_field: the name of the label.
        user_field, item_field: the sparse fields that identify the user and the item, where there are such.
        time_field: the column that orders events; it need not be a feature.

    Raises:
        SchemaError: no field, a duplicate or misplaced name, or a role that no field can play.
    """

    fields: Mapping[str, FieldSchema]
    label_field: str
    user_field: str | None = None
    item_field: str | None = None
    time_field: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not self.fields:
            raise SchemaError("a schema needs at least one field")
        seen: set[str] = set()
        for key, field in self.fields.items():
            if field.name in seen:
                raise SchemaError(f"field name {field.name!r} stands twice; names must be distinct")
            seen.add(field.name)
            if key != field.name:
                raise SchemaError(f"field {field.name!r} stands under the key {key!r}; expected its own name")
        if not self.label_field or self.label_field in self.fields:
            raise SchemaError(
                f"label_field {self.label_field!r} is empty or also a feature; expected a name of its own"
            )
        for role in ("user_field", "item_field"):
            name = getattr(self, role)
            if name is not None and (
                name not in self.fields or self.fields[name].feature_type is not FeatureType.SPARSE
            ):
                raise SchemaError(f"{role} {name!r} is no sparse field of the schema; known: {', '.join(self.fields)}")
        if not self.interacting_fields:
            raise SchemaError("a schema needs at least one field beside its behaviour sequences")
        for field in self.fields.values():
            if field.shares_embedding_with is not None:
                self._check_shared(field)

    @property
    def sparse_fields(self) -> list[FieldSchema]:
        """The SPARSE fields, in order."""
        return self._of_type(FeatureType.SPARSE)

    @property
    def dense_fields(self) -> list[FieldSchema]:
        """The DENSE fields, in order."""
        return self._of_type(FeatureType.DENSE)

    @property
    def sequence_fields(self) -> list[FieldSchema]:
        """The SEQUENCE fields, in order."""
        return self._of_type(FeatureType.SEQUENCE)

    @property
    def behaviour_fields(self) -> list[FieldSchema]:
        """The behaviour sequences (`combiner="none"`), in order."""
        return [field for field in self.fields.values() if field.is_behaviour]

    @property
    def interacting_fields(self) -> list[FieldSchema]:
        """The fields of the three views: all but the behaviour sequences, in order."""
        return [field for field in self.fields.values() if not field.is_behaviour]

    @property
    def num_fields(self) -> int:
        """F, the number of fields that enter the interactions."""
        return len(self.interacting_fields)

    @property
    def total_embedding_dim(self) -> int:
        """T, the sum of the interacting fields' own embedding widths."""
        return sum(field.embedding_dim for field in self.interacting_fields)

    def table_owner(self, name: str) -> FieldSchema:
        """The field whose embedding table a field uses: its own, or that of the one it shares with."""
        field = self.fields[name]
        return field if field.shares_embedding_with is None else self.fields[field.shares_embedding_with]

    def candidate_of(self, name: str) -> FieldSchema:
        """The field that a behaviour sequence is a history of: the one it shares with, else the item field.

        Raises:
            SchemaError: there is neither.
        """
        shared = self.fields[name].shares_embedding_with or self.item_field
        if shared is None:
            raise SchemaError(
                f"behaviour sequence {name!r} has no candidate; set its shares_embedding_with, or the schema's "
                "item_field"
            )
        return self.fields[shared]

    def with_embedding_dim(self, embedding_dim: int) -> "DatasetSchema":
        """The same schema with one embedding width for every field."""
        fields = {name: dataclasses.replace(field, embedding_dim=embedding_dim) for name, field in self.fields.items()}
        return dataclasses.replace(self, fields=fields)

    def with_id_embedding_dim(self, embedding_dim: int) -> "DatasetSchema":
        """The same schema with another width for the user and the item field, and for what shares their tables."""
        roles = [name for name in (self.user_field, self.item_field) if name is not None]
        owners = {self.table_owner(name).name for name in roles}
        follows = {f.name for f in self.behaviour_fields if f.shares_embedding_with is None and self.item_field}
        fields = {
            name: dataclasses.replace(field, embedding_dim=embedding_dim)
            if self.table_owner(name).name in owners or name in follows
            else field
            for name, field in self.fields.items()
        }
        return dataclasses.replace(self, fields=fields)

    def to_dict(self) -> dict[str, Any]:
        """The schema as plain data: the fields as a list, so that a duplicate name cannot hide."""
        return {
            "fields": [field.to_dict() for field in self.fields.values()],
            "label_field": self.label_field,
            "user_field": self.user_field,
            "item_field": self.item_field,
            "time_field": self.time_field,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "DatasetSchema":
        """Build a schema from what `to_dict` gives.

        Raises:
            SchemaError: a missing or unknown key, or an impossible schema.
        """
        try:
            roles = dict(plain)
            fields: dict[str, FieldSchema] = {}
            for entry in roles.pop("fields"):
                field = FieldSchema(**entry)
                if field.name in fields:
                    raise SchemaError(f"field name {field.name!r} stands twice; names must be distinct")
                fields[field.name] = field
            return cls(fields=fields, **roles)
        except (TypeError, KeyError, ValueError) as error:
            raise SchemaError(f"the schema cannot be read: {error}; expected what DatasetSchema.save writes") from error

    def save(self, path: str | Path) -> None:
        """Write JSON, or YAML where the file's name ends in .yaml or .yml."""
        plain = self.to_dict()
        yaml_wanted = Path(path).suffix in (".yaml", ".yml")
        write_text(
            path,
            yaml.safe_dump(plain, sort_keys=False)
            if yaml_wanted
            else json.dumps(plain, indent=2, ensure_ascii=False) + "\n",
        )

    @classmethod
    def load(cls, path: str | Path) -> "DatasetSchema":
        """Read what `save` wrote.

        Raises:
            SchemaError: the file is missing, unreadable or holds no schema.
        """
        try:
            plain = yaml.safe_load(Path(path).read_text(encoding="utf-8"))  # JSON is YAML too
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise SchemaError(f"schema {path} cannot be read: {' '.join(str(error).split())}") from error
        if not isinstance(plain, dict):
            raise SchemaError(f"schema {path} holds a {type(plain).__name__}; expected keys with fields")
        return cls.from_dict(plain)

    def fingerprint(self) -> str:
        """A hash of everything in the schema; weights fit only the schema they were trained with."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def _check_shared(self, field: FieldSchema) -> None:
        owner = self.fields.get(field.shares_embedding_with or "")
        if owner is None or owner.feature_type is FeatureType.DENSE or owner.shares_embedding_with is not None:
            others = [one for one in self.fields.values() if one is not field]
            tables = [one.name for one in others if one.feature_type is not FeatureType.DENSE]
            raise SchemaError(
                f"field {field.name!r} has shares_embedding_with {field.shares_embedding_with!r}; expected a field "
                f"with a table of its own: {', '.join(tables) or 'none is there'}"
            )
        for size in ("vocabulary_size", "embedding_dim"):
            if getattr(field, size) != getattr(owner, size):
                raise SchemaError(
                    f"field {field.name!r} has {size} {getattr(field, size)} and shares the table of {owner.name!r}, "
                    f"which has {getattr(owner, size)}; expected the same"
                )

    def _of_type(self, feature_type: FeatureType) -> list[FieldSchema]:
        return [field for field in self.fields.values() if field.feature_type is feature_type]
