"""What to do after a request has failed: send it again and when, pass it over, or stop."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

from syntriever.teacher.base import CONTENT_FILTER, CUT_OFF, PROMPT_TOO_LONG

# Kinds of failure.
TIMEOUT = "timeout"
UNREACHED = "unreached"  # no connection came about
CONNECTION = "connection"  # it broke on the way
BODY = "body"  # a whole body came, but no completion
STATUS = "status"  # an HTTP status of an error

# Statuses by which servers refuse one request for what it holds.
ITS_OWN_STATUSES = frozenset({400, 403, 413, 422})
RATE_LIMITED = 429
PASSING_STATUSES = frozenset({408, 409, RATE_LIMITED})
# Codes, not words: some servers word a short limit as others word an empty account.
NO_CREDIT = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
FILTERED = frozenset(
    {
        "content_filter",
        "content_policy_violation",
        "invalid_prompt",
        "responsibleaipolicyviolation",
        "moderation_blocked",
    }
)
TOO_LONG = frozenset(
    {"context_length_exceeded", "string_above_max_length", "exceed_context_size_error"}
)
# What servers without such codes say (OpenRouter; LiteLLM before Azure; DeepSeek).
FILTERED_WORDS = (
    "content management policy",
    "contentpolicyviolation",
    "input was flagged",
    "content exists risk",
)
# OpenAI, of a model that thought up to the limit.
CUT_OFF_WORDS = ("could not finish the message",)
# vLLM; llama.cpp; TGI; Gemini and others.
TOO_LONG_WORDS = (
    "maximum context length",
    "available context size",
    "context window",
    "prompt is too long",
    "longer than the maximum model length",
    "exceeds the maximum number of tokens",
)


@dataclass(frozen=True)
class Failure:
    """Why one request brought no answer.

    Attributes:
        kind: TIMEOUT, UNREACHED, CONNECTION, BODY or STATUS.
        words: the server's own, or what happened; without the key.
        status: of HTTP.
        codes: the error's code and type as the server gave them, in lower case.
        retry_after: seconds that the server asks to be left alone.
    """

    kind: str
    words: str
    status: int | None = None
    codes: frozenset[str] = frozenset()
    retry_after: float | None = None

    @property
    def maybe_paid(self) -> bool:
        """Whether the server may charge for it: it was at work, or had answered."""
        return self.kind not in (STATUS, UNREACHED)

    def __str__(self) -> str:
        return self.words if self.status is None else f"{self.status}: {self.words}"


@dataclass(frozen=True)
class Again:
    """Send it again after `delay` seconds; if `all_wait`, nothing at all is sent before."""

    delay: float
    all_wait: bool = False


@dataclass(frozen=True)
class NoAnswer:
    """This item gets no answer, for this reason (a constant of base.py); go on with the others."""

    reason: str


@dataclass(frozen=True)
class Stop:
    """Asking makes no sense until something is mended: `advice` says what."""

    advice: str


@dataclass(frozen=True)
class Policy:
    """How patient we are.

    Attributes:
        max_attempts: of one request, the first included.
        first_delay: seconds before the second attempt; doubled for each one after.
        longest_delay: where doubling ends.
        longest_wait: a Retry-After beyond this stops the run.
        chance: a number from 0 to 1, for the jitter.
    """

    max_attempts: int = 8
    first_delay: float = 0.5
    longest_delay: float = 60.0
    longest_wait: float = 600.0
    chance: Callable[[], float] = random.random

    def after(self, failure: Failure, attempt: int) -> Again | NoAnswer | Stop:
        """Decide what follows when the attempt of this number, from 1, has failed."""
        if not _passes(failure):
            return _judge(failure)
        if failure.retry_after is not None and failure.retry_after > self.longest_wait:
            return Stop(f"The server asks to wait for {failure.retry_after:.0f} s; try again then.")
        if attempt >= self.max_attempts:
            return Stop(f"It failed {attempt} times. {_ADVICE_AT_LAST.get(_cause(failure), SEE)}")
        limited = failure.status == RATE_LIMITED
        # A limit is by the minute mostly: with the usual delays all attempts were over before.
        delay = self._backoff(attempt + 2 if limited else attempt)
        if failure.retry_after is None:
            return Again(delay, all_wait=limited)
        return Again(max(failure.retry_after, self._backoff(attempt)), all_wait=True)

    def _backoff(self, attempt: int) -> float:
        longest = min(self.first_delay * 2 ** (attempt - 1), self.longest_delay)
        return longest * (0.5 + 0.5 * self.chance())


def _passes(failure: Failure) -> bool:
    """Whether the same request may do better later."""
    if failure.status is None:
        return True
    if failure.status == RATE_LIMITED and failure.codes & NO_CREDIT:
        return False
    return failure.status in PASSING_STATUSES or failure.status >= 500


def _judge(failure: Failure) -> NoAnswer | Stop:
    if failure.status in ITS_OWN_STATUSES:
        for reason, codes, words in _ITS_OWN:
            if failure.codes & codes or any(one in failure.words.lower() for one in words):
                return NoAnswer(reason)
    return Stop(_ADVICE.get(failure.status, "Mend the settings of the group teacher."))


_ITS_OWN = (
    (CONTENT_FILTER, FILTERED, FILTERED_WORDS),
    (CUT_OFF, frozenset(), CUT_OFF_WORDS),
    (PROMPT_TOO_LONG, TOO_LONG, TOO_LONG_WORDS),
)


def _cause(failure: Failure) -> str | int | None:
    return failure.kind if failure.status is None else failure.status


SEE = "See how the server is, then try again."
_ADVICE_AT_LAST = {
    RATE_LIMITED: (
        "Set runtime.teacher.requests_per_minute or tokens_per_minute to what the account may, or "
        "lower runtime.teacher.concurrency."
    ),
    TIMEOUT: (
        "Lower runtime.teacher.concurrency to what the server answers at once, or raise "
        "runtime.teacher.timeout_s."
    ),
    BODY: "See whether this is the address of a server of chat completions, and how it is.",
}
_ADVICE = {
    400: (
        "Mend the settings of the group teacher: a sampling field of null is left out, and "
        "max_tokens_field names the limit's field. If other requests are answered, it is what this "
        "one holds: take its query or passage out of the collection."
    ),
    401: "Check the key in the environment variable OPENAI_API_KEY.",
    402: "Put money into the account.",
    403: "Check what the key in the environment variable OPENAI_API_KEY may do.",
    404: "Check teacher.model, and teacher.base_url, which mostly ends in /v1.",
    RATE_LIMITED: "The account has no credit left: put money into it.",
}


def retry_after(headers: dict[str, str], now: float) -> float | None:
    """Return how many seconds from `now` (of the epoch) the server asks to wait, or None.

    Reads `retry-after-ms`, and `retry-after` in seconds or as a date.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None or value is None:
        return seconds
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, date.timestamp() - now)


def _number(value: str | None) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 <= number < float("inf") else None
