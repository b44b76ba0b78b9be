"""Sets of tokens of several lengths in one array."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deepfm.errors import DataError
from deepfm.model_selection.tokens.dataset_tokens import DatasetTokens


def pad(sets: Sequence[DatasetTokens], length: int | None = None) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Lay token sets side by side, zeros behind the shorter ones.

    Args:
        sets: B of them, of one encoder.
        length: C to pad to; None for the longest set's.

    Returns:
        Tokens `(B, C, F)`, and a mask `(B, C)` that is True for a token.

    Raises:
        DataError: no sets, sets of several encoders or widths, or a length below that of the longest.
    """
    if not sets:
        raise DataError("no token sets to pad; expected one or more")
    unlike = next((each for each in sets if (each.encoder, each.width) != (sets[0].encoder, sets[0].width)), None)
    if unlike is not None:
        raise DataError(
            f"token sets are {sets[0].width} wide by {sets[0].encoder} and {unlike.width} wide by {unlike.encoder}; "
            "expected one encoder for all; make the tokens again"
        )
    longest = max(len(each) for each in sets)
    if length is not None and length < longest:
        raise DataError(f"length = {length} for token sets of up to {longest}; expected {longest} or more")
    tokens = np.zeros((len(sets), length or longest, sets[0].width), np.float32)
    mask = np.zeros(tokens.shape[:2], np.bool_)
    for row, each in enumerate(sets):
        tokens[row, : len(each)] = np.where(each.mask[:, None], each.tokens, 0)
        mask[row, : len(each)] = each.mask
    return tokens, mask
