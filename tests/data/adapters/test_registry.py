import subprocess
import sys
import textwrap

import pytest

from deepfm.config import DataConfig, load_config
from deepfm.data import adapters
from deepfm.data.adapters import dataset_names, find_factory, kept_files, open_adapter, ranks_candidates, register
from deepfm.data.movielens import MovieLensAdapter
from deepfm.errors import ConfigError
from deepfm.training.experiment import check_experiment


@pytest.fixture(autouse=True)
def _no_names_left(monkeypatch):
    monkeypatch.setattr(adapters, "_REGISTERED", {})


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """Writes a module that Python finds."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, code: str) -> str:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(code))
        return name

    yield write
    for name in [name for name in sys.modules if name.startswith("own_adapter_")]:
        del sys.modules[name]


class TestNames:
    def test_the_packages_own_can_all_be_imported(self):
        assert {"movielens", "table"} <= set(dataset_names())
        for name in dataset_names():
            assert callable(find_factory(name))
            assert ranks_candidates(name) is name.startswith("movielens")

    def test_an_unknown_name_is_refused_before_work_starts(self):
        config = load_config(None, ["data.dataset_name=movielense", "device=cpu"])
        with pytest.raises(ConfigError, match=r"^data\.dataset_name = 'movielense' is unknown; did you mean 'moviel"):
            check_experiment(config)

    def test_registering(self):
        def factory(config, **_):
            raise AssertionError("not called")

        register("clicks", factory)
        register("clicks", factory)
        assert "clicks" in dataset_names()
        assert find_factory("clicks") is factory
        assert ranks_candidates("clicks") is None

    @pytest.mark.parametrize("name", ["movielens", "table", "a:b", ""])
    def test_names_that_cannot_be_registered(self, name):
        with pytest.raises(ConfigError, match="data set name"):
            register(name, "json:loads")

    def test_importing_the_names_imports_no_adapter(self):
        code = "import sys, deepfm.data.adapters as a; print(*({'deepfm.data.movielens', 'polars'} & set(sys.modules)))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.split() == []


class TestOwn:
    def test_a_module_is_imported_only_when_it_is_asked_for(self, own_module):
        name = own_module("own_adapter_a", "has_run = True\ndef open_it(config, **_): ...")
        register("clicks", f"{name}:open_it")
        assert name not in sys.modules
        assert find_factory("clicks").__name__ == "open_it"
        assert name in sys.modules

    def test_module_and_callable(self, own_module, small_dir):
        name = own_module(
            "own_adapter_b",
            """
            from deepfm.data.movielens import MovieLensAdapter

            class Mine(MovieLensAdapter):
                def __init__(self, config, *, seed, max_history, run):
                    super().__init__(config.data_dir, config, seed=seed + 1, max_history=max_history)
            """,
        )
        config = DataConfig(f"{name}:Mine", data_dir=str(small_dir), source="files")
        adapter = open_adapter(config, seed=3, max_history=5)
        assert (type(adapter).__name__, adapter.seed, adapter.max_history) == ("Mine", 4, 5)
        assert ranks_candidates(config.dataset_name) is True
        assert kept_files(config.dataset_name) == ("encoders", "candidates")

    @pytest.mark.parametrize(
        ("code", "part", "words"),
        [
            ("", "Mine", "holds no 'Mine' that can be called"),
            ("Mine = 5", "Mine", "holds no 'Mine' that can be called"),
            ("def Mine(config): ...", "Mine", r"cannot be called as \(config, \*, seed, max_history, run\)"),
            ("def Mine(config, **_): return 5", "Mine", "gave a int without info, encoders, candidates"),
            ("import a_module_that_is_not_there", "Mine", "cannot be imported: No module named 'a_module_that"),
        ],
    )
    def test_what_is_no_adapter(self, own_module, request, code, part, words):
        name = own_module(f"own_adapter_{abs(hash(request.node.name))}", code)
        with pytest.raises(ConfigError, match=words) as caught:
            open_adapter(DataConfig(f"{name}:{part}"))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("name", ["no_such_module_here:Mine", ":Mine", "json:"])
    def test_what_is_no_module(self, name):
        with pytest.raises(ConfigError, match=r"^data\.dataset_name = "):
            find_factory(name)


def test_movielens_by_its_name(small_dir, small_config):
    adapter = open_adapter(type(small_config)(data_dir=str(small_dir), source="files"), seed=7, max_history=3)
    assert isinstance(adapter, MovieLensAdapter)
    assert (adapter.seed, adapter.max_history) == (7, 3)


def test_rows_alone_have_no_ranking_metric():
    for name in set(dataset_names()) - {name for name in dataset_names() if name.startswith("movielens")}:
        with pytest.raises(ConfigError, match=f"ranks candidates, and data.dataset_name={name} has rows alone"):
            check_experiment(load_config(None, [f"data.dataset_name={name}", "device=cpu"]))
        check_experiment(load_config(None, [f"data.dataset_name={name}", "device=cpu", "training.metric=auc"]))
