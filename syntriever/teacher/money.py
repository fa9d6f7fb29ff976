"""Tokens, prices, and a budget that requests in flight count towards."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from syntriever.errors import SyntrieverError
from syntriever.teacher.settings import Limits

# Estimates are meant to be too high rather than too low: English has four bytes a token or more in
# every tokeniser in use, Chinese and Japanese have three a character.
BYTES_PER_TOKEN = 3
TOKENS_PER_MESSAGE = 4  # of the chat template


def text_tokens(text: str) -> int:
    """Return about how many tokens a text has: a third of its UTF-8 bytes, rounded up."""
    return math.ceil(len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN)


def prompt_tokens(messages: Sequence[dict]) -> int:
    """Return about how many tokens chat messages have."""
    return sum(text_tokens(message["content"]) + TOKENS_PER_MESSAGE for message in messages)


@dataclass(frozen=True)
class Prices:
    """USD for a million tokens."""

    input: float = 0.0
    output: float = 0.0

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return the USD for so many tokens."""
        return (prompt_tokens * self.input + completion_tokens * self.output) / 1_000_000


def prices(limits: Limits, model: str) -> Prices | None:
    """Return the prices, None where they are unknown and that is allowed.

    Raises:
        SyntrieverError: a price is missing: unknown is never taken for free.
    """
    if limits.price_input is not None and limits.price_output is not None:
        return Prices(limits.price_input, limits.price_output)
    if limits.allow_unpriced and limits.budget_usd is None:
        return None
    if limits.allow_unpriced:
        raise SyntrieverError(
            f"runtime.teacher.budget_usd is set, but the price of {model} is not known: set "
            "runtime.teacher.price_input and price_output (USD for a million tokens)."
        )
    raise SyntrieverError(
        f"the price of {model} is not known, so nothing is asked. Set runtime.teacher.price_input "
        "and price_output (USD for a million tokens; 0 for a server of your own), or "
        "runtime.teacher.allow_unpriced to true."
    )


class Budget:
    """What is spent and what is promised to requests in flight, together never above the budget."""

    def __init__(self, prices: Prices | None, budget_usd: float | None, spent: float) -> None:
        """Start from what was `spent` before (USD). Without a budget nothing is refused."""
        self.prices = prices or Prices()
        self.spent = spent
        self.reserved = 0.0
        self._open = 0  # how many requests the reserved money is for
        self._budget = math.inf if budget_usd is None else budget_usd
        self._largest: float | None = None  # what the dearest request of this run has cost

    def worst(self, prompt_tokens: int, max_tokens: int | None) -> float:
        """Return what a request costs at most, in USD.

        Raises:
            SyntrieverError: there is a budget, and no limit of the answer's length.
        """
        if max_tokens is None and self._budget < math.inf:
            raise SyntrieverError(
                "runtime.teacher.budget_usd needs a limit of every answer's length: set "
                "max_tokens of each prompt in teacher.sampling."
            )
        return self.prices.cost(prompt_tokens, max_tokens or 0)

    def reserve(self, worst: float) -> float | None:
        """Set money aside for one request; return how much, None if it does not fit now.

        A server may count more tokens than we estimate. So while there is a budget the first
        request goes alone, and none is taken for cheaper than the dearest so far.
        """
        if self._budget < math.inf and self._largest is None and self._open:
            return None
        amount = max(worst, self._largest or 0.0)
        if self.spent + self.reserved + amount > self._budget * (1 + 1e-9):
            return None
        self.reserved += amount
        self._open += 1
        return amount

    def settle(self, amount: float, cost: float) -> None:
        """Turn what `reserve` set aside into what it has really cost."""
        self._open -= 1
        self.reserved = max(0.0, self.reserved - amount) if self._open else 0.0
        self.spent += cost
        if cost:
            self._largest = max(cost, self._largest or 0.0)
