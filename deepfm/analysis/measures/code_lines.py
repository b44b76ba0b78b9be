"""Which line of a person's code is being run."""

import sys
from pathlib import Path

import torch

TORCH, HERE = str(Path(torch.__file__).parent), str(Path(__file__).parent.parent)
TRANSPARENT = (f"{TORCH}/_tensor.py", f"{TORCH}/functional.py")  # whose caller is the one that meant it


def code_line(watcher: str) -> str | None:
    """The line of a person's code that is being run; None where PyTorch, or a loss of this package, does something."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith((__file__, watcher, *TRANSPARENT)):
        frame = frame.f_back  # type: ignore[assignment]
    if frame is None or frame.f_code.co_filename.startswith((TORCH, HERE, "<")):
        return None
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
