"""The tests mirror the package."""

import os

# Several test processes share the cores; with more threads than cores torch's would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
