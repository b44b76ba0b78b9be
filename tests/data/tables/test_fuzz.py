"""Files made at random: a table or one sentence, never another error, and never other cells than were written."""

import gzip

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deepfm.data.tables.files import ReadOptions, reading, scan_table
from deepfm.errors import DataError

FEW = settings(max_examples=150, deadline=None)
CSVISH = st.lists(
    st.sampled_from([b",", b"\t", b'"', b"\n", b"\r\n", b"\r", b"a", b"b", b"1", b" ", b"\xff", b"\0", "é".encode()]),
    max_size=40,
).map(b"".join)
BYTES = st.binary(max_size=200) | CSVISH
CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8) | st.text(
    ',"\n\r\t; xé', max_size=6
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


def read(path, **options):
    with reading(path):
        return scan_table(path, ReadOptions(**options)).collect()


def as_csv(table, separator=",", newline="\n", all_quoted=False):
    def text(cell):
        quoted = all_quoted or any(sign in cell for sign in f'{separator}"\r\n')
        return '"' + cell.replace('"', '""') + '"' if quoted else cell

    return "".join(separator.join(map(text, row)) + newline for row in table).encode()


@st.composite
def tables(draw):
    width = draw(st.integers(2, 5))
    return draw(st.lists(st.tuples(*[CELLS] * width), min_size=1, max_size=8))


def outcome(path, **options):
    try:
        return read(path, **options)
    except DataError as error:
        return str(error)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz", ".csv.zst", ".csv.bz2", ".parquet"])
@FEW
@given(content=BYTES, skip=st.booleans(), packed=st.booleans(), cut=st.integers(0, 12))
@example(content=b"PAR1\0\0\0\0PAR1", skip=False, packed=False, cut=0)
@example(content=b'a,b\n1,"', skip=True, packed=True, cut=0)
def test_any_bytes(folder, suffix, content, skip, packed, cut):
    path = folder / f"bytes{suffix}"
    if suffix.endswith(".gz") and packed:
        content = gzip.compress(content)
        content = content[: len(content) - cut]
    path.write_bytes(content)
    found = outcome(path, on_bad_row="skip" if skip else "fail")
    if isinstance(found, str):
        assert "\n" not in found
        assert str(path) in found
    else:
        assert found.width >= 1


@FEW
@given(
    table=tables(),
    separator=st.sampled_from(",;\t|"),
    newline=st.sampled_from(["\n", "\r\n"]),
    all_quoted=st.booleans(),
)
def test_cells_come_back(folder, table, separator, newline, all_quoted):
    path = folder / "cells.csv"
    header = [f"c{place}" for place in range(len(table[0]))]
    path.write_bytes(as_csv([header, *table], separator, newline, all_quoted))
    expected = [tuple(cell or None for cell in row) for row in table]
    found = read(path, separator=separator)
    assert found.columns == header
    assert found.rows() == expected


@FEW
@given(table=tables(), data=st.data())
def test_a_lost_cell_is_noticed(folder, table, data):
    path = folder / "short.csv"
    header = [f"c{place}" for place in range(len(table[0]))]
    place = data.draw(st.integers(0, len(table) - 1))
    short = list(table[place])
    del short[data.draw(st.integers(0, len(short) - 1))]
    if short == [""]:
        short = ["x"]  # an empty line is no row
    broken = [header, *table[:place], short, *table[place + 1 :]]
    path.write_bytes(as_csv(broken))
    with pytest.raises(DataError, match=rf"has {len(short)} cells in row {place + 1}[;,].* expected {len(header)}"):
        read(path)


@pytest.mark.parametrize("compression", ["zstd", "uncompressed"])
def test_a_parquet_file_cut_anywhere(folder, compression):
    path = folder / "cut.parquet"
    pl.DataFrame({"a": [1, 2, 3], "b": ["x", None, "z"]}).write_parquet(path, compression=compression)
    whole = path.read_bytes()
    assert read(path).rows() == [(1, "x"), (2, None), (3, "z")]
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match="cannot be read"):
            read(path)


def test_a_packed_file_cut_anywhere(folder):
    path = folder / "cut.csv.gz"
    whole = gzip.compress(b"a,b\n" + b"1,2\n" * 20)
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cannot be read|is empty"):
            read(path)
