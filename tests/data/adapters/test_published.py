"""The published data sets, on generated files of their formats."""

import gzip
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from deepfm.config import DataConfig, load_config
from deepfm.data.adapters import criteo, open_adapter
from deepfm.data.adapters.avazu import CATEGORIES, avazu_schema, expand_hour
from deepfm.data.adapters.criteo import criteo_x1_schema, criteo_x4_schema, fill_counts
from deepfm.data.adapters.frappe import CONTEXTS, frappe_schema, with_negatives
from deepfm.data.tables.schema import TableSchema
from deepfm.engine.run import RunFolder
from deepfm.errors import DataError
from deepfm.inference.predictor import Predictor
from deepfm.training.experiment import evaluate_run, resume_experiment, train_experiment

pytestmark = pytest.mark.usefixtures("one_thread")
ROWS = 600
ROOT = Path(__file__).resolve().parents[3]
SMALL = ["device=cpu", "feature.fm_embed_dim=4", "dnn.hidden_units=[8]", "training.num_epochs=2", "training.metric=auc"]


def criteo_rows(seed: int = 0) -> list[list[str]]:
    draw = np.random.default_rng(seed)
    counts = np.where(draw.random((ROWS, 13)) < 0.2, "", draw.integers(-2, 400, (ROWS, 13)).astype(str))
    hashes = np.array([f"{number:08x}" for number in range(12)])[draw.integers(0, 12, (ROWS, 26))]
    hashes = np.where(draw.random((ROWS, 26)) < 0.1, "", hashes)
    labels = (draw.random(ROWS) < 0.3).astype(int).astype(str)
    return np.concatenate([labels[:, None], counts, hashes], axis=1).tolist()


