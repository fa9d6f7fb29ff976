"""Training queries that the teacher writes for passages of the corpus: beyond the paper."""

import hashlib
import heapq
import re
from collections import Counter
from collections.abc import Iterator, Set
from typing import NamedTuple

import numpy as np

from syntriever import conversation, params, paths, prompts, query_checks
from syntriever.collection import Corpus, Query, is_blank, read_origin, read_queries, text_key
from syntriever.conversation import Conversation
from syntriever.errors import SyntrieverError
from syntriever.query_checks import BATCH, Written
from syntriever.splits import SPLITS
from syntriever.teacher.base import Request

# Characters. The longest recorded query has 263: what is four times as long is an essay.
LONGEST = 1000

_FENCE = re.compile(r"\s*```[\w-]*\n(.*?)\n?```\s*", re.DOTALL)
_LABEL = re.compile(r"[*_# ]*(?:search )?(?:query|question|claim)[*_ ]*:[*_ ]*", re.IGNORECASE)
_EMPHASIS = re.compile(r"(\*+|_+)([^*_]+)\1")
_QUOTES = ('""', "''", "``", "“”", "„“", "‘’", "«»", "「」")
_APOSTROPHE = re.compile(r"(?<=\w)['’](?=\w)")


class Slot(NamedTuple):
    """A query that is to be written: the `sample`th (from 0) of one kind for one passage."""

    row: int
    passage_id: str
    text: str
    kind: str
    sample: int

    @property
    def query_id(self) -> str:
        """The written query's id: `p1#claim`, then `p1#claim-2`."""
        more = f"-{self.sample + 1}" if self.sample else ""
        return f"{self.passage_id}#{self.kind}{more}"


def prompts_used(settings: params.WriteQueries) -> list[str]:
    """Return the names of the prompts that are asked."""
    return [f"write_{kind}" for kind in settings.kinds] if settings.per_passage else []


def choose(
    corpus: Corpus, settings: params.WriteQueries, held_out: Set[str] = frozenset()
) -> np.ndarray:
    """Return the corpus rows of the passages that get queries, rising, int64.

    Of `passages` those are drawn whose ids have the smallest SHA-256: the same ones in any order of
    the corpus, and all of them again in a larger draw. None is drawn of those from which the
    teacher wrote the test queries (`held_out`, ids; see `python -m stages.init`).
    """
    if not settings.per_passage:
        return np.empty(0, np.int64)
    held = list(corpus.rows(held_out).values())
    if settings.passages is None or settings.passages >= len(corpus) - len(held):
        return np.setdiff1d(np.arange(len(corpus)), held)
    hashed = (
        (hashlib.sha256(passage_id.encode("utf-8")).digest(), row)
        for rows in _batches(np.arange(len(corpus)))
        for row, passage_id in zip(rows.tolist(), corpus.ids(rows), strict=True)
        if passage_id not in held_out
    )
    smallest = heapq.nsmallest(settings.passages, hashed)
    return np.array(sorted(row for _, row in smallest), np.int64)


def requests(corpus: Corpus, rows: np.ndarray, settings: params.WriteQueries) -> Iterator[Request]:
    """Yield what is asked: `per_passage` requests of each kind for each passage that isn't blank.

    A request carries the id that its query will have, and no query: there is none yet.

    Raises:
        SyntrieverError: a prompt is missing or malformed.
    """
    templates = {kind: prompts.load(f"write_{kind}") for kind in settings.kinds}
    for slot in _slots(corpus, rows, settings, Counter()):
        template = templates[slot.kind]
        messages = prompts.messages(template, passage=slot.text)
        yield Request(template.name, messages, slot.query_id, "", (slot.passage_id,), slot.sample)


def write(
    settings: params.WriteQueriesView, runtime: params.RuntimeTeacher
) -> tuple[list[dict], dict]:
    """Have the teacher write queries, and check them.

    Returns:
        The records (`records.WrittenQuery`) of those kept, in the order of corpus, kinds and
        samples; and the metrics (see `summary`) with those of the conversation. With `per_passage`
        0 nothing is read or asked.

    Raises:
        SyntrieverError: an input is missing or damaged, too many requests were not answered, or
            the teacher cannot go on.
    """
    writing, counts = settings.write_queries, Counter()
    if not writing.per_passage:
        return [], summary(counts, writing) | conversation.NOTHING_ASKED
    corpus = Corpus.open(paths.CORPUS)
    queries = {split: read_queries(paths.queries(split)) for split in SPLITS}
    with conversation.opened(settings.teacher, runtime) as talk:
        rows = choose(corpus, writing, read_origin(paths.ORIGIN).held_out)
        _refuse_taken_ids(corpus, rows, writing, queries)
        written = list(ask(corpus, rows, writing, talk, counts))
        asked = talk.metrics()
    held_out = [one.query for split in ("dev", "test") for one in queries[split]]
    kept = query_checks.check(written, held_out, corpus, settings, counts)
    counts["kept"] = len(kept)
    counts.update(f"kept_{one['kind']}" for one in kept)
    return kept, summary(counts, writing) | asked


