"""What a teacher is: requests go in, answers come out, in the same order."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from syntriever.errors import SyntrieverError

# Why a recorded teacher has no text: known gaps of the file, not failures of a teacher.
NOT_RECORDED = "not recorded"
OTHER_QUERY = "query text differs"

# Why a live teacher has no text.
CONTENT_FILTER = "content filter"
REFUSAL = "refusal"
CUT_OFF = "cut off"
PROMPT_TOO_LONG = "prompt too long"
EMPTY = "empty"
UNCLEAR = "unclear"  # said by the stages: there is text, but no verdict in it
FAILURES = frozenset({CONTENT_FILTER, REFUSAL, CUT_OFF, PROMPT_TOO_LONG, EMPTY})


@dataclass(frozen=True)
class Request:
    """One question to the teacher: what is said to it, and the key that names the question.

    A live teacher answers the messages. Recorded answers are found by the key (prompt, query id,
    passage ids), and `query` shows whether they were given to the same query.

    Attributes:
        prompt: name of the template, such as `cot` or `compare`.
        messages: chat messages, each {"role": …, "content": …}.
        query_id: the training query's id.
        query: the training query's text.
        passage_ids: ids of the corpus passages in the messages, in the order shown.
        sample: how many times the same thing was asked before; each is sampled anew.
    """

    prompt: str
    messages: tuple[dict, ...]
    query_id: str
    query: str
    passage_ids: tuple[str, ...] = ()
    sample: int = 0


@dataclass(frozen=True)
class Answer:
    """The teacher's text; or, where `text` is None, the short reason why there is none.

    Attributes:
        text: None where there is no answer that can be used.
        reason: one of this module's constants where `text` is None.
        prompt_tokens, completion_tokens: what the answer took; None where nobody counted.
    """

    text: str | None
    reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


@dataclass(frozen=True)
class Usage:
    """What the answers took that were used, whether asked now or replayed.

    Attributes:
        calls: answers.
        prompt_tokens, completion_tokens: None where nobody counted (recorded answers).
    """

    calls: int
    prompt_tokens: int | None
    completion_tokens: int | None


class Teacher(Protocol):
    """A black-box LLM: text in, text out."""

    @property
    def usage(self) -> Usage:
        """What the answers took that were yielded so far."""
        ...

    def answer(self, requests: Iterable[Request]) -> Iterator[Answer]:
        """Yield one answer a request, in the order of `requests`, which is read as it goes.

        Raises:
            SyntrieverError: the teacher cannot go on. A recorded one also where the requests are
                over and not one of them was answered: that is the wrong file.
        """
        ...

    def close(self) -> None:
        """Let go of connections and files."""
        ...


def check_failed_share(
    failed: int, asked: int, allowed: float, reasons: Mapping[str, int] | None = None
) -> None:
    """Refuse a stage's answers when too many items stayed without one.

    Args:
        failed: items that a teacher was asked about and did not answer in a usable way (`FAILURES`,
            and verdicts that stayed unclear). What was never recorded is no failure.
        asked: items that it was asked about.
        allowed: share of `asked` that may fail (`teacher.max_failed_share`).
        reasons: how many failed for which reason, for the message.

    Raises:
        SyntrieverError: more than that share failed.
    """
    if not asked or failed / asked <= allowed:
        return
    why = ", ".join(f"{reason}: {count}" for reason, count in (reasons or {}).items() if count)
    raise SyntrieverError(
        f"{failed} of {asked} questions stayed without an answer that can be used "
        f"({failed / asked:.1%}{'; ' if why else ''}{why}); teacher.max_failed_share allows "
        f"{allowed:.1%}. Nothing was written; all answers are kept: `python -m stages.journal "
        "list` shows them. Raise the limit, or change what brought this about: max_tokens in "
        "teacher.sampling for answers that were cut off, else the prompt or the model."
    )
