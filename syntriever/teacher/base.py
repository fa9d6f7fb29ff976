"""What a teacher is: requests go in, answers come out, in the same order."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol


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
    """

    prompt: str
    messages: tuple[dict, ...]
    query_id: str
    query: str
    passage_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """The teacher's text; or, where `text` is None, the short reason why there is none."""

    text: str | None
    reason: str | None = None


class Teacher(Protocol):
    """A black-box LLM: text in, text out."""

    def answer(self, requests: Iterable[Request]) -> Iterator[Answer]:
        """Yield one answer a request, in the order of `requests`, which is read as it goes.

        Raises:
            SyntrieverError: the teacher cannot go on, or the requests are over and not one of them
                was answered: a wrong setting, which must not pass for a silent teacher.
        """
        ...
