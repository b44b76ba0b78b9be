import hashlib
import io
import zipfile
from http.server import BaseHTTPRequestHandler

import pytest

from deepfm.cli import main
from deepfm.data.grouplens.archive import ARCHIVES, archive_of, fetch_archive
from deepfm.errors import ConfigError, DataError
from tests.local_host import LocalHost

ONE_M = {"ratings.dat": b"1::1::5::978300760\n", "users.dat": b"1::F::1::10::48067\n", "movies.dat": b"1::A::Drama\n"}
SMALL = {
    "ratings.csv": b"userId,movieId,rating,timestamp\n1,1,4.0,964982703\n",
    "movies.csv": b"movieId,title,genres\n",
}


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


class Host(LocalHost):
    """A local host that knows some paths; a path in `cut` breaks off after half."""

    def __init__(self) -> None:
        self.paths: dict[str, bytes] = {}
        self.cut: set[str] = set()
        self.asked: list[str] = []
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host.asked.append(self.path)
                content = host.paths.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if self.path in host.cut else content)

        super().__init__(Handler)


@pytest.fixture
def host():
    host = Host()
    yield host
    host.stop()


@pytest.fixture
def one_m(host) -> str:
    """The address of an archive in MovieLens-1M's form."""
    host.paths["/ml-1m.zip"] = zipped({f"ml-1m/{name}": content for name, content in ONE_M.items()} | {"ml-1m/x": b"x"})
    return f"{host.url}/ml-1m.zip"


def test_every_archive_has_its_address_its_folder_and_its_ratings_first():
    for name, archive in ARCHIVES.items():
        assert archive.url == f"https://files.grouplens.org/datasets/movielens/{archive.name}.zip"
        assert archive.folder == f"data/{archive.name}"
        assert archive.files[0] in ("u.data", "ratings.dat", "ratings.csv")
        assert archive.md5 is None or len(archive.md5) == 32, name
    with pytest.raises(ConfigError, match="'movielens_2m' cannot be fetched; did you mean 'movielens_"):
        archive_of("movielens_2m")


