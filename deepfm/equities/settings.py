"""The configuration of a stock-ranking experiment: sections with the names a practitioner types; without torch."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from deepfm.engine.loop_settings import LoopKnobs, LoopSettings
from deepfm.engine.settings import build_settings, read_settings, setting
from deepfm.equities.days.graph import GraphSettings
from deepfm.equities.loss_settings import LossSettings
from deepfm.equities.network_settings import NORMALIZATIONS, NetworkSettings
from deepfm.equities.panels.settings import PanelOptions
from deepfm.equities.walk_forward import WalkForwardSplit
from deepfm.errors import ConfigError

TASK = "equities"
METRIC = "rank_ic"  # of the validation sessions, the mean over days and weighted over horizons
SEARCH_SECTION = "tune"
BASELINE_NAMES = ("reversal 5", "momentum 20", "momentum 12-1", "ridge", "LightGBM", "random")
SWITCHES = ("graph", "FAN", "SAN", "VSN", "normalization")  # that an ablation turns
RENAMED = {"learning_rate": "lr", "max_epochs": "num_epochs"}  # of the engine's knobs


@dataclass(frozen=True)
class DataSettings:
    """What is read, and what a row of it is.

    `path` is a file of prices (Parquet or CSV), `sectors` a CSV of tickers and sectors; `panel` says what is done with
    prices that cannot be right. `feature_modules` are Python files or modules whose features join the package's. A row
    is a stock of the day's universe, its `features` (empty: all that the panel allows) over the last `sequence_length`
    sessions, each scaled within its own day by `scaling`. A stock with closes on fewer than `min_history` sessions of
    the look-back is no row; the others' missing values stand in the middle of their day. Labels are returns over
    `prediction_horizons` sessions from `delay` sessions after the day, learned as `target` within the day. An epoch
    trains on every `train_every`-th session, beginning one later each time; validation looks at every
    `validate_every`-th. `store` is how scaled features lie in memory.
    """

    path: str | None = None
    sectors: str | None = None
    features: tuple[str, ...] = ()
    feature_modules: tuple[str, ...] = ()
    sequence_length: int = setting(20, at_least=2, also=("seq_len", "lookback", "window"))
    prediction_horizons: tuple[int, ...] = setting((1, 5, 10, 20), at_least=1, not_empty=True, also=("horizons",))
    delay: int = setting(1, at_least=0)
    scaling: str = setting("gauss", choices=("rank", "gauss", "zscore", "none"))
    winsorise: float = setting(0.01, at_least=0, below=0.5)
    target: str = setting("rank", choices=("rank", "zscore"))
    min_history: int = setting(10, at_least=1)
    train_every: int = setting(1, at_least=1)
    validate_every: int = setting(1, at_least=1)
    store: str = setting("float32", choices=("float32", "float16"))
    panel: PanelOptions = field(default_factory=PanelOptions)


@dataclass(frozen=True)
class TrainingSettings(LossSettings, LoopKnobs):
    """The parts of the loss, the batches, and the knobs of the engine's loop.

    `batch_size` counts days. With a `sharpe_weight` the days of a batch follow one another; without, they are drawn
    from all. `weight_decay` is AdamW's, on matrices. What the engine calls `lr` and `num_epochs` is `learning_rate` and
    `max_epochs` here.
    """

    batch_size: int = setting(8, at_least=1)
    max_epochs: int = setting(20, at_least=1, also=("num_epochs", "epochs"))
    learning_rate: float = setting(1e-3, above=0, also=("lr",))
    weight_decay: float = setting(0.01, at_least=0)
    optimizer: str = setting("adamw", choices=("adam", "adamw", "sgd"))
    plateau_factor: float = setting(0.3, above=0, below=1)
    warmup_steps: int = setting(50, at_least=0)

    def __post_init__(self) -> None:
        """Refuse what the loss or the loop would refuse."""
        super().__post_init__()
        self.check_batch(self.batch_size)
        self.loop()

    @property
    def metric(self) -> str:
        """What decides which epoch is best; no setting."""
        return METRIC

    def loop(self) -> LoopSettings:
        """The engine's settings."""
        names = {item.name for item in fields(LoopSettings)}
        own = {RENAMED.get(item.name, item.name): getattr(self, item.name) for item in fields(self)}
        return LoopSettings(**{name: value for name, value in own.items() if name in names})


