"""Vectors are checked before anything is ranked by them."""

import numpy as np
import pytest

from syntriever.errors import SyntrieverError
from syntriever.vectors import read_vectors


def test_vectors_must_fit(tmp_path):
    """Missing, broken, stale and non-finite vectors are named; whole ones are mapped, not read."""
    path = tmp_path / "train.npy"
    with pytest.raises(SyntrieverError, match="does not exist"):
        read_vectors(path, 3)
    path.write_bytes(b"no array")
    with pytest.raises(SyntrieverError, match="holds no vectors"):
        read_vectors(path, 3)
    np.save(path, np.zeros((2, 4), np.float32))
    with pytest.raises(
        SyntrieverError, match=r"shape \(2, 4\) of float32, but 3 vectors of float32 are expected"
    ):
        read_vectors(path, 3)
    assert isinstance(read_vectors(path, 2), np.memmap)
    np.save(path, np.full((3, 4), "text"))
    with pytest.raises(SyntrieverError, match="3 vectors of float32 are expected"):
        read_vectors(path, 3)
    np.save(path, np.full((2, 4), np.inf, np.float32))
    with pytest.raises(SyntrieverError, match="not finite"):
        read_vectors(path, 2)
