"""Kill -9 at random moments: the batches that there are get picked up, and none is made twice."""

import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from batch_server import KEY, BatchServer, Fault, Plan

from syntriever.teacher.journal import Journal

REQUESTS = 40
ROOT = Path(__file__).parent.parent

# A process that asks all requests and prints their answers, as a stage does.
CHILD = """
import sys, time
from pathlib import Path
from syntriever.teacher.base import Request
from syntriever.teacher.batch import BatchTeacher
from syntriever.teacher.batch_run import BatchLimits
from syntriever.teacher.settings import Limits, LiveSettings, Sampling

url, key, journal, count = sys.argv[1:]
teacher = BatchTeacher(
    LiveSettings(url, "gpt-test", {"cot": Sampling(0.7, 100)}),
    Limits(price_input=1e6, price_output=1e6, max_attempts=50),
    Path(journal),
    key,
    BatchLimits(max_requests=7, poll_s=0.01, longest_poll_s=0.02),
    sleep=lambda seconds: time.sleep(min(seconds, 0.05)),
)
asked = (
    Request("cot", ({"role": "user", "content": f"question {n}"},), str(n), f"question {n}")
    for n in range(int(count))
)
for answer in teacher.answer(asked):
    print(answer.text)
"""


def start(server: BatchServer, journal: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", CHILD, server.url, KEY, str(journal), str(REQUESTS)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def check_end(server: BatchServer, journal: Path) -> None:
    """Run to the end; every answer is there, and the server was paid for each once."""
    process = start(server, journal)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert output.splitlines() == [f"re: question {n}" for n in range(REQUESTS)]
    assert not server.twice
    assert sum(server.answered.values()) == REQUESTS
    assert max(server.hashes.values()) == 1
    with Journal(journal) as kept:
        assert kept.total().usd == pytest.approx(REQUESTS * (5 + 5) / 2)


def killed_at(server: BatchServer, journal: Path, moment: int, delay: float) -> None:
    """Run until the server has got so many calls and `delay` seconds have passed; kill -9."""
    reached, left = threading.Event(), [moment]

    def count(endpoint: str) -> None:
        left[0] -= 1
        if left[0] <= 0:
            reached.set()

    server.on_call = count
    process = start(server, journal)
    while not reached.wait(0.002) and process.poll() is None:
        pass
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    server.on_call = lambda endpoint: None


@pytest.mark.parametrize("seed", range(5))
def test_killed_at_random_moments(tmp_path: Path, seed: int) -> None:
    """Two kills in each of five runs, on a server that also fails: same end, nothing twice."""
    chance = random.Random(seed)
    with BatchServer(seed) as server:
        server.fault_rate = 0.1
        server.plan = Plan(polls=2, reverse=True)
        server.plans.extend([Plan(polls=3), Plan("expired", finished=4)])
        journal = tmp_path / "teacher.sqlite"
        for _ in range(2):
            killed_at(server, journal, chance.randrange(1, 40), chance.random() * 0.02)
        check_end(server, journal)


@pytest.mark.parametrize("endpoint", ["upload", "create", "retrieve", "content"])
def test_killed_while_a_call_is_carried_out(tmp_path: Path, endpoint: str) -> None:
    """Killed in the middle of the third call of a kind, whose answer nobody gets."""
    with BatchServer() as server:
        server.faults[endpoint].extend([Fault(status=503), Fault(status=503)])
        hold, reached = threading.Event(), threading.Event()

        def stall(called: str) -> None:
            if called == endpoint and server.calls[endpoint] == 2:
                reached.set()
                hold.wait(10)

        server.on_call = stall
        journal = tmp_path / "teacher.sqlite"
        process = start(server, journal)
        assert reached.wait(60)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        hold.set()  # now the server carries it out
        check_end(server, journal)
