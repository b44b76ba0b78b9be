"""`deepfm validate` from end to end: exit codes, tables, JSON, own classes, own rows, and what is refused."""

import dataclasses
import json
import sys

import numpy as np
import pytest
import torch

from deepfm.cli import main
from deepfm.config import load_config
from deepfm.training.experiment import ExperimentData, open_data
from deepfm.validation import validate, validate_experiment
from tests.validation.faults import columns_of_rows, schema_of_rows

TINY = (
    "device=cpu",
    "data.source=files",
    "data.num_neg_eval=30",
    "feature.fm_embed_dim=4",
    "feature.max_history=5",
    "dnn.hidden_units=[8]",
    "training.lr=0.01",
)
OWN_CLASS = """
from torch import nn

class Own(nn.Module):
    def __init__(self, schema, config):
        super().__init__()
        self.tables = nn.ModuleDict({
            field.name: nn.Embedding(field.vocabulary_size, 1) for field in schema.sparse_fields
        })
        for table in self.tables.values():
            nn.init.zeros_(table.weight)

    def forward(self, batch):
        return sum(table(batch[name]) for name, table in self.tables.items())

class Silent(Own):
    def forward(self, batch):
        return super().forward(batch).detach()

number = 3
"""


@pytest.fixture(autouse=True)
def own_module(tmp_path, monkeypatch):
    """A folder with a module of one's own, whose name no other test's has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"own_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(OWN_CLASS)
    yield name
    torch.set_num_threads(threads)


@pytest.fixture
def cli(capsys):
    def call(*argv):
        capsys.readouterr()
        code = main(["validate", *(str(arg) for arg in argv)])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def rows(tmp_path):
    """A schema and rows with a history in files."""
    schema_of_rows().save("schema.json")
    np.savez("rows.npz", **columns_of_rows(2000), extra=np.zeros(3))
    np.savez("more.npz", **columns_of_rows(500, seed=1))
    return "--schema", "schema.json", "--rows", "rows.npz"


SIZES = ("device=cpu", "feature.fm_embed_dim=4", "dnn.hidden_units=[8]", "din.hidden_units=[4]", "training.lr=0.01")


class TestOnTheDataOfAConfiguration:
    def test_tables_findings_and_exit_code(self, cli, small_dir):
        code, out, err = cli("--models", "deepfm,din", "--quiet", "--override", *TINY, f"data.data_dir={small_dir}")
        assert (code, err) == (0, "")
        assert "popularity" in out
        assert "NDCG@10" in out
        assert "history (B, 5)" in out
        assert "GENERATED SAMPLE, NOT REAL DATA" in out
        assert "test rows are never scored" in out
        assert out.rstrip().endswith("so train with `deepfm train`")

    def test_json_is_all_of_stdout(self, cli, small_dir):
        code, out, err = cli("--models", "deepfm", "--json", "--override", *TINY, f"data.data_dir={small_dir}")
        plain = json.loads(out)
        assert (code, plain["passed"]) == (0, True)
        assert plain["models"][0]["metrics"]["ndcg@10"] > plain["popularity"]["ndcg@10"] > 0
        assert plain["data"]["num_groups"] == 60
        assert plain["data"]["label_rate"] == pytest.approx(0.2)
        assert "checking deepfm" in err

    def test_the_test_part_is_never_looked_at(self, small_dir, monkeypatch):
        config = load_config(None, [*TINY, f"data.data_dir={small_dir}"])
        data = open_data(dataclasses.replace(config, model_name="sin"))
        blind = ExperimentData(data.adapter, data.schema, data.train, data.validation, test=None)
        monkeypatch.setattr("deepfm.validation.experiment.open_data", lambda _: blind)
        assert validate_experiment(config, ["deepfm"], epochs=1).models[0].metrics["auc"] > 0

    def test_a_class_of_ones_own_that_fails(self, cli, small_dir, own_module):
        code, out, err = cli(
            "--models", "", "--model", f"{own_module}:Own", "--model", f"{own_module}:Silent",
            "--override", *TINY, f"data.data_dir={small_dir}",
        )  # fmt: skip
        assert (code, err) == (1, "")
        assert "FAILED gradients\n  Silent: the loss depends on no weight\n" in out
        assert "models failed: " in out.splitlines()[-1]

    def test_a_ranking_loss_gives_way_to_cross_entropy(self, small_dir):
        overrides = [*TINY, f"data.data_dir={small_dir}", "training.loss=softmax", "training.in_batch_negatives=2"]
        report = validate_experiment(load_config(None, overrides), ["deepfm"], epochs=1)
        assert report.models[0].metrics["auc"] > 0.5


class TestOnOnesOwnRows:
    def test_with_a_history_and_rows_held_out(self, cli, rows):
        code, out, err = cli(*rows, "--models", "deepfm,din", "--override", *SIZES)
        assert (code, err) == (0, "")
        assert "the last tenth was held out" in out
        assert "1,800 for training" in out
        assert "200 for validation (not in groups, so no NDCG@10)" in out

    def test_without_a_history_and_with_rows_for_validation(self, cli, rows):
        schema_of_rows(history=False).save("schema.json")
        code, out, _ = cli(*rows, "--validation-rows", "more.npz", "--models", "deepfm,din", "--override", *SIZES)
        assert code == 0
        assert "validated on more.npz" in out
        assert "skipped din: it reads behaviour" in out

    def test_own_rows_and_own_class(self, cli, rows, own_module):
        code, out, _ = cli(*rows, "--models", "", "--model", f"{own_module}:Own", "--json")
        assert code == 0
        assert [model["name"] for model in json.loads(out)["models"]] == ["Own"]

    def test_the_file_and_the_function_agree(self, cli, rows):
        from deepfm.validation import hold_out

        _, out, _ = cli(*rows, "--models", "deepfm", "--epochs", 1, "--json", "--override", *SIZES)
        schema = schema_of_rows()
        report = validate(schema, *hold_out("rows.npz", schema), ["deepfm"], load_config(None, SIZES), epochs=1)
        assert json.loads(out)["models"][0]["metrics"] == report.models[0].metrics


class TestWhatIsRefused:
    """One sentence on stderr, exit code 2, before anything is trained."""

    def refused(self, cli, *argv):
        code, out, err = cli(*argv)
        assert code == 2
        assert out == ""
        assert err.startswith("deepfm: ")
        assert err.count("\n") == 1
        return err

    @pytest.mark.parametrize(
        ("argv", "words"),
        [
            (("--models", "depfm"), "did you mean 'deepfm'"),
            (("--models", ""), "there is no model to check"),
            (("--model", "deepfm"), "expected package.module:ClassName"),
            (("--model", "no.such:Thing"), "cannot be imported from"),
            (("--epochs", "0"), "epochs = 0"),
            (("--rows", "rows.npz"), "--rows is given without --schema"),
            (("--schema", "schema.json"), "--schema is given without --rows"),
            (("--validation-rows", "more.npz"), "--validation-rows is given without --rows"),
            (("--schema", "none.json", "--rows", "rows.npz"), "schema none.json cannot be read"),
            (("--config", "none.yaml"), "none.yaml does not exist"),
        ],
    )
    def test_arguments(self, cli, small_dir, rows, argv, words):
        assert words in self.refused(cli, *argv, "--override", *TINY, f"data.data_dir={small_dir}")

    def test_a_class_that_is_not_there(self, cli, own_module):
        assert "did you mean 'Own'" in self.refused(cli, "--model", f"{own_module}:Owm")
        assert "no class or function 'number'" in self.refused(cli, "--model", f"{own_module}:number")

    def test_a_module_that_fails(self, cli, tmp_path):
        (tmp_path / "broken_module.py").write_text("import nothing_of_that_name\n")
        assert "ModuleNotFoundError: No module named" in self.refused(cli, "--model", "broken_module:Own")

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda columns: columns.pop("price"), "rows bad.npz have no column 'price'"),
            (lambda columns: columns.pop("click"), "rows bad.npz have no column 'click'"),
            (lambda columns: columns.update(price=columns["price"][:9]), "expected 2000 rows"),
            (lambda columns: columns.update(user=columns["user"].astype(str)), "encode texts as ids"),
            (lambda columns: columns.update(user=columns["user"].astype(object)), "bad.npz cannot be read"),
            (lambda columns: columns["price"].__setitem__(7, np.nan), "NaN or infinity in row 7"),
            (lambda columns: columns["item"].__setitem__(7, 99), "holds id 99 in row 7"),
            (lambda columns: columns.update(history=columns["history"][:, 0]), "expected a list of ids"),
            (lambda columns: columns["click"].__setitem__(slice(None), 1), "hold 1800 clicks in 1800 rows"),
            (lambda columns: columns["click"].__setitem__(3, 5), "label 3 is 5"),
        ],
    )
    def test_rows(self, cli, rows, change, words):
        columns = columns_of_rows(2000)
        change(columns)
        np.savez("bad.npz", **columns)
        assert words in self.refused(cli, *rows[:2], "--rows", "bad.npz")

    def test_files_that_hold_no_rows(self, cli, rows, tmp_path):
        assert "rows none.npz do not exist" in self.refused(cli, *rows[:2], "--rows", "none.npz")
        (tmp_path / "text.npz").write_text("no archive")
        assert "text.npz cannot be read" in self.refused(cli, *rows[:2], "--rows", "text.npz")
        np.save("one.npy", np.zeros(3))
        assert "one.npy are one array" in self.refused(cli, *rows[:2], "--rows", "one.npy")
