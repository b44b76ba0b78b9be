import dataclasses
import json

import pytest
import yaml

from deepfm.data.schema import DatasetSchema, FeatureType, FieldSchema
from deepfm.errors import RunError, SchemaError

USER = FieldSchema("user", FeatureType.SPARSE, 10, 8, group="user")
ITEM = FieldSchema("item", FeatureType.SPARSE, 20, 16, group="item")
PRICE = FieldSchema("price", FeatureType.DENSE, embedding_dim=4)
TAGS = FieldSchema("tags", FeatureType.SEQUENCE, 5, 2, max_length=3, combiner="max")


def schema_of(*fields, **roles):
    return DatasetSchema({field.name: field for field in fields}, label_field="label", **roles)


@pytest.fixture
def mixed():
    return schema_of(USER, PRICE, TAGS, ITEM, user_field="user", item_field="item", time_field="when")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FieldSchema("", FeatureType.SPARSE, 5), "field name ''"),
        (lambda: FieldSchema(3, FeatureType.SPARSE, 5), "field name 3"),
        (lambda: FieldSchema("a", "spars", 5), "'a' has feature_type 'spars'; expected one of sparse, dense"),
        (lambda: FieldSchema("a", FeatureType.SPARSE), "'a' has vocabulary_size 0; expected at least 2"),
        (lambda: FieldSchema("a", FeatureType.SPARSE, 1), "'a' has vocabulary_size 1; expected at least 2"),
        (lambda: FieldSchema("a", FeatureType.SPARSE, -5), "'a' has vocabulary_size -5"),
        (lambda: FieldSchema("a", FeatureType.SEQUENCE, 1, max_length=2), "'a' has vocabulary_size 1"),
        (lambda: FieldSchema("a", FeatureType.SPARSE, 5, 0), "'a' has embedding_dim 0; expected at least 1"),
        (lambda: FieldSchema("a", FeatureType.DENSE, embedding_dim=-1), "'a' has embedding_dim -1"),
        (lambda: FieldSchema("a", FeatureType.SEQUENCE, 5), "'a' has max_length 0; expected at least 1"),
        (
            lambda: FieldSchema("a", FeatureType.SEQUENCE, 5, max_length=3, combiner="median"),
            "'a' has combiner 'median'; expected one of mean, sum, max",
        ),
    ],
)
def test_an_impossible_field_is_refused(make, message):
    with pytest.raises(SchemaError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DatasetSchema({}, "label"), "at least one field"),
        (lambda: DatasetSchema({"other": USER}, "label"), "'user' stands under the key 'other'"),
        (lambda: DatasetSchema({"user": USER, "again": USER}, "label"), "'user' stands twice"),
        (lambda: DatasetSchema({"user": USER}, ""), "label_field '' is empty"),
        (lambda: DatasetSchema({"user": USER}, "user"), "label_field 'user' is empty or also a feature"),
        (lambda: schema_of(USER, user_field="usr"), "user_field 'usr' is no sparse field.*known: user"),
        (lambda: schema_of(USER, item_field="movie"), "item_field 'movie' is no sparse field"),
        (lambda: schema_of(USER, PRICE, user_field="price"), "user_field 'price' is no sparse field"),
        (lambda: schema_of(USER, TAGS, item_field="tags"), "item_field 'tags' is no sparse field"),
    ],
)
def test_an_impossible_schema_is_refused(make, message):
    with pytest.raises(SchemaError, match=message):
        make()


def test_the_first_four_arguments_are_positional_and_the_defaults_are_the_contracts():
    field = FieldSchema("a", "sparse", 7, 3)
    assert (field.name, field.feature_type, field.vocabulary_size, field.embedding_dim) == (
        "a",
        FeatureType.SPARSE,
        7,
        3,
    )
    assert (field.group, field.combiner) == ("", "mean")


def test_a_dense_field_needs_no_vocabulary():
    assert FieldSchema("price", FeatureType.DENSE).vocabulary_size == 0


def test_a_vocabulary_of_two_is_enough():
    assert FieldSchema("flag", FeatureType.SPARSE, 2).vocabulary_size == 2


def test_time_need_not_be_a_feature():
    assert schema_of(USER, time_field="timestamp").time_field == "timestamp"


def test_a_schema_is_frozen(mixed):
    with pytest.raises(dataclasses.FrozenInstanceError):
        mixed.label_field = "other"
    with pytest.raises(dataclasses.FrozenInstanceError):
        mixed.fields["user"].vocabulary_size = 3


def test_fields_are_sorted_by_type_in_their_own_order(mixed):
    assert mixed.sparse_fields == [USER, ITEM]
    assert mixed.dense_fields == [PRICE]
    assert mixed.sequence_fields == [TAGS]
    assert mixed.num_fields == 4
    assert mixed.total_embedding_dim == 8 + 4 + 2 + 16


def test_with_embedding_dim_changes_every_width_and_nothing_else(mixed):
    wide = mixed.with_embedding_dim(5)
    assert [field.embedding_dim for field in wide.fields.values()] == [5] * 4
    assert wide.total_embedding_dim == 20
    assert mixed.total_embedding_dim == 30
    back = {
        name: dataclasses.replace(wide.fields[name], embedding_dim=mixed.fields[name].embedding_dim)
        for name in wide.fields
    }
    assert dataclasses.replace(wide, fields=back) == mixed
    assert list(wide.fields) == list(mixed.fields)


