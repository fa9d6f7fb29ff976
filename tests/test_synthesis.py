"""What the stage `synthesize` makes of the teacher's answers."""

import json
from collections import Counter
from pathlib import Path

import pytest
from fake_teacher import FakeTeacher, talk

from syntriever import paths, synthesis
from syntriever.collection import Query
from syntriever.errors import SyntrieverError
from syntriever.teacher import Answer

ROOT = Path(__file__).parents[1]
QUERIES = [Query("q2", "Two? {query}"), Query("q1", "One?")]


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch):
    """Prompts are found from the repository's root."""
    monkeypatch.chdir(ROOT)


def teacher(**silent):
    """Answers with the prompt's name and the query, except what is in `silent`."""

    def reply(request):
        text = f"  {request.prompt} of {request.query_id}\n"
        return silent.get(f"{request.prompt}_{request.query_id}", text)

    return FakeTeacher(reply)


def synthesize(teacher, use_cot=True, use_passages=True, allowed=1.0):
    counts = Counter()
    conversation = talk(teacher, allowed)
    records = synthesis.synthesize(QUERIES, conversation, use_cot, use_passages, counts)
    records = list(records)
    return records, dict(counts) | conversation.metrics()


def test_one_record_a_query_in_their_order():
    """Each query gets its own three texts, stripped, in the order of the queries."""
    records, counts = synthesize(teacher())
    assert records == [
        {
            "query_id": query.query_id,
            "query": query.query,
            "cot": f"cot of {query.query_id}",
            "positive": f"positive of {query.query_id}",
            "hard_negative": f"negative of {query.query_id}",
        }
        for query in QUERIES
    ]
    assert counts == {
        "queries": 2,
        "cot": 2,
        "positive": 2,
        "hard_negative": 2,
        "refusals": 0,
        "cut_off": 0,
        "no_answer": 0,
        "calls": 6,
        "prompt_tokens": 60,
        "completion_tokens": 6,
    }


def test_no_answer_and_blank_answers_are_null_and_counted():
    """What the teacher did not say is null, never an empty text."""
    records, counts = synthesize(teacher(cot_q1=None, negative_q2=" \n"))
    assert records[0]["hard_negative"] is None
    assert records[1]["cot"] is None
    assert (counts["cot"], counts["positive"], counts["hard_negative"]) == (1, 2, 1)
    assert (counts["no_answer"], counts["refusals"], counts["cut_off"]) == (2, 0, 0)


def test_refusals_and_cut_off_texts_are_no_passages_and_counted_apart():
    """An apology never becomes a passage, nor does half a text; filters count as refusals (B24)."""
    records, counts = synthesize(
        teacher(
            cot_q1=Answer("I'm sorry, I can't help with that", "refusal"),
            cot_q2=Answer(None, "content filter"),
            positive_q1=Answer("Half a pass", "cut off"),
            positive_q2=Answer(None, "cut off"),
            negative_q1=Answer(None, "prompt too long"),
        )
    )
    assert [(one["cot"], one["positive"]) for one in records] == [(None, None)] * 2
    assert (counts["refusals"], counts["cut_off"], counts["no_answer"]) == (2, 2, 1)


def test_too_many_failures_are_an_error_that_says_which():
    """The stage fails where more than max_failed_share stayed unanswered, and names the reasons."""
    silent = {"cot_q1": Answer(None, "refusal"), "cot_q2": Answer(None, "cut off")}
    assert synthesize(teacher(**silent), allowed=0.34)[1]["refusals"] == 1
    with pytest.raises(SyntrieverError, match="2 of 6 questions") as error:
        synthesize(teacher(**silent), allowed=0.32)
    assert "cut off: 1, refusal: 1" in str(error.value)
    assert "teacher.max_failed_share" in str(error.value)


def test_hopeless_runs_stop_before_they_have_paid_for_everything():
    """Once more has failed than the whole may lack, nothing more is asked."""
    refusing = FakeTeacher(lambda request: Answer(None, "refusal"))
    with pytest.raises(SyntrieverError, match="2 of 6 questions"):
        synthesize(refusing, allowed=0.2)
    assert len(refusing.asked) == 2


def test_what_was_never_recorded_is_no_failure():
    """Known gaps of a recorded file stop nothing."""
    gaps = FakeTeacher(lambda request: Answer(None, "not recorded"))
    assert synthesize(gaps, allowed=0.0)[1]["no_answer"] == 6


@pytest.mark.parametrize(
    ("use_cot", "use_passages", "fields"),
    [
        (True, False, ["cot"]),
        (False, True, ["positive", "hard_negative"]),
        (False, False, []),
    ],
)
def test_what_is_switched_off_is_not_asked(use_cot, use_passages, fields):
    """A part that is switched off costs no request and is null; it is no missing answer."""
    asked = teacher()
    records, counts = synthesize(asked, use_cot, use_passages)
    assert len(records) == counts["queries"] == 2
    assert len(asked.asked) == 2 * len(fields)
    for record in records:
        assert [field for field in list(record)[2:] if record[field]] == fields
    assert counts["no_answer"] == 0


