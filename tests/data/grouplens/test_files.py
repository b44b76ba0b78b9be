import functools
import hashlib
import io
import logging
import os
import socket
import subprocess
import sys
import time
import zipfile
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepfm.data.grouplens import files as movielens_files
from deepfm.data.grouplens.columns import GENRES
from deepfm.data.grouplens.download import LARGEST_MEMBER, download_movielens
from deepfm.data.grouplens.files import FILES, RawMovieLens, check_files, hash_files, load_movielens
from deepfm.data.sample import generate_sample
from deepfm.errors import ConfigError, DataError
from tests.local_host import LocalHost

USERS = b"1|24|M|technician|85711\n2|53|F|other|94043\n4|7|M|student|E2A4H\n"
FLAGS = {name: "|".join("1" if genre in name.split() else "0" for genre in GENRES) for name in ("Action War", "Drama")}
ITEMS = (
    f'1|Caf\xe9 \x85 "Noir" (1995)|01-Jan-1995||http://x|{FLAGS["Action War"]}\n'
    f"7|Plain (1996)|||http://y|{FLAGS['Drama']}\n"
).encode("latin-1")
DATA = b"1\t7\t5\t881250949\n2\t1\t3\t881250950\n1\t1\t1\t881250949\n4\t7\t4\t881250951\n"


@functools.cache
def small_sample() -> dict[str, bytes]:
    return generate_sample(num_users=50, num_movies=80, num_ratings=1500)


def write(folder: Path, **replaced: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in {"u_data": DATA, "u_user": USERS, "u_item": ITEMS, **replaced}.items():
        (folder / name.replace("_", ".")).write_bytes(content)
    return folder


@pytest.fixture
def no_download(monkeypatch):
    def fail(data_dir, *args, **kwargs):
        raise DataError("the archive cannot be fetched: no network here")

    monkeypatch.setattr(movielens_files, "download_movielens", fail)


@pytest.fixture
def warnings():
    """The warnings that the module logs (the package's logger does not propagate)."""
    records: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record):
            records.append(record.getMessage())

    handler = Keep(level=logging.WARNING)
    logger = logging.getLogger("deepfm.data.grouplens.files")
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


