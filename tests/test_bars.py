"""BARS' published settings: parameter counts, the training rule, and the command's path on files of its format."""

import copy
import json
import math
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deepfm.config import ExperimentConfig, load_config
from deepfm.data.dataset import TabularDataset
from deepfm.data.schema import DatasetSchema, FeatureType, FieldSchema
from deepfm.data.tables.schema import TableSchema
from deepfm.engine.loop import fit
from deepfm.engine.loop_settings import LoopSettings
from deepfm.engine.optim import build_optimizer
from deepfm.engine.settings import build_settings
from deepfm.engine.sparse import clip_gradients
from deepfm.engine.task import ParameterGroup, Task
from deepfm.models import create_model
from deepfm.reporting import Document
from deepfm.training import experiment
from deepfm.training.task import CTRTask

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).parents[1]
CONFIGS = sorted(path.stem for path in (ROOT / "configs" / "bars").glob("*.yaml"))
VALUES = {  # distinct values in the training files, from the feature maps in BARS' FinalMLP logs
    "frappe_x1": {
        **{"user": 954, "item": 4082, "daytime": 7, "weekday": 7, "isweekend": 2, "homework": 3, "cost": 2},
        **{"weather": 9, "country": 80, "city": 233},
    },
    "movielenslatest_x1": {"user_id": 16_975, "item_id": 23_604, "tag_id": 49_657},
    "criteo_x1": dict(
        zip(
            (f"C{number}" for number in range(1, 27)),
            [
                *(1_460, 558, 413_422, 248_541, 305, 21, 12_190, 633, 3, 54_710, 5_348, 409_747, 3_180, 27, 12_498),
                *(365_809, 10, 4_932, 2_094, 4, 397_979, 18, 15, 88_606, 96, 64_071),
            ],
            strict=True,
        )
    ),
}
ROWS = {"frappe_x1": 5_389, "movielenslatest_x1": 90_239, "criteo_x1": 2_086_303}


