"""The files of a BEIR-format collection, as people hand them over: read, checked, written.

corpus.jsonl and queries.jsonl hold one JSON object a line, qrels/<split>.tsv one judgement a line.
Each line is checked where it is read, and a fault names file, line and mend. Whoever needs such a
folder reads it through here: `preparation`, `transfer`, `joining`. What `preparation` makes of it
is read by `collection`.

Nothing holds the corpus: passages stream from corpus.jsonl into Arrow batches, and what must be
unique is compared by 64-bit hashes, 8 bytes a passage.
"""

import hashlib
import re
from array import array
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from syntriever import files
from syntriever.collection import SCHEMA, Corpus, Query, is_blank, passage_text, text_key
from syntriever.errors import SyntrieverError
from syntriever.splits import SPLITS, Qrels

QRELS_HEADER = "query-id\tcorpus-id\tscore\n"

# Passages written at once.
BATCH = 4096


class Passage(NamedTuple):
    """One line of corpus.jsonl, checked."""

    id: str
    title: str
    text: str


# Reading, line by line


def read_queries(path: Path, counts: Counter[str]) -> list[Query]:
    """Read queries.jsonl.

    Args:
        path: the file.
        counts: gets `integer_ids`, the ids written as numbers.

    Raises:
        SyntrieverError: the file is missing or empty, a line is malformed, a query is blank, or an
            id stands twice.
    """
    queries: list[Query] = []
    lines: dict[str, int] = {}
    for number, record in files.read_numbered(path):
        where = f"{path}, line {number}"
        query = Query(_id(record, where, counts), _text(record, "text", where))
        if is_blank(query.query):
            raise SyntrieverError(
                f"{where}: the query is blank. Give it a text or remove the line."
            )
        if query.query_id in lines:
            raise _doubled_id(path, query.query_id, lines[query.query_id], number)
        lines[query.query_id] = number
        queries.append(query)
    if not queries:
        raise SyntrieverError(f"{path} is empty. It must hold one query a line.")
    return queries


def _id(record: dict, where: str, counts: Counter[str]) -> str:
    """Return `_id` as text. White space is refused: in qrels and run files it separates columns."""
    value = record.get("_id")
    if type(value) is int:
        counts["integer_ids"] += 1
        return str(value)
    if value is None:
        raise SyntrieverError(f'{where}: "_id" is missing or null. Give the line a unique text id.')
    if not isinstance(value, str):
        raise SyntrieverError(
            f'{where}: "_id" is {value!r}, of type {type(value).__name__}. Write it as text, in '
            "quotes."
        )
    if not value or re.search(r"[\s\x00-\x1f\x7f]", value, re.ASCII) or value != value.strip():
        raise SyntrieverError(
            f'{where}: "_id" is {value!r}. An id needs at least one character and no white space; '
            "put _ in its place, in qrels too."
        )
    return value


def _text(record: dict, field: str, where: str) -> str:
    """Return a text field, '' for null."""
    value = record.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise SyntrieverError(
            f'{where}: "{field}" is of type {type(value).__name__}. It must be text or null.'
        )
    return value


def _doubled_id(path: Path, doubled: str, first: int, second: int) -> SyntrieverError:
    return SyntrieverError(
        f'{path}, line {second}: "_id" {doubled!r} stands already in line {first}. Remove one of '
        "the two, or give it an id of its own."
    )


def read_all_qrels(folder: Path, query_ids: set[str], counts: Counter[str]) -> dict[str, Qrels]:
    """Read the qrels files that are there, by split; see `read_qrels`."""
    found = {name: folder / "qrels" / f"{name}.tsv" for name in SPLITS}
    return {
        name: read_qrels(path, query_ids, counts) for name, path in found.items() if path.exists()
    }


def read_qrels(path: Path, query_ids: set[str], counts: Counter[str]) -> Qrels:
    """Read one qrels file, in its order: query id -> passage id -> grade, from 0.

    Args:
        path: the file, with or without a line of titles.
        query_ids: those of queries.jsonl.
        counts: gets `doubled_judgements`, those that stand twice with one grade.

    Raises:
        SyntrieverError: the file is missing or empty, a line is malformed, a query is unknown, or a
            passage has two grades for one query. Whether the passages exist is not looked at; see
            `refuse_unknown_passages`.
    """
    qrels: Qrels = {}
    for number, query_id, passage_id, grade in _judgements(path):
        if query_id not in query_ids:
            raise SyntrieverError(
                f"{path}, line {number}: query {query_id!r} is not in queries.jsonl. Add it there "
                "or remove the line."
            )
        grades = qrels.setdefault(query_id, {})
        if passage_id not in grades:
            grades[passage_id] = grade
        elif grades[passage_id] == grade:
            counts["doubled_judgements"] += 1
        else:
            raise _contradiction(path, number, query_id, passage_id)
    if not qrels:
        raise SyntrieverError(f"{path} holds no judgements. Fill it, or delete it.")
    return qrels


