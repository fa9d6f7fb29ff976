"""A teacher that asks a server: in order for the caller, many at once for the server.

Every answer is in the journal before it is handed on, so nothing is lost and nothing is paid twice.
"""

import operator
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from syntriever.errors import SyntrieverError
from syntriever.teacher import reading
from syntriever.teacher.asking import Asker, StoppedError
from syntriever.teacher.base import Answer, Request, Usage
from syntriever.teacher.journal import Entry, Journal, key, to_stderr
from syntriever.teacher.keys import normalised_url
from syntriever.teacher.retry import Policy
from syntriever.teacher.settings import Limits, LiveSettings

# Requests read ahead of the one whose answer is next, for each that may be in flight: one slow
# answer must not keep the others waiting. Bounds memory.
AHEAD = 32
# How many requests are looked up, after a stop, to say how many remain.
MOST_COUNTED = 100_000


@dataclass
class _Place:
    """A request in the line of answers: answered already, or to be."""

    request: Request
    key: str
    entry: Entry | None = None
    future: "Future[Entry] | None" = None


class LiveTeacher:
    """Asks an OpenAI-compatible server for all that the journal does not hold yet."""

    def __init__(
        self,
        settings: LiveSettings,
        limits: Limits,
        journal_path: Path,
        api_key: str | None,
        *,
        policy: Policy | None = None,
        say: Callable[[str], None] = to_stderr,
    ) -> None:
        """Open the journal; nothing is sent, nor any price or key needed, before it lacks one.

        Args:
            settings: what determines answers.
            limits: pace, patience and money.
            journal_path: see `journal.default_path`.
            api_key: None for a server that wants none. It is kept in memory only.
            policy: of retries; by default `limits.max_attempts` and otherwise the usual one.
            say: is told what people should know.

        Raises:
            SyntrieverError: the base URL is none, or the journal cannot be opened.
        """
        normalised_url(settings.base_url)
        self._settings = settings
        self._limits = limits
        self._policy = policy or Policy(max_attempts=limits.max_attempts)
        self._api_key = api_key
        self._say = say
        self._journal = Journal(journal_path)
        self._open = ExitStack()  # what `answer` has begun and not ended
        self._calls = self._prompt_tokens = self._completion_tokens = 0

    @property
    def usage(self) -> Usage:
        """What the answers took that were yielded so far, whether asked now or before."""
        return Usage(self._calls, self._prompt_tokens, self._completion_tokens)

    def close(self) -> None:
        """Keep what is in flight, of `answer`s that were left half-way too; close the journal."""
        self._open.close()
        self._journal.close()

    def answer(self, requests: Iterable[Request]) -> Iterator[Answer]:
        """Yield one answer a request, in order; see `Teacher.answer`.

        Reads ahead of the answers by a bounded number of requests. A progress bar shows the time
        left if `requests` has a length (or a `__length_hint__`).

        Raises:
            SyntrieverError: the server refuses us, the budget is at its end, a price or a key is
                missing, or the journal cannot be written. The answers so far are kept.
        """
        source, line = iter(requests), deque()
        with ExitStack() as stack:
            self._open.callback(stack.close)
            asking = _Asking(self, stack, operator.length_hint(requests) or None)
            try:
                while self._fill(line, source, asking):
                    entry = asking.entry(line[0])
                    place = line.popleft()
                    asking.progress(1)
                    yield self._use(entry, place.request)
            except StoppedError:
                asking.asker.finish()
                raise self._stopped(asking.asker, line, source) from None

    def _fill(self, line: deque[_Place], source: Iterator[Request], asking: "_Asking") -> bool:
        """Read ahead, asking what the journal lacks; return whether there is any to wait for."""
        while len(line) < AHEAD * self._limits.concurrency:
            request = next(source, None)
            if request is None:
                break
            place = _Place(request, key(self._settings, request))
            place.entry = self._known(place)
            if place.entry is None:
                asking.ask(place)
            line.append(place)
        return bool(line)

    def _known(self, place: _Place) -> Entry | None:
        limit = self._settings.sampling[place.request.prompt].max_tokens
        return self._journal.current(place.key, limit)

    def _use(self, entry: Entry, request: Request) -> Answer:
        self._calls += 1
        self._prompt_tokens += entry.prompt_tokens
        self._completion_tokens += entry.completion_tokens
        return reading.answer(entry, request.prompt)

    def _stopped(
        self, asker: Asker, line: deque[_Place], source: Iterator[Request]
    ) -> SyntrieverError:
        """The error that says why, what was spent, what remains, and how to go on."""
        remaining = {place.key for place in line if self._known(place) is None}
        counted = 0
        for request in source:
            counted += 1
            if counted > MOST_COUNTED:
                break
            place = _Place(request, key(self._settings, request))
            if self._known(place) is None:
                remaining.add(place.key)
        more = "at least " if counted > MOST_COUNTED else ""
        return SyntrieverError(
            f"{asker.stopped_by} This run asked {asker.tally.answered} for "
            f"${asker.tally.usd:.4f}, all kept in {self._journal.path}; {more}{len(remaining)} "
            "remain to be asked. The same command goes on from there."
        )


