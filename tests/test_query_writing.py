"""The stage write_queries: what is asked, what comes of it, and its faults."""

import json
import re
import shutil
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from fake_teacher import FakeTeacher, talk
from openai_server import Server, completion
from project import inside, run_stage, set_params

from syntriever import params, paths, query_writing, records, teacher_choice
from syntriever.collection import SCHEMA, Corpus
from syntriever.errors import SyntrieverError
from syntriever.files import read_jsonl, write_jsonl

ON = {
    "write_queries.per_passage": 1,
    "write_queries.kinds": ["situation", "direct"],
    "write_queries.passages": None,
    "write_queries.keep_top": None,
    "write_queries.hard_negatives": 0,
}
RECORDED = "data/teacher/concepts_written_queries.jsonl"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, blank_project):
    """A project in which the stages up to this one have run."""
    folder = tmp_path_factory.mktemp("prepared") / "project"
    shutil.copytree(blank_project, folder)
    with inside(folder):
        set_params(folder, {"write_queries.per_passage": 0})
        run_stage("prepare")
        run_stage("embed", "untrained")
        run_stage("write_queries")
    return folder


@pytest.fixture
def project(tmp_path, prepared, monkeypatch):
    """A copy of it, entered."""
    folder = tmp_path / "project"
    shutil.copytree(prepared, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def on(project):
    """Set the project to write queries, with changes; return what the stage then writes."""

    def on(**changes):
        set_params(project, ON | {f"write_queries.{name}": one for name, one in changes.items()})
        run_stage("write_queries")
        return written(), metrics()

    return on


def written():
    return list(records.read(paths.WRITTEN, records.WrittenQuery))


def metrics():
    return json.loads((paths.METRICS / "write_queries.json").read_text())


def settings(**changes):
    return params.WriteQueries(
        **{"per_passage": 1, "kinds": ["claim"], "passages": None, "keep_top": None}
        | {"hard_negatives": 0}
        | changes
    )


def passages():
    corpus = Corpus.open(paths.CORPUS)
    return corpus.ids(range(len(corpus)))


def test_off_nothing_is_asked_or_read(project):
    """An empty file and metrics of zeros, without teacher, encoder or vectors."""
    set_params(project, {"write_queries.per_passage": 0})
    for folder in ("data/teacher", "models", "data/embeddings"):
        shutil.rmtree(project / folder)
    run_stage("write_queries")
    assert paths.WRITTEN.read_bytes() == b""
    found = metrics()
    assert found.pop("kept_share") is None
    assert not any(found.values()) and {"asked", "kept", "near_test", "calls"} < set(found)


def test_recorded_queries_stand_in_the_order_of_corpus_and_kinds(on):
    """Each passage has its query of each kind, under the passage's id."""
    found, counted = on()
    recorded = {line["passage_id"]: line for line in read_jsonl(RECORDED)}
    assert found == [
        {
            "query_id": f"{passage}#{kind}",
            "query": recorded[passage][kind],
            "passage_id": passage,
            "kind": kind,
            "hard_negatives": [],
        }
        for passage in passages()
        for kind in ("situation", "direct")
    ]
    number = len(passages())
    assert counted | {"calls": 2 * number} == counted
    for name, value in {
        "passages": number, "asked": 2 * number, "answered": 2 * number, "kept": 2 * number,
        "kept_share": 1.0, "kept_direct": number, "found_by_bm25": None, "near_test": 0,
    }.items():  # fmt: skip
        assert counted[name] == value, name


def test_the_round_trip_on_the_tiny_project(on):
    """The random encoder finds few passages, BM25 many; what neither finds is gone, and each kept
    query has its hard negatives."""
    found, counted = on(keep_top=3, hard_negatives=2)
    assert counted["kept"] == len(found) < counted["answered"]
    assert counted["kept_share"] == pytest.approx(len(found) / counted["answered"])
    assert 0 < counted["found_by_encoder"] < counted["found_by_bm25"] <= len(found)
    for one in found:
        assert len(one["hard_negatives"]) == 2 and one["passage_id"] not in one["hard_negatives"]
        assert set(one["hard_negatives"]) < set(passages())


def test_a_second_run_gives_the_same_bytes(on):
    """Text, ranking and metrics alike."""
    files = (paths.WRITTEN, paths.METRICS / "write_queries.json")
    on(keep_top=3, hard_negatives=2)
    first = [file.read_bytes() for file in files]
    on(keep_top=3, hard_negatives=2)
    assert [file.read_bytes() for file in files] == first


def test_a_query_that_equals_a_test_query_is_dropped(on, project):
    """Nearly the test query: dropped and counted."""
    test = next(read_jsonl(paths.queries("test")))["query"]
    lines = list(read_jsonl(RECORDED))
    asked = passages()[3]
    lines = [
        line | {"direct": f"So: {test.upper()}"} if line["passage_id"] == asked else line
        for line in lines
    ]
    write_jsonl(project / RECORDED, lines)
    found, counted = on()
    assert counted["near_test"] == 1
    assert f"{asked}#direct" not in {one["query_id"] for one in found}


def test_passages_are_drawn_by_a_hash_of_their_ids(on):
    """A smaller draw is part of a larger one, and the order is the corpus'."""
    some = [one["passage_id"] for one in on(passages=5, kinds=["direct"])[0]]
    more = [one["passage_id"] for one in on(passages=9, kinds=["direct"])[0]]
    assert len(some) == 5 and len(more) == 9 and set(some) < set(more)
    assert more == [one for one in passages() if one in more] and more != passages()[:9]
    assert len(on(passages=10**6, kinds=["direct"])[0]) == len(passages())


def test_the_draw_does_not_depend_on_the_order_of_the_corpus():
    """The same ids are drawn from a corpus turned round."""

    def drawn(ids):
        corpus = Corpus(pa.table([ids, ids, ids], schema=SCHEMA))
        return set(corpus.ids(query_writing.choose(corpus, settings(passages=7))))

    ids = [f"p{i}" for i in range(40)]
    assert drawn(ids) == drawn(ids[::-1])


def test_blank_passages_are_not_asked_about():
    """They are counted."""
    corpus = Corpus(pa.table([["a", "b"], ["", ""], [" \n", "text"]], schema=SCHEMA))
    teacher, counts = FakeTeacher(lambda request: "A claim."), Counter()
    rows = query_writing.choose(corpus, settings())
    (one,) = query_writing.ask(corpus, rows, settings(), talk(teacher), counts)
    assert (one.query_id, one.row) == ("b#claim", 1)
    assert (counts["passages"], counts["blank"], counts["asked"]) == (1, 1, 1)


def test_the_passage_is_asked_about_title_first(project):
    """The prompt holds the passage as the encoder sees it; further samples have their own ids."""
    corpus = Corpus.open(paths.CORPUS)
    two = settings(per_passage=2, kinds=["claim", "direct"])
    asked = list(query_writing.requests(corpus, np.array([5]), two))
    assert all(f"Passage: {corpus.texts(5)[0]}\n" in one.messages[0]["content"] for one in asked)
    name = corpus.ids(5)[0]
    assert [(one.prompt, one.query_id, one.passage_ids, one.sample) for one in asked] == [
        ("write_claim", f"{name}#claim", (name,), 0),
        ("write_claim", f"{name}#claim-2", (name,), 1),
        ("write_direct", f"{name}#direct", (name,), 0),
        ("write_direct", f"{name}#direct-2", (name,), 1),
    ]


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("  Why\n so? ", "Why so?"),
        ('"Why so?"', "Why so?"),
        ("“ Why don't they? ”", "Why don't they?"),
        ("'Why don't they?'", "Why don't they?"),
        ('"One" or "two"', '"One" or "two"'),
        ("meaning of 'stand up'", "meaning of 'stand up'"),
        ('"', '"'),
        ('""', None),
        ("\n", None),
        ("\u200b\u200b", None),
        ("**Question:** Why so?", "Why so?"),
        ("**Question: Why so?**", "Why so?"),
        ("*Why so?*", "Why so?"),
        ('Query: "Why so?"', "Why so?"),
        ('"Query: Why so?"', "Why so?"),
        ("```\nWhy so?\n```", "Why so?"),
        ("„Warum das?“", "Warum das?"),
        ("a question: why so", "a question: why so"),
        ("a" * 1000, "a" * 1000),
        ("a" * 1001, None),
    ],
)
def test_answers_are_cleaned(text, query):
    """One line, without enclosing quotation marks; what is blank or an essay is no query."""
    assert query_writing.clean(text) == query


