"""The batch teacher over real HTTP (batch_server.py): results, limits of files, money."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from batch_project import Project, replies, requests, small
from batch_server import BatchServer, Fault, Plan, completion, echo, refusal

from syntriever.errors import SyntrieverError
from syntriever.teacher.base import CONTENT_FILTER, CUT_OFF, PROMPT_TOO_LONG
from syntriever.teacher.batch_run import BatchLimits
from syntriever.teacher.journal import Journal
from syntriever.teacher.settings import Limits


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with BatchServer() as running:
        yield running


@pytest.fixture
def project(server: BatchServer, tmp_path: Path) -> Project:
    return Project(server, tmp_path)


# Joining results


def test_results_are_joined_by_id(project: Project, server: BatchServer) -> None:
    """Output lines in reverse order, one of them unknown: the right answers, in order (B28)."""
    server.plan = Plan(reverse=True, unknown=True)
    assert project.ask(range(5)) == replies(range(5))
    assert "answered 1 requests that it did not hold" in project.words


def test_a_doubled_answer_is_used_once(project: Project, server: BatchServer) -> None:
    """An output file that answers one request twice: the first answer counts, and is paid once."""

    def double(endpoint: str) -> None:
        for name, content in server.files.items():
            if endpoint == "content" and name.endswith("output"):
                lines = content.splitlines(keepends=True)
                server.files[name] = content + lines[0].replace(b"re: 0", b"no: 0")

    server.on_call = double
    assert project.ask(range(2), limits=Limits(price_input=1e6, price_output=0)) == replies(
        range(2)
    )
    with Journal(project.journal_path) as journal:
        assert journal.total().usd == 2 * 5 * 0.5


def test_identical_requests_are_asked_once(project: Project, server: BatchServer) -> None:
    """Two identical queries share one request, and both get its answer (B28)."""
    assert project.ask(["a", "b", "a"]) == replies(["a", "b", "a"])
    assert server.sizes == [2]


def test_untrusted_text_is_data(project: Project) -> None:
    """Line ends of all kinds, quotes and surrogates in a prompt do not break a request file."""
    texts = ["a\n\r\u2028\u0085b", 'c"}\n{"custom_id": "x"}', "д\x00\ud800"]
    assert project.ask(texts) == [reply.replace("\ud800", "?") for reply in replies(texts)]


def test_a_line_that_is_no_json_costs_one_answer(project: Project, server: BatchServer) -> None:
    """A broken line of an output file is told of, and its request is sent again."""

    def break_one(endpoint: str) -> None:
        if endpoint == "content" and len(server.batches) == 1:
            content = server.files["batch_0-output"]
            server.files["batch_0-output"] = b"{" + content[2:]

    server.on_call = break_one
    assert project.ask(range(3)) == replies(range(3))
    assert server.sizes == [3, 1]
    assert "1 lines that are not JSON" in project.words


# Limits of files


def test_files_keep_to_the_limits(project: Project, server: BatchServer) -> None:
    """Neither the number of requests nor the bytes of a file exceed their limits, unasked (B28)."""
    assert project.ask(range(10), batch_limits=small(4)) == replies(range(10))
    assert server.sizes == [4, 4, 2]
    texts = ["x" * length for length in (10, 900, 11, 12, 901, 902)]
    limits = BatchLimits(max_bytes=1500)
    assert project.ask(texts, batch_limits=limits) == replies(texts)
    uploaded = [c for name, c in server.files.items() if name.startswith("file-")]
    assert max(map(len, uploaded[3:])) <= 1500
    assert len(uploaded[3:]) > 2


def test_a_request_beyond_all_limits_is_named(project: Project, server: BatchServer) -> None:
    """A single request that no file can hold stops the run and says which query it is."""
    with pytest.raises(SyntrieverError, match=r"query '1' has \d+ bytes"):
        project.ask(["a", "x" * 3000], batch_limits=BatchLimits(max_bytes=2000))
    assert not server.calls


@pytest.mark.parametrize(
    "limit", [{"max_file_bytes": 1000}, {"max_requests": 3}], ids=["rejected", "failed later"]
)
def test_smaller_server_limits_split_files(
    project: Project, server: BatchServer, limit: dict
) -> None:
    """A server that takes less than OpenAI, whether it says so at once or later, gets less."""
    vars(server).update(limit)
    assert project.ask(range(10)) == replies(range(10))
    assert not server.twice


def test_the_queue_limit_is_waited_for(project: Project, server: BatchServer) -> None:
    """Batches that fail late for the limit of enqueued tokens are shown, and follow later (B28)."""
    server.max_open_requests = 5
    server.plan = Plan(polls=3)
    assert project.ask(range(12), batch_limits=small(4)) == replies(range(12))
    assert "Enqueued token limit reached for gpt-test." in project.words
    assert server.sizes == [4] * 6  # 3 at first, of which 2 fail; then 2, then the last
    assert not server.twice


def test_a_queue_smaller_than_a_batch_gets_smaller_batches(
    project: Project, server: BatchServer
) -> None:
    """A batch that alone exceeds the limit of enqueued tokens is split, not sent for ever."""
    server.max_open_requests = 3
    assert project.ask(range(8)) == replies(range(8))
    assert not server.twice


def test_a_full_queue_stops_in_the_end(project: Project, server: BatchServer) -> None:
    """A queue that takes not even one request stops the run, which can go on later."""
    server.max_open_requests = 0
    with pytest.raises(SyntrieverError, match="Enqueued token limit reached"):
        project.ask(range(3))
    server.max_open_requests = 10
    assert project.ask(range(3)) == replies(range(3))


def test_a_queue_limit_at_creation_is_waited_for_too(project: Project, server: BatchServer) -> None:
    """Servers that refuse at once for the limit of enqueued tokens are waited for as well."""
    full = Fault(status=429, words="Enqueued token limit reached", code="token_limit_exceeded")
    server.faults["create"].extend([full, full])
    assert project.ask(range(4)) == replies(range(4))


# Items without an answer


def test_an_expired_batch_keeps_what_it_finished(project: Project, server: BatchServer) -> None:
    """What an expired batch finished is kept, and only the rest is sent again."""
    server.plans.append(Plan("expired", finished=3))
    assert project.ask(range(8)) == replies(range(8))
    assert server.sizes == [8, 5]
    assert not server.twice


def test_failed_items_are_sent_again(project: Project, server: BatchServer) -> None:
    """Items with status 429 or 500, or in neither file, go into the next batch."""

    def sometimes(body: dict) -> tuple[int, dict]:
        number, batches = int(body["messages"][-1]["content"]), len(server.batches)
        if batches < 3 and number % 3 == 0:
            return refusal((429, 500)[number % 2], "Not now")
        return echo(body)

    server.answer = sometimes
    server.plans.append(Plan(finished=6))
    assert project.ask(range(9)) == replies(range(9))
    assert server.sizes[0] == 9 and len(server.sizes) == 3
    assert not server.twice


def test_a_broken_completion_is_asked_again(project: Project, server: BatchServer) -> None:
    """A status of 200 with a body that is no completion is no answer."""
    server.answer = lambda body: echo(body) if len(server.batches) > 1 else (200, {"object": "?"})
    assert project.ask(range(2)) == replies(range(2))
    assert server.sizes == [2, 2]


def test_items_are_sent_again_up_to_a_limit(project: Project, server: BatchServer) -> None:
    """After `max_attempts` batches an item stops the run; all others are kept."""
    server.answer = lambda body: (
        echo(body) if body["messages"][-1]["content"] != "1" else refusal(500, "Broken for good")
    )
    with pytest.raises(
        SyntrieverError, match=r"1 requests were in 4 batches each.*Broken for good"
    ):
        project.ask(range(3))
    assert server.sizes == [3, 1, 1, 1]
    server.answer = echo
    assert project.ask(range(3)) == replies(range(3))
    assert server.sizes == [3, 1, 1, 1, 1]
    assert not server.twice


def test_refused_items_are_counted_and_not_asked_again(
    project: Project, server: BatchServer
) -> None:
    """A content filter or an overlong prompt is a 'no answer' with its reason, for good."""
    refused = {
        "0": refusal(400, "filtered", "content_filter"),
        "1": refusal(400, "This model's maximum context length is 8 tokens"),
        "2": (200, completion(None, "content_filter")),
        "3": (200, completion("half an ans", "length")),
    }
    server.answer = lambda body: refused.get(body["messages"][-1]["content"]) or echo(body)
    expected = [CONTENT_FILTER, PROMPT_TOO_LONG, CONTENT_FILTER, CUT_OFF, None]
    for _ in range(2):
        teacher = project.teacher()
        answers = list(teacher.answer(requests(range(5))))
        assert [answer.reason for answer in answers] == expected
        assert [answer.text for answer in answers] == [None] * 4 + ["re: 4"]
        assert teacher.usage.calls == 5 and teacher.usage.prompt_tokens == 3 * 5
        teacher.close()
    assert server.sizes == [5]


def test_an_item_that_nothing_can_mend_stops_the_run(project: Project, server: BatchServer) -> None:
    """An unknown model stops the run with the server's words; the batch's answers are kept."""
    server.answer = lambda body: (
        refusal(404, "The model does not exist", "model_not_found")
        if body["messages"][-1]["content"] == "1"
        else echo(body)
    )
    with pytest.raises(SyntrieverError, match="The model does not exist"):
        project.ask(range(3))
    server.answer = echo
    assert project.ask(range(3)) == replies(range(3))
    assert server.sizes == [3, 1]


def test_a_cancelled_batch_stops_the_run(project: Project, server: BatchServer) -> None:
    """Somebody cancelled a batch: what it finished is kept, and the next run sends the rest."""
    server.plans.append(Plan("cancelled", finished=2))
    with pytest.raises(SyntrieverError, match="batch_0 was cancelled"):
        project.ask(range(5))
    assert project.ask(range(5)) == replies(range(5))
    assert server.sizes == [5, 3]


def test_a_batch_cancelled_before_it_began_is_made_anew(
    project: Project, server: BatchServer
) -> None:
    """A cancelled batch is not taken for its successor, though both have the same content."""
    server.plans.append(Plan("cancelled", finished=0))
    with pytest.raises(SyntrieverError, match="cancelled"):
        project.ask(range(5))
    assert project.ask(range(5)) == replies(range(5))
    assert server.sizes == [5, 5]


# Money


def test_a_batch_costs_half(project: Project, server: BatchServer) -> None:
    """Batches are booked at half the live price, by the server's own count of tokens."""
    project.ask(range(4), limits=Limits(price_input=1e6, price_output=2e6))
    with Journal(project.journal_path) as journal:
        assert journal.total().usd == pytest.approx(4 * (5 * 1 + 5 * 2) / 2)


