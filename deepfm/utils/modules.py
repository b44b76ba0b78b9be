"""People's own code: a module by its name, or a Python file by its path."""

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

from deepfm.errors import DeepFMError


def import_source(source: str, error: type[DeepFMError]) -> ModuleType:
    """Import a module or a file ending in `.py`, because a person asked for it; a file is run anew each time.

    Raises:
        DeepFMError: of the class `error`; there is no such file or module, or importing it fails.
    """
    try:
        if not source.endswith(".py"):
            return importlib.import_module(source)
        path = Path(source)
        if not path.is_file():
            raise error(f"{source} does not exist; expected a Python file")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except error:
        raise
    except Exception as problem:  # a person's own code may raise anything
        reason = " ".join(str(problem).split())[:200].rstrip(".")
        raise error(f"{source} cannot be imported: {type(problem).__name__}: {reason}") from problem
