"""Where the published tables lie, and evidence made of them; tests skip with the reason where they are not there."""

import os
from pathlib import Path

import pytest

from deepfm.model_selection.imports import ImportedTable, import_table
from deepfm.model_selection.protocols import Evidence

ROOT = Path(__file__).resolve().parents[2]
PLACES = (
    os.environ.get("DEEPFM_MODEL_SELECTION_TABLES"),
    ROOT.parent / "shared/datasets/model-selection",
    ROOT / "shared/datasets/model-selection",
    "/work/shared/datasets/model-selection",
)


def published(name: str) -> ImportedTable:
    for place in PLACES:
        if place and (Path(place) / name).is_file():
            return import_table(Path(place) / name)
    pytest.skip(f"the published table {name} is not here; set DEEPFM_MODEL_SELECTION_TABLES to its folder")


def evidence_of(table: ImportedTable, split: str | None = None) -> Evidence:
    matrix = table.outcomes.matrix(split=split)
    families = tuple(table.catalogue.subset(matrix.models).families.tolist())
    probes = table.probe_scores.matrices(matrix.models, matrix.tasks)
    return Evidence(matrix.models, matrix.tasks, matrix.values, probes, families)
