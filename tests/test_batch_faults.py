"""Calls of the batch teacher that fail: what passes, and what stops the run."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from batch_project import Project, Stopped, die, replies, small
from batch_server import KEY, BatchServer, Fault, Plan, refusal
from typer.testing import CliRunner

from stages.journal import app
from syntriever.errors import SyntrieverError
from syntriever.teacher.journal import Journal
from syntriever.teacher.settings import Limits


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with BatchServer() as running:
        yield running


@pytest.fixture
def project(server: BatchServer, tmp_path: Path) -> Project:
    return Project(server, tmp_path)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500),
        Fault(status=429, words="Slow down"),
        Fault(status=429, words="Slow down", headers={"Retry-After": "90"}),
        Fault(reset=True),
        Fault(reset=True, after=True),
        Fault(status=502, after=True),
        Fault(cut=True),
    ],
    ids=["500", "429", "retry-after", "reset", "reset after", "502 after", "cut"],
)
@pytest.mark.parametrize("endpoint", ["upload", "create", "list", "retrieve", "content"])
def test_faults_pass(project: Project, server: BatchServer, endpoint: str, fault: Fault) -> None:
    """Two faults in a row on any endpoint: every answer comes, and each batch is created once."""
    server.faults[endpoint].extend([fault, fault])
    assert project.ask(range(4), batch_limits=small(2)) == replies(range(4))
    assert server.sizes == [2, 2]
    if "Retry-After" in fault.headers:
        assert sum(seconds >= 90 for seconds in project.slept) == 2


def test_faults_on_every_fifth_call_pass(project: Project, server: BatchServer) -> None:
    """With random faults on a fifth of all calls, nothing is lost and nothing is paid twice."""
    server.fault_rate = 0.2
    limits = Limits(price_input=0, price_output=0, max_attempts=20)
    assert project.ask(range(45), limits=limits, batch_limits=small(3)) == replies(range(45))
    assert server.sizes == [3] * 15
    assert not server.twice


@pytest.mark.parametrize("endpoint", ["upload", "create", "list", "retrieve", "content"])
def test_lasting_faults_stop_the_run(project: Project, server: BatchServer, endpoint: str) -> None:
    """A call that never works stops the run with the server's words; the next run goes on."""
    server.faults[endpoint].extend([Fault(words="Out of order")] * 4)
    with pytest.raises(SyntrieverError, match=r"Out of order.*Nothing is lost"):
        project.ask(range(4))
    assert project.ask(range(4)) == replies(range(4))
    assert server.sizes == [4]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(status=400, words="Invalid purpose"), "Invalid purpose"),
        (Fault(status=403, words="Not for you"), "Not for you"),
        (Fault(status=404, words="Unknown URL"), "runtime.teacher.mode to live"),
        (Fault(status=429, words="No credit", code="insufficient_quota"), "No credit"),
        (Fault(status=429, headers={"Retry-After": "7200"}), "wait for 7200 s"),
    ],
    ids=["400", "403", "404", "no credit", "long wait"],
)
@pytest.mark.parametrize("endpoint", ["upload", "create", "list"])
def test_what_does_not_pass_stops_at_once(
    project: Project, server: BatchServer, endpoint: str, fault: Fault, words: str
) -> None:
    """Errors that only people can mend are not tried again, and tell the server's words."""
    server.faults[endpoint].append(fault)
    with pytest.raises(SyntrieverError, match=words):
        project.ask(range(2))
    assert server.calls[endpoint] == 1
    assert project.ask(range(2)) == replies(range(2))


def test_a_batch_refused_late_stops_with_the_words(project: Project, server: BatchServer) -> None:
    """A batch that fails in validation for another cause stops the run with line and words."""
    error = {"code": "invalid_json_line", "message": "This line is no JSON", "line": 2}
    server.plans.append(Plan("failed", errors=(error,)))
    with pytest.raises(SyntrieverError, match=r"This line is no JSON \(line 2\)"):
        project.ask(range(2))
    assert project.ask(range(2)) == replies(range(2))


@pytest.mark.parametrize("dropped", ["batch", "files"])
def test_a_batch_that_its_server_dropped_can_be_forgotten(
    project: Project, server: BatchServer, dropped: str
) -> None:
    """Every run stops there, with the command that mends it, which sends the requests again."""
    with pytest.raises(Stopped):
        project.ask(range(3), sleep=die, limits=Limits(price_input=1.0, price_output=1.0))
    server.faults["retrieve" if dropped == "batch" else "content"].extend(
        [Fault(status=404, words="No such thing")] * 2
    )
    for _ in range(2):
        with pytest.raises(SyntrieverError, match="journal forget-batch"):
            project.ask(range(3))
    path = ("--path", str(project.journal_path))
    refused = CliRunner().invoke(app, ["forget-batch", "batch_7", *path])
    assert "no open batch is batch_7" in str(refused.exception)
    forgotten = CliRunner().invoke(app, ["forget-batch", "batch_0", *path])
    assert "batch_0 is forgotten" in forgotten.output, forgotten.exception
    with Journal(project.journal_path) as journal:
        assert (journal.total().lost, journal.spent() > 0) == (3, True)
    assert project.ask(range(3)) == replies(range(3))
    assert server.sizes == [3, 3]


def test_a_file_that_is_not_ready_is_waited_for(project: Project, server: BatchServer) -> None:
    """Azure's server wants to have looked at a request file before it makes a batch of it."""
    words = "The input file f is in 'pending' state. Only files with status 'Processed' can be used"
    server.faults["create"].append(Fault(status=400, words=words))
    assert project.ask(range(2)) == replies(range(2))
    assert server.sizes == [2]


def test_the_key_is_nowhere(project: Project, server: BatchServer) -> None:
    """The key is in no file, no message and no error, even where the server repeats it."""
    server.faults["list"].append(Fault(status=401, words=f"Wrong key {KEY}."))
    with pytest.raises(SyntrieverError) as caught:
        project.ask(range(3))
    server.answer = lambda body: refusal(500, f"Sent with {KEY}")
    with pytest.raises(SyntrieverError) as also:
        project.ask(range(3))
    told = f"{caught.value}{also.value}{project.words}"
    assert "[key]" in str(caught.value) and "[key]" in str(also.value)
    assert KEY not in told
    for path in project.journal_path.parent.iterdir():
        assert KEY.encode() not in path.read_bytes()


def test_a_wrong_key_stops_at_once(project: Project, server: BatchServer) -> None:
    """A key that the server refuses stops the run before anything is uploaded."""
    with pytest.raises(SyntrieverError, match="OPENAI_API_KEY"):
        project.ask(range(3), key="sk-another")
    assert not server.calls
