import hashlib

import numpy as np
import pytest
import torch

from deepfm.config import DataConfig
from deepfm.data.adapters import open_adapter
from deepfm.data.grouplens import versions as movielens_versions
from deepfm.data.grouplens.versions import load_version
from deepfm.data.movielens import MovieLensAdapter
from deepfm.data.sample import write_sample
from deepfm.errors import ConfigError, DataError
from tests.data.grouplens.made import SIZES, write_1m, write_csv

pytestmark = pytest.mark.usefixtures("one_thread")
CSV_NAMES = ("movielens_latest_small", "movielens_20m", "movielens_25m", "movielens_32m")
DAT = {
    "ratings.dat": "1::7::5::978300760\n2::1::3::978300761\n1::1::1::978300759\n4::7::4::978300762\n",
    "users.dat": "1::F::1::10::48067\n2::M::56::16::70072\n4::M::25::7::E2A4H\n",
    "movies.dat": "1::Caf\xe9: Noir (1995)::Action|War\n7::Plain (1996)::Drama\n",
}
CSV = {
    "ratings.csv": "userId,movieId,rating,timestamp\n1,1,0.5,964982703\n1,7,4.5,964982704\n2,7,5.0,964982705\n",
    "movies.csv": 'movieId,title,genres\n1,"Caf\xe9, Noir (1995)",Action|War\n7,Plain,(no genres listed)\n',
}


@pytest.fixture(scope="module")
def one_m(tmp_path_factory):
    return write_1m(tmp_path_factory.mktemp("one_m"))


@pytest.fixture(scope="module")
def csv_dir(tmp_path_factory):
    return write_csv(tmp_path_factory.mktemp("csv"))


def write(folder, files, **changed):
    for name, text in (files | {key.replace("_", "."): value for key, value in changed.items()}).items():
        encoding = "latin-1" if name.endswith("dat") else "utf-8"
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return folder


def config(name, folder, **settings):
    return DataConfig(name, data_dir=str(folder), source="files", num_neg_eval=20, **settings)


class TestReading:
    def test_1m(self, tmp_path):
        raw = load_version("movielens_1m", write(tmp_path, DAT), "files")
        assert raw.user_ids.tolist() == [1, 2, 1, 4]
        assert raw.movie_ids.tolist() == [7, 1, 1, 7]
        assert raw.ratings.tolist() == [5, 3, 1, 4]
        assert raw.timestamps.tolist() == [978300760, 978300761, 978300759, 978300762]
        assert {name: column.tolist() for name, column in raw.users.items()} == {
            "user_id": [1, 2, 4],
            "gender": ["F", "M", "M"],
            "age": [1, 56, 25],
            "occupation": ["10", "16", "7"],
            "zip_code": ["48067", "70072", "E2A4H"],
        }
        assert raw.movies["title"].tolist() == ["Caf\xe9: Noir (1995)", "Plain (1996)"]
        assert raw.movies["genres"].tolist() == [("Action", "War"), ("Drama",)]
        assert (raw.name, raw.source, raw.ratings.dtype, raw.user_ids.dtype) == ("ml-1m", "files", np.float32, np.int64)
        assert raw.user_ids.flags.writeable
        assert raw.timestamps.flags.writeable

    @pytest.mark.parametrize("name", CSV_NAMES)
    def test_csv(self, tmp_path, name):
        raw = load_version(name, write(tmp_path, CSV), "files")
        assert raw.user_ids.tolist() == [1, 1, 2]
        assert raw.movie_ids.tolist() == [1, 7, 7]
        assert raw.ratings.tolist() == [0.5, 4.5, 5]
        assert {key: column.tolist() for key, column in raw.users.items()} == {"user_id": [1, 2]}
        assert raw.movies["title"].tolist() == ["Caf\xe9, Noir (1995)", "Plain"]
        assert raw.movies["genres"].tolist() == [("Action", "War"), ()]
        assert raw.name == name.replace("movielens", "ml").replace("_", "-")

    def test_windows_line_ends_and_a_missing_last_newline_change_nothing(self, tmp_path):
        for name, files in (("movielens_1m", DAT), ("movielens_25m", CSV)):
            folder = tmp_path / name
            folder.mkdir()
            plain = load_version(name, write(folder, files), "files")
            for change in (lambda text: text.replace("\n", "\r\n"), lambda text: text[:-1]):
                other = load_version(name, write(folder, {key: change(text) for key, text in files.items()}), "files")
                assert other.timestamps.tolist() == plain.timestamps.tolist()
                assert other.movies["genres"].tolist() == plain.movies["genres"].tolist()
                assert other.hash != plain.hash

    def test_the_hash_is_of_all_files(self, tmp_path):
        content = {name: text.encode() for name, text in CSV.items()}
        digest = hashlib.sha256()
        for name in ("ratings.csv", "movies.csv"):
            digest.update(f"{name}:{len(content[name])}:".encode() + content[name])
        assert load_version("movielens_20m", write(tmp_path, CSV), "files").hash == digest.hexdigest()


