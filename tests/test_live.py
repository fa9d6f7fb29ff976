"""The live teacher against a real server: order, journal, money, stops."""

import threading
import time

import pytest
from live_teacher import KEY, ask, asks, entries, journal_path, teacher, texts
from openai_server import FAULTS, NO_TEXT, Reply, Server, completion, error

from syntriever.errors import SyntrieverError
from syntriever.teacher.base import Answer
from syntriever.teacher.journal import Journal
from syntriever.teacher.retry import Policy


def test_answers_come_in_order_and_many_at_once(tmp_path):
    """Answers come in the order of the requests, with as many in flight as allowed."""
    with Server(latency=0.02) as server:
        requests = asks(100)
        got = texts(server.url, tmp_path, requests, concurrency=8)
    assert got == [f"Answer to: {request.query}" for request in requests]
    assert server.most_at_once == 8


def test_a_second_run_asks_nothing(tmp_path):
    """What the journal holds is never asked again, even without a key, a price or a server."""
    with Server() as server:
        first = texts(server.url, tmp_path, asks(20))
        url = server.url
    again = texts(
        url, tmp_path, asks(20), api_key=None, price_input=None, price_output=None, concurrency=3
    )
    assert again == first


def test_only_what_is_missing_is_asked(tmp_path):
    """A longer list asks only its new requests."""
    with Server() as server:
        texts(server.url, tmp_path, asks(10))
        texts(server.url, tmp_path, asks(15))
        assert server.total == 15


def test_the_same_request_is_asked_once(tmp_path):
    """Identical requests in one run share one answer; another sample is another question."""
    with Server(latency=0.01) as server:
        got = texts(server.url, tmp_path, [ask("a"), ask("a"), ask("a", sample=1), ask("a")])
        assert server.total == 2
    assert got == ["Answer to: a"] * 4


def test_every_answer_is_on_the_disk_before_it_is_handed_on(tmp_path):
    """When an answer is yielded, another connection finds it in the journal."""
    with Server() as server, Journal(journal_path(tmp_path)) as other:
        one = teacher(server.url, tmp_path)
        for count, _ in enumerate(one.answer(asks(30)), start=1):
            assert len(list(other.entries())) >= count
        one.close()


def test_reading_ahead_is_bounded(tmp_path):
    """The requests are read as they are needed, not all at once."""
    read = 0

    def source():
        nonlocal read
        for request in asks(2000):
            read += 1
            yield request

    with Server() as server:
        one = teacher(server.url, tmp_path, concurrency=2)
        answers = one.answer(source())
        next(answers)
        assert read <= 2 * 32 + 1
        answers.close()
        one.close()


def test_usage_is_the_same_fresh_and_replayed(tmp_path):
    """The tokens of the answers used do not depend on when they were asked."""
    with Server() as server:
        used = []
        for _ in range(2):
            one = teacher(server.url, tmp_path)
            list(one.answer(asks(7)))
            used.append(one.usage)
            one.close()
    assert used[0] == used[1]
    assert (used[0].calls, used[0].prompt_tokens, used[0].completion_tokens) == (7, 70, 35)


def test_no_text_is_asked_once_and_journalled(tmp_path):
    """Filtered, overlong and empty answers are items without an answer, after one call each."""
    names = list(NO_TEXT)

    def reply(body, before):
        return NO_TEXT[body["messages"][-1]["content"]](body)

    with Server(reply) as server:
        one = teacher(server.url, tmp_path)
        answers = list(one.answer([ask(name) for name in names]))
        one.close()
        assert server.total == len(names)
        assert texts(server.url, tmp_path, [ask(name) for name in names]) == [None] * len(names)
        assert server.total == len(names)
    reasons = [answer.reason for answer in answers]
    assert reasons == ["empty", "content filter", "content filter", "prompt too long"]
    assert all(answer.text is None for answer in answers)


def test_a_refusal_never_becomes_a_passage(tmp_path):
    """An apology is kept in the journal and handed on as no answer."""
    apology = "I'm sorry, I can't help with that"
    with Server(lambda body, before: completion(apology)) as server:
        one = teacher(server.url, tmp_path)
        (answer,) = one.answer([ask("a", "positive")])
        one.close()
    assert (answer.text, answer.reason) == (None, "refusal")
    assert entries(tmp_path)[0].text == apology


def test_cut_off_texts_are_not_used_but_verdicts_are_read(tmp_path):
    """A passage that ends in the middle is no answer; a verdict may be readable all the same."""
    with Server(lambda body, before: completion("Yes, because", "length")) as server:
        one = teacher(server.url, tmp_path)
        passage, verdict = one.answer([ask("a", "positive"), ask("b", "relabel")])
        one.close()
    assert passage == Answer(None, "cut off", 10, 5)
    assert verdict == Answer("Yes, because", "cut off", 10, 5)


