"""One run of batches: pick up what is on its way, submit, look, fetch, until all is answered."""

import hashlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from openai.types import Batch
from tqdm import tqdm

from syntriever.errors import SyntrieverError
from syntriever.teacher.batch_api import (
    SETTLE_S,
    BatchApi,
    FileTooLargeError,
    QueueFullError,
    failed_for,
)
from syntriever.teacher.batch_results import ResultFile, Unanswered
from syntriever.teacher.journal import Journal
from syntriever.teacher.keys import normalised_url
from syntriever.teacher.money import Prices
from syntriever.teacher.settings import Limits, LiveSettings
from syntriever.teacher.spool import Spool

DONE = "done"  # the journal's word for a batch that is over
OVER = ("completed", "expired", "cancelled")


@dataclass(frozen=True)
class BatchLimits:
    """The API's limits of a request file, and how often we look at batches.

    Attributes:
        max_requests, max_bytes: of one file.
        poll_s: seconds between two looks, at first.
        longest_poll_s: seconds between two looks when nothing has happened for long.
    """

    max_requests: int = 50_000
    max_bytes: int = 200_000_000
    poll_s: float = 10.0
    longest_poll_s: float = 120.0


@dataclass(frozen=True)
class _Chunk:
    """The requests of one request file."""

    keys: list[str]
    content_hash: str
    size: int