def changed(files, name, old, new):
    assert old in files[name], old
    return {name.replace(".", "_"): files[name].replace(old, new, 1)}


R, U, M = "ratings.dat", "users.dat", "movies.dat"
BAD_DAT = {
    "rating no number": (changed(DAT, R, "::3::", "::x::"), [R + " line 2", "rating 'x'", "from 1 to 5"]),
    "rating 0": (changed(DAT, R, "::3::", "::0::"), [R + " line 2", "rating '0'"]),
    "rating 6": (changed(DAT, R, "::3::", "::6::"), [R + " line 2", "rating '6'"]),
    "rating of halves": (changed(DAT, R, "::3::", "::3.5::"), [R + " line 2", "rating '3.5'", "whole number from 1"]),
    "rating nan": (changed(DAT, R, "::3::", "::nan::"), [R + " line 2", "rating 'nan'"]),
    "rating empty": (changed(DAT, R, "::3::", "::::"), [R + " line 2", "rating ''"]),
    "user no number": (changed(DAT, R, "2::1", "2.0::1"), [R + " line 2", "user id '2.0'", "whole number"]),
    "id too large": (changed(DAT, R, "2::1", "2::" + "9" * 30), [R + " line 2", "movie id '999"]),
    "timestamp negative": (changed(DAT, R, "978300761", "-5"), [R + " line 2", "timestamp '-5'", "0 or more"]),
    "too few": (changed(DAT, R, "::978300761", ""), [R + " line 2", "'2::1::3' has too few columns, 3", "'::'"]),
    "too many": (changed(DAT, R, "978300761", "978300761::9"), [R + " line 2", "too many columns, 5", "expected 4"]),
    "cut": ({"ratings_dat": DAT[R][:-4]}, [R + " line 4", "cut off in the timestamp '978300'"]),
    "cut before": ({"ratings_dat": DAT[R][:-13]}, [R + " line 4", "too few", "cut off"]),
    "blank line": (changed(DAT, R, "\n2", "\n\n2"), [R + " line 2", "too few"]),
    "tabs": ({"ratings_dat": "1\t7\t5\t978300760\n"}, [R + " line 1", "too few columns, 1"]),
    "empty": ({"ratings_dat": ""}, [R + " is empty"]),
    "blank": ({"users_dat": "\n\n"}, [U + " is empty"]),
    "unknown user": (changed(DAT, R, "2::1", "3::1"), [R + " line 2", "user id '3'", "users.dat beside it"]),
    "unknown movie": (changed(DAT, R, "2::1", "2::70"), [R + " line 2", "movie id '70'", "movies.dat beside it"]),
    "pair twice": ({"ratings_dat": DAT[R] + "2::1::5::978300999\n"}, [R + " line 5", "as on line 2 already"]),
    "user twice": ({"users_dat": DAT[U] + "2::F::1::1::1\n"}, [U + " line 4", "user id 2 stands on line 2 already"]),
    "movie twice": ({"movies_dat": DAT[M] * 2}, [M + " line 3", "movie id 1 stands on line 1 already"]),
    "age": (changed(DAT, U, "::56::", "::53::"), [U + " line 2", "age '53'", "expected one of 1, 18, 25"]),
    "occupation": (changed(DAT, U, "::16::", "::writer::"), [U + " line 2", "occupation 'writer'"]),
    "UTF-8": ({"movies_dat": DAT[M].encode()}, [M + " line 1", "UTF-8", "latin-1", "convert it"]),
    "UTF-16": ({"ratings_dat": DAT[R].encode("utf-16")}, [R + " line 1", "UTF-16"]),
    "MovieLens-100K": ({"users_dat": "1|24|M|technician|85711\n"}, [U + " line 1", "too few columns, 1"]),
}
R, M = "ratings.csv", "movies.csv"
BAD_CSV = {
    "rating of thirds": (changed(CSV, R, "4.5", "4.3"), [R + " line 3", "rating '4.3'", "from 0.5 to 5 in halves"]),
    "rating 0": (changed(CSV, R, "4.5", "0.0"), [R + " line 3", "rating '0.0'"]),
    "rating inf": (changed(CSV, R, "4.5", "inf"), [R + " line 3", "rating 'inf'"]),
    "user empty": (changed(CSV, R, "\n2,", "\n,"), [R + " line 4", "userId ''", "whole number"]),
    "timestamp a date": (changed(CSV, R, "964982704", "2000-07-30"), [R + " line 3", "timestamp '2000-07-30'"]),
    "too few": (changed(CSV, R, ",964982704", ""), [R + " line 3", "'1,7,4.5' has too few columns, 3", "expected 4"]),
    "too many": (changed(CSV, R, "964982704", "9,9"), [R + " line 3", "too many columns, 5"]),
    "cut": ({"ratings_csv": CSV[R][:-4]}, [R + " line 4", "cut off in the timestamp '964982'"]),
    "header": (changed(CSV, R, "userId", "user"), [R + " line 1", "the header is 'user,movieId", "'userId,movieId"]),
    "MovieLens-1M": ({"ratings_csv": "1::7::5::978300760\n"}, [R + " line 1", "'::'", "MovieLens-1M"]),
    "no rows": ({"ratings_csv": CSV[R].splitlines()[0] + "\n"}, [R, "no rows"]),
    "empty": ({"movies_csv": ""}, [M + " is empty"]),
    "unknown movie": (changed(CSV, R, "1,7,", "1,8,"), [R + " line 3", "movieId '8'", "movies.csv beside it"]),
    "pair twice": ({"ratings_csv": CSV[R] + "1,7,3.0,964982799\n"}, [R + " line 5", "as on line 3 already"]),
    "movie twice": ({"movies_csv": CSV[M] + "7,x,Drama\n"}, [M + " line 4", "movieId 7 stands on line 3 already"]),
    "no genres": (changed(CSV, M, "(no genres listed)", ""), [M + " line 3", "genres ''", "expected text"]),
    "comma in a title": (changed(CSV, M, "Plain", "Pl,ain"), [M + " line 3", "too many columns, 4"]),
    "latin-1": ({"movies_csv": CSV[M].encode("latin-1")}, [M + " cannot be read", "utf"]),
}