def test_a_larger_limit_asks_only_what_was_cut_off(tmp_path):
    """Raising max_tokens asks again only the answers that it cut off; lowering it asks nothing."""

    def reply(body, before):
        number = int(body["messages"][-1]["content"].split()[1])
        cut = number % 2 == 0 and body["max_completion_tokens"] < 100
        return completion("text", "length" if cut else "stop")

    with Server(reply) as server:
        texts(server.url, tmp_path, asks(10), max_tokens=50)
        texts(server.url, tmp_path, asks(10), max_tokens=20)
        assert server.total == 10
        assert texts(server.url, tmp_path, asks(10), max_tokens=100) == ["text"] * 10
        assert server.total == 15
    assert len(entries(tmp_path)) == 10


def test_another_temperature_asks_everything(tmp_path):
    """What determines an answer is part of its key; the prompt's name is not."""
    with Server() as server:
        texts(server.url, tmp_path, asks(5))
        texts(server.url, tmp_path, asks(5, prompt="negative"))
        assert server.total == 5
        texts(server.url, tmp_path, asks(5), temperature=0.7)
        assert server.total == 10


def test_sampling_fields_can_be_left_out_and_renamed(tmp_path):
    """None leaves a field out, and the limit's field has the name that the server knows."""
    with Server() as server:
        texts(server.url, tmp_path, [ask("a")], temperature=None, max_tokens_field="max_tokens")
        texts(server.url, tmp_path, [ask("b")], max_tokens=None, seed=7)
    first, second = (call.body for call in server.calls)
    assert set(first) == {"model", "messages", "max_tokens"}
    assert set(second) == {"model", "messages", "temperature", "seed"}


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/", "/v1/chat/completions"])
def test_every_spelling_of_the_base_url_works(tmp_path, ending):
    """With /v1 or without it, with a last slash or without: the same server, the same answers."""
    with Server() as server:
        texts(server.url, tmp_path, [ask("a")])
        assert texts(server.root + ending, tmp_path, [ask("a"), ask("b")])[0] == "Answer to: a"
        assert server.total == 2


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (error(429, "You exceeded your quota", "insufficient_quota"), "no credit"),
        (error(401, f"Incorrect API key provided: {KEY}"), "OPENAI_API_KEY"),
        (error(403, "Not allowed"), "Not allowed"),
        (error(404, "The model stub does not exist"), "does not exist"),
        (error(400, "Unsupported parameter: 'max_tokens'"), "Unsupported parameter"),
        (Reply(422, {"detail": "no such field"}), "no such field"),
    ],
)
def test_what_cannot_get_better_stops_the_stage_once(tmp_path, reply, words):
    """The first such error stops the run with the server's words, and without the key."""
    with Server(lambda body, before: reply, latency=0.02) as server:
        with pytest.raises(SyntrieverError) as caught:
            texts(server.url, tmp_path, asks(300), concurrency=4)
        assert server.total <= 4
    assert words in str(caught.value)
    assert "300 remain to be asked" in str(caught.value)
    assert KEY not in str(caught.value)


def test_a_stop_keeps_what_is_in_flight(tmp_path):
    """Answers in flight at a stop are journalled; after mending, only the rest is asked."""
    broken = True

    def reply(body, before):
        if body["messages"][-1]["content"] == "question 5" and broken:
            return error(401, "key expired")
        time.sleep(0.001)
        return None

    with Server(reply, latency=0.05) as server:
        with pytest.raises(SyntrieverError, match="key expired"):
            texts(server.url, tmp_path, asks(50), concurrency=10)
        kept = len(entries(tmp_path))
        assert kept >= 9
        broken = False
        assert len(texts(server.url, tmp_path, asks(50), concurrency=10)) == 50
        assert server.total == 51


def test_a_short_limit_without_a_code_is_asked_again(tmp_path):
    """429 whose words speak of quota, but whose code does not, is no empty account."""

    def reply(body, before):
        return None if before else error(429, "You exceeded your current quota of concurrency")

    with Server(reply) as server:
        assert texts(server.url, tmp_path, [ask("a")]) == ["Answer to: a"]
        assert server.total == 2


def test_retry_after_is_honoured_by_all(tmp_path):
    """While a server asks to be left alone, no request is sent: not this one, and no other."""

    def reply(body, before):
        if body["messages"][-1]["content"] == "question 0" and not before:
            return error(429, "slow", retry_after="1")
        time.sleep(0.05)  # so that the 429 comes first
        return None

    with Server(reply) as server:
        texts(server.url, tmp_path, asks(12), concurrency=4)
    times = [call.time for call in server.calls]
    assert len(times) == 13
    assert 1.0 <= times[4] - times[0] < 3.0


