"""Seeds: one call for the global generators, and named streams for everything that draws by itself."""

import random
import zlib

import numpy as np


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (every device); with the same seed a run on CPU repeats bit for bit."""
    import torch

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the legacy global generator, for code that still uses it
    torch.manual_seed(seed)


def random_stream(purpose: str, *numbers: int) -> np.random.Generator:
    """A generator that is a pure function of a purpose and numbers, such as `("negatives", seed, epoch)`."""
    return np.random.default_rng([zlib.crc32(purpose.encode()), *numbers])
