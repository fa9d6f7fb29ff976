"""Stage 2's data: pairs of retrieved passages, and which one the teacher prefers."""

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from syntriever import paths, prompts, search
from syntriever.collection import Corpus, Query, is_blank, text_key
from syntriever.conversation import Conversation
from syntriever.errors import SyntrieverError
from syntriever.teacher.base import Request

# Passages retrieved beyond K, to stand in for copies of better ranked ones.
SPARE = 16

Qrels = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Sampling:
    """Which pairs are compared: `pairs` of the `top_k` passages (None: all), drawn by `seed`.

    With `both_orders` each is asked twice, each passage shown first once.
    """

    top_k: int
    pairs: int | None
    seed: int
    both_orders: bool = False


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

    @property
    def swapped(self) -> "Pair":
        """The same two in the other order."""
        return Pair(self.query, self.passage_2, self.passage_1)


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
            "Set it lower, to 2 at least, or add passages."
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


def requests(
    queries: Sequence[Query], rows: np.ndarray, corpus: Corpus, sampling: Sampling
) -> Iterator[Request]:
    """Yield what is asked: one request a pair, and with `both_orders` the other order after it.

    Raises:
        SyntrieverError: the prompt is missing or malformed.
    """
    template = prompts.load("compare")
    for pair in _pairs(queries, rows, corpus, sampling, {}, Counter()):
        yield _request(pair, template)
        if sampling.both_orders:
            yield _request(pair.swapped, template)


def compare(
    queries: Sequence[Query],
    rows: np.ndarray,
    corpus: Corpus,
    conversation: Conversation,
    sampling: Sampling,
    qrels: Qrels | None,
    counts: Counter[str],
) -> Iterator[dict]:
    """Yield one comparison a pair, in the order of the queries and of the pairs' ranks.

    A record holds query_id, query, passage_1 and passage_2 (ids, in the order shown), answer (1, 2
    or None where there is no readable one) and the ids preferred and rejected (both None then).
    With `both_orders` it holds swapped_answer too: the answer where passage_2 was shown first, 1
    meaning passage_2; and a pair whose two answers do not name the same passage is undecided.

    Args:
        queries: the training queries.
        rows: (queries, retrieved) the corpus rows of each query's best passages, best first.
        corpus: where these passages' texts are.
        conversation: with the teacher; counts the answers that are lacking.
        sampling: which pairs, and in which orders.
        qrels: the training judgements, for `summary` only; None where labels are not used.
        counts: filled on the way; see `summary`.

    Raises:
        SyntrieverError: the prompt is missing or malformed, too many requests were not answered, or
            the teacher cannot go on.
    """
    most = sampling.top_k * (sampling.top_k - 1) // 2
    orders = 2 if sampling.both_orders else 1
    choices = conversation.verdicts(
        lambda: requests(queries, rows, corpus, sampling),
        prompts.read_choice,
        at_most=len(queries) * min(most, sampling.pairs or most) * orders,
    )
    pairs = _pairs(queries, rows, corpus, sampling, qrels or {}, counts)
    for pair, *answers in zip(pairs, *[iter(choices)] * orders, strict=True):
        choice = _agreed(answers)
        _count(pair, answers, choice, counts)
        yield _comparison(pair, answers, choice)
    if queries and sampling.pairs != 0 and not counts["pairs_asked"]:
        raise SyntrieverError(
            f"there is no pair to compare: the {rows.shape[1]} passages retrieved for each query "
            f"all have one text, so that the corpus ({paths.CORPUS}) is little but copies. Add "
            "passages, or take the copies out."
        )