def test_too_many_useless_answers_stop_the_stage(project, monkeypatch):
    """A teacher that writes essays is an error, and nothing is written."""
    before = paths.WRITTEN.read_bytes()
    set_params(project, ON | {"teacher.max_failed_share": 0.5})
    teacher = FakeTeacher(lambda request: "essay " * 300)
    monkeypatch.setattr(teacher_choice, "open_teacher", lambda *_: teacher)
    with pytest.raises(SyntrieverError, match="unclear"):
        run_stage("write_queries")
    assert paths.WRITTEN.read_bytes() == before


def test_useless_answers_are_counted(project, monkeypatch):
    """Below the share they are left out."""
    set_params(project, ON | {"teacher.max_failed_share": 1.0})
    teacher = FakeTeacher(lambda r: "essay " * 300 if r.prompt == "write_direct" else r.query_id)
    monkeypatch.setattr(teacher_choice, "open_teacher", lambda *_: teacher)
    run_stage("write_queries")
    found = metrics()
    assert found["unusable"] == found["answered"] == found["kept_situation"] == len(passages())
    assert found["kept_direct"] == 0


def test_a_kind_without_a_query_is_warned_of(on, capsys):
    """One of two kinds is not on record: the other is written, and the lack is said."""
    found, counted = on(kinds=["situation", "claim"])
    assert {one["kind"] for one in found} == {"situation"}
    assert counted["no_answer"] == len(passages())
    assert "no written query of kind claim was kept" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kinds": ["claim"]}, "on record: situation, direct"),
        ({"per_passage": 2}, "per_passage: 1"),
    ],
)
def test_what_is_not_on_record_is_an_error(on, changes, message):
    """Nothing is written then."""
    before = paths.WRITTEN.read_bytes()
    with pytest.raises(SyntrieverError, match=message):
        on(**changes)
    assert paths.WRITTEN.read_bytes() == before


