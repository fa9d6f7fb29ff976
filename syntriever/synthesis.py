"""Stage 1's data: the teacher's chain of thought, positive and hard negative for each query.

As in the paper, each text is the answer to a prompt that holds the query alone.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from syntriever import prompts
from syntriever.collection import Query
from syntriever.conversation import Conversation
from syntriever.teacher.base import Request


def prompts_used(use_cot: bool, use_passages: bool) -> dict[str, str]:
    """Return which prompt (its name) makes which field of a record."""
    used = {"cot": "cot"} if use_cot else {}
    if use_passages:
        used |= {"positive": "positive", "hard_negative": "negative"}
    return used


def requests(queries: Sequence[Query], use_cot: bool, use_passages: bool) -> Iterator[Request]:
    """Yield what is asked: one request a query and prompt.

    Raises:
        SyntrieverError: a prompt is missing or malformed.
    """
    templates = [prompts.load(name) for name in prompts_used(use_cot, use_passages).values()]
    for query in queries:
        for template in templates:
            messages = prompts.messages(template, query=query.query)
            yield Request(template.name, messages, query.query_id, query.query)


def synthesize(
    queries: Sequence[Query],
    conversation: Conversation,
    use_cot: bool,
    use_passages: bool,
    counts: Counter[str],
) -> Iterator[dict]:
    """Yield one record a query, in their order: query_id, query, cot, positive, hard_negative.

    A text that is switched off, or to which there is no answer that can be used, is None.

    Args:
        queries: the training queries.
        conversation: with the teacher; counts the answers that are lacking.
        use_cot: ask for a chain of thought.
        use_passages: ask for a positive and a hard negative.
        counts: filled on the way: queries, cot, positive, hard_negative (texts that there are).

    Raises:
        SyntrieverError: a prompt is missing or malformed, too many requests were not answered, or
            the teacher cannot go on.
    """
    fields = list(prompts_used(use_cot, use_passages))
    counts.update(dict.fromkeys(("queries", "cot", "positive", "hard_negative"), 0))
    asked = requests(queries, use_cot, use_passages)
    answers = conversation.texts(asked, at_most=len(queries) * len(fields))
    # One iterator, repeated: each query takes the answers to its own requests, as many as prompts.
    for query, *own in zip(queries, *[answers] * len(fields), strict=True):
        texts = dict(zip(fields, own, strict=True))
        counts["queries"] += 1
        for field, text in texts.items():
            counts[field] += text is not None
        yield {
            "query_id": query.query_id,
            "query": query.query,
            "cot": texts.get("cot"),
            "positive": texts.get("positive"),
            "hard_negative": texts.get("hard_negative"),
        }
