"""What prepare writes of a sound collection, and what it counts."""

from pathlib import Path

import pytest
from small_collections import (
    CORPUS,
    HEADER,
    QRELS,
    QUERIES,
    ROOT,
    count_words,
    outputs,
    prepare,
    view,
    write,
)

from syntriever import collection_files, params, paths, preparation
from syntriever.collection import Corpus, read_qrels, read_queries


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path, monkeypatch):
    """Outputs are relative to the working directory."""
    monkeypatch.chdir(tmp_path)


def test_a_sound_collection_is_written_by_split():
    """Passages in Arrow, queries and judgements of each split in files of their own."""
    write()
    metrics = prepare()
    corpus = Corpus.open(paths.CORPUS)
    assert corpus.ids(range(6)) == [f"p{i}" for i in range(6)]
    assert corpus.texts(4) == ["Title 4 Text of passage 4."]
    assert [q.query_id for q in read_queries(paths.queries("train"))] == ["q0", "q1"]
    assert read_queries(paths.queries("test")) == [("q3", "where is number 3 ddddd")]
    assert read_qrels(paths.qrels("train")) == {"q0": {"p0": 1}, "q1": {"p1": 1, "p2": 2}}
    assert read_qrels(paths.qrels("dev")) == {"q2": {"p3": 1, "p0": 0}}
    assert metrics == {
        "passages": 6,
        "blank_passages": 0,
        "duplicate_passages": 0,
        "passages_over_limit": 0.0,
        "queries_over_limit": 0.0,
        "queries_train": 2,
        "queries_dev": 1,
        "queries_test": 1,
        "qrels_train": 3,
        "qrels_dev": 2,
        "qrels_test": 1,
        "integer_ids": 0,
        "doubled_judgements": 0,
        "queries_without_labels": 2,
        "queries_in_two_splits": 0,
        "passages_in_two_splits": 0,
        "queries_near_equal": 0,
    }
    assert preparation.warnings(metrics) == ["queries in no qrels file: 2; left out"]


def test_the_same_collection_gives_the_same_bytes():
    """Twice in a row, over what stood there before."""
    write()
    prepare()
    first = outputs()
    prepare()
    assert outputs() == first
    assert [Path(name).name for name in first if "qrels" in name] == [
        "dev.tsv",
        "test.tsv",
        "train.tsv",
    ]


def test_a_split_that_does_not_exist_is_an_empty_file():
    """Later stages open all three splits, always."""
    write(dev=None)
    preparation.prepare(
        view(dev_share=0.0).model_copy(update={"evaluate": params.Splits(splits=["test"])}),
        count_words,
    )
    assert paths.queries("dev").read_text() == ""
    assert paths.qrels("dev").read_text() == HEADER


def test_passages_stream_through_many_batches(monkeypatch):
    """The batch's size changes nothing that a reader sees, blanks at its borders included."""
    corpus = [*CORPUS, {"_id": "blank", "text": " "}, {"_id": "last", "text": "the last one"}]
    write(corpus=corpus)
    whole = prepare()
    ids = Corpus.open(paths.CORPUS).ids(range(7))
    for size in (1, 2, 3, 7):
        for module in (collection_files, preparation):
            monkeypatch.setattr(module, "BATCH", size)
        assert prepare() == whole
        assert (
            Corpus.open(paths.CORPUS).ids(range(7)) == ids == [*(f"p{i}" for i in range(6)), "last"]
        )


def test_windows_line_ends_and_byte_order_marks_are_tolerated():
    """A collection that went through an editor on Windows is the same collection."""
    write()
    prepare()
    plain = outputs()
    for file in Path("collection").rglob("*.*"):
        if file.is_file():
            file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    prepare()
    assert outputs() == plain


def test_a_qrels_file_needs_no_header():
    """The first line counts as a judgement where it is one, byte order mark or not."""
    write(test="\ufeffq3\tp4\t1\n\nq4\tp5\t1\n")
    assert prepare()["qrels_test"] == 2
    assert read_qrels(paths.qrels("test")) == {"q3": {"p4": 1}, "q4": {"p5": 1}}


