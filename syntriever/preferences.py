"""Stage 2's data: pairs of retrieved passages, and which one the teacher prefers."""

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from syntriever import prompts, search
from syntriever.collection import Corpus, Query, text_key
from syntriever.errors import SyntrieverError
from syntriever.teacher.base import Request, Teacher

# Passages retrieved beyond K, to stand in for copies of better ranked ones.
SPARE = 16

Qrels = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Sampling:
    """Which pairs are compared: `pairs` of the `top_k` passages (None: all), drawn by `seed`."""

    top_k: int
    pairs: int | None
    seed: int


@dataclass(frozen=True)
class Passage:
    """A retrieved passage; `labelled` if its text is one that the judgements call relevant."""

    passage_id: str
    text: str
    labelled: bool


@dataclass(frozen=True)
class Pair:
    """Two passages for one query, in the order in which the teacher sees them."""

    query: Query
    passage_1: Passage
    passage_2: Passage


def retrieve(queries: np.ndarray, corpus: np.ndarray, top_k: int) -> np.ndarray:
    """Return the rows of the best passages of each query, (queries, at least top_k) int64.

    Args:
        queries: (queries, dimensions) float32.
        corpus: (passages, dimensions) float32.
        top_k: K; some more are retrieved, so that copies can be passed over.

    Raises:
        SyntrieverError: the corpus holds fewer than K passages.
    """
    if top_k > len(corpus):
        raise SyntrieverError(
            f"mine_pairs.top_k: {top_k} is more than the {len(corpus)} passages of the corpus. "
            "Set it lower."
        )
    return search.top_k(queries, corpus, min(top_k + SPARE, len(corpus)))[1]


def sample_pairs(k: int, n: int | None, seed: int, query_id: str) -> list[tuple[int, int]]:
    """Return `n` distinct pairs (better rank, worse rank) of the ranks 0 to k - 1, sorted.

    All k (k - 1) / 2 pairs where `n` is None or no smaller than that. Which ones are drawn depends
    on seed and query only, on every machine.

    >>> sample_pairs(3, None, seed=0, query_id="q1")
    [(0, 1), (0, 2), (1, 2)]
    """
    every = list(itertools.combinations(range(k), 2))
    if n is None or n >= len(every):
        return every
    return sorted(sorted(every, key=lambda pair: _hash(seed, query_id, *pair))[:n])


def compare(
    queries: Sequence[Query],
    rows: np.ndarray,
    corpus: Corpus,
    teacher: Teacher,
    sampling: Sampling,
    qrels: Qrels | None,
    counts: Counter[str],
) -> Iterator[dict]:
    """Yield one comparison a pair, in the order of the queries and of the pairs' ranks.

    A record holds query_id, query, passage_1 and passage_2 (ids, in the order shown), answer (1, 2
    or None where there is no readable one) and the ids preferred and rejected (both None then).

    Args:
        queries: the training queries.
        rows: (queries, retrieved) the corpus rows of each query's best passages, best first.
        corpus: where these passages' texts are.
        teacher: whom to ask.
        sampling: which pairs.
        qrels: the training judgements, for `summary` only; None where labels are not used.
        counts: filled on the way; see `summary`.

    Raises:
        SyntrieverError: the prompt is missing or malformed, or the teacher cannot go on.
    """
    template = prompts.load("compare")
    pairs, to_ask = itertools.tee(_pairs(queries, rows, corpus, sampling, qrels or {}, counts))
    answers = teacher.answer(_request(pair, template) for pair in to_ask)
    for pair, answer in zip(pairs, answers, strict=True):
        choice = prompts.read_choice(answer.text)
        counts["answered"] += answer.text is not None
        _count(pair, choice, counts)
        yield _comparison(pair, choice)