class TestReading:
    def test_columns_in_the_files_order(self, tmp_path):
        raw = load_movielens(write(tmp_path), "files")
        assert raw.user_ids.tolist() == [1, 2, 1, 4]
        assert raw.movie_ids.tolist() == [7, 1, 1, 7]
        assert raw.ratings.tolist() == [5, 3, 1, 4]
        assert raw.timestamps.tolist() == [881250949, 881250950, 881250949, 881250951]
        assert (raw.user_ids.dtype, raw.movie_ids.dtype) == (np.int64, np.int64)
        assert (raw.ratings.dtype, raw.timestamps.dtype) == (np.float32, np.int64)
        assert all(column.flags.writeable for column in (raw.user_ids, raw.ratings, raw.users["age"]))  # for torch
        assert raw.users["user_id"].tolist() == [1, 2, 4]
        assert raw.users["age"].tolist() == [24, 53, 7]
        assert raw.users["gender"].tolist() == ["M", "F", "M"]
        assert raw.users["occupation"].tolist() == ["technician", "other", "student"]
        assert raw.users["zip_code"].tolist() == ["85711", "94043", "E2A4H"]
        assert raw.movies["movie_id"].tolist() == [1, 7]
        assert raw.movies["genres"].tolist() == [("Action", "War"), ("Drama",)]
        assert (raw.name, raw.source) == ("ml-100k", "files")

    def test_latin1_quotes_and_other_line_separators_are_plain_characters(self, tmp_path):
        assert load_movielens(write(tmp_path), "files").movies["title"].tolist() == [
            'Caf\xe9 \x85 "Noir" (1995)',
            "Plain (1996)",
        ]

    def test_windows_line_ends_and_a_missing_last_newline_change_nothing(self, tmp_path):
        plain = load_movielens(write(tmp_path / "plain"), "files")
        folder = write(tmp_path / "other", u_data=DATA[:-1], u_user=USERS.replace(b"\n", b"\r\n"), u_item=ITEMS[:-1])
        other = load_movielens(folder, "files")
        assert other.timestamps.tolist() == plain.timestamps.tolist()
        assert other.users["zip_code"].tolist() == plain.users["zip_code"].tolist()
        assert other.movies["genres"].tolist() == plain.movies["genres"].tolist()

    def test_one_rating_is_a_data_set(self, tmp_path):
        assert len(load_movielens(write(tmp_path, u_data=b"1\t7\t5\t881250949"), "files").ratings) == 1

    def test_hash_depends_on_each_file_and_on_which_bytes_are_in_which(self, tmp_path):
        files = {"u.data": b"a", "u.user": b"b", "u.item": b"c"}
        others = [{**files, name: b"x"} for name in FILES] + [{"u.data": b"ab", "u.user": b"", "u.item": b"c"}]
        assert len({hash_files(each) for each in (files, *others)}) == 5
        raw = load_movielens(write(tmp_path), "files")
        assert raw.hash == hash_files({name: (tmp_path / name).read_bytes() for name in FILES})
        assert len(raw.hash) == 64

    def test_repr_says_what_it_is(self, tmp_path):
        text = repr(load_movielens(write(tmp_path), "files"))
        assert "4 ratings, 3 users, 2 movies" in text
        assert "'ml-100k'" in text
        assert len(text) < 200

    def test_columns_of_different_lengths_are_refused(self):
        one, two = np.zeros(1, dtype=np.int64), np.zeros(2, dtype=np.int64)
        with pytest.raises(DataError, match="ratings have lengths"):
            RawMovieLens(one, two, one, one, {"user_id": one}, {"movie_id": one}, "x", "files", "h")

    def test_check_files(self, tmp_path):
        found = check_files(write(tmp_path))
        assert (found["ratings"], found["users"], found["movies"], found["likes"]) == (4, 3, 2, 2)
        assert found["sha256"]["u.data"] == hashlib.sha256(DATA).hexdigest()
        assert found["official"] == dict.fromkeys(FILES, False)
        assert found["is_official"] is False
        assert found["hash"] == load_movielens(tmp_path, "files").hash

    def test_importing_loads_no_torch(self):
        code = "import sys, deepfm.data.grouplens.files; print({'torch'} & set(sys.modules))"
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert result.stdout.strip() == "set()"


def row(number: int, **changed: str) -> bytes:
    """u.data with line `number` (from 1) changed."""
    lines = DATA.decode().splitlines()
    values = dict(zip(("user", "movie", "rating", "time"), lines[number - 1].split("\t"), strict=True))
    lines[number - 1] = "\t".join({**values, **changed}.values())
    return ("\n".join(lines) + "\n").encode()


