"""Tables in files and in memory: what is read, and in which sentence what cannot be read is refused."""

import bz2
import gzip
import logging

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from deepfm.data.tables import csv_stream
from deepfm.data.tables.files import ReadOptions, reading, scan_table, table_paths
from deepfm.errors import DataError

ROWS = [("1", "tea, green"), ("2", None), (None, 'a "b"\nc')]
CSV = b'id,name\n1,"tea, green"\n2,\n"","a ""b""\nc"\n'


@pytest.fixture
def write(tmp_path):
    def write(content, name="table.csv"):
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return tmp_path / name

    return write


@pytest.fixture
def warnings():
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger = logging.getLogger("deepfm.data.tables.csv_files")
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


def rows(path, **options):
    return scan_table(path, ReadOptions(**options)).collect().rows()


def refusal(source, **options):
    with pytest.raises(DataError) as caught, reading("the table"):
        scan_table(source, ReadOptions(**options)).collect()
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


class TestText:
    @pytest.mark.parametrize(
        ("name", "pack"),
        [
            ("t.csv", bytes),
            ("t.csv.gz", gzip.compress),
            ("t.csv.bz2", bz2.compress),
            ("t.csv.zst", lambda content: zstd(content)),
        ],
    )
    def test_cells(self, write, name, pack):
        table = scan_table(write(pack(CSV), name))
        assert table.collect_schema() == {"id": pl.String, "name": pl.String}
        assert table.collect().rows() == ROWS

    @pytest.mark.parametrize("name", ["t.tsv", "t.txt", "t.dat", "t.tsv.gz"])
    def test_tabs(self, write, name):
        content = b"a\tb\n1,5\t2\n"
        assert rows(write(gzip.compress(content) if name.endswith("gz") else content, name)) == [("1,5", "2")]

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (b"a,b", []),
            (b"a,b\n", []),
            (b"a,b\n1,2", [("1", "2")]),
            (b"a,b\r\n1,2\r\n", [("1", "2")]),
            (b"\xef\xbb\xbfa,b\n1,2\n", [("1", "2")]),
            (b"\n\na,b\n\n1,2\n\n", [("1", "2")]),
            (b'a,b\n1,"\n"\n', [("1", "\n")]),
            (b'a,b\n1,"x\r\n"\r\n', [("1", "x\r\n")]),
            (b'a,b\n1,5" wide\n', [("1", '5" wide')]),
            (b'"a","b"\n"007","1e3"\n', [("007", "1e3")]),
        ],
    )
    def test_forms_of_a_file(self, write, content, expected):
        table = scan_table(write(content)).collect()
        assert table.columns == ["a", "b"]
        assert table.rows() == expected

    def test_separator_and_names(self, write):
        path = write("1;2\n3;4\n")
        table = scan_table(path, ReadOptions(columns=("x", "y"), separator=";")).collect()
        assert table.rows(named=True) == [{"x": "1", "y": "2"}, {"x": "3", "y": "4"}]

    @pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "cp1252", "utf-8-sig"])
    def test_encoding(self, write, encoding):
        assert rows(write("a,b\né,ß\n".encode(encoding)), encoding=encoding) == [("é", "ß")]

    def test_only_what_is_asked_for(self, write):
        table = scan_table(write("a,b,c\n" + "".join(f"{row},{row % 3},x\n" for row in range(100))))
        assert table.select(pl.len()).collect().item() == 100
        assert table.select("b", "a").head(2).collect().rows() == [("0", "0"), ("1", "1")]
        assert table.filter(pl.col("b") == "2").select("a").head(1).collect().rows() == [("2",)]
        assert table.head(4).filter(pl.col("b") == "0").select("c", "a").collect().rows() == [("x", "0"), ("x", "3")]

    def test_in_batches_of_many_blocks(self, write, monkeypatch):
        monkeypatch.setattr("deepfm.data.tables.csv_files.BLOCK_BYTES", 512)
        path = write("a,b\n" + "".join(f'{row},"{row}\nx"\n' for row in range(1000)))
        expected = [(str(row), f"{row}\nx") for row in range(1000)]
        assert scan_table(path).collect(engine="streaming").rows() == expected
        batches = list(scan_table(path).collect_batches(chunk_size=100))
        assert len(batches) > 1
        assert pl.concat(batches).rows() == expected

    def test_stops_before_what_is_not_asked_for(self, write, monkeypatch):
        monkeypatch.setattr("deepfm.data.tables.csv_files.BLOCK_BYTES", 512)
        path = write("a,b\n" + "1,2\n" * 5000 + "3\n")
        assert scan_table(path).head(3).collect().rows() == [("1", "2")] * 3
        assert "1 cells in row 5001; expected 2" in refusal(path)


