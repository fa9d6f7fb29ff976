"""What the tests of the live teacher share: settings, requests, and a teacher that waits little."""

import dataclasses
from pathlib import Path

from syntriever.teacher import reading
from syntriever.teacher.base import Request
from syntriever.teacher.body import Completion, body
from syntriever.teacher.journal import Entry, Journal, key
from syntriever.teacher.live import LiveTeacher
from syntriever.teacher.retry import Policy
from syntriever.teacher.settings import Limits, LiveSettings, Sampling

KEY = "sk-test-0123456789abcdef"
PRICE = {"price_input": 1.0, "price_output": 2.0}
QUICK = Policy(max_attempts=10, first_delay=0.01, longest_delay=0.05)


def settings(url: str | None, **changes) -> LiveSettings:
    """Settings for a server; `max_tokens` and `temperature` are those of all prompts."""
    sampling = Sampling(changes.pop("temperature", 0.5), changes.pop("max_tokens", 50))
    names = ("cot", "positive", "negative", "relabel", "compare")
    return LiveSettings(
        **{"base_url": url, "model": "stub", "sampling": dict.fromkeys(names, sampling)} | changes
    )


def ask(text: str, prompt: str = "cot", sample: int = 0) -> Request:
    """One request."""
    return Request(prompt, ({"role": "user", "content": text},), f"id of {text}", text, (), sample)


def asks(count: int, prompt: str = "cot") -> list[Request]:
    """Different requests."""
    return [ask(f"question {number}", prompt) for number in range(count)]


def teacher(url: str | None, folder: Path, *, policy: Policy = QUICK, **options) -> LiveTeacher:
    """A teacher with its journal in `folder`; options of settings or limits.

    `said` collects what it says.
    """
    own = {"base_url", "model", "seed", "max_tokens_field", "temperature", "max_tokens"}
    chosen = {name: options.pop(name) for name in list(options) if name in own}
    said = options.pop("said", [])
    key = options.pop("api_key", KEY)
    limits = Limits(**PRICE | {"timeout_s": 5.0} | options)
    return LiveTeacher(
        settings(url, **chosen), limits, journal_path(folder), key, policy=policy, say=said.append
    )


def journal_path(folder: Path) -> Path:
    """Where the tests keep the journal."""
    return folder / ".journal" / "teacher.sqlite"


def texts(url: str | None, folder: Path, requests: list[Request], **options) -> list[str | None]:
    """Ask and close; return the texts."""
    one = teacher(url, folder, **options)
    try:
        return [answer.text for answer in one.answer(requests)]
    finally:
        one.close()


def entries(folder: Path) -> list:
    """All that the journal holds."""
    with Journal(journal_path(folder)) as journal:
        return list(journal.entries())


CHOSEN = settings("http://server/v1")


def entry(text: str, answer: str | None = "answer", finish: str = "stop", **changes) -> Entry:
    """A journal's entry for one request; `changes` are of its fields."""
    request = ask(text)
    completion = Completion(answer, None, finish, 10, 5)
    made = reading.entry(key(CHOSEN, request), request, CHOSEN, body(CHOSEN, request), completion)
    return dataclasses.replace(made, **changes)
