"""Sends requests at once, from a thread of its own, and journals each answer before it is told."""

import asyncio
import contextlib
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NoReturn

from syntriever.errors import SyntrieverError
from syntriever.teacher import money, reading
from syntriever.teacher.base import Request
from syntriever.teacher.body import Completion, body
from syntriever.teacher.client import Client
from syntriever.teacher.journal import Entry, Journal
from syntriever.teacher.pace import Pace
from syntriever.teacher.retry import RATE_LIMITED, Again, Failure, NoAnswer, Policy, Stop
from syntriever.teacher.settings import Limits, LiveSettings


class StoppedError(Exception):
    """This request was not sent, or not sent again, since the run has stopped."""


@dataclass
class Tally:
    """What this run has asked so far.

    `failures` are attempts that failed; `unanswered` are answers without a text to use.
    """

    answered: int = 0
    unanswered: int = 0
    failures: int = 0
    tokens: int = 0
    usd: float = 0.0


@dataclass(frozen=True)
class _Job:
    """A request on its way: with its body, and what it takes at most in tokens and USD."""

    key: str
    request: Request
    body: dict
    tokens: int
    worst: float


class Asker:
    """The one process's asking: at most `concurrency` requests in flight, paced, within the budget.

    `submit` and `close` are called from the thread that made it; all else runs in its own thread.
    A request counts as in flight until its answer is in the journal.
    """

    def __init__(
        self,
        settings: LiveSettings,
        limits: Limits,
        policy: Policy,
        journal: Journal,
        api_key: str | None,
    ) -> None:
        """Check settings and prices, and start the thread; nothing is sent yet.

        Raises:
            SyntrieverError: the price is unknown, or there is no key where one is needed.
        """
        self.tally = Tally()
        self.stopped_by: SyntrieverError | None = None
        self.in_flight = 0
        self._settings = settings
        self._policy = policy
        self._journal = journal
        prices = money.prices(limits, settings.model)
        self._budget = money.Budget(prices, limits.budget_usd, journal.spent())
        self._budget_usd = limits.budget_usd
        self._pace = Pace(limits.requests_per_minute, limits.tokens_per_minute)
        self._client = Client(settings.base_url, api_key, limits.timeout_s, limits.concurrency)
        self._slots = asyncio.Semaphore(limits.concurrency)
        self._stopping = asyncio.Event()
        self._settled = asyncio.Event()  # set for those who wait for money
        self._arrived: list[tuple[Entry, float, asyncio.Future]] = []
        self._arrival = asyncio.Event()
        self._tasks: set[Future] = set()
        self._disk = ThreadPoolExecutor(1, "journal")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="teacher", daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._write(), self._loop)

    def submit(self, key: str, request: Request) -> "Future[Entry]":
        """Have a request asked; the future ends with its entry once that is in the journal.

        Its exception is `StoppedError` where the run stops (see `stopped_by`) before the request
        has an answer.

        Raises:
            SyntrieverError: there is a budget, and no limit of this answer's length.
        """
        limit = self._settings.sampling[request.prompt].max_tokens
        prompt_tokens = money.prompt_tokens(request.messages)
        worst = self._budget.worst(prompt_tokens, limit)
        content = body(self._settings, request)
        job = _Job(key, request, content, prompt_tokens + (limit or 0), worst)
        task = asyncio.run_coroutine_threadsafe(self._answer(job), self._loop)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def halt(self) -> None:
        """Send nothing more; what is in flight still comes home (see `finish`)."""
        error = SyntrieverError("The caller wants no more answers.")
        self._loop.call_soon_threadsafe(self._stop_by, error)

    def finish(self) -> None:
        """Wait for all that was submitted; after a stop these are the requests in flight."""
        for task in list(self._tasks):
            task.exception()

    def close(self) -> None:
        """Drop what is in flight, journal what has arrived, and end the thread."""
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._disk.shutdown()

    async def _shut(self) -> None:
        me = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not me]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._commit()
        await self._client.close()

    async def _answer(self, job: _Job) -> Entry:
        async with self._slots:
            return await self._attempts(job)

    async def _attempts(self, job: _Job) -> Entry:
        attempt, answered_before = 1, self.tally.answered
        while True:
            amount = await self._admit(job)
            result = await self._client.ask(job.body)
            if isinstance(result, Completion):
                entry = reading.entry(job.key, job.request, self._settings, job.body, result)
                return await self._keep(job, entry, amount)
            step = self._policy.after(result, attempt)
            if isinstance(step, NoAnswer):
                entry = reading.no_answer(
                    job.key, job.request, self._settings, job.body, step.reason
                )
                return await self._keep(job, entry, amount)
            await self._fail(result, amount)
            if isinstance(step, Stop):
                self._stop(f"{self._where(job)}: {result}. {step.advice}")
            await self._wait(step)
            # A limit of the rate that lets others through meanwhile is no failure of this request.
            progress = self.tally.answered > answered_before
            attempt += not (result.status == RATE_LIMITED and progress)
            answered_before = self.tally.answered

    async def _admit(self, job: _Job) -> float:
        """Wait until the request may be sent; return the money set aside for it."""
        while True:
            self._check()
            delay = self._pace.delay()
            if delay > 0:
                await self._sleep(delay)
                continue
            amount = self._budget.reserve(job.worst)
            if amount is not None:
                self._pace.take(job.tokens)
                self._fly(1)
                return amount
            if not self.in_flight:
                self._stop(
                    f"the budget (runtime.teacher.budget_usd: {self._budget_usd:g}) does not "
                    f"allow another request, which costs up to ${job.worst:.4f}; "
                    f"${self._budget.spent:.4f} of it are spent. Raise it to go on."
                )
            self._settled.clear()
            await self._settled.wait()

    async def _keep(self, job: _Job, entry: Entry, amount: float) -> Entry:
        """Journal an answer, in one transaction with those that arrive about now."""
        cost = self._budget.prices.cost(entry.prompt_tokens, entry.completion_tokens)
        used = entry.prompt_tokens + entry.completion_tokens
        self._pace.give_back(max(0, job.tokens - used))
        kept = self._loop.create_future()
        self._arrived.append((entry, cost, kept))
        self._arrival.set()
        if not await asyncio.shield(kept):
            raise StoppedError
        self._budget.settle(amount, cost)
        self.tally.answered += 1
        self.tally.unanswered += entry.reason is not None
        self.tally.tokens += used
        self.tally.usd += cost
        self._fly(-1)
        return entry

    async def _fail(self, failure: Failure, amount: float) -> None:
        if failure.maybe_paid:
            try:
                await self._loop.run_in_executor(self._disk, self._journal.lose, amount)
            except SyntrieverError as error:
                self._stop_by(error)
        self._budget.settle(amount, 0.0)
        self._budget.spent += amount if failure.maybe_paid else 0.0
        self.tally.failures += 1
        self._fly(-1)

    async def _wait(self, step: Again) -> None:
        if step.all_wait:
            self._pace.pause(step.delay)
        await self._sleep(step.delay)

    async def _sleep(self, seconds: float) -> None:
        """Sleep so long, or until the run stops."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        self._check()

    def _fly(self, change: int) -> None:
        self.in_flight += change
        self._journal.note_in_flight(self.in_flight, self._budget.reserved)
        if change < 0:
            self._settled.set()

    def _stop(self, message: str) -> NoReturn:
        self._stop_by(SyntrieverError(message))
        raise StoppedError

    def _stop_by(self, error: SyntrieverError) -> None:
        """Stop the run, for the first reason only; what is in flight still comes home."""
        self.stopped_by = self.stopped_by or error
        self._stopping.set()
        self._settled.set()

    def _check(self) -> None:
        if self.stopped_by is not None:
            raise StoppedError

    def _where(self, job: _Job) -> str:
        return f"asking the teacher (prompt {job.request.prompt}, query {job.request.query_id!r})"

    async def _write(self) -> None:
        """Commit answers as they arrive: those that come while one transaction is written share the
        next one. Waiting for more would only lower the rate (benchmarks/teacher.py)."""
        while True:
            await self._arrival.wait()
            self._arrival.clear()
            await self._commit()

    async def _commit(self) -> None:
        group, self._arrived = self._arrived, []
        if not group:
            return
        entries = [entry for entry, _, _ in group]
        usd = sum(cost for _, cost, _ in group)
        try:
            await self._loop.run_in_executor(self._disk, self._journal.put, entries, usd)
            written = True
        except Exception as error:  # whatever it is, nobody may wait for ever
            known = isinstance(error, SyntrieverError)
            self._stop_by(error if known else SyntrieverError(f"The journal failed: {error!r}."))
            written = False
        for _, _, done in group:
            if not done.done():
                done.set_result(written)
