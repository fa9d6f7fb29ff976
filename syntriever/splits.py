"""What keeps training and evaluation apart: splits, dev by groups, near-equal queries."""

import hashlib
import math
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

from syntriever import params
from syntriever.collection import Query
from syntriever.errors import SyntrieverError

SPLITS = ("train", "dev", "test")

Qrels = dict[str, dict[str, int]]


class Split(NamedTuple):
    """The queries of train, dev or test, in the order of queries.jsonl, and their judgements."""

    queries: list[Query]
    qrels: Qrels


def divide(
    queries: list[Query], judged: dict[str, Qrels], folder: Path, settings: params.PrepareView
) -> dict[str, Split]:
    """Divide the queries into train, dev and test.

    A split's queries are those of its qrels file. Without train.tsv and with `use_labels: false`
    all other queries train. Without dev.tsv a share of the training queries becomes dev (see
    `choose_dev`). A query that is judged in dev or test never trains.

    Args:
        queries: all of the collection.
        judged: the qrels files that exist, by split.
        folder: where they lie, for messages.
        settings: what the run needs.

    Raises:
        SyntrieverError: the run needs a split that has no queries, or no relevant passage.
    """
    qrels = {name: judged.get(name, {}) for name in SPLITS}
    held_out = qrels["dev"].keys() | qrels["test"].keys()
    qrels["train"] = {query: g for query, g in qrels["train"].items() if query not in held_out}
    if "dev" not in judged and settings.collection.dev_share > 0:
        dev = choose_dev(qrels["train"], settings.collection.dev_share)
        qrels["dev"] = {query: g for query, g in qrels["train"].items() if query in dev}
        qrels["train"] = {query: g for query, g in qrels["train"].items() if query not in dev}
    ids = {name: set(grades) for name, grades in qrels.items()}
    if "train" not in judged and not settings.collection.use_labels:
        ids["train"] = {query.query_id for query in queries} - held_out
    parts = {
        name: Split([query for query in queries if query.query_id in ids[name]], qrels[name])
        for name in SPLITS
    }
    _refuse_no_training(parts["train"], folder, settings.collection.use_labels)
    for name in settings.evaluate.splits:
        if not relevant(parts[name].qrels):
            advice = _dev_advice(parts["train"].qrels, folder, settings.collection.dev_share)
            raise _no_judgements(name, folder, advice)
    return parts


def _refuse_no_training(train: Split, folder: Path, use_labels: bool) -> None:
    path = folder / "qrels" / "train.tsv"
    if use_labels and not path.exists():
        raise SyntrieverError(
            f"{path} does not exist, so that nothing says which queries train. Add it, or set "
            "collection.use_labels: false, which trains on all queries outside dev and test."
        )
    if use_labels and not train.queries:
        raise SyntrieverError(
            f"{folder}: no query is left to train on; all are judged in dev or test. Add training "
            "queries to queries.jsonl and qrels/train.tsv, or set collection.use_labels: false to "
            "train on written queries alone."
        )
    if use_labels and not relevant(train.qrels):
        raise SyntrieverError(
            f"{path}: no training query has a passage of score 1 or more that is not blank. Label "
            "some, or set collection.use_labels: false."
        )


def _no_judgements(name: str, folder: Path, dev_advice: str) -> SyntrieverError:
    path = folder / "qrels" / f"{name}.tsv"
    ask_less = f"take {name} out of evaluate.splits"
    if path.exists():
        return SyntrieverError(
            f"{path}: no query has a passage of score 1 or more that is not blank, so that nothing "
            f"can be measured. Label some, give blank ones a text, or {ask_less}."
        )
    more = dev_advice if name == "dev" else ". Add it"
    return SyntrieverError(f"{path} does not exist{more}, or {ask_less}.")