def test_the_budget_is_never_exceeded(project: Project, server: BatchServer) -> None:
    """Batches are cut to the money left, those on their way included; more goes on (B32)."""
    # A request costs at most (about 10 prompt + 100 completion tokens) / 2 = 55 USD, truly 5.
    prices = {"price_input": 1e6, "price_output": 1e6}
    with pytest.raises(SyntrieverError, match=r"budget_usd: 200\).*requests are left"):
        project.ask(range(60), limits=Limits(**prices, budget_usd=200))
    spent = sum(server.answered.values()) * 5
    assert 100 < spent <= 200
    assert server.sizes[0] == 3
    assert project.ask(range(60), limits=Limits(**prices, budget_usd=2000)) == replies(range(60))
    assert not server.twice


def test_batches_on_their_way_count_towards_the_budget(
    project: Project, server: BatchServer
) -> None:
    """What open batches may still cost is not promised to others."""
    open_at_once = []

    def count(endpoint: str) -> None:
        states = [batch.object["status"] for batch in server.batches.values()]
        open_at_once.append(states.count("validating") + (endpoint == "create"))

    server.on_call = count
    limits = Limits(price_input=1e6, price_output=1e6, budget_usd=130)
    assert project.ask(range(6), limits=limits, batch_limits=small(1)) == replies(range(6))
    assert max(open_at_once) == 2


def test_a_price_is_needed(project: Project, server: BatchServer) -> None:
    """A model without a price is asked about, never taken for free (B32)."""
    with pytest.raises(SyntrieverError, match="price"):
        project.ask(range(2), limits=Limits())
    assert not server.calls
    assert project.ask(range(2), limits=Limits(allow_unpriced=True)) == replies(range(2))


def test_missing_usage_is_estimated(project: Project, server: BatchServer) -> None:
    """An answer without token counts is estimated, not taken for free (B32)."""
    server.answer = lambda body: (200, completion("some answer", usage=None))
    project.ask(range(1), limits=Limits(price_input=1, price_output=1))
    with Journal(project.journal_path) as journal:
        (entry,) = journal.entries()
        assert entry.estimated and entry.prompt_tokens > 0 and entry.completion_tokens > 0
        assert entry.batch_id == "batch_0" and json.dumps(entry.request)
        assert journal.total().usd > 0
