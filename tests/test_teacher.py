"""What the recorded teacher answers, and what it refuses."""

import json
from pathlib import Path

import pytest

from syntriever.errors import SyntrieverError
from syntriever.teacher import Answer, Request, Usage
from syntriever.teacher.base import check_failed_share
from syntriever.teacher.recorded import NOT_RECORDED, OTHER_QUERY, RecordedTeacher

ROOT = Path(__file__).parents[1]
RECORD = {
    "query_id": "q1",
    "query": "Why is the sky blue?",
    "cot": "First, light.",
    "positive": "Rayleigh scattering.",
    "hard_negative": "The sea is blue.",
    "verdict": "no",
    "verdict_reason": "never read",
    "preference_order": ["a", "b", "c"],
}


def ask(teacher, prompt, *passage_ids, query_id="q1", query=RECORD["query"]):
    request = Request(prompt, (), query_id, query, passage_ids)
    known = Request("cot", (), "q1", RECORD["query"])  # so that the teacher is never wholly silent
    return next(iter(teacher.answer([request, known])))


@pytest.fixture
def write(tmp_path):
    """Write records (or raw lines) to a file of recorded answers."""

    def write(*records):
        path = tmp_path / "answers.jsonl"
        lines = [one if isinstance(one, str) else json.dumps(one) for one in records]
        path.write_text("".join(line + "\n" for line in lines), "utf-8")
        return path

    return write


@pytest.mark.parametrize(
    ("prompt", "passage_ids", "text"),
    [
        ("cot", (), "First, light."),
        ("positive", (), "Rayleigh scattering."),
        ("negative", (), "The sea is blue."),
        ("relabel", (), "No"),
        ("compare", ("a", "c"), "Passage #1"),
        ("compare", ("c", "b"), "Passage #2"),
    ],
)
def test_each_prompt_is_answered_from_its_field(write, prompt, passage_ids, text):
    """Each prompt has its field; a comparison follows the preference order as shown."""
    assert ask(RecordedTeacher(write(RECORD)), prompt, *passage_ids) == Answer(text)


@pytest.mark.parametrize(
    ("prompt", "passage_ids"),
    [("cot", ()), ("relabel", ()), ("compare", ("a", "elsewhere")), ("write_claim", ())],
)
def test_what_was_not_recorded_is_no_answer(write, prompt, passage_ids):
    """A missing or null field, a passage outside the order and another prompt give no answer."""
    partial = {"query_id": "q2", "query": "?", "cot": None, "preference_order": ["a", "b"]}
    teacher = RecordedTeacher(write(RECORD, partial))
    assert ask(teacher, prompt, *passage_ids, query_id="q2", query="?") == NOT_RECORDED


def test_an_unknown_query_is_no_answer(write):
    """A query that is not in the file has no answer, with the reason."""
    answer = ask(RecordedTeacher(write(RECORD)), "cot", query_id="q9")
    assert answer == Answer(None, "not recorded")


def test_another_text_under_a_known_id_is_no_answer(write):
    """An answer given to other words is not passed off as one; white space alone does not count."""
    teacher = RecordedTeacher(write(RECORD))
    assert ask(teacher, "cot", query="Why is the sea blue?") == Answer(None, "query text differs")
    assert Answer(None, "query text differs") == OTHER_QUERY
    assert ask(teacher, "cot", query=" Why is the  sky blue?\n").text == "First, light."


def test_answers_come_lazily_and_in_order(write):
    """A request is read only when its answer is asked for, so that memory stays flat."""
    read = []

    def requests():
        for prompt in ("positive", "relabel", "cot"):
            read.append(prompt)
            yield Request(prompt, (), "q1", RECORD["query"])

    answers = RecordedTeacher(write(RECORD)).answer(requests())
    assert next(answers).text == "Rayleigh scattering."
    assert read == ["positive"]
    assert [answer.text for answer in answers] == ["No", "First, light."]


def test_a_teacher_that_answers_nothing_is_an_error(write):
    """The wrong file for a collection is an error that names it and counts the queries it knows."""
    path = write(RECORD)
    requests = [
        Request("cot", (), "q1", "another text"),
        Request("cot", (), "q8", "x"),
        Request("positive", (), "q8", "x"),
        Request("compare", (), "q7", "x", ("a", "b")),
    ]
    answers = RecordedTeacher(path).answer(requests)
    assert [next(answers) for _ in requests] == [OTHER_QUERY, *[NOT_RECORDED] * 3]
    with pytest.raises(SyntrieverError, match="it knows 0 of the 3 queries") as error:
        next(answers)
    assert str(path) in str(error.value)
    assert "teacher.recorded" in str(error.value)


def test_no_requests_are_no_error(write):
    """Where nothing is asked, silence is right."""
    assert list(RecordedTeacher(write(RECORD)).answer([])) == []


