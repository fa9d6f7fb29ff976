"""Stages as commands: help, messages, exit codes, nothing half-written."""

import os
import resource
import shutil
import subprocess
import sys
import venv

import pytest
from project import PIPELINE, ROOT, hashes, run_pipeline, run_stage, set_params

from syntriever import paths
from syntriever.errors import SyntrieverError
from syntriever.files import read_json
from syntriever.tables import rows

NAMES = sorted({name for name, *_ in PIPELINE})
COMMANDS = sorted(file.stem for file in ROOT.glob("stages/[!_]*.py"))


def run(*command, python=sys.executable, **options):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [python, "-m", *command], capture_output=True, text=True, env=environment, **options
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_quick_and_in_words(name, tmp_path):
    """--help works anywhere, without params.yaml, says what is read and written with an example,
    and loads nothing heavy."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    shown = run(f"stages.{name}", "--help", cwd=tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert shown.returncode == 0, shown.stderr
    if name not in ("collection", "journal", "tables"):  # whose commands have their own
        assert "Example:" in shown.stdout
    # of the CPU's seconds: others may be at work beside this test
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3
    heavy = ("torch", "faiss", "pandas", "pyarrow")
    code = f"import sys, stages.{name}; print([m for m in {heavy} if m in sys.modules])"
    imported = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
    )
    assert imported.stdout.strip() == "[]"


def test_another_python_says_so(tmp_path):
    """A stage started with a python that lacks the packages names the environment's."""
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    shown = run("stages.verify", python=tmp_path / "bare/bin/python", cwd=ROOT)
    assert shown.returncode == 1
    assert "make reproduce" in shown.stderr and "Traceback" not in shown.stderr


def test_an_error_is_one_message(project):
    """A fault for people has no traceback and exit code 1."""
    set_params(project, {"loss.tau": -1})
    shown = run("stages.verify", cwd=project)
    assert shown.returncode == 1
    assert shown.stderr.startswith("error: params.yaml does not hold")
    assert "Traceback" not in shown.stderr


@pytest.mark.parametrize("name", NAMES)
def test_every_stage_checks_all_params_first(name, project):
    """A misspelt param stops every stage before it touches an output."""
    before = hashes(project)
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("  tau:", "  tua:", 1))
    arguments = ["untrained"] if name == "embed" else []
    with pytest.raises(SyntrieverError, match=r"did you mean loss\.tau"):
        run_stage(name, *arguments)
    assert hashes(project) == before


def test_the_pipeline_gives_the_same_bytes(finished_project, blank_project, tmp_path):
    """A second run in another folder gives every file the same bytes."""
    again = tmp_path / "elsewhere" / "again"
    shutil.copytree(blank_project, again)
    run_pipeline(again)
    assert hashes(again) == hashes(finished_project)
    assert len(hashes(again)) > 40


def test_no_output_holds_a_path_or_a_time(finished_project):
    """Outputs hold no absolute path."""
    texts = [".json", ".jsonl", ".tsv", ".md", ".run"]
    for name in hashes(finished_project):
        file = finished_project / name
        if file.suffix in texts:
            assert str(finished_project) not in file.read_text("utf-8"), name


def test_turning_off_components(project):
    """Without chain of thought and passages stage 1 trains on labels alone; verify and all later
    stages still work."""
    set_params(project, {"synthesize.cot": False, "synthesize.passages": False})
    for stage in PIPELINE[2:]:
        run_stage(*stage)
    import json

    metrics = json.loads((paths.METRICS / "train_stage1.json").read_text())
    assert not any(name.startswith("share_") for name in metrics)  # one positive: nothing to share


@pytest.mark.parametrize(
    "loss", ["info_nce", "multiple_negatives_ranking", "soft_nearest_neighbor"]
)
def test_every_distillation_loss_trains(project, loss):
    """Each loss.distill gives a model of its own."""
    before = hashes(project)
    set_params(project, {"loss.distill": loss})
    run_stage("train_stage1")
    after = hashes(project)
    weights = "models/stage1/model.safetensors"
    assert after[weights] != before[weights]


def test_bradley_terry_trains(project):
    """The baseline of alignment gives a model of its own."""
    before = hashes(project)
    set_params(project, {"loss.align": "bradley_terry"})
    run_stage("train_stage2")
    weights = "models/stage2/model.safetensors"
    assert hashes(project)[weights] != before[weights]


@pytest.mark.parametrize("row", ["paper", "paper_own_schedule"])
def test_the_papers_row_runs(project, row):
    """Table 1's rows with the paper's data and losses, cut down to one epoch: no query is written,
    one sum of positives is shared out, and each stage gives a model of its own."""
    book = rows.load(ROOT / "tables")
    presets = book.table("table1").row(row).uses
    chosen = {name: value for preset in presets for name, value in book.presets[preset].items()}
    before = hashes(project)
    set_params(project, chosen | {"train_stage1.epochs": 1})
    for stage in PIPELINE[2:]:
        run_stage(*stage)
    assert not paths.WRITTEN.read_text("utf-8")
    counts = read_json(paths.METRICS / "train_stage1.json")
    shares = [counts[f"share_{part}_last_epoch"] for part in ("labelled", "positive", "cot")]
    assert sum(shares) == pytest.approx(1, abs=1e-3)
    assert read_json(paths.METRICS / "mine_pairs.json")["pairs_asked"] > 0
    after = hashes(project)
    for weights in ("models/stage1/model.safetensors", "models/stage2/model.safetensors"):
        assert after[weights] != before[weights]


def test_without_labels_the_pipeline_runs(project):
    """`use_labels: false` runs from training to scores on synthetic positives alone."""
    set_params(project, {"collection.use_labels": False, "write_queries.per_passage": 0})
    for stage in PIPELINE[2:]:
        run_stage(*stage)


