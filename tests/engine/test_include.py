"""`include:` in a YAML: what stands above what, and what is refused."""

import pytest

from deepfm.engine.settings import read_settings
from deepfm.errors import ConfigError


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


def test_own_keys_stand_above_included_ones_and_overrides_above_all(write):
    write("parts/one.yaml", "training: {lr: 1, steps: 1, width: 1, depth: 1}\n")
    write("parts/two.yaml", "training: {steps: 2, width: 2, depth: 2}\nmodel: {kind: two}\n")
    path = write("all.yaml", "training: {width: 3, depth: 3}\ninclude: [parts/one.yaml, parts/two.yaml]\n")
    assert read_settings(path, ["training.depth=4"]) == {
        "training": {"lr": 1, "steps": 2, "width": 3, "depth": 4},
        "model": {"kind": "two"},
    }


def test_paths_are_relative_to_the_file_that_names_them(write):
    write("deep/er/leaf.yaml", "leaf: true\n")
    write("deep/middle.yaml", "include: er/leaf.yaml\nmiddle: true\n")
    assert read_settings(write("top.yaml", "include: deep/middle.yaml\n")) == {"leaf": True, "middle": True}


def test_one_file_may_be_included_on_two_ways(write):
    write("base.yaml", "base: 1\n")
    write("left.yaml", "include: base.yaml\nleft: 1\n")
    write("right.yaml", "include: [base.yaml]\nright: 1\n")
    assert read_settings(write("top.yaml", "include: [left.yaml, right.yaml]")) == {"base": 1, "left": 1, "right": 1}


def test_a_circle_is_refused_with_its_way(write):
    write("b.yaml", "include: a.yaml\n")
    with pytest.raises(ConfigError, match=r"a\.yaml includes itself \(\S*a\.yaml → \S*b\.yaml → \S*a\.yaml\)"):
        read_settings(write("a.yaml", "include: b.yaml\n"))


def test_a_missing_file_is_named_with_who_includes_it(write):
    with pytest.raises(ConfigError, match=r"absent\.yaml does not exist; \S*top\.yaml includes it"):
        read_settings(write("top.yaml", "include: absent.yaml\n"))


@pytest.mark.parametrize("value", ["3", "[1]", "{a: b}", "['']", "null"])
def test_what_names_no_file_is_refused(write, value):
    with pytest.raises(ConfigError, match="names no file; expected a path or a list of paths"):
        read_settings(write("top.yaml", f"include: {value}\n"))
