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
KIND = FieldSchema("kind", FeatureType.SPARSE, 5, 2)
HISTORY = FieldSchema(
    "history", FeatureType.SEQUENCE, 20, 16, max_length=50, combiner="none", shares_embedding_with="item"
)


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
            "'a' has combiner 'median'; expected one of mean, sum, max, none",
        ),
        (
            lambda: FieldSchema("a", FeatureType.SPARSE, 5, combiner="none"),
            "'a' has combiner 'none' and is sparse; expected a sequence",
        ),
        (
            lambda: FieldSchema("a", FeatureType.DENSE, combiner="none"),
            "'a' has combiner 'none' and is dense; expected a sequence",
        ),
        (
            lambda: FieldSchema("a", FeatureType.DENSE, shares_embedding_with="item"),
            "dense field 'a' has no embedding table; leave out shares_embedding_with",
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
        (lambda: schema_of(USER, ITEM, HISTORY, item_field="history"), "item_field 'history' is no sparse field"),
        (
            lambda: schema_of(USER, HISTORY),
            "'history' has shares_embedding_with 'item'; expected a field with a table of its own: user$",
        ),
        (
            lambda: schema_of(PRICE, HISTORY),
            "'history' has shares_embedding_with 'item'; expected a field with a table of its own: none is there",
        ),
        (
            lambda: schema_of(ITEM, PRICE, dataclasses.replace(HISTORY, shares_embedding_with="price")),
            "'history' has shares_embedding_with 'price'; expected .*: item$",
        ),
        (
            lambda: schema_of(ITEM, dataclasses.replace(HISTORY, shares_embedding_with="history")),
            "'history' has shares_embedding_with 'history'",
        ),
        (
            lambda: schema_of(ITEM, HISTORY, dataclasses.replace(HISTORY, name="b", shares_embedding_with="history")),
            "'b' has shares_embedding_with 'history'; expected a field with a table of its own",
        ),
        (
            lambda: schema_of(ITEM, dataclasses.replace(HISTORY, vocabulary_size=21)),
            "'history' has vocabulary_size 21 and shares the table of 'item', which has 20; expected the same",
        ),
        (
            lambda: schema_of(ITEM, dataclasses.replace(HISTORY, embedding_dim=8)),
            "'history' has embedding_dim 8 and shares the table of 'item', which has 16; expected the same",
        ),
        (lambda: schema_of(dataclasses.replace(HISTORY, shares_embedding_with=None)), "beside its behaviour sequences"),
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


def with_history(schema, history=HISTORY):
    return dataclasses.replace(schema, fields={**schema.fields, "history": history})


class TestBehaviour:
    def test_a_behaviour_sequence_is_a_sequence_and_none_of_the_interacting_fields(self, mixed):
        schema = with_history(mixed)
        assert schema.sequence_fields == [TAGS, HISTORY]
        assert schema.behaviour_fields == [HISTORY]
        assert schema.interacting_fields == [USER, PRICE, TAGS, ITEM]
        assert HISTORY.is_behaviour
        assert not TAGS.is_behaviour

    @pytest.mark.parametrize("shared", ["item", None])
    def test_f_and_t_are_as_without_it(self, mixed, shared):
        schema = with_history(mixed, dataclasses.replace(HISTORY, shares_embedding_with=shared))
        assert (schema.num_fields, schema.total_embedding_dim) == (4, 30)
        assert (mixed.num_fields, mixed.total_embedding_dim) == (4, 30)

    def test_its_candidate_is_what_it_shares_with_or_the_item(self, mixed):
        own = dataclasses.replace(HISTORY, shares_embedding_with=None)
        of_user = dataclasses.replace(HISTORY, vocabulary_size=10, embedding_dim=8, shares_embedding_with="user")
        assert with_history(mixed).candidate_of("history") is ITEM
        assert with_history(mixed, own).candidate_of("history") is ITEM
        assert with_history(mixed, of_user).candidate_of("history") is USER
        with pytest.raises(SchemaError, match="'history' has no candidate; set its shares_embedding_with"):
            with_history(dataclasses.replace(mixed, item_field=None), own).candidate_of("history")

    def test_the_table_is_the_owners(self, mixed):
        schema = with_history(mixed)
        assert schema.table_owner("history") is ITEM
        assert schema.table_owner("item") is ITEM
        assert (
            with_history(mixed, dataclasses.replace(HISTORY, shares_embedding_with=None)).table_owner("history").name
            == "history"
        )

    def test_the_order_of_the_two_does_not_matter(self):
        schema = schema_of(HISTORY, ITEM)
        assert schema.candidate_of("history") is ITEM
        assert schema.interacting_fields == [ITEM]

    def test_widths_change_together(self, mixed):
        wide = with_history(mixed).with_embedding_dim(6)
        assert wide.fields["history"].embedding_dim == wide.fields["item"].embedding_dim == 6
        assert wide.fields["history"].shares_embedding_with == "item"

    def test_a_pooled_sequence_may_share_too(self):
        titles = dataclasses.replace(HISTORY, name="titles", combiner="mean")
        schema = schema_of(ITEM, titles)
        assert (schema.num_fields, schema.total_embedding_dim) == (2, 32)
        assert schema.behaviour_fields == []


def test_a_schema_without_sharing_is_written_as_it_was_before_there_was_any(mixed):
    """The hash is what revision 203c2d1 gives; weights trained then still load."""
    assert all("shares_embedding_with" not in field for field in mixed.to_dict()["fields"])
    assert set(mixed.to_dict()["fields"][0]) == {
        "name", "feature_type", "vocabulary_size", "embedding_dim", "group", "max_length", "combiner",
    }  # fmt: skip
    assert mixed.fingerprint() == "b5595d60541d9f92cb6ec8c68e9d7a8fb4a815d1f2c717628978cc1b6aca3979"


def test_a_field_that_shares_is_written_with_what_it_shares(mixed):
    plain = with_history(mixed).to_dict()
    assert [field.get("shares_embedding_with") for field in plain["fields"]] == [None, None, None, None, "item"]
    assert with_history(mixed).fingerprint() != mixed.fingerprint()


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
@pytest.mark.parametrize("behaviour", [False, True])
def test_a_schema_survives_its_file(mixed, behaviour, name, tmp_path):
    mixed = with_history(mixed) if behaviour else mixed
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
        broken(lambda plain: plain["fields"][1].update(combiner=None)),
        broken(lambda plain: plain["fields"][0].update(combiner="none")),
        broken(lambda plain: plain["fields"][1].update(shares_embedding_with="absent")),
        broken(lambda plain: plain["fields"][1].update(shares_embedding_with=3)),
        broken(lambda plain: plain["fields"][1].update(shares_embedding_with=["user"])),
        broken(lambda plain: plain["fields"][1].update(shares_embedding_with="")),
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
    {"shares_embedding_with": "kind"},
    {"feature_type": FeatureType.DENSE, "vocabulary_size": 0, "dimension": 3},
]


def test_every_attribute_of_a_field_is_changed_below():
    assert {name for change in CHANGED_FIELDS for name in change} == {
        field.name for field in dataclasses.fields(FieldSchema)
    }


@pytest.mark.parametrize("change", CHANGED_FIELDS, ids=lambda change: next(iter(change)))
def test_the_fingerprint_changes_with_any_attribute_of_a_field(change):
    changed = schema_of(USER, KIND, dataclasses.replace(TAGS, **change))
    assert changed.fingerprint() != schema_of(USER, KIND, TAGS).fingerprint()


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
