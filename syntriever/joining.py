"""One BEIR-format collection out of several, to train on all of them together.

Ids get their collection's name in front (scifact:4983), so that they stay unique and lead back.
Passages stream from file to file; only queries and judgements are held.
"""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from syntriever import collection_files, joined_answers
from syntriever.collection import Origin, Query, read_origin
from syntriever.errors import SyntrieverError
from syntriever.files import replacing, write_json, write_jsonl
from syntriever.joined_answers import answers_file, prefixed, written_file
from syntriever.splits import SPLITS, Qrels

COLLECTIONS = Path("data/collections")

Sizes = dict[str, dict[str, int]]


class Part(NamedTuple):
    """One of the collections, checked but for its passages."""

    name: str
    corpus: Path
    queries: list[Query]
    qrels: dict[str, Qrels]
    """By split; only those that the collection has."""
    origin: Origin


def join(name: str, folders: list[Path], answers: list[Path]) -> Sizes:
    """Write data/collections/NAME and, from recorded answers, data/teacher/NAME.jsonl.

    Where FILE_written_queries.jsonl lies beside a file of answers FILE.jsonl, the queries that the
    teacher wrote are joined too, to data/teacher/NAME_written_queries.jsonl.

    Args:
        name: of the new collection.
        folders: BEIR-format folders, at least two; their names go in front of the ids.
        answers: none, or one file of recorded answers for each folder, in the same order.

    Returns:
        For each collection its passages, its queries by split and, of all its queries, those with
        recorded answers.

    Raises:
        SyntrieverError: a name is no plain one, stands twice or is taken, a file is missing or
            malformed, or answers are not those of their collection. Then nothing is written.
    """
    _refuse_names(name, folders)
    _refuse_unpaired(folders, answers)
    parts = [_read(folder) for folder in folders]
    sizes = {part.name: _sizes(part) for part in parts}
    for part, folder, file in zip(parts, folders, answers, strict=False):
        sizes[part.name]["answered"] = joined_answers.count_answered(file, folder, part.queries)
    sources = {part.name: file for part, file in zip(parts, answers, strict=False)}
    beside = {one: joined_answers.written_beside(file) for one, file in sources.items()}
    written = {one: file for one, file in beside.items() if file}
    with ExitStack() as stack:
        _write_collection(stack.enter_context(replacing(COLLECTIONS / name)), parts, sizes)
        for target, prefix, files in (
            (answers_file(name), joined_answers.prefix_answers, sources),
            (written_file(name), joined_answers.prefix_written, written),
        ):
            if files:
                lines = (line for one, file in files.items() for line in prefix(one, file))
                write_jsonl(stack.enter_context(replacing(target)), lines)
        joined_answers.keep_hashes(answers_file(name), list(sources.values()))
        joined_answers.keep_hashes(written_file(name), list(written.values()))
    return sizes


def warnings(sizes: Sizes) -> list[str]:
    """Say which collections lack a split that another one has."""
    consequences = {
        "train": "its queries don't train",
        "dev": "none of its queries becomes dev, whatever collection.dev_share",
        "test": "it isn't tested",
    }
    return [
        f"{name} has no qrels/{split}.tsv: {consequence}"
        for split, consequence in consequences.items()
        if any(size[split] for size in sizes.values())
        for name, size in sizes.items()
        if not size[split]
    ]


# Checking


def _refuse_names(name: str, folders: list[Path]) -> None:
    names = [folder.resolve().name for folder in folders]
    for one in (name, *names):
        if not re.fullmatch(r"\w[\w.-]*", one):
            raise SyntrieverError(
                f"{one!r} is no plain folder name, such as scifact. Take letters, digits, ., - "
                "and _."
            )
    if len(names) < 2:
        raise SyntrieverError(f"{names[0]} alone can't be joined. Name two folders or more.")
    doubled = [one for one, times in Counter(names).items() if times > 1]
    if doubled:
        raise SyntrieverError(
            f"two folders are called {doubled[0]}, and their ids would get one prefix. Rename one "
            "of them."
        )
    for path in (COLLECTIONS / name, answers_file(name), written_file(name)):
        if path.exists():
            raise SyntrieverError(f"{path} exists. Take another name, or remove it first.")


def _refuse_unpaired(folders: list[Path], answers: list[Path]) -> None:
    if answers and len(answers) != len(folders):
        raise SyntrieverError(
            f"{len(folders)} collections, but {len(answers)} files of recorded answers. Give "
            "--teacher once for each folder, in the same order, or not at all."
        )


def _read(folder: Path) -> Part:
    for name in ("corpus.jsonl", "queries.jsonl"):
        if not (folder / name).is_file():
            raise SyntrieverError(
                f"{folder / name} does not exist. Each folder must be a collection in BEIR's "
                "format: corpus.jsonl, queries.jsonl, and train.tsv, dev.tsv or test.tsv in qrels."
            )
    counts: Counter[str] = Counter()
    queries = collection_files.read_queries(folder / "queries.jsonl", counts)
    qrels = collection_files.read_all_qrels(folder, {query.query_id for query in queries}, counts)
    origin = read_origin(folder / "collection.json")
    return Part(folder.resolve().name, folder / "corpus.jsonl", queries, qrels, origin)


def _sizes(part: Part) -> dict[str, int]:
    judged = {split: len(part.qrels.get(split, {})) for split in SPLITS}
    return {"passages": 0} | judged | {"answered": 0}


# Writing


def _write_collection(folder: Path, parts: list[Part], sizes: Sizes) -> None:
    """Write the joined collection and count the passages, which have not been read so far."""
    write_jsonl(folder / "corpus.jsonl", _passages(parts, sizes))
    write_jsonl(folder / "queries.jsonl", _queries(parts))
    for split in SPLITS:
        if any(split in part.qrels for part in parts):
            collection_files.write_qrels(folder / "qrels" / f"{split}.tsv", _qrels(parts, split))
    write_json(folder / "collection.json", _origin(parts))


def _passages(parts: list[Part], sizes: Sizes) -> Iterator[dict]:
    for part in parts:
        for one in collection_files.read_passages(part.corpus, Counter()):
            sizes[part.name]["passages"] += 1
            yield {"_id": prefixed(part.name, one.id), "title": one.title, "text": one.text}


def _queries(parts: list[Part]) -> Iterator[dict]:
    for part in parts:
        for query in part.queries:
            yield {"_id": prefixed(part.name, query.query_id), "text": query.query}


def _qrels(parts: list[Part], split: str) -> Qrels:
    return {
        prefixed(part.name, query): {
            prefixed(part.name, passage): grade for passage, grade in grades.items()
        }
        for part in parts
        for query, grades in part.qrels.get(split, {}).items()
    }


def _origin(parts: list[Part]) -> dict:
    """What `stages.init` says of a collection: the teacher's test queries make all scores theirs,
    and the passages that they were written from stay out of training."""
    written = any(part.origin.test_queries == "written" for part in parts)
    held_out = [prefixed(part.name, one) for part in parts for one in sorted(part.origin.held_out)]
    return {"test_queries": "written" if written else "labelled", "held_out": held_out}
