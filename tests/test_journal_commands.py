"""`python -m stages.journal`: what the journal holds, out and in, dropped and saved."""

import contextlib
import dataclasses
import json
import os
import sqlite3

import pytest
from live_teacher import entry
from typer.testing import CliRunner

from stages.journal import app
from syntriever.errors import SyntrieverError
from syntriever.teacher import transfer
from syntriever.teacher.journal import Journal


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "folder" / "teacher.sqlite") as opened:
        yield opened


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def test_export_and_import_are_inverse(tmp_path, journal):
    """What is exported and imported elsewhere is the same; importing twice adds nothing."""
    journal.put([entry("a"), entry("b", None, reason="content filter"), entry("c", "語")])
    file, other = tmp_path / "answers.jsonl", tmp_path / "other" / "teacher.sqlite"
    assert run("export", str(file), "--path", str(journal.path)).exit_code == 0
    assert "3 answers read, 3 of them new" in run("import", str(file), "--path", str(other)).output
    assert "3 answers read, 0 of them new" in run("import", str(file), "--path", str(other)).output
    with Journal(other) as copy:
        assert list(copy.entries()) == list(journal.entries())
        assert copy.spent() == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"text": 7}, "line 2: text"),
        ({"prompt_tokens": None}, "line 2: prompt_tokens"),
        ({"model": "other"}, "line 2: its key is not that of its request"),
        ({"completion_tokens": 10**20}, "line 2: so many tokens can't be"),
    ],
)
def test_an_import_with_a_fault_adds_nothing(tmp_path, monkeypatch, change, words):
    """A changed or broken line is named, and nothing of the file is taken."""
    monkeypatch.setattr(transfer, "AT_ONCE", 1)
    lines = [dataclasses.asdict(entry("a")), dataclasses.asdict(entry("b")) | change]
    file, path = tmp_path / "answers.jsonl", tmp_path / "teacher.sqlite"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(SyntrieverError, match=words):
        CliRunner().invoke(app, ["import", str(file), "--path", str(path)], catch_exceptions=False)
    with Journal(path) as opened:
        assert list(opened.entries()) == []


def test_an_export_replaces_nothing(journal, tmp_path):
    """Neither the journal itself nor an earlier export, perhaps the only copy, is lost by a slip;
    an export of nothing leaves no file."""
    journal.put([entry("a")])
    before, earlier = journal.path.read_bytes(), tmp_path / "answers.jsonl"
    refused = run("export", str(journal.path), "--path", str(journal.path))
    assert "is the journal itself" in str(refused.exception)
    assert journal.path.read_bytes() == before
    earlier.write_text("earlier")
    for model in ((), ("--model", "stub")):
        refused = run("export", str(earlier), *model, "--path", str(journal.path))
        assert "answers.jsonl exists. Take another name" in str(refused.exception)
    assert earlier.read_text() == "earlier"
    new = tmp_path / "new.jsonl"
    refused = run("export", str(new), "--model", "typo", "--path", str(journal.path))
    assert "no answer of the model typo" in str(refused.exception) and not new.exists()


def test_an_import_reads_a_file_alone(tmp_path):
    """A pipe would be at its end when it is read again; a missing file leaves no journal."""
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "nowhere.jsonl"):
        path = tmp_path / "new.sqlite"
        refused = run("import", str(tmp_path / name), "--path", str(path))
        assert "is no file" in str(refused.exception) and not path.exists()


def test_check_finds_a_changed_answer(journal):
    """An answer that was moved to another request's key is found."""
    journal.put([entry("a"), entry("b")])
    assert "2 answers, all sound" in run("check", "--path", str(journal.path)).output
    journal.put([dataclasses.replace(entry("a"), key=entry("c").key)])
    found = run("check", "--path", str(journal.path)).exception
    assert "its key is not that of its request" in str(found)


def test_what_a_server_did_not_answer_can_be_asked_again(journal):
    """Once it is mended; answers, and what other reasons left without one, stay."""
    kept = [entry("a"), entry("b", None, reason="refusal"), entry("c", None, prompt="compare")]
    dropped = entry("d", None, reason="empty")
    journal.put([*kept, dropped, entry("e", None, reason="empty", prompt="compare")])
    path = ("--path", str(journal.path))
    assert run("forget", "--reason", "empty", "--model", "other", *path).output[:9] == "0 dropped"
    assert run("forget", "--reason", "empty", "--prompt", "compare", *path).output[0] == "1"
    assert list(journal.entries()) == [*kept, dropped]
    assert run("forget", "--reason", "empty", *path).output[0] == "1"
    assert list(journal.entries()) == kept
    assert run("forget", "--reason", "answered", *path).exit_code == 2


