"""What the network's mistakes cost: plain functions of scores, targets and days, and their weighted sum."""

from deepfm.equities.losses.combined import CombinedLoss
from deepfm.equities.losses.levels import huber_loss, pinball_loss, student_t_loss
from deepfm.equities.losses.orders import ic_loss, listnet_loss, rankic_loss
from deepfm.equities.losses.portfolio import sharpe_loss, turnover

__all__ = [
    "CombinedLoss",
    "huber_loss",
    "ic_loss",
    "listnet_loss",
    "pinball_loss",
    "rankic_loss",
    "sharpe_loss",
    "student_t_loss",
    "turnover",
]
