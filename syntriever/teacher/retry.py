"""What to do after a request has failed: send it again and when, pass it over, or stop."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

from syntriever.teacher.base import CONTENT_FILTER, PROMPT_TOO_LONG

# Kinds of failure.
TIMEOUT = "timeout"
UNREACHED = "unreached"  # no connection came about
CONNECTION = "connection"  # it broke on the way
BODY = "body"  # a whole body came, but no completion
STATUS = "status"  # an HTTP status of an error

PASSING_STATUSES = frozenset({408, 409, 429})
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
# What servers without such codes say (vLLM; llama.cpp; TGI and others).
TOO_LONG_WORDS = (
    "maximum context length",
    "available context size",
    "context window",
    "prompt is too long",
    "longer than the maximum model length",
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
            return Stop(f"It failed {attempt} times. See how the server is, then try again.")
        if failure.retry_after is None:
            return Again(self._backoff(attempt))
        return Again(max(failure.retry_after, self._backoff(attempt)), all_wait=True)

    def _backoff(self, attempt: int) -> float:
        longest = min(self.first_delay * 2 ** (attempt - 1), self.longest_delay)
        return longest * (0.5 + 0.5 * self.chance())


def _passes(failure: Failure) -> bool:
    """Whether the same request may do better later."""
    if failure.status is None:
        return True
    if failure.status == 429 and failure.codes & NO_CREDIT:
        return False
    return failure.status in PASSING_STATUSES or failure.status >= 500


def _judge(failure: Failure) -> NoAnswer | Stop:
    if failure.status == 400 and failure.codes & FILTERED:
        return NoAnswer(CONTENT_FILTER)
    if failure.status == 400 and _too_long(failure):
        return NoAnswer(PROMPT_TOO_LONG)
    return Stop(_ADVICE.get(failure.status, "Mend the settings of the group teacher."))


def _too_long(failure: Failure) -> bool:
    words = failure.words.lower()
    return bool(failure.codes & TOO_LONG) or any(one in words for one in TOO_LONG_WORDS)


_ADVICE = {
    400: (
        "Mend the settings of the group teacher: a sampling field of null is left out, and "
        "max_tokens_field names the limit's field."
    ),
    401: "Check the key in the environment variable OPENAI_API_KEY.",
    402: "Put money into the account.",
    403: "Check what the key in the environment variable OPENAI_API_KEY may do.",
    404: "Check teacher.model, and teacher.base_url, which mostly ends in /v1.",
    429: "The account has no credit left: put money into it.",
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
