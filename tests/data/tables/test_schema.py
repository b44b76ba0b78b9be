"""Columns as a person describes them: what is read, what is refused, and in which words."""

from pathlib import Path

import pytest
import yaml

from deepfm.data.tables.schema import KEYS, TableColumn, TableSchema
from deepfm.errors import SchemaError

EXAMPLE = """
label: click
user: user
item: item
time: when
defaults: {embedding_dim: 10, oov: learned, scale: none}
columns:
  user: {min_count: 2}
  price: {type: dense}
  genres: {type: sequence, separator: ",", max_length: 6, combiner: max}
  item: {type: sparse, embedding_dim: 24, group: product}
  history: {type: sequence, max_length: 20, combiner: none, shares_embedding_with: item}
  weekday:
"""


def described(**changes):
    """A small description with some keys changed; None takes one away."""
    plain = {"label": "click", "columns": {"user": {}, "price": {"type": "dense"}}} | changes
    return {key: value for key, value in plain.items() if value is not None}


@pytest.fixture
def example(tmp_path):
    path = tmp_path / "schema.yaml"
    path.write_text(EXAMPLE)
    return TableSchema.load(path)


class TestReading:
    def test_every_key_arrives(self, example):
        assert (example.label, example.user, example.item, example.time) == ("click", "user", "item", "when")
        assert list(example.columns) == ["user", "price", "genres", "item", "history", "weekday"]
        assert example.columns["user"] == TableColumn("sparse", min_count=2, oov="learned", embedding_dim=10)
        assert example.columns["price"] == TableColumn("dense", scale="none", embedding_dim=10)
        genres = example.columns["genres"]
        assert (genres.separator, genres.max_length, genres.combiner, genres.oov) == (",", 6, "max", "learned")
        assert example.columns["weekday"] == TableColumn(oov="learned", embedding_dim=10)

    def test_a_shared_table_has_the_owners_width_and_rule(self, example):
        history = example.columns["history"]
        assert (history.embedding_dim, history.oov) == (24, "learned")
        assert [example.owner(name) for name in ("history", "item", "user")] == ["item", "item", "user"]
        assert (history.keeps_latest, example.columns["genres"].keeps_latest) == (True, False)

    def test_a_role_is_a_group_where_none_is_given(self, example):
        assert [example.group(name) for name in ("user", "item", "genres")] == ["user", "product", ""]

    def test_what_is_saved_is_read_again(self, example, tmp_path):
        example.save(tmp_path / "again.yaml")
        assert TableSchema.load(tmp_path / "again.yaml") == example
        assert TableSchema.from_dict(example.to_dict()) == example

    def test_the_documented_example_is_one(self):
        page = (Path(__file__).parents[3] / "docs" / "table.md").read_text(encoding="utf-8")
        schema = TableSchema.from_dict(yaml.safe_load(page.split("```yaml")[1].split("```")[0]))
        assert {column.type for column in schema.columns.values()} == {"sparse", "dense", "sequence"}
        documented = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `")}
        assert documented == set(TableColumn.__dataclass_fields__)

    def test_every_key_belongs_to_some_type(self):
        keys = {key for of_type in KEYS.values() for key in of_type}
        assert keys | {"type"} == set(TableColumn.__dataclass_fields__)


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"label": None}, ["has no label", "label: click"]),
            ({"label": 3}, ["label 3"]),
            ({"label": "user"}, ["label 'user' is also a feature"]),
            ({"columns": None}, ["no columns"]),
            ({"columns": ["user"]}, ["columns", "holds a list"]),
            ({"columns": {"user": 3}}, ["column 'user'", "holds 3"]),
            ({"columns": {True: {}}}, ["column name True", "quotes"]),
            ({"colums": {}}, ["'colums'", "did you mean 'columns'?"]),
            ({"user": "price"}, ["user 'price' is of type dense", "expected a sparse one"]),
            ({"user": "user", "item": "user"}, ["user and item are both 'user'"]),
            ({"item": "usr"}, ["item 'usr' is no column of the schema", "did you mean 'user'?"]),
            ({"columns": {"user": {"type": "sparce"}}}, ["column 'user'", "type = 'sparce'", "did you mean 'sparse'?"]),
            ({"columns": {"user": {"type": ["sparse"]}}}, ["column 'user'", "type = ['sparse']", "text"]),
            ({"columns": {"user": {"min_cont": 2}}}, ["column 'user'", "min_cont", "did you mean 'min_count'?"]),
            ({"columns": {"user": {"min_categr_count": 2}}}, ["did you mean 'min_count'?"]),
            ({"columns": {"user": {"min_count": 0}}}, ["column 'user'", "min_count = 0", "at least 1"]),
            ({"columns": {"user": {"min_count": "many"}}}, ["min_count = 'many'", "a whole number"]),
            ({"columns": {"user": {"oov": "hash"}}}, ["oov = 'hash'", "padding, learned"]),
            ({"columns": {"user": {"separator": ","}}}, ["column 'user' is sparse and has separator", "sequence"]),
            ({"columns": {"price": {"type": "dense", "min_count": 2}}}, ["'price' is dense and has min_count"]),
            ({"columns": {"g": {"type": "sequence"}}}, ["column 'g' is a sequence without max_length"]),
            ({"columns": {"g": {"type": "sequence", "max_length": 3, "separator": ""}}}, ["empty separator"]),
            ({"columns": {"g": {"type": "sequence", "max_length": 3, "combiner": "avg"}}}, ["combiner = 'avg'"]),
            ({"columns": {"user": {"shares_embedding_with": "usr"}}}, ["shares_embedding_with 'usr'", "none"]),
            ({"columns": {"user": {"shares_embedding_with": "user"}}}, ["shares_embedding_with 'user'"]),
            (
                {"columns": {"user": {}, "item": {"shares_embedding_with": "user", "min_count": 3}}},
                ["column 'item' has min_count and shares the ids of 'user'", "set it there"],
            ),
            ({"defaults": {"min_cont": 2}}, ["defaults", "did you mean 'min_count'?"]),
        ],
    )
    def test_the_thing_is_named(self, changes, words):
        with pytest.raises(SchemaError) as refusal:
            TableSchema.from_dict(described(**changes))
        for word in words:
            assert word in str(refusal.value)
        assert "\n" not in str(refusal.value)

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"a: [b", "is no YAML"),
            (b"- a", "holds \"['a']\""),
            (b"\xff\xfe", "is no UTF-8 text"),
            (b"", "is empty; expected lines with label:"),
            (b"label: a", "no columns"),
        ],
    )
    def test_the_file_is_named(self, tmp_path, content, words):
        path = tmp_path / "bad.yaml"
        path.write_bytes(content)
        with pytest.raises(SchemaError, match=r"bad\.yaml") as refusal:
            TableSchema.load(path)
        assert words in str(refusal.value)

    @pytest.mark.parametrize("second", ["user: {min_count: 9}", "'user': "])
    def test_a_column_that_stands_twice(self, tmp_path, second):
        (tmp_path / "s.yaml").write_text(f"label: y\ncolumns:\n  user: {{min_count: 2}}\n  item:\n  {second}\n")
        with pytest.raises(SchemaError, match=r"s\.yaml: 'user' stands twice.*lines 3 and 5; keep one"):
            TableSchema.load(tmp_path / "s.yaml")

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(SchemaError, match=r"none\.yaml does not exist"):
            TableSchema.load(tmp_path / "none.yaml")

    def test_nothing_is_executed(self, tmp_path):
        path = tmp_path / "bad.yaml"
        path.write_text(yaml.dump({"label": "x"}) + f"columns: !!python/object/apply:os.mkdir ['{tmp_path}/owned']\n")
        with pytest.raises(SchemaError, match="is no YAML"):
            TableSchema.load(path)
        assert not (tmp_path / "owned").exists()
