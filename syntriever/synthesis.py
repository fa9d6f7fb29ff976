"""Stage 1's data: the teacher's chain of thought, positive and hard negative for each query.

As in the paper, each text is the answer to a prompt that holds the query alone.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from syntriever import prompts
from syntriever.collection import Query
from syntriever.teacher.base import Answer, Request, Teacher


def prompts_used(use_cot: bool, use_passages: bool) -> dict[str, str]:
    """Return which prompt (its name) makes which field of a record."""
    used = {"cot": "cot"} if use_cot else {}
    if use_passages:
        used |= {"positive": "positive", "hard_negative": "negative"}
    return used


def synthesize(
    queries: Sequence[Query],
    teacher: Teacher,
    use_cot: bool,
    use_passages: bool,
    counts: Counter[str],
) -> Iterator[dict]:
    """Yield one record a query, in their order: query_id, query, cot, positive, hard_negative.

    A text that is switched off, was not answered or is blank is None.

    Args:
        queries: the training queries.
        teacher: whom to ask.
        use_cot: ask for a chain of thought.
        use_passages: ask for a positive and a hard negative.
        counts: filled on the way: queries, cot, positive, hard_negative (texts that there are),
            no_answer (requests that brought none).

    Raises:
        SyntrieverError: a prompt is missing or malformed, or the teacher cannot go on.
    """
    used = prompts_used(use_cot, use_passages)
    templates = [prompts.load(name) for name in used.values()]
    counts.update(dict.fromkeys(("queries", "cot", "positive", "hard_negative", "no_answer"), 0))
    answers = teacher.answer(_requests(queries, templates))
    # One iterator, repeated: each query takes the answers to its own requests, as many as prompts.
    for query, *own in zip(queries, *[answers] * len(templates), strict=True):
        texts = dict(zip(used, map(_text, own), strict=True))
        counts["queries"] += 1
        for field, text in texts.items():
            counts[field if text else "no_answer"] += 1
        yield {
            "query_id": query.query_id,
            "query": query.query,
            "cot": texts.get("cot"),
            "positive": texts.get("positive"),
            "hard_negative": texts.get("hard_negative"),
        }


def _requests(queries: Sequence[Query], templates: list[prompts.Template]) -> Iterator[Request]:
    for query in queries:
        for template in templates:
            messages = prompts.messages(template, query=query.query)
            yield Request(template.name, messages, query.query_id, query.query)


def _text(answer: Answer) -> str | None:
    return (answer.text or "").strip() or None
