"""OpenAI's files and batches endpoints, with patience: what a batch teacher needs of them."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import httpx2
import openai
from openai.types import Batch, FileObject

from syntriever.errors import SyntrieverError
from syntriever.teacher import retry
from syntriever.teacher.client import KEY_LIKE, LONGEST_WORDS, NO_KEY, checked_key
from syntriever.teacher.keys import normalised_url
from syntriever.teacher.retry import Again, Failure, Policy, Stop
from syntriever.teacher.settings import Limits, LiveSettings

T = TypeVar("T")

METADATA = "syntriever"  # the name under which a batch carries the hash of its request file
PAGE = 100  # batches a page, the most that the API gives
FOUND_WITHIN_S = 30 * 24 * 3600  # of the newest on the list; an older batch's files are gone
SETTLE_S = 10.0  # until a batch whose creation was interrupted is on the list for sure
NOT_CARRIED_OUT = (400, 401, 403, 404, 429)  # statuses that leave no doubt of it
FILE_TIMEOUT_S = 600.0  # for files of up to 200 MB

# The limit of tokens that may wait in all batches together. Some servers say so at once, OpenAI's
# accepts the batch and fails it later.
QUEUE_CODES = frozenset({"token_limit_exceeded"})
QUEUE_WORDS = ("enqueued token",)
TOO_LARGE_CODES = frozenset({"too_many_tasks", "file_too_large"})
TOO_LARGE_WORDS = ("too large", "too big", "maximum file size", "file size", "size limit")
NO_BATCH_API = "if this server has no Batch API, set runtime.teacher.mode to live"
# Said of a file that was uploaded a moment ago, by OpenAI's server and by Azure's.
NOT_YET_WORDS = ("cannot find file", "'pending' state")
DROPPED = (
    "use the key of the project that submitted it; if its server has dropped it, `python -m "
    "stages.journal forget-batch` has what it held sent, and paid, again"
)


class FileTooLargeError(Exception):
    """The server takes no file of this size; holds its words."""


class QueueFullError(Exception):
    """Too many tokens wait in batches already; holds the server's words."""


class _BrokenAnswerError(Exception):
    """The server's answer is not what the API promises, or not yet: call again."""


# The connection or the answer's body broke, so nobody knows whether the call was carried out.
BROKEN = (
    openai.APIConnectionError,
    openai.APIResponseValidationError,
    httpx2.HTTPError,
    json.JSONDecodeError,
    UnicodeDecodeError,
    _BrokenAnswerError,
)