@dataclass(frozen=True)
class EvaluationSettings:
    """What the test is measured beside, and how portfolios trade: the `share` of a day's stocks at either end, `costs`
    in basis points a unit traded.

    `trials` is how many configurations were tried before this one was chosen, itself among them (1: none was searched
    for), and `trial_deviation` the deviation of their annualised Sharpe ratios (left out: what chance gives); the
    Sharpe ratio is deflated by them.
    """

    baselines: tuple[str, ...] = setting(BASELINE_NAMES[:4], choices=BASELINE_NAMES)
    share: float = setting(0.1, above=0, at_most=0.5)
    costs: tuple[float, ...] = setting((0.0, 5.0, 10.0, 20.0), at_least=0, not_empty=True)
    trials: int = setting(1, at_least=1)
    trial_deviation: float | None = setting(None, at_least=0)


@dataclass(frozen=True)
class AblationSettings:
    """What `deepfm equities ablate` trains: the network with one part the other way, everything else as it is.

    `folds` are test years or the folds' numbers, `seeds` some of the experiment's (empty: the first). `switches` are
    the parts: the graph, the attention between features (FAN) and between stocks (SAN), the variable selection (VSN),
    the adaptive normalisation. What is on is switched off, what is off on: a normalisation to `normalization`.
    """

    folds: tuple[int, ...] = setting((), at_least=0)
    seeds: tuple[int, ...] = setting((), at_least=0)
    switches: tuple[str, ...] = setting(SWITCHES, choices=SWITCHES, not_empty=True)
    normalization: str = setting(NORMALIZATIONS[0], choices=[name for name in NORMALIZATIONS if name != "off"])


@dataclass(frozen=True)
class EquitiesSettings:
    """Everything that decides an experiment.

    `seeds` are one training each of every fold; `analysis_seconds` is how long the analyser may look at the network
    before the first one, 0 for not at all.
    """

    task: str = setting(TASK, choices=(TASK,))
    seeds: tuple[int, ...] = setting((42,), at_least=0, at_most=2**32 - 1, not_empty=True)
    device: str = "auto"
    output_dir: str | None = None
    analysis_seconds: float = setting(8.0, at_least=0)
    data: DataSettings = field(default_factory=DataSettings)
    split: WalkForwardSplit = field(default_factory=WalkForwardSplit)
    graph: GraphSettings = field(default_factory=GraphSettings)
    model: NetworkSettings = field(default_factory=NetworkSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    ablation: AblationSettings = field(default_factory=AblationSettings)

    def __post_init__(self) -> None:
        """Refuse sections that do not fit each other."""
        horizons, weights = self.data.prediction_horizons, self.training.horizon_weights
        if weights and len(weights) != len(horizons):
            raise ConfigError(
                f"training.horizon_weights = {list(weights)} for data.prediction_horizons = {list(horizons)}; expected "
                "one for each"
            )
        if len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"seeds = {list(self.seeds)} holds one twice; expected each once")
        if horizons:  # the loader refuses none
            self.split.gap_sessions(horizons, self.data.delay)

    @property
    def seed(self) -> int:
        """The first seed."""
        return self.seeds[0]


def load_equities(path: str | Path | None = None, overrides: Sequence[str] = ()) -> EquitiesSettings:
    """Defaults, then the YAML and what it includes, then the overrides; a `tune` section is passed over.

    Raises:
        ConfigError: an unknown key, a wrong type or a value out of range, by its full dotted name.
    """
    tree = read_settings(path, overrides)
    tree.pop(SEARCH_SECTION, None)
    model = tree.get("model")
    if isinstance(model, dict) and model.get("adaptive_normalization") is False:
        model["adaptive_normalization"] = "off"  # YAML reads the bare word as false
    return build_settings(EquitiesSettings, tree)