def test_nothing_to_train_on(project):
    """No label, no positive, no chain of thought: one message names the params."""
    changes = {"collection.use_labels": False, "write_queries.per_passage": 0}
    set_params(project, changes | {"synthesize.cot": False, "synthesize.passages": False})
    run_stage("write_queries")
    run_stage("synthesize")
    run_stage("verify")
    with pytest.raises(SyntrieverError, match=r"synthesize\.cot"):
        run_stage("train_stage1")


def test_no_decided_pair(project):
    """Stage 2 without a single decided pair is one message."""
    lines = paths.COMPARISONS.read_text().splitlines()
    import json

    records = [json.loads(line) | {"preferred": None, "rejected": None} for line in lines]
    paths.COMPARISONS.write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.raises(SyntrieverError, match="no decided pair"):
        run_stage("train_stage2")


def test_a_damaged_input_is_named(project):
    """A broken line in a stage's input is named by file and line."""
    paths.VERIFIED.write_text(paths.VERIFIED.read_text() + '{"query_id": \n')
    with pytest.raises(SyntrieverError, match=r"verified\.jsonl, line 13: not JSON"):
        run_stage("train_stage1")


def test_test_queries_never_reach_the_teacher(project, monkeypatch):
    """No request of any stage holds a dev or test query, and dev and test files may be absent."""
    from syntriever.files import read_jsonl
    from syntriever.teacher import RecordedTeacher

    held_out = {
        line["query"] for split in ("dev", "test") for line in read_jsonl(paths.queries(split))
    }
    asked = []
    answer = RecordedTeacher.answer

    def spy(self, requests):
        return answer(self, (asked.append(request) or request for request in requests))

    monkeypatch.setattr(RecordedTeacher, "answer", spy)
    for split in ("dev", "test"):
        paths.queries(split).unlink()
    for stage in ("synthesize", "verify", "mine_pairs"):
        run_stage(stage)
    assert len({request.prompt for request in asked}) == 5
    for request in asked:
        assert request.query not in held_out
        assert not any(query in str(request.messages) for query in held_out)


def test_a_stage_runs_once_at_a_time(project):
    """A second run of one stage in one checkout is refused: it would write the same files."""
    import fcntl

    with (ROOT / "stages/verify.py").open("rb") as script:
        fcntl.flock(script, fcntl.LOCK_EX)
        shown = run("stages.verify", cwd=project)
    assert shown.returncode == 1 and "running here already" in shown.stderr
    assert run("stages.verify", cwd=project).returncode == 0


@pytest.mark.parametrize("variable", ["ACCELERATE_MIXED_PRECISION", "WORLD_SIZE"])
def test_the_environment_changes_no_result(project, variable):
    """Variables that would make the trainer another one have no say (DVC can't see them)."""
    before = hashes(project)
    value = {"ACCELERATE_MIXED_PRECISION": "bf16", "WORLD_SIZE": "2"}[variable]
    environment = os.environ | {"PYTHONPATH": str(ROOT), variable: value}
    command = [sys.executable, "-m", "stages.train_stage1"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=project)
    assert done.returncode == 0, done.stderr
    assert hashes(project) == before


def test_a_file_in_a_folders_place_is_said(project):
    """What the system refuses is one message, not a traceback."""
    shutil.rmtree(project / "metrics")
    (project / "metrics").write_text("")
    shown = run("stages.verify", cwd=project)
    assert shown.returncode == 1
    assert "metrics" in shown.stderr and "Traceback" not in shown.stderr


RECORDS = [
    (paths.SYNTHESIZED, "verify", {"positive": 3}, "positive"),
    (paths.SYNTHESIZED, "verify", {"query": None}, "query"),
    (paths.VERIFIED, "train_stage1", {"hard_negatives": "zzz"}, "hard_negatives"),
    (paths.VERIFIED, "train_stage1", {"cot": []}, "cot"),
    (paths.COMPARISONS, "train_stage2", {"preferred": 7}, "preferred"),
    (paths.queries("train"), "synthesize", {"query_id": ["a"]}, "query_id"),
]


@pytest.mark.parametrize(("path", "stage", "change", "field"), RECORDS)
def test_a_malformed_record_is_named(project, path, stage, change, field):
    """A record between stages with a missing or wrong field is named by file, line and field."""
    from syntriever.files import read_jsonl, write_jsonl

    lines = list(read_jsonl(path))
    for broken in ({**lines[1], **change}, {k: v for k, v in lines[1].items() if k != field}):
        write_jsonl(path, [lines[0], broken, *lines[2:]])
        with pytest.raises(SyntrieverError, match=f"{path.name}, line 2: {field}"):
            run_stage(stage)


def test_unknown_ids_are_named(project):
    """A compared passage that the corpus lacks, or a query without its record, is named."""
    from syntriever.files import read_jsonl, write_jsonl

    lines = list(read_jsonl(paths.COMPARISONS))
    decided = next(i for i, line in enumerate(lines) if line["preferred"])
    lines[decided]["preferred"] = "no-such-passage"
    write_jsonl(paths.COMPARISONS, lines)
    with pytest.raises(SyntrieverError, match="no-such-passage"):
        run_stage("train_stage2")
    records = list(read_jsonl(paths.VERIFIED))
    write_jsonl(paths.VERIFIED, records[1:])
    with pytest.raises(SyntrieverError, match="no record of the training query"):
        run_stage("train_stage1")
    write_jsonl(paths.VERIFIED, [records[0] | {"query": "another?"}, *records[1:]])
    with pytest.raises(SyntrieverError, match="another text of the training query"):
        run_stage("train_stage1")
