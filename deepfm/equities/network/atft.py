"""ATFT-GAT-FAN: the whole network."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deepfm.equities.days.batch import DayBatch
from deepfm.equities.days.layout import DayLayout
from deepfm.equities.network.encoder import TemporalEncoder
from deepfm.equities.network.feature_attention import FeatureAttention
from deepfm.equities.network.forecast import Explanation, Forecast
from deepfm.equities.network.frequency_normalization import FrequencyNormalization
from deepfm.equities.network.graph_attention import GraphAttention
from deepfm.equities.network.heads import HorizonHead
from deepfm.equities.network.normalized import NoNormalization, Normalized
from deepfm.equities.network.rolling_normalization import RollingNormalization
from deepfm.equities.network.slice_normalization import SliceNormalization
from deepfm.equities.network.stock_attention import StockAttention
from deepfm.equities.network.variable_selection import VariableSelection
from deepfm.equities.network_settings import NetworkSettings
from deepfm.errors import ConfigError, DataError

EDGE_SIZE = 3


class ATFT(nn.Module):
    """Ranks the stocks of a day over K horizons.

    Adaptive normalisation of the sequences, variable selection, a temporal encoder with the sector as its static
    context, then for each stock: the outlook of what the normalisation took out, added back; attention between its
    groups of features; attention along the graph; attention across the day. Each part is a switch of the settings.

    Nothing but attention passes between stocks: with `stock_attention` and `graph_attention` off, a stock's forecast
    does not depend on which others are in the batch.

    Args:
        settings: sizes and switches.
        num_features: F.
        feature_groups: each feature's group, F whole numbers.
        num_sectors: sectors are 1 to this; 0 is unknown and adds nothing.
        sequence_length: L.
        num_horizons: K.

    Raises:
        ConfigError: groups that do not fit the features, or sessions that do not fit the normalisation.

    Example:
        >>> model = ATFT(NetworkSettings(hidden_size=16), 6, (0, 0, 1, 1, 2, 2), num_sectors=3)
        >>> len(model.heads)
        4
    """

    def __init__(
        self,
        settings: NetworkSettings,
        num_features: int,
        feature_groups: tuple[int, ...],
        num_sectors: int = 0,
        sequence_length: int = 20,
        num_horizons: int = 4,
    ) -> None:
        super().__init__()
        if len(feature_groups) != num_features or not num_features:
            raise ConfigError(
                f"feature_groups names {len(feature_groups)} groups for num_features = {num_features}; expected one "
                "for each feature, and a feature"
            )
        size, heads, dropout = settings.hidden_size, settings.num_heads, settings.dropout
        self.num_features, self.sequence_length = num_features, sequence_length
        self.normalization = build_normalization(settings, num_features, sequence_length)
        outlooks = self.normalization.num_outlooks
        self.selection = (
            VariableSelection(num_features, size, dropout)
            if settings.variable_selection
            else nn.Linear(num_features, size)
        )
        self.sectors = nn.Embedding(num_sectors + 1, size, padding_idx=0) if num_sectors else None
        self.encoder = TemporalEncoder(size, heads, settings.num_layers, dropout, context=num_sectors > 0)
        self.outlook = nn.Linear(outlooks * num_features, size, bias=False) if outlooks else None
        self.feature_attention = (
            FeatureAttention(feature_groups, sequence_length, outlooks, size, (heads, dropout))
            if settings.feature_attention
            else None
        )
        first, second = settings.gat_heads
        self.graph_attention = (
            GraphAttention(size, (first, second), EDGE_SIZE, dropout) if settings.graph_attention else None
        )
        self.stock_attention = StockAttention(size, heads, dropout) if settings.stock_attention else None
        self.heads = nn.ModuleList(
            HorizonHead(size, settings.quantiles, settings.student_t, dropout) for _ in range(num_horizons)
        )

    def forward(self, batch: DayBatch) -> Forecast:
        """The forecast for each row of a batch.

        Raises:
            DataError: the sequences are not `(R, L, F)` with a row or more.
        """
        stages = self._stages(batch)
        scores, quantiles, student_t = zip(*(head(stages.state) for head in self.heads), strict=True)
        return Forecast(
            torch.stack(scores, dim=1),
            torch.stack(quantiles, dim=1),
            None if student_t[0] is None else torch.stack(student_t, dim=1),
            stages.normalized.auxiliary,
            stages.selection,
        )

    @torch.no_grad()
    def explain(self, batch: DayBatch) -> Explanation:
        """The weights with which the network, in its present mode, reads a batch."""
        stages, selection = self._stages(batch), self.selection
        views = (stages.normalized.sequences, stages.normalized.outlook)
        graph = (stages.before_graph, batch.edge_index, batch.edge_attr)
        stocks = (stages.before_stocks, DayLayout.of(batch.day))
        return Explanation(
            selection.weights(views[0]) if isinstance(selection, VariableSelection) else None,
            self.feature_attention.weights(*views) if self.feature_attention is not None else None,
            self.encoder.weights(stages.selected, stages.context),
            self.graph_attention.weights(*graph) if self.graph_attention is not None else None,
            self.stock_attention.weights(*stocks) if self.stock_attention is not None else None,
        )

    def _stages(self, batch: DayBatch) -> "_Stages":
        expected = (self.sequence_length, self.num_features)
        if batch.sequences.ndim != 3 or batch.sequences.shape[1:] != expected or not len(batch.sequences):
            raise DataError(
                f"the batch's sequences are {tuple(batch.sequences.shape)}; expected (rows, {expected[0]}, "
                f"{expected[1]}), a row or more by sessions by features"
            )
        normalized = self.normalization(batch.sequences)
        if isinstance(self.selection, VariableSelection):
            selected, selection = self.selection(normalized.sequences)
        else:
            selected, selection = self.selection(normalized.sequences), None
        context = None if self.sectors is None else self.sectors(batch.sector)
        state = self.encoder(selected, context).squeeze(1)
        if self.outlook is not None:
            state = state + self.outlook(normalized.outlook.flatten(1))
        if self.feature_attention is not None:
            state = self.feature_attention(state, normalized.sequences, normalized.outlook)
        before_graph = state
        if self.graph_attention is not None:
            state = self.graph_attention(state, batch.edge_index, batch.edge_attr)
        before_stocks = state
        if self.stock_attention is not None:
            state = self.stock_attention(state, DayLayout.of(batch.day))
        return _Stages(normalized, selected, context, before_graph, before_stocks, state, selection)


@dataclass(frozen=True, eq=False)
class _Stages:
    """What passes between the modules."""

    normalized: Normalized
    selected: Tensor
    context: Tensor | None
    before_graph: Tensor
    before_stocks: Tensor
    state: Tensor
    selection: Tensor | None


def build_normalization(
    settings: NetworkSettings, num_features: int, sequence_length: int
) -> FrequencyNormalization | SliceNormalization | RollingNormalization | NoNormalization:
    """The adaptive normalisation that the settings name.

    Raises:
        ConfigError: it does not fit the look-back.
    """
    inner_size = max(8, settings.hidden_size // 2)
    kind = settings.adaptive_normalization
    if kind == "frequency":
        components, steps = settings.frequency_components, settings.frequency_steps
        return FrequencyNormalization(sequence_length, components, steps, inner_size)
    if kind == "slice":
        return SliceNormalization(sequence_length, settings.slice_length, inner_size)
    if kind == "rolling":
        return RollingNormalization(sequence_length, settings.rolling_windows, num_features)
    return NoNormalization()