def test_a_retry_after_of_hours_stops(tmp_path):
    """Nobody waits two hours: the run stops with words, and its answers are kept."""

    def reply(body, before):
        last = body["messages"][-1]["content"] == "question 3"
        return error(429, "come back later", retry_after="7200") if last else None

    with Server(reply) as server, pytest.raises(SyntrieverError, match="7200 s"):
        texts(server.url, tmp_path, asks(4), concurrency=1)
    assert len(entries(tmp_path)) == 3


def test_a_server_that_stays_broken_stops_the_run(tmp_path):
    """After max_attempts the run stops and names the query and the server's words."""
    with Server(lambda body, before: FAULTS["500"](body)) as server:
        with pytest.raises(SyntrieverError, match=r"query 'id of a'.*500.*failed 3 times"):
            texts(server.url, tmp_path, [ask("a")], policy=Policy(3, 0.01))
        assert server.total == 3


def test_no_server_at_all(tmp_path):
    """A refused connection costs nothing and says so in words."""
    with Server() as server:
        url = server.url
    with pytest.raises(SyntrieverError, match="ConnectError"):
        texts(url, tmp_path, [ask("a")], policy=Policy(2, 0.01))
    with Journal(journal_path(tmp_path)) as journal:
        assert journal.spent() == 0


def test_the_second_process_waits_and_reads_the_first_ones_answers(tmp_path):
    """Two at once ask each question once: the second one waits, and says so."""
    said = []
    with Server(latency=0.05) as server:
        first = teacher(server.url, tmp_path, concurrency=2)
        answers = first.answer(asks(20))
        next(answers)
        got = []
        second = threading.Thread(
            target=lambda: got.extend(texts(server.url, tmp_path, asks(20), said=said))
        )
        second.start()
        rest = list(answers)
        second.join()
        first.close()
        assert server.total == 20
    assert len(rest) == 19
    assert len(got) == 20
    assert any("waiting" in line for line in said)


def test_the_key_is_in_no_file(tmp_path):
    """Neither journal nor lock hold the key, even where the server's words do."""

    def reply(body, before):
        return None if before else error(500, f"crashed with {KEY}")

    with Server(reply) as server:
        texts(server.url, tmp_path, asks(3))
        assert server.calls[0].headers["authorization"] == f"Bearer {KEY}"
    for file in (tmp_path / ".journal").iterdir():
        assert KEY.encode() not in file.read_bytes()


def test_a_caller_that_goes_away_loses_nothing(tmp_path):
    """When a stage fails half-way, what is in flight is waited for and kept; no thread stays."""
    with Server(latency=0.2) as server:
        one = teacher(server.url, tmp_path, concurrency=4)
        answers = one.answer(asks(20))
        next(answers)
        answers.close()
        one.close()
        assert "teacher" not in {thread.name for thread in threading.enumerate()}
        assert server.total < 12
        texts(server.url, tmp_path, asks(20))
        assert server.total == 20


def test_closing_the_teacher_ends_what_was_left_half_way(tmp_path):
    """An error may keep the half-read answers alive: closing the teacher ends their thread, too."""
    with Server(latency=0.1) as server:
        one = teacher(server.url, tmp_path, concurrency=4)
        answers = one.answer(asks(20))
        next(answers)
        one.close()
        assert "teacher" not in {thread.name for thread in threading.enumerate()}
        texts(server.url, tmp_path, asks(20))
        assert server.total == 20
    del answers


@pytest.mark.parametrize("fault", [SyntrieverError("The disk is full."), ValueError("strange")])
def test_a_journal_that_fails_stops_the_run(tmp_path, monkeypatch, fault):
    """When answers cannot be kept no more are asked for, and the run ends with the reason."""

    def put(*_):
        raise fault

    monkeypatch.setattr(Journal, "put", put)
    with Server() as server:
        with pytest.raises(SyntrieverError, match=r"disk is full|strange"):
            texts(server.url, tmp_path, asks(200), concurrency=4)
        assert server.total < 20


def test_one_bar_shows_it_all(tmp_path, capsys):
    """The progress bar shows answers done, in flight, failed, tokens and money."""
    with Server() as server:
        texts(server.url, tmp_path, asks(30))
    shown = capsys.readouterr().err
    assert "30/30" in shown
    for words in ("in flight", "failed", "tokens", "$"):
        assert words in shown


def test_open_batches_are_warned_of(tmp_path):
    """Asking live what an open batch may hold would pay it twice: the run says so first."""
    said = []
    with Journal(journal_path(tmp_path)) as journal:
        journal.save_batch("hash", "batch_1", "in_progress")
    with Server() as server:
        one = teacher(server.url, tmp_path, said=said)
        assert len(list(one.answer(asks(2)))) == 2
        one.close()
    assert "1 batches are still open" in " ".join(said)
