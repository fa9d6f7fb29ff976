"""Runs of the batch teacher that were stopped, and those that go on."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from batch_project import Project, Stopped, die, replies, requests, small
from batch_server import BatchServer, Plan, completion, echo, refusal

from syntriever.teacher import reading
from syntriever.teacher.batch_api import BatchApi
from syntriever.teacher.body import Completion, body
from syntriever.teacher.journal import Journal, key
from syntriever.teacher.settings import Limits, Sampling
from syntriever.teacher.spool import Spool


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with BatchServer() as running:
        yield running


@pytest.fixture
def project(server: BatchServer, tmp_path: Path) -> Project:
    return Project(server, tmp_path)


STEPS = [
    (Spool, "want"),
    (Spool, "assign"),
    (Journal, "save_batch"),
    (BatchApi, "upload"),
    (BatchApi, "create"),
    (BatchApi, "retrieve"),
    (BatchApi, "download"),
    (Journal, "put"),
    (Spool, "mark_done"),
    (Spool, "release"),
]


@pytest.mark.parametrize("call", [1, 2, 3])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS, ids=[f"{owner.__name__}.{name}" for owner, name in STEPS])
def test_stopped_at_any_step(
    project: Project,
    server: BatchServer,
    monkeypatch: pytest.MonkeyPatch,
    step: tuple[type, str],
    after: bool,
    call: int,
) -> None:
    """Killed before or after any step: the next run ends the same, nothing is paid twice."""
    limits = Limits(price_input=1e6, price_output=1e6)
    server.plans.append(Plan("expired", finished=1))
    owner, name = step
    carry_out, calls = getattr(owner, name), []

    def dying(*arguments: object, **named: object) -> object:
        calls.append(name)
        if len(calls) == call and not after:
            raise Stopped
        result = carry_out(*arguments, **named)
        if len(calls) == call:
            raise Stopped
        return result

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dying)
        with contextlib.suppress(Stopped):
            project.ask(range(6), batch_limits=small(3), limits=limits)
    assert project.ask(range(6), batch_limits=small(3), limits=limits) == replies(range(6))
    assert not server.twice
    assert server.sizes == [3, 3, 2]
    with Journal(project.journal_path) as journal:
        assert journal.total().usd == 6 * (5 + 5) / 2


def test_the_search_goes_through_all_pages(project: Project, server: BatchServer) -> None:
    """A batch is found however many were created since."""
    server.longest_page = 2
    with pytest.raises(Stopped):
        project.ask(range(3), sleep=die)
    other = Project(server, project.journal_path.parent / "other")
    other.ask(range(10, 15), batch_limits=small(1))
    shutil.rmtree(project.journal_path.parent)
    assert project.ask(range(3)) == replies(range(3))
    assert not server.twice


@pytest.mark.parametrize(
    "lost",
    ["teacher.sqlite.batches*", "teacher.sqlite*[!s]", "*"],
    ids=["notes", "journal", "all"],
)
def test_batches_are_found_again_without_notes(
    project: Project, server: BatchServer, lost: str
) -> None:
    """With the notes on what is in which batch lost, or all, batches are still not doubled."""
    with pytest.raises(Stopped):
        project.ask(range(6), batch_limits=small(3), sleep=die)
    for path in list(project.journal_path.parent.glob(lost)):
        path.unlink()
    assert project.ask(range(6), batch_limits=small(3)) == replies(range(6))
    assert server.sizes == [3, 3]


def test_lost_notes_are_made_anew_from_the_batches(project: Project, server: BatchServer) -> None:
    """Without notes, the batches' own request files tell which requests are on their way."""
    with pytest.raises(Stopped):
        project.ask(range(6), batch_limits=small(3), sleep=die)
    for path in project.journal_path.parent.glob("*.batches*"):
        path.unlink()
    assert project.ask(range(2, 8)) == replies(range(2, 8))
    assert server.sizes == [3, 3, 2]


def test_an_answer_in_use_is_not_replaced(project: Project, server: BatchServer) -> None:
    """An answer that came on another way while a batch was on its way stays, for later stages."""
    with pytest.raises(Stopped):
        project.ask(range(3), sleep=die)
    live = project.teacher()
    entries = []
    for request in requests(range(1)):
        sent, got = body(live._settings, request), Completion("live", None, "stop", 1, 1)
        digest = key(live._settings, request)
        entries.append(reading.entry(digest, request, live._settings, sent, got))
    with Journal(project.journal_path) as journal:
        journal.put(entries)
    assert project.ask(range(1, 3)) == replies(range(1, 3))
    assert project.ask(range(3)) == ["live", *replies(range(1, 3))]


