"""Exact dense search (FAISS) and BM25.

One rule for equal scores, everywhere: the passage that stands first in the corpus file comes first.
Scores of a ranking are then made strictly falling (`strictly_falling`), so that every tool that
sorts the run file again, trec_eval among them, finds the same order whatever the ids are.
"""

from collections.abc import Iterator

import bm25s
import faiss
import numpy as np
import Stemmer
from tqdm import tqdm

from syntriever.errors import SyntrieverError

# Passages searched at once: bounds the memory that slices of a memory map take.
SLICE = 65_536
# Slices from which on a search takes long enough for a progress bar.
SHOWN_SLICES = 4

# Passages found beyond k and scored again, as long as those at the end may be equal.
SPARE = 16
# By how much the score of a large matrix product may be off.
NOISE = 1e-5


def top_k(
    queries: np.ndarray, corpus: np.ndarray, k: int, slice_size: int = SLICE, spare: int = SPARE
) -> tuple[np.ndarray, np.ndarray]:
    """Return the `k` passages with the largest inner product, exactly, slice by slice.

    Args:
        queries: (queries, dimensions) float32.
        corpus: (passages, dimensions) float32, usually a memory map.
        k: capped at the number of passages.
        slice_size: passages searched at once.
        spare: passages found beyond k at first; more where the last of them may equal the k-th.

    Returns:
        scores (queries, k) float32 and rows (queries, k) int64, best first; equal scores by row.
        A score depends on its query and passage alone.

    Raises:
        SyntrieverError: queries and corpus have other numbers of dimensions.
    """
    if queries.shape[1] != corpus.shape[1]:
        raise SyntrieverError(
            f"the queries' vectors have {queries.shape[1]} dimensions, the passages' "
            f"{corpus.shape[1]}: two encoders made them. Run `embed` again."
        )
    k = min(k, len(corpus))
    most = min(k + spare, len(corpus))
    scores = np.empty((len(queries), 0), np.float32)
    rows = np.empty((len(queries), 0), np.int64)
    if len(queries) == 0:
        return np.empty((0, k), np.float32), np.empty((0, k), np.int64)
    queries = np.ascontiguousarray(queries, np.float32)
    slices = range(0, len(corpus), slice_size)
    for start in tqdm(slices, desc="search", unit="slice", disable=len(slices) < SHOWN_SLICES):
        part = np.ascontiguousarray(corpus[start : start + slice_size], np.float32)
        part_scores, part_rows = faiss.knn(
            queries, part, min(most, len(part)), metric=faiss.METRIC_INNER_PRODUCT
        )
        scores = np.concatenate([scores, part_scores], axis=1)
        rows = np.concatenate([rows, part_rows + start], axis=1)
        scores, rows = _best(scores, rows, most)
    scores, rows = _best(_scored_alone(queries, corpus, rows), rows, most)
    last = scores[:, -1]
    scores, rows = scores[:, :k], rows[:, :k]
    unsure = np.flatnonzero(scores[:, -1] - last < NOISE) if most < len(corpus) else []
    if len(unsure):
        scores[unsure], rows[unsure] = top_k(
            queries[unsure], corpus, k, slice_size=slice_size, spare=8 * spare
        )
    return scores, rows


def _scored_alone(queries: np.ndarray, corpus: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Score these rows of the corpus once more, one by one.

    A product of large matrices gives equal vectors scores that differ in the last digit, by their
    places in it, so that copies would not rank in the order of the corpus.
    """
    scores = np.empty(rows.shape, np.float32)
    for i, best in enumerate(rows):
        scores[i] = (corpus[best].astype(np.float64) * queries[i].astype(np.float64)).sum(axis=1)
    return scores


def _best(scores: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)


def strictly_falling(scores: np.ndarray) -> np.ndarray:
    """Lower equal scores of each ranking by the smallest float32 steps that keep the given order.

    Args:
        scores: (queries, k) float32, each row already sorted, best first.
    """
    scores = scores.astype(np.float32, copy=True)
    lowest = np.float32(-np.inf)
    for rank in range(1, scores.shape[1]):
        below = np.nextafter(scores[:, rank - 1], lowest)
        scores[:, rank] = np.minimum(scores[:, rank], below)
    return scores


class BM25:
    """Lucene's BM25 with English stemming and stop words (bm25s)."""

    def __init__(self, batches: Iterator[list[str]], k1: float, b: float) -> None:
        """Index the passages of `batches`; their token ids are held in memory, as Python's numbers
        while it is made."""
        self._tokenizer = bm25s.tokenization.Tokenizer(
            stopwords="english", stemmer=Stemmer.Stemmer("english")
        )
        tokens: list[list[int]] = []
        for batch in batches:
            tokens += self._tokenizer.tokenize(batch, update_vocab=True, show_progress=False)
        self._passages = len(tokens)
        self._index = bm25s.BM25(method="lucene", k1=k1, b=b)
        self._index.index((tokens, self._tokenizer.get_vocab_dict()), show_progress=False)

    def top_k(self, queries: list[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return scores (queries, k) float32 and rows (queries, k), best first; equal ones by row.

        A passage that shares no word with the query scores 0.
        """
        k = min(k, self._passages)
        # allow_empty would give a query without words the mark of passages without words
        ids = self._tokenizer.tokenize(
            queries, update_vocab=False, allow_empty=False, show_progress=False
        )
        scores = np.zeros((len(queries), k), np.float32)
        rows = np.zeros((len(queries), k), np.int64)
        for i, query in enumerate(ids):
            every = self._index.get_scores(query) if query else np.zeros(self._passages, np.float32)
            rows[i] = np.argsort(-every, kind="stable")[:k]
            scores[i] = every[rows[i]]
        return scores, rows
