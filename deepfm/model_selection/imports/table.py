"""One door for published tables: the kind is recognised by its columns."""

from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl

from deepfm.errors import DataError
from deepfm.model_selection.imports import model_spider, timm, transfergraph
from deepfm.model_selection.imports.imported import ImportedTable
from deepfm.model_selection.tables import read_table

__all__ = ["ImportedTable", "import_table"]

Reader = Callable[[pl.DataFrame, Path], ImportedTable]
TRANSFERGRAPH = "TransferGraph"
KINDS: Mapping[str, tuple[frozenset[str], Reader]] = {
    "Model Spider, single source": (model_spider.SINGLE_SOURCE, model_spider.single_source),
    "Model Spider, multi source": (model_spider.MULTI_SOURCE, model_spider.multi_source),
    TRANSFERGRAPH: (transfergraph.FINE_TUNES, transfergraph.fine_tunes),
    "timm": (timm.MODELS, timm.models),
}


def import_table(path: str | Path, models: str | Path | None = None) -> ImportedTable:
    """Read a published table into a catalogue, outcomes and probe scores.

    Accuracies come as shares of 1, whatever the publication used; every outcome's origin is "published".

    Args:
        path: CSV or Parquet of one of `KINDS`, recognised by its columns.
        models: the table of the models that goes with TransferGraph's fine-tunes; left out, a file beside `path` with
            `_models` in place of `_long` is taken where there is one.

    Raises:
        DataError: a table cannot be read, is of no known kind, or holds what it must not.
    """
    path = Path(path)
    rows = read_table(path, "published table")
    if not len(rows):
        raise DataError(f"published table {path} has no rows; expected fine-tunes or models")
    kind = next((kind for kind, (needed, _) in KINDS.items() if needed <= set(rows.columns)), None)
    if models is not None and kind not in (TRANSFERGRAPH, None):
        raise DataError(f"a table of models was given for {kind}, whose table needs none; leave it out")
    beside = _models(path, models) if kind == TRANSFERGRAPH else None
    try:
        if kind == TRANSFERGRAPH:
            return transfergraph.fine_tunes(rows, path.parent, beside)
        if kind is not None:
            return KINDS[kind][1](rows, path.parent)
    except (pl.exceptions.PolarsError, AttributeError, TypeError) as error:  # a cell of another type, or an empty name
        reason = " ".join(str(error).split())[:150]
        raise DataError(
            f"published table {path} of {kind} has cells that cannot be read: {reason}; mend them"
        ) from error
    kinds = "; ".join(f"{name} ({', '.join(sorted(needed))})" for name, (needed, _) in KINDS.items())
    raise DataError(
        f"published table {path} has the columns {', '.join(rows.columns)}, which no known table has; "
        f"expected those of one of: {kinds}; or write it as a table of outcomes"
    )


def _models(path: Path, models: str | Path | None) -> pl.DataFrame | None:
    beside = path.with_name(path.name.replace("_long", "_models"))
    if models is None and (beside == path or not beside.is_file()):
        return None
    return read_table(beside if models is None else Path(models), "table of models")