def test_a_run_for_more_waits_for_the_batches_of_an_earlier_one(
    project: Project, server: BatchServer
) -> None:
    """Requests that are in an earlier run's batch are not sent again by a run that asks more."""

    with pytest.raises(Stopped):
        project.ask(range(4), sleep=die)
    assert project.ask(range(2, 8)) == replies(range(2, 8))
    assert server.sizes == [4, 4]
    assert "batches of an earlier run are on their way: 1, with 4 requests" in project.words
    assert project.ask(range(8)) == replies(range(8))
    assert server.sizes == [4, 4] and not server.twice


def test_batches_of_another_run_are_not_waited_for(project: Project, server: BatchServer) -> None:
    """A batch that holds nothing of this run's may still be on its way when the run ends."""

    server.plans.append(Plan(polls=5))
    with pytest.raises(Stopped):
        project.ask(range(4), sleep=die)
    assert project.ask(range(4, 6)) == replies(range(4, 6))
    assert project.ask(range(4)) == replies(range(4))
    assert server.sizes == [4, 2]


def test_a_batch_of_another_server_is_left_alone(project: Project, tmp_path: Path) -> None:
    """A run against another server does not look for the first one's batches there."""

    with pytest.raises(Stopped):
        project.ask(range(2), sleep=die)
    first = project.server
    with BatchServer() as project.server:
        assert project.ask(range(2)) == replies(range(2))
    project.server = first
    assert project.ask(range(2)) == replies(range(2))
    assert first.sizes == [2]


def test_a_second_run_asks_nothing(project: Project, server: BatchServer) -> None:
    """Answers in the journal need no server, key or price, and count the same."""
    first = project.teacher()
    answers = list(first.answer(requests(range(4))))
    calls = server.calls.copy()
    again = project.teacher(limits=Limits(), key="")
    assert list(again.answer(requests(range(4)))) == answers
    assert again.usage == first.usage and server.calls == calls


def test_only_answers_that_were_cut_off_are_asked_again(
    project: Project, server: BatchServer
) -> None:
    """A higher max_tokens asks the cut-off answers again, another temperature all (B30)."""

    def short(body: dict) -> tuple[int, dict]:
        cut = int(body["messages"][-1]["content"]) % 2 and body["max_completion_tokens"] < 200
        return (200, completion("half", "length")) if cut else echo(body)

    server.answer = short
    project.ask(range(10))
    assert project.ask(range(10), sampling=Sampling(0.7, 200)) == replies(range(10))
    assert server.sizes == [10, 5]
    project.ask(range(10), sampling=Sampling(0.2, 200))
    assert server.sizes == [10, 5, 10]


def test_a_limit_too_large_for_the_model_is_mended_by_a_smaller_one(
    project: Project, server: BatchServer
) -> None:
    """What was too long, prompt and limit together, is asked again with the lower one."""
    words = "This model's maximum context length is 50 tokens. However, you requested 100"
    server.answer = lambda body: (
        refusal(400, words) if body["max_completion_tokens"] > 50 else echo(body)
    )
    assert project.ask(range(3)) == [None] * 3
    assert project.ask(range(3), sampling=Sampling(0.7, 40)) == replies(range(3))
    assert server.sizes == [3, 3]


def test_a_limit_raised_while_a_batch_is_on_its_way(project: Project, server: BatchServer) -> None:
    """What the old batch cuts off is asked again with the new limit; the rest is used."""

    def short(body: dict) -> tuple[int, dict]:
        cut = int(body["messages"][-1]["content"]) % 2 and body["max_completion_tokens"] < 200
        return (200, completion("half", "length")) if cut else echo(body)

    server.answer = short
    with pytest.raises(Stopped):
        project.ask(range(10), sleep=die)
    assert project.ask(range(10), sampling=Sampling(0.7, 200)) == replies(range(10))
    assert server.sizes == [10, 5]


def test_a_limit_raised_before_a_batch_expired(project: Project, server: BatchServer) -> None:
    """What the old batch did not finish is sent with the new limit."""
    server.plans.append(Plan("expired", finished=2))
    with pytest.raises(Stopped):
        project.ask(range(5), sleep=die)
    assert project.ask(range(5), sampling=Sampling(0.7, 200)) == replies(range(5))
    bodies = [line["body"] for line in server.batches["batch_1"].lines]
    assert [body["max_completion_tokens"] for body in bodies] == [200] * 3