def summary(counts: Counter[str]) -> dict:
    """Return the metrics of `compare`, from the counts that it filled.

    queries; retrieved (passages compared, summed over queries: K each, or fewer where copies left
    fewer); pairs_asked; answered (pairs for which text came back); undecided (pairs without a
    readable answer, the unanswered among them); labelled_wins (share of the decided pairs of a
    labelled and an unlabelled passage that the labelled one won; None if there are none, as where
    labels are not used).
    """
    names = ("queries", "retrieved", "pairs_asked", "answered", "undecided")
    mixed = counts["mixed_pairs"]
    share = counts["labelled_wins"] / mixed if mixed else None
    return {name: counts[name] for name in names} | {"labelled_wins": share}


def _pairs(
    queries: Sequence[Query],
    rows: np.ndarray,
    corpus: Corpus,
    sampling: Sampling,
    qrels: Qrels,
    counts: Counter[str],
) -> Iterator[Pair]:
    labelled_rows = corpus.rows({one for grades in qrels.values() for one in _relevant(grades)})
    for query, best in zip(queries, rows, strict=True):
        relevant = _relevant(qrels.get(query.query_id, {}))
        own = [labelled_rows[one] for one in relevant if one in labelled_rows]
        labelled = {text_key(text) for text in corpus.texts(own)}
        passages = _distinct(best, corpus, labelled)[: sampling.top_k]
        ranks = sample_pairs(len(passages), sampling.pairs, sampling.seed, query.query_id)
        counts["queries"] += 1
        counts["retrieved"] += len(passages)
        counts["pairs_asked"] += len(ranks)
        for better, worse in ranks:
            yield _shown(query, passages[better], passages[worse], sampling.seed)


def _relevant(grades: Mapping[str, int]) -> list[str]:
    return [passage_id for passage_id, grade in grades.items() if grade >= 1]


def _distinct(rows: np.ndarray, corpus: Corpus, labelled: set[str]) -> list[Passage]:
    """The passages of these rows without blank ones and without copies of better ranked ones.

    A copy must not lose against its own text, and would be asked about twice.
    """
    passages: dict[str, Passage] = {}
    for passage_id, text in zip(corpus.ids(rows), corpus.texts(rows), strict=True):
        key = text_key(text)
        if key and key not in passages:
            passages[key] = Passage(passage_id, text, key in labelled)
    return list(passages.values())


def _shown(query: Query, better: Passage, worse: Passage, seed: int) -> Pair:
    """Half of the better ranked passages are shown first, so that a teacher's liking for one
    position does not become a liking for the retriever's own ranking."""
    ids = sorted((better.passage_id, worse.passage_id))
    swap = _hash(seed, query.query_id, *ids)[0] % 2 == 1
    first, second = (worse, better) if swap else (better, worse)
    return Pair(query, first, second)


def _request(pair: Pair, template: prompts.Template) -> Request:
    messages = prompts.messages(
        template,
        query=pair.query.query,
        passage_1=pair.passage_1.text,
        passage_2=pair.passage_2.text,
    )
    ids = (pair.passage_1.passage_id, pair.passage_2.passage_id)
    return Request(template.name, messages, pair.query.query_id, pair.query.query, ids)


def _count(pair: Pair, choice: int | None, counts: Counter[str]) -> None:
    if choice is None:
        counts["undecided"] += 1
    elif pair.passage_1.labelled != pair.passage_2.labelled:
        winner = pair.passage_1 if choice == 1 else pair.passage_2
        counts["mixed_pairs"] += 1
        counts["labelled_wins"] += winner.labelled


def _comparison(pair: Pair, choice: int | None) -> dict:
    ids = (pair.passage_1.passage_id, pair.passage_2.passage_id)
    preferred, rejected = {1: ids, 2: ids[::-1], None: (None, None)}[choice]
    return {
        "query_id": pair.query.query_id,
        "query": pair.query.query,
        "passage_1": ids[0],
        "passage_2": ids[1],
        "answer": choice,
        "preferred": preferred,
        "rejected": rejected,
    }


def _hash(*parts: object) -> bytes:
    """A hash that is the same on every machine and in every run, unlike Python's own."""
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8")).digest()