def _judgements(path: Path) -> Iterator[tuple[int, str, str, int]]:
    """Yield (line number from 1, query id, passage id, grade) of a qrels file."""
    with files.opened(path) as file:
        for number, line in enumerate(file, start=1):
            where = f"{path}, line {number}"
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise SyntrieverError(f"{where}: not UTF-8. Convert the file to UTF-8.") from None
            columns = [column.strip() for column in text.split("\t")]
            if columns == [""] or (number == 1 and columns[-1].casefold() == "score"):
                continue
            if len(columns) != 3 or not all(columns):
                raise SyntrieverError(
                    f"{where}: query-id, corpus-id and score are expected, separated by tabs; "
                    f"found {text.strip()[:80]!r}. Write the line so, or remove it."
                )
            query_id, passage_id, grade = columns
            if not re.fullmatch("[0-9]{1,4}", grade):
                raise SyntrieverError(
                    f"{where}: the score is {grade!r}. It must be a whole number: 0 for not "
                    "relevant, 1 or more for relevant."
                )
            yield number, query_id, passage_id, int(grade)


def _contradiction(path: Path, second: int, query_id: str, passage_id: str) -> SyntrieverError:
    first = next(number for number, *ids, _ in _judgements(path) if ids == [query_id, passage_id])
    return SyntrieverError(
        f"{path}, line {second}: query {query_id!r} and passage {passage_id!r} have another score "
        f"in line {first}. Remove one of the two."
    )


def read_passages(path: Path, counts: Counter[str]) -> Iterator[Passage]:
    """Yield the passages of corpus.jsonl, blank ones too.

    Args:
        path: the file.
        counts: gets `integer_ids`, the ids written as numbers.

    Raises:
        SyntrieverError: the file is missing, or a line is malformed. Doubled ids are not looked at;
            see `write_corpus`.
    """
    lines = tqdm(files.read_numbered(path), desc="check corpus", unit=" passages", disable=None)
    for number, record in lines:
        where = f"{path}, line {number}"
        if "text" not in record:
            raise SyntrieverError(
                f'{where}: "text" is missing. Add it; null where a passage has only a title.'
            )
        passage_id = _id(record, where, counts)
        yield Passage(passage_id, _text(record, "title", where), _text(record, "text", where))


# Writing, and what only the whole corpus can tell


def write_corpus(source: Path, target: Path, counts: Counter[str]) -> list[str]:
    """Stream the passages into an Arrow file (see `collection.SCHEMA`) and count them.

    Args:
        source: corpus.jsonl.
        target: the Arrow file, overwritten.
        counts: gets `passages` (those written), `blank_passages`, `duplicate_passages` (written,
            with the text of an earlier one) and `integer_ids`.

    Returns:
        The ids of blank passages, which are not written.

    Raises:
        SyntrieverError: the file is missing or empty, a line is malformed, or an id stands twice.
    """
    id_hashes, text_hashes = array("Q"), array("Q")
    blank: list[str] = []
    passages = read_passages(source, counts)
    with pa.OSFile(str(target), "wb") as file, pa.ipc.new_file(file, SCHEMA) as writer:
        while batch := list(islice(passages, BATCH)):
            id_hashes.extend(_hash(passage.id) for passage in batch)
            kept = []
            for passage in batch:
                text = passage_text(passage.title, passage.text)
                if is_blank(text):
                    blank.append(passage.id)
                else:
                    text_hashes.append(_hash(text_key(text)))
                    kept.append(passage._asdict())
            writer.write_batch(pa.RecordBatch.from_pylist(kept, SCHEMA))
    if not id_hashes:
        raise SyntrieverError(f"{source} is empty. It must hold one passage a line.")
    _refuse_doubled_ids(source, _repeated(id_hashes))
    counts["passages"] = len(text_hashes)
    counts["blank_passages"] = len(blank)
    counts["duplicate_passages"] = len(text_hashes) - len(np.unique(text_hashes))
    return blank


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest(), "little")


def _repeated(hashes: array) -> set[int]:
    ordered = np.sort(np.frombuffer(hashes, np.uint64))
    return set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())


def _refuse_doubled_ids(path: Path, suspects: set[int]) -> None:
    """Find the lines of the first doubled id; two ids that share a hash by chance pass."""
    if not suspects:
        return
    lines: dict[str, int] = {}
    for number, record in files.read_numbered(path):
        passage_id = str(record["_id"])
        if passage_id in lines:
            raise _doubled_id(path, passage_id, lines[passage_id], number)
        if _hash(passage_id) in suspects:
            lines[passage_id] = number


def refuse_unknown_passages(
    folder: Path, judged: dict[str, Qrels], corpus: Corpus, blank: list[str]
) -> None:
    """Refuse judgements of passages that the corpus lacks.

    Args:
        folder: the collection's, for the message.
        judged: its judgements, by split.
        corpus: its passages, without the blank ones.
        blank: the ids of those.

    Raises:
        SyntrieverError: there is one; the message names the first line.
    """
    asked = {
        passage for qrels in judged.values() for grades in qrels.values() for passage in grades
    }
    unknown = asked - corpus.rows(asked).keys() - set(blank)
    if not unknown:
        return
    for name in judged:
        path = folder / "qrels" / f"{name}.tsv"
        for number, _, passage_id, _ in _judgements(path):
            if passage_id in unknown:
                raise SyntrieverError(
                    f"{path}, line {number}: passage {passage_id!r} is not in corpus.jsonl. Add it "
                    "there or remove the line."
                )


def write_qrels(path: Path, qrels: Qrels) -> None:
    """Write a qrels file, with its line of titles."""
    with files.replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(QRELS_HEADER)
        for query_id, grades in qrels.items():
            for passage_id, grade in grades.items():
                file.write(f"{query_id}\t{passage_id}\t{grade}\n")
