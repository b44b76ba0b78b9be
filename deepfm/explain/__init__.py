"""What a finished run's model does with its inputs: importance, pairs, attention, and single logits taken apart."""

from deepfm.explain.experiment import REPEATS, ROWS, SEED, explain
from deepfm.explain.findings import (
    Baseline,
    CINLayer,
    Contribution,
    Explanation,
    FieldAttentionMap,
    HistoryAttention,
    Importance,
    LogitPart,
    Occlusion,
    PairStrength,
    Spread,
)
from deepfm.explain.rows import Sample

__all__ = [
    "REPEATS",
    "ROWS",
    "SEED",
    "Baseline",
    "CINLayer",
    "Contribution",
    "Explanation",
    "FieldAttentionMap",
    "HistoryAttention",
    "Importance",
    "LogitPart",
    "Occlusion",
    "PairStrength",
    "Sample",
    "Spread",
    "explain",
]
