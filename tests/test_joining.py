"""`python -m stages.collection join`: several collections and their recorded answers as one."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from cut_down import cut_down
from project import run_stage, set_params
from small_collections import CORPUS, QRELS, QUERIES, lines, table, view

import stages
from stages import collection
from syntriever import joined_answers, joining, paths, preparation
from syntriever.collection import Corpus, Origin, read_origin, read_qrels, read_queries
from syntriever.errors import SyntrieverError
from syntriever.files import read_json, read_jsonl
from syntriever.teacher import RecordedTeacher
from syntriever.teacher.base import Request

ANSWER = {
    "query_id": "q0",
    "query": "where is  number 0 aaaaa",  # white space doesn't matter
    "cot": "Thought é",
    "verdict_reason": "kept as it is",
    "preference_order": ["p1", "p0", "p2"],
    "comparisons": [["p1", "p3", 2], ["p0", "p1", None]],
}
WRITTEN = {"passage_id": "p0", "situation": "s", "direct": "d"}


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path, monkeypatch):
    """Each test has a repository of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(collection.VARIABLE, raising=False)


def make(name, corpus=CORPUS, queries=QUERIES, **qrels):
    """Make the collection folder there/NAME; None leaves a qrels file out."""
    folder = Path("there") / name
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text(corpus if isinstance(corpus, str) else lines(corpus))
    (folder / "queries.jsonl").write_text(lines(queries))
    for split, rows in (QRELS | qrels).items():
        if rows is not None:
            (folder / "qrels" / f"{split}.tsv").write_text(table(rows))
    return folder