class TestBadInput:
    @pytest.mark.parametrize(
        ("name", "files", "replaced", "parts"),
        [
            *(pytest.param("movielens_1m", DAT, *case, id=f"dat-{key}") for key, case in BAD_DAT.items()),
            *(pytest.param("movielens_25m", CSV, *case, id=f"csv-{key}") for key, case in BAD_CSV.items()),
        ],
    )
    def test_one_sentence_says_where_what_and_what_to_do(self, tmp_path, name, files, replaced, parts):
        with pytest.raises(DataError) as caught:
            load_version(name, write(tmp_path, files, **replaced), "files")
        message = str(caught.value)
        for part in (str(tmp_path), *parts, f"deepfm data fetch --dataset {name}`"):
            assert part in message
        assert "expected" in message or "cannot be read" in message
        assert "\n" not in message
        assert len(message) < 450

    def test_missing_files(self, tmp_path):
        write(tmp_path, DAT)
        (tmp_path / "users.dat").unlink()
        with pytest.raises(DataError, match=r"^users\.dat not found in .*ratings\.dat, users\.dat.*--dataset moviel"):
            load_version("movielens_1m", tmp_path, "files")

    def test_files_one_folder_deeper(self, tmp_path):
        (tmp_path / "ml-20m").mkdir()
        write(tmp_path / "ml-20m", CSV)
        with pytest.raises(DataError, match=r"set data\.data_dir=.*ml-20m, which holds them"):
            load_version("movielens_20m", tmp_path, "files")

    def test_the_sample_is_of_another_version(self, tmp_path):
        with pytest.raises(ConfigError, match=r"data\.dataset_name is 'movielens_1m'"):
            load_version("movielens_1m", tmp_path, "sample")