def test_integer_ids_are_their_decimal_text():
    """7 in the corpus matches '7' in qrels; '007' is another passage; both kinds are counted."""
    corpus = [*CORPUS, {"_id": 7, "text": "seven"}, {"_id": "007", "text": "agent"}]
    queries = [*QUERIES, {"_id": 12, "text": "which one"}]
    write(corpus=corpus, queries=queries, test=[("12", "7", 1)])
    metrics = prepare()
    assert metrics["integer_ids"] == 2
    assert read_qrels(paths.qrels("test")) == {"12": {"7": 1}}
    assert Corpus.open(paths.CORPUS).rows(["7", "007"]) == {"7": 6, "007": 7}
    assert any("numbers: 2" in warning for warning in preparation.warnings(metrics))


def test_no_title_is_an_empty_title():
    """null, absent and '' are the same: no leading space, no 'None'."""
    extra = [
        {"_id": "null", "title": None, "text": "same text"},
        {"_id": "absent", "text": "same text"},
        {"_id": "empty", "title": "", "text": "same text"},
    ]
    write(corpus=[*CORPUS, *extra])
    assert prepare()["duplicate_passages"] == 2
    assert Corpus.open(paths.CORPUS).texts([6, 7, 8]) == ["same text"] * 3


def test_blank_passages_are_left_out_and_counted():
    """Text '', blank or null without title is never ranked; with a title it is a passage."""
    extra = [
        {"_id": "b1", "title": "", "text": ""},
        {"_id": "b2", "title": " ", "text": "  \n"},
        {"_id": "b3", "title": None, "text": None},
        {"_id": "t", "title": "Only a title", "text": None},
    ]
    write(corpus=[*extra, *CORPUS], test=[("q3", "b1", 1), ("q3", "p4", 1)])
    metrics = prepare()
    assert (metrics["blank_passages"], metrics["passages"]) == (3, 7)
    assert metrics["duplicate_passages"] == 0
    corpus = Corpus.open(paths.CORPUS)
    assert corpus.rows(["b1", "b2", "b3", "t"]) == {"t": 0}
    assert corpus.texts(0) == ["Only a title"]
    assert read_qrels(paths.qrels("test")) == {"q3": {"b1": 1, "p4": 1}}
    assert any("blank passages: 3" in warning for warning in preparation.warnings(metrics))


def test_a_judgement_that_stands_twice_counts_once():
    """The same grade twice is harmless: counted and warned about."""
    write(test=[("q3", "p4", 1), ("q3", "p5", 0), ("q3", "p4", 1)])
    metrics = prepare()
    assert metrics["doubled_judgements"] == 1
    assert metrics["qrels_test"] == 2
    assert any("stand twice" in warning for warning in preparation.warnings(metrics))


def test_passages_over_the_limit_are_a_share():
    """Six words with the title; the prefix counts too; a passage at the limit is not over it."""
    write(corpus=[*CORPUS, {"_id": "short", "text": "short"}, {"_id": "s2", "text": "shorter"}])
    assert prepare(max_length=6)["passages_over_limit"] == 0
    metrics = prepare(max_length=6, prefix="passage: ")
    assert metrics["passages_over_limit"] == 6 / 8
    assert any("get cut: 75.0%" in warning for warning in preparation.warnings(metrics))


def test_queries_over_the_limit_are_a_share():
    """What the encoder doesn't see of a query is said too."""
    long, *others = QUERIES
    write(queries=[long | {"text": "one two three four five six seven"}, *others])
    metrics = prepare(max_length=6)
    placed = sum(metrics[f"queries_{split}"] for split in ("train", "dev", "test"))
    assert metrics["queries_over_limit"] == 1 / placed
    assert any(warning.startswith("queries longer") for warning in preparation.warnings(metrics))