BAD = {
    "empty data": ({"u_data": b""}, ["u.data is empty"]),
    "blank users": ({"u_user": b"\n\n"}, ["u.user is empty"]),
    "last line too short": (
        {"u_data": DATA + b"4\t1\n"},
        ["u.data line 5", "2", "cut off", "expected 4", "tabs"],
    ),
    "cut in the timestamp": ({"u_data": DATA[:-4]}, ["u.data line 4", "cut off", "timestamp '881250'"]),
    "cut before the zip code": ({"u_user": USERS[:-6]}, ["u.user line 3", "cut off", "zip code ''"]),
    "cut in the genres": ({"u_item": ITEMS[:-6]}, ["u.item line 2", "too few columns", "cut off", "24"]),
    "too many columns": (
        {"u_data": row(2, time="881250950\t9")},
        ["u.data line 2", "too many", "5", "expected 4"],
    ),
    "too few columns": (
        {"u_data": row(2, time="1").replace(b"3\t1\n", b"3\n")},
        ["line 2", "too few", "'2\\t1\\t3'"],
    ),
    "blank line inside": ({"u_user": USERS.replace(b"\n2", b"\n\n2")}, ["u.user line 2", "too few"]),
    "separator in a title": (
        {"u_item": ITEMS.replace(b"Plain", b"Pl|ain")},
        ["u.item line 2", "too many", "25"],
    ),
    "rating no number": (
        {"u_data": row(3, rating="five")},
        ["u.data line 3", "rating 'five'", "from 1 to 5"],
    ),
    "rating empty": ({"u_data": row(3, rating="")}, ["u.data line 3", "rating ''", "from 1 to 5"]),
    "rating 0": ({"u_data": row(1, rating="0")}, ["u.data line 1", "rating '0'", "from 1 to 5"]),
    "rating 6": ({"u_data": row(4, rating="6")}, ["u.data line 4", "rating '6'"]),
    "rating nan": ({"u_data": row(4, rating="nan")}, ["u.data line 4", "rating 'nan'"]),
    "rating inf": ({"u_data": row(4, rating="inf")}, ["u.data line 4", "rating 'inf'"]),
    "timestamp no number": (
        {"u_data": row(2, time="1997-12-04")},
        ["line 2", "timestamp '1997-12-04'", "whole number"],
    ),
    "timestamp negative": ({"u_data": row(2, time="-5")}, ["line 2", "timestamp '-5'", "0 or more"]),
    "user id no number": ({"u_data": row(2, user="2.0")}, ["u.data line 2", "user id '2.0'", "whole number"]),
    "id too large": ({"u_data": row(2, movie="9" * 30)}, ["u.data line 2", "movie id '999"]),
    "age no number": (
        {"u_user": USERS.replace(b"|53|", b"|old|")},
        ["u.user line 2", "age 'old'", "0 to 150"],
    ),
    "age 151": ({"u_user": USERS.replace(b"|53|", b"|151|")}, ["u.user line 2", "age '151'"]),
    "movie id no number": ({"u_item": b"x" + ITEMS}, ["u.item line 1", "movie id 'x1'"]),
    "genre flag": ({"u_item": ITEMS.replace(b"0\n", b"2\n", 1)}, ["u.item line 1", "Western '2'", "0 or 1"]),
    "user twice": ({"u_user": USERS + b"2|1|F|x|1\n"}, ["u.user line 4", "user id 2", "line 2 already"]),
    "movie twice": ({"u_item": ITEMS + ITEMS}, ["u.item line 3", "movie id 1", "line 1 already"]),
    "unknown user": ({"u_data": row(2, user="3")}, ["u.data line 2", "user id '3'", "u.user"]),
    "unknown movie": ({"u_data": row(4, movie="70")}, ["u.data line 4", "movie id '70'", "u.item"]),
    "pair twice": (
        {"u_data": DATA + b"2\t1\t5\t881250999\n"},
        ["line 5", "user 2", "movie 1", "line 2 already"],
    ),
    "MovieLens-1M": ({"u_data": b"1::7::5::978300760\n"}, ["u.data line 1", "'::'", "MovieLens-1M"]),
    "MovieLens-1M users": ({"u_user": b"1::F::1::10::48067\n"}, ["u.user line 1", "'::'", "MovieLens-1M"]),
    "csv": (
        {"u_data": b"userId,movieId,rating,timestamp\n1,7,4.0,9\n"},
        ["u.data line 1", "comma-separated"],
    ),
    "header": (
        {"u_data": b"user_id\titem_id\trating\ttimestamp\n" + DATA},
        ["u.data line 1", "'user_id'", "header"],
    ),
    "header of users": ({"u_user": b"user|age|sex|job|zip\n" + USERS}, ["u.user line 1", "'user'", "header"]),
    "UTF-16": ({"u_data": DATA.decode().encode("utf-16")}, ["u.data line 1", "UTF-16", "ASCII"]),
    "UTF-16 without mark": (
        {"u_item": ITEMS.decode("latin-1").encode("utf-16-le")},
        ["u.item", "UTF-16", "latin-1"],
    ),
    "byte order mark": ({"u_user": b"\xef\xbb\xbf" + USERS}, ["u.user line 1", "byte order mark"]),
    "UTF-8 titles": ({"u_item": ITEMS.decode("latin-1").encode()}, ["u.item", "UTF-8", "latin-1"]),
    "not ASCII": ({"u_data": row(3, rating="\xbd")}, ["u.data line 3", "0xc2", "not ASCII"]),
}