class TestBadRows:
    @pytest.mark.parametrize("engine", ["auto", "streaming"])
    @pytest.mark.parametrize(
        ("bad", "cells"), [("3\n", 1), ("3,4,5\n", 3), ("3,4,5", 3), ('"3,4",\n', None), ("3,4,\n", 3)]
    )
    def test_fail(self, write, bad, cells, engine):
        path = write("a,b\n1,2\n1,2\n" + bad)
        if cells is None:
            assert scan_table(path).collect(engine=engine).rows()[-1] == ("3,4", None)
            return
        with pytest.raises(DataError) as caught:
            scan_table(path).collect(engine=engine)
        assert str(caught.value) == (
            f"{path} has {cells} cells in row 3; expected 2, as in the header, so mend the row, or leave such rows out "
            "with --on-bad-row skip"
        )

    def test_row_of_a_file_without_a_header(self, write):
        assert "3 cells in row 2; expected 2" in refusal(write("1,2\n3,4,5\n"), columns=("a", "b"))

    def test_skip(self, write, warnings):
        path = write("a,b\n1,2\n3\n4,5\n6,7,8\n9,10\n")
        assert rows(path, on_bad_row="skip") == [("1", "2"), ("4", "5"), ("9", "10")]
        assert warnings == [f"{path}: 2 rows have too few or too many cells and were left out"]

    def test_no_warning_without_bad_rows(self, write, warnings):
        assert rows(write("a,b\n1,2\n"), on_bad_row="skip") == [("1", "2")]
        assert warnings == []

    @pytest.mark.parametrize("skip", ["fail", "skip"])
    @pytest.mark.parametrize(
        "content",
        [
            'a,b\n1,"2\n3,4\n5,6\n',
            'a,b\n1,"2\n3,""\n5,6\n',
            'a,b\n1,2\n"3,4\n5,6\n',
            'a,b\n1,2\n"3\n4,5\n',
            'a,b\n1,"2',
            'a,b\n1,"',
            'a,b\n1,5" wide\n2,"x\n3,y\n',
            'a,b\r\n1,"2\r\n3,4\r\n',
        ],
    )
    def test_quotes_never_closed(self, write, content, skip):
        path = write(content)
        assert "quotes" in refusal(path, on_bad_row=skip)
        with pytest.raises(DataError, match="quotes"):  # in a column that is not asked for, too
            scan_table(path, ReadOptions(on_bad_row=skip)).select("a").collect()

    def test_quotes_never_closed_in_a_long_file(self, write, monkeypatch):
        monkeypatch.setattr("deepfm.data.tables.csv_files.BLOCK_BYTES", 512)
        assert "quotes" in refusal(write('a,b\n1,"2\n' + "3,4\n" * 5000))

    def test_quotes_never_closed_in_the_header(self, write):
        assert "several lines" in refusal(write('a,"b\n1,2\n3,4\n'))


