"""One request over the official client: what comes back of each answer and each fault."""

import asyncio
import logging
import traceback

import pytest
from live_teacher import KEY, ask, settings
from openai_server import FAULTS, NO_TEXT, Reply, Server, completion, error

from syntriever.errors import SyntrieverError
from syntriever.teacher import money, reading, retry
from syntriever.teacher.body import Completion, body
from syntriever.teacher.client import Client
from syntriever.teacher.pace import Pace
from syntriever.teacher.reading import refused


def once(reply, api_key=KEY, timeout_s=2.0, root=False):
    """Send one request; return what comes back and the calls that the server saw."""

    async def work(url):
        client = Client(url, api_key, timeout_s)
        try:
            return await client.ask(body(settings(url), ask("a")))
        finally:
            await client.close()

    with Server(lambda asked, before: reply(asked) if callable(reply) else reply) as server:
        return asyncio.run(work(server.root if root else server.url)), server.calls


def test_a_completion():
    """Text, finish reason and tokens come back; one request is one call."""
    result, calls = once(None)
    assert result == Completion("Answer to: a", None, "stop", 10, 5)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("stall", retry.TIMEOUT),
        ("drip", retry.TIMEOUT),
        ("reset", retry.CONNECTION),
        ("drop", retry.CONNECTION),
        ("malformed", retry.BODY),
        ("html", retry.BODY),
        ("429", retry.STATUS),
        ("500", retry.STATUS),
        ("503", retry.STATUS),
    ],
)
def test_faults_are_told_apart(name, kind):
    """Each fault comes back as a value, after one call: the client itself tries nothing again."""
    result, calls = once(FAULTS[name], timeout_s=0.4)
    assert result.kind == kind
    assert len(calls) == 1


@pytest.mark.parametrize("name", sorted(NO_TEXT))
def test_no_text_is_no_fault(name):
    """An answer without a text, or a refusal of this prompt, is final."""
    result, _ = once(NO_TEXT[name])
    if isinstance(result, Completion):
        assert result.text is None
    else:
        assert isinstance(retry.Policy().after(result, 1), retry.NoAnswer)


@pytest.mark.parametrize(
    ("reply", "status", "words", "codes"),
    [
        (
            error(400, "no such field", "unknown", "invalid"),
            400,
            "no such field",
            {"unknown", "invalid"},
        ),
        (Reply(422, {"detail": "not this way"}), 422, "not this way", set()),
        (Reply(404, "<h1>Not found</h1>"), 404, "<h1>Not found</h1>", set()),
        (Reply(500, ""), 500, "(no words)", set()),
        (Reply(200, {"error": {"message": "upstream", "code": 502}}), 502, "upstream", {"502"}),
        (error(400, "filtered", innererror=""), 400, "filtered", {"error"}),
    ],
)
def test_the_servers_words_are_kept(reply, status, words, codes):
    """Whatever form a server gives its error, its words and codes are there."""
    result, _ = once(reply)
    assert (result.status, result.words, set(result.codes)) == (status, words, codes)


def test_azures_filter_is_understood():
    """Azure names its filter in an inner error."""
    inner = {"code": "ResponsibleAIPolicyViolation"}
    reply = Reply(400, {"error": {"message": "m", "code": "BadRequest", "innererror": inner}})
    result, _ = once(reply)
    assert retry.Policy().after(result, 1) == retry.NoAnswer("content filter")


def test_retry_after_comes_through():
    """The header arrives as seconds."""
    result, _ = once(error(429, "slow", retry_after="90"))
    assert result.retry_after == 90.0


@pytest.mark.parametrize(
    "reply",
    [
        error(401, f"Incorrect API key provided: {KEY}."),
        error(401, "Incorrect API key provided: sk-test-********cdef."),
        Reply(500, f"<html>{KEY}</html>"),
        Reply(200, f"<html>{KEY}</html>"),
        Reply(200, {"error": f"bad {KEY}"}),
    ],
)
def test_the_key_is_in_no_message(reply, caplog):
    """A server that repeats the key, even in part, is not quoted with it."""
    caplog.set_level(logging.DEBUG)
    result, _ = once(reply)
    assert KEY not in repr(result)
    assert "cdef" not in repr(result)
    assert KEY not in caplog.text


def test_a_key_of_any_form_is_in_no_message():
    """Keys of other providers look like nothing in particular."""
    key = "gateway0123456789"
    result, _ = once(error(401, f"wrong key {key}"), api_key=key)
    assert result.words == "wrong key [key]"