def ask(
    corpus: Corpus,
    rows: np.ndarray,
    settings: params.WriteQueries,
    talk: Conversation,
    counts: Counter[str],
) -> Iterator[Written]:
    """Yield the queries that the teacher wrote, in the order of `rows`, kinds and samples.

    Args:
        corpus: the passages.
        rows: of those that get queries.
        settings: how many queries of which kinds.
        talk: with the teacher; counts the answers that are lacking.
        counts: filled on the way: passages, blank, asked, answered, unusable (see `clean`).

    Raises:
        SyntrieverError: a prompt is missing or malformed, too many requests were not answered, or
            the teacher cannot go on.
    """

    def read(text: str) -> str | None:
        query = clean(text)
        counts["unusable"] += query is None
        return query

    at_most = len(rows) * len(settings.kinds) * settings.per_passage
    answers = talk.texts(requests(corpus, rows, settings), at_most, read)
    slots = _slots(corpus, rows, settings, counts)
    for slot, query in zip(slots, answers, strict=True):
        counts["asked"] += 1
        if query is not None:
            counts["answered"] += 1
            yield Written(slot.query_id, query, slot.passage_id, slot.kind, slot.row)


def clean(text: str) -> str | None:
    """Return an answer as a query: one line, without what some models put around it.

    That is a code fence, a label (*Question:*) and quotation marks.

    None where nothing is left, or more than 1,000 characters: that is no query.

    >>> clean('"Why is the sky blue,\\\\n and not violet?"')
    'Why is the sky blue, and not violet?'
    """
    fenced = _FENCE.fullmatch(text)
    query = _bare(text_key(fenced[1] if fenced else text))
    label = _LABEL.match(query)
    query = _bare(query[label.end() :]) if label else query
    return None if is_blank(query) or len(query) > LONGEST else query


def _bare(query: str) -> str:
    """A query without emphasis and quotation marks around all of it."""
    emphasised = _EMPHASIS.fullmatch(query)
    query = emphasised[2].strip() if emphasised else query
    for first, last in _QUOTES:
        inner = query[1:-1]
        marks = _APOSTROPHE.sub("", inner)
        if query[:1] == first and query[1:][-1:] == last and not {first, last} & set(marks):
            query = inner.strip()
    return query


def summary(counts: Counter[str], settings: params.WriteQueries) -> dict:
    """Return the metrics of `write`, from the counts that were filled on the way.

    passages (that were asked about) and blank (that were not); asked; answered (by a usable query);
    unusable (answers that are no query); near_test (near-equal to a dev or test query) and
    duplicates, which were dropped; found_by_encoder and found_by_bm25 (of the rest, those whose
    passage was ranked high enough; None where `keep_top` is); kept, its share of the answered (None
    where nothing was), and how many of each kind.
    """
    names = ("passages", "blank", "asked", "answered", "unusable", "near_test", "duplicates")
    found = {
        name: None if settings.keep_top is None else counts[name]
        for name in ("found_by_encoder", "found_by_bm25")
    }
    share = counts["kept"] / counts["answered"] if counts["answered"] else None
    kinds = {f"kept_{kind}": counts[f"kept_{kind}"] for kind in settings.kinds}
    return (
        {name: counts[name] for name in names}
        | found
        | {"kept": counts["kept"], "kept_share": share}
        | kinds
    )


def warnings(metrics: dict, settings: params.WriteQueries) -> list[str]:
    """Say in words of which kinds nothing came."""
    if not settings.per_passage:
        return []
    lacking = [kind for kind in settings.kinds if not metrics[f"kept_{kind}"]]
    return [f"no written query of kind {kind} was kept" for kind in lacking]


def _slots(
    corpus: Corpus, rows: np.ndarray, settings: params.WriteQueries, counts: Counter[str]
) -> Iterator[Slot]:
    for some in _batches(rows):
        texts = corpus.texts(some)
        for row, passage_id, text in zip(some.tolist(), corpus.ids(some), texts, strict=True):
            counts["blank" if is_blank(text) else "passages"] += 1
            if not is_blank(text):
                for kind in settings.kinds:
                    for sample in range(settings.per_passage):
                        yield Slot(row, passage_id, text, kind, sample)


def _batches(rows: np.ndarray) -> Iterator[np.ndarray]:
    return (rows[i : i + BATCH] for i in range(0, len(rows), BATCH))


def _refuse_taken_ids(
    corpus: Corpus, rows: np.ndarray, settings: params.WriteQueries, queries: dict[str, list[Query]]
) -> None:
    """Before anything is asked, and paid."""
    known = {one.query_id for part in queries.values() for one in part if "#" in one.query_id}
    for slot in _slots(corpus, rows, settings, Counter()) if known else ():
        if slot.query_id in known:
            raise SyntrieverError(
                f"{paths.QUERIES}: query {slot.query_id!r} has the id that the query written for "
                f"passage {slot.passage_id!r} gets. Rename it in the collection."
            )