class TestRefused:
    @pytest.mark.parametrize(
        ("content", "name", "options", "words"),
        [
            (b"", "t.csv", {}, ["t.csv is empty", "a header and rows"]),
            (b"\n\n", "t.csv", {}, ["t.csv is empty"]),
            (b"", "t.csv.gz", {}, ["t.csv.gz is empty"]),
            (b"a,a\n1,2\n", "t.csv", {}, ["two columns 'a'"]),
            (b"a,\n1,2\n", "t.csv", {}, ["column 2 of", "has no name", "--columns"]),
            (b"a, \n1,2\n", "t.csv", {}, ["column 2 of", "has no name"]),
            (b"a;b\n1;2\n", "t.csv", {}, ["one column, 'a;b'", "--separator ';'"]),
            (b"1,2\n", "t.csv", {"columns": ("x", "y", "z")}, ["2 columns", "3 names"]),
            (b"1,2\n", "t.csv", {"columns": ("x", "x")}, ["two columns 'x'"]),
            (b"a,b\n1,\xe9\n", "t.csv", {}, ["no utf-8 text", "--encoding (data.encoding), such as latin-1"]),
            (b"a,\xe9\n1,2\n", "t.csv", {}, ["no utf-8 text", "--encoding (data.encoding), such as latin-1"]),
            (b"a,b\n1,\xe9\n", "t.csv", {"encoding": "ascii"}, ["no ascii text"]),
            (b"a,b\n1,2\n", "t.csv", {"encoding": "klingon"}, ["'klingon' is unknown", "utf-8"]),
            (b"a,b\n1,2\n", "t.csv", {"encoding": "hex"}, ["'hex' is unknown", "utf-8"]),
            (b"a,b\n1,\x002\n", "t.csv", {}, ["NUL bytes"]),
            (b"a\x00,b\n1,2\n", "t.csv", {}, ["NUL bytes"]),
            ("a,b\n1,2\n".encode("utf-16-le"), "t.csv", {}, ["NUL bytes", "encoding"]),
            (b"a,b\n1,2\n", "t.csv", {"separator": "::"}, ["separator '::'", "single"]),
            (b"a,b\n1,2\n", "t.csv", {"separator": "é"}, ["separator 'é'", "single"]),
            (b"a,b\n1,2\n", "t.csv", {"separator": '"'}, ["separator '\"'"]),
            (b"a,b\n1,2\n", "t.csv", {"on_bad_row": "pad"}, ["'pad'", "fail or skip"]),
            (b"a,b\n1,2\n", "t.csv.gz", {}, ["t.csv.gz cannot be read"]),
            (b"a,b\n1,2\n", "t.csv.bz2", {}, ["t.csv.bz2 cannot be read"]),
            (b"a,b\n1,2\n", "t.csv.zst", {}, ["t.csv.zst cannot be read"]),
            (gzip.compress(CSV * 5, mtime=0)[:-9], "t.csv.gz", {}, ["t.csv.gz cannot be read", "runcated"]),
            (b"", "t.parquet", {}, ["t.parquet cannot be read"]),
            (b"a,b\n1,2\n" * 9, "t.parquet", {}, ["t.parquet cannot be read"]),
            (b"a", "t.xlsx", {}, ["t.xlsx is none of .csv"]),
        ],
    )
    def test_a_file(self, write, content, name, options, words):
        sentence = refusal(write(content, name), **options)
        for word in words:
            assert word in sentence

    def test_a_compressed_file_cut_behind_its_header(self, write, monkeypatch):
        monkeypatch.setattr("deepfm.data.tables.csv_files.BLOCK_BYTES", 4096)
        values = np.random.default_rng(0).integers(0, 10**9, 20000)
        packed = gzip.compress(b"a\n" + b"".join(b"%d\n" % value for value in values))
        for cut in (len(packed) // 2, len(packed) - 1):
            assert "runcated" in refusal(write(packed[:cut], "t.csv.gz"))

    def test_sources(self, tmp_path):
        assert "does not exist" in refusal(tmp_path / "none.csv")
        assert "no file is named like" in refusal(str(tmp_path / "*.csv"))
        assert "holds none of .csv" in refusal(tmp_path)
        assert "a table is a int" in refusal(5)


class TestSeveralFiles:
    def test_folder_and_glob(self, write, tmp_path):
        write("a,b\n3,4\n", "part-2.csv")
        write("b,a\n2,1\n", "part-1.csv")
        write("", "_begun.csv")
        write("", ".hidden.csv")
        write("", "_SUCCESS")
        for source in (tmp_path, str(tmp_path / "part-*.csv")):
            assert [path.name for path in table_paths(source)] == ["part-1.csv", "part-2.csv"]
            assert scan_table(source).select("a", "b").collect().rows() == [("1", "2"), ("3", "4")]

    def test_parquet(self, tmp_path):
        for part in range(3):
            pl.DataFrame({"a": [part]}).write_parquet(tmp_path / f"{part}[x].parquet")
        assert scan_table(tmp_path).collect().rows() == [(0,), (1,), (2,)]
        assert scan_table(tmp_path / "1[x].parquet").collect().rows() == [(1,)]

    def test_mixed_formats(self, write, tmp_path):
        write("a\n1\n")
        pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "t.parquet")
        assert "both Parquet and text files" in refusal(tmp_path)

    @pytest.mark.parametrize(("other", "missing"), [("a,b,c\n", "'c'"), ("a\n", "'b'")])
    def test_other_columns(self, write, tmp_path, other, missing):
        write("a,b\n1,2\n", "1.csv")
        write(other, "2.csv")
        sentence = refusal(tmp_path)
        assert f"column {missing}" in sentence
        assert "1.csv" in sentence
        assert "2.csv" in sentence

    def test_other_types(self, tmp_path):
        pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "1.parquet")
        pl.DataFrame({"a": ["1"]}).write_parquet(tmp_path / "2.parquet")
        assert "column 'a' is Int64 in" in refusal(tmp_path)

    def test_bad_row_names_its_file(self, write, tmp_path):
        write("a,b\n1,2\n", "1.csv")
        write("a,b\n1,2\n3\n", "2.csv")
        assert "2.csv has 1 cells in row 2" in refusal(tmp_path)

    def test_one_warning_a_file(self, write, tmp_path, warnings):
        write("a,b\n1\n1,2\n3\n", "1.csv")
        write("a,b\n1,2\n3\n", "2.csv")
        assert rows(tmp_path, on_bad_row="skip") == [("1", "2"), ("1", "2")]
        assert sorted(line.split(": ")[1].split()[0] for line in warnings) == ["1", "2"]


