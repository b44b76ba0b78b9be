import io
import json

import numpy as np
import pytest
from rich.console import Console

from deepfm.errors import DataError
from deepfm.reporting import Column, Table, print_table

COLUMNS = [
    Column("model"),
    Column("auc", format=".3f", better="high"),
    Column("logloss", format=".3f", better="low"),
    Column("epochs", format="d"),
]


def test_best_is_marked_per_column_in_its_direction():
    table = Table(COLUMNS, [["a", 0.9, 0.30, 3], ["b", 0.8, 0.20, 9]])
    assert table.best_cells() == {(0, 1), (1, 2)}


def test_every_tied_cell_is_best_as_far_as_the_table_prints():
    table = Table(COLUMNS, [["a", 0.9, 0.3, 3], ["b", 0.90001, 0.3, 9], ["c", 0.899, 0.31, 9]])
    assert table.best_cells() == {(0, 1), (1, 1), (0, 2), (1, 2)}


def test_none_and_non_finite_numbers_never_win():
    rows = [["a", float("nan"), None, 1], ["b", 0.5, -float("inf"), 1], ["c", float("inf"), 0.7, 1]]
    table = Table(COLUMNS, rows)
    assert table.best_cells() == {(1, 1), (2, 2)}
    assert [row[1:3] for row in table.texts()] == [["–", "–"], ["0.500", "–"], ["–", "0.700"]]  # noqa: RUF001


def test_nothing_is_best_in_one_row_in_an_empty_column_or_when_switched_off():
    assert not Table(COLUMNS, [["a", 0.9, 0.3, 3]]).best_cells()
    assert not Table(COLUMNS, [["a", None, None, 3], ["b", None, None, 4]]).best_cells()
    assert not Table(COLUMNS, [["a", 0.9, 0.3, 3], ["b", 0.8, 0.4, 4]], best=False).best_cells()


def test_text_and_booleans_in_a_number_column_do_not_compete():
    table = Table(COLUMNS, [["a", "failed", True, 3], ["b", 0.1, 2.0, 4]])
    assert table.best_cells() == {(1, 1), (1, 2)}
    assert table.texts()[0] == ["a", "failed", "yes", "3"]


def test_markdown_is_exact_and_escapes_what_would_end_a_cell():
    table = Table(COLUMNS[:2], [["x|y", 0.9], ["<b>*z*\n_", 0.8]], caption="a|b")
    assert table.to_markdown() == (
        "| model | auc |\n| :--- | ---: |\n| x\\|y | **0.900** |\n| &lt;b>\\*z\\* \\_ | 0.800 |\n\na\\|b"
    )


def test_records_are_plain_and_ready_for_json():
    table = Table(COLUMNS, [["a", np.float32(0.5), np.float64("nan"), np.int64(3)], ["b", None, 1, np.True_]])
    records = table.to_records()
    assert records == [
        {"model": "a", "auc": 0.5, "logloss": None, "epochs": 3},
        {"model": "b", "auc": None, "logloss": 1, "epochs": True},
    ]
    assert json.loads(json.dumps(records, allow_nan=False)) == records


def test_terminal_text_marks_the_best_and_interprets_no_markup():
    target = io.StringIO()
    table = Table(COLUMNS[:2], [["[red]a[/red]", 0.9], ["b", 0.8]], caption="of two")
    print_table(table, Console(file=target, width=60))
    lines = [line.split() for line in target.getvalue().splitlines()]
    assert ["[red]a[/red]", "*0.900"] in lines
    assert ["b", "0.800"] in lines
    assert lines[-1] == ["of", "two"]


def test_a_pipe_gets_every_column_whole(capsys):
    columns = [Column(f"a_rather_long_metric_{n}", format=".4f") for n in range(12)]
    print_table(Table(columns, [[0.1234] * 12]))
    out = capsys.readouterr().out
    assert all(column.name in out for column in columns)
    assert out.count("0.1234") == 12


@pytest.mark.parametrize(
    ("columns", "rows", "message"),
    [
        ([], [], "no columns"),
        ([Column("a"), Column("a")], [], "'a' twice"),
        ([Column("a")], [[1, 2]], "row 1 of a table has 2 cells; expected 1"),
        ([Column("a", format="d")], [[0.5]], "cannot print 0.5 with the format 'd'"),
        ([Column("a")], [[[1]]], "holds a list"),
    ],
)
def test_an_impossible_table_is_refused_where_it_is_made(columns, rows, message):
    with pytest.raises(DataError, match=message):
        Table(columns, rows)


def test_an_impossible_column_is_refused():
    with pytest.raises(DataError, match="align 'middle'"):
        Column("a", align="middle")
    with pytest.raises(DataError, match="better 'up'"):
        Column("a", better="up")
