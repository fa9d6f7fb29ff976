"""How `init` hands its params on: written into params.yaml, or as options for DVC."""

import shutil
from pathlib import Path

from project import ROOT
from ruamel.yaml import YAML

from syntriever import params
from syntriever.intake import settings


def test_params_are_set_with_their_comments_kept(tmp_path, monkeypatch):
    """Only the lines of the params that change differ, and what is written is valid."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    before = Path("params.yaml").read_text()
    chosen = {
        "collection.path": "data/collections/mine",
        "collection.use_labels": False,
        "evaluate.splits": ["test"],
        "write_queries.per_passage": 7,
        "mine_pairs.written_negatives": 7,
    }
    settings.write(chosen)
    after = Path("params.yaml").read_text()
    lines = list(zip(before.splitlines(), after.splitlines(), strict=True))
    changed = [(old, new) for old, new in lines if old != new]
    assert len(changed) == len(chosen)
    for old, new in changed:
        assert old.partition(":")[0] == new.partition(":")[0]
        assert old.partition("#")[2] == new.partition("#")[2]
    written = params.load_all()
    assert written.collection.path == "data/collections/mine"
    assert written.mine_pairs.written_negatives == 7
    assert YAML(typ="safe").load(after)["evaluate"]["splits"] == ["test"]
