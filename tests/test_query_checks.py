"""Which written queries are kept, on a corpus and an encoder that can be seen through."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from syntriever import encoder, paths, query_checks
from syntriever.collection import SCHEMA, Corpus
from syntriever.query_checks import Written

# Row 4 copies row 0 but for white space; row 5 is blank.
TEXTS = ["red apple", "green pear", "blue plum", "yellow quince", "red  apple", "  "]


@pytest.fixture
def corpus():
    """Six passages, p0 to p5."""
    ids = [f"p{row}" for row in range(len(TEXTS))]
    return Corpus(pa.table([ids, [""] * len(TEXTS), TEXTS], schema=SCHEMA))


def settings(keep_top=1, hard_negatives=0):
    return SimpleNamespace(
        compute=SimpleNamespace(device="cpu"),
        embed=SimpleNamespace(batch_size=2),
        evaluate=SimpleNamespace(bm25_k1=0.9, bm25_b=0.4),
        write_queries=SimpleNamespace(keep_top=keep_top, hard_negatives=hard_negatives),
    )


def written(*queries):
    """Queries, each (text, row of its passage)."""
    return [
        Written(f"p{row}#claim{i or ''}", text, f"p{row}", "claim", row)
        for i, (text, row) in enumerate(queries)
    ]


@pytest.fixture
def ranking(tmp_path, monkeypatch):
    """Let the encoder rank rows by listed scores: {query: one score a passage}."""

    def ranking(scores):
        monkeypatch.chdir(tmp_path)
        folder = paths.embeddings("untrained")
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "corpus.npy", np.eye(len(TEXTS), dtype=np.float32))
        monkeypatch.setattr(encoder, "load", lambda folder, device: "model")

        def encode(model, batches, kind, compute, batch_size):
            assert (model, kind) == ("model", "query")
            for batch in batches:
                yield np.array([scores[query] for query in batch], np.float32)

        monkeypatch.setattr(encoder, "encode", encode)

    return ranking


def test_a_query_near_a_held_out_one_is_dropped():
    """Over 0.7 of the words of both, in any order and case; being contained is not enough."""
    queries = written(
        ("Does a red apple fall far?", 0), ("FAR: does (a) red apple fall", 1), ("red apple", 2)
    )
    counts = Counter()
    kept = query_checks.without_near_equal(queries, ["does a red apple fall far"], counts)
    assert [one.query for one in kept] == ["red apple"]
    assert counts["near_test"] == 2


def test_a_query_for_two_passages_is_dropped(corpus):
    """It is ambiguous; one for a passage and its copy is not, and its first stays."""
    queries = written(
        ("What is it?", 1),
        ("the apple", 0),
        ("what  is IT?", 2),
        ("The apple", 4),
        ("a pear", 1),
        ("a pear", 1),
    )
    counts = Counter()
    kept = query_checks.without_duplicates(queries, corpus, counts)
    assert [(one.query, one.row) for one in kept] == [("the apple", 0), ("a pear", 1)]
    assert counts["duplicates"] == 4


def test_the_encoder_or_bm25_must_find_the_passage(corpus, ranking):
    """Each alone keeps a query; found by neither it is dropped, and both are counted."""
    ranking({
        "by meaning": [0, 9, 0, 0, 0, 0],
        "the blue one": [9, 0, 0, 0, 0, 0],
        "yellow": [0, 0, 0, 9, 0, 0],
        "lost": [9, 0, 0, 0, 0, 0],
    })  # fmt: skip
    queries = written(("by meaning", 1), ("the blue one", 2), ("yellow", 3), ("lost", 1))
    counts = Counter()
    kept = query_checks.find(queries, corpus, settings(), counts)
    assert [one["query"] for one in kept] == ["by meaning", "the blue one", "yellow"]
    assert counts == {"found_by_encoder": 2, "found_by_bm25": 2}
    assert kept[0] == {
        "query_id": "p1#claim",
        "query": "by meaning",
        "passage_id": "p1",
        "kind": "claim",
        "hard_negatives": [],
    }


def test_a_passage_without_a_common_word_is_not_found_by_bm25(corpus, ranking):
    """With all scores 0 BM25 ranks by place: the first passages would always be found."""
    ranking({"nothing": [0, 0, 0, 0, 0, 9]})
    counts = Counter()
    assert query_checks.find(written(("nothing", 0)), corpus, settings(1), counts) == []
    assert counts["found_by_bm25"] == 0


@pytest.mark.parametrize(("keep_top", "kept"), [(2, 0), (3, 1)])
def test_keep_top_is_the_lowest_rank(corpus, ranking, keep_top, kept):
    """The passage of rank 3 is found from keep_top 3 on."""
    ranking({"hm": [0, 7, 8, 9, 0, 0]})
    assert len(query_checks.find(written(("hm", 1)), corpus, settings(keep_top), Counter())) == kept


def test_a_copy_of_the_passage_counts_as_found(corpus, ranking):
    """The text is the same, so that neither is wrong."""
    ranking({"hm": [9, 0, 0, 0, 0, 0]})
    (kept,) = query_checks.find(written(("hm", 4)), corpus, settings(), Counter())
    assert kept["passage_id"] == "p4"


def test_hard_negatives_are_the_best_of_the_others(corpus, ranking):
    """Best first, without its own text, copies and blank passages; fewer where there are fewer."""
    ranking({"hm": [9, 5, 6, 7, 8, 10]})
    (kept,) = query_checks.find(written(("hm", 0)), corpus, settings(6, 2), Counter())
    assert kept["hard_negatives"] == ["p3", "p2"]
    (kept,) = query_checks.find(written(("hm", 2)), corpus, settings(None, 9), Counter())
    assert kept["hard_negatives"] == ["p0", "p3", "p1"]


def test_without_keep_top_all_are_kept_and_nothing_is_encoded(corpus, ranking, monkeypatch):
    """No encoder is loaded where nobody needs its ranking."""
    ranking({})
    monkeypatch.setattr(encoder, "load", None)
    counts = Counter()
    kept = query_checks.find(written(("lost", 1), ("x", 2)), corpus, settings(None), counts)
    assert [one["query"] for one in kept] == ["lost", "x"] and not counts


def test_many_queries_are_ranked_in_parts(corpus, ranking, monkeypatch):
    """The parts give what one gives."""
    scores = {f"q{i}": np.eye(6)[i % 4] for i in range(11)}
    ranking(scores)
    queries = written(*((query, i % 3) for i, query in enumerate(scores)))
    whole, counts = Counter(), Counter()
    expected = query_checks.find(queries, corpus, settings(1, 2), whole)
    monkeypatch.setattr(query_checks, "AT_ONCE", 4)
    monkeypatch.setattr(query_checks, "BATCH", 3)
    assert query_checks.find(queries, corpus, settings(1, 2), counts) == expected
    assert counts == whole and 0 < len(expected) < 11
