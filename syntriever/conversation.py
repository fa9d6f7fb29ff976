"""A stage's talk with the teacher: what is unclear is asked again, what is lacking is counted."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from syntriever import params, teacher_choice
from syntriever.teacher.base import (
    CONTENT_FILTER,
    CUT_OFF,
    EMPTY,
    FAILURES,
    REFUSAL,
    UNCLEAR,
    Answer,
    Request,
    Teacher,
    check_failed_share,
)

# Which metric counts which reason; all others count as no_answer.
METRIC = {REFUSAL: "refusals", CONTENT_FILTER: "refusals", CUT_OFF: "cut_off"}

# The metrics of a stage that has nothing to ask; see `Conversation.metrics`.
NOTHING_ASKED = {
    "refusals": 0,
    "cut_off": 0,
    "no_answer": 0,
    "calls": 0,
    "prompt_tokens": 0,
    "completion_tokens": 0,
}

T = TypeVar("T")


@contextmanager
def opened(
    chosen: params.AnyTeacher, runtime: params.RuntimeTeacher, reasks: int = 0
) -> Iterator["Conversation"]:
    """Open the teacher that the params choose, and close it after the block.

    Raises:
        SyntrieverError: see `teacher_choice.open_teacher`.
    """
    teacher = teacher_choice.open_teacher(chosen, runtime)
    try:
        yield Conversation(teacher, chosen.max_failed_share, reasks)
    finally:
        teacher.close()


class Conversation:
    """Asks the teacher, sorts out what cannot be used, and counts it."""

    def __init__(self, teacher: Teacher, max_failed_share: float, reasks: int = 0) -> None:
        """Take the teacher; nothing is asked yet.

        Args:
            teacher: whom to ask.
            max_failed_share: of the questions; see `check_failed_share`.
            reasks: how often an unclear verdict is asked again.
        """
        self._teacher = teacher
        self._allowed = max_failed_share
        self._reasks = reasks
        self._asked = 0
        self._lacking: Counter[str] = Counter()  # reason -> questions without a usable answer
        self._cut_but_read = 0

    def texts(
        self,
        requests: Iterable[Request],
        at_most: int,
        read: Callable[[str], str | None] = str.strip,
    ) -> Iterator[str | None]:
        """Yield the text that answers each request; None where there is none to be used.

        None stands for a refusal, an answer that was cut off, no answer, and a text that `read`
        refuses.

        Args:
            requests: read as the answers come.
            at_most: how many requests there can be. With more failures than that allows the rest is
                not asked, since it would be paid for and thrown away.
            read: makes of an answer the text that is used, by default without white space around
                it; None where it can't be used, which counts as unclear.

        Raises:
            SyntrieverError: too many were not answered, or the teacher cannot go on.
        """
        for answer in self._teacher.answer(_Counted(requests, at_most)):
            reason = _reason(answer)
            text = None if reason else read(answer.text)
            if reason is None and text is None:
                reason = UNCLEAR
            self._count(reason, at_most, final=(*FAILURES, UNCLEAR))
            yield text
        self._check(self._asked)

    def verdicts(
        self,
        requests: Callable[[], Iterable[Request]],
        read: Callable[[str], T | None],
        at_most: int,
    ) -> list[T | None]:
        """Return what `read` finds in the answer to each request; None where there is no verdict.

        An answer without a readable verdict is asked for again, `reasks` times at most. A refusal
        is not: it would be paid for again and stay one. Nor is an answer that was cut off before
        its verdict.

        Args:
            requests: makes the requests, the same ones each time.
            read: reads a text; None where it is unclear.
            at_most: see `texts`.

        Raises:
            SyntrieverError: too many were not answered, or the teacher cannot go on.
        """
        verdicts: list[T | None] = []
        unclear: list[int] = []
        for i, answer in enumerate(self._teacher.answer(_Counted(requests(), at_most))):
            reason, verdict = self._read(answer, read)
            self._count(reason, at_most, final=FAILURES)  # what is unclear is asked again
            verdicts.append(verdict)
            if reason == UNCLEAR:
                unclear.append(i)
        for sample in range(1, self._reasks + 1):
            if unclear:
                unclear = self._ask_again(requests(), read, unclear, sample, verdicts)
        self._check(self._asked)
        return verdicts

    def _ask_again(
        self,
        requests: Iterable[Request],
        read: Callable[[str], T | None],
        unclear: list[int],
        sample: int,
        verdicts: list[T | None],
    ) -> list[int]:
        """Fill in what is clear now; return the indices of what is still unclear."""
        still = []
        again = _Counted(_again(requests, set(unclear), sample), len(unclear))
        for i, answer in zip(unclear, self._teacher.answer(again), strict=True):
            reason, verdicts[i] = self._read(answer, read)
            self._lacking[UNCLEAR] -= 1
            if reason:
                self._lacking[reason] += 1
            if reason == UNCLEAR:
                still.append(i)
        return still

    def _read(self, answer: Answer, read: Callable[[str], T | None]) -> tuple[str | None, T | None]:
        """Return the reason why there is no verdict, or the verdict."""
        reason = _reason(answer)
        if reason and not (reason == CUT_OFF and answer.text):
            return reason, None
        verdict = read(answer.text)
        if verdict is None:
            return reason or UNCLEAR, None
        self._cut_but_read += reason == CUT_OFF
        return None, verdict

    def _count(self, reason: str | None, at_most: int, final: Collection[str]) -> None:
        self._asked += 1
        if reason:
            self._lacking[reason] += 1
        if reason in final:
            self._check(at_most, final)

    def _check(self, asked: int, reasons: Iterable[str] = (*FAILURES, UNCLEAR)) -> None:
        failed = {reason: self._lacking[reason] for reason in sorted(reasons)}
        check_failed_share(sum(failed.values()), asked, self._allowed, failed)

    def metrics(self) -> dict:
        """Return what the answers lacked and took, the same whether asked now or replayed.

        refusals (content filters among them); cut_off (by length, those whose verdict could be read
        all the same among them); no_answer (empty, prompt too long, not recorded); calls (answers,
        those to what was asked again among them); prompt_tokens and completion_tokens, None where
        nobody counted.
        """
        lacking = Counter({"refusals": 0, "cut_off": self._cut_but_read, "no_answer": 0})
        for reason, count in self._lacking.items():
            if reason != UNCLEAR:
                lacking[METRIC.get(reason, "no_answer")] += count
        return dict(lacking) | dataclasses.asdict(self._teacher.usage)


class _Counted:
    """Requests that come one by one and know about how many there are, for a progress bar."""

    def __init__(self, requests: Iterable[Request], at_most: int) -> None:
        self._requests = requests
        self._at_most = at_most

    def __iter__(self) -> Iterator[Request]:
        return iter(self._requests)

    def __length_hint__(self) -> int:
        return self._at_most


def _again(requests: Iterable[Request], wanted: set[int], sample: int) -> Iterator[Request]:
    for i, request in enumerate(requests):
        if i in wanted:
            yield dataclasses.replace(request, sample=sample)


def _reason(answer: Answer) -> str | None:
    """Why an answer cannot be used as it is; None where it can."""
    if answer.reason or not (answer.text or "").strip():
        return answer.reason or EMPTY
    return None
