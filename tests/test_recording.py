"""Answers that were used can be exported, and the export gives the same results again."""

import json

import pytest
from fake_teacher import FakeTeacher
from project import run_stage, set_params

from syntriever import conversation, files, paths, recording
from syntriever.errors import SyntrieverError
from syntriever.teacher import Answer

OUTPUTS = (paths.SYNTHESIZED, paths.VERIFIED, paths.COMPARISONS)
STAGES = ("synthesize", "verify", "mine_pairs")


def reply(request):
    """A teacher as they are: some refusals, unclear answers, cycles, and a liking for #1."""
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
            patch.setattr(conversation, "open_teacher", lambda *_: FakeTeacher(reply))
            return run()

    return asked_live


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
    for one in files.read_jsonl(paths.COMPARISONS):
        pair = [one["passage_1"], one["passage_2"]]
        assert [*pair, one["answer"]] in exported[one["query_id"]]
        assert [*pair[::-1], one["swapped_answer"]] in exported[one["query_id"]]
    assert sum(map(len, exported.values())) == 2 * sum(1 for _ in files.read_jsonl(OUTPUTS[2]))


def test_prompts_are_remembered_for_each_file(project, capsys):
    """The export keeps its own hashes of the prompts; those of other files stay as they were."""
    sidecar = project / "data/teacher/prompts.json"
    before = json.loads(sidecar.read_text())
    cot = project / "prompts/cot.txt"
    cot.write_text(cot.read_text() + "Be brief.\n")
    recording.record("mine")
    after = json.loads(sidecar.read_text())
    assert set(after.pop("mine.jsonl")) == set(recording.PROMPTS)
    assert after == before
    run_stage("synthesize")
    assert "cot.txt has changed" in capsys.readouterr().err
    set_params(project, {"teacher.recorded": "data/teacher/mine.jsonl"})
    run_stage("synthesize")
    assert "has changed" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../mine", "", "a/b", ".hidden", "concepts", "concepts.jsonl"])
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


def test_a_missing_output_is_named(project):
    """Before the stages have run there is nothing to export."""
    paths.COMPARISONS.unlink()
    with pytest.raises(SyntrieverError, match=r"comparisons\.jsonl does not exist"):
        recording.record("mine")
