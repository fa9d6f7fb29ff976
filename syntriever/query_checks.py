"""Which written queries are kept: none that a held-out query equals, that fits two passages, or
that does not find its own passage."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from syntriever import params, paths, splits
from syntriever.collection import Corpus, text_key
from syntriever.vectors import read_vectors

NEAR_EQUAL = 0.7

# Passages retrieved beyond those needed, to stand in for copies of better ranked ones.
SPARE = 16

AT_ONCE = 65_536  # queries ranked in one scan of the corpus; bounds the memory of their vectors
BATCH = 2048  # texts encoded, or read, at once


class Written(NamedTuple):
    """A query that the teacher wrote, and the corpus row of the passage that it was written for."""

    query_id: str
    query: str
    passage_id: str
    kind: str
    row: int


def check(
    written: list[Written],
    held_out: list[str],
    corpus: Corpus,
    settings: params.WriteQueriesView,
    counts: Counter[str],
) -> list[dict]:
    """Return the records (`records.WrittenQuery`) of the queries that pass all checks, in order.

    Args:
        written: all that the teacher wrote.
        held_out: the texts of the dev and test queries.
        corpus: where the passages are.
        settings: of the stage.
        counts: filled on the way: near_test, duplicates, found_by_encoder, found_by_bm25.

    Raises:
        SyntrieverError: the untrained encoder or its vectors are needed and missing or damaged.
    """
    unlike = without_near_equal(written, held_out, counts)
    return find(without_duplicates(unlike, corpus, counts), corpus, settings, counts)


def without_near_equal(
    written: list[Written], held_out: list[str], counts: Counter[str]
) -> list[Written]:
    """Drop each query that shares over 0.7 of its words with a held-out one; count near_test.

    The share is of the words of both (Jaccard), as in `prepare`'s report on training queries. Of
    the smaller set alone (containment) it would be too strict: nearly every word of "what is
    entropy?" stands in many a longer query on something else.
    """
    near = {j for _, j in splits.near_equal(held_out, [one.query for one in written], NEAR_EQUAL)}
    counts["near_test"] += len(near)
    return [one for j, one in enumerate(written) if j not in near]


def without_duplicates(
    written: list[Written], corpus: Corpus, counts: Counter[str]
) -> list[Written]:
    """Drop queries that stand more than once, but for case and white space; count duplicates.

    One that was written for two different passages fits both, so that each would be a false
    negative of the other: all are dropped. Of those for one passage, or for copies of it, the first
    is kept.
    """
    places = defaultdict(list)
    for i, one in enumerate(written):
        places[text_key(one.query).casefold()].append(i)
    dropped: set[int] = set()
    for same in places.values():
        if len(same) > 1:
            texts = corpus.texts([written[i].row for i in same])
            different = len({text_key(text) for text in texts}) > 1
            dropped.update(same if different else same[1:])
    counts["duplicates"] += len(dropped)
    return [one for i, one in enumerate(written) if i not in dropped]


def find(
    written: list[Written],
    corpus: Corpus,
    settings: params.WriteQueriesView,
    counts: Counter[str],
) -> list[dict]:
    """Return records of the queries that find their passage: the round trip.

    One is kept where the untrained encoder or BM25 ranks its passage, or a copy of it, among the
    first `keep_top` (None: all are kept). Its hard negatives are the passages that the encoder
    ranks highest, without its own, without copies and blank ones; fewer where copies left fewer.
    Where neither is wanted nothing is encoded.
    """
    writing = settings.write_queries
    wanted = writing.hard_negatives
    depth = max(writing.keep_top or 0, wanted and wanted + 1 + SPARE)
    if not written or not depth:
        return [_record(one, []) for one in written]
    ranked = _Ranked(corpus, settings, depth)
    kept = []
    for start in range(0, len(written), AT_ONCE):
        part = written[start : start + AT_ONCE]
        queries = [one.query for one in part]
        dense = ranked.by_encoder(queries)
        found = [True] * len(part)
        if writing.keep_top:
            by_encoder = _found(part, dense[:, : writing.keep_top], corpus)
            by_bm25 = _found(part, ranked.by_bm25(queries, writing.keep_top), corpus)
            counts["found_by_encoder"] += sum(by_encoder)
            counts["found_by_bm25"] += sum(by_bm25)
            found = [one or other for one, other in zip(by_encoder, by_bm25, strict=True)]
        kept += [
            _record(one, _hard_negatives(one, rows, corpus)[:wanted] if wanted else [])
            for one, rows, is_found in zip(part, dense, found, strict=True)
            if is_found
        ]
    return kept


class _Ranked:
    """What the untrained encoder and BM25 rank first, as corpus rows."""

    def __init__(self, corpus: Corpus, settings: params.WriteQueriesView, depth: int) -> None:
        from syntriever import (
            encoder,
            search,
        )  # late: torch takes seconds that most runs don't need

        self._settings, self._depth = settings, depth
        self._top_k, self._encode = search.top_k, encoder.encode
        self._model = encoder.load(paths.model("untrained"), settings.compute.device)
        self._vectors = read_vectors(paths.embeddings("untrained") / "corpus.npy", len(corpus))
        self._bm25 = None
        if settings.write_queries.keep_top:
            scoring = settings.evaluate
            self._bm25 = search.BM25(corpus.batches(BATCH), scoring.bm25_k1, scoring.bm25_b)

    def by_encoder(self, queries: list[str]) -> np.ndarray:
        """(queries, depth) int64."""
        compute, batch_size = self._settings.compute, self._settings.embed.batch_size
        with tqdm(total=len(queries), desc="encode written queries", unit="text") as bar:
            parts = []
            for part in self._encode(self._model, _batches(queries), "query", compute, batch_size):
                parts.append(part)
                bar.update(len(part))
        return self._top_k(np.concatenate(parts), self._vectors, self._depth)[1]

    def by_bm25(self, queries: list[str], k: int) -> list[np.ndarray]:
        """Up to k rows a query: a passage of score 0 shares no word with it and is not found."""
        scores, rows = self._bm25.top_k(queries, k)
        return [best[score > 0] for score, best in zip(scores, rows, strict=True)]


def _batches(queries: list[str]) -> Iterator[list[str]]:
    return (queries[i : i + BATCH] for i in range(0, len(queries), BATCH))


def _found(written: Sequence[Written], ranked: Iterable[np.ndarray], corpus: Corpus) -> list[bool]:
    return [_finds(one, rows, corpus) for one, rows in zip(written, ranked, strict=True)]


def _finds(one: Written, rows: np.ndarray, corpus: Corpus) -> bool:
    """Tell whether its passage, or a copy of it, is among these rows."""
    if one.row in rows:
        return True
    own, *others = (text_key(text) for text in corpus.texts([one.row, *rows]))
    return own in others


def _hard_negatives(one: Written, rows: np.ndarray, corpus: Corpus) -> list[str]:
    seen = {"", text_key(corpus.texts(one.row)[0])}
    ids = []
    for passage_id, text in zip(corpus.ids(rows), corpus.texts(rows), strict=True):
        key = text_key(text)
        if key not in seen:
            seen.add(key)
            ids.append(passage_id)
    return ids


def _record(one: Written, hard_negatives: list[str]) -> dict:
    return {
        "query_id": one.query_id,
        "query": one.query,
        "passage_id": one.passage_id,
        "kind": one.kind,
        "hard_negatives": hard_negatives,
    }
