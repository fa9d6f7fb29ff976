"""Faults that people reported of tools like this one, where no other file is the place for them."""

import subprocess
import sys

import pytest
from project import ROOT

from syntriever import evaluation

TALKATIVE = """
import stages, typer


@stages.command
def talk() -> None:
    \"\"\"Print more than a pipe holds.\"\"\"
    for number in range(20_000):
        typer.echo(number)


talk()
"""


def test_any_stage_may_be_piped_into_head(tmp_path):
    """It ends without a word about the closed pipe, least of all about the disk."""
    (tmp_path / "talk.py").write_text(TALKATIVE)
    shown = subprocess.run(
        ["sh", "-c", f"{sys.executable} talk.py | head -1"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
    )
    assert shown.stdout == "0\n" and shown.stderr == ""


def test_a_label_on_a_long_document_keeps_recall_below_one():
    """Its passages are relevant one by one: finding ten of thirty is a third."""
    passages = [f"long.md#{number}" for number in range(1, 31)]
    split = evaluation.Split("test", ["q"], ["?"], {"q": dict.fromkeys(passages, 1)}, ["q"], ["q"])
    ranking = [(passage, 30.0 - rank) for rank, passage in enumerate(passages)]
    measured = evaluation.score({"q": ranking}, split).loc["q"]
    assert measured["recall_at_10"] == pytest.approx(1 / 3) and measured["recall_at_100"] == 1
    assert measured.max() == 1