@pytest.mark.parametrize(
    ("fault", "field"),
    [
        ({"query_id": 1}, "query_id"),
        ({"query_id": ""}, "query_id"),
        ({"query": None}, "query"),
        ({"cot": 3}, "cot"),
        ({"verdict": "maybe"}, "verdict"),
        ({"preference_order": "a"}, "preference_order"),
        ({"preference_order": ["a", "b", "a"]}, "preference_order"),
        ({"preference_order": ["a", 2]}, "preference_order"),
        ({"comparisons": [["a", "b", 3]]}, "comparisons"),
        ({"comparisons": [["a", "b", True]]}, "comparisons"),
        ({"comparisons": [["a", "b"]]}, "comparisons"),
        ({"comparisons": [["a", 2, 1]]}, "comparisons"),
        ({"comparisons": [["a", "b", 1], ["a", "b", 2]]}, "comparisons"),
    ],
)
def test_a_malformed_record_names_file_line_and_field(write, fault, field):
    """A record of the wrong shape is refused with file, line and field."""
    path = write(RECORD, RECORD | {"query_id": "q2"} | fault)
    with pytest.raises(SyntrieverError) as error:
        RecordedTeacher(path)
    assert f"{path}, line 2: {field}" in str(error.value)


def test_a_line_that_is_not_json_is_named(write):
    """A broken line is refused with its number."""
    with pytest.raises(SyntrieverError, match="line 2: not JSON"):
        RecordedTeacher(write(RECORD, '{"query_id": '))


def test_a_doubled_query_names_both_lines(write):
    """Two records of one query would answer by chance: both lines are named."""
    other = RECORD | {"query_id": "q2"}
    with pytest.raises(SyntrieverError, match="line 3: query_id 'q1' stands in line 1 already"):
        RecordedTeacher(write(RECORD, other, RECORD))


def test_a_missing_or_empty_file_is_an_error(write, tmp_path):
    """No file and no records are both said in words."""
    with pytest.raises(SyntrieverError, match="does not exist"):
        RecordedTeacher(tmp_path / "none.jsonl")
    with pytest.raises(SyntrieverError, match="no recorded answers"):
        RecordedTeacher(write())


def test_comparisons_are_answered_as_they_were_asked(write):
    """A pair that was asked has its own answer, in either order, before any preference order."""
    comparisons = [["b", "a", 1], ["a", "c", None], ["c", "b", 2], ["b", "c", 2], ["a", "x", 2]]
    teacher = RecordedTeacher(write(RECORD | {"comparisons": comparisons}))
    said = {
        ("b", "a"): "Passage #1",
        ("a", "b"): "Passage #2",  # the order of the list says otherwise
        ("a", "c"): None,  # asked without a clear answer: not settled by the order
        ("c", "a"): None,
        ("c", "b"): "Passage #2",
        ("b", "c"): "Passage #2",  # asked in both orders, with answers that contradict each other
        ("x", "a"): "Passage #1",
    }
    for pair, text in said.items():
        assert ask(teacher, "compare", *pair).text == text, pair
    assert ask(RecordedTeacher(write(RECORD)), "compare", "a", "b").text == "Passage #1"


def test_recorded_answers_are_counted_without_tokens(write):
    """Usage counts the answers that there were; nobody knows their tokens, so they are not 0."""
    teacher = RecordedTeacher(write(RECORD))
    requests = [Request(one, (), "q1", RECORD["query"]) for one in ("cot", "other", "relabel")]
    list(teacher.answer(requests))
    assert teacher.usage == Usage(2, None, None)
    teacher.close()


@pytest.mark.parametrize("sizes", [(0, 0, 0.0), (0, 10, 0.0), (5, 100, 0.05), (3, 3, 1.0)])
def test_an_allowed_share_of_failures_passes(sizes):
    """As many failures as allowed stop nothing, nor does asking nothing."""
    check_failed_share(*sizes)


def test_a_larger_share_of_failures_is_refused():
    """More failures than allowed are said with their number, their reasons and the param."""
    with pytest.raises(SyntrieverError, match=r"6 of 100 .*6\.0%; cut off: 6.*allows 5\.0%"):
        check_failed_share(6, 100, 0.05, {"refusal": 0, "cut off": 6})


@pytest.mark.parametrize(
    ("name", "queries", "refused"), [("concepts", 360, 1), ("scifact", 809, 6)]
)
def test_the_committed_answers_are_what_their_readme_says(name, queries, refused):
    """The committed files are well formed and hold the numbers of data/teacher/README.md."""
    path = ROOT / "data" / "teacher" / f"{name}.jsonl"
    RecordedTeacher(path)
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert len(records) == queries
    assert sum(record["verdict"] == "no" for record in records) == refused
    assert all(record["preference_order"] for record in records)
