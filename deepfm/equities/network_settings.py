"""The settings of the network; without torch, so that configurations load fast."""

from dataclasses import dataclass

from deepfm.engine.settings import setting
from deepfm.errors import ConfigError

NORMALIZATIONS = ("frequency", "slice", "rolling", "off")


@dataclass(frozen=True)
class NetworkSettings:
    """Sizes of the network and a switch for each of its modules.

    `num_layers` counts the LSTM's. `adaptive_normalization` acts on the input sequences: `frequency` takes out the
    `frequency_components` strongest Fourier components and forecasts them over the next `frequency_steps` sessions,
    `slice` standardises slices of `slice_length` sessions and forecasts the next one's statistics, `rolling` blends
    scores over the trailing `rolling_windows`. `gat_heads` are those of the two layers over the graph: of the first
    side by side, of the second averaged. `quantiles` rise and have .5 in their middle.
    """

    hidden_size: int = setting(64, at_least=1, also=("d_model", "hidden_dim"))
    num_heads: int = setting(4, at_least=1, also=("n_heads", "nhead"))
    num_layers: int = setting(1, at_least=1, also=("lstm_layers",))
    dropout: float = setting(0.1, at_least=0, below=1)
    adaptive_normalization: str = setting("frequency", choices=NORMALIZATIONS)
    frequency_components: int = setting(2, at_least=1, also=("fan_top_k", "top_k"))
    frequency_steps: int = setting(5, at_least=1)
    slice_length: int = setting(5, at_least=2, also=("san_slice_length", "period_len"))
    rolling_windows: tuple[int, ...] = setting((5, 10, 20), at_least=2, not_empty=True, also=("fan_windows",))
    variable_selection: bool = setting(True, also=("vsn", "use_vsn"))
    feature_attention: bool = setting(True, also=("fan", "use_fan"))
    stock_attention: bool = setting(True, also=("san", "use_san"))
    graph_attention: bool = setting(True, also=("gat", "use_gat"))
    gat_heads: tuple[int, ...] = setting((4, 2), at_least=1)
    quantiles: tuple[float, ...] = setting((0.05, 0.25, 0.5, 0.75, 0.95), above=0, below=1)
    student_t: bool = False

    def __post_init__(self) -> None:
        """Refuse sizes that do not divide, and quantiles without a middle."""
        if self.hidden_size % self.num_heads:
            raise ConfigError(
                f"hidden_size = {self.hidden_size} is no multiple of num_heads = {self.num_heads}; expected one"
            )
        if len(self.gat_heads) != 2:
            raise ConfigError(f"gat_heads = {list(self.gat_heads)}; expected two numbers, one for each layer")
        if self.hidden_size % self.gat_heads[0]:
            raise ConfigError(
                f"hidden_size = {self.hidden_size} is no multiple of gat_heads[0] = {self.gat_heads[0]}; expected one"
            )
        middle = len(self.quantiles) // 2
        rising = all(low < high for low, high in zip(self.quantiles, self.quantiles[1:], strict=False))
        if not rising or len(self.quantiles) < 3 or len(self.quantiles) % 2 == 0 or self.quantiles[middle] != 0.5:
            raise ConfigError(
                f"quantiles = {list(self.quantiles)}; expected three or more rising shares with 0.5 in the middle, "
                "such as [0.05, 0.25, 0.5, 0.75, 0.95]"
            )
