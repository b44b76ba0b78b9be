"""Small things that know nothing of the rest: seeds, logging, files."""

from deepfm.utils.io import load_checkpoint, save_checkpoint
from deepfm.utils.logging import get_logger
from deepfm.utils.seeding import random_stream, seed_everything

__all__ = ["get_logger", "load_checkpoint", "random_stream", "save_checkpoint", "seed_everything"]
