"""The network that ranks a day's stocks."""

from deepfm.equities.network.atft import ATFT
from deepfm.equities.network.forecast import Explanation, Forecast

__all__ = ["ATFT", "Explanation", "Forecast"]