def answers(name, *records, folder="recorded"):
    """Write a file of recorded answers, or of written queries."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    file = Path(folder) / f"{name}.jsonl"
    file.write_text(lines(records))
    return file


def join(monkeypatch, capsys, *arguments):
    """Run the command; return its exit code, stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["collection", "join", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        stages.run(collection.app)
    return end.value.code, *capsys.readouterr()


def outputs():
    """Everything that joining may write, by name."""
    return {
        str(path): path.read_bytes()
        for top in (joining.COLLECTIONS, joined_answers.FOLDER)
        for path in sorted(top.rglob("*"))
        if path.is_file()
    }


def test_the_joined_collection_passes_prepare():
    """All passages, queries and judgements are there under prefixed ids, in order, though both
    collections have the same ids."""
    sizes = joining.join("both", [make("one"), make("two")], [])
    part = {"passages": 6, "train": 2, "dev": 1, "test": 1, "answered": 0}
    assert sizes == {"one": part, "two": part}
    metrics = preparation.prepare(
        view(path="data/collections/both"), lambda: lambda texts: [1] * len(texts)
    )
    assert metrics["passages"] == 12
    corpus = Corpus.open(paths.CORPUS)
    assert corpus.ids(range(12)) == [f"{name}:p{i}" for name in ("one", "two") for i in range(6)]
    assert corpus.texts([7]) == ["Title 1 Text of passage 1."]
    assert read_qrels(paths.qrels("train")) == {
        f"{name}:{query}": grades
        for name in ("one", "two")
        for query, grades in (
            ("q0", {f"{name}:p0": 1}),
            ("q1", {f"{name}:p1": 1, f"{name}:p2": 2}),
        )
    }
    assert [query.query_id for query in read_queries(paths.queries("test"))] == ["one:q3", "two:q3"]


def test_written_tests_and_held_out_passages_stay_so():
    """Passages from which the teacher wrote test queries must not train once they are joined."""
    about = '{"test_queries": "written", "held_out": ["p3", "p1"]}'
    (make("one") / "collection.json").write_text(about)
    joining.join("both", [Path("there/one"), make("two")], [])
    origin = read_origin(joining.COLLECTIONS / "both/collection.json")
    assert origin == Origin("written", frozenset({"one:p1", "one:p3"}))


def test_people_s_tests_stay_so():
    joining.join("both", [make("one"), make("two")], [])
    origin = read_origin(joining.COLLECTIONS / "both/collection.json")
    assert origin == Origin("labelled", frozenset())


def test_recorded_answers_are_found(tmp_path):
    """A teacher that reads the joined file knows each query, text and pair by the joined ids; what
    else a line holds stays."""
    one = answers("a", ANSWER)
    two = answers("b", ANSWER | {"cot": None, "preference_order": None, "comparisons": None})
    sizes = joining.join("both", [make("one"), make("two")], [one, two])
    assert [size["answered"] for size in sizes.values()] == [1, 1]
    file = joined_answers.answers_file("both")
    first, second = read_jsonl(file)
    assert first["preference_order"] == ["one:p1", "one:p0", "one:p2"]
    assert first["comparisons"] == [["one:p1", "one:p3", 2], ["one:p0", "one:p1", None]]
    assert (first["verdict_reason"], first["cot"]) == ("kept as it is", "Thought é")
    assert second == ANSWER | {
        "query_id": "two:q0",
        "cot": None,
        "preference_order": None,
        "comparisons": None,
    }
    assert not joined_answers.written_file("both").exists()


def test_written_queries_come_along_where_they_lie_beside():
    """Those of one collection are enough; the kinds are those of any line."""
    one, two = answers("a", ANSWER), answers("b", ANSWER)
    answers("b_written_queries", WRITTEN | {"direct": None}, {"passage_id": "p1", "claim": "c"})
    joining.join("both", [make("one"), make("two")], [one, two])
    file = joined_answers.written_file("both")
    assert [record["passage_id"] for record in read_jsonl(file)] == ["two:p0", "two:p1"]
    assert joined_answers.written_kinds(file) == ["situation", "claim"]


def test_the_command_prints_sizes_and_options(tmp_path, monkeypatch, capsys):
    """Sizes and warnings on stderr, the options alone on stdout; `get` then prints the same."""
    one, two = answers("a", ANSWER), answers("b", ANSWER)
    answers("a_written_queries", WRITTEN)
    folders = make("one"), make("two", dev=None)
    code, out, err = join(monkeypatch, capsys, "both", *folders, "--teacher", one, "--teacher", two)
    assert code == 0
    assert out == (
        "-S collection.path=data/collections/both -S teacher.recorded=data/teacher/both.jsonl "
        "-S teacher.recorded_queries=data/teacher/both_written_queries.jsonl "
        "-S 'write_queries.kinds=[situation,direct]'\n"
    )
    assert "one: 6 passages, 2 train, 1 dev, 1 test, 1 answered" in err
    assert "two has no qrels/dev.tsv" in err
    monkeypatch.setattr(sys, "argv", ["collection", "get", "both"])
    with pytest.raises(SystemExit):
        stages.run(collection.app)
    assert capsys.readouterr().out == out


def test_twice_the_same_bytes_from_anywhere(tmp_path, monkeypatch):
    """Neither the place nor the time matters."""
    found = []
    for place in ("here", "elsewhere"):
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        folders = [make("one"), make("two", test=None)]
        joining.join("both", folders, [answers("a", ANSWER), answers("b", ANSWER)])
        found.append(outputs())
    assert found[0] == found[1]
    assert len(found[0]) == 7


@pytest.mark.parametrize(
    ("name", "names", "words"),
    [
        ("a/b", ("one", "two"), "'a/b' is no plain folder name"),
        ("..", ("one", "two"), "'..' is no plain folder name"),
        ("both", ("one",), "one alone can't be joined"),
        ("both", ("one", "more/one"), "two folders are called one"),
        ("both", ("one", "two:2"), "'two:2' is no plain folder name"),
        ("both", ("one", "nowhere"), "there/nowhere/corpus.jsonl does not exist"),
    ],
)
def test_names_that_would_mix_ids_up_are_refused(monkeypatch, capsys, name, names, words):
    """Prefixes must differ and lead back, and the new folder must lie in data/collections."""
    for one in names:
        if one != "nowhere":
            make(one)
    code, out, err = join(monkeypatch, capsys, name, *(Path("there") / one for one in names))
    assert (code, out) == (1, "")
    assert words in err
    assert outputs() == {}


@pytest.mark.parametrize(
    "taken",
    ["collections/both/x", "teacher/both.jsonl", "teacher/both_written_queries.jsonl"],
)
def test_nothing_is_overwritten(taken):
    """A collection or answers of that name stay as they are."""
    file = Path("data") / taken
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    before = outputs()
    with pytest.raises(SyntrieverError, match=r"exists\. Take another name"):
        joining.join("both", [make("one"), make("two")], [])
    assert outputs() == before


@pytest.mark.parametrize(
    ("faulty", "words"),
    [
        ({"corpus": lines(CORPUS) + '{"_id": "p9"}\n'}, "there/two/corpus.jsonl, line 7"),
        ({"queries": [*QUERIES, {"_id": "q 9", "text": "x"}]}, "there/two/queries.jsonl, line 7"),
        ({"test": [("nobody", "p1", 1)]}, "there/two/qrels/test.tsv, line 2"),
    ],
)
def test_a_faulty_collection_leaves_nothing(faulty, words):
    """The message names the file that people have, not the joined one."""
    files = [answers("a", ANSWER), answers("b", ANSWER)]
    with pytest.raises(SyntrieverError) as error:
        joining.join("both", [make("one"), make("two", **faulty)], files)
    assert words in str(error.value)
    assert outputs() == {}


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (ANSWER | {"query": "another"}, "b.jsonl answers no query of there/two"),
        (ANSWER | {"query_id": "zzz"}, "in the order of the folders"),
        (ANSWER | {"comparisons": [["p1"]]}, "b.jsonl, line 1: comparisons.0"),
        ({"query": "where"}, "b.jsonl, line 1: query_id"),
        (ANSWER | {"preference_order": ["p1", "p1"]}, "holds p1 more than once"),
    ],
)
def test_answers_of_another_collection_are_refused(record, words):
    """So the wrong order is noticed, and so is a line in another format."""
    files = [answers("a", ANSWER), answers("b", record)]
    with pytest.raises(SyntrieverError) as error:
        joining.join("both", [make("one"), make("two")], files)
    assert words in str(error.value)
    assert outputs() == {}