def test_duplicate_passages_are_reported():
    """Copies under new ids, also with other white space; the first of them is no copy."""
    text = CORPUS[4]["text"]
    copies = [
        {"_id": "c1", "title": "Title 4", "text": text},
        {"_id": "c2", "title": "", "text": f" Title  4\n{text} "},
        {"_id": "c3", "title": "title 4", "text": text},
        {"_id": "c4", "title": "", "text": text},
    ]
    write(corpus=[*CORPUS, *copies])
    metrics = prepare()
    assert metrics["duplicate_passages"] == 2
    assert metrics["passages"] == 10
    assert any("earlier one: 2" in warning for warning in preparation.warnings(metrics))


def test_test_queries_in_the_training_split_are_reported():
    """The same id never trains; a copy with another id, in other case, is counted."""
    queries = [*QUERIES, {"_id": "copy", "text": QUERIES[3]["text"].upper() + "?"}]
    train = [*QRELS["train"], ("copy", "p5", 1), ("q2", "p5", 1)]
    write(queries=queries, train=train)
    metrics = prepare()
    assert metrics["queries_in_two_splits"] == 1
    assert metrics["queries_near_equal"] == 1
    assert [q.query_id for q in read_queries(paths.queries("train"))] == ["q0", "q1", "copy"]
    assert "q2" not in read_qrels(paths.qrels("train"))
    words = " ".join(preparation.warnings(metrics))
    assert "in more than one split: 1" in words
    assert "70% of their words with a training query: 1" in words


def test_passages_labelled_in_training_and_test_are_reported():
    """A grade of 0 is no label."""
    write(test=[("q3", "p0", 1), ("q3", "p1", 0)], dev=[("q2", "p2", 1)])
    metrics = prepare()
    assert metrics["passages_in_two_splits"] == 2
    assert any("recognition" in warning for warning in preparation.warnings(metrics))


def test_queries_are_counted_apart_from_judgements():
    """As on SciFact, where 809 training queries have 919 judgements."""
    train = [(f"q{i}", f"p{j}", 1) for i in (0, 1, 4) for j in range(3)]
    write(train=train)
    metrics = prepare()
    assert (metrics["queries_train"], metrics["qrels_train"]) == (3, 9)


def test_dev_is_made_of_whole_groups():
    """Without dev.tsv a share becomes dev, on passages that training doesn't label."""
    train = [("q0", "p0", 1), ("q1", "p0", 1), ("q2", "p1", 1), ("q4", "p2", 1)]
    write(train=train, dev=None)
    metrics = prepare(dev_share=0.5)
    dev, rest = read_qrels(paths.qrels("dev")), read_qrels(paths.qrels("train"))
    assert (metrics["queries_train"], metrics["queries_dev"]) == (2, 2)
    assert {"q0", "q1"} in (dev.keys(), rest.keys())
    assert metrics["passages_in_two_splits"] == 0


def test_without_labels_and_train_file_the_training_qrels_are_empty():
    """use_labels: false on a collection that has no training judgements."""
    write(train=None)
    metrics = prepare(use_labels=False)
    assert metrics["queries_train"] == 4
    assert metrics["queries_without_labels"] == 0
    assert paths.qrels("train").read_text() == HEADER


def test_the_embedded_collection_has_the_counts_of_its_datasheet():
    """640 passages and queries; 360, 80 and 200 queries with 361, 80 and 201 judgements."""
    metrics = prepare(path=ROOT / "data" / "collections" / "concepts")
    assert metrics["passages"] == 640
    assert [metrics[f"queries_{name}"] for name in ("train", "dev", "test")] == [360, 80, 200]
    assert [metrics[f"qrels_{name}"] for name in ("train", "dev", "test")] == [361, 80, 201]
    assert metrics["passages_in_two_splits"] == 2
    faults = (
        "blank_passages",
        "duplicate_passages",
        "integer_ids",
        "doubled_judgements",
        "queries_without_labels",
        "queries_in_two_splits",
        "queries_near_equal",
    )
    assert {metrics[name] for name in faults} == {0}