class TestBadInput:
    @pytest.mark.parametrize("case", BAD)
    @pytest.mark.parametrize("source", ["files", "auto"])
    def test_one_sentence_says_where_what_and_what_to_do(self, tmp_path, case, source, no_download):
        replaced, parts = BAD[case]
        folder = write(tmp_path, **replaced)
        with pytest.raises(DataError) as caught:
            load_movielens(folder, source)
        message = str(caught.value)
        assert str(folder) in message
        for part in (*parts, "expected", "deepfm data fetch"):
            assert part in message
        assert "\n" not in message
        assert len(message) < 400

    @pytest.mark.parametrize("source", ["files", "auto"])
    def test_some_files_missing(self, tmp_path, source, no_download):
        write(tmp_path)
        (tmp_path / "u.user").unlink()
        with pytest.raises(DataError, match=r"^u\.user not found in .*expected all of .*DEEPFM_DATA_DIR"):
            load_movielens(tmp_path, source)

    def test_all_files_missing(self, tmp_path):
        with pytest.raises(DataError, match=r"^u\.data, u\.user, u\.item not found in .*deepfm data fetch"):
            load_movielens(tmp_path / "nowhere", "files")

    def test_files_one_folder_deeper(self, tmp_path):
        write(tmp_path / "ml-100k")
        with pytest.raises(DataError, match=r"set data\.data_dir=.*ml-100k, which holds them"):
            load_movielens(tmp_path, "files")

    @pytest.mark.parametrize("source", ["files", "auto", "download"])
    def test_a_file_for_a_folder(self, tmp_path, source, no_download):
        path = tmp_path / "archive.zip"
        path.write_bytes(b"x")
        with pytest.raises(DataError, match=r"archive\.zip is a file; expected a folder"):
            load_movielens(path, source)

    def test_a_folder_for_a_file(self, tmp_path):
        write(tmp_path)
        (tmp_path / "u.item").unlink()
        (tmp_path / "u.item").mkdir()
        with pytest.raises(DataError, match=r"u\.item cannot be read"):
            load_movielens(tmp_path, "files")

    def test_unknown_source(self, tmp_path):
        with pytest.raises(ConfigError, match="'web'; expected one of auto, files, download, sample"):
            load_movielens(tmp_path, "web")

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def test_any_damage_is_a_data_error_or_a_smaller_data_set(self, tmp_path, data):
        contents = {"u_data": DATA, "u_user": USERS, "u_item": ITEMS}
        name = data.draw(st.sampled_from(sorted(contents)))
        content = contents[name]
        start = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(start, min(len(content), start + 30)))
        damaged = content[:start] + data.draw(st.binary(max_size=8)) + content[end:]
        folder = write(tmp_path, **{name: damaged})
        try:
            raw = load_movielens(folder, "files")
        except DataError:
            return
        assert np.isfinite(raw.ratings).all()
        assert np.isin(raw.user_ids, raw.users["user_id"]).all()
        assert np.isin(raw.movie_ids, raw.movies["movie_id"]).all()

    def test_a_cut_of_u_data_never_changes_a_rating(self, tmp_path):
        whole = load_movielens(write(tmp_path), "files")
        legal = 0
        for size in range(1, len(DATA)):
            (tmp_path / "u.data").write_bytes(DATA[:size])
            try:
                raw = load_movielens(tmp_path, "files")
            except DataError:
                continue
            count = len(raw.ratings)
            if count > 1:  # the one line of a file has none to be compared with
                legal += 1
                assert raw.timestamps.tolist() == whole.timestamps[:count].tolist()
        assert legal >= 5


