"""Self-verification: the teacher judges its own positives."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from syntriever import prompts
from syntriever.conversation import Conversation
from syntriever.teacher.base import Request

Mode = Literal["relabel", "discard", "skip"]


def prompts_used(mode: Mode) -> list[str]:
    """Return the names of the prompts that are asked."""
    return [] if mode == "skip" else ["relabel"]


def requests(records: Iterable[dict], mode: Mode) -> Iterator[Request]:
    """Yield what is asked: one request a positive.

    Args:
        records: what `synthesis.synthesize` yields.
        mode: with `skip` nothing is asked.

    Raises:
        SyntrieverError: the prompt is missing or malformed.
    """
    if mode == "skip":
        return
    template = prompts.load("relabel")
    for record in records:
        if record["positive"] is not None:
            messages = prompts.messages(template, query=record["query"], passage=record["positive"])
            yield Request(template.name, messages, record["query_id"], record["query"])


def verify(
    records: Sequence[dict], conversation: Conversation, mode: Mode, counts: Counter[str]
) -> Iterator[dict]:
    """Yield query_id, query, cot, positive, hard_negatives, verdict, relabelled for each query.

    A positive that the teacher accepts stays. One that it refuses becomes the second hard negative
    (`relabel`, the paper's way) or is dropped (`discard`). One without a readable verdict was never
    verified: it is left out, neither positive nor negative. With `skip` nothing is asked and every
    positive stays.

    Args:
        records: what `synthesis.synthesize` yields.
        conversation: with the teacher; counts the answers that are lacking.
        mode: what becomes of refused positives.
        counts: filled on the way: verified (verdicts read) = accepted + refused, undecided
            (positives without a readable verdict, those without any answer among them).

    Raises:
        SyntrieverError: the prompt is missing or malformed, too many requests were not answered, or
            the teacher cannot go on.
    """
    counts.update(dict.fromkeys(("verified", "accepted", "refused", "undecided"), 0))
    verdicts = iter(
        conversation.verdicts(
            lambda: requests(records, mode),
            prompts.read_yes_no,
            at_most=sum(record["positive"] is not None for record in records),
        )
    )
    for record in records:
        if mode == "skip" or record["positive"] is None:
            yield _verified(record, record["positive"], None)
            continue
        accepted = next(verdicts)
        _count(accepted, counts)
        yield _verified(record, record["positive"] if accepted else None, accepted, mode)


def _count(accepted: bool | None, counts: Counter[str]) -> None:
    if accepted is None:
        counts["undecided"] += 1
    else:
        counts["verified"] += 1
        counts["accepted" if accepted else "refused"] += 1


def _verified(
    record: dict, positive: str | None, accepted: bool | None, mode: Mode = "skip"
) -> dict:
    relabelled = accepted is False and mode == "relabel"
    hard_negatives = [record["hard_negative"], record["positive"] if relabelled else None]
    return {
        "query_id": record["query_id"],
        "query": record["query"],
        "cot": record["cot"],
        "positive": positive,
        "hard_negatives": [text for text in hard_negatives if text is not None],
        "verdict": None if accepted is None else "yes" if accepted else "no",
        "relabelled": relabelled,
    }
