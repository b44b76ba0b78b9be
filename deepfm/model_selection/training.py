"""The stage `train`: the auto-encoder, frozen; then the ranker; then the rows of the stacker."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from deepfm.errors import ConfigError, DataError
from deepfm.model_selection.embedding import embed_key, load_kernels
from deepfm.model_selection.examine import examine_autoencoder, examine_ranker
from deepfm.model_selection.fingerprint import FunctionalFingerprint
from deepfm.model_selection.fold_rankers import FoldRankers
from deepfm.model_selection.protocols import Evidence, Fold
from deepfm.model_selection.ranker_task import save_ranker
from deepfm.model_selection.settings import ModelSelectionSettings, stage_dict
from deepfm.model_selection.shelf import Shelf, key_of
from deepfm.model_selection.stacker import Stacker
from deepfm.model_selection.tokens.dataset_tokens import DatasetTokens
from deepfm.model_selection.weight_encoder import WeightEncoder, train_autoencoder
from deepfm.model_selection.weights import WeightTokens, weight_tokens
from deepfm.reporting import write_markdown
from deepfm.utils.io import load_arrays, save_arrays

STAGES = ("autoencoder", "ranker", "stacker")
SECTIONS = {
    "autoencoder": ("autoencoder",),
    "ranker": ("autoencoder", "embed", "join", "ranker"),
    "stacker": ("autoencoder", "embed", "join", "ranker", "stacker"),
}
NOTHING_HIDDEN = frozenset[int]()

Watch = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Trained:
    """What `train` left to rank by.

    Args:
        evidence: all that is known.
        rankers: of the evidence, for folds; None on a shelf without weights.
        stacker: joins it all.
    """

    evidence: Evidence
    rankers: FoldRankers | None
    stacker: Stacker


def train(
    shelf: Shelf,
    settings: ModelSelectionSettings,
    stage: str | None = None,
    *,
    split: str | None = None,
    watch: Watch = lambda _: None,
) -> Trained:
    """Train all stages, or one whose predecessors are done; what is up to date is kept.

    Raises:
        ConfigError: an unknown stage.
        DataError: a predecessor was not run, or the stage needs what the shelf has not.
        AnalysisError: the analyser found a critical risk in a network; nothing of it was trained.
    """
    if stage is not None and stage not in STAGES:
        raise ConfigError(f"stage {stage!r} is unknown; expected {', '.join(STAGES)}")
    if stage in ("autoencoder", "ranker") and shelf.zoo is None:
        raise DataError(f"{shelf.folder.path} holds imported tables without weights; only the stacker can be trained")
    wanted = STAGES if stage is None else (stage,)
    at = shelf.folder
    if shelf.zoo is not None:
        if "autoencoder" in wanted and not at.is_done("autoencoder", stage_key(shelf, settings, "autoencoder")):
            watch("the auto-encoder of weights")
            _train_autoencoder(shelf, settings)
        if "ranker" in wanted and not at.is_done("ranker", stage_key(shelf, settings, "ranker", split)):
            watch("the ranker")
            _train_ranker(shelf, settings, split)
    found = trained(shelf, settings, split=split)
    if "stacker" in wanted:
        watch("the stack")
        everything = found.evidence.seen(Fold(0, NOTHING_HIDDEN))
        rows = found.stacker.training_rows(everything)
        rows.save(at.rows)
        at.finish("stacker", stage_key(shelf, settings, "stacker", split), {"features": list(rows.names)})
    return found


def trained(
    shelf: Shelf,
    settings: ModelSelectionSettings,
    *,
    split: str | None = None,
    evidence: Evidence | None = None,
    further: Mapping[str, DatasetTokens] = MappingProxyType({}),
) -> Trained:
    """The evidence with rankers and stack, of artefacts that are there.

    Args:
        evidence: with further tasks; None for the shelf's own.
        further: tokens of these tasks, by name.

    Raises:
        DataError: `embed` or the auto-encoder's stage was not run, or of other models.
    """
    evidence = shelf.evidence(split) if evidence is None else evidence
    if shelf.zoo is None:
        return Trained(evidence, None, Stacker(settings.stacker))
    known = {**shelf.tokens, **further}
    tokens = [known.get(name) for name in evidence.tasks]
    rankers = FoldRankers(evidence, tokens, embeddings_of(shelf, settings), settings.ranker, seed=settings.seed)
    given = {"neural ranker": rankers} if settings.join.stack_ranker else {}
    return Trained(evidence, rankers, Stacker(settings.stacker, given))


def stage_key(shelf: Shelf, settings: ModelSelectionSettings, stage: str, split: str | None = None) -> str:
    """What a stage depends on: settings, the stages before it, and the outcomes where it learns from them."""
    learned = "" if stage == "autoencoder" else key_of(shelf.outcomes.rows.write_json())
    return key_of(embed_key(shelf, settings), learned, split, stage_dict(settings, SECTIONS[stage]))


def embeddings_of(shelf: Shelf, settings: ModelSelectionSettings) -> NDArray[np.float32]:
    """The models' embeddings that the ranker reads, `(M, E)`; NaN for a model without weights.

    Raises:
        DataError: a stage was not run, or of other models.
    """
    models, at = shelf.catalogue.models, shelf.folder
    parts = []
    if settings.join.embedding in ("autoencoder", "both"):
        if not at.embeddings.exists():
            raise DataError(f"{at.path} has no trained auto-encoder; run deepfm zoo train --folder {at.path}")
        if not at.is_done("autoencoder", stage_key(shelf, settings, "autoencoder")):
            raise DataError(
                f"the auto-encoder in {at.path} was trained with other settings than these; run deepfm zoo train "
                f"--folder {at.path} with the settings that you want, which it then keeps"
            )
        arrays = load_arrays(at.embeddings, "embeddings")
        if [str(name) for name in arrays["models"]] != models:
            raise DataError("the auto-encoder's embeddings are of other models; run deepfm zoo train again")
        parts.append(arrays["codes"])
    if settings.join.embedding in ("fingerprint", "both"):
        vectors = load_kernels(at, models)
        parts.append(FunctionalFingerprint.fit(vectors, settings.embed.fingerprint_size).transform(vectors))
    return np.concatenate([of_unit_size(part) for part in parts], axis=1).astype(np.float32)


def of_unit_size(block: NDArray[np.floating]) -> NDArray[np.floating]:
    """A block of embeddings `(M, E)`, centred, with a mean squared length of 1, so that all blocks weigh alike.

    Widths within the block keep their proportions.
    """
    centred = block - block.mean(axis=0)
    length = float(np.sqrt((centred**2).sum(axis=1).mean()))
    return centred / length if length > 0 else centred


def weight_states(shelf: Shelf) -> tuple[list[WeightTokens], list[WeightTokens]]:
    """Layers of the zoo's models, and of further networks that no outcome belongs to.

    Raises:
        DataError: the shelf has no weights, or some are missing or damaged.
    """
    if shelf.zoo is None:
        raise DataError(f"{shelf.folder.path} holds imported tables without weights; build a zoo to embed weights")
    names = shelf.catalogue.models
    own = [weight_tokens(shelf.zoo.model(name).state) for name in names]
    further = [weight_tokens(state) for name in names for state in shelf.zoo.states(name)]
    return own, further


def _train_autoencoder(shelf: Shelf, settings: ModelSelectionSettings) -> None:
    own, further = weight_states(shelf)
    report = examine_autoencoder(further, settings.autoencoder, seed=settings.seed, budget=settings.analysis_seconds)
    encoder: WeightEncoder = train_autoencoder(further, settings.autoencoder, seed=settings.seed)
    at = shelf.folder
    encoder.save(at.networks)
    write_markdown(report.to_document(), at.networks / "autoencoder.analysis.md")
    save_arrays(at.embeddings, {"models": np.array(shelf.catalogue.models, np.str_), "codes": encoder.embed(own)})
    at.finish("autoencoder", stage_key(shelf, settings, "autoencoder"))


def _train_ranker(shelf: Shelf, settings: ModelSelectionSettings, split: str | None) -> None:
    found = trained(shelf, settings, split=split)
    assert found.rankers is not None  # the shelf has weights
    lists = found.rankers.lists(NOTHING_HIDDEN)
    report = examine_ranker(lists, settings.ranker, seed=settings.seed, budget=settings.analysis_seconds)
    model = found.rankers.trained(NOTHING_HIDDEN, NOTHING_HIDDEN)
    save_ranker(model, settings.ranker, shelf.folder.networks)
    write_markdown(report.to_document(), shelf.folder.networks / "ranker.analysis.md")
    shelf.folder.finish("ranker", stage_key(shelf, settings, "ranker", split))