@pytest.mark.parametrize("key", ["sk-with\nbreak", "sk-wïth-accent", "sk-with space"])
def test_a_key_that_no_header_can_hold(key):
    """It is refused before anything is sent, and not shown."""
    with pytest.raises(SyntrieverError) as caught:
        once(None, api_key=key)
    assert "sk-w" not in "".join(traceback.format_exception(caught.value))


def test_white_space_around_the_key_is_dropped():
    """A line break at its end, as `cat` leaves it, does no harm."""
    _, calls = once(None, api_key=f" {KEY}\n")
    assert calls[0].headers["authorization"] == f"Bearer {KEY}"


def test_no_key():
    """A server of one's own needs none; OpenAI's does, and is not asked without."""
    assert isinstance(once(None, api_key=None)[0], Completion)
    with pytest.raises(SyntrieverError, match="OPENAI_API_KEY"):
        Client(None, " ", 1.0)


def test_no_environment_variable_chooses_the_server(monkeypatch):
    """OPENAI_BASE_URL changes nothing: what determines answers stands in params."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://elsewhere/v1")
    assert str(Client(None, KEY, 1.0)._clients[0].base_url) == "https://api.openai.com/v1/"


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, I can't help with that",
        "I’m sorry, but I cannot assist with that request.",
        "**I'm sorry, I can't help with that.**",
        "Sorry, I can't do that.",
        "I apologize, but I cannot fulfill this request.",
        "As an AI language model, I cannot provide medical advice.",
        "I am sorry, but as an AI language model, I am not able to write that.",
        "I'm unable to provide that.",
        "I won't be able to help with that.",
        "I must decline.",
        "I'm afraid I can't help with that.",
    ],
)
def test_refusals(text):
    """What models write when they refuse."""
    assert refused(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Yes",
        "Passage #1",
        "I'm sorry to hear about your loss. A life insurance pays out within a month.",
        "I can't recommend index funds enough: they are cheap.",
        "Sorry, Wrong Number is a film of 1948.",
        "As an AI winter set in, funding fell.",
        "The assistant said: I'm sorry, I can't help with that.",
        "I cannot provide a full list, but these are the main causes. " + "Cause and effect. " * 40,
        "Unable to provide for their families, many left.",
    ],
)
def test_what_only_looks_like_a_refusal(text):
    """In doubt a text is no refusal: it is the passage that was paid for."""
    assert not refused(text)


@pytest.mark.parametrize(
    ("prompt", "text", "reason"),
    [("positive", None, "refusal"), ("compare", "I'm sorry, I can't help with that", "refusal")],
)
def test_what_a_stage_gets_of_a_refusal(prompt, text, reason):
    """A passage gets none of it; a verdict keeps the words for its parser."""
    apology = Completion("I'm sorry, I can't help with that", None, "stop", 1, 1)
    chosen, request = settings("http://server"), ask("a", prompt)
    entry = reading.entry("key", request, chosen, body(chosen, request), apology)
    answer = reading.answer(entry, prompt)
    assert (answer.text, answer.reason) == (text, reason)


def test_token_estimates_are_rather_too_high():
    """Three bytes a token: more tokens than English has, as many as Chinese has."""
    assert money.text_tokens("a" * 9) == 3
    assert money.text_tokens("a" * 10) == 4
    assert money.text_tokens("語語") == 2


def test_the_budget_takes_no_request_for_cheaper_than_the_dearest():
    """The first request goes alone; then each is worth at least what the dearest has cost."""
    budget = money.Budget(money.Prices(1, 1), 1.0, 0.0)
    first = budget.reserve(0.1)
    assert budget.reserve(0.1) is None
    budget.settle(first, 0.3)
    assert [budget.reserve(0.1) for _ in range(3)] == [0.3, 0.3, None]


def test_pace():
    """Requests and tokens are spread evenly, tokens that were not used are given back."""
    now = [0.0]
    pace = Pace(60, 600, lambda: now[0])
    assert pace.delay() <= 0
    pace.take(20)
    assert pace.delay() == pytest.approx(2.0)
    pace.give_back(15)
    assert pace.delay() == pytest.approx(1.0)
    pace.pause(30)
    assert pace.delay() == pytest.approx(30.0)
    now[0] = 30.0
    assert pace.delay() <= 0


def test_a_completion_of_only_reasoning_is_cut_off():
    """A model that thought until its limit gives no text, and says so."""
    result, _ = once(Reply(body=completion("", "length")))
    assert (result.text, result.reason) == (None, "cut off")
