"""Queries that were written before, found by prompt and passage."""

import json

import pytest

from syntriever.errors import SyntrieverError
from syntriever.teacher import RecordedQueries, Request

LINES = [
    {"passage_id": "a", "situation": "Why so?", "direct": "cause of it", "more": 1},
    {"passage_id": "b", "situation": "And here?", "direct": None},
]


@pytest.fixture
def recorded(tmp_path):
    """A teacher that knows some lines."""

    def recorded(*lines):
        path = tmp_path / "written.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return RecordedQueries(path)

    return recorded


def request(passage_id, kind, sample=0):
    return Request(f"write_{kind}", (), f"{passage_id}#{kind}", "", (passage_id,), sample)


def test_answers_are_found_by_prompt_and_passage(recorded):
    """The passage and the kind name the query; what is missing or null has no answer."""
    teacher = recorded(*LINES)
    asked = [("b", "situation"), ("a", "direct"), ("b", "direct"), ("c", "direct"), ("a", "claim")]
    answers = list(teacher.answer(request(*one) for one in asked))
    assert [one.text for one in answers] == ["And here?", "cause of it", None, None, None]
    assert {one.reason for one in answers[2:]} == {"not recorded"}
    assert (teacher.usage.calls, teacher.usage.prompt_tokens) == (2, None)


def test_kinds_that_are_not_on_record_are_an_error_that_names_those_that_are(recorded):
    """Nobody finds out by an empty file."""
    with pytest.raises(SyntrieverError, match=r"asked \(claim\); on record: situation, direct\."):
        list(recorded(*LINES).answer([request("a", "claim"), request("b", "claim")]))


def test_another_collections_file_is_an_error(recorded):
    """None of the passages is known: the param to set is named."""
    with pytest.raises(SyntrieverError, match=r"knows 0 of the 2 passages.*recorded_queries"):
        list(recorded(*LINES).answer([request("x", "direct"), request("y", "direct")]))


def test_a_second_query_of_a_kind_is_an_error(recorded):
    """One a kind is on record; the param is named."""
    with pytest.raises(SyntrieverError, match=r"per_passage: 1"):
        list(recorded(*LINES).answer([request("a", "direct"), request("a", "direct", 1)]))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"passage_id": "c", "situation": 3}, r"line 3: situation: .*string.*README\.md"),
        ({"query_id": "c", "situation": "x"}, r"line 3: passage_id: Field required"),
        ({"passage_id": "", "claim": "x"}, r"line 3: passage_id: "),
        ({"passage_id": "a", "claim": "x"}, r"line 3: passage_id 'a' stands in line 1 .*a passage"),
    ],
)
def test_malformed_lines_are_named(recorded, line, message):
    """File, line, what is wrong and how to mend it."""
    with pytest.raises(SyntrieverError, match=rf"written\.jsonl, {message}"):
        recorded(*LINES, line)


def test_an_empty_file_is_an_error(recorded):
    """As one that is missing."""
    with pytest.raises(SyntrieverError, match="holds no recorded answers"):
        recorded()
    with pytest.raises(SyntrieverError, match="does not exist"):
        RecordedQueries("nowhere.jsonl")