def of_written(
    written: Sequence[Mapping], rows: np.ndarray, corpus: Corpus, most: int, counts: Counter[str]
) -> Iterator[dict]:
    """Yield one comparison for each passage that a written query retrieves beside its own, which is
    preferred to it without a question to the teacher (mined hard negatives).

    Records are those of `compare`, with answer None; nothing is yielded for a query whose own
    passage alone was retrieved.

    Args:
        written: records of `records.WrittenQuery`.
        rows: (written queries, retrieved) the corpus rows of each one's best passages, best first.
        corpus: where these passages' texts are.
        most: how many of the retrieved passages, best first, without copies and without its own.
        counts: filled on the way: written_pairs.

    Raises:
        SyntrieverError: a query's own passage is not in the corpus.
    """
    named = {one["passage_id"] for one in written}
    own_rows = corpus.rows(named)
    if named - own_rows.keys():
        raise SyntrieverError(
            f"{paths.WRITTEN}: {min(named - own_rows.keys())!r} is no passage of the corpus. Run "
            "`dvc repro`, which makes the file again."
        )
    for one, best in zip(written, rows, strict=True):
        own = text_key(corpus.texts([own_rows[one["passage_id"]]])[0])
        others = [p for p in _distinct(best, corpus, set()) if text_key(p.text) != own]
        for other in others[:most]:
            counts["written_pairs"] += 1
            yield {
                "query_id": one["query_id"],
                "query": one["query"],
                "passage_1": one["passage_id"],
                "passage_2": other.passage_id,
                "answer": None,
                "preferred": one["passage_id"],
                "rejected": other.passage_id,
            }


def summary(counts: Counter[str], both_orders: bool, measured: bool) -> dict:
    """Return the metrics of `compare`, from the counts that it filled.

    queries; retrieved (passages compared, summed over queries: K each, or fewer where copies left
    fewer); pairs_asked; written_pairs (of written queries, decided without asking); undecided
    (asked pairs without a preference, those without an answer among them) and its share;
    labelled_wins (share of the decided pairs of a labelled and an unlabelled passage that the
    labelled one won); disagreement (share of the pairs with a readable answer in both orders whose
    answers named different passages); first_position_wins (share of the readable answers that named
    the passage shown first). None stands for what there was nothing to measure on.

    Args:
        counts: filled by `compare`.
        both_orders: whether each pair was asked in both orders.
        measured: whether the answers can depend on the order shown; False for recorded ones.
    """
    names = ("queries", "retrieved", "pairs_asked", "written_pairs", "undecided")
    return {name: counts[name] for name in names} | {
        "undecided_share": _share(counts["undecided"], counts["pairs_asked"]),
        "labelled_wins": _share(counts["labelled_wins"], counts["mixed_pairs"]),
        "disagreement": _share(counts["disagreed"], counts["answered_twice"])
        if measured and both_orders
        else None,
        "first_position_wins": _share(counts["first_wins"], counts["choices"])
        if measured
        else None,
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


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
        if not is_blank(text) and key not in passages:
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


def _agreed(answers: Sequence[int | None]) -> int | None:
    """The choice, in terms of the first order, that all answers agree on."""
    choice, *swapped = answers
    if choice is None or any(other != 3 - choice for other in swapped):
        return None
    return choice


def _count(
    pair: Pair, answers: Sequence[int | None], choice: int | None, counts: Counter[str]
) -> None:
    counts["choices"] += sum(answer is not None for answer in answers)
    counts["first_wins"] += sum(answer == 1 for answer in answers)
    if len(answers) == 2 and None not in answers:
        counts["answered_twice"] += 1
        counts["disagreed"] += choice is None
    if choice is None:
        counts["undecided"] += 1
    elif pair.passage_1.labelled != pair.passage_2.labelled:
        winner = pair.passage_1 if choice == 1 else pair.passage_2
        counts["mixed_pairs"] += 1
        counts["labelled_wins"] += winner.labelled


def _comparison(pair: Pair, answers: Sequence[int | None], choice: int | None) -> dict:
    ids = (pair.passage_1.passage_id, pair.passage_2.passage_id)
    preferred, rejected = {1: ids, 2: ids[::-1], None: (None, None)}[choice]
    swapped = {"swapped_answer": answers[1]} if len(answers) == 2 else {}
    return {
        "query_id": pair.query.query_id,
        "query": pair.query.query,
        "passage_1": ids[0],
        "passage_2": ids[1],
        "answer": answers[0],
        **swapped,
        "preferred": preferred,
        "rejected": rejected,
    }


def _hash(*parts: object) -> bytes:
    """A hash that is the same on every machine and in every run, unlike Python's own."""
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8")).digest()
