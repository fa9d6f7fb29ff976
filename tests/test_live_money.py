"""The live teacher's budget, prices and pace."""

import pytest
from live_teacher import ask, asks, entries, journal_path, texts
from openai_server import Server, completion

from syntriever.errors import SyntrieverError
from syntriever.teacher.journal import Journal


def test_the_budget_is_never_exceeded(tmp_path):
    """At most five calls of 2 cents fit into 10, in flight included; a raised budget goes on."""
    reply = completion("text", usage=(10_000, 5_000))
    with Server(lambda body, before: reply, latency=0.01) as server:
        with pytest.raises(SyntrieverError, match=r"budget_usd: 0.1.*15 remain"):
            texts(server.url, tmp_path, asks(20), concurrency=16, budget_usd=0.10)
        assert server.total == 5
        with pytest.raises(SyntrieverError, match="budget_usd"):
            texts(server.url, tmp_path, asks(20), concurrency=16, budget_usd=0.10)
        assert server.total == 5
        assert len(texts(server.url, tmp_path, asks(20), concurrency=16, budget_usd=0.41)) == 20
        assert server.total == 20
    with Journal(journal_path(tmp_path)) as journal:
        assert journal.spent() == pytest.approx(0.40)


def test_an_unknown_price_is_never_free(tmp_path):
    """Without a price nothing is asked, unless that is allowed; a budget needs one."""
    unpriced = {"price_input": 1.0, "price_output": None}
    with Server() as server:
        with pytest.raises(SyntrieverError, match="price of stub is not known"):
            texts(server.url, tmp_path, [ask("a")], **unpriced)
        with pytest.raises(SyntrieverError, match="budget_usd"):
            texts(server.url, tmp_path, [ask("a")], **unpriced, allow_unpriced=True, budget_usd=1)
        assert server.total == 0
        assert texts(server.url, tmp_path, [ask("a")], **unpriced, allow_unpriced=True)


def test_a_budget_needs_a_limit_of_length(tmp_path):
    """An answer of any length has no worst case."""
    with Server() as server:
        with pytest.raises(SyntrieverError, match="max_tokens"):
            texts(server.url, tmp_path, [ask("a")], max_tokens=None, budget_usd=1.0)
        assert server.total == 0


def test_missing_usage_is_estimated(tmp_path):
    """A server that does not count is no free server; the estimate is marked as one."""
    with Server(lambda body, before: completion("x" * 30, usage=None)) as server:
        texts(server.url, tmp_path, [ask("y" * 60)])
    (entry,) = entries(tmp_path)
    assert entry.estimated
    assert (entry.prompt_tokens, entry.completion_tokens) == (24, 10)
    with Journal(journal_path(tmp_path)) as journal:
        assert journal.spent() == pytest.approx((24 * 1.0 + 10 * 2.0) / 1e6)


def test_requests_per_minute(tmp_path):
    """Requests are spread over the minute."""
    with Server() as server:
        texts(server.url, tmp_path, asks(6), requests_per_minute=600)
    times = sorted(call.time for call in server.calls)
    assert times[-1] - times[0] >= 0.45