class TestInMemory:
    @pytest.mark.parametrize(
        "make",
        [
            pd.DataFrame,
            pl.DataFrame,
            pl.LazyFrame,
            pa.table,
            pa.RecordBatch.from_pydict,
            dict,
            lambda columns: {name: np.array(column) for name, column in columns.items()},
        ],
    )
    def test_frames(self, make):
        table = scan_table(make({"a": [1, 2], "b": ["x", "y"]}))
        assert isinstance(table, pl.LazyFrame)
        assert table.collect().rows() == [(1, "x"), (2, "y")]

    @pytest.mark.parametrize(
        ("source", "words"),
        [
            ({"a": [1, 2], "b": [1]}, "different lengths: {'a': 2, 'b': 1}"),
            ({"a": 1}, "column 'a' of a table is 1"),
            ({"a": "text"}, "column 'a' of a table is 'text'"),
            ({"a": np.array(3)}, "column 'a' of a table is array(3)"),
            ({"a": [object()]}, "column 'a' of a table holds Python objects"),
            (pa.table([[1], [2]], names=["a", "a"]), "more than once"),
            (pd.DataFrame([[1, 2]], columns=["a", "a"]), "columns of the same name"),
            ([1, 2], "a table is a list"),
        ],
    )
    def test_refused(self, source, words):
        assert words in refusal(source)


def test_a_stream_ends_with_a_line(write):
    stream = csv_stream.CsvStream(write("a,b"), "utf-8")
    assert [stream.read(2), stream.read(2), stream.read(2), stream.read(2), stream.read(2)] == [
        b"a",
        b",",
        b"b",
        b"\n",
        b"",
    ]


def zstd(content):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as packed:
        packed.write(content)
    return sink.getvalue().to_pybytes()
