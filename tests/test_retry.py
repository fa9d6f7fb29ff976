"""What follows which failure, and when."""

import pytest

from syntriever.teacher import retry
from syntriever.teacher.retry import Again, Failure, NoAnswer, Policy, Stop

SURE = Policy(max_attempts=8, first_delay=0.5, longest_delay=60.0, chance=lambda: 1.0)


def status(number: int, *codes: str, words: str = "words", wait: float | None = None) -> Failure:
    return Failure(retry.STATUS, words, number, frozenset(codes), wait)


@pytest.mark.parametrize(
    "failure",
    [
        Failure(retry.TIMEOUT, "slow"),
        Failure(retry.UNREACHED, "refused"),
        Failure(retry.CONNECTION, "reset"),
        Failure(retry.BODY, "not JSON"),
        *(status(number) for number in (408, 409, 500, 502, 503, 504, 529)),
    ],
)
def test_what_passes_is_asked_again(failure):
    """Time-outs, dropped connections, broken bodies, 408, 409 and 5xx are asked again."""
    assert SURE.after(failure, 1) == Again(0.5)


@pytest.mark.parametrize(
    "failure",
    [
        status(429),
        status(429, "rate_limit_exceeded"),
        status(429, words="You exceeded your current quota of concurrent requests"),
    ],
)
def test_a_limit_of_the_rate_is_waited_out_by_all(failure):
    """Without Retry-After too, and for longer than the minute that most limits are of."""
    steps = [SURE.after(failure, attempt) for attempt in range(1, 8)]
    assert [step.delay for step in steps] == [2, 4, 8, 16, 32, 60, 60]
    assert all(step.all_wait for step in steps)


@pytest.mark.parametrize(
    ("failure", "named"),
    [
        (status(429), "requests_per_minute"),
        (Failure(retry.TIMEOUT, "slow"), "concurrency"),
        (Failure(retry.BODY, "no JSON"), "address"),
        (status(500), "See how the server is"),
    ],
)
def test_the_last_failure_says_what_to_change(failure, named):
    """What no attempt has mended is mended by a setting, or by the server's owner."""
    assert named in SURE.after(failure, 8).advice


@pytest.mark.parametrize(
    "failure",
    [
        *(status(number) for number in (400, 401, 402, 403, 404, 405, 413, 422)),
        status(429, "insufficient_quota"),
        status(429, "billing_hard_limit_reached"),
        status(400, "unsupported_parameter"),
        status(400, words="max_tokens is too large"),
        status(401, "content_filter"),
    ],
)
def test_what_stays_stops(failure):
    """An empty account, a wrong key, model or field stop the run at the first attempt."""
    assert isinstance(SURE.after(failure, 1), Stop)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (status(400, "content_filter"), "content filter"),
        (status(400, "badrequest", "responsibleaipolicyviolation"), "content filter"),
        (status(400, "invalid_prompt"), "content filter"),
        (status(400, "context_length_exceeded"), "prompt too long"),
        (status(400, "exceed_context_size_error"), "prompt too long"),
        (
            status(400, words="This model's maximum context length is 4096 tokens."),
            "prompt too long",
        ),
        (
            status(400, words="The input token count (9) exceeds the maximum number of tokens"),
            "prompt too long",
        ),
        (status(403, words="requires moderation and your input was flagged"), "content filter"),
        (status(400, "400", words="Azure's content management policy"), "content filter"),
        (status(400, words="Could not finish the message because max_tokens"), "cut off"),
    ],
)
def test_what_lies_in_the_question_is_no_answer(failure, reason):
    """A filtered or overlong prompt concerns this item only."""
    assert SURE.after(failure, 1) == NoAnswer(reason)


def test_backoff_doubles_up_to_a_limit_and_jitters():
    """Each wait is at most twice the one before, and between half and all of it."""
    longest = [SURE.after(status(500), attempt).delay for attempt in range(1, 8)]
    assert longest == [0.5, 1, 2, 4, 8, 16, 32]
    patient = Policy(max_attempts=99, chance=lambda: 0.0)
    assert [patient.after(status(500), attempt).delay for attempt in (1, 2, 20)] == [0.25, 0.5, 30]


def test_attempts_end():
    """The attempt of the last number stops the run."""
    assert isinstance(SURE.after(status(500), 7), Again)
    assert isinstance(SURE.after(status(500), 8), Stop)


@pytest.mark.parametrize(
    ("seconds", "step"),
    [(0.0, Again(0.5, True)), (90.0, Again(90.0, True)), (600.0, Again(600.0, True))],
)
def test_retry_after_is_a_lower_bound_for_all(seconds, step):
    """No request at all is sent before Retry-After has passed."""
    assert SURE.after(status(429, wait=seconds), 1) == step


@pytest.mark.parametrize("seconds", [601.0, 7200.0])
def test_a_long_retry_after_stops(seconds):
    """Beyond ten minutes the run stops and says how long the server wants."""
    step = SURE.after(status(429, wait=seconds), 1)
    assert isinstance(step, Stop)
    assert f"{seconds:.0f} s" in step.advice


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "90"}, 90.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after": "Thu, 01 Jan 1970 00:20:00 GMT"}, 200.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:01 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
    ],
)
def test_retry_after_in_all_its_forms(headers, seconds):
    """Seconds, milliseconds and dates are read; nonsense is as good as nothing."""
    assert retry.retry_after(headers, now=1000.0) == seconds


def test_what_may_have_been_paid_for():
    """Requests that broke off on the way may be charged; refused ones are not."""
    kinds = (retry.TIMEOUT, retry.CONNECTION, retry.BODY, retry.UNREACHED, retry.STATUS)
    paid = [Failure(kind, "words").maybe_paid for kind in kinds]
    assert paid == [True, True, True, False, False]