def archive(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@pytest.fixture(scope="module")
def whole_archive() -> bytes:
    members = {f"ml-100k/{name}": content for name, content in small_sample().items()}
    members |= {"ml-100k/README": b"The licence", "ml-100k/u1.base": b"x", "ml-100k/mku.sh": b"rm -r /"}
    return archive(members)


class Server(LocalHost):
    """A local host that answers every request with `content`, or `status`."""

    def __init__(self) -> None:
        self.content, self.status, self.cut, self.stall, self.agents = b"", 200, 0, 0.0, []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.agents.append(self.headers["User-Agent"])
                time.sleep(server.stall)
                self.send_response(server.status)
                self.send_header("Content-Length", str(len(server.content) + server.cut))
                self.end_headers()
                self.wfile.write(server.content)

        super().__init__(Handler)
        self.url += "/ml-100k.zip"


@pytest.fixture
def server():
    server = Server()
    yield server
    server.stop()


class TestDownload:
    def test_wanted_members_land_beside_the_licence(self, tmp_path, server, whole_archive):
        server.content = whole_archive
        folder = tmp_path / "new" / "data"
        paths = download_movielens(folder, server.url, md5(whole_archive))
        assert {path.name for path in paths} == {"README", *FILES}
        assert {path.name for path in folder.iterdir()} == {"README", *FILES}
        assert (folder / "README").read_bytes() == b"The licence"
        for name, content in small_sample().items():
            assert (folder / name).read_bytes() == content
        assert "deepfm" in server.agents[0]

    def test_load_downloads_once(self, tmp_path, server, whole_archive, monkeypatch):
        server.content = whole_archive
        fetch = functools.partial(download_movielens, url=server.url, md5=md5(whole_archive))
        monkeypatch.setattr(movielens_files, "download_movielens", fetch)
        first = load_movielens(tmp_path, "download")
        second = load_movielens(tmp_path, "download")
        assert (first.source, second.source) == ("download", "files")
        assert first.hash == second.hash == hash_files(small_sample())
        assert len(server.agents) == 1

    def test_auto_downloads_where_nothing_is(self, tmp_path, server, whole_archive, monkeypatch):
        server.content = whole_archive
        fetch = functools.partial(download_movielens, url=server.url, md5=md5(whole_archive))
        monkeypatch.setattr(movielens_files, "download_movielens", fetch)
        assert load_movielens(tmp_path, "auto").source == "download"
        assert load_movielens(tmp_path, "auto").source == "files"

    def test_download_replaces_damaged_files_and_says_so(self, tmp_path, server, whole_archive, monkeypatch, warnings):
        server.content = whole_archive
        fetch = functools.partial(download_movielens, url=server.url, md5=md5(whole_archive))
        monkeypatch.setattr(movielens_files, "download_movielens", fetch)
        write(tmp_path, u_data=DATA[:-4])
        assert load_movielens(tmp_path, "download").hash == hash_files(small_sample())
        assert "fetched again" in warnings[0]
        assert "cut off" in warnings[0]

    def test_wrong_md5_writes_nothing(self, tmp_path, server, whole_archive):
        server.content = whole_archive
        with pytest.raises(DataError) as caught:
            download_movielens(tmp_path / "data", server.url, "0" * 32)
        assert md5(whole_archive) in str(caught.value)
        assert "0" * 32 in str(caught.value)
        assert not (tmp_path / "data").exists()

    def test_http_status(self, tmp_path, server):
        server.status = 404
        with pytest.raises(DataError, match="answers HTTP status 404"):
            download_movielens(tmp_path, server.url)

    def test_not_a_zip(self, tmp_path, server):
        server.content = b"<html>Log in to this network</html>"
        with pytest.raises(DataError, match="not a zip archive"):
            download_movielens(tmp_path, server.url, md5(server.content))

    def test_damaged_zip(self, tmp_path, server, whole_archive):
        middle = len(whole_archive) // 2
        server.content = whole_archive[:middle] + b"\xff" * 100 + whole_archive[middle + 100 :]
        with pytest.raises(DataError, match="not a zip archive, or a damaged one"):
            download_movielens(tmp_path, server.url, md5(server.content))
        assert not list(tmp_path.iterdir())

    def test_an_answer_that_breaks_off(self, tmp_path, server, whole_archive):
        server.content, server.cut = whole_archive[:100], 1000
        with pytest.raises(DataError):
            download_movielens(tmp_path, server.url, md5(whole_archive))
        assert not list(tmp_path.iterdir())

    def test_a_host_that_never_answers(self, tmp_path, server):
        server.stall = 0.5
        with pytest.raises(DataError, match=r"cannot be fetched.*timed out"):
            download_movielens(tmp_path, server.url, timeout=0.1)

    def test_a_host_that_refuses(self, tmp_path):
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{closed.getsockname()[1]}/ml-100k.zip"
            with pytest.raises(DataError, match=r"cannot be fetched.*refused.*data\.data_dir"):
                download_movielens(tmp_path, url)

    def test_no_address(self, tmp_path):
        with pytest.raises(DataError, match="cannot be fetched"):
            download_movielens(tmp_path, "ml-100k.zip")

    def test_archive_of_something_else(self, tmp_path, server):
        server.content = archive({"ml-1m/ratings.dat": b"1::2::3::4"})
        with pytest.raises(DataError, match=r"holds no u\.data"):
            download_movielens(tmp_path, server.url, md5(server.content))

    def test_member_names_never_leave_the_folder(self, tmp_path, server):
        server.content = archive({f"../../{name}": content for name, content in small_sample().items()})
        folder = tmp_path / "a" / "b"
        download_movielens(folder, server.url, md5(server.content))
        assert {path.name for path in folder.iterdir()} == set(FILES)
        assert [path.name for path in tmp_path.iterdir()] == ["a"]

    def test_zip_bomb(self, tmp_path, server):
        server.content = archive({**small_sample(), "u.item": bytes(LARGEST_MEMBER + 1)})
        with pytest.raises(DataError, match=r"u\.item in .* expected at most"):
            download_movielens(tmp_path, server.url, md5(server.content))
        assert not list(tmp_path.iterdir())

    def test_a_folder_that_cannot_be_written(self, tmp_path, server, whole_archive):
        server.content = whole_archive
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(DataError, match=r"cannot write .*data\.data_dir"):
            download_movielens(tmp_path / "file" / "data", server.url, md5(whole_archive))


class TestSources:
    def test_auto_falls_to_the_sample_with_a_warning_nobody_can_miss(self, tmp_path, no_download, warnings):
        raw = load_movielens(tmp_path, "auto")
        assert (raw.name, raw.source) == ("ml-100k-sample", "sample")
        assert len(raw.ratings) == 100_000
        (banner,) = warnings
        lines = banner.strip().splitlines()
        assert len({len(line) for line in lines}) == 1  # a box
        words = " ".join(line.strip("* ") for line in lines)
        for part in ("GENERATED SAMPLE", "no network here", "say nothing about MovieLens", "DEEPFM_DATA_DIR"):
            assert part in words
        assert "data.data_dir=" in words
        assert "`deepfm data fetch`" in words
        assert str(tmp_path) in words.replace(" ", "") or str(tmp_path) in words

    def test_the_banner_reaches_stdout(self, tmp_path, no_download, capsys):
        load_movielens(tmp_path, "auto")
        assert "GENERATED SAMPLE" in capsys.readouterr().out

    def test_download_never_falls_to_the_sample(self, tmp_path, no_download):
        with pytest.raises(DataError, match="no network here"):
            load_movielens(tmp_path, "download")

    def test_sample_ignores_the_folder(self, tmp_path, no_download, warnings):
        raw = load_movielens(write(tmp_path), "sample")
        assert raw.source == "sample"
        assert raw.hash == hash_files(generate_sample())
        assert not warnings


def real_folder() -> Path:
    beside = Path(__file__).resolve().parents[4] / "shared" / "datasets" / "ml-100k"
    return Path(os.environ.get("DEEPFM_DATA_DIR", beside))


@pytest.mark.slow
@pytest.mark.skipif(
    not (real_folder() / "u.data").exists(),
    reason="MovieLens-100K is not here; set DEEPFM_DATA_DIR to its folder",
)
class TestRealFiles:
    def test_counts(self):
        raw = load_movielens(real_folder(), "files")
        assert (len(raw.ratings), len(raw.users["user_id"]), len(raw.movies["movie_id"])) == (
            100_000,
            943,
            1682,
        )
        assert np.bincount(raw.ratings.astype(int))[1:].tolist() == [6110, 11370, 27145, 34174, 21201]
        assert raw.movies["genres"][0] == ("Animation", "Children's", "Comedy")
        assert raw.movies["genres"][266] == ("unknown",)
        assert "Misérables, Les (1995)" in raw.movies["title"]
        assert raw.name == "ml-100k"

    def test_hashes_are_official(self):
        found = check_files(real_folder())
        assert found["official"] == dict.fromkeys(FILES, True)
        assert found["is_official"] is True
        assert found["likes"] == 55_375
