"""Descriptions of tables: planted leaks are found, healthy clicks give no warning, numbers are those of the rows."""

import json

import numpy as np
import polars as pl
import pytest

from deepfm import TableAdapter
from deepfm.cli import main
from deepfm.config import DataConfig
from deepfm.data.tables.describe import describe_table, rank_auc
from deepfm.data.tables.schema import TableColumn, TableSchema
from deepfm.errors import DataError

ROWS = 2000
PARTS = (np.arange(ROWS) % 10 - 7).clip(0, 2).astype(np.int8)  # 80/10/10


def clicks(**planted):
    rng = np.random.default_rng(3)
    frame = pl.DataFrame(
        {
            **{"click": rng.integers(0, 2, ROWS), "user": rng.integers(0, 40, ROWS), "item": rng.integers(0, 30, ROWS)},
            **{"price": rng.random(ROWS), "at": np.arange(ROWS) + 1_700_000_000},
        }
    )
    return frame.with_columns(**{name: pl.Series(values) for name, values in planted.items()})


def describe(frame, **columns):
    known = {"user": TableColumn(), "item": TableColumn(), "price": TableColumn("dense"), **columns}
    schema = TableSchema("click", known, user="user", item="item", time="at")
    return describe_table(frame, schema, PARTS)


def test_healthy_clicks_give_no_warning():
    found = describe(clicks())
    assert found.warnings == ()
    assert [its.rows for its in found.parts] == [1600, 200, 200]
    assert all(its.auc < 0.6 for its in found.columns)


def test_a_number_that_tells_the_label():
    frame = clicks()
    leak = -frame["click"].to_numpy() + np.random.default_rng(0).random(ROWS) / 2
    (warning,) = describe(clicks(spent=leak), spent=TableColumn("dense")).warnings
    assert "'spent' tells the label alone (AUC 1.0000)" in warning


def test_a_category_that_tells_the_label():
    leak = ["bought" if click else "left" for click in clicks()["click"]]
    (warning,) = describe(clicks(outcome=leak), outcome=TableColumn()).warnings
    assert "'outcome' tells the label alone" in warning


def test_a_label_of_one_class():
    frame = clicks().with_columns(click=pl.lit(1))
    assert "the label is 1 in every training row" in describe(frame).warnings[0]


def test_three_files_are_the_split(tmp_path, capsys):
    frame = clicks()
    for stem, part in (("train", frame[:1200]), ("valid", frame[1200:1500]), ("test", frame[1500:])):
        part.write_csv(tmp_path / f"{stem}.csv")
    argv = ["data", "describe", str(tmp_path), "--label", "click", "--json"]
    assert main(argv) == 0
    assert [part["rows"] for part in json.loads(capsys.readouterr().out)["parts"]] == [1200, 300, 500]
    assert main([*argv, "--split", "random"]) == 2
    assert "are the split; leave out --split random" in capsys.readouterr().err


def test_the_split_is_trainings(tmp_path, capsys):
    frame = clicks()
    frame.write_csv(tmp_path / "t.csv")
    table = ["--label", "click", "--user", "user", "--item", "item", "--time", "at"]
    for split in ("random", "leave_one_out"):
        capsys.readouterr()
        assert main(["data", "describe", str(tmp_path / "t.csv"), *table, "--split", split, "--json"]) == 0
        described = [part["rows"] for part in json.loads(capsys.readouterr().out)["parts"]]
        config = DataConfig("table", split_strategy=split, label="click", user="user", item="item", time="at")
        assert described == [len(part) for part in TableAdapter(frame, config).build()[1:]]


def test_an_id_for_each_row_is_no_leak_but_useless():
    found = describe(clicks(row=[f"r{row}" for row in range(ROWS)]), row=TableColumn())
    (warning,) = found.warnings
    assert "'row' has another id in each of 2,000 rows" in warning
    assert found.columns[-1].auc == 0.5  # nothing that is fitted on one half is known in the other
    assert found.columns[-1].unknown == {"validation": 1.0, "test": 1.0}


def test_duplicates_across_the_split_whatever_their_label():
    frame = clicks()
    twins = frame.with_columns(click=1 - pl.col("click"))[np.flatnonzero(PARTS == 0)[:200]]
    where = np.flatnonzero(PARTS == 2)
    order = np.arange(ROWS)
    order[where] = ROWS + np.arange(200)
    (warning,) = describe(pl.concat([frame, twins])[order]).warnings
    assert "200 of 200 test rows" in warning


def test_unknown_values_heads_and_rates_by_hand():
    item = np.where(PARTS == 2, 99, 1)
    item[0] = 7
    frame = clicks(item=item, click=(np.arange(ROWS) % 10 == 9).astype(int))
    found = describe(frame, item=TableColumn(min_count=2))
    its = next(column for column in found.columns if column.name == "item")
    assert its.unknown == {"validation": 0.0, "test": 1.0}
    assert its.head == (("1", 1799 / ROWS), ("99", 0.1), ("7", 1 / ROWS))
    assert its.distinct == 3
    assert [part.label_rate for part in found.parts] == [0.0, 0.0, 1.0]
    assert (found.parts[0].first, found.parts[2].last) == (1_700_000_000, 1_700_000_000 + ROWS - 1)


def test_rank_auc_by_hand():
    assert rank_auc(np.array([1.0, 2.0, 2.0, 3.0]), np.array([False, True, False, True])) == 0.875
    assert rank_auc(np.array([1.0, 2.0]), np.array([True, True])) is None


def test_a_label_that_is_none():
    with pytest.raises(DataError, match=r"label column 'click' of the table holds 5 in row 3"):
        describe(clicks(click=[0, 1, 5, *[0] * (ROWS - 3)]))


def test_the_command(tmp_path, capsys):
    clicks().write_csv(tmp_path / "clicks.csv")
    assert main(["data", "describe", str(tmp_path / "clicks.csv"), "--time", "at", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    spans = [(part["first"], part["last"]) for part in found["parts"]]
    assert spans[0][1] < spans[1][0] < spans[1][1] < spans[2][0]  # by time
    assert main(["data", "describe", str(tmp_path / "clicks.csv")]) == 0
    out = capsys.readouterr().out
    assert "price" in out
    assert "warning" not in out