@pytest.mark.parametrize("name", ["schema.json", "schema.yaml", "schema.yml"])
def test_a_schema_survives_its_file(mixed, name, tmp_path):
    path = tmp_path / name
    mixed.save(path)
    loaded = DatasetSchema.load(path)
    assert loaded == mixed
    assert list(loaded.fields) == list(mixed.fields)
    assert loaded.fingerprint() == mixed.fingerprint()
    assert all(isinstance(field.feature_type, FeatureType) for field in loaded.fields.values())


@pytest.mark.parametrize(
    "text", ["Größe", "价格", "emoji \U0001f600", "a: b # c", 'say "no"', "tab\there", "null", "1"]
)
@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_any_text_survives_as_a_name(text, suffix, tmp_path):
    schema = schema_of(dataclasses.replace(USER, name=text, group=text))
    schema.save(tmp_path / f"schema.{suffix}")
    assert DatasetSchema.load(tmp_path / f"schema.{suffix}") == schema


def test_the_json_file_is_json_and_the_yaml_file_is_no_json(mixed, tmp_path):
    mixed.save(tmp_path / "schema.json")
    mixed.save(tmp_path / "schema.yaml")
    assert json.loads((tmp_path / "schema.json").read_text()) == mixed.to_dict()
    text = (tmp_path / "schema.yaml").read_text()
    assert yaml.safe_load(text) == mixed.to_dict()
    assert text.startswith("fields:")


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_a_name_that_stands_twice_in_a_file_is_refused(mixed, suffix, tmp_path):
    plain = mixed.to_dict()
    plain["fields"].append(plain["fields"][0])
    path = tmp_path / f"schema.{suffix}"
    path.write_text(json.dumps(plain) if suffix == "json" else yaml.safe_dump(plain))
    with pytest.raises(SchemaError, match="'user' stands twice"):
        DatasetSchema.load(path)


def broken(change):
    plain = schema_of(USER, TAGS).to_dict()
    change(plain)
    return plain


@pytest.mark.parametrize(
    "plain",
    [
        broken(lambda plain: plain.pop("fields")),
        broken(lambda plain: plain.pop("label_field")),
        broken(lambda plain: plain.update(labels="x")),
        broken(lambda plain: plain.update(fields=3)),
        broken(lambda plain: plain.update(fields=["user"])),
        broken(lambda plain: plain.update(fields=[])),
        broken(lambda plain: plain["fields"][0].pop("name")),
        broken(lambda plain: plain["fields"][0].update(widht=3)),
        broken(lambda plain: plain["fields"][0].update(vocabulary_size="many")),
        broken(lambda plain: plain["fields"][0].update(vocabulary_size=None)),
        broken(lambda plain: plain["fields"][0].update(feature_type="text")),
        broken(lambda plain: plain["fields"][1].update(combiner="last")),
    ],
)
def test_a_damaged_plain_schema_is_refused(plain):
    with pytest.raises(SchemaError):
        DatasetSchema.from_dict(plain)


@pytest.mark.parametrize("content", ["", "[1, 2]", "text", "a: [", "{", "\t: x"])
def test_a_file_that_is_no_schema_is_refused(content, tmp_path):
    path = tmp_path / "schema.yaml"
    path.write_text(content)
    with pytest.raises(SchemaError, match=r"schema\.yaml"):
        DatasetSchema.load(path)


def test_a_missing_or_binary_file_is_refused_by_name(tmp_path):
    with pytest.raises(SchemaError, match=r"absent\.json"):
        DatasetSchema.load(tmp_path / "absent.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(SchemaError, match=r"binary\.json"):
        DatasetSchema.load(tmp_path / "binary.json")


def test_a_folder_that_cannot_be_made_is_a_run_error(mixed, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        mixed.save(tmp_path / "file" / "schema.json")


def test_an_equal_schema_has_an_equal_fingerprint(mixed):
    same = schema_of(USER, PRICE, TAGS, ITEM, user_field="user", item_field="item", time_field="when")
    assert same is not mixed
    assert same.fingerprint() == mixed.fingerprint()


CHANGED_FIELDS = [
    {"name": "labels"},
    {"feature_type": FeatureType.SPARSE},
    {"vocabulary_size": 6},
    {"embedding_dim": 3},
    {"group": "x"},
    {"max_length": 4},
    {"combiner": "sum"},
]


def test_every_attribute_of_a_field_is_changed_below():
    assert {name for change in CHANGED_FIELDS for name in change} == {
        field.name for field in dataclasses.fields(FieldSchema)
    }


@pytest.mark.parametrize("change", CHANGED_FIELDS, ids=lambda change: next(iter(change)))
def test_the_fingerprint_changes_with_any_attribute_of_a_field(change):
    changed = schema_of(USER, dataclasses.replace(TAGS, **change))
    assert changed.fingerprint() != schema_of(USER, TAGS).fingerprint()


@pytest.mark.parametrize(
    "change",
    [{"label_field": "click"}, {"user_field": None}, {"item_field": "user"}, {"time_field": None}],
    ids=lambda change: next(iter(change)),
)
def test_the_fingerprint_changes_with_any_role(mixed, change):
    assert dataclasses.replace(mixed, **change).fingerprint() != mixed.fingerprint()


def test_the_fingerprint_changes_with_the_order_and_number_of_fields():
    prints = {schema_of(*fields).fingerprint() for fields in ([USER, ITEM], [ITEM, USER], [USER], [USER, ITEM, PRICE])}
    assert len(prints) == 4


@pytest.mark.parametrize("sizes", [{"vocabulary_size": "3"}, {"vocabulary_size": 5.5}, {"embedding_dim": 4.5}])
def test_a_size_that_is_no_whole_number_is_refused(sizes):
    with pytest.raises(SchemaError, match="expected a whole number"):
        FieldSchema("a", "sparse", **({"vocabulary_size": 3} | sizes))
