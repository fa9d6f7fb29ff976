"""Runs side by side, each in a copy of the repository as DVC makes them, that share one journal.

This is what `dvc queue start -j 2` comes to: DVC checks out a commit for each, and names the
repository to its commands in DVC_ROOT. DVC's own workers, which race, are not part of it.
"""

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
from openai_server import Server, completion
from project import ROOT, set_params

from syntriever import paths

STAGES = {
    "synthesize": paths.SYNTHESIZED,
    "verify": paths.VERIFIED,
    "mine_pairs": paths.COMPARISONS,
}
WAITS = "is asking the teacher; waiting until it is done"
PATIENCE_S = 240  # of machines that are busy; it takes seconds

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class GatedServer(Server):
    """Keeps the answers beyond the first `free` until its gate is opened."""

    def __init__(self, reply) -> None:
        super().__init__(reply)
        self.gate = threading.Event()
        self.free = 0

    async def _send(self, call, reply, reader, writer) -> bool:
        if self.free:
            self.free -= 1
        else:
            while not self.gate.is_set():
                await asyncio.sleep(0.02)
        return await super()._send(call, reply, reader, writer)


class Workspace:
    """A copy of the repository, code included, in which stages run as commands."""

    def __init__(self, repository, name, project) -> None:
        self.repository = repository
        self.folder = repository / ".dvc/tmp/exps" / name
        shutil.copytree(project, self.folder)
        for code in ("stages", "syntriever"):
            shutil.copytree(ROOT / code, self.folder / code)
        self.said = self.folder / "said.txt"
        self.started: list[subprocess.Popen] = []

    def start(self, stage: str) -> subprocess.Popen:
        environment = os.environ | {"DVC_ROOT": str(self.repository), "OPENAI_API_KEY": "none"}
        environment.pop("PYTHONPATH", None)
        with self.said.open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", f"stages.{stage}"],
                cwd=self.folder, env=environment, stdout=said, stderr=said,
            )  # fmt: skip
        self.started.append(process)
        return process

    def waits(self) -> bool:
        return WAITS in self.said.read_text()


@pytest.fixture
def two(tmp_path, finished_project):
    """Two workspaces of one repository that differ in what comes after the teacher's answers."""
    made = []
    for name, rate in (("first", 1.0e-5), ("second", 3.0e-5)):
        workspace = Workspace(tmp_path / "repository", name, finished_project)
        set_params(workspace.folder, {"train_stage2.learning_rate": rate})
        for output in STAGES.values():
            (workspace.folder / output).unlink()
        made.append(workspace)
    yield made
    for process in [process for workspace in made for process in workspace.started]:
        process.kill()
        process.wait()


@pytest.fixture
def server(two):
    """A teacher behind a gate, which both workspaces are set to ask, four at a time."""
    with GatedServer(verdicts) as server:
        for workspace in two:
            options = {
                "teacher.backend": "openai",
                "teacher.model": "stub",
                "teacher.base_url": server.url,
                "runtime.teacher.price_input": 0,
                "runtime.teacher.price_output": 0,
                "runtime.teacher.concurrency": 4,
            }
            set_params(workspace.folder, options)
        yield server
        server.gate.set()


def verdicts(body: dict, before: int) -> dict | None:
    """A verdict where one is asked for, else some text of the server's own."""
    text = body["messages"][-1]["content"]
    if "Which of the two passages" in text:
        return completion("Passage #1")
    return completion("Yes.") if "Is this passage accurate" in text else None


def until(true, said) -> None:
    """Wait until `true()`; else fail with what the commands said."""
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, said()
        time.sleep(0.02)


def in_journal(two) -> int:
    """How many answers the repository's journal holds."""
    assert not any((workspace.folder / ".journal").exists() for workspace in two)
    journal = sqlite3.connect(two[0].repository / ".journal/teacher.sqlite")
    try:
        return journal.execute("SELECT count(*) FROM answers").fetchone()[0]
    finally:
        journal.close()


def said(two) -> str:
    return "\n".join(workspace.said.read_text() for workspace in two)


def same_output(two, stage: str) -> bool:
    first, second = ((workspace.folder / STAGES[stage]).read_bytes() for workspace in two)
    return first == second and len(first) > 0


def test_parallel_runs_ask_once(two, server):
    """Both run each stage at once: one asks, the other waits, says so, and uses the answers. The
    server sees each question once, and both get the same bytes."""
    for stage in STAGES:
        server.gate.clear()
        running = [workspace.start(stage) for workspace in two]
        until(lambda: any(workspace.waits() for workspace in two), lambda: said(two))
        server.gate.set()
        ended = [process.wait(PATIENCE_S) for process in running]
        assert ended == [0, 0], said(two)
        assert sum(workspace.waits() for workspace in two) == 1
        assert same_output(two, stage)
    asked = Counter(call.asked for call in server.calls)
    assert len(asked) > 36 + 12 and set(asked.values()) == {1}
    assert in_journal(two) == len(asked)


def test_the_waiting_run_takes_over_from_a_killed_one(two, server):
    """The run that asks is killed: the one that waits goes on at once, with the answers that came,
    and asks again at most what was in flight."""
    server.free = 10
    running = [workspace.start("synthesize") for workspace in two]
    until(lambda: any(workspace.waits() for workspace in two), lambda: said(two))
    asking, waiting = sorted(range(2), key=lambda number: two[number].waits())
    until(lambda: in_journal(two) == 10 and len(server.calls) == 14, lambda: said(two))
    running[asking].send_signal(signal.SIGKILL)
    assert running[asking].wait(PATIENCE_S) == -signal.SIGKILL
    server.gate.set()
    assert running[waiting].wait(PATIENCE_S) == 0, said(two)
    assert "killed with 4 requests in flight" in two[waiting].said.read_text()
    asked = Counter(call.asked for call in server.calls)
    assert in_journal(two) == len(asked) == 36 and asked.total() == 36 + 4
    assert two[asking].start("synthesize").wait(PATIENCE_S) == 0, said(two)
    assert len(server.calls) == 40 and same_output(two, "synthesize")