class BatchRun:
    """Brings the requests in a spool to an answer in the journal."""

    def __init__(
        self,
        spool: Spool,
        journal: Journal,
        api: BatchApi,
        settings: LiveSettings,
        limits: Limits,
        batch_limits: BatchLimits,
        prices: Prices,
        sleep: Callable[[float], None] = time.sleep,
        say: Callable[[str], None] = tqdm.write,
    ) -> None:
        """Take `prices` as those of a batch; nothing is sent yet."""
        self._spool, self._journal, self._api = spool, journal, api
        self._base_url = normalised_url(settings.base_url)
        self._limits, self._batch_limits = limits, batch_limits
        self._sleep, self._say = sleep, say
        self._results = ResultFile(spool, journal, api, settings, prices, say)
        self._max_requests, self._max_bytes = batch_limits.max_requests, batch_limits.max_bytes
        self._scratch = journal.path.with_name(journal.path.name + ".file.jsonl")
        self._open: dict[str, str] = {}  # content hash -> batch id
        self._progress: dict[str, int] = {}  # content hash -> requests that the server is done with
        self._total = spool.count_wanted()
        self._queue_full = False
        self._refusals = 0  # in a row, of a single request, by a queue that holds none of ours
        self._bar: tqdm | None = None

    def run(self) -> None:
        """Go on until every request that is wanted has an answer.

        Raises:
            SyntrieverError: the server refuses us, the budget is at its end, or requests have no
                answer after as many batches as are allowed.
        """
        self._bar = tqdm(
            total=self._total,
            desc="teacher, batches",
            unit="answer",
            file=sys.stderr,
            mininterval=0.5 if sys.stderr.isatty() else 30,
        )
        try:
            self._pick_up()
            self._go_on()
        finally:
            self._bar.close()
            self._scratch.unlink(missing_ok=True)
        self._say(
            f"teacher: {self._results.answered} answers of batches for ${self._results.usd:.4f}; "
            f"in all so far: ${self._journal.spent():.4f}"
        )
        self._check_given_up()

    def _go_on(self) -> None:
        pause = self._batch_limits.poll_s
        while True:
            self._submit()
            self._show()
            awaited = any(self._spool.is_awaited(content_hash) for content_hash in self._open)
            if not awaited and not self._spool.count_waiting(self._limits.max_attempts):
                return
            self._sleep(pause)
            happened = self._look()
            slower = min(pause * 1.5, self._batch_limits.longest_poll_s)
            pause = self._batch_limits.poll_s if happened else slower

    # What is on its way from an earlier run

    def _pick_up(self) -> None:
        batches = self._journal.open_batches()
        here = {"base_url": self._base_url}
        known = {batch.content_hash: batch.batch_id for batch in batches if batch.details == here}
        # What is noted in the spool alone was killed before anything was sent.
        for content_hash in set(self._spool.batches()) - {batch.content_hash for batch in batches}:
            self._spool.release(content_hash)
        unsure = [content_hash for content_hash, batch_id in known.items() if batch_id is None]
        if unsure:
            self._sleep(SETTLE_S)
        for content_hash, batch_id in known.items():
            self._pick_up_one(content_hash, batch_id)
        if self._open:
            count = sum(self._spool.count_in(content_hash) for content_hash in self._open)
            self._say(
                f"batches of an earlier run are on their way: {len(self._open)}, with {count} "
                "requests. They are picked up, not submitted again."
            )

    def _pick_up_one(self, content_hash: str, batch_id: str | None) -> None:
        if batch_id is None:
            batch = self._api.find(content_hash, self._spool.is_closed)
            batch_id = batch and batch.id
        if batch_id is None or self._spool.is_closed(content_hash, batch_id):
            self._spool.release(content_hash)
            self._note(content_hash, batch_id, DONE)
            return
        self._note(content_hash, batch_id, "submitted")
        if not self._spool.count_in(content_hash):
            self._adopt(content_hash, batch_id)
        if self._spool.count_in(content_hash):
            self._open[content_hash] = batch_id

    def _note(self, content_hash: str, batch_id: str | None, status: str) -> None:
        self._journal.save_batch(content_hash, batch_id, status, base_url=self._base_url)

    def _adopt(self, content_hash: str, batch_id: str) -> None:
        """Learn from a batch's own request file what it holds: the spool was lost."""
        batch = self._api.retrieve(batch_id)
        self._api.download(batch.input_file_id, self._scratch, batch_id)
        with self._scratch.open("rb") as lines:
            self._spool.adopt((json.loads(line)["custom_id"] for line in lines), content_hash)

    # Submitting

    def _submit(self) -> None:
        while not self._queue_full:
            chunk = self._write_chunk()
            if chunk is None:
                return
            self._submit_one(chunk)

    def _write_chunk(self) -> _Chunk | None:
        """Write the next request file within all limits; None: nothing can be sent now."""
        left = self._money_left()
        keys: list[str] = []
        digest, size, cost = hashlib.sha256(), 0, 0.0
        with self._scratch.open("wb") as file:
            for item in self._spool.waiting(self._limits.max_attempts):
                line = item.line
                if len(line) > self._max_bytes:
                    raise SyntrieverError(
                        f"the request of prompt {item.prompt} for query {item.query_id!r} has "
                        f"{len(line)} bytes; a request file may have {self._max_bytes}. Shorten it."
                    )
                if left is not None and cost + item.cost > left:
                    if self._open:  # what these have really cost may leave enough
                        return None
                    if not keys:
                        raise self._no_money(item.cost)
                    break
                if len(keys) == self._max_requests or size + len(line) > self._max_bytes:
                    break
                file.write(line)
                digest.update(line)
                keys.append(item.key)
                size, cost = size + len(line), cost + item.cost
        return _Chunk(keys, digest.hexdigest(), size) if keys else None

    def _money_left(self) -> float | None:
        if self._limits.budget_usd is None:
            return None
        promised = self._journal.spent() + self._spool.cost_in_batches()
        return self._limits.budget_usd * (1 + 1e-9) - promised

    def _no_money(self, cost: float) -> SyntrieverError:
        waiting = self._spool.count_waiting(self._limits.max_attempts)
        return SyntrieverError(
            f"the budget (runtime.teacher.budget_usd: {self._limits.budget_usd:g}) does not allow "
            f"another request, which costs up to ${cost:.4f} in a batch; "
            f"${self._journal.spent():.4f} are spent, {waiting} requests are left. All answers are "
            "in the journal: raise the budget, and the same command goes on from there."
        )

    def _submit_one(self, chunk: _Chunk) -> None:
        content_hash = chunk.content_hash
        self._spool.assign(chunk.keys, content_hash)
        self._note(content_hash, None, "submitting")
        try:
            batch = self._api.find(content_hash, self._spool.is_closed) or self._api.create(
                self._api.upload(self._scratch), content_hash, self._spool.is_closed
            )
        except FileTooLargeError as error:
            self._withdraw(content_hash)
            self._shrink(len(chunk.keys), str(error), chunk.size)
        except QueueFullError as error:
            self._withdraw(content_hash)
            self._wait_for_queue(len(chunk.keys), str(error))
        else:
            self._note(content_hash, batch.id, "submitted")
            self._open[content_hash] = batch.id

    def _withdraw(self, content_hash: str, batch_id: str | None = None) -> None:
        """Note that a batch was refused: its requests wait again, as if never sent."""
        self._spool.release(content_hash, batch_id)
        self._note(content_hash, batch_id, DONE)
        self._open.pop(content_hash, None)

    def _shrink(self, count: int, words: str, size: int | None = None) -> None:
        """Make smaller files from now on."""
        if count == 1:
            raise SyntrieverError(
                f'the server finds a file of one request too large: "{words}" Shorten the prompt, '
                "or set runtime.teacher.mode: live."
            )
        self._max_requests = max(1, count // 2)
        if size is not None:
            self._max_bytes = size // 2 + 1

    def _wait_for_queue(self, count: int, words: str) -> None:
        """Hold back until another batch is over; if there is none, try with fewer requests."""
        self._queue_full = True
        self._say(
            f'a batch of {count} requests was refused for now: "{words}" They are submitted again '
            "when there is room."
        )
        if self._open:
            return
        self._max_requests = max(1, count // 2)
        self._refusals += count == 1
        if self._refusals >= self._limits.max_attempts:
            raise SyntrieverError(
                f'the server\'s queue takes not even one request: "{words}" Wait until other '
                "batches of your organisation are over, then run this again: nothing is lost."
            )

    # Looking, and fetching what came

    def _look(self) -> bool:
        """Look at every open batch; return whether one is over."""
        happened = False
        for content_hash, batch_id in list(self._open.items()):
            batch = self._api.retrieve(batch_id)
            counts = batch.request_counts
            self._progress[content_hash] = counts.completed + counts.failed if counts else 0
            if batch.status == "failed":
                self._failed(content_hash, batch)
            elif batch.status in OVER:
                self._fetch(content_hash, batch)
            happened = happened or content_hash not in self._open
            self._show()
        if not self._open:
            self._queue_full = False
        return happened

    def _failed(self, content_hash: str, batch: Batch) -> None:
        """Deal with a batch that was accepted and then refused: nothing of it was carried out."""
        count = self._spool.count_in(content_hash)
        self._withdraw(content_hash, batch.id)
        cause, words = failed_for(batch, self._api.clean)
        if cause is QueueFullError:
            self._wait_for_queue(count, words)
        elif cause is FileTooLargeError:
            self._shrink(count, words)
        else:
            raise SyntrieverError(
                f'the server refused {batch.id}, a batch of {count} requests: "{words}" Nothing of '
                "it was carried out. Mend the cause and run this again."
            )

    def _fetch(self, content_hash: str, batch: Batch) -> None:
        """Bring what a batch has finished into the journal; what it has not waits again."""
        stop = self._read_files(content_hash, batch)
        left = self._spool.release(content_hash, batch.id, attempted=True)
        self._note(content_hash, batch.id, DONE)
        del self._open[content_hash]
        self._queue_full, self._refusals = False, 0
        self._max_requests = min(self._max_requests * 2, self._batch_limits.max_requests)
        if stop is not None:
            raise SyntrieverError(
                f'the server refused a request of {batch.id}: "{stop.words}" ({stop.advice}). '
                "The answers that came are kept; run this again when it is mended."
            )
        if batch.status == "cancelled":
            raise SyntrieverError(
                f"{batch.id} was cancelled, and not by this run. What it had finished is kept; "
                f"{left} requests are left. Run this again to send them in a new batch."
            )
        if left:
            self._say(
                f"{batch.id} ({batch.status}) left {left} requests without an answer; the last "
                f'words: "{self._results.last_words}" They are sent again, up to '
                f"{self._limits.max_attempts} times in all."
            )

    def _read_files(self, content_hash: str, batch: Batch) -> Unanswered | None:
        """Read a batch's files; return the first result, if any, after which asking is no use."""
        stop = None
        for file_id in (batch.output_file_id, batch.error_file_id):
            if file_id:
                self._api.download(file_id, self._scratch, batch.id)
                stop = self._results.read(self._scratch, content_hash, batch.id) or stop
        return stop

    def _check_given_up(self) -> None:
        given_up = self._spool.count_given_up(self._limits.max_attempts)
        if given_up:
            raise SyntrieverError(
                f"{given_up} requests were in {self._limits.max_attempts} batches each and have no "
                f'answer; the last words: "{self._results.last_words}" All other answers are in '
                "the journal. Run this again to try once more."
            )

    def _show(self) -> None:
        underway = sum(self._progress.get(content_hash, 0) for content_hash in self._open)
        done = min(self._total, self._total - self._spool.count_wanted() + underway)
        self._bar.set_postfix_str(
            f"batches open {len(self._open)}, ${self._results.usd:.2f}", refresh=False
        )
        self._bar.update(done - self._bar.n)