@pytest.fixture
def bars(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import bars

    return bars


def bars_config(name: str) -> ExperimentConfig:
    return load_config(ROOT / "configs" / "bars" / f"{name}.yaml")


def bars_schema(name: str) -> tuple[TableSchema, DatasetSchema]:
    """A configuration's table schema, and the fields that the published files give under it."""
    data_set = next(one for one in VALUES if name.endswith(one))
    table = TableSchema.load(ROOT / bars_config(name).data.table_schema)
    fields = {}
    for column, described in table.columns.items():
        beyond = 2 if described.oov == "learned" else 1
        size = 0 if described.type == "dense" else VALUES[data_set][column] + beyond
        fields[column] = FieldSchema(column, FeatureType(described.type), size, described.embedding_dim)
    return table, DatasetSchema(fields, table.label)


class TestSettings:
    def test_there_are_four_models_on_three_data_sets(self, bars):
        assert sorted(bars.PUBLISHED) == CONFIGS
        assert len(CONFIGS) == 12

    @pytest.mark.parametrize("data_set", VALUES)
    def test_rows_of_a_table_are_the_values_and_one(self, data_set):
        """FuxiCTR 1 has one index beyond a column's values: 423,280 = 11 · 5,389 + the tower's 364,001."""
        assert sum(VALUES[data_set].values()) + len(VALUES[data_set]) == ROWS[data_set]
        _, schema = bars_schema(f"deepfm_{data_set}")
        assert sum(field.vocabulary_size for field in schema.sparse_fields) == ROWS[data_set]
        assert len(schema.fields) == {"frappe_x1": 10, "movielenslatest_x1": 3, "criteo_x1": 39}[data_set]

    @pytest.mark.parametrize("name", CONFIGS)
    def test_parameters_are_as_many_as_published(self, name, bars):
        config = bars_config(name)
        _, schema = bars_schema(name)
        with torch.device("meta"):  # twenty million weights need not exist to be counted
            model = create_model(config.model_name, schema, config)
        assert sum(weight.numel() for weight in model.parameters()) == bars.PUBLISHED[name].parameters

    @pytest.mark.parametrize(
        ("name", "count"), [("deepfm_frappe_x1", 423_280), ("xdeepfm_frappe_x1", 429_809),
                            ("deepfm_movielenslatest_x1", 1_328_630), ("xdeepfm_movielenslatest_x1", 1_351_767),
                            ("deepfm_criteo_x1", 23_429_477)],
    )  # fmt: skip
    def test_the_published_counts_are_those_of_the_notes(self, name, count, bars):
        assert bars.PUBLISHED[name].parameters == count

    def test_a_deepfm_of_frappes_size_by_hand(self):
        """The same with real weights: 11 a row, a tower 100-400-400-400-1 with batch normalisation, no bias else."""
        config = bars_config("deepfm_frappe_x1")
        _, schema = bars_schema("deepfm_frappe_x1")
        model = create_model("deepfm", schema, config)
        sizes = {name: weight.numel() for name, weight in model.named_parameters()}
        assert sizes.pop("embedding.tables.10.weight") == 10 * 5_389
        assert sizes.pop("embedding.tables.10.first_order") == 5_389
        tower = 100 * 400 + 400 + 2 * (400 * 400 + 400) + 3 * 2 * 400 + 400 + 1
        assert sum(sizes.values()) == tower == 364_001

    @pytest.mark.parametrize("name", CONFIGS)
    def test_the_rule_is_that_of_fuxictr(self, name):
        text = (ROOT / "configs" / "bars" / f"{name}.yaml").read_text()
        theirs = float(re.search(r"half of FuxiCTR's (\S+)", text)[1])
        config = bars_config(name)
        assert config.feature.embedding_l2_reg == theirs / 2
        assert (config.feature.projection, config.feature.init_std) == ("none", 1e-4)
        assert config.feature.embedding_dim == config.feature.fm_embed_dim == 10
        training = config.training
        assert (training.lr, training.optimizer, training.batch_size, training.num_epochs) == (1e-3, "adam", 4096, 100)
        assert (training.plateau_patience, training.plateau_factor, training.min_lr) == (0, 0.1, 1e-6)
        assert (training.early_stopping_patience, training.gradient_clip_norm, training.metric) == (2, 10.0, "auc")
        assert (training.linear_init, training.weight_decay, config.seed) == ("xavier_normal", 0.0, 2021)


class TestCINBias:
    def test_it_adds_itself_and_is_off_by_default(self):
        schema = DatasetSchema({n: FieldSchema(n, "sparse", 5, 4) for n in "ab"}, "label")
        plain = create_model("xdeepfm", schema, load_config(None, ["feature.fm_embed_dim=4"]))
        biased = create_model("xdeepfm", schema, load_config(None, ["feature.fm_embed_dim=4", "cin.output_bias=true"]))
        assert set(biased.state_dict()) - set(plain.state_dict()) == {"cin_output.bias"}
        biased.load_state_dict(plain.state_dict() | {"cin_output.bias": torch.tensor([0.75])})
        batch = {n: torch.tensor([1, 4, 0]) for n in "ab"}
        with torch.no_grad():
            assert torch.allclose(biased.eval()(batch), plain.eval()(batch) + 0.75)


class TestInitialisation:
    def test_draws_are_as_asked_for(self):
        schema = DatasetSchema(
            {"id": FieldSchema("id", "sparse", 4001, 10), "number": FieldSchema("number", "dense", 0, 10)}, "label"
        )
        sizes = ["feature.fm_embed_dim=10", "feature.projection=none", "dnn.hidden_units=[300,200]"]
        changed = ["feature.init_std=1e-4", "training.linear_init=xavier_normal"]
        torch.manual_seed(1)
        model = create_model("deepfm", schema, load_config(None, [*sizes, *changed]))
        for first_order in (False, True):
            rows = model.embedding.field_weight("id", first_order)
            assert (rows[0] == 0).all()
            assert rows[1:].std().item() == pytest.approx(1e-4, rel=0.05)
            assert abs(rows[1:].mean().item()) < 1e-5
        for layer, wide, narrow in zip(model.dnn.layers, (20, 300), (300, 200), strict=True):
            expected = math.sqrt(2 / (wide + narrow))
            assert layer.linear.weight.std().item() == pytest.approx(expected, rel=0.05)
            assert layer.linear.weight.abs().max() > 2.5 * expected  # normal, not uniform
            assert (layer.linear.bias == 0).all()
        numbers = model.embedding.field_weight("number")
        assert numbers.abs().max() > 0.05  # N(0, 2/11), not 1e-4

    def test_the_parts_of_one_matrix_are_layers_of_their_own(self):
        schema = DatasetSchema({n: FieldSchema(n, "sparse", 5, 40) for n in "ab"}, "label")
        sizes = ["feature.fm_embed_dim=40", "feature.projection=none", "training.linear_init=xavier_normal"]
        model = create_model("autoint", schema, load_config(None, [*sizes, "autoint.attention_dim=80"]))
        joint = model.layers[0].query_key_value.weight
        assert joint.shape == (240, 40)
        assert joint.std().item() == pytest.approx(math.sqrt(2 / 120), rel=0.05)

    def test_defaults_draw_nothing(self):
        schema = DatasetSchema({n: FieldSchema(n, "sparse", 5, 4) for n in "ab"}, "label")
        torch.manual_seed(3)
        create_model("xdeepfm", schema, load_config(None, ["feature.fm_embed_dim=4"]))
        after = torch.rand(1).item()
        torch.manual_seed(3)
        create_model("xdeepfm", schema, load_config(None, ["feature.fm_embed_dim=4", "feature.init_std=0.1"]))
        assert torch.rand(1).item() != after
        torch.manual_seed(3)
        create_model("xdeepfm", schema, load_config(None, ["feature.fm_embed_dim=4"]))
        assert torch.rand(1).item() == after

    def test_a_cin_keeps_its_own(self):
        schema = DatasetSchema({n: FieldSchema(n, "sparse", 5, 4) for n in "ab"}, "label")
        config = load_config(
            None, ["feature.fm_embed_dim=4", "training.linear_init=xavier_normal", "cin.layer_sizes=[64]"]
        )
        model = create_model("xdeepfm", schema, config)
        weight = model.cin.compressions[0].weight  # (64, 4): uniform within 1/√4
        assert weight.abs().max() <= 0.5
        assert (model.cin.compressions[0].bias != 0).any()
        assert (model.cin_output.weight.abs() > 0).all()


def rows_of(schema: DatasetSchema, count: int, seed: int) -> TabularDataset:
    rng = np.random.default_rng(seed)
    features = {f.name: rng.integers(1, f.vocabulary_size, count) for f in schema.sparse_fields}
    features |= {f.name: rng.random(count).astype(np.float32) for f in schema.dense_fields}
    return TabularDataset(features, (rng.random(count) < 0.4).astype(np.float32))


class TestTrainingRule:
    @pytest.mark.parametrize("sparse_gradients", [False, True])
    @pytest.mark.parametrize("model_name", ["deepfm", "xdeepfm"])
    def test_a_step_is_fuxictrs_step(self, model_name, sparse_gradients):
        """Against FuxiCTR's: mean BCE of probabilities + λ/2·Σ‖w‖² over the tables of both orders, torch's own Adam."""
        fields = {name: FieldSchema(name, "sparse", 7, 4) for name in "abc"} | {"x": FieldSchema("x", "dense", 0, 4)}
        schema = DatasetSchema(fields, "label")
        config = load_config(
            None,
            [
                *("feature.fm_embed_dim=4", "feature.projection=none", "feature.embedding_l2_reg=0.025", "seed=1"),
                *("dnn.hidden_units=[8]", "dnn.dropout=0", "training.metric=auc", "training.linear_init=xavier_normal"),
                "dnn.use_batch_norm=false",  # the biases before it have a gradient of rounding errors alone
                *("cin.layer_sizes=[4]", "cin.activation=linear", "cin.split_half=false", "cin.output_bias=true"),
            ],
        )
        torch.manual_seed(5)
        ours = create_model(model_name, schema, config)
        theirs = copy.deepcopy(ours)
        rows = rows_of(schema, 64, 0)
        task = CTRTask(ours, config, rows, rows)
        ours.embedding.sparse_gradients = sparse_gradients
        optimizer = build_optimizer("adam", 1e-2, task.parameter_groups(), torch.device("cpu"))
        peer = torch.optim.Adam(theirs.parameters(), lr=1e-2)
        penalised = [weight for name, weight in theirs.named_parameters() if name.startswith("embedding.")]
        assert len(penalised) == 4  # vectors and linear weights, of ids and of numbers
        parameters = list(ours.parameters())
        for step in range(12):
            features, labels = rows.batch(slice(16 * (step % 4), 16 * (step % 4) + 16))
            loss, _ = task.loss((features, labels))
            optimizer.zero_grad()
            loss.backward()
            clip_gradients(parameters, 10.0)
            optimizer.step()

            peer.zero_grad()
            total = F.binary_cross_entropy(torch.sigmoid(theirs(features)), labels.view(-1, 1))
            for weight in penalised:
                total = total + 0.05 / 2 * torch.norm(weight, 2) ** 2
            total.backward()
            nn.utils.clip_grad_norm_(theirs.parameters(), 10.0)
            peer.step()
        for (name, own), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            assert torch.allclose(own, other, atol=2e-6), name

    def test_clipping_sees_the_loss_alone(self):
        """The one difference that docs/bars.md names: FuxiCTR clips the penalty's gradient too, and would give 1.9."""
        weight = nn.Parameter(torch.tensor([2.0]))
        optimizer = build_optimizer("sgd", 0.1, [ParameterGroup([weight], l2=0.5)], torch.device("cpu"))
        weight.grad = torch.tensor([3.0])
        clip_gradients([weight], 1.0)
        optimizer.step()
        assert weight.item() == pytest.approx(2.0 - 0.1 * (1.0 + 2 * 0.5 * 2.0))


class Scripted(Task):
    """A task whose validation is written down, and whose weight counts the steps."""

    metric, maximize = "auc", True

    def __init__(self, trace):
        self.model, self.trace, self.seen = nn.Linear(1, 1, bias=False), trace, []
        nn.init.zeros_(self.model.weight)

    def batches(self, epoch):
        return [epoch]

    def num_batches(self):
        return 1

    def loss(self, batch):
        return -self.model.weight.sum(), 1

    def evaluate(self, on_progress=lambda *_: None):
        self.seen.append(self.model.weight.item())
        return {"auc": self.trace[len(self.seen) - 1]}


FRAPPE = [.937016, .962204, .973816, .977910, .978548, .979666, .981040, .980844, .983941, .984717, .985039, .985142,
          .985168, .984989, .984997]  # fmt: skip


def follow(trace, **changes):
    rule = {"plateau_patience": 0, "early_stopping_patience": 2, "min_lr": 1e-6, "min_delta": 1e-6, "num_epochs": 100}
    rule |= {"plateau_restore": False, "optimizer": "sgd", "gradient_clip_norm": None}
    settings = build_settings(LoopSettings, rule | changes)
    task = Scripted([*trace, *[0.0] * 100])
    state = fit(task, settings, device=torch.device("cpu"))
    return state, task


class TestPlateau:
    def test_the_published_trace_is_followed(self):
        """Cuts after epochs 8 and 14, the end after 15, the best at 13: as BARS' log of DeepFM on Frappe_x1 has it."""
        state, task = follow(FRAPPE)
        rates = [record["lr"] for record in state.history]
        assert rates == pytest.approx([1e-3] * 8 + [1e-4] * 6 + [1e-5])
        assert (state.epoch, state.best_epoch) == (15, 13)
        assert task.model.weight.item() == pytest.approx(task.seen[12])

    def test_a_cut_goes_on_from_where_it_is(self):
        """FuxiCTR loads the best weights at the end, not at a cut."""
        _, task = follow(FRAPPE)
        assert task.seen[8] == pytest.approx(task.seen[7] + 1e-4)
        _, task = follow(FRAPPE, plateau_restore=True)
        assert task.seen[8] == pytest.approx(task.seen[6] + 1e-4)

    def test_no_cut_goes_below_the_least_rate(self):
        trace = [value for step in range(6) for value in (0.5 + 0.01 * step, 0.4)]
        state, _ = follow(trace)
        assert [record["lr"] for record in state.history][1::2] == pytest.approx([1e-3, 1e-4, 1e-5, 1e-6, 1e-6, 1e-6])
        state, _ = follow(trace, min_lr=0.0)
        assert state.history[9]["lr"] == pytest.approx(1e-7)

    def test_too_small_an_improvement_is_none(self):
        state, _ = follow([0.5, 0.5 + 5e-7, 0.5 + 9e-7])
        assert (state.epoch, state.best_epoch) == (3, 1)
        state, _ = follow([0.5, 0.5 + 5e-7, 0.5 + 9e-7], min_delta=0.0)
        assert state.best_epoch == 3


COLUMNS = {
    "frappe_x1": list(VALUES["frappe_x1"]),
    "movielenslatest_x1": list(VALUES["movielenslatest_x1"]),
    "criteo_x1": [*(f"I{number}" for number in range(1, 14)), *VALUES["criteo_x1"]],
}
FOLDERS = {"frappe_x1": "Frappe_x1", "movielenslatest_x1": "MovielensLatest_x1", "criteo_x1": "Criteo_x1"}


def write_part(path: Path, columns: list[str], rows: int, seed: int, ids: int) -> pl.DataFrame:
    """A file of BARS' format: integers for ids, fractions for Criteo's numbers, a label that the first two ids tell."""
    rng = np.random.default_rng(seed)
    frame = {c: np.round(rng.random(rows), 4) if c[0] == "I" else rng.integers(0, ids, rows) for c in columns}
    first, second = [c for c in columns if c[0] != "I"][:2]
    chance = 1 / (1 + np.exp(-3 * (np.sin(frame[first]) + np.cos(2 * frame[second]))))
    table = pl.DataFrame({"label": (rng.random(rows) < chance).astype(int), **frame})
    table.write_csv(path)
    return table


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Small files of the three data sets; the last two parts have ids that training has not."""
    folder = tmp_path_factory.mktemp("bars")
    for data_set, columns in COLUMNS.items():
        (folder / FOLDERS[data_set]).mkdir()
        for seed, (part, rows) in enumerate({"train": 700, "valid": 200, "test": 200}.items()):
            write_part(folder / FOLDERS[data_set] / f"{part}.csv", columns, rows, seed, 12 if part == "train" else 14)
    return folder


QUICK = ["training.num_epochs=2", "training.batch_size=100", "device=cpu", "training.lr=0.005", "feature.init_std=0.05"]


def cells_of(report: Path) -> list[dict[str, str]]:
    """The rows of the table in a report, by column."""
    lines = [line for line in report.read_text().replace("\\", "").splitlines() if line.startswith("|")]
    names, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(names, row, strict=True)) for row in rows]


class TestCommand:
    def call(self, bars, monkeypatch, *arguments):
        monkeypatch.setattr("sys.argv", ["bars.py", *map(str, arguments)])
        monkeypatch.setattr(experiment, "build_run_report", lambda *_: Document("report", "", []))
        bars.main()

    def test_all_configurations_run_on_files_of_the_format(self, bars, monkeypatch, data_dir, tmp_path, capsys):
        out = tmp_path / "runs"
        common = ["--out", out, "--report", tmp_path / "results.md", "--threads", 1]
        self.call(bars, monkeypatch, "--data-dir", data_dir, "--seeds", 1, *common, "--override", *QUICK)
        assert sorted(path.name for path in out.iterdir() if path.is_dir()) == CONFIGS
        train = pl.read_csv(data_dir / "Criteo_x1" / "train.csv")
        for name in CONFIGS:
            results = json.loads((out / name / "s2021" / "results.json").read_text())
            assert 0.5 < results["validation"]["auc"] < 1
            assert list(results["test"]) == ["auc", "logloss"]
            assert results["data"]["name"] == FOLDERS[next(one for one in FOLDERS if name.endswith(one))]
        fields = json.loads((out / "deepfm_criteo_x1" / "s2021" / "schema.json").read_text())["fields"]
        by_name = {field["name"]: field for field in fields}
        assert by_name["C7"]["vocabulary_size"] == train["C7"].n_unique() + 1
        assert by_name["I3"]["feature_type"] == "dense"
        fields = json.loads((out / "final_mlp_criteo_x1" / "s2021" / "schema.json").read_text())["fields"]
        assert {field["name"]: field for field in fields}["C7"]["vocabulary_size"] == train["C7"].n_unique() + 2
        report = (tmp_path / "results.md").read_text()
        assert "training.num\\_epochs=2" in report
        (row,) = [
            r for r in cells_of(tmp_path / "results.md") if (r["data set"], r["model"]) == ("Frappe_x1", "DeepFM")
        ]
        auc = json.loads((out / "deepfm_frappe_x1" / "s2021" / "results.json").read_text())["test"]["auc"]
        assert (row["seeds"], row["AUC"]) == ("1", f"{auc:.5f}")
        assert (row["published AUC"], row["difference"]) == ("0.98395 ± 0.00018", f"{auc - 0.9839468:+.5f}")
        assert (row["published parameters"], row["files as published"]) == ("423,280", "no")
        assert f"torch {torch.__version__}" in row["machine"]

    def test_finished_runs_stay_and_interrupted_ones_go_on(self, bars, monkeypatch, data_dir, tmp_path, capsys):
        out = tmp_path / "runs"
        call = ["--data-dir", data_dir, "--only", "deepfm_frappe", "--out", out, "--report", tmp_path / "r.md"]
        call += ["--threads", 1, "--override", *QUICK]
        self.call(bars, monkeypatch, *call, "--seeds", 2)
        run = out / "deepfm_frappe_x1" / "s2021"
        before = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
        wanted = json.loads((run.with_name("s2022") / "results.json").read_text())
        for name in ("results.json", "report.html"):
            (run.with_name("s2022") / name).unlink()
        self.call(bars, monkeypatch, *call, "device=auto", "--seeds", 2)  # where a run is does not make it another
        assert {path.name: path.stat().st_mtime_ns for path in run.iterdir()} == before
        again = json.loads((run.with_name("s2022") / "results.json").read_text())
        assert again["test"] == wanted["test"]
        assert again["test"] != json.loads((run / "results.json").read_text())["test"]

    @pytest.mark.parametrize("interrupted", [False, True])
    def test_a_trial_is_no_result(self, bars, monkeypatch, data_dir, tmp_path, capsys, interrupted):
        """Runs of other settings are neither taken for those asked for nor lost, and stand in a row of their own."""
        out, trial = tmp_path / "runs", ["training.num_epochs=1", "dnn.hidden_units=[4]"]
        call = ["--data-dir", data_dir, "--only", "deepfm_frappe", "--out", out, "--report", tmp_path / "r.md"]
        call += ["--threads", 1]
        self.call(bars, monkeypatch, *call, "--seeds", 1, "--override", *trial)
        run = out / "deepfm_frappe_x1" / "s2021"
        if interrupted:
            (run / "results.json").unlink()
        before = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            self.call(bars, monkeypatch, *call, "--seeds", 2)
        assert end.value.code == 1
        assert {path.name: path.stat().st_mtime_ns for path in run.iterdir()} == before
        (said,) = capsys.readouterr().err.splitlines()
        assert f"{run} holds a run with dnn.hidden_units=[4], training.num_epochs=1; expected" in said
        rows = cells_of(tmp_path / "r.md")
        changed = [(row["settings changed"], row["seeds"], row["parameters"]) for row in rows]
        fields = json.loads((run / "schema.json").read_text())["fields"]
        tables = 11 * sum(field["vocabulary_size"] for field in fields)
        trial_row = ("dnn.hidden_units=[4], training.num_epochs=1", "1", f"{tables + 101 * 4 + 2 * 4 + 5:,}")
        real_row = ("none", "1", f"{tables + 364_001:,}")
        assert sorted(changed) == sorted([real_row] if interrupted else [trial_row, real_row])

    def test_other_files_are_no_result_of_these(self, bars, monkeypatch, data_dir, tmp_path, capsys):
        """A finished run keeps what is known of its own files when published ones take their place."""
        import hashlib

        folder, out = tmp_path / "Frappe_x1", tmp_path / "runs"
        folder.mkdir()
        for part in ("train", "valid", "test"):
            (folder / f"{part}.csv").write_bytes((data_dir / "Frappe_x1" / f"{part}.csv").read_bytes())
        call = ["--data-dir", tmp_path, "--only", "deepfm_frappe", "--out", out, "--report", tmp_path / "r.md"]
        call += ["--threads", 1]
        self.call(bars, monkeypatch, *call, "--seeds", 1)
        write_part(folder / "train.csv", COLUMNS["frappe_x1"], 500, 9, 12)
        parts = [(folder / f"{part}.csv").read_bytes() for part in ("train", "valid", "test")]
        monkeypatch.setitem(bars.MD5, "frappe_x1", tuple(hashlib.md5(part).hexdigest() for part in parts))
        with pytest.raises(SystemExit):
            self.call(bars, monkeypatch, *call, "--seeds", 2)
        assert "s2021 holds a run with other files; expected" in capsys.readouterr().err
        rows = cells_of(tmp_path / "r.md")
        assert [(row["settings changed"], row["seeds"]) for row in rows] == [("none", "1")] * 2
        assert [row["files as published"] for row in rows] == ["no", "yes"]
        auc = json.loads((out / "deepfm_frappe_x1" / "s2022" / "results.json").read_text())["test"]["auc"]
        assert rows[1]["AUC"] == f"{auc:.5f}"

    @pytest.mark.parametrize("workers", [1, 2])
    def test_a_run_that_fails_stops_no_other(self, bars, monkeypatch, data_dir, tmp_path, capsys, workers):
        for data_set in ("Frappe_x1", "MovielensLatest_x1"):
            (tmp_path / data_set).mkdir()
            for part in ("train", "valid", "test"):
                (tmp_path / data_set / f"{part}.csv").write_bytes((data_dir / data_set / f"{part}.csv").read_bytes())
        broken = tmp_path / "Frappe_x1" / "valid.csv"
        broken.write_text(broken.read_text().replace("weather", "wetter"))
        call = ["--data-dir", tmp_path, "--only", "deepfm_", "--out", tmp_path / "runs", "--seeds", 1]
        call += ["--report", tmp_path / "r.md", "--threads", 1, "--workers", workers, "--override", *QUICK]
        with pytest.raises(SystemExit) as end:
            self.call(bars, monkeypatch, *call)
        assert end.value.code == 1
        said = capsys.readouterr()
        (line,) = [line for line in said.err.splitlines() if line.startswith("bars.py: ")]
        assert "weather" in line
        assert "valid.csv" in line
        assert [row["data set"] for row in cells_of(tmp_path / "r.md")] == ["MovielensLatest_x1"]

    def test_a_wrong_setting_is_one_sentence(self, bars, monkeypatch, data_dir, tmp_path):
        call = ["--data-dir", data_dir, "--out", tmp_path / "runs", "--override", "foo=1"]
        with pytest.raises(SystemExit, match=r"^bars.py: .*'?foo'?.*$"):
            self.call(bars, monkeypatch, *call)
        assert not (tmp_path / "runs").exists()

    def test_a_damaged_run_is_not_in_the_table(self, bars, monkeypatch, data_dir, tmp_path, capsys):
        call = ["--data-dir", data_dir, "--only", "deepfm_frappe", "--out", tmp_path, "--report", tmp_path / "r.md"]
        self.call(bars, monkeypatch, *call, "--seeds", 2, "--threads", 1, "--override", *QUICK)
        (tmp_path / "deepfm_frappe_x1" / "s2021" / "results.json").write_text("{")
        self.call(bars, monkeypatch, *call, "--table")
        assert [row["seeds"] for row in cells_of(tmp_path / "r.md")] == ["1"]
        assert "not in the table: " in capsys.readouterr().err

    def test_what_is_missing_is_said(self, bars, monkeypatch, tmp_path, capsys):
        (tmp_path / "Frappe_x1").mkdir()
        with pytest.raises(SystemExit, match="nothing to run"):
            self.call(bars, monkeypatch, "--data-dir", tmp_path, "--out", tmp_path / "runs")
        assert "Frappe_x1, MovielensLatest_x1, Criteo_x1" in capsys.readouterr().out

    def test_published_files_are_known_by_their_digests(self, bars, data_dir, monkeypatch):
        import hashlib

        assert not bars.are_published("frappe_x1", data_dir)
        parts = [(data_dir / "Frappe_x1" / f"{part}.csv").read_bytes() for part in ("train", "valid", "test")]
        monkeypatch.setitem(bars.MD5, "frappe_x1", tuple(hashlib.md5(part).hexdigest() for part in parts))
        assert bars.are_published("frappe_x1", data_dir)
