"""What servers other than OpenAI's say in other words, as their documentation or users report."""

import pytest
from live_teacher import ask, entries, settings, teacher, texts
from openai_server import Reply, Server, completion, error

from syntriever.errors import SyntrieverError
from syntriever.teacher import reading, transfer
from syntriever.teacher.body import BrokenBodyError, body, read_completion
from syntriever.teacher.retry import Policy

QUICK = Policy(max_attempts=6, first_delay=0.01, longest_delay=0.05)


def read(text, finish="stop", usage=(10, 5), **choice):
    """Read a completion whose choice has more fields."""
    answer = completion(text, finish, usage)
    answer["choices"][0].update(choice)
    return read_completion(answer)


@pytest.mark.parametrize(
    "finish",
    [
        *("length", "max_tokens", "model_length", "model_context_window_exceeded"),
        *("error", "abort", "network_error", "insufficient_system_resource"),
    ],
)
def test_words_for_cut_off(finish):
    """Mistral, Z.ai and others have words of their own for it, and for an answer they broke off."""
    assert (read("Half a", finish).text, read("Half a", finish).reason) == ("Half a", "cut off")


def test_a_reason_that_is_no_word_is_none():
    """Whatever a server puts there."""
    assert read("A text", {"reason": "stop"}).finish_reason is None


def test_words_for_a_filter():
    """Z.ai says sensitive."""
    assert read("Half a", "sensitive").reason == "content filter"


def test_an_error_within_a_choice_is_no_answer():
    """OpenRouter says there that a provider failed on the way: half a text is never trained on."""
    assert read("Half a", error={"code": 502, "message": "provider is down"}).reason == "cut off"


def test_a_message_in_parts_is_read_without_the_thinking():
    """Mistral's reasoning models answer in parts."""
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Let me see."}]}
    said = [{"type": "text", "text": "Yeast "}, {"type": "text", "text": "is a fungus."}]
    assert read([thought, *said]).text == "Yeast is a fungus."
    assert read([thought]).reason == "empty"
    assert read(["Yeast ", {"type": "output_text", "text": "is."}]).text == "Yeast is."
    assert read([{"type": "text", "text": None}]).reason == "empty"
    with pytest.raises(BrokenBodyError, match="a part"):
        read([{"type": "image_url", "image_url": "http://…"}])


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 103}, (9, 94)),
        ({"prompt_tokens": 9, "completion_tokens": 94, "total_tokens": 103}, (9, 94)),
        ({"prompt_tokens": 9, "completion_tokens": 94, "total_tokens": 94}, (9, 94)),
        ({"prompt_tokens": 9, "completion_tokens": 94}, (9, 94)),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, (None, None)),
        ({"prompt_tokens": 9}, (9, None)),
    ],
)
def test_thinking_that_only_the_total_counts_is_paid_too(usage, counted):
    """xAI and Gemini count it there alone; a prompt of no tokens was not counted at all."""
    found = read_completion(completion("Yes") | {"usage": usage})
    assert (found.prompt_tokens, found.completion_tokens) == counted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<think>Hm, no.</think>\n\nYes", "Yes"),
        ("Hm, no.\n</think>\n\nYes", "Yes"),
        ("<think>\n\n</think>\n\nYes", "Yes"),
        ("[THINK]Hm, no.[/THINK]Yes", "Yes"),
        ("<thinking>One.</thinking><thinking>Two.</thinking>Yes", "Yes"),
        ("<think>Hm, no, but then", ""),
        ("<Think>Hm.</Think>Yes", "Yes"),
        ("Hm, no.\n</think>\n", ""),
        ("What does the <think> tag do?", "What does the <think> tag do?"),
        ("Does </think> or [/THINK] end it?", "Does </think> or [/THINK] end it?"),
        ("Yes", "Yes"),
        ("I think yes", "I think yes"),
    ],
)
def test_thinking_is_not_said(text, said):
    """vLLM without --reasoning-parser leaves it in; Qwen writes the closing mark alone."""
    assert reading.spoken(text).strip() == said