def avazu_rows(seed: int = 0) -> list[list[str]]:
    draw = np.random.default_rng(seed)
    hours = [
        f"1410{day}{hour:02d}" for day, hour in zip(21 + np.arange(ROWS) // 100, np.arange(ROWS) % 24, strict=True)
    ]
    cells = draw.integers(0, 9, (ROWS, len(CATEGORIES))).astype(str)
    ids = [str(10**19 + number) for number in range(ROWS)]
    labels = (draw.random(ROWS) < 0.3).astype(int).astype(str)
    return [list(row) for row in zip(ids, labels, hours, *cells.T, strict=True)]


def frappe_rows(seed: int = 0) -> list[list[str]]:
    draw = np.random.default_rng(seed)
    rows = draw.integers(0, 15, (ROWS, 11))
    rows[:, 1] = draw.integers(0, 60, ROWS)  # apps
    return rows.astype(str).tolist()


def write(path: Path, rows: list[list[str]], header: tuple[str, ...] | None, separator: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ([separator.join(header)] if header else []) + [separator.join(row) for row in rows]
    text = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


AVAZU = ("id", "click", "hour", *CATEGORIES)
FRAPPE_LOG = ("user", "item", "cnt", *CONTEXTS)


def make(name: str, folder: Path) -> Path:
    """Files of the data set's format; a folder that is new each time."""
    if name == "criteo_kaggle":
        write(folder / "train.txt", criteo_rows(), None, "\t")
    elif name == "avazu":
        write(folder / "train.csv.gz", avazu_rows(), AVAZU)
    elif name == "frappe":
        write(folder / "frappe.csv", frappe_rows(), FRAPPE_LOG, "\t")
    else:
        for seed, stem in enumerate(("train", "valid", "test")):
            if name == "criteo_x1":
                scaled = [
                    [row[0], *(str(int(cell or 0) / 400) for cell in row[1:14]), *(cell or "9" for cell in row[14:])]
                    for row in criteo_rows(seed)
                ]
                write(folder / f"{stem}.csv", scaled, criteo.COLUMNS)
            elif name.startswith("criteo"):
                write(folder / f"{stem}.csv", criteo_rows(seed), ("Label", *criteo.COLUMNS[1:]))
            elif name.startswith("avazu"):
                write(folder / f"{stem}.csv", avazu_rows(seed), AVAZU)
            else:
                rows = [[str(number % 2), *row[:2], *row[3:]] for number, row in enumerate(frappe_rows(seed))]
                write(folder / f"{stem}.csv", rows, ("label", "user", "item", *CONTEXTS))
    return folder


FIELDS = {
    "criteo_kaggle": (39, 16),
    "criteo_x1": (39, 10),
    "criteo_x4": (39, 16),
    "criteo_x4_002": (39, 40),
    "avazu": (24, 16),
    "avazu_x4": (24, 16),
    "avazu_x4_002": (24, 40),
    "frappe": (10, 10),
    "frappe_x1": (10, 10),
}


@pytest.mark.parametrize("name", ["criteo_x1", "criteo_x4_002", "avazu_x4", "frappe"])
def test_two_epochs_of_training_and_the_same_metrics_from_the_run(name, tmp_path):
    folder = make(name, tmp_path / "data")
    config = load_config(None, [*SMALL, f"data.dataset_name={name}", f"data.data_dir={folder}"])
    run = RunFolder(tmp_path / "run")
    results = train_experiment(config, run)
    schema = TableSchema.load(run.table_schema)
    assert (len(schema.columns), {column.embedding_dim for column in schema.columns.values()}) == (
        FIELDS[name][0],
        {FIELDS[name][1]},
    )
    assert len(run.read_history()) == 2
    assert evaluate_run(run)["test"].metrics == pytest.approx(results["test"])
    assert resume_experiment(run)["test"]["auc"] == pytest.approx(results["test"]["auc"])


@pytest.mark.parametrize("name", ["criteo_x1", "criteo_x4", "avazu_x4", "frappe_x1"])
def test_raw_rows_are_scored_as_the_test_rows_were(name, tmp_path):
    """Empty counts and hours go through the same preparation when a run scores rows of a file."""
    folder = make(name, tmp_path / "data")
    config = load_config(None, [*SMALL, f"data.dataset_name={name}", f"data.data_dir={folder}"])
    run = RunFolder(tmp_path / "run")
    results = train_experiment(config, run)
    scores = Predictor.load(run, "cpu").predict(folder / "test.csv")
    rows = pl.read_csv(folder / "test.csv")
    labels = rows[next(label for label in ("label", "Label", "click") if label in rows.columns)].to_numpy()
    assert log_loss(labels, scores) == pytest.approx(results["test"]["logloss"], abs=1e-6)
    features = rows.drop([label for label in ("label", "Label", "click") if label in rows.columns])
    assert Predictor.load(run, "cpu").predict(features).tolist() == pytest.approx(scores.tolist())


def test_an_hour_that_is_none_is_named_by_its_row_when_rows_are_scored(tmp_path):
    folder = make("avazu_x4", tmp_path / "data")
    config = load_config(None, [*SMALL, "data.dataset_name=avazu_x4", f"data.data_dir={folder}"])
    train_experiment(config, RunFolder(tmp_path / "run"))
    rows = pl.read_csv(folder / "test.csv").with_columns(pl.Series("hour", [14102100] * (ROWS - 1) + [5]))
    predictor = Predictor.load(tmp_path / "run", "cpu")
    with pytest.raises(DataError, match=f"holds 5 in row {ROWS}; expected YYMMDDHH"):
        predictor.predict(rows)
    assert len(predictor.predict(rows.head(0))) == 0


def log_loss(labels: np.ndarray, scores: np.ndarray) -> float:
    return float(-np.mean(np.where(labels == 1, np.log(scores), np.log1p(-scores))))


def test_the_default_folder_has_the_data_sets_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make("criteo_x4", tmp_path / "data" / "criteo_x4")
    assert open_adapter(DataConfig("criteo_x4")).info.name == "criteo_x4"
    for name in ("criteo_kaggle", "avazu", "frappe", "frappe_x1"):
        with pytest.raises(DataError, match=f"data/{name}"):
            open_adapter(DataConfig(name))


class TestCriteo:
    def test_counts_by_hand(self):
        """Empty, negative, small and large counts, as the published function gives them."""
        column = ["", "-2", "0", "1", "2", "3", "4", "10", "100", "65535"]
        expected = ["0", "-2", "0", "1", "2", "1", "1", "5", "21", "122"]
        rows = [["1", *[value] * 13, *["a"] * 26] for value in column]
        frame = pl.DataFrame(
            {name: [row[place] or None for row in rows] for place, name in enumerate(criteo.COLUMNS)}
        ).lazy()
        from deepfm.data.tables.columns import log_bucket, number

        counts = fill_counts(frame, "x").select(log_bucket(number("I1", pl.String(), "x")))
        assert counts.collect().to_series().to_list() == expected

    def test_x4_leaves_rare_and_empty_categories_to_one_learned_row(self, tmp_path):
        rows = [["0", *["1"] * 13, *["often"] * 26] for _ in range(20)] + [
            ["1", *["7"] * 13, *["rare"] * 26] for _ in range(5)
        ]
        for stem in ("train", "valid", "test"):
            write(tmp_path / f"{stem}.csv", [*rows, ["0", *[""] * 13, *[""] * 26]], ("Label", *criteo.COLUMNS[1:]))
        schema, train, *_ = open_adapter(DataConfig("criteo_x4", data_dir=str(tmp_path))).build()
        assert (
            schema.fields["C1"].vocabulary_size == schema.fields["I1"].vocabulary_size == 3
        )  # padding, unknown, often
        for name in ("C1", "I1"):
            ids = train.features[name].tolist()
            assert ids == [2] * 20 + [1] * 5 + [1]
        schema, *_ = open_adapter(DataConfig("criteo_x4_002", data_dir=str(tmp_path))).build()
        assert (schema.fields["C1"].vocabulary_size, schema.fields["C1"].embedding_dim) == (4, 40)

    def test_the_settings_are_those_of_the_published_benchmark(self):
        one, two = criteo_x4_schema(), criteo_x4_schema(2, 40)
        for schema, count in ((one, 10), (two, 2)):
            assert {column.min_count for column in schema.columns.values()} == {count}
            assert {column.oov for column in schema.columns.values()} == {"learned"}
            assert [name for name, its in schema.columns.items() if its.buckets == "log"] == list(criteo.COUNTS)

    @pytest.mark.parametrize(("name", "schema"), [("criteo_x1", criteo_x1_schema()), ("frappe_x1", frappe_schema())])
    def test_x1_is_what_the_benchmarks_configuration_says(self, name, schema):
        shipped = TableSchema.load(ROOT / "configs" / "bars" / "schemas" / f"{name}.yaml")
        assert schema.to_dict() == shipped.to_dict()

    def test_the_split_is_eight_to_one_to_one_by_the_seed(self, tmp_path):
        folder = make("criteo_kaggle", tmp_path)
        parts = [open_adapter(DataConfig("criteo_kaggle", data_dir=str(folder))).build()[1:] for _ in range(2)]
        sizes = [len(part) for part in parts[0]]
        assert sum(sizes) == ROWS
        assert sizes[0] == pytest.approx(0.8 * ROWS, rel=0.1)
        assert torch.equal(parts[0][2].features["C3"], parts[1][2].features["C3"])
        other = open_adapter(DataConfig("criteo_kaggle", data_dir=str(folder), candidate_seed=7)).build()[3]
        assert len(other) != sizes[2] or not torch.equal(other.features["C3"], parts[0][2].features["C3"])

    def test_a_compressed_file_and_one_elsewhere(self, tmp_path):
        write(tmp_path / "a" / "train.txt.gz", criteo_rows(), None, "\t")
        write(tmp_path / "day.tsv", criteo_rows(), None, "\t")
        first = open_adapter(DataConfig("criteo_kaggle", data_dir=str(tmp_path / "a"))).build()[1]
        second = open_adapter(DataConfig("criteo_kaggle", table=str(tmp_path / "day.tsv"))).build()[1]
        assert torch.equal(first.features["I2"], second.features["I2"])

    def test_another_number_of_columns(self, tmp_path):
        write(tmp_path / "train.txt", [row[:-1] for row in criteo_rows()], None, "\t")
        with pytest.raises(DataError, match=r"train\.txt has 39 columns and 40 names"):
            open_adapter(DataConfig("criteo_kaggle", data_dir=str(tmp_path)))

    def test_a_column_that_is_missing(self, tmp_path):
        for stem in ("train", "valid", "test"):
            write(tmp_path / f"{stem}.csv", [["1", "2"]], ("label", "I1"))
        with pytest.raises(DataError, match=r"train\.csv has no column 'I2'"):
            open_adapter(DataConfig("criteo_x4", data_dir=str(tmp_path))).build()


class TestAvazu:
    def test_hours_by_hand(self):
        frame = pl.DataFrame({"hour": ["14102100", "14102523", "14102612", " 14102707"]}).lazy()
        found = expand_hour(frame, "x").collect()
        assert found["hour"].to_list() == [0, 23, 12, 7]
        assert found["weekday"].to_list() == [2, 6, 7, 1]  # 21 October 2014 was a Tuesday
        assert found["is_weekend"].to_list() == [0, 1, 1, 0]
        assert str(found["moment"][1]) == "2014-10-25 23:00:00"

    @pytest.mark.parametrize("cell", ["141021", "14102124", "14133000", "x", None, "1410210000"])
    def test_no_hour(self, cell):
        frame = pl.DataFrame({"hour": ["14102100", cell, "14102123"]}).lazy()
        with pytest.raises(DataError, match=r"column 'hour' of train\.csv holds .* in row 2; expected YYMMDDHH"):
            expand_hour(frame, "train.csv")

    def test_the_samples_id_is_no_feature_and_the_settings_are_the_published_ones(self, tmp_path):
        adapter = open_adapter(DataConfig("avazu", data_dir=str(make("avazu", tmp_path))))
        schema, train, *_ = adapter.build()
        assert "id" not in schema.fields
        assert {"hour", "weekday", "is_weekend"} < set(schema.fields)
        assert {its.min_count for its in avazu_schema().columns.values()} == {2}
        assert {its.min_count for its in avazu_schema(1, 40).columns.values()} == {1}
        assert len(train) == pytest.approx(0.8 * ROWS, rel=0.1)

    def test_a_split_by_time(self, tmp_path):
        folder = make("avazu", tmp_path)
        rows = pl.DataFrame({"hour": [row[2] for row in avazu_rows()]}).lazy()
        moments = expand_hour(rows, "x").collect()["moment"].sort()
        adapter = open_adapter(DataConfig("avazu", data_dir=str(folder), split_strategy="temporal"))
        parts = adapter._parts()
        times = expand_hour(rows, "x").collect()["moment"].to_numpy()
        assert times[parts == 0].max() < times[parts == 1].min()
        assert times[parts == 1].max() < times[parts == 2].min()
        assert times[parts == 2].max() == moments.to_numpy()[-1]


class TestFrappe:
    def test_two_apps_that_the_user_never_ran_follow_each_row(self):
        rows = pl.DataFrame(frappe_rows(), schema=FRAPPE_LOG, orient="row").drop("cnt")
        found = with_negatives(rows, 3)
        assert found["label"].to_list() == [1, 0, 0] * ROWS
        assert found.filter(pl.col("label") == 1).drop("label").equals(rows)
        ran = set(rows.select("user", "item").iter_rows())
        drawn = found.filter(pl.col("label") == 0)
        assert not ran & set(drawn.select("user", "item").iter_rows())
        assert set(drawn["item"]) <= set(rows["item"])
        assert drawn.select("user", *CONTEXTS)[::2].equals(rows.select("user", *CONTEXTS))
        assert found.equals(with_negatives(rows, 3))
        assert not found.equals(with_negatives(rows, 4))

    def test_a_user_who_ran_every_app(self):
        rows = pl.DataFrame({"user": ["a", "a"], "item": ["x", "y"]})
        with pytest.raises(DataError, match="every one of the 2 items excluded"):
            with_negatives(rows, 0)

    @pytest.mark.parametrize("name", ["user", "item"])
    def test_a_log_without_an_id(self, tmp_path, name):
        rows = frappe_rows()
        rows[4][FRAPPE_LOG.index(name)] = ""
        write(tmp_path / "frappe.csv", rows, FRAPPE_LOG, "\t")
        with pytest.raises(DataError, match=f"column '{name}' of .*frappe.csv holds nothing in row 5"):
            open_adapter(DataConfig("frappe", data_dir=str(tmp_path)))


def test_a_schema_of_ones_own_replaces_the_published_one(tmp_path):
    folder = make("avazu_x4", tmp_path / "data")
    criteo_x4_schema().save(tmp_path / "other.yaml")
    (tmp_path / "own.yaml").write_text("label: click\ncolumns: {site_id: {}, hour: {}}\n")
    adapter = open_adapter(DataConfig("avazu_x4", data_dir=str(folder), table_schema=str(tmp_path / "own.yaml")))
    assert list(adapter.build()[0].fields) == ["site_id", "hour"]


def test_the_preparation_is_part_of_which_data_it_is(tmp_path):
    """The same file and columns under two preparations never share encoded files."""
    folder = make("criteo_x4", tmp_path)
    hashes = {open_adapter(DataConfig(name, data_dir=str(folder))).info.hash for name in ("criteo_x4", "criteo_x1")}
    assert len(hashes) == 2
