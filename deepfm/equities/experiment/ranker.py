"""A trained network with all that it needs to rank stocks: saved with a fold, loaded to predict."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from deepfm.engine.run import RunFolder
from deepfm.equities.days.arrays import DayArrays, Sessions, rankable
from deepfm.equities.days.graph import TrailingGraphs
from deepfm.equities.experiment.fold_results import learned_until, train_again
from deepfm.equities.experiment.market import FoldArrays, Market
from deepfm.equities.experiment.predictions import Predictions
from deepfm.equities.experiment.sectors import KnownSectors
from deepfm.equities.features import (
    DEFAULT_FEATURES,
    FeatureRegistry,
    FeatureTable,
    compute_features,
    feature_registry,
)
from deepfm.equities.features.own import module_hashes, refuse_changed
from deepfm.equities.features.scaling import CrossSectionalScaler
from deepfm.equities.network import ATFT
from deepfm.equities.panels.panel import Panel
from deepfm.equities.settings import EquitiesSettings, load_equities
from deepfm.errors import CheckpointError, DataError, RunError
from deepfm.utils.io import read_json, write_json
from deepfm.utils.seeding import seed_everything

ABOUT = "ranker.json"
CPU = torch.device("cpu")
STATE = {"": ("scaler", "sector_names", "about"), "about": ("data", "fold", "seed")}  # of `ranker.json`


class Ranker:
    """A network, the scaler of its fold, and the names of what it was trained on.

    Args:
        model: the network.
        scaler: fitted on the fold's training sessions.
        settings: of the experiment.
        sectors: what the training knew of them.
        about: fold, seed and data, which every output carries.
        registry: where its features are looked up.
        learned_until: the last session of its training and validation, as ISO text; None where it is not known.
    """

    def __init__(
        self,
        model: ATFT,
        scaler: CrossSectionalScaler,
        settings: EquitiesSettings,
        sectors: KnownSectors,
        about: dict[str, str],
        registry: FeatureRegistry = DEFAULT_FEATURES,
        learned_until: str | None = None,
    ) -> None:
        self.model, self.scaler, self.settings = model, scaler, settings
        self.sectors, self.about = sectors, about
        self.registry, self.learned_until = registry, learned_until

    def __repr__(self) -> str:
        return (
            f"Ranker(fold {self.about.get('fold')}, seed {self.about.get('seed')}, {len(self.scaler.names)} features)"
        )

    def save(self, run: RunFolder) -> None:
        """Write `best.safetensors` and `ranker.json`."""
        modules = module_hashes(self.settings.data.feature_modules)
        about = {"about": self.about, "feature_modules": modules}
        write_json(run.path / ABOUT, {"scaler": self.scaler.state_dict(), **self.sectors.to_dict(), **about})
        run.save_weights(self.model.state_dict(), self.about)

    @classmethod
    def load(cls, run: RunFolder, device: torch.device = CPU, registry: FeatureRegistry | None = None) -> "Ranker":
        """What `save` wrote beside the run's configuration.

        Args:
            run: a fold's folder.
            device: where the network is put.
            registry: where its features are looked up; by default the package's and those of `data.feature_modules`.

        Raises:
            RunError: a file is missing or damaged.
            ConfigError: a feature of the training is not known here, or its module is gone or has changed.
            CheckpointError: the weights are damaged, or of another network.
        """
        settings = load_equities(run.require("config", "weights", writer="deepfm equities train").config)
        state, scaler = _read_state(run)
        if registry is None:
            refuse_changed(state.get("feature_modules", {}), settings.data.feature_modules)
            registry = feature_registry(settings.data.feature_modules)
        groups = registry.select(scaler.names)
        empty = np.zeros((0, 0, len(scaler.names)), np.float32)
        table = FeatureTable(empty, scaler.names, tuple(one.group for one in groups.features), (0,) * len(scaler.names))
        sectors = KnownSectors.from_dict(state)
        model = build_network(settings, table, len(sectors.names), seed=0)
        try:
            model.load_state_dict(run.load_weights(state["about"]))
        except RuntimeError as error:
            raise CheckpointError(f"{run.weights} does not fit the run's configuration; train again") from error
        until = learned_until(run) if run.finished else None
        return cls(model.to(device).eval(), scaler, settings, sectors, state["about"], registry, until)

    def predict_days(self, panel: Panel, arrays: DayArrays, sessions: Sessions) -> Iterator[Predictions]:
        """Rank the stocks of sessions whose windows are in arrays, a day at a time."""
        device = next(self.model.parameters()).device
        tickers = np.asarray(panel.tickers)
        self.model.eval()
        for session in arrays.usable(sessions):
            batch = arrays.batch([int(session)])
            with torch.no_grad():
                forecast = self.model(batch.to(device))
            yield Predictions(
                np.full(batch.num_rows, panel.sessions[session]),
                tickers[batch.stock.numpy()],
                forecast.scores.float().cpu().numpy(),
                forecast.quantiles.float().cpu().numpy(),
                self.settings.data.prediction_horizons,
                self.settings.model.quantiles,
            )

    def arrays(self, panel: Panel, first: int, last: int, graphs: TrailingGraphs | None = None) -> DayArrays:
        """What sessions of a panel are ranked by, from the first one's window on, computed from no more than they need.

        Raises:
            DataError: a session has too few before it to look back on.
        """
        data = self.settings.data
        begin = first - data.sequence_length + 1
        if begin < 0:
            raise DataError(
                f"{panel.sessions[first]} has {first} sessions before it; expected at least "
                f"{data.sequence_length - 1}, the sequence_length less one; give a panel that begins earlier"
            )
        lookback = self.registry.select(self.scaler.names).lookback
        earliest = max(0, begin - lookback)
        part = panel.between(earliest, last)
        table = compute_features(part, self.scaler.names, self.registry)
        table = dataclasses.replace(table, values=table.values[begin - earliest :])
        rows = rankable(part.close, part.eligible, data.sequence_length, data.min_history)[begin - earliest :]
        return DayArrays(
            self.scaler.transform(table, part.eligible[begin - earliest :]).astype(data.store, copy=False),
            rows,
            self.sectors.places(panel),
            data.sequence_length,
            len(data.prediction_horizons),
            graphs=graphs or TrailingGraphs(panel, self.settings.graph),
            first=begin,
        )


def _read_state(run: RunFolder) -> tuple[dict[str, Any], CrossSectionalScaler]:
    """The content of `ranker.json`, and the scaler in it.

    Raises:
        RunError: the file is missing, or lacks what `save` writes.
    """
    place = run.path / ABOUT
    state = read_json(place, "ranker")
    for section, names in STATE.items():
        part = state.get(section) if section and isinstance(state, dict) else state
        if missing := [name for name in names if not isinstance(part, dict) or name not in part]:
            raise RunError(f"{place} has no {section}{'.' if section else ''}{missing[0]}; {train_again(run)}")
    try:
        return state, CrossSectionalScaler.from_state(state["scaler"])
    except DataError as error:
        raise RunError(f"the scaler of {place} is damaged; {train_again(run)}") from error


def build_network(settings: EquitiesSettings, features: FeatureTable, num_sectors: int, seed: int) -> ATFT:
    """An untrained network for some features; its weights are drawn from a seed."""
    seed_everything(seed)
    data = settings.data
    return ATFT(
        settings.model,
        len(features.names),
        features.group_ids,
        num_sectors,
        data.sequence_length,
        len(data.prediction_horizons),
    )


def untrained_ranker(market: Market, inputs: FoldArrays, settings: EquitiesSettings, fold: str, seed: int) -> Ranker:
    """A ranker whose network is drawn from a seed, for a fold of a market."""
    sectors = KnownSectors.of_panel(market.panel)
    model = build_network(settings, market.features, len(sectors.names), seed)
    about = {"data": market.about["hash"], "fold": fold, "seed": str(seed)}
    return Ranker(model, inputs.scaler, settings, sectors, about, market.registry)
