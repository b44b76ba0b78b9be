"""Everything that was measured of a model, what the rules say of it, and how to train it."""

from dataclasses import dataclass

from deepfm.analysis.flow import Flow
from deepfm.analysis.invariances import Invariances
from deepfm.analysis.loss_scale import LossScale
from deepfm.analysis.parts import Parts


@dataclass(frozen=True)
class Measurements:
    """What was measured; None where a measure was left out or not possible."""

    loss_name: str
    flow: Flow
    parts: Parts
    invariances: Invariances
    loss_scale: LossScale | None = None
    start: object | None = None
    memory_share: float | None = None
