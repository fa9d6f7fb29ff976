"""Files are written whole, or not at all."""

import pytest

from syntriever.errors import SyntrieverError
from syntriever.files import replacing


def test_a_folder_is_not_replaced_by_a_file(tmp_path):
    """Whatever it holds would be gone."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here/kept.txt").write_text("mine")
    with (
        pytest.raises(SyntrieverError, match="here is a folder"),
        replacing(tmp_path / "here") as temporary,
    ):
        temporary.write_text("new")
    assert [file.name for file in tmp_path.rglob("*")] == ["here", "kept.txt"]
