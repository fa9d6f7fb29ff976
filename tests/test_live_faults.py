"""Nothing is lost and nothing is asked twice: under a mix of all faults, and under kill -9."""

import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from live_teacher import QUICK, asks, entries, journal_path, settings, teacher, texts
from openai_server import FAULTS, NO_TEXT, Server

from syntriever.teacher.journal import Journal, key

ROOT = Path(__file__).parent.parent
KINDS = FAULTS | NO_TEXT


def one_in_five(body: dict, before: int):
    """A fault of any kind for a fifth of the requests, the same in every run."""
    dice = random.Random(f"{body['messages'][-1]['content']} {before}")
    return KINDS[dice.choice(sorted(KINDS))](body) if dice.random() < 0.2 else None


def test_a_mix_of_all_faults(tmp_path):
    """2,000 requests, one in five with a fault: each answer is there once and was asked once."""
    requests = asks(2000)
    with Server(one_in_five, latency=0.01) as server:
        one = teacher(server.url, tmp_path, concurrency=64, timeout_s=2.0)
        answers = list(one.answer(requests))
        one.close()
        sent = server.sent()
        total = server.total
        url = server.url
    assert total > 2200
    assert set(sent.values()) == {1}
    for request, answer in zip(requests, answers, strict=True):
        assert answer.text in (f"Answer to: {request.query}", None)
        assert (answer.text is None) == (answer.reason is not None)
    assert sum(answer.text is None for answer in answers) < 250
    chosen = settings(url)
    assert sorted(entry.key for entry in entries(tmp_path)) == sorted(
        key(chosen, request) for request in requests
    )
    assert len(entries(tmp_path)) == 2000
    assert texts(url, tmp_path, requests) == [answer.text for answer in answers]


@pytest.mark.parametrize("kind", sorted(FAULTS))
def test_each_fault_is_asked_again_until_it_has_passed(tmp_path, kind):
    """Each fault by itself, twice in a row, ends with the right answer."""

    def reply(body, before):
        return FAULTS[kind](body) if before < 2 else None

    with Server(reply) as server:
        got = texts(server.url, tmp_path, asks(3), timeout_s=0.5, policy=QUICK)
        assert server.total == 9
    assert got == [f"Answer to: question {number}" for number in range(3)]


def test_kill_9_at_ten_random_moments(tmp_path):
    """Ten kills lose no answer; each costs at most the requests in flight, and their number is
    said at the next start."""
    count, dice = 400, random.Random(0)
    with Server(one_in_five, latency=0.02) as server:
        said = []
        for _ in range(10):
            process = start(server.url, tmp_path, count)
            goal = server.total + dice.randint(1, 45)
            while server.total < goal and process.poll() is None:
                time.sleep(0.001)
            time.sleep(dice.random() * 0.03)
            process.kill()
            said.append(process.communicate()[0])
        last = start(server.url, tmp_path, count)
        said.append(last.communicate(timeout=120)[0])
        sent = server.sent()
    lost = [int(number) for line in said for number in re.findall(r"killed with (\d+)", line)]
    assert last.returncode == 0
    assert "answered" in said[-1]
    assert len(sent) == count
    assert len(entries(tmp_path)) == count
    assert len(lost) >= 8
    assert max(lost) <= 16
    assert sum(sent.values()) - count <= sum(lost)
    assert max(sent.values()) <= 11


def start(url: str, folder: Path, count: int) -> subprocess.Popen:
    """Start a process that asks."""
    return subprocess.Popen(
        [sys.executable, "tests/ask_and_be_killed.py", url, str(folder), str(count)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def test_what_a_killed_run_had_in_flight_counts_as_spent(tmp_path):
    """Requests lost to a kill may have been paid for, so the budget counts them."""
    with Server(latency=5) as server:
        process = start(server.url, tmp_path, 20)
        while server.total < 16:
            time.sleep(0.01)
        process.kill()
        process.communicate()
    with Journal(journal_path(tmp_path)) as journal, journal.asking(lambda line: None):
        assert journal.total().lost == 16
        assert journal.spent() > 16 * 50 * 2.0 / 1e6
