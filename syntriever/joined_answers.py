"""Recorded answers of several collections as those of one: ids prefixed, prompt hashes kept.

The format is that of data/teacher/README.md. Lines stream from file to file.
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ValidationError

from syntriever import prompts
from syntriever.collection import Query, text_key
from syntriever.errors import SyntrieverError
from syntriever.files import read_json, read_numbered, write_json
from syntriever.teacher.recorded import Record
from syntriever.teacher.recorded_queries import QUERY_FIELDS, Queries

FOLDER = Path("data/teacher")


def answers_file(name: str) -> Path:
    """The recorded answers for the collection `name`."""
    return FOLDER / f"{name}.jsonl"


def written_file(name: str, folder: Path = FOLDER) -> Path:
    """The recorded written queries for the collection `name`."""
    return folder / f"{name}_written_queries.jsonl"


def written_beside(answers: Path) -> Path | None:
    """The written queries that lie beside a file of answers, if any do."""
    path = written_file(answers.stem, answers.parent)
    return path if path.is_file() else None


def written_kinds(file: Path) -> list[str]:
    """Return which kinds of written queries a file holds."""
    kinds = list(QUERY_FIELDS.values())
    found: set[str] = set()
    for record in _read(file, Queries):
        found.update(kind for kind in kinds if record.get(kind))
        if len(found) == len(kinds):
            break
    return [kind for kind in kinds if kind in found]


def prefixed(name: str, some_id: str) -> str:
    """Return the id in the joined collection of what collection `name` calls `some_id`."""
    return f"{name}:{some_id}"


def count_answered(answers: Path, folder: Path, queries: list[Query]) -> int:
    """Return how many of a collection's queries have recorded answers.

    Raises:
        SyntrieverError: none has, or a line is malformed.
    """
    texts = {query.query_id: text_key(query.query) for query in queries}
    found = sum(
        texts.get(record["query_id"]) == text_key(record["query"])
        for record in _read(answers, Record)
    )
    if not found:
        raise SyntrieverError(
            f"{answers} answers no query of {folder}, by id and text. Give the --teacher files in "
            "the order of the folders."
        )
    return found


def prefix_answers(name: str, answers: Path) -> Iterator[dict]:
    """Yield the answers recorded for collection `name`, with the ids of the joined collection."""
    for record in _read(answers, Record):
        ids: dict[str, object] = {"query_id": prefixed(name, record["query_id"])}
        if record.get("preference_order"):
            ids["preference_order"] = [prefixed(name, one) for one in record["preference_order"]]
        if record.get("comparisons"):
            ids["comparisons"] = [
                [prefixed(name, one), prefixed(name, two), answer]
                for one, two, answer in record["comparisons"]
            ]
        yield record | ids


def prefix_written(name: str, written: Path) -> Iterator[dict]:
    """Yield the queries written for collection `name`, with the ids of the joined collection."""
    for record in _read(written, Queries):
        yield record | {"passage_id": prefixed(name, record["passage_id"])}


def keep_hashes(file: Path, sources: list[Path]) -> None:
    """Note in prompts.json the hashes on which all sources agree, where its own top differs.

    So stages go on to warn of a prompt that has changed since. A prompt that the sources answered
    in different versions has no one hash, and no warning.
    """
    each = [_hashes(source) for source in sources]
    agreed = {
        prompt: value
        for prompt, value in (each[0] if each else {}).items()
        if all(other.get(prompt) == value for other in each)
    }
    known = _sidecar(file.parent)
    if each and agreed != _at_top(known):
        write_json(file.parent / prompts.SIDECAR, known | {file.name: agreed})


def _read(path: Path, kind: type[BaseModel]) -> Iterator[dict]:
    """Yield the lines of a file, each checked, with all its fields."""
    for number, record in read_numbered(path):
        try:
            kind.model_validate(record)
        except ValidationError as error:
            fault = error.errors()[0]
            field = ".".join(map(str, fault["loc"]))
            raise SyntrieverError(
                f"{path}, line {number}: {field}: {fault['msg'].removeprefix('Value error, ')}. "
                "The format is described in data/teacher/README.md."
            ) from None
        yield record


def _hashes(answers: Path) -> dict[str, str]:
    known = _sidecar(answers.parent)
    return known.get(answers.name, _at_top(known))


def _at_top(known: dict) -> dict[str, str]:
    return {prompt: value for prompt, value in known.items() if isinstance(value, str)}


def _sidecar(folder: Path) -> dict:
    path = folder / prompts.SIDECAR
    return read_json(path) if path.exists() else {}