class BatchApi:
    """Calls that are made again when they fail in passing, and stop the run when they never work.

    Every method raises SyntrieverError, with the server's words, for what does not pass.
    """

    def __init__(
        self,
        settings: LiveSettings,
        limits: Limits,
        api_key: str | None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Make the client; nothing is sent.

        Raises:
            SyntrieverError: the base URL is none, or the key is missing or can be none.
        """
        self._key = checked_key(api_key, settings.base_url)
        self._policy = Policy(max_attempts=limits.max_attempts)
        self._sleep = sleep
        self._client = openai.OpenAI(
            api_key=self._key or NO_KEY,
            base_url=normalised_url(settings.base_url),
            timeout=limits.timeout_s,
            max_retries=0,  # ours is the only retry loop
        )

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def upload(self, path: Path) -> str:
        """Upload a request file and return its id. One that is uploaded twice costs nothing.

        Raises:
            FileTooLargeError: the server takes no file of this size.
        """

        def call() -> str:
            try:
                with path.open("rb") as file:
                    uploaded = self._client.files.create(
                        file=(path.name, file), purpose="batch", timeout=FILE_TIMEOUT_S
                    )
            except openai.APIStatusError as error:
                failure = self.failure(error.status_code, error.body, error.response.headers)
                if error.status_code == 413 or (
                    error.status_code == 400 and _says(failure, TOO_LARGE_WORDS)
                ):
                    raise FileTooLargeError(str(failure)) from None
                raise
            return _checked(uploaded, FileObject).id

        return self._call("uploading a request file", call)

    def create(
        self, file_id: str, content_hash: str, is_closed: Callable[[str, str], bool]
    ) -> Batch:
        """Submit an uploaded file, once: when the answer is lost, look for the batch first.

        Args:
            file_id: of the request file.
            content_hash: of the request file.
            is_closed: see `find`.

        Raises:
            QueueFullError: too many tokens wait in batches already.
        """

        def call() -> Batch:
            try:
                return self._create(file_id, content_hash)
            except (*BROKEN, openai.APIStatusError) as error:
                if getattr(error, "status_code", 500) in NOT_CARRIED_OUT:
                    raise
                self._sleep(SETTLE_S)
                batch = self.find(content_hash, is_closed)
                if batch is None:
                    raise
                return batch

        return self._call("creating a batch", call)

    def _create(self, file_id: str, content_hash: str) -> Batch:
        try:
            batch = self._client.batches.create(
                input_file_id=file_id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={METADATA: content_hash},
            )
        except openai.APIStatusError as error:
            failure = self.failure(error.status_code, error.body, error.response.headers)
            if failure.codes & QUEUE_CODES or _says(failure, QUEUE_WORDS):
                raise QueueFullError(str(failure)) from None
            if _says(failure, NOT_YET_WORDS):
                raise _BrokenAnswerError(str(failure)) from None
            raise
        return _checked(batch, Batch)

    def find(self, content_hash: str, is_closed: Callable[[str, str], bool]) -> Batch | None:
        """Search the list of batches, newest first, for one that carries `content_hash`.

        Args:
            content_hash: of a request file.
            is_closed: tells, by content hash and id, of a batch that is over and must not be found.
        """
        after: str | openai.Omit = openai.omit
        newest = 0  # by the server's clock, whatever ours says
        while True:
            page, more = self._page(after)
            for batch in page:
                created = batch.created_at or newest
                newest = max(newest, created)
                if created < newest - FOUND_WITHIN_S:
                    return None
                carried = (batch.metadata or {}).get(METADATA)
                failed = batch.status == "failed"  # none of its requests was carried out
                if carried == content_hash and not failed and not is_closed(content_hash, batch.id):
                    return batch
            if not page or not more:
                return None
            after = page[-1].id

    def _page(self, after: str | openai.Omit) -> tuple[list[Batch], bool]:
        """Return a page of the list, and whether there may be another."""

        def call() -> tuple[list[Batch], bool]:
            page = self._client.batches.list(limit=PAGE, after=after)
            if not isinstance(getattr(page, "data", None), list):
                raise _BrokenAnswerError("the answer is no list")
            batches = [_checked(batch, Batch) for batch in page.data]
            return batches, page.has_more or len(batches) == PAGE

        return self._call("listing the batches", call)

    def retrieve(self, batch_id: str) -> Batch:
        """Look at a batch."""
        return self._call(
            f"looking at {batch_id}",
            lambda: _checked(self._client.batches.retrieve(batch_id), Batch),
            DROPPED,
        )

    def download(self, file_id: str, path: Path, batch_id: str) -> None:
        """Write a file of the server to `path`, whole."""
        files = self._client.files.with_streaming_response

        def call() -> None:
            with files.content(file_id, timeout=FILE_TIMEOUT_S) as response:
                response.stream_to_file(path)

        self._call(f"fetching {file_id} of {batch_id}", call, DROPPED)

    def failure(
        self, status: int, body: object, headers: Mapping[str, str] | None = None
    ) -> Failure:
        """Put an error, of a call or of one request of a batch, in the terms of retry.py."""
        error = body if isinstance(body, dict) else {}
        codes = {str(error[name]).lower() for name in ("code", "type") if error.get(name)}
        return Failure(
            "status",
            self.clean(error.get("message") or body or ""),
            status,
            frozenset(codes),
            retry.retry_after(headers or {}, time.time()),
        )

    def clean(self, words: object) -> str:
        """Return the server's words on one line, not too long and without the key."""
        text = words if isinstance(words, str) else json.dumps(words, default=str)
        text = text.replace(self._key, "[key]") if self._key else text
        return KEY_LIKE.sub("[key]", " ".join(text.split()))[:LONGEST_WORDS] or "(no words)"

    def _call(self, what: str, call: Callable[[], T], if_missing: str = NO_BATCH_API) -> T:
        attempt = 0
        while True:
            attempt += 1
            try:
                return call()
            except openai.APIStatusError as error:
                failure = self.failure(error.status_code, error.body, error.response.headers)
            except BROKEN as error:
                failure = Failure(retry.CONNECTION, self.clean(f"{type(error).__name__}: {error}"))
            verdict = self._policy.after(failure, attempt)
            if not isinstance(verdict, Again):
                advice = if_missing if failure.status in (404, 405) else verdict
                raise _stopped(what, failure, advice)
            self._sleep(verdict.delay)


def _stopped(what: str, failure: Failure, advice: object) -> SyntrieverError:
    advice = advice.advice if isinstance(advice, Stop) else advice
    advice = f" ({advice})" if isinstance(advice, str) else ""
    return SyntrieverError(
        f"the teacher stopped: {what}: {failure}{advice}. Nothing is lost: all answers are in the "
        "journal, and when this is run again, batches that were submitted are picked up."
    )


def _checked(answer: object, kind: type[T]) -> T:
    if not isinstance(answer, kind) or not isinstance(getattr(answer, "id", None), str):
        raise _BrokenAnswerError(f"the answer is no {kind.__name__}")
    return answer


def _says(failure: Failure, words: tuple[str, ...]) -> bool:
    return any(one in failure.words.lower() for one in words)


def failed_for(batch: Batch, clean: Callable[[object], str]) -> tuple[type[Exception], str]:
    """Return why a batch was accepted and failed later, as an exception's class, and the words."""
    errors = (batch.errors and batch.errors.data) or []
    words = "; ".join(
        f"{error.message}{f' (line {error.line})' if error.line else ''}" for error in errors
    )
    failure = Failure("status", clean(words or "no reason was given"))
    codes = {error.code for error in errors}
    if codes & QUEUE_CODES or _says(failure, QUEUE_WORDS):
        return QueueFullError, failure.words
    if codes & TOO_LARGE_CODES or _says(failure, TOO_LARGE_WORDS):
        return FileTooLargeError, failure.words
    return SyntrieverError, failure.words