class _Asking:
    """What one call of `answer` asks: started by the first request that the journal lacks."""

    def __init__(self, teacher: LiveTeacher, stack: ExitStack, total: int | None) -> None:
        self._teacher = teacher
        self._stack = stack
        self._total = total
        self._passed = 0
        self._bar: tqdm | None = None
        self._open: dict[str, Future[Entry]] = {}
        self.asker: Asker | None = None

    def ask(self, place: _Place) -> None:
        """Have it asked, unless the same is being asked, or another process has meanwhile."""
        if self.asker is None:
            self._start()
            place.entry = self._teacher._known(place)
            if place.entry is not None:
                return
        place.future = self._open.get(place.key)
        if place.future is None:
            place.future = self.asker.submit(place.key, place.request)
            self._open[place.key] = place.future

    def entry(self, place: _Place) -> Entry:
        """Wait for its answer.

        Raises:
            StoppedError: the run has stopped.
        """
        if self.asker is not None and self.asker.stopped_by is not None:
            raise StoppedError
        if place.future is None:
            return place.entry
        while True:
            try:
                entry = place.future.result(timeout=1)
            except TimeoutError:
                self.progress(0)
                continue
            self._open.pop(place.key, None)
            return entry

    def progress(self, passed: int) -> None:
        """Move the bar on, once something is being asked."""
        self._passed += passed
        if self._bar is None:
            return
        tally = self.asker.tally
        self._bar.set_postfix_str(
            f"in flight {self.asker.in_flight}, failed {tally.unanswered} (+{tally.failures} sent "
            f"again), {tally.tokens} tokens, ${tally.usd:.2f}",
            refresh=False,
        )
        self._bar.update(passed)
        if not passed:
            self._bar.refresh()

    def _start(self) -> None:
        teacher = self._teacher
        self._stack.enter_context(teacher._journal.asking(teacher._say))
        if batches := teacher._journal.open_batches():
            teacher._say(
                f"warning: {len(batches)} batches are still open; what they hold may be asked, and "
                "paid, a second time now. Interrupt and run with runtime.teacher.mode: batch first "
                "to fetch them."
            )
        self.asker = Asker(
            teacher._settings, teacher._limits, teacher._policy, teacher._journal, teacher._api_key
        )
        self._stack.callback(self._end)
        self._bar = tqdm(
            total=self._total,
            initial=self._passed,
            desc="teacher",
            unit="answer",
            file=sys.stderr,
            mininterval=0.5 if sys.stderr.isatty() else 30,
            smoothing=0.05,
        )

    def _end(self) -> None:
        """Keep what is in flight, unless the waiting is interrupted; then say what it took."""
        if sys.is_finalizing():  # too late: the thread runs no more
            return
        try:
            if self.asker.in_flight:
                self._teacher._say(
                    f"waiting for {self.asker.in_flight} requests in flight, which are paid for; "
                    "another interrupt drops them"
                )
            self.asker.halt()
            self.asker.finish()
        finally:
            self.asker.close()
            self._bar.close()
        tally, total = self.asker.tally, self._teacher._journal.total()
        price = self._teacher._limits
        unknown = price.price_input is None or price.price_output is None
        money = "at an unknown price" if unknown else f"for ${tally.usd:.4f}"
        self._teacher._say(
            f"teacher: asked {tally.answered} {money}, {tally.tokens} tokens; in all so far: "
            f"{total.asked}, ${total.usd:.4f}"
        )
