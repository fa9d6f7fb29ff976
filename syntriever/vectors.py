"""The vectors that `embed` wrote, memory-mapped. Light: nothing here loads an encoder."""

from pathlib import Path

import numpy as np

from syntriever.errors import SyntrieverError
from syntriever.files import missing

_AT_ONCE = 65_536


def read_vectors(file: Path, rows: int) -> np.ndarray:
    """Map one file of vectors into memory, (rows, dimensions) float32.

    Args:
        file: a .npy file of the stage `embed`.
        rows: how many vectors it must hold: one a passage or query.

    Raises:
        SyntrieverError: it is missing, is no .npy file, has another number of rows, or holds values
            that are not finite, or not float32.
    """
    try:
        vectors = np.load(file, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise missing(file) from None
    except (ValueError, EOFError) as error:
        raise SyntrieverError(f"{file} holds no vectors ({error}). Run `embed` again.") from None
    if vectors.ndim != 2 or len(vectors) != rows or vectors.dtype != np.float32:
        raise SyntrieverError(
            f"{file} has shape {vectors.shape} of {vectors.dtype}, but {rows} vectors of float32 "
            "are expected. Run `embed` again."
        )
    for start in range(0, rows, _AT_ONCE):
        if not np.isfinite(vectors[start : start + _AT_ONCE]).all():
            raise SyntrieverError(f"{file} holds values that are not finite. Run `embed` again.")
    return vectors
