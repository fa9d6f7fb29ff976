"""The prepared form of a collection, as stages read it."""

import numpy as np
import pyarrow as pa
import pytest

from syntriever.collection import SCHEMA, Corpus, Query, read_qrels, read_queries
from syntriever.errors import SyntrieverError

PASSAGES = [
    ("a", "Title", "Text of a."),
    ("b", "", "Text of b."),
    ("7", "Only a title", ""),
    ("007", "Agent", "Text of 007."),
    ("e", "", "Text of e."),
]


def write_corpus(path, passages, batch=2):
    """Write an Arrow file of several record batches, as `prepare` does."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, SCHEMA) as writer:
        for start in range(0, len(passages), batch):
            columns = list(zip(*passages[start : start + batch], strict=True))
            writer.write_batch(
                pa.record_batch([pa.array(c, pa.large_string()) for c in columns], schema=SCHEMA)
            )
    return path


@pytest.fixture
def corpus(tmp_path):
    """Five passages in three batches."""
    return Corpus.open(write_corpus(tmp_path / "corpus.arrow", PASSAGES))


def test_texts_put_the_title_first(corpus):
    """A passage's text is its title, a space and its text, with nothing where one is missing."""
    assert corpus.texts([0, 1, 2]) == ["Title Text of a.", "Text of b.", "Only a title"]


@pytest.mark.parametrize(
    ("rows", "ids"),
    [
        (3, ["007"]),
        ([4, 0, 0, 2], ["e", "a", "a", "7"]),
        (np.array([[1], [4]], dtype=np.int32), ["b", "e"]),
        ([], []),
        (range(5), ["a", "b", "7", "007", "e"]),
    ],
)
def test_rows_come_back_in_the_order_asked(corpus, rows, ids):
    """An int, a list, a range and an array are all rows; repeats and batch borders don't matter."""
    assert corpus.ids(rows) == ids
    titles = {passage_id: title for passage_id, title, _ in PASSAGES}
    assert corpus.titles(rows) == [titles[passage_id] for passage_id in ids]


@pytest.mark.parametrize("row", [-1, 5])
def test_a_row_outside_the_corpus_is_refused(corpus, row):
    """FAISS pads with -1: taken as a row it must not become the last passage."""
    with pytest.raises(IndexError, match="from 0 to 4"):
        corpus.texts([0, row])


def test_rows_finds_ids_as_text(corpus):
    """'7' and '007' are two ids; an id that isn't there is left out; the corpus' order is kept."""
    assert corpus.rows(["007", "e", "nobody", "7"]) == {"7": 2, "007": 3, "e": 4}
    assert corpus.rows([]) == {}


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_batches_are_the_whole_corpus_in_order(corpus, size):
    """Slices of any size, each row once."""
    batches = list(corpus.batches(size))
    assert [text for batch in batches for text in batch] == corpus.texts(range(5))
    assert all(len(batch) == size for batch in batches[:-1])
    assert len(corpus) == 5


def test_reading_a_few_passages_takes_little_memory(tmp_path):
    """Only what is asked for is copied out of the memory map, not the column that it stands in."""
    passages = [(str(i), "", "x" * 10_000) for i in range(1_000)]
    corpus = Corpus.open(write_corpus(tmp_path / "corpus.arrow", passages, batch=10))
    before = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(before)
    pa.set_memory_pool(pool)
    try:
        assert len(corpus.texts([3, 990])) == 2
    finally:
        pa.set_memory_pool(before)
    assert 0 < pool.max_memory() < 200_000


def test_missing_and_foreign_files_are_named(tmp_path):
    """What is not there, or is no prepared corpus, is one error with the path."""
    foreign = tmp_path / "corpus.arrow"
    foreign.write_text("not Arrow")
    with pytest.raises(SyntrieverError, match=r"corpus\.arrow is no prepared corpus"):
        Corpus.open(foreign)
    for read in (Corpus.open, read_queries, read_qrels):
        with pytest.raises(SyntrieverError, match="absent does not exist"):
            read(tmp_path / "absent")


def test_queries_and_qrels_keep_the_files_order(tmp_path):
    """Queries are a list, judgements a dictionary by query, both as the lines stand."""
    queries = tmp_path / "train.jsonl"
    queries.write_text(
        '{"query_id": "z", "query": "last letter"}\n{"query_id": "a", "query": "é\\u2028"}\n'
    )
    assert read_queries(queries) == [Query("z", "last letter"), Query("a", "é\u2028")]
    qrels = tmp_path / "train.tsv"
    qrels.write_text("query-id\tcorpus-id\tscore\nz\tp\u20282\t1\na\tp1\t0\nz\tp1\t2\n")
    grades = read_qrels(qrels)
    assert list(grades.items()) == [("z", {"p\u20282": 1, "p1": 2}), ("a", {"p1": 0})]


def test_an_empty_split_has_no_queries_and_no_judgements(tmp_path):
    """A split that doesn't exist is an empty file, or a header alone."""
    (tmp_path / "dev.jsonl").write_text("")
    (tmp_path / "dev.tsv").write_text("query-id\tcorpus-id\tscore\n")
    assert read_queries(tmp_path / "dev.jsonl") == []
    assert read_qrels(tmp_path / "dev.tsv") == {}
