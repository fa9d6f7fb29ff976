"""What people hand in by mistake is one message with file, line and mend, never a traceback."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from project import ROOT, run_stage
from small_collections import CORPUS, QUERIES, lines, outputs, prepare, refused, view, write

import stages
from syntriever import files, params, paths, preparation, prompts, records
from syntriever.collection import is_blank, read_qrels, read_queries
from syntriever.errors import SyntrieverError
from syntriever.teacher import RecordedTeacher, transfer
from syntriever.teacher.journal import Journal

BLANK = {"_id": "blank", "title": "", "text": "\u200b\ufeff\u00a0\n\x07"}
HALF = '"half of \\ud800"'


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path, monkeypatch):
    """Paths are relative to the working directory."""
    monkeypatch.chdir(tmp_path)


# Blank passages and queries


def test_blank_is_what_nobody_can_see():
    """Spaces, control and zero-width characters, in any mixture; a dot is no blank."""
    for text in ("", " \t\r\n\x0b\x85", "\u200b\u200d\ufeff\u00ad", "\u2028\u2029\u3000", "\x00"):
        assert is_blank(text)
    for text in (".", "\u200b.\u200b", "字", "\u0301"):
        assert not is_blank(text)


def test_an_invisible_passage_is_blank():
    """It is left out as an empty one is, and no query can be one."""
    write(corpus=[*CORPUS, BLANK])
    assert prepare()["blank_passages"] == 1
    for file in outputs():
        Path(file).unlink()
    write(queries=[*QUERIES, {"_id": "x", "text": BLANK["text"]}])
    refused("collection/queries.jsonl, line 7", "the query is blank", "Give it a text")


@pytest.mark.parametrize("name", ["dev", "test"])
def test_a_split_labelled_on_blank_passages_is_refused(name):
    """Every system would score 0 on it; the message names the file and each mend."""
    write(corpus=[*CORPUS, BLANK], **{name: [("q3", "blank", 1), ("q3", "p0", 0)]})
    words = ["give blank ones a text", f"take {name} out of evaluate.splits"]
    refused(f"collection/qrels/{name}.tsv: no query", "not blank", *words)


def test_training_labels_on_blank_passages_are_refused():
    """Training on labels needs a labelled text."""
    write(corpus=[*CORPUS, BLANK], train=[("q0", "blank", 1)])
    refused("collection/qrels/train.tsv: no training query", "not blank", "use_labels: false")


def test_a_query_labelled_on_blank_passages_only_is_not_measured():
    """It stays in its split, so that it never trains, but without judgements; a warning says so.
    A blank passage beside another relevant one counts as missed."""
    test = [("q3", "p4", 1), ("q3", "blank", 1), ("q4", "blank", 2), ("q4", "p1", 0)]
    write(corpus=[*CORPUS, BLANK], test=test, train=None)
    metrics = prepare(use_labels=False)
    assert metrics["queries_with_blank_labels_only"] == 1
    assert read_qrels(paths.qrels("test")) == {"q3": {"p4": 1, "blank": 1}}
    assert "q4" not in [query.query_id for query in read_queries(paths.queries("train"))]
    assert [query.query_id for query in read_queries(paths.queries("test"))] == ["q3", "q4"]
    warnings = [one for one in preparation.warnings(metrics) if "are all blank: 1" in one]
    assert len(warnings) == 1 and "corpus.jsonl" in warnings[0]


# Collections that are too small


@pytest.mark.parametrize(
    ("corpus", "words"), [([CORPUS[0]], "only one passage"), ([BLANK], "no passage")]
)
def test_a_corpus_of_one_passage_is_refused(corpus, words):
    """Lowering top_k can't help, so nobody is told to."""
    passage = corpus[0]["_id"]
    labels = {name: [(f"q{i}", passage, 1)] for i, name in enumerate(("train", "dev", "test"))}
    write(corpus=corpus, **labels)
    with pytest.raises(SyntrieverError) as error:
        preparation.prepare(view(top_k=2), None)
    assert f"corpus.jsonl holds {words} that is not blank" in str(error.value)
    assert "Add passages" in str(error.value) and "top_k" not in str(error.value)


@pytest.mark.parametrize("dev_share", [0.0, 0.2])
def test_without_train_and_dev_files_no_share_is_advised(dev_share):
    """No dev_share makes a dev split where no training query is judged."""
    write(train=None, dev=None)
    with pytest.raises(SyntrieverError) as error:
        prepare(use_labels=False, dev_share=dev_share)
    message = str(error.value)
    assert "dev.tsv does not exist" in message and "train.tsv" in message
    assert "take dev out of evaluate.splits" in message and "dev_share" not in message


def test_a_group_that_cannot_be_divided_is_said():
    """Where all training queries share a passage, no higher dev_share is advised."""
    write(train=[("q0", "p0", 1), ("q1", "p0", 1)], dev=None)
    refused("dev.tsv does not exist", "share labelled passages, so that they stay together")
    write(train=[("q0", "p0", 1), ("q1", "p0", 1), ("q4", "p1", 1), ("q5", "p1", 1)], dev=None)
    refused("dev.tsv does not exist", "is that small", "raise dev_share")


