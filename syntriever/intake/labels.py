"""Queries and labels as people have them, and what becomes of them in a collection."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from syntriever import splits
from syntriever.collection import is_blank, text_key
from syntriever.errors import SyntrieverError
from syntriever.intake import tables
from syntriever.intake.build import Places
from syntriever.intake.encodings import UnreadableError, encoding_of
from syntriever.intake.reading import safe_id
from syntriever.splits import Qrels

Labels = list[tuple[int, str, str, int]]


def read_queries(path: Path, encoding: str | None = None) -> dict[str, str]:
    """Return the queries of a CSV, TSV or JSON Lines file: id -> text, in file order.

    Without a column of ids they are called q1, q2 and so on.

    Raises:
        SyntrieverError: a query is blank, an id is empty, holds blanks or stands twice, or there
            are none.
    """
    queries: dict[str, str] = {}
    lines: dict[str, int] = {}
    for number, (line, row) in enumerate(_rows(path, encoding), start=1):
        where = f"{path}, line {line}"
        columns = tables.choose(list(row), ("query id", "query"), {}, where)
        if "query" not in columns:
            raise tables.needed("query", list(row), where, "Rename the column with the queries.")
        text = tables.text_of(row[columns["query"]], f"{where}: the query")
        own = f"q{number}"
        if "query id" in columns:
            own = tables.text_of(row[columns["query id"]], f"{where}: the id").strip()
        if is_blank(text):
            raise SyntrieverError(f"{where}: the query is blank. Write it, or remove the line.")
        if not own or re.search(r"[\s\x00-\x1f\x7f]", own):
            raise SyntrieverError(
                f"{where}: the id is {own!r}. It needs at least one character and no white space."
            )
        if own in lines:
            raise SyntrieverError(
                f"{where}: the id {own!r} stands already in line {lines[own]}. Remove one of the "
                "two, or give it an id of its own."
            )
        lines[own], queries[own] = line, text.strip()
    if not queries:
        raise SyntrieverError(f"{path} holds no queries.")
    return queries


def read_labels(path: Path, queries: dict[str, str], encoding: str | None = None) -> Labels:
    """Return (line, query id, name of a passage or document, grade) of each label.

    A missing score is 1.

    Raises:
        SyntrieverError: a label names an unknown query or nothing, a score is no whole number, or
            there are none.
    """
    labels = []
    roles = ("labelled query", "labelled passage", "score")
    for line, row in _rows(path, encoding):
        where = f"{path}, line {line}"
        columns = tables.choose(list(row), roles, {}, where)
        for role in roles[:2]:
            if role not in columns:
                advice = "Begin the file with the line query-id, corpus-id, score."
                raise tables.needed(role, list(row), where, advice)
        query, target, score = (
            tables.text_of(row[columns[role]], f"{where}: {columns[role]!r}").strip()
            if role in columns
            else "1"
            for role in roles
        )
        if query not in queries:
            raise SyntrieverError(
                f"{where}: query {query!r} is not among the queries. Add it, or remove the line."
            )
        if not target:
            raise SyntrieverError(f"{where}: the label names no passage. Remove the line.")
        if not re.fullmatch(r"[0-9]{1,4}(\.0+)?", score):
            raise SyntrieverError(
                f"{where}: the score is {score!r}. It must be a whole number: 0 for not relevant, "
                "1 or more for relevant."
            )
        labels.append((line, query, target, int(float(score))))
    if not labels:
        raise SyntrieverError(f"{path} holds no labels.")
    return labels


def _rows(path: Path, encoding: str | None) -> Iterator[tables.Row]:
    """The rows in the encoding that the user names, unless the file plainly is in Unicode: new
    queries often are where old documents are not."""
    if encoding is not None and path.suffix.lower() in tables.SUFFIXES and path.is_file():
        try:
            found = encoding_of(path)
        except UnreadableError:
            found = encoding
        encoding = found if found.startswith("utf") else encoding
    return tables.rows(path, encoding)


def targets(labels: Labels) -> set[str]:
    """Return all names that labels may mean: as they stand, and as ids are written."""
    return {name for _, _, target, _ in labels for name in _spellings(target)}


def _spellings(target: str) -> tuple[str, str, str]:
    """A name as it stands, as a document's id, and as a passage's, whose # is its own."""
    document, mark, number = target.rpartition("#")
    return target, safe_id(target), safe_id(document) + mark + number


