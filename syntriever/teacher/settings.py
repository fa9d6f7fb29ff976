"""What a live teacher is told: what determines its answers, and what only limits the asking."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Sampling:
    """How one prompt is sampled; None leaves the field out of the request.

    Attributes:
        temperature: 0 is greedy. Some reasoning models refuse the field.
        max_tokens: the longest answer, in tokens.
    """

    temperature: float | None
    max_tokens: int | None


@dataclass(frozen=True)
class LiveSettings:
    """What determines an answer; all of it is tracked by DVC.

    Attributes:
        base_url: of an OpenAI-compatible server, with or without /v1; None is OpenAI's own.
        model: the name that the server knows.
        sampling: by prompt name.
        seed: sent where not None; servers promise little of it.
        max_tokens_field: `max_completion_tokens` (OpenAI) or `max_tokens` (most other servers).
    """

    base_url: str | None
    model: str
    sampling: Mapping[str, Sampling]
    seed: int | None = None
    max_tokens_field: str = "max_completion_tokens"


@dataclass(frozen=True)
class Limits:
    """What cannot change an answer: pace, patience and money. Tracked by no stage.

    Attributes:
        concurrency: requests in flight at most.
        requests_per_minute, tokens_per_minute: None is no limit.
        timeout_s: seconds without an answer after which a request counts as lost.
        max_attempts: of one request, the first included.
        price_input, price_output: USD for a million tokens; None is unknown.
        budget_usd: a run stops before it is exceeded; None is no limit.
        allow_unpriced: go on although the price is unknown.
    """

    concurrency: int = 16
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    timeout_s: float = 120.0
    max_attempts: int = 8
    price_input: float | None = None
    price_output: float | None = None
    budget_usd: float | None = None
    allow_unpriced: bool = False
