"""Who made the test queries: said beside every score, and no training query is written from their
passages."""

import json

import numpy as np
import pytest
from project import run_stage

from syntriever import bundle_card, paths, query_writing, results
from syntriever.collection import Corpus, Origin, read_origin
from syntriever.errors import SyntrieverError
from syntriever.files import read_json, write_json
from syntriever.params import WriteQueries
from syntriever.report import build, collect

SAID = {
    "results": lambda: results.render("test"),
    "report": lambda: build(collect()),
    "card": lambda: bundle_card.of_model(bundle_card.gather("stage2")),
}


def mark(made_by, *held_out):
    write_json(paths.ORIGIN, {"test_queries": made_by, "held_out": list(held_out)})


@pytest.mark.parametrize("place", SAID)
def test_scores_on_written_queries_say_so(project, place):
    """Where the teacher wrote the test queries, it stands beside the scores, and only there."""
    assert read_json(paths.ORIGIN) == {"test_queries": "labelled", "held_out": []}
    words = (
        "that the teacher wrote, not people",
        "by the teacher, not by people",
        "wrote these queries",
    )
    assert not any(word in SAID[place]() for word in words)
    mark("written")
    assert any(word in SAID[place]() for word in words)


def test_prepare_carries_the_mark_on(project):
    """collection.json of the collection becomes a small file that later stages depend on."""
    ids = [json.loads(line)["_id"] for line in (project / "collection/corpus.jsonl").open()]
    write_json(
        project / "collection/collection.json",
        {"test_queries": "written", "held_out": ids[2:0:-1], "encodings": {"utf-8": 3}},
    )
    run_stage("prepare")
    assert read_json(paths.ORIGIN) == {"test_queries": "written", "held_out": sorted(ids[1:3])}


@pytest.mark.parametrize(
    "record", [{}, {"test_queries": "guessed"}, {"test_queries": "written", "held_out": 3}]
)
def test_a_broken_mark_is_refused(tmp_path, record):
    """It names the file and what it must say."""
    write_json(tmp_path / "collection.json", record)
    with pytest.raises(SyntrieverError, match=r"collection\.json.*test_queries"):
        read_origin(tmp_path / "collection.json")


def test_a_collection_may_have_none_but_not_what_prepare_wrote(tmp_path):
    """Without origin.json passages that are held out would train."""
    assert read_origin(tmp_path / "collection.json") == Origin("labelled", frozenset())
    with pytest.raises(SyntrieverError, match=r"origin\.json does not exist"):
        read_origin(tmp_path / "origin.json")


@pytest.mark.parametrize("passages", [None, 4])
def test_no_query_is_written_from_a_held_out_passage(project, passages):
    """Neither where all passages get queries nor where some are drawn; the draw is the same one
    otherwise."""
    corpus = Corpus.open(paths.CORPUS)
    writing = WriteQueries(
        per_passage=1, kinds=["direct"], passages=passages, keep_top=None, hard_negatives=0
    )
    before = query_writing.choose(corpus, writing)
    held = corpus.ids([int(before[0])])[0]
    after = query_writing.choose(corpus, writing, {held})
    assert before[0] not in after
    assert set(before[1:]) <= set(after)
    assert len(after) == (len(corpus) - 1 if passages is None else 4)
    assert np.all(np.diff(after) > 0)