def test_a_missing_file_of_recorded_queries_is_named(on, project):
    """In one message."""
    (project / RECORDED).unlink()
    with pytest.raises(SyntrieverError, match=r"concepts_written_queries\.jsonl does not exist"):
        on()


def test_an_id_that_a_query_of_the_collection_has_is_refused(on, monkeypatch):
    """Two queries under one id would be mixed up later."""
    lines = list(read_jsonl(paths.queries("train")))
    lines[0]["query_id"] = f"{passages()[0]}#direct"
    write_jsonl(paths.queries("train"), lines)
    monkeypatch.setattr(query_writing, "ask", None)  # it would be paid for
    with pytest.raises(SyntrieverError, match=r"#direct.*Rename it"):
        on()


def test_a_changed_prompt_is_warned_of(on, project, capsys):
    """Recorded queries answer the old text; prompts of other kinds don't matter."""
    prompt = project / "prompts/write_claim.txt"
    prompt.write_text(prompt.read_text() + "Be brief.\n")
    on()
    assert "has changed" not in capsys.readouterr().err
    prompt = project / "prompts/write_direct.txt"
    prompt.write_text(prompt.read_text() + "Be brief.\n")
    on()
    assert "write_direct.txt has changed" in capsys.readouterr().err


def test_a_prompt_without_its_placeholder_is_an_error(on, project):
    """The file and the placeholder are named."""
    (project / "prompts/write_direct.txt").write_text("Write a question.\n")
    with pytest.raises(SyntrieverError, match=r"write_direct\.txt: .*\{passage\} is missing"):
        on()


def test_a_live_teacher_is_asked_once_and_replayed(project, monkeypatch):
    """Two samples of one kind: two requests a passage, each kept in the journal under its own key,
    and a second run asks nothing."""
    monkeypatch.delenv("DVC_ROOT", raising=False)

    def reply(body, before):
        title = re.search(r"Passage: (.{20})", body["messages"][0]["content"])[1]
        return completion(f"“Claim {before} about {title}”\n")

    chosen = ON | {
        "write_queries.per_passage": 2,
        "write_queries.kinds": ["claim"],
        "write_queries.passages": 4,
        "write_queries.keep_top": 1,
        "teacher.backend": "openai",
        "teacher.model": "stub",
        "runtime.teacher.price_input": 1.0,
        "runtime.teacher.price_output": 1.0,
        "runtime.teacher.concurrency": 1,
    }
    with Server(reply) as server:
        set_params(project, chosen | {"teacher.base_url": server.url})
        run_stage("write_queries")
        first, counted = paths.WRITTEN.read_bytes(), metrics()
        run_stage("write_queries")
        assert server.total == 8
        assert {(c.body["temperature"], c.body["max_completion_tokens"]) for c in server.calls} == {
            (0.7, 4096)
        }
    assert paths.WRITTEN.read_bytes() == first and metrics() == counted
    assert (counted["asked"], counted["calls"], counted["prompt_tokens"]) == (8, 8, 80)
    ids = [one["query_id"].split("#")[1] for one in written()]
    assert ids == ["claim", "claim-2"] * 4  # each holds its title's words, so BM25 finds it
    assert all(re.fullmatch(r"Claim [01] about .+", one["query"]) for one in written())
