"""The journal: durable, keyed by what determines an answer, one asking process at a time."""

import dataclasses
import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from live_teacher import CHOSEN, ask, entry, settings

from syntriever.errors import SyntrieverError
from syntriever.teacher.journal import Journal, default_path, key

ROOT = Path(__file__).parent.parent


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "folder" / "teacher.sqlite") as opened:
        yield opened


def test_what_is_put_is_found(journal):
    """An answer comes back as it was put, whatever characters it holds."""
    one = entry("a", 'Line one\nline "two" \0 — 語 🙂')
    journal.put([one])
    assert journal.get(one.key) == one
    assert journal.get("another") is None


def test_answers_are_durable(journal):
    """The file is written through to the disk: WAL, synchronous FULL."""
    assert journal._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert journal._db.execute("PRAGMA synchronous").fetchone() == (2,)


def test_half_characters_are_mended(journal):
    """A lone surrogate, as broken servers send it, does not break the journal."""
    one = entry("a", "half \ud83d of a smile")
    journal.put([one])
    assert journal.get(one.key).text == "half ? of a smile"


def test_a_group_is_written_whole_or_not_at_all(journal):
    """An entry that cannot be written takes its group with it, and nothing stays locked."""
    broken = entry("b", created=None)
    with pytest.raises(SyntrieverError, match="journal"):
        journal.put([entry("a"), broken])
    assert list(journal.entries()) == []
    journal.put([entry("a")])
    assert len(list(journal.entries())) == 1


@pytest.mark.parametrize(
    "changed",
    [
        settings("http://other/v1"),
        settings("http://server/v1", model="other"),
        settings("http://server/v1", temperature=0.6),
        settings("http://server/v1", temperature=None),
        settings("http://server/v1", seed=1),
    ],
)
def test_what_determines_an_answer_changes_its_key(changed):
    """Server, model, temperature and seed are part of the key."""
    assert key(changed, ask("a")) != key(CHOSEN, ask("a"))


@pytest.mark.parametrize(
    "same",
    [
        settings("http://server/v1", max_tokens=7),
        settings("http://server/v1", max_tokens_field="max_tokens"),
        settings("http://SERVER"),
        settings("http://server/"),
        settings("http://server/v1/"),
    ],
)
def test_what_determines_nothing_leaves_the_key(same):
    """The limit of length, its field's name and the URL's spelling are not part of the key."""
    assert key(same, ask("a")) == key(CHOSEN, ask("a"))


def test_the_question_is_part_of_the_key():
    """Messages and sample count; prompt name and query id don't. An integer equals its float."""
    same = dataclasses.replace(ask("a", "negative"), query_id="other")
    assert key(CHOSEN, ask("a")) == key(CHOSEN, same)
    assert len({key(CHOSEN, ask(*one)) for one in (("a",), ("b",), ("a", "cot", 1))}) == 3
    whole = [settings("http://server/v1", temperature=number) for number in (0, 0.0)]
    assert key(whole[0], ask("a")) == key(whole[1], ask("a"))


def test_the_key_stays_what_it_is():
    """Keys of old journals stay valid: this one must never change."""
    assert key(CHOSEN, ask("a")) == FIXED


FIXED = "2bd5545b42849e87af4ffef72289342d32a1d4b0306a1af6ca775658887f3e75"


@pytest.mark.parametrize(
    "url", ["ftp://server", "server", "http://me:secret@server/v1", "http://s?k=secret"]
)
def test_a_base_url_that_holds_secrets_or_nothing(url):
    """A password in the URL would be written to files; the message does not repeat it."""
    with pytest.raises(SyntrieverError) as caught:
        key(settings(url), ask("a"))
    assert "secret@" not in str(caught.value)
    assert "=secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("reason", "before", "wanted", "found"),
    [
        ("cut off", 50, 50, True),
        ("cut off", 50, 40, True),
        ("cut off", 50, 51, False),
        ("cut off", 50, None, False),
        ("cut off", None, 500, True),
        ("prompt too long", 50, 50, True),
        ("prompt too long", 50, 51, True),
        ("prompt too long", 50, None, True),
        ("prompt too long", 50, 49, False),
        ("prompt too long", None, 500, False),
        ("empty", 50, 500, True),
        (None, 50, 500, True),
    ],
)
def test_answers_that_another_limit_may_mend_are_missing(journal, reason, before, wanted, found):
    """What was cut off at a lower limit; what with a higher one did not fit the model."""
    one = entry("a", reason=reason, max_tokens=before)
    journal.put([one])
    assert (journal.current(one.key, wanted) is not None) == found