def test_a_malformed_written_query_leaves_nothing():
    """It is found last, when the collection is written: that goes too."""
    files = [answers("a", ANSWER), answers("b", ANSWER)]
    answers("b_written_queries", WRITTEN, {"passage_id": 7})
    with pytest.raises(SyntrieverError, match=r"b_written_queries\.jsonl, line 2: passage_id"):
        joining.join("both", [make("one"), make("two")], files)
    assert outputs() == {}


def test_malformed_hashes_leave_nothing():
    """They are read before anything is in its place."""
    first, second = make("first"), make("second")
    files = [answers("first", ANSWER), answers("second", ANSWER)]
    Path("recorded/prompts.json").write_text("{")
    with pytest.raises(SyntrieverError, match=r"prompts\.json"):
        joining.join("both", [first, second], files)
    assert not Path("data/collections/both").exists()
    assert not Path("data/teacher/both.jsonl").exists()


def test_no_agreed_hash_is_none():
    """Of answers that were joined from several versions of the prompts."""
    file = answers("mixed", ANSWER)
    Path("recorded/prompts.json").write_text(json.dumps({"cot": "1", "mixed.jsonl": {}}))
    assert joined_answers._hashes(file) == {}


def test_one_file_of_answers_a_folder():
    """Fewer or more can't be paired."""
    with pytest.raises(SyntrieverError, match="2 collections, but 1 files of recorded answers"):
        joining.join("both", [make("one"), make("two")], [answers("a", ANSWER)])


def test_prompt_hashes_are_kept_where_they_differ():
    """prompts.json gets an entry only where its top does not speak for the joined answers: prompts
    of which the sources have two versions are left out."""
    top = {"cot": "1", "compare": "2"}
    one, two = answers("a", ANSWER), answers("b", ANSWER, folder="other")
    for file, hashes in ((one, top), (two, {"b.jsonl": {"cot": "1", "compare": "9"}})):
        (file.parent / "prompts.json").write_text(json.dumps(hashes))
    Path("data/teacher").mkdir(parents=True)
    sidecar = Path("data/teacher/prompts.json")
    sidecar.write_text(json.dumps(top))
    joining.join("same", [make("one"), make("two")], [one, answers("c", ANSWER)])
    assert read_json(sidecar) == top
    joining.join("mixed", [Path("there/one"), Path("there/two")], [one, two])
    assert read_json(sidecar) == top | {"mixed.jsonl": {"cot": "1"}}


def test_memory_does_not_grow_with_the_corpus():
    """Passages stream: 40 MB of them cross with a few MB of Python objects."""
    import tracemalloc

    big = "".join(
        json.dumps({"_id": f"p{i}", "title": "", "text": "x" * 2000}) + "\n" for i in range(20_000)
    )
    folders = [make("one", corpus=big), make("two")]
    del big
    tracemalloc.start()
    try:
        joining.join("both", folders, [])
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_a_project_runs_on_two_collections(tmp_path, blank_project, monkeypatch):
    """Through the stages on real recorded answers: prepare, then synthesize finds them all."""
    project = tmp_path / "project"
    shutil.copytree(blank_project, project)
    monkeypatch.chdir(project)
    cut_down(Path("more"), train=5, dev=2, test=2)
    recorded = Path("data/teacher/concepts.jsonl")
    joining.join("both", [Path("collection"), Path("more")], [recorded, recorded])
    answered = joined_answers.answers_file("both").as_posix()
    set_params(project, {"collection.path": "data/collections/both", "teacher.recorded": answered})
    run_stage("prepare")
    assert read_json(paths.METRICS / "prepare.json")["queries_train"] == 12 + 5
    run_stage("synthesize")
    records = list(read_jsonl(paths.SYNTHESIZED))
    assert len(records) == 17 and all(record["positive"] for record in records)


def test_the_joined_order_answers_comparisons(tmp_path):
    """A pair is answered as recorded, by the joined ids."""
    joining.join("both", [make("one"), make("two")], [answers("a", ANSWER), answers("b", ANSWER)])
    teacher = RecordedTeacher(joined_answers.answers_file("both"))
    request = Request("compare", (), "two:q0", QUERIES[0]["text"], ("two:p0", "two:p2"))
    assert [answer.text for answer in teacher.answer([request])] == ["Passage #1"]
