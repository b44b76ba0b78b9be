"""Small evidence made from a known law: model strength, task level, and a probe that sees the interaction."""

import numpy as np

from deepfm.model_selection.protocols import Evidence


def made_evidence(models=24, tasks=12, probe_noise=0.5, seed=0, interaction=1.0) -> Evidence:
    rng = np.random.default_rng(seed)
    strength, level = rng.normal(size=(models, 1)), rng.normal(size=(1, tasks))
    special = interaction * rng.normal(size=(models, tasks))
    outcomes = 0.7 + 0.04 * (strength + special) + 0.05 * level
    probe = strength + special + probe_noise * rng.normal(size=(models, tasks))
    useless = rng.normal(size=(models, tasks))
    return Evidence(
        tuple(f"m{i}" for i in range(models)),
        tuple(f"t{i}" for i in range(tasks)),
        outcomes,
        {"good": 3 * probe - 7, "useless": useless},
        tuple(f"f{i // 3}" for i in range(models)),
    )
