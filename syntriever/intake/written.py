"""Has the teacher write the queries of dev and test, for corpora that come without labels."""

import hashlib
import heapq
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from syntriever import files, prompts
from syntriever.collection import passage_text, text_key
from syntriever.conversation import Conversation
from syntriever.errors import SyntrieverError
from syntriever.intake.chunking import words
from syntriever.query_writing import clean
from syntriever.splits import Qrels
from syntriever.teacher.base import Request

# Words. What is shorter (a heading, a table of contents) is hardly what anybody asks for.
SHORTEST = 20


class Ask(NamedTuple):
    """One query to be written: for which passage, of which kind."""

    passage_id: str
    text: str
    kind: str

    @property
    def query_id(self) -> str:
        """The query's id. Training queries are named alike, so that none can be of one passage."""
        return f"{self.passage_id}#{self.kind}"


def choose(corpus: Path, count: int, kinds: Sequence[str]) -> list[Ask]:
    """Choose passages by a hash of their ids, among those of 20 words or more, kinds in turn.

    Raises:
        SyntrieverError: the corpus is so small that less than half of it would be left to train on.
    """
    hashed = [
        (hashlib.sha256(f"test {one['_id']}".encode()).digest(), one["_id"])
        for one in files.read_jsonl(corpus)
        if words(one["text"]) >= SHORTEST
    ]
    if 2 * count > len(hashed):
        raise SyntrieverError(
            f"--write-test-queries asks for {count} queries of dev and test, each for a passage of "
            f"its own, and the corpus has {len(hashed)} passages of {SHORTEST} words or more. At "
            "least half of them must be left to train on: ask for fewer."
        )
    order = {passage: place for place, (_, passage) in enumerate(heapq.nsmallest(count, hashed))}
    chosen = [one for one in files.read_jsonl(corpus) if one["_id"] in order]
    chosen.sort(key=lambda one: order[one["_id"]])
    return [
        Ask(one["_id"], passage_text(one["title"], one["text"]), kinds[place % len(kinds)])
        for place, one in enumerate(chosen)
    ]


def requests(asks: Sequence[Ask]) -> Iterator[Request]:
    """Yield what the teacher is asked, one request a query.

    Raises:
        SyntrieverError: a prompt is missing or malformed.
    """
    templates = {ask.kind: prompts.load(f"write_{ask.kind}") for ask in asks}
    for ask in asks:
        template = templates[ask.kind]
        messages = prompts.messages(template, passage=ask.text)
        yield Request(template.name, messages, ask.query_id, "", (ask.passage_id,))


def write(
    asks: Sequence[Ask],
    talk: Conversation,
    dev: int,
    counts: Counter[str],
    others: Iterable[str] = (),
) -> tuple[dict[str, str], dict[str, Qrels]]:
    """Return the written queries (id -> text) and their judgements: the first `dev` are dev's.

    A query that stands already, but for case and white space, is left out.

    Args:
        asks: for which passages.
        talk: with the teacher.
        dev: how many of `asks` are for dev; the others are for test.
        counts: filled: asked, unanswered, repeated.
        others: the collection's own queries, which train.

    Raises:
        SyntrieverError: too many were not answered, the teacher cannot go on, or none is left.
    """
    queries: dict[str, str] = {}
    qrels: dict[str, Qrels] = {"dev": {}, "test": {}}
    seen = {text_key(one).casefold() for one in others}
    counts.update(asked=len(asks), unanswered=0, repeated=0)
    answers = talk.texts(requests(asks), len(asks), clean)
    for place, (ask, text) in enumerate(zip(asks, answers, strict=True)):
        if text is None:
            counts["unanswered"] += 1
        elif text_key(text).casefold() in seen:
            counts["repeated"] += 1
        else:
            seen.add(text_key(text).casefold())
            queries[ask.query_id] = text
            qrels["dev" if place < dev else "test"][ask.query_id] = {ask.passage_id: 1}
    if not qrels["test"]:
        raise SyntrieverError("The teacher wrote no test query that can be used. Ask for more.")
    return queries, {name: part for name, part in qrels.items() if part}


def held_out(asks: Sequence[Ask], corpus: Path, chunk_words: int, overlap: int) -> list[str]:
    """Return the passages that no training query may be written for: those that were asked about,
    and their neighbours, as far away as they may repeat some of their text."""
    reach = max(1, math.ceil(chunk_words / (chunk_words - overlap)) - 1)
    near = {
        f"{document}#{int(number) + step}"
        for document, _, number in (ask.passage_id.rpartition("#") for ask in asks)
        for step in range(-reach, reach + 1)
    }
    return [one["_id"] for one in files.read_jsonl(corpus) if one["_id"] in near]
