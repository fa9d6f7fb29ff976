"""A teacher that asks through OpenAI's Batch API: half the price, an answer within a day.

Every request is in one batch at a time at most. What is in which batch is noted on the disk before
the batch is made, and each batch carries the hash of its request file, by which it is found again:
a run that was killed, at any moment, goes on with the batches that there are.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from syntriever.errors import SyntrieverError
from syntriever.teacher import money, reading
from syntriever.teacher.base import Answer, Request, Usage
from syntriever.teacher.batch_api import BatchApi
from syntriever.teacher.batch_run import BatchLimits, BatchRun
from syntriever.teacher.body import body
from syntriever.teacher.journal import Entry, Journal, key
from syntriever.teacher.keys import normalised_url
from syntriever.teacher.settings import Limits, LiveSettings
from syntriever.teacher.spool import Item, Spool, spool_path

DISCOUNT = 0.5  # of the price of the same requests asked live
AT_ONCE = 1000  # requests that are taken in at a time


class BatchTeacher:
    """Asks a server that has the Batch API for all that the journal does not hold yet."""

    def __init__(
        self,
        settings: LiveSettings,
        limits: Limits,
        journal_path: Path,
        api_key: str | None,
        batch_limits: BatchLimits | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        say: Callable[[str], None] | None = None,
    ) -> None:
        """Open the journal; nothing is sent, nor any price or key needed, before it lacks one.

        Args:
            settings: what determines answers.
            limits: patience and money, the prices those of a live request; a batch has no pace.
            journal_path: see `journal.default_path`.
            api_key: None for a server that wants none. It is kept in memory only.
            batch_limits: the size of batches, and how often they are looked at.
            sleep: waits so many seconds.
            say: is told what people should know; by default standard error.

        Raises:
            SyntrieverError: the base URL is none, or the journal cannot be opened.
        """
        normalised_url(settings.base_url)
        self._settings = settings
        self._limits = limits
        self._api_key = api_key
        self._batch_limits = batch_limits or BatchLimits()
        self._sleep = sleep
        self._say = say or _say
        self._journal = Journal(journal_path)
        self._calls = self._prompt_tokens = self._completion_tokens = 0

    @property
    def usage(self) -> Usage:
        """What the answers took that were yielded so far, whether asked now or before."""
        return Usage(self._calls, self._prompt_tokens, self._completion_tokens)

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    def answer(self, requests: Iterable[Request]) -> Iterator[Answer]:
        """Yield one answer a request, in order; see `Teacher.answer`.

        Reads all requests before the first answer, onto the disk.

        Raises:
            SyntrieverError: the server refuses us, the budget is at its end, a price or a key is
                missing, or a request has no answer after `max_attempts` batches. The answers so far
                are kept, and batches that are on their way are picked up by the next run.
        """
        with tempfile.TemporaryFile("w+", encoding="utf-8") as asked:
            self._ask(requests, asked)
            asked.seek(0)
            for line in asked:
                digest, prompt = line.split()
                entry = self._journal.get(digest)
                if entry is None:
                    raise SyntrieverError(
                        f"an answer was removed from {self._journal.path} while it was being used "
                        "(`stages.journal forget`). Run the same again, which asks it again."
                    )
                yield self._use(entry, prompt)

    def _ask(self, requests: Iterable[Request], asked: TextIO) -> None:
        """See that the journal answers every request; write down (key, prompt) of each."""
        with (
            self._journal.asking(self._say),
            Spool(spool_path(self._journal.path)) as spool,
        ):
            remaining = iter(requests)
            while group := list(islice(remaining, AT_ONCE)):
                spool.want(self._missing(group, asked))
            if spool.count_wanted():
                self._run(spool)

    def _missing(self, requests: list[Request], asked: TextIO) -> Iterator[Item]:
        """Yield what the journal lacks."""
        for request in requests:
            digest = key(self._settings, request)
            asked.write(f"{digest} {request.prompt}\n")
            limit = self._settings.sampling[request.prompt].max_tokens
            if self._journal.current(digest, limit) is None:
                yield Item(
                    digest,
                    request.prompt,
                    request.query_id,
                    request.sample,
                    json.dumps(body(self._settings, request)),
                    self._budget.worst(money.prompt_tokens(request.messages), limit),
                )

    @cached_property
    def _prices(self) -> money.Prices:
        """The prices in a batch; needed, and asked for, only where something is missing."""
        prices = money.prices(self._limits, self._settings.model) or money.Prices()
        return money.Prices(prices.input * DISCOUNT, prices.output * DISCOUNT)

    @cached_property
    def _budget(self) -> money.Budget:
        return money.Budget(self._prices, self._limits.budget_usd, self._journal.spent())

    def _run(self, spool: Spool) -> None:
        api = BatchApi(self._settings, self._limits, self._api_key, self._sleep)
        try:
            BatchRun(
                spool,
                self._journal,
                api,
                self._settings,
                self._limits,
                self._batch_limits,
                self._prices,
                self._sleep,
                self._say,
            ).run()
        finally:
            api.close()

    def _use(self, entry: Entry, prompt: str) -> Answer:
        self._calls += 1
        self._prompt_tokens += entry.prompt_tokens
        self._completion_tokens += entry.completion_tokens
        return reading.answer(entry, prompt)


def _say(message: str) -> None:
    """Print a message for people, above a progress bar if there is one."""
    tqdm.write(message, file=sys.stderr)