def test_money_is_kept_by_run_and_in_all(journal):
    """Each run's account is its own; the sum counts what may have been paid for nothing."""
    with journal.asking():
        first = journal._run_id
        journal.put([entry("a"), entry("b")], usd=0.25)
        journal.lose(0.05)
    with journal.asking():
        journal.put([entry("c")], usd=0.5)
    assert journal.total(first).usd == 0.25
    assert journal.total(first).asked == 2
    assert journal.total().usd == 0.75
    assert journal.spent() == pytest.approx(0.80)


def test_the_second_waits_for_the_lock(tmp_path):
    """While one asks, another waits, says for whom, and goes on when the first is done."""
    path, said, order = tmp_path / "teacher.sqlite", [], []

    def second():
        with Journal(path) as other, other.asking(said.append):
            order.append("second")

    with Journal(path) as one:
        with one.asking():
            thread = threading.Thread(target=second)
            thread.start()
            while not said:
                time.sleep(0.01)
            order.append("first")
        thread.join()
    assert order == ["first", "second"]
    assert f"process {os.getpid()}" in said[0]


def test_asking_within_asking_is_one_run(journal):
    """A teacher that is asked while it asks does not wait for itself."""
    with journal.asking(), journal.asking():
        journal.put([entry("a")], usd=0.1)
    assert journal._db.execute("SELECT COUNT(*) FROM runs").fetchone() == (1,)


def test_many_processes_may_open_a_new_journal_at_once(tmp_path):
    """Processes that start together on a new journal do not trip over each other."""
    code = (
        "import sys; from syntriever.teacher.journal import Journal\n"
        "for i in range(20):\n"
        "    with Journal(f'{sys.argv[1]}/{i}/teacher.sqlite') as j: j.begin_run()"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, str(tmp_path)]
    started = [subprocess.Popen(command, env=environment, stderr=-1, text=True) for _ in range(4)]
    assert [process.communicate()[1] for process in started] == [""] * 4


def test_a_new_journal_waits_while_another_process_makes_it(tmp_path):
    """SQLite refuses to switch to WAL, at once and whatever its timeout, while another writes."""
    path = tmp_path / "teacher.sqlite"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    later = threading.Timer(0.3, other.rollback)
    later.start()
    with Journal(path) as journal:
        assert journal.faults() == []
    later.join()
    other.close()


def test_batches(journal):
    """What is known of a batch is kept until it is done."""
    journal.save_batch("hash", None, "creating", requests=3)
    journal.save_batch("hash", "batch_1", "in_progress", requests=3)
    (batch,) = journal.open_batches()
    assert (batch.batch_id, batch.status, batch.details) == (
        "batch_1",
        "in_progress",
        {"requests": 3},
    )
    journal.save_batch("hash", "batch_1", "done")
    assert journal.open_batches() == []


def test_the_journal_lies_beside_dvc(monkeypatch):
    """DVC's temporary copies use the main repository's journal."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert default_path() == Path(".journal/teacher.sqlite")
    monkeypatch.setenv("DVC_ROOT", "/repository")
    assert default_path() == Path("/repository/.journal/teacher.sqlite")


def test_a_file_that_is_no_journal(tmp_path):
    """Something else under its name, or a later version, is refused in words."""
    path = tmp_path / "teacher.sqlite"
    path.write_text("this is not a database, though it is long enough to look at" * 20)
    with pytest.raises(SyntrieverError, match="not a database"):
        Journal(path)
    path.unlink()
    with sqlite3.connect(path) as later:
        later.execute("PRAGMA user_version = 9")
    with pytest.raises(SyntrieverError, match="version 9"):
        Journal(path)
