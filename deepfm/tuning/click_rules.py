"""What of a click model's configuration may be varied."""

from pathlib import Path
from typing import Any

from deepfm.config import ExperimentConfig
from deepfm.models import model_class
from deepfm.tuning.rules import Rules


def check_value(name: str, value: Any) -> None:
    """Refuse a model that does not exist.

    Raises:
        ConfigError: it is none.
    """
    if name == "model_name":
        model_class(value)


CLICK_RULES = Rules(
    settings_class=ExperimentConfig,
    never_vary={
        "data": "decides which rows are trained on and judged",
        "training.metric": "is what trials are judged by",
        "training.ranking_ks": "is what trials are judged by",
        "seed": "is luck, which no later run has",
        "device": "changes no result",
        "output_dir": "changes no result",
    },
    may_vary=("data.num_neg_train", "data.history_ties"),
    of_the_place=("device", "output_dir", "data.data_dir", "data.cache_dir", "data.source", "data.streaming"),
    epochs="training.num_epochs",
    shipped=Path(__file__).with_name("space.yaml"),
    check=check_value,
)