def _dev_advice(train: Qrels, folder: Path, dev_share: float) -> str:
    """Say what would give a dev split where dev.tsv is missing and the training queries gave none;
    the words go between 'does not exist' and 'or'."""
    path = folder / "qrels" / "train.tsv"
    if not path.exists():
        return f", and without {path} no training query is judged that could become dev. Add one"
    if dev_share == 0:
        return (
            " and collection.dev_share is 0. Set dev_share above 0 (a share of the training "
            "queries becomes dev)"
        )
    cannot = f", and collection.dev_share: {dev_share} can't make it: "
    smallest = min(map(len, _groups(train)), default=len(train))
    if smallest >= len(train):
        return cannot + (
            f"the queries of {path} share labelled passages, so that they stay together, or have "
            "none. Add the file, label more queries"
        )
    return cannot + (
        "no group of training queries that share labelled passages is that small. Add the file, "
        "raise dev_share"
    )


def choose_dev(qrels: Qrels, share: float) -> set[str]:
    """Choose the training queries that become dev; training then labels none of their passages.

    Queries that share a labelled passage stay together, whole groups are taken in the order of a
    hash of their smallest query id, and a group that would overshoot is passed over. So the choice
    depends neither on the files' order nor on a seed.

    Args:
        qrels: the training judgements.
        share: of the training queries, rounded down to whole queries, at least one.

    Returns:
        Query ids; none where no group is small enough.
    """
    wanted = min(max(1, int(share * len(qrels))), len(qrels) - 1)
    chosen: set[str] = set()
    for group in sorted(_groups(qrels), key=lambda group: _sha256(min(group))):
        if len(chosen) + len(group) <= wanted:
            chosen.update(group)
    return chosen


def relevant(qrels: Qrels) -> set[str]:
    """Return the ids of the passages that some query labels (grade 1 or more)."""
    return {passage for grades in qrels.values() for passage, grade in grades.items() if grade >= 1}


def near_equal(a: list[str], b: list[str], threshold: float) -> list[tuple[int, int]]:
    """Return all (i, j) where a[i] and b[j] share more than `threshold` of their words (Jaccard).

    Words are runs of letters and digits, case-folded, each counted once, in any order; a text
    without words equals nothing. Exact, not approximate: two sets with a Jaccard similarity above
    the threshold share one of their few rarest words (prefix filtering: Chaudhuri et al., ICDE
    2006; Bayardo et al., WWW 2007), so that only such pairs are compared. Give the shorter list as
    `a`: it is indexed, `b` is only walked through.

    >>> near_equal(["What is entropy?"], ["is what ENTROPY", "What is it?"], 0.7)
    [(0, 0)]
    """
    words_a = [_words(text) for text in a]
    frequency = Counter(word for words in words_a for word in words)
    index = defaultdict(list)
    for i, words in enumerate(words_a):
        for word in _rarest(words, frequency, threshold):
            index[word].append(i)
    pairs = []
    for j, text in enumerate(b):
        words = _words(text)
        candidates = {
            i for word in _rarest(words, frequency, threshold) for i in index.get(word, ())
        }
        pairs += [(i, j) for i in candidates if _jaccard(words_a[i], words) > threshold]
    return sorted(pairs)


def _groups(qrels: Qrels) -> list[list[str]]:
    """Group queries that are linked by labelled passages (union-find), those without left out."""
    parent: dict[str, str] = {}

    def root(query: str) -> str:
        while parent[query] != query:
            parent[query] = parent[parent[query]]
            query = parent[query]
        return query

    first_query: dict[str, str] = {}
    for query, grades in qrels.items():
        for passage in (passage for passage, grade in grades.items() if grade >= 1):
            parent.setdefault(query, query)
            parent[root(query)] = root(first_query.setdefault(passage, query))
    groups = defaultdict(list)
    for query in parent:
        groups[root(query)].append(query)
    return list(groups.values())


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.casefold()))


def _rarest(words: frozenset[str], frequency: Counter[str], threshold: float) -> list[str]:
    """Return so many of the rarest words that a set which holds none of them is too different."""
    # The hair's breadth keeps rounding from making it one word too few.
    kept = len(words) - math.floor(threshold * len(words) - 1e-9)
    return sorted(words, key=lambda word: (frequency[word], word))[:kept]


def _jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)
