"""Rankings of free questions over the prepared collection, for people to look at.

The order is that of `syntriever.search`: exact inner product, equal scores by the corpus file.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from syntriever import light_encoder, paths
from syntriever.collection import Corpus
from syntriever.search import top_k
from syntriever.vectors import read_vectors

# Of a passage, so many sentences are compared with the query: the rest is rarely seen by an
# encoder anyway, and one endless passage must not stop the answer.
SENTENCES = 20
# A sentence of more words is cut: tables and lists have no full stop.
_LONGEST = 60
_ENDS = re.compile(r"(?<=[.!?…])\s+(?=[^\W_a-z]|[\"“‘(\[])|(?<=[。！？])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


@dataclass(frozen=True)
class Hit:
    """One passage of a ranking."""

    rank: int
    score: float
    """Cosine similarity of query and passage, rounded to 6 digits."""
    passage_id: str
    title: str
    """The collection's own title, or '' where it has none."""
    text: str
    """The passage without its title."""
    sentence: str
    """The sentence that this encoder finds nearest to the query; '' for a passage without text."""


class Searcher:
    """One system's encoder with its vectors of the corpus."""

    def __init__(self, system: str) -> None:
        """Map vectors and passages into memory and load the encoder.

        Raises:
            SyntrieverError: something is missing, damaged or out of date.
        """
        self.system = system
        light_encoder.check(paths.model(system))
        self._corpus = Corpus.open(paths.CORPUS)
        self._vectors = read_vectors(paths.embeddings(system) / "corpus.npy", len(self._corpus))
        self._encode = light_encoder.load(paths.model(system))

    def search(self, query: str, k: int, by_document: bool = False) -> Iterator[Hit]:
        """Yield the best `k` passages, best first; fewer where the corpus has fewer.

        Args:
            query: the question.
            k: how many.
            by_document: of each document (see `document_of`) its best passage alone.

        Raises:
            SyntrieverError: the vectors are another encoder's.
        """
        vector = self._encode([query], "query")
        light_encoder.check_vectors(self.system, self._vectors, vector.shape[1])
        scores, rows = self._best(vector, k, by_document)
        for rank, (score, row) in enumerate(zip(scores, rows, strict=True), start=1):
            yield self._hit(rank, float(score), int(row), vector[0])

    def _best(self, query: np.ndarray, k: int, by_document: bool) -> tuple[np.ndarray, np.ndarray]:
        """Rank deeper until `k` documents are found: one may fill any list with its passages."""
        depth = k
        while True:
            (scores,), (rows,) = top_k(query, self._vectors, depth)
            if not by_document:
                return scores, rows
            documents: dict[str, int] = {}
            for place, passage_id in enumerate(self._corpus.ids(rows)):
                documents.setdefault(document_of(passage_id), place)
            if len(documents) >= k or len(rows) == len(self._vectors):
                first = list(documents.values())[:k]
                return scores[first], rows[first]
            depth *= 4

    def _hit(self, rank: int, score: float, row: int, query: np.ndarray) -> Hit:
        (passage_id,), (title,) = self._corpus.ids(row), self._corpus.titles(row)
        text = self._corpus.texts(row)[0].removeprefix(title.strip()).strip()
        sentence = self._nearest(sentences(text), query)
        return Hit(rank, round(score, 6), passage_id, plain(title), plain(text), sentence)

    def _nearest(self, candidates: list[str], query: np.ndarray) -> str:
        if len(candidates) < 2:
            return "".join(candidates)
        similar = self._encode(candidates, "document") @ query
        return candidates[int(similar.argmax())]


def document_of(passage_id: str) -> str:
    """Return the document that a passage was cut from by `stages.init`; any other is its own.

    >>> document_of("guide/oven.md#3"), document_of("c0001")
    ('guide/oven.md', 'c0001')
    """
    document, mark, number = passage_id.rpartition("#")
    return document if mark and number.isdecimal() else passage_id


def sentences(text: str) -> list[str]:
    """Return the first sentences of a text, at most SENTENCES.

    Abbreviations make pieces of one or two words; these stay with what follows.

    >>> sentences("Dr. Yeast eats sugar. It dies of heat!")
    ['Dr. Yeast eats sugar.', 'It dies of heat!']
    """
    found, short = [], ""
    for piece in _ENDS.split(text):
        piece = f"{short} {plain(piece)}".strip()
        short = piece if len(piece.split()) < 3 and piece.isascii() else ""
        words = piece.split(" ")
        if piece and not short:
            found += [" ".join(words[i : i + _LONGEST]) for i in range(0, len(words), _LONGEST)]
        if len(found) >= SENTENCES:
            return found[:SENTENCES]
    return [*found, short] if short else found


def plain(text: str) -> str:
    """Return a text on one line, without the control characters that could steer a terminal."""
    return " ".join(_CONTROL.sub(" ", text).split())


def moves(before: list[Hit], after: list[Hit], by_document: bool = False) -> list[str]:
    """Say how far each passage, or document, of `after` has come from its rank in `before`: ↑3, ↓1,
    =, new."""
    name = document_of if by_document else str
    rank = {name(hit.passage_id): hit.rank for hit in before}
    return [_move(rank.get(name(hit.passage_id)), hit.rank) for hit in after]


def _move(before: int | None, after: int) -> str:
    if before is None:
        return "new"
    if before == after:
        return "="
    return f"↑{before - after}" if before > after else f"↓{after - before}"