def test_copies_of_one_text_are_no_pair(tmp_path):
    """mine_pairs names the corpus, not the teacher, where there is nothing to compare."""
    corpus = [{"_id": f"p{i}", "text": "the same text"} for i in range(6)]
    write(corpus=corpus)
    prepare()
    for name in ("params.yaml", "prompts", "data/teacher"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(ROOT / name)
    folder = paths.embeddings("stage1")
    folder.mkdir(parents=True)
    for name, rows in (("train", 2), ("corpus", 6)):
        np.save(folder / f"{name}.npy", np.ones((rows, 4), np.float32))
    with pytest.raises(SyntrieverError) as error:
        run_stage("mine_pairs")
    assert "there is no pair to compare" in str(error.value)
    assert "copies" in str(error.value) and "teacher" not in str(error.value)
    assert not paths.COMPARISONS.exists()


# Folders, and files that can't be read


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"])
def test_a_folder_in_a_collections_place_is_refused(name):
    """A file is expected; `dvc repro` would not make it."""
    write()
    Path("collection", name).unlink()
    Path("collection", name).mkdir()
    refused(f"collection/{name} is a folder", "Name a file")


@pytest.mark.parametrize(
    "read",
    [
        RecordedTeacher,
        params.load_all,
        files.read_json,
        read_qrels,
        lambda path: prompts.load("cot", path.parent),
    ],
)
def test_a_folder_in_a_files_place_is_refused(read):
    """Recorded answers, params, prompts and all that stages read."""
    path = Path("somewhere/cot.txt")
    path.mkdir(parents=True)
    with pytest.raises(SyntrieverError, match=r"somewhere/cot\.txt (is a folder|can't be)"):
        read(path)


@pytest.mark.parametrize("read", [RecordedTeacher, files.read_json, read_qrels])
def test_a_file_without_permission_is_refused(monkeypatch, read):
    """The file is named, and what to look at. (Tests may run as root, who may read all.)"""

    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(SyntrieverError, match=r"it\.jsonl can't be read .*permissions"):
        read(Path("it.jsonl"))


# JSON


@pytest.mark.parametrize("name", ["corpus", "queries"])
@pytest.mark.parametrize("field", ["_id", "title", "text"])
def test_half_a_character_in_a_collection_is_refused(name, field):
    """JSON can hold a lone surrogate; UTF-8 can't."""
    record = {"_id": '"x"', "title": '"t"', "text": '"c"'} | {field: HALF}
    line = "{" + ", ".join(f'"{key}": {value}' for key, value in record.items()) + "}\n"
    write(**{name: lines({"corpus": CORPUS, "queries": QUERIES}[name]) + line})
    refused(f"collection/{name}.jsonl, line 7: '{field}' holds half a character ('\\ud800')")


def test_half_a_character_in_recorded_answers_is_refused():
    """Also deep within a line; a whole character written as two halves is none."""
    whole = '{"query_id": "q", "query": "x", "cot": "\\ud83d\\ude00"}\n'
    half = f'{{"query_id": "r", "query": "y", "comparisons": [["a", {HALF}, 1]]}}\n'
    Path("answers.jsonl").write_text(whole + half)
    with pytest.raises(SyntrieverError, match=r"line 2: 'comparisons' holds half a character"):
        RecordedTeacher(Path("answers.jsonl"))
    Path("answers.jsonl").write_text(whole)
    RecordedTeacher(Path("answers.jsonl"))


def test_half_a_character_in_a_journals_export_is_refused():
    """The line is named, and nothing is imported."""
    Path("export.jsonl").write_text(f'{{"key": "k", "text": {HALF}}}\n')
    with Journal(Path("teacher.sqlite")) as journal:
        with pytest.raises(SyntrieverError, match=r"export.jsonl, line 1: 'text' holds half"):
            transfer.load(journal, Path("export.jsonl"))
        assert list(journal.entries()) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "a JSON object is expected, found list"),
        ('"x"', "a JSON object is expected, found str"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"cot": 5}', "cot must hold a SHA-256"),
        ('{"answers.jsonl": {"cot": "abc"}}', "answers.jsonl must hold a SHA-256"),
        ('{"answers.jsonl": ["cot"]}', "answers.jsonl must hold a SHA-256"),
    ],
)
def test_a_malformed_prompts_file_is_refused(text, words):
    """data/teacher/prompts.json is written by hand too."""
    Path("prompts.json").write_text(text)
    with pytest.raises(SyntrieverError, match=r"prompts\.json") as error:
        list(prompts.changed_since_recording(Path("answers.jsonl"), ["cot"], ROOT / "prompts"))
    assert words in str(error.value) and "Restore" in str(error.value)


