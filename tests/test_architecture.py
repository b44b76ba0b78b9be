"""The plan of the house, held by machine: who may import whom, where training happens, how long a file may be."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "deepfm"
FILES = sorted(PACKAGE.rglob("*.py"))
LONGEST_FILE = 350
GROUPLENS = ("fields", "files", "columns", "versions", "rows")


def test_imports_run_one_way():
    linter = Path(sys.executable).parent / "lint-imports"
    if not linter.exists():
        pytest.fail(f"{linter} is missing; the development extra installs it")
    answer = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "1 kept, 0 broken" in answer.stdout


@pytest.mark.parametrize("call", [".backward(", "optimizer.step("])
def test_only_the_engine_the_analyser_and_the_zoo_train(call):
    places = [path.relative_to(PACKAGE) for path in FILES if call in path.read_text(encoding="utf-8")]
    assert places, f"nothing in the package calls {call}"
    rooms = (("engine",), ("analysis",), ("model_selection", "zoo"))
    assert [str(place) for place in places if not any(place.parts[: len(room)] == room for room in rooms)] == []


def test_every_file_fits_in_the_head():
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {path: lines for path, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_nothing_is_unpickled_or_evaluated():
    """Each call of torch.load and numpy.load says that nothing may be unpickled, and no setting is ever evaluated."""
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"pickle\.loads?\(|yaml\.(load|unsafe_load|full_load)\(|(?<![.\w])(eval|exec)\(", text), (
            path
        )
        for call in re.findall(r"\b(?:torch|np)\.load\([^\n]*", text):
            assert "weights_only=True" in call or "allow_pickle=False" in call, f"{path}: {call}"


def test_no_module_but_the_adapter_names_a_feature():
    words = re.compile(r"[\"'](gender|occupation|zip_prefix|genres|movie_id)[\"']")
    allowed = {"data/movielens.py", "data/sample.py", *(f"data/grouplens/{name}.py" for name in GROUPLENS)}
    named = []
    for path in FILES:
        code = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.strip().startswith(">>>")]
        if str(path.relative_to(PACKAGE)) not in allowed and words.search("\n".join(code)):
            named.append(str(path.relative_to(PACKAGE)))
    assert named == []
