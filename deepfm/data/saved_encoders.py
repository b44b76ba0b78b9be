"""Fitted encoders as files: JSON, and Parquet beside it where JSON would be long; never a pickle."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepfm.data.categories import CategoryEncoder
from deepfm.data.transforms import LabelEncoder, MinMaxScaler, MultiHotEncoder, Standardiser, Transform
from deepfm.data.vocabularies import HashEncoder, QuantileBuckets
from deepfm.errors import DataError
from deepfm.utils.io import atomic_path, read_json, write_json

TRANSFORMS: dict[str, Any] = {
    kind.kind: kind
    for kind in (
        LabelEncoder,
        MinMaxScaler,
        Standardiser,
        MultiHotEncoder,
        CategoryEncoder,
        HashEncoder,
        QuantileBuckets,
    )
}
MOST_VALUES = 10_000  # of a vocabulary that stands in the JSON file itself
VOCABULARIES, VECTORS = "vocabularies.parquet", "vectors.parquet"  # beside the JSON file, where there is need


def save_encoders(encoders: Mapping[str, Transform], path: str | Path) -> None:
    """Write a field's name → its fitted encoder: JSON, and beside it Parquet files of long vocabularies and vectors."""
    plain = {name: encoder.to_dict() for name, encoder in encoders.items()}
    long = {name: state["values"] for name, state in plain.items() if len(state.get("values", ())) > MOST_VALUES}
    tables: dict[str, Any] = {
        name: encoder for name, encoder in encoders.items() if len(getattr(encoder, "vectors", ()))
    }
    for name in long:
        plain[name]["values"] = VOCABULARIES
    if long or tables:
        import polars as pl

        if long:
            columns = [pl.DataFrame({"column": [name] * len(values), "value": values}) for name, values in long.items()]
            _write_parquet(pl.concat(columns), Path(path).with_name(VOCABULARIES))
        if tables:
            vectors = [
                pl.DataFrame(
                    {"column": [name] * len(table.ids), "id": table.ids, "vector": table.vectors.tolist()},
                    schema={"column": pl.String, "id": pl.String, "vector": pl.List(pl.Float32)},
                )
                for name, table in tables.items()
            ]
            _write_parquet(pl.concat(vectors), Path(path).with_name(VECTORS))
    write_json(path, plain)


def load_encoders(path: str | Path) -> dict[str, Any]:
    """Read what `save_encoders` wrote.

    Raises:
        RunError: the file is missing or no JSON.
        DataError: it holds no encoders.
    """
    plain = read_json(path, "encoders file")
    try:
        if any(state.get("values") == VOCABULARIES for state in plain.values()):
            found = _read_parquet(Path(path).with_name(VOCABULARIES)).partition_by("column", as_dict=True)
            for (name,), rows in found.items():
                plain[name]["values"] = rows["value"].to_list()
        if any(state["kind"] == "vector" for state in plain.values()):
            from deepfm.data.vectors import VectorTable  # polars is loaded for tables alone

            beside = Path(path).with_name(VECTORS)
            tables = _read_parquet(beside).partition_by("column", as_dict=True) if beside.exists() else {}
            for (name,), rows in tables.items():
                plain[name] |= {"ids": rows["id"].to_list(), "vectors": rows["vector"].to_list()}
            TRANSFORMS.setdefault(VectorTable.kind, VectorTable)
        return {name: TRANSFORMS[state["kind"]].from_dict(state) for name, state in plain.items()}
    except (KeyError, TypeError, ValueError, AttributeError, DataError) as error:
        raise DataError(f"encoders file {path} holds no encoder that is known; train again to write it") from error


def _write_parquet(frame: Any, path: Path) -> None:
    with atomic_path(path) as beside:
        frame.write_parquet(beside)


def _read_parquet(path: Path) -> Any:
    import polars as pl

    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path} is missing or damaged; restore it beside the encoders, or train again") from error