def resolve(labels: Labels, places: Places, path: Path, counts: Counter[str]) -> Qrels:
    """Return the judgements by passage. A label on a document judges all passages of it.

    Where a passage has two labels for one query, one on itself goes before one on its document; of
    labels on two documents whose passages are duplicates the higher grade counts.

    Args:
        labels: as read.
        places: what became of each name (see `build.write_corpus`).
        path: of the labels, for messages.
        counts: filled: labels, labels_on_documents.

    Raises:
        SyntrieverError: a label names no passage and no document that was kept, or may mean one of
            several, or two labels contradict each other.
    """
    first: dict[tuple[str, str], tuple[int, int]] = {}
    found: dict[tuple[str, str], tuple[bool, int]] = {}
    for line, query, target, grade in labels:
        name = _meant(target, places, f"{path}, line {line}")
        earlier, before = first.setdefault((query, name), (line, grade))
        if before != grade:
            raise SyntrieverError(
                f"{path}, line {line}: query {query!r} and {target!r} have another score in line "
                f"{earlier}. Remove one of the two."
            )
        is_passage = name in places.passages
        counts["labels"] += 1
        counts["labels_on_documents"] += not is_passage
        for passage in places[name]:
            known = found.get((query, passage), (False, 0))
            found[query, passage] = max(known, (is_passage, grade))
    qrels: Qrels = {}
    for (query, passage), (_, grade) in found.items():
        qrels.setdefault(query, {})[passage] = grade
    return qrels


def _meant(target: str, places: Places, where: str) -> str:
    """Return the name in the corpus that a label means.

    Raises:
        SyntrieverError: nothing of that name was kept, or its spellings mean different passages.
    """
    known = [name for name in dict.fromkeys(_spellings(target)) if places.get(name)]
    if not known:
        raise SyntrieverError(
            f"{where}: no passage or document {target!r} was kept. A document is named by its path "
            "in the folder or its id, a passage like guide/oven.md#3."
        )
    if len({frozenset(places[name]) for name in known}) > 1:
        kinds = ("document", "passage")
        readings = (f"the {kinds[name in places.passages]} {name!r}" for name in known)
        raise SyntrieverError(
            f"{where}: {target!r} may be {' or '.join(readings)}, as corpus.jsonl writes them (%23 "
            "is a # of an id, %20 a blank, %25 a %). Write the one that is meant like that; if it "
            "stands there like that already, rename the row or file of the other."
        )
    return known[0]


def divide(
    qrels: Qrels, queries: dict[str, str], test_share: float, path: Path
) -> dict[str, Qrels]:
    """Divide the labelled queries into train and test, by a hash of their ids.

    Queries that share a relevant passage, or the same words, stay together (`splits.choose_dev`
    does the same for dev, later, in `prepare`).

    Args:
        qrels: all judgements.
        queries: their texts.
        test_share: of the queries with a relevant passage, above 0; 1: all are for testing.
        path: of the labels, for messages.

    Raises:
        SyntrieverError: no query has a relevant passage, or none can be separated from the others.
    """
    linked = {
        query: grades | {f"text {text_key(queries[query]).casefold()}": 1}
        for query, grades in qrels.items()
        if any(grades.values())
    }
    if not linked:
        raise SyntrieverError(f"{path}: no query has a passage of score 1 or more. Label some.")
    test = set(linked) if test_share == 1 else splits.choose_dev(linked, test_share)
    if not test:
        raise SyntrieverError(
            f"{path}: --test-share {test_share:g} of {len(linked)} labelled queries gives no test "
            "queries: those that share a passage stay together, and no such group is that small. "
            "Raise --test-share, or label more queries."
        )
    train = {query: grades for query, grades in qrels.items() if query not in test}
    if not any(query in linked for query in train):
        train = {}
    return {"train": train, "test": {query: qrels[query] for query in qrels if query in test}}


def drop_twins(queries: dict[str, str], qrels: dict[str, Qrels]) -> int:
    """Remove queries without labels that are, but for case and white space, those of test: they
    would train. Return how many.

    Args:
        queries: id -> text; what is removed is removed here.
        qrels: split -> judgements.
    """
    judged = {query for part in qrels.values() for query in part}
    tested = {text_key(queries[query]).casefold() for query in qrels["test"]}
    twins = [
        query
        for query, text in queries.items()
        if query not in judged and text_key(text).casefold() in tested
    ]
    for query in twins:
        del queries[query]
    return len(twins)
