"""Answers that were used can be exported, and the export gives the same results again."""

import json
from pathlib import Path

import pytest
from fake_teacher import FakeTeacher
from project import run_stage, set_params

from syntriever import files, paths, recording, teacher_choice
from syntriever.errors import SyntrieverError
from syntriever.teacher import Answer

OUTPUTS = (paths.SYNTHESIZED, paths.VERIFIED, paths.COMPARISONS)
WRITING = {
    "write_queries.per_passage": 1,
    "write_queries.kinds": ["situation", "direct"],
    "write_queries.passages": None,
    "write_queries.keep_top": 5,
    "write_queries.hard_negatives": 1,
}
STAGES = ("synthesize", "verify", "mine_pairs")


def reply(request):
    """A teacher as they are: some refusals, unclear answers, cycles, and a liking for #1."""
    if request.prompt.startswith("write_"):
        return None if "e" in request.query_id[:2] else f"“{request.query_id} and so on?”\n"
    digit = sum(map(ord, request.query_id + "".join(sorted(request.passage_ids)))) % 10
    if request.prompt == "relabel":
        return ["No.", "Hard to say.", *["**Yes.**"] * 8][digit]
    if request.prompt == "compare":
        by_place = "Passage #1 is more relevant."
        by_content = "#1" if request.passage_ids[0] < request.passage_ids[1] else "Passage 2"
        return ["Both.", by_place, Answer(None, "content filter"), *[by_content] * 7][digit]
    if (request.prompt, digit) == ("cot", 3):
        return Answer("I'm sorry, I can't help with that", "refusal")
    return f"  {request.prompt}: {{query}} \u2013 “{request.query[:20]}”\n\nMore.  "


def run():
    for stage in STAGES:
        run_stage(stage)
    return [path.read_bytes() for path in OUTPUTS]


@pytest.fixture
def asked_live(project, monkeypatch):
    """The project with outputs of a live teacher, which is gone now; returns these outputs."""

    def asked_live(**changes):
        set_params(project, {"teacher.backend": "openai", "teacher.max_failed_share": 1.0})
        set_params(project, changes)
        with monkeypatch.context() as patch:
            patch.setattr(teacher_choice, "open_teacher", lambda *_: FakeTeacher(reply))
            return run()

    return asked_live


def asked():
    """The comparisons that the teacher was asked for; nobody is asked about written queries."""
    written = {one["query_id"] for one in files.read_jsonl(paths.WRITTEN)}
    return [one for one in files.read_jsonl(paths.COMPARISONS) if one["query_id"] not in written]


@pytest.mark.parametrize("both_orders", [False, True])
def test_a_recorded_run_gives_the_same_files(project, asked_live, both_orders):
    """After an export the recorded backend writes the same texts, verdicts and comparisons."""
    before = asked_live(**{"mine_pairs.both_orders": both_orders})
    run_stage("record", "mine")
    set_params(
        project, {"teacher.backend": "recorded", "teacher.recorded": "data/teacher/mine.jsonl"}
    )
    for path in OUTPUTS:
        path.unlink()
    assert run() == before
    metrics = json.loads((paths.METRICS / "mine_pairs.json").read_text())
    assert (metrics["disagreement"], metrics["first_position_wins"]) == (None, None)
    verdicts = {one["verdict"] for one in files.read_jsonl(paths.VERIFIED)}
    assert verdicts == {"yes", "no", None}  # else this test would prove little
    answers = {one["answer"] for one in files.read_jsonl(paths.COMPARISONS)}
    assert answers == {1, 2, None}


def test_the_export_keeps_comparisons_as_asked(project, asked_live):
    """Each comparison stands in the order shown, in both orders where both were asked."""
    asked_live(**{"mine_pairs.both_orders": True})
    recording.record("mine")
    exported = {
        one["query_id"]: one["comparisons"] for one in files.read_jsonl("data/teacher/mine.jsonl")
    }
    for one in asked():
        pair = [one["passage_1"], one["passage_2"]]
        assert [*pair, one["answer"]] in exported[one["query_id"]]
        assert [*pair[::-1], one["swapped_answer"]] in exported[one["query_id"]]
    assert sum(map(len, exported.values())) == 2 * len(asked())