class TestFetching:
    def test_only_the_needed_members_land(self, tmp_path, host, one_m):
        written = fetch_archive(ARCHIVES["movielens_1m"], tmp_path / "a", one_m, md5(host.paths["/ml-1m.zip"]).upper())
        assert [path.name for path in written] == ["movies.dat", "users.dat", "ratings.dat"]
        assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == ONE_M
        assert host.asked == ["/ml-1m.zip"]

    def test_the_pinned_sum_is_held_against_the_archive(self, tmp_path, host, one_m):
        found = md5(host.paths["/ml-1m.zip"])
        with pytest.raises(DataError, match=f"has MD5 {found}; expected {ARCHIVES['movielens_1m'].md5}; nothing was"):
            fetch_archive(ARCHIVES["movielens_1m"], tmp_path / "a", one_m)
        assert not (tmp_path / "a").exists()

    @pytest.mark.parametrize("form", ["{sum}  ml-latest-small.zip\n", "MD5 (ml-latest-small.zip) = {sum}\n"])
    def test_a_sum_that_is_not_pinned_is_fetched_first(self, tmp_path, host, form):
        content = host.paths["/small.zip"] = zipped({f"ml-latest-small/{name}": its for name, its in SMALL.items()})
        host.paths["/small.zip.md5"] = form.format(sum=md5(content)).encode()
        fetch_archive(ARCHIVES["movielens_latest_small"], tmp_path, f"{host.url}/small.zip")
        assert {path.name for path in tmp_path.iterdir()} == set(SMALL)
        assert host.asked == ["/small.zip.md5", "/small.zip"]

    def test_a_wrong_sum_beside_the_archive(self, tmp_path, host):
        host.paths["/small.zip"] = zipped(SMALL)
        host.paths["/small.zip.md5"] = b"0" * 32 + b"  small.zip\n"
        with pytest.raises(DataError, match=f"expected {'0' * 32}"):
            fetch_archive(ARCHIVES["movielens_latest_small"], tmp_path / "a", f"{host.url}/small.zip")
        assert not (tmp_path / "a").exists()

    @pytest.mark.parametrize("text", [b"<html>log in</html>", b"", b"a" * 33])
    def test_no_sum_beside_the_archive(self, tmp_path, host, text):
        host.paths |= {"/small.zip": zipped(SMALL), "/small.zip.md5": text}
        with pytest.raises(DataError, match=r"small\.zip\.md5 holds .*expected one MD5; name it with --md5"):
            fetch_archive(ARCHIVES["movielens_latest_small"], tmp_path / "a", f"{host.url}/small.zip")

    def test_no_file_of_sums_at_all(self, tmp_path, host):
        host.paths["/small.zip"] = zipped(SMALL)
        with pytest.raises(DataError, match=r"small\.zip\.md5 answers HTTP status 404"):
            fetch_archive(ARCHIVES["movielens_latest_small"], tmp_path / "a", f"{host.url}/small.zip")
        assert host.asked == ["/small.zip.md5"]

    def test_an_answer_that_breaks_off(self, tmp_path, host, one_m):
        host.cut = {"/ml-1m.zip"}
        size = len(host.paths["/ml-1m.zip"])
        with pytest.raises(DataError, match=f"broke off after {size // 2} of {size} bytes; nothing was written"):
            fetch_archive(ARCHIVES["movielens_1m"], tmp_path / "a", one_m, md5(host.paths["/ml-1m.zip"]))
        assert not (tmp_path / "a").exists()

    def test_no_such_archive(self, tmp_path, host):
        with pytest.raises(DataError, match=r"ml-20m\.zip answers HTTP status 404"):
            fetch_archive(ARCHIVES["movielens_20m"], tmp_path, f"{host.url}/ml-20m.zip")

    def test_an_archive_of_other_data(self, tmp_path, host, one_m):
        with pytest.raises(DataError, match=r"holds no ratings\.csv; expected MovieLens-25M's archive"):
            fetch_archive(ARCHIVES["movielens_25m"], tmp_path, one_m, md5(host.paths["/ml-1m.zip"]))

    def test_names_in_the_archive_never_leave_the_folder(self, tmp_path, host):
        content = zipped({f"../../{name}": its for name, its in ONE_M.items()} | {"/etc/README": b"licence"})
        host.paths["/slip.zip"] = content
        fetch_archive(ARCHIVES["movielens_1m"], tmp_path / "a" / "b", f"{host.url}/slip.zip", md5(content))
        assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == {*ONE_M, "README"}
        assert [path.name for path in tmp_path.iterdir()] == ["a"]

    def test_a_damaged_member_leaves_the_folder_as_it_was(self, tmp_path, host):
        content = bytearray(zipped({**ONE_M, "ratings.dat": b"1::1::5::978300760\n" * 5000}))
        content[content.index(b"ratings.dat") + 40] ^= 0xFF
        host.paths["/bad.zip"] = bytes(content)
        (tmp_path / "movies.dat").write_bytes(b"what was there")
        with pytest.raises(DataError, match="not a zip archive, or a damaged one"):
            fetch_archive(ARCHIVES["movielens_1m"], tmp_path, f"{host.url}/bad.zip", md5(bytes(content)))
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"movies.dat": b"what was there"}


class TestCommand:
    def test_fetch_by_name(self, tmp_path, monkeypatch, capsys, host, one_m):
        monkeypatch.chdir(tmp_path)
        content = host.paths["/ml-1m.zip"]
        arguments = ["data", "fetch", "--dataset", "movielens_1m", "--url", one_m, "--md5", md5(content)]
        assert main(arguments) == 0
        assert (tmp_path / "data" / "ml-1m" / "ratings.dat").read_bytes() == ONE_M["ratings.dat"]
        assert "MovieLens-1M is in data/ml-1m" in capsys.readouterr().out
        assert main([*arguments, "elsewhere"]) == 0
        assert (tmp_path / "elsewhere" / "users.dat").exists()

    def test_an_unknown_name(self, capsys):
        assert main(["data", "fetch", "--dataset", "movielens_32"]) == 2
        assert "did you mean 'movielens_32m'?" in capsys.readouterr().err
