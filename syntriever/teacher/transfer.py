"""The journal's answers as JSON Lines, out and in, and whether each is what its key says."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from syntriever.errors import SyntrieverError
from syntriever.files import read_numbered
from syntriever.teacher.journal import Entry, Journal
from syntriever.teacher.keys import hash_of

AT_ONCE = 500  # entries in one transaction
MOST_TOKENS = 10**12  # of one answer; SQLite's integers end at 2**63

_ENTRY = TypeAdapter(Entry)


def records(journal: Journal, model: str | None = None, salvage: bool = False) -> Iterator[dict]:
    """Yield the answers as JSON objects, those of one model if it is named.

    With `salvage` what a damaged file can't give any more is passed over.
    """
    for entry in filter(_sound, journal.salvaged()) if salvage else journal.entries():
        if model in (None, entry.model):
            yield asdict(entry)


def _sound(entry: Entry) -> bool:
    """Whether `load` would take it."""
    try:
        _ENTRY.validate_json(json.dumps(asdict(entry)), strict=True)
    except (TypeError, ValueError):
        return False
    return fits(entry)


def load(journal: Journal, path: Path) -> tuple[int, int]:
    """Add the answers of an exported file; return how many it holds, and how many were new.

    The file is checked whole before the first is added. An answer that is here already stays.

    Raises:
        SyntrieverError: a line is no answer, or its key is not that of its request.
    """
    count = sum(1 for _ in _read(path))
    entries, new = _read(path), 0
    while group := list(islice(entries, AT_ONCE)):
        new += journal.add(group)
    return count, new


def faults(journal: Journal) -> list[str]:
    """Return what is wrong with the journal, a sentence each; nothing if it is sound."""
    try:
        found = [f"SQLite: {line}" for line in journal.faults()]
        return found or [
            f"answer {one.key[:12]}: {FORGED}" for one in journal.entries() if not fits(one)
        ]
    except SyntrieverError as error:  # so damaged that it can't be checked
        return [str(error)]


FORGED = "its key is not that of its request"


def fits(entry: Entry) -> bool:
    """Tell whether the key is that of the request; true where too little is known to say."""
    if entry.base_url is None or entry.sample is None:
        return True
    return any(
        entry.key
        == hash_of(
            entry.base_url,
            entry.model,
            entry.request.get("messages", ()),
            entry.request.get("temperature"),
            seed,
            entry.sample,
        )
        for seed in _seeds(entry.request.get("seed"), entry.sample)
    )


def _seeds(sent: int | None, sample: int) -> list[int | None]:
    """The seeds of the params that a body's may come from; at first it was sent as it is."""
    return [sent - sample, sent] if isinstance(sent, int) else [sent]


def _read(path: Path) -> Iterator[Entry]:
    for number, line in read_numbered(path):
        try:
            entry = _ENTRY.validate_json(json.dumps(line), strict=True)
        except ValidationError as error:
            fault = error.errors()[0]
            field = ".".join(str(part) for part in fault["loc"])
            raise SyntrieverError(
                f"{path}, line {number}: {field}: {fault['msg']}. A line is expected as "
                "`python -m stages.journal export` writes it."
            ) from None
        if not all(0 <= n <= MOST_TOKENS for n in (entry.prompt_tokens, entry.completion_tokens)):
            raise SyntrieverError(f"{path}, line {number}: so many tokens can't be. Mend the line.")
        if not fits(entry):
            raise SyntrieverError(
                f"{path}, line {number}: {FORGED}: the line was changed. Export the file again."
            )
        yield entry