@pytest.mark.parametrize("where", [0.5, 0.75, 0.999])
def test_what_a_damaged_journal_still_gives_is_saved(tmp_path, where):
    """`check` says so, and `export --salvage` takes all that can be read, as the page says."""
    path, file = tmp_path / "teacher.sqlite", tmp_path / "saved.jsonl"
    with Journal(path) as opened:
        opened.put([entry(f"question {number}", "word " * 100) for number in range(300)])
        opened._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as damaged:
        damaged.seek(int(path.stat().st_size * where) // 4096 * 4096)
        damaged.write(b"\xff" * 4096)
    assert "export FILE --salvage" in str(run("check", "--path", str(path)).exception)
    assert run("export", str(file), "--path", str(path)).exit_code == 1 and not file.exists()
    saved = run("export", str(file), "--salvage", "--path", str(path))
    assert saved.exit_code == 0, saved.exception
    new = tmp_path / "new.sqlite"
    assert run("import", str(file), "--path", str(new)).exit_code == 0
    with Journal(new) as opened:
        assert 280 < len(list(opened.entries())) < 300


def test_what_is_saved_can_be_imported(tmp_path, journal):
    """What a damaged page has changed is left out: `import` would refuse the whole file."""
    file, path = tmp_path / "saved.jsonl", ("--path", str(journal.path))
    journal.put([entry(name) for name in "abcd"])
    change = "UPDATE answers SET {} WHERE key = ?"
    journal._db.execute(change.format("request = replace(request, 'a', 'x')"), (entry("a").key,))
    journal._db.execute(change.format("text = x'ff00'"), (entry("b").key,))
    journal._db.execute(change.format("rowid = 8796093022207"), (entry("d").key,))
    assert run("export", str(file), "--salvage", *path).exit_code == 0
    other = ("--path", str(tmp_path / "other.sqlite"))
    assert "1 answers read, 1 of them new" in run("import", str(file), *other).output


def test_list_counts_by_model_prompt_and_outcome(journal):
    """The list shows how many answers there are of which kind, and what was spent."""
    with journal.asking():
        journal.put([entry("a"), entry("b", "I'm sorry, I can't help with that.")], usd=0.5)
    lines = run("list", "--path", str(journal.path)).output.splitlines()
    assert lines[1].split() == ["stub", "cot", "answered", "1", "10", "5"]
    assert lines[2].split() == ["stub", "cot", "refusal", "1", "10", "5"]
    assert "$0.5000" in lines[3]


def test_no_journal_yet(tmp_path):
    """Looking does not make a journal."""
    path = tmp_path / "teacher.sqlite"
    assert "no journal" in str(run("list", "--path", str(path)).exception)
    assert not path.exists()


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
@pytest.mark.parametrize("table", ["things (a)", "answers (key, text)"])
def test_another_programs_database_is_left_as_it_is(tmp_path, mode, table):
    """No command makes tables or files in it, or calls it sound."""
    path, file = tmp_path / "other.sqlite", tmp_path / "answers.jsonl"
    file.write_text(json.dumps(dataclasses.asdict(entry("a"))) + "\n")
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute(f"PRAGMA journal_mode = {mode}")
        other.execute(f"CREATE TABLE {table}")
    before = path.read_bytes()
    for command in (["list"], ["check"], ["export", str(tmp_path / "new")], ["import", str(file)]):
        refused = run(*command, "--path", str(path))
        assert "other.sqlite is no journal" in str(refused.exception)
    assert path.read_bytes() == before
    assert {one.name for one in tmp_path.iterdir()} == {"answers.jsonl", "other.sqlite"}


def test_an_empty_file_is_no_journal_yet(tmp_path):
    """Looking leaves it empty; an import may fill it."""
    path, file = tmp_path / "teacher.sqlite", tmp_path / "answers.jsonl"
    file.write_text(json.dumps(dataclasses.asdict(entry("a"))) + "\n")
    path.touch()
    assert "no journal" in str(run("check", "--path", str(path)).exception)
    assert path.read_bytes() == b""
    assert "1 of them new" in run("import", str(file), "--path", str(path)).output