def test_a_doubled_query_between_stages_is_refused():
    """A second record of a query would silently take the place of the first."""
    record = {"query_id": "q", "query": "x", "cot": None, "positive": None, "hard_negatives": []}
    record |= {"verdict": None, "relabelled": False}
    Path("verified.jsonl").write_text(lines([record, record | {"query_id": "r"}, record]))
    with pytest.raises(SyntrieverError, match=r"line 3: query_id 'q' stands in line 1 already"):
        list(records.read(Path("verified.jsonl"), records.Verified))


def test_a_query_may_have_many_comparisons():
    """Only there."""
    pair = {"query_id": "q", "query": "x", "passage_1": "a", "passage_2": "b"}
    pair |= {"answer": None, "preferred": None, "rejected": None}
    Path("comparisons.jsonl").write_text(lines([pair, pair]))
    assert len(list(records.read(Path("comparisons.jsonl"), records.Comparison))) == 2


# params.yaml


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("9" * 5000, "unreadable value (Exceeds the limit (4300 digits)"),
        ("0x" + "f" * 5000, "seed should be less than 4294967296, found a number of thousands"),
        ("9" * 4000, "seed should be less than 4294967296, found 999"),
        ("2001-02-31", "unreadable value (day is out of range"),
        ("[" * 3000 + "]" * 3000, "brackets or groups within one another"),
    ],
)
def test_a_value_beyond_all_sense_is_one_short_message(value, words):
    """It is named with its line, and not repeated in full."""
    text = (ROOT / "params.yaml").read_text("utf-8")
    line = text.splitlines().index("seed: 0") + 1
    Path("params.yaml").write_text(text.replace("seed: 0", f"seed: {value}", 1), "utf-8")
    with pytest.raises(SyntrieverError) as error:
        params.load_all(Path("params.yaml"))
    assert words in str(error.value) and len(str(error.value)) < 400
    assert f"line {line}" in str(error.value) or "brackets" in words
    assert params.read_compute(Path("params.yaml")) == ("avx2", 2)


# Writing


@pytest.mark.parametrize("readme", [None, "no marks\n", "<!-- results:begin -->\n"])
def test_a_readme_without_marks_is_said_before_anything_is_written(monkeypatch, readme):
    """`reproduce --record` writes both files or none."""
    from syntriever import reproduction, results

    monkeypatch.setattr(results, "render", lambda split: f"table of {split}\n")
    monkeypatch.setattr(reproduction, "lines", lambda split: [])
    Path("params.yaml").symlink_to(ROOT / "params.yaml")
    Path("dvc.lock").write_text("stages: {}\n")
    if readme is not None:
        Path("README.md").write_text(readme)
    with pytest.raises(SyntrieverError, match=r"README.md.*git checkout -- README.md"):
        run_stage("reproduce", True)
    assert not reproduction.RECORD.exists()
    Path("README.md").write_text("a\n<!-- results:begin -->\nold\n<!-- results:end -->\nb\n")
    run_stage("reproduce", True)
    assert "table of dev" in Path("README.md").read_text() and reproduction.RECORD.exists()


FULL = """
import resource, sys
import stages
import numpy as np, torch
from safetensors.torch import save_file
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))  # a write beyond it fails
many = torch.zeros(100_000)
for write in (
    lambda: save_file({"weight": many}, "model.safetensors"),
    lambda: torch.save({"weight": many}, "optimizer.pt"),
    lambda: np.save("vectors.npy", many.numpy()),
    lambda: open("text.txt", "w").write("x" * 100_000),
):
    try:
        stages.run(write)
    except SystemExit as end:
        assert end.code == 1
    else:
        raise AssertionError("it was written")
"""


def test_a_full_disk_is_one_message():
    """Whichever library writes; safetensors and torch raise no OSError."""
    command = [sys.executable, "-c", FULL]
    done = subprocess.run(
        command, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    messages = done.stderr.strip().splitlines()
    assert len(messages) == 4
    for message in messages:
        assert message.startswith("error: ") and "room on the disk" in message
        assert "run the same again" in message


@pytest.mark.parametrize("kind", [RuntimeError, ZeroDivisionError])
def test_a_fault_of_ours_keeps_its_traceback(kind):
    """Only what the disk refused is put in words: a bug must not look like one."""

    def broken():
        raise kind("something else")

    with pytest.raises(kind):
        stages.run(broken)


def test_a_stopped_stage_says_how_to_go_on(monkeypatch, capsys):
    """Ctrl-C ends in one message."""

    @stages.command
    def stopped() -> None:
        """Stop."""
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["stopped"])
    with pytest.raises(SystemExit) as end:
        stopped()
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert "stopped. Run the same again" in said and "`embed` too, starts over" in said


def test_json_lines_of_whole_characters_are_read_as_they_are():
    """The check for half characters changes nothing else."""
    written = [{"text": "😀 \\ud800 é", "n": [1, {"x": None}]}]
    Path("a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in written))
    assert list(files.read_jsonl(Path("a.jsonl"))) == written
