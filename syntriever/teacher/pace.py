"""When the next request may be sent."""

import time
from collections.abc import Callable


class Pace:
    """Spreads requests evenly over the minute, and keeps still while a server wants to be left.

    Evenly, so that no minute holds more than the limit, wherever it begins.
    """

    def __init__(
        self,
        requests_per_minute: int | None,
        tokens_per_minute: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """None is no limit; `clock` tells seconds."""
        self._per_request = 60 / requests_per_minute if requests_per_minute else 0.0
        self._per_token = 60 / tokens_per_minute if tokens_per_minute else 0.0
        self._clock = clock
        self._next_request = self._next_token = self._resume = clock()

    def delay(self) -> float:
        """Return the seconds until a request may be sent; 0 or less is now."""
        return max(self._next_request, self._next_token, self._resume) - self._clock()

    def take(self, tokens: int) -> None:
        """Count one request of so many tokens, sent now."""
        now = self._clock()
        self._next_request = max(self._next_request, now) + self._per_request
        self._next_token = max(self._next_token, now) + self._per_token * tokens

    def give_back(self, tokens: int) -> None:
        """Give back tokens that were counted, and not used after all."""
        self._next_token -= self._per_token * tokens

    def pause(self, seconds: float) -> None:
        """Send nothing for so long."""
        self._resume = max(self._resume, self._clock() + seconds)