def test_requests_carry_key_and_messages():
    """A request can be answered by its key or by its messages; braces in a query stay."""
    asked = teacher()
    synthesize(asked)
    request = asked.asked[2]
    assert (request.prompt, request.query_id, request.passage_ids) == ("negative", "q2", ())
    assert request.query == "Two? {query}"
    assert "Question: Two? {query}\n" in request.messages[0]["content"]


def test_records_come_before_the_last_request():
    """A query's record is there as soon as its answers are: nothing waits for the whole."""
    asked = teacher()
    records = synthesis.synthesize(QUERIES, talk(asked), True, True, Counter())
    assert next(records)["query_id"] == "q2"
    assert len(asked.asked) == 3


def prepare(folder, monkeypatch, queries):
    """Lay out what the stage reads."""
    monkeypatch.chdir(folder)
    for name in ("prompts", "params.yaml", "data/teacher"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(ROOT / name)
    paths.QUERIES.mkdir(parents=True)
    lines = [json.dumps({"query_id": one, "query": text}) for one, text in queries]
    paths.queries("train").write_text("\n".join(lines) + "\n")


def run(capsys):
    import stages.synthesize

    with pytest.raises(SystemExit) as end:
        stages.synthesize.synthesize()
    return end.value.code, capsys.readouterr()


def test_the_stage_writes_texts_and_counts(tmp_path, monkeypatch, capsys):
    """Recorded answers end in data/synthetic/synthesized.jsonl, the counts in metrics/."""
    monkeypatch.setattr("sys.argv", ["synthesize"])
    with (ROOT / "data/teacher/concepts.jsonl").open() as file:
        recorded = json.loads(next(file))
    known = (recorded["query_id"], recorded["query"])
    prepare(tmp_path, monkeypatch, [("other", "Who?"), known])
    code, output = run(capsys)
    assert (code, output.err) == (0, "")
    records = [json.loads(line) for line in paths.SYNTHESIZED.read_text().splitlines()]
    assert records[0] == {
        "query_id": "other",
        "query": "Who?",
        "cot": None,
        "positive": None,
        "hard_negative": None,
    }
    assert records[1]["positive"] == recorded["positive"].strip()
    assert json.loads((paths.METRICS / "synthesize.json").read_text()) == {
        "queries": 2,
        "cot": 1,
        "positive": 1,
        "hard_negative": 1,
        "refusals": 0,
        "cut_off": 0,
        "no_answer": 3,
        "calls": 3,
        "prompt_tokens": None,
        "completion_tokens": None,
    }
    assert "no_answer: 3" in output.out


def test_the_wrong_recorded_file_stops_the_stage(tmp_path, monkeypatch, capsys):
    """Answers for another collection are an error with the file, and leave no output."""
    monkeypatch.setattr("sys.argv", ["synthesize"])
    prepare(tmp_path, monkeypatch, [("q1", "Who?"), ("q2", "When?")])
    code, output = run(capsys)
    assert code == 1
    assert "data/teacher/concepts.jsonl" in output.err
    assert "knows 0 of the 2 queries" in output.err
    assert not list(paths.SYNTHESIZED.parent.glob("*")) and not paths.METRICS.exists()


def test_a_changed_prompt_is_warned_about_once(tmp_path, monkeypatch, capsys):
    """The stage says which of its prompts is no longer the one that was answered, and goes on."""
    monkeypatch.setattr("sys.argv", ["synthesize"])
    with (ROOT / "data/teacher/concepts.jsonl").open() as file:
        recorded = [json.loads(next(file)) for _ in range(2)]
    prepare(tmp_path, monkeypatch, [(one["query_id"], one["query"]) for one in recorded])
    (tmp_path / "prompts").unlink()
    (tmp_path / "prompts").mkdir()
    for path in (ROOT / "prompts").glob("*.txt"):
        more = "Be brief.\n" if path.stem in ("positive", "compare") else ""
        (tmp_path / "prompts" / path.name).write_text(path.read_text() + more)
    code, output = run(capsys)
    assert code == 0
    assert output.err.count("warning") == output.err.count("prompts/positive.txt has changed") == 1


def test_a_broken_prompt_leaves_the_old_output(tmp_path, monkeypatch):
    """An error on the way replaces nothing."""
    from syntriever import files

    paths_before = tmp_path / "synthesized.jsonl"
    paths_before.write_text("before\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SyntrieverError, match="does not exist"):
        files.write_jsonl(
            paths_before, synthesis.synthesize(QUERIES, talk(teacher()), True, True, Counter())
        )
    assert paths_before.read_text() == "before\n"