def test_thinking_is_kept_in_the_journal_and_nowhere_else(tmp_path):
    """The next run reads it again, as it then is read; a refusal behind it is one."""
    answers = {
        "a": "<think>A fungus?</think>\n\nYeast is a fungus.",
        "b": "<think>Is that allowed?</think>I'm sorry, I can't help with that.",
        "c": "<think>A fungus, or",
    }

    def reply(sent, before):
        return completion(answers[sent["messages"][-1]["content"]])

    with Server(reply) as server:
        one = teacher(server.url, tmp_path)
        found = list(one.answer([ask(name) for name in answers]))
        one.close()
    assert [(answer.text and answer.text.strip()) or None for answer in found] == [
        "Yeast is a fungus.",
        None,
        None,
    ]
    assert [answer.reason for answer in found] == [None, "refusal", "empty"]
    assert {entry.text for entry in entries(tmp_path)} == set(answers.values())


def test_another_sample_has_another_seed(tmp_path):
    """A server that keeps to its seed would answer with the same text; each entry still fits."""
    chosen = settings("http://server/v1", seed=7)
    samples = [ask("a", "relabel", sample) for sample in (0, 1)]
    assert [body(chosen, one)["seed"] for one in samples] == [7, 8]
    with Server() as server:
        texts(server.url, tmp_path, samples, seed=7)
    assert [transfer.fits(entry) for entry in entries(tmp_path)] == [True, True]


def test_a_limit_too_large_for_the_model_is_mended_by_a_smaller_one(tmp_path):
    """vLLM says of both alike that they are too long: nothing of it is kept for good."""

    def reply(sent, before):
        if sent["max_completion_tokens"] > 50:
            return error(400, "This model's maximum context length is 50 tokens. However, …")
        return None

    with Server(reply) as server:
        assert texts(server.url, tmp_path, [ask("a")], max_tokens=60) == [None]
        assert texts(server.url, tmp_path, [ask("a")], max_tokens=40) == ["Answer to: a"]


def test_a_limit_of_the_rate_that_lets_others_through_does_not_stop(tmp_path):
    """One request in five is taken: each is sent as often as it needs, all get an answer."""
    turn = iter(range(10_000))

    def reply(sent, before):
        return None if next(turn) % 5 == 0 else error(429, "Rate limit reached")

    asked = [ask(f"{number}") for number in range(40)]
    with Server(reply) as server:
        found = texts(server.url, tmp_path, asked, policy=QUICK, concurrency=8)
    assert found == [f"Answer to: {number}" for number in range(40)]


def test_a_limit_of_the_rate_that_never_ends_for_one_stops(tmp_path):
    """Once all others have their answers nothing moves; what failed before still counts."""

    def reply(sent, before):
        if sent["messages"][-1]["content"] != "0":
            return None
        return error(429, "Rate limit reached") if before % 2 else Reply(body="<html>")

    with Server(reply) as server:
        with pytest.raises(SyntrieverError, match="It failed 6 times"):
            texts(
                server.url, tmp_path, [ask(f"{n}") for n in range(9)], policy=QUICK, concurrency=1
            )
        assert server.total <= 9 + 6


def test_others_answers_do_not_keep_a_limited_request_going_for_ever(tmp_path):
    """What was answered before its last failure is no progress."""

    def reply(sent, before):
        limited = sent["messages"][-1]["content"] == "0" and before < 200
        return error(429, "Rate limit reached") if limited else None

    asked = [ask(f"{number}") for number in range(9)]
    with Server(reply) as server, pytest.raises(SyntrieverError, match="requests_per_minute"):
        texts(server.url, tmp_path, asked, policy=QUICK, concurrency=2)


def test_parts_that_are_no_text_are_asked_again_and_then_stop(tmp_path):
    """The message says that the address may be another kind of server's."""
    with Server(lambda sent, before: Reply(body=completion({"text": "Yes"}))) as server:
        with pytest.raises(SyntrieverError, match="address of a server of chat completions"):
            texts(server.url, tmp_path, [ask("a")], policy=QUICK)
        assert server.total == 6