def test_a_download_lands_in_the_folder_and_is_read_once(tmp_path, monkeypatch):
    calls = []

    def fetch(archive, folder, *_):
        calls.append(archive.name)
        folder.mkdir()
        write(folder, CSV)

    monkeypatch.setattr(movielens_versions, "fetch_archive", fetch)
    first = load_version("movielens_latest_small", tmp_path / "data", "auto")
    second = load_version("movielens_latest_small", tmp_path / "data", "download")
    assert (first.source, second.source, calls) == ("download", "files", ["ml-latest-small"])


class TestAdapter:
    def test_1m_has_the_fields_of_100k(self, one_m, tmp_path):
        """The same ratings in both formats give the same split, candidates and fields."""
        adapter = open_adapter(config("movielens_1m", one_m), seed=3, max_history=5)
        schema, train, _, test = adapter.build()
        write_sample(tmp_path, seed=1, **SIZES)
        other = MovieLensAdapter(tmp_path, config("movielens", tmp_path), seed=3, max_history=5)
        other_schema, other_train, _, other_test = other.build()
        assert isinstance(adapter, MovieLensAdapter)
        assert adapter.info.name == "ml-1m"
        assert list(schema.fields) == list(other_schema.fields)
        for name, field in schema.fields.items():
            assert (field.embedding_dim, field.vocabulary_size) == (
                other_schema.fields[name].embedding_dim,
                other_schema.fields[name].vocabulary_size,
            )
        assert adapter.protocol() == other.protocol()
        rows = slice(0, 200)
        for mine, its in ((train, other_train), (test, other_test)):
            features, labels = mine.batch(rows)
            its_features, its_labels = its.batch(rows)
            assert torch.equal(labels, its_labels)
            for name in set(features) - {"occupation"}:  # numbers sort as text otherwise than names do
                assert torch.equal(features[name], its_features[name]), name

    @pytest.mark.parametrize("name", CSV_NAMES)
    def test_csv_has_no_fields_of_users_but_their_ids(self, csv_dir, name):
        adapter = open_adapter(config(name, csv_dir), max_history=5)
        schema, train, validation, test = adapter.build()
        assert list(schema.fields) == ["user_id", "movie_id", "genres", "history"]
        assert [schema.fields[field].embedding_dim for field in schema.fields] == [16, 16, 8, 16]
        for part in (train, validation, test):
            part.check(schema)
            features, _ = part.batch(slice(0, 10))
            assert set(features) == set(schema.fields)
        assert adapter.num_items == SIZES["num_movies"]

    def test_half_a_star_counts_against_the_threshold(self, tmp_path):
        write(tmp_path, CSV)
        raw = load_version("movielens_32m", tmp_path, "files")
        assert (raw.ratings >= 4.5).tolist() == [False, True, True]

    def test_a_finished_run_is_seen_again(self, csv_dir):
        settings = config("movielens_25m", csv_dir)
        first = open_adapter(settings)
        first.build()
        again = open_adapter(settings)
        _, _, _, test = again.build(first.encoders, first.candidates)
        assert torch.equal(test.items, torch.as_tensor(first.candidates["test"].items))

    def test_the_default_folder_is_the_versions_own(self, csv_dir, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(DataError, match=r"not found in data/ml-20m"):
            open_adapter(DataConfig("movielens_20m", source="files"))