def test_prompts_are_remembered_for_each_file(project, capsys):
    """The export keeps its own hashes of the prompts; those of other files stay as they were."""
    sidecar = project / "data/teacher/prompts.json"
    before = json.loads(sidecar.read_text())
    cot = project / "prompts/cot.txt"
    cot.write_text(cot.read_text() + "Be brief.\n")
    recording.record("mine")
    after = json.loads(sidecar.read_text())
    assert set(after.pop("mine.jsonl")) == set(recording.PROMPTS)
    after.pop("mine_written_queries.jsonl", None)
    assert after == before
    run_stage("synthesize")
    assert "cot.txt has changed" in capsys.readouterr().err
    set_params(project, {"teacher.recorded": "data/teacher/mine.jsonl"})
    run_stage("synthesize")
    assert "has changed" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../mine", "", "a/b", ".hidden", "concepts", "bücher"])
def test_a_bad_name_overwrites_nothing(project, name):
    """A name that leaves the folder or is taken is refused."""
    before = (project / "data/teacher/concepts.jsonl").read_bytes()
    with pytest.raises(SyntrieverError, match=r"is no name|exists"):
        recording.record(name)
    assert (project / "data/teacher/concepts.jsonl").read_bytes() == before


@pytest.mark.parametrize("path", OUTPUTS)
def test_files_of_different_runs_are_refused(project, path):
    """Outputs that do not fit together are not exported, and nothing is half-written."""
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[len(lines) // 2 :] + lines[: len(lines) // 2]))
    with pytest.raises(SyntrieverError, match=r"does not fit.*dvc repro"):
        recording.record("mine")
    assert not list((project / "data/teacher").glob("*mine*"))


@pytest.mark.parametrize(
    ("path", "change", "words"),
    [
        (paths.SYNTHESIZED, {"cot": 5}, "cot: "),
        (paths.SYNTHESIZED, {"query": None}, "query: "),
        (paths.VERIFIED, {"verdict": "perhaps"}, "verdict: "),
        (paths.COMPARISONS, {"answer": 7}, "answer"),
        (paths.COMPARISONS, {"swapped_answer": 7}, "swapped_answer"),
        (paths.COMPARISONS, "passage_2", "passage_2: Field required"),
        (paths.VERIFIED, "verdict", "verdict: Field required"),
    ],
)
def test_a_line_that_no_stage_writes_is_named(project, path, change, words):
    """What would be no recorded answer is refused by file and line, and nothing is half-written."""
    lines = list(files.read_jsonl(path))
    if isinstance(change, str):
        del lines[1][change]
    else:
        lines[1] |= change
    files.write_jsonl(path, lines)
    with pytest.raises(SyntrieverError, match=rf"{path}, line 2: {words}.*dvc repro"):
        recording.record("mine")
    assert not list((project / "data/teacher").glob("*mine*"))


def test_a_missing_prompt_leaves_nothing(project):
    """Its hash belongs to the files."""
    Path("prompts/compare.txt").unlink()
    with pytest.raises(SyntrieverError, match=r"compare\.txt"):
        recording.record("mine")
    assert not list((project / "data/teacher").glob("*mine*"))


def test_a_missing_output_is_named(project):
    """Before the stages have run there is nothing to export."""
    paths.COMPARISONS.unlink()
    with pytest.raises(SyntrieverError, match=r"comparisons\.jsonl does not exist"):
        recording.record("mine")


def test_written_queries_are_recorded_beside(project, monkeypatch):
    """The kept ones give the same queries again; both params are told, and hashes of the kinds."""
    set_params(project, WRITING | {"teacher.backend": "openai", "teacher.max_failed_share": 1.0})
    with monkeypatch.context() as patch:
        patch.setattr(teacher_choice, "open_teacher", lambda *_: FakeTeacher(reply))
        run_stage("write_queries")
    before = paths.WRITTEN.read_bytes()
    assert before
    written = recording.record("mine")
    assert written == {
        "teacher.recorded": recording.FOLDER / "mine.jsonl",
        "teacher.recorded_queries": recording.FOLDER / "mine_written_queries.jsonl",
    }
    hashes = files.read_json("data/teacher/prompts.json")["mine_written_queries.jsonl"]
    assert set(hashes) == {"write_situation", "write_direct"}
    chosen = {param: path.as_posix() for param, path in written.items()}
    set_params(project, {"teacher.backend": "recorded"} | chosen)
    paths.WRITTEN.unlink()
    run_stage("write_queries")
    assert paths.WRITTEN.read_bytes() == before
    with pytest.raises(SyntrieverError, match=r"mine\.jsonl exists"):
        recording.record("mine")


def test_without_written_queries_there_is_no_file_of_them(project):
    """Nothing is written, or said, of what was not used."""
    files.write_jsonl(paths.COMPARISONS, asked())
    paths.WRITTEN.write_text("")
    assert list(recording.record("mine")) == ["teacher.recorded"]
    assert not list((project / "data/teacher").glob("mine_written*"))


def test_a_corpus_alone_has_no_file_of_answers(project, capsys):
    """Without training queries only the written ones are recorded, and the stages run with what
    the command prints."""
    queries = list(files.read_jsonl(paths.WRITTEN))
    own_ids = {one["query_id"] for one in queries}
    pairs = [one for one in files.read_jsonl(paths.COMPARISONS) if one["query_id"] in own_ids]
    assert queries
    for path in (paths.queries("train"), paths.SYNTHESIZED, paths.VERIFIED):
        path.write_text("")
    files.write_jsonl(paths.COMPARISONS, pairs)
    run_stage("record", "mine")
    (file,) = (project / "data/teacher").glob("mine*")
    assert file.name == "mine_written_queries.jsonl"
    assert "mine.jsonl" not in files.read_json("data/teacher/prompts.json")
    _, command = capsys.readouterr().out.splitlines()
    recorded = f"-S teacher.recorded_queries={file.relative_to(project)}"
    assert command.split("run ")[1] == f"-S teacher.backend=recorded {recorded}"
    set_params(project, {"teacher.recorded_queries": str(file.relative_to(project))})
    for stage in ("synthesize", "verify"):
        run_stage(stage)
    assert paths.VERIFIED.read_bytes() == b""


def test_nothing_to_record_is_said(project):
    """Of a run without any query there is no file."""
    for path in (paths.WRITTEN, *OUTPUTS):
        path.write_text("")
    before = (project / "data/teacher/prompts.json").read_bytes()
    with pytest.raises(SyntrieverError, match=r"no answer to record"):
        recording.record("mine")
    assert not list((project / "data/teacher").glob("mine*"))
    assert (project / "data/teacher/prompts.json").read_bytes() == before


def written(passage_id, kind="direct", more=""):
    return {
        "query_id": f"{passage_id}#{kind}{more}",
        "query": f"about {passage_id}",
        "passage_id": passage_id,
        "kind": kind,
        "hard_negatives": [],
    }


def test_comparisons_of_written_queries_are_no_answers(project):
    """Nobody was asked: they stay out of the recorded comparisons."""
    recording.record("before")
    comparisons = asked()
    files.write_jsonl(paths.WRITTEN, [written("a")])
    pair = {"passage_1": "a", "passage_2": "b", "answer": None, "preferred": "a", "rejected": "b"}
    own = {"query_id": "a#direct", "query": "about a"} | pair
    files.write_jsonl(paths.COMPARISONS, [*comparisons, own])
    recording.record("mine")
    folder = project / "data/teacher"
    assert (folder / "mine.jsonl").read_bytes() == (folder / "before.jsonl").read_bytes()


def test_several_queries_of_a_kind_are_refused(project):
    """A record holds one; nothing is half-written."""
    files.write_jsonl(paths.WRITTEN, [written("a"), written("a", more="-2")])
    with pytest.raises(SyntrieverError, match=r"several queries of kind direct .*'a'"):
        recording.record("mine")
    assert not list((project / "data/teacher").glob("*mine*"))
