"""Search is exact, and equal scores have one order everywhere."""

import math

import numpy as np
import pytest

from syntriever.errors import SyntrieverError
from syntriever.search import BM25, strictly_falling, top_k


def vectors(count, seed, dimensions=16):
    raw = np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


@pytest.mark.parametrize("slice_size", [1, 7, 50, 1000])
@pytest.mark.parametrize("k", [1, 10, 50])
def test_slices_find_what_a_full_sort_finds(slice_size, k):
    """Merging slices gives the same passages as sorting all scores."""
    queries, corpus = vectors(9, 0), vectors(50, 1)
    scores, rows = top_k(queries, corpus, k, slice_size)
    every = queries @ corpus.T
    expected = np.argsort(-every, axis=1, kind="stable")[:, :k]
    assert (rows == expected).all()
    assert np.allclose(scores, np.take_along_axis(every, expected, 1), atol=1e-6)


def test_k_is_capped_at_the_corpus():
    """No id -1 and no padding where K exceeds the corpus."""
    scores, rows = top_k(vectors(2, 0), vectors(3, 1), 10)
    assert scores.shape == rows.shape == (2, 3)
    assert sorted(rows[0]) == [0, 1, 2]


def test_equal_scores_come_in_corpus_order():
    """Copies of a passage rank in the order of the corpus, across slices too."""
    corpus = np.repeat(vectors(1, 3), 5, axis=0)
    for slice_size in (2, 100):
        _, rows = top_k(vectors(1, 4), corpus, 3, slice_size)
        assert rows.tolist() == [[0, 1, 2]]


def test_copies_score_alike_wherever_they_stand():
    """However many queries and passages go into one matrix product, and on either side of k."""
    corpus = vectors(2000, 7, 768)
    copies = np.sort(np.random.default_rng(8).choice(2000, 60, replace=False))
    corpus[copies] = corpus[copies[0]]
    queries = np.concatenate([corpus[copies[:1]], vectors(199, 9, 768) + 3 * corpus[copies[:1]]])
    for k in (5, 50):
        scores, rows = top_k(queries, corpus, k)
        assert (rows == copies[:k]).all() and (scores == scores[:, :1]).all()
        alone = top_k(queries[7:8], corpus, k, slice_size=500)
        assert (alone[0] == scores[7]).all() and (alone[1] == rows[7]).all()


def test_memory_maps_and_other_types(tmp_path):
    """Memory maps, half precision and strided arrays give the same answer."""
    corpus = vectors(20, 5)
    np.save(tmp_path / "corpus.npy", corpus)
    mapped = np.load(tmp_path / "corpus.npy", mmap_mode="r")
    expected = top_k(vectors(3, 6), corpus, 4)[1]
    assert (top_k(vectors(3, 6), mapped, 4)[1] == expected).all()
    assert (top_k(vectors(3, 6)[::-1], mapped, 4)[1] == expected[::-1]).all()
    half = corpus.astype(np.float16)
    assert top_k(vectors(3, 6), half, 4)[1].shape == (3, 4)


def test_two_encoders_vectors_do_not_fit():
    """FAISS would end in an assertion."""
    with pytest.raises(SyntrieverError, match=r"have 3 dimensions, the passages' 4"):
        top_k(np.ones((2, 3), np.float32), np.ones((5, 4), np.float32), 2)


def test_no_queries():
    """An empty split has an empty answer."""
    scores, rows = top_k(np.zeros((0, 16), np.float32), vectors(5, 0), 3)
    assert scores.shape == rows.shape == (0, 3)


def test_scores_fall_strictly():
    """Equal scores are set apart by the smallest steps, order and unequal scores kept."""
    scores = np.array([[3, 3, 3, 1], [4, 3, 2, 1]], np.float32)
    fallen = strictly_falling(scores)
    assert (np.diff(fallen, axis=1) < 0).all()
    assert np.allclose(fallen, scores, atol=1e-5)
    assert (fallen[1] == scores[1]).all()


def test_bm25_is_lucenes_formula():
    """idf * tf / (tf + k1 (1 - b + b length / mean length)), as Lucene computes it."""
    texts = ["cat dog", "cat cat bird", "fish"]
    index = BM25(iter([texts[:2], texts[2:]]), k1=0.9, b=0.4)
    scores, rows = index.top_k(["cats"], 3)
    mean = (2 + 3 + 1) / 3
    idf = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))

    def expected(tf, length):
        return idf * tf / (tf + 0.9 * (1 - 0.4 + 0.4 * length / mean))

    assert rows.tolist() == [[1, 0, 2]]
    assert scores[0] == pytest.approx([expected(2, 3), expected(1, 2), 0], rel=1e-5)


def test_bm25_without_known_words():
    """A query of unknown words, or of stop words alone, scores nothing."""
    index = BM25(iter([["cat", "dog"]]), k1=0.9, b=0.4)
    scores, _ = index.top_k(["zebra", "the of"], 2)
    assert (scores == 0).all()


def test_bm25_of_passages_without_words():
    """They are found by no query: not by one without words either."""
    index = BM25(iter([["the", "bread dough", "。", "of a"]]), k1=0.9, b=0.4)
    scores, rows = index.top_k(["the", "", "!", "bread"], 4)
    assert (scores[:3] == 0).all()
    assert scores[3, 0] > 0 and (scores[3, 1:] == 0).all() and rows[3, 0] == 1
    nothing = BM25(iter([["the", "of a"]]), k1=0.9, b=0.4)
    assert (nothing.top_k(["the", "bread"], 2)[0] == 0).all()
