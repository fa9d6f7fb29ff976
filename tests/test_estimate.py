"""What `--estimate` says before a single request."""

import pytest
from openai_server import Server
from project import hashes, run_stage, set_params

from syntriever import estimate, paths
from syntriever.files import read_jsonl, write_jsonl
from syntriever.teacher import journal, money
from syntriever.teacher.base import Request
from syntriever.teacher.settings import LiveSettings, Sampling

PRICED = {"runtime.teacher.price_input": 2.0, "runtime.teacher.price_output": 8.0}


def request(text, prompt="cot", sample=0):
    return Request(prompt, ({"role": "user", "content": text},), "q", text, (), sample)


def settings(max_tokens=100):
    sampling = dict.fromkeys(("cot", "compare"), Sampling(0.0, max_tokens))
    return LiveSettings("http://host/v1", "m", sampling)


def entry(asked, settings, **changes):
    fields = {
        "key": journal.key(settings, asked), "prompt": asked.prompt, "query_id": "q", "model": "m",
        "request": {}, "text": "t", "finish_reason": "stop", "reason": None, "prompt_tokens": 1,
        "completion_tokens": 1, "estimated": False, "max_tokens": 100, "batch_id": None,
        "created": journal.now(),
    }  # fmt: skip
    return journal.Entry(**fields | changes)


def test_calls_and_tokens_are_counted_by_prompt(tmp_path):
    """Each prompt has its own row; nothing is created where there is no journal."""
    asked = [request("a" * 30), request("b" * 30), request("c" * 60, "compare")]
    path = tmp_path / "journal" / "teacher.sqlite"
    found = estimate.estimate(asked, settings(), {"cot": 20, "compare": 500}, path)
    prompt_tokens = money.prompt_tokens(asked[0].messages)
    assert found["cot"] == estimate.Estimate(2, 0, 2 * prompt_tokens, 40, 200)
    assert found["compare"].expected == 100  # no longer than max_tokens
    whole = estimate.total(found.values())
    assert (whole.calls, whole.to_ask, whole.expected, whole.at_most) == (3, 3, 140, 300)
    assert not path.parent.exists()


def test_what_the_journal_holds_costs_nothing(tmp_path):
    """Answers that are there are counted and not paid for; those cut off below the limit are."""
    asked = [request("whole"), request("cut"), request("missing")]
    path = tmp_path / "teacher.sqlite"
    with journal.Journal(path) as answers:
        cut = entry(asked[1], settings(), finish_reason="length", reason="cut off")
        answers.put([entry(asked[0], settings()), cut])
    found = estimate.estimate(asked, settings(), {"cot": 20}, path)
    assert (found["cot"].journalled, found["cot"].to_ask) == (2, 1)
    found = estimate.estimate(asked, settings(200), {"cot": 20}, path)
    assert (found["cot"].journalled, found["cot"].to_ask, found["cot"].at_most) == (1, 2, 400)


def test_without_max_tokens_there_is_no_upper_bound(tmp_path):
    """An unlimited answer is not passed off as a limited one."""
    found = estimate.estimate([request("a")] * 2, settings(None), {"cot": 20}, tmp_path / "none")
    assert (found["cot"].expected, found["cot"].at_most) == (40, None)
    other = estimate.Estimate(1, 0, 1, 1, 1)
    assert estimate.total([found["cot"], other]).at_most is None


def test_a_usual_answer_is_as_long_as_the_recorded_ones(tmp_path):
    """Lengths are measured on recorded answers, and guessed only where there are none."""
    path = tmp_path / "answers.jsonl"
    assert estimate.usual_tokens(path) == estimate.GUESSES
    write_jsonl(path, [{"cot": "a" * 30, "positive": None}, {"cot": "a" * 60}, {"cot": 5}])
    assert estimate.usual_tokens(path) == estimate.GUESSES | {"cot": 15}


@pytest.mark.parametrize(
    ("stage", "calls"), [("write_queries", 6), ("synthesize", 36), ("verify", 12)]
)
def test_an_estimate_asks_and_writes_nothing(project, capsys, stage, calls):
    """--estimate prints calls, tokens and cost, live and batch; the server hears nothing."""
    with Server() as server:
        changes = {"write_queries.per_passage": 1, "write_queries.passages": 3}
        set_params(project, PRICED | live(server) | changes)
        before = hashes(project)
        run_stage(stage, True)
        assert server.total == 0
    assert hashes(project) == before and not (project / ".journal").exists()
    out = capsys.readouterr().out
    row = next(line.split() for line in out.splitlines() if line.startswith("all "))
    assert row[1:4] == [str(calls), "0", str(calls)]
    expected = [float(word.strip("$,")) for word in out.split() if word.startswith("$")]
    assert len(expected) == 4 and min(expected) >= 0
    assert "Cost, live" in out and "Cost, batch" in out


def test_the_cost_is_tokens_times_price(project, capsys):
    """Tokens in and out at their prices for a million; the batch costs half."""
    set_params(project, {"runtime.teacher.price_input": 1e6, "runtime.teacher.price_output": 0.0})
    run_stage("verify", True)
    out = capsys.readouterr().out
    tokens = sum(money.prompt_tokens(one.messages) for one in verification_requests())
    assert f"Cost, live: ${tokens:,.2f} expected, at most ${2 * tokens:,.2f}" in out
    assert f"Cost, batch: ${tokens / 2:,.2f} expected" in out


def verification_requests():
    from syntriever import verification

    return verification.requests(list(read_jsonl(paths.SYNTHESIZED)), "relabel")


def test_pairs_are_estimated_in_both_orders(project, capsys):
    """mine_pairs counts each order that is asked."""
    counts = []
    for both in (False, True):
        set_params(project, PRICED | {"mine_pairs.both_orders": both})
        run_stage("mine_pairs", True)
        out = capsys.readouterr().out
        counts.append(int(out.split("all ")[1].split()[0].replace(",", "")))
    assert counts[1] == 2 * counts[0] > 0


def test_nothing_to_ask_is_said(project, capsys):
    """Without pairs to compare there is no call to estimate, and no broken line about answers."""
    set_params(project, {"mine_pairs.pairs": 0})
    run_stage("mine_pairs", True)
    said = capsys.readouterr().out
    assert "nothing to ask: 0 calls" in said and "usual answer" not in said


def test_an_unknown_price_is_asked_for(project, capsys):
    """A model without a price is never free: the params to set are named."""
    run_stage("synthesize", True)
    out = capsys.readouterr().out
    assert "Cost: unknown, not nothing" in out and "runtime.teacher.price_input" in out
    assert "$" not in out
    assert "nothing is asked or paid" in out  # as the backend is recorded


def live(server):
    return {"teacher.backend": "openai", "teacher.model": "stub", "teacher.base_url": server.url}


def test_the_estimate_is_what_is_then_asked(project, capsys, monkeypatch):
    """As many calls are made as were estimated, and a second estimate finds them all."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    with Server() as server:
        set_params(project, PRICED | live(server))
        run_stage("synthesize", False)
        assert server.total == 36
    capsys.readouterr()
    run_stage("synthesize", True)
    row = next(
        line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("all ")
    )
    assert row[1:] == ["36", "36", "0", "0", "0", "0"]
