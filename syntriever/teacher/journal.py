"""Every answer that was paid for, in an SQLite file that outlives runs, kills and experiments."""

import json
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from syntriever.errors import SyntrieverError
from syntriever.teacher.base import CUT_OFF, PROMPT_TOO_LONG
from syntriever.teacher.keys import key
from syntriever.teacher.lock import AskingLock, Note

__all__ = ["Batch", "Entry", "Journal", "Run", "default_path", "key", "now"]

SCHEMA_VERSION = 1
SMALLEST_ROW = 100  # bytes; a key alone has 64
BUSY_S = 60  # another process may be writing

SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, prompt TEXT NOT NULL, query_id TEXT NOT NULL, model TEXT NOT NULL,
    request TEXT NOT NULL, text TEXT, finish_reason TEXT, reason TEXT,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, estimated INTEGER NOT NULL,
    max_tokens INTEGER, batch_id TEXT, created TEXT NOT NULL, base_url TEXT, sample INTEGER
);
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY, started TEXT NOT NULL, ended TEXT, pid INTEGER NOT NULL,
    asked INTEGER NOT NULL DEFAULT 0, prompt_tokens INTEGER NOT NULL DEFAULT 0,
    completion_tokens INTEGER NOT NULL DEFAULT 0, usd REAL NOT NULL DEFAULT 0,
    lost INTEGER NOT NULL DEFAULT 0, lost_usd REAL NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS batches (
    content_hash TEXT PRIMARY KEY, batch_id TEXT, status TEXT NOT NULL, details TEXT NOT NULL,
    updated TEXT NOT NULL
);
"""


@dataclass(frozen=True)
class Entry:
    """One answer, and all that is known about how it came.

    Attributes:
        key: see `key`.
        prompt, query_id: what it was asked for; of interest to people only.
        model: as asked for.
        request: the body as sent.
        text: None where the server gave none.
        finish_reason: the server's own word; None where it refused the request.
        reason: why there is no text, or what is wrong with it; a constant of base.py.
        prompt_tokens, completion_tokens: paid for.
        estimated: the server did not say how many tokens; they are estimated.
        max_tokens: the limit that it was asked with; None is the server's own.
        batch_id: of the batch that brought it; None if it was asked live.
        created: UTC, ISO 8601.
        base_url, sample: part of the key; None if unknown.
    """

    key: str
    prompt: str
    query_id: str
    model: str
    request: dict
    text: str | None
    finish_reason: str | None
    reason: str | None
    prompt_tokens: int
    completion_tokens: int
    estimated: bool
    max_tokens: int | None
    batch_id: str | None
    created: str
    base_url: str | None = None
    sample: int | None = None

    def outgrown(self, max_tokens: int | None) -> bool:
        """Tell whether another answer may come now that `max_tokens` is the limit.

        A longer one, where this was cut off at a lower limit; one at all, where prompt and limit
        together did not fit the model and the limit was higher.
        """
        if self.reason == CUT_OFF and self.max_tokens is not None:
            return max_tokens is None or max_tokens > self.max_tokens
        if self.reason == PROMPT_TOO_LONG and max_tokens is not None:
            return self.max_tokens is None or max_tokens < self.max_tokens
        return False


@dataclass(frozen=True)
class Batch:
    """A batch as the journal knows it; `details` is whatever its user saved with it."""

    content_hash: str
    batch_id: str | None
    status: str
    details: dict


@dataclass(frozen=True)
class Run:
    """What was asked and spent: by one run, or by all.

    `lost` are requests that may have been paid for without an answer that could be kept, and
    `lost_usd` what they cost at most.
    """

    asked: int
    prompt_tokens: int
    completion_tokens: int
    usd: float
    lost: int
    lost_usd: float


COLUMNS = tuple(field.name for field in fields(Entry))
RUN_COLUMNS = tuple(field.name for field in fields(Run))


def default_path() -> Path:
    """Return where the journal lies: beside .dvc, also for runs in DVC's temporary copies."""
    return Path(os.environ.get("DVC_ROOT") or ".") / ".journal" / "teacher.sqlite"


def now() -> str:
    """Return the present time, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def to_stderr(message: str) -> None:
    """Print a message for people."""
    print(message, file=sys.stderr, flush=True)


class Journal:
    """The answers, the runs and the batches. Threads may share one."""

    def __init__(self, path: Path) -> None:
        """Open the journal, making it if there is none.

        Raises:
            SyntrieverError: the file is no journal, is of a later version, or cannot be written.
        """
        self.path = Path(path)
        self._lock = threading.Lock()
        self._asking = AskingLock(self.path.with_name(self.path.name + ".lock"))
        self._asking_depth = 0
        self._run_id: int | None = None
        with self._readable_errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(
                self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._set_up()

    def _set_up(self) -> None:
        try:
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version not in (0, SCHEMA_VERSION):
                raise SyntrieverError(
                    f"{self.path} is a journal of version {version}; this code knows version "
                    f"{SCHEMA_VERSION}. Use the code that wrote it, or move it away."
                )
            self._switch_to_wal()
            self._db.execute("PRAGMA synchronous = FULL")
            if version == 0:
                self._db.executescript(f"{SCHEMA} PRAGMA user_version = {SCHEMA_VERSION};")
        except BaseException:
            self._db.close()
            raise

    def _switch_to_wal(self) -> None:
        """Try for up to `BUSY_S`: SQLite itself does not wait here when another process writes."""
        end = time.monotonic() + BUSY_S
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
            time.sleep(0.01)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def get(self, key: str) -> Entry | None:
        """Return the answer of this key, if there is one."""
        rows = self._rows(f"SELECT {', '.join(COLUMNS)} FROM answers WHERE key = ?", key)
        return _entry(rows[0]) if rows else None

    def current(self, key: str, max_tokens: int | None) -> Entry | None:
        """Return the answer of this key, unless `max_tokens` may bring another now."""
        entry = self.get(key)
        return None if entry is None or entry.outgrown(max_tokens) else entry

    def put(self, entries: Sequence[Entry], usd: float = 0.0) -> None:
        """Commit answers that were just paid for; they are on the disk when this returns.

        Args:
            entries: each takes the place of an earlier one of its key.
            usd: what they cost together; booked on the present run, if one has begun.

        Raises:
            SyntrieverError: the file cannot be written.
        """
        with self._transaction():
            self._insert(entries, "REPLACE")
            self._db.execute(
                "UPDATE runs SET asked = asked + ?, prompt_tokens = prompt_tokens + ?,"
                " completion_tokens = completion_tokens + ?, usd = usd + ? WHERE id = ?",
                (
                    len(entries),
                    sum(entry.prompt_tokens for entry in entries),
                    sum(entry.completion_tokens for entry in entries),
                    usd,
                    self._run_id,
                ),
            )

    def add(self, entries: Sequence[Entry]) -> int:
        """Add answers of elsewhere that are not here yet; return how many were."""
        with self._transaction():
            before = self._db.total_changes
            self._insert(entries, "IGNORE")
            return self._db.total_changes - before

    def _insert(self, entries: Sequence[Entry], conflict: str) -> None:
        places = ", ".join("?" * len(COLUMNS))
        self._db.executemany(
            f"INSERT OR {conflict} INTO answers ({', '.join(COLUMNS)}) VALUES ({places})",
            [_row(entry) for entry in entries],
        )

    def entries(self) -> Iterator[Entry]:
        """Yield all answers, in the order in which they came."""
        last = 0
        query = f"SELECT rowid, {', '.join(COLUMNS)} FROM answers WHERE rowid > ? ORDER BY rowid"
        while rows := self._rows(f"{query} LIMIT 500", last):
            last = rows[-1][0]
            yield from (_entry(row[1:]) for row in rows)

    def salvaged(self) -> Iterator[Entry]:
        """Yield the answers that a damaged file still gives, in the order in which they came."""
        last = most = self.path.stat().st_size // SMALLEST_ROW
        with suppress(SyntrieverError):
            last = self._rows("SELECT MAX(rowid) FROM answers")[0][0] or 0
        # a damaged row may have any number
        for row_id in range(1, (last if 0 < last <= most else most) + 1):
            query = f"SELECT {', '.join(COLUMNS)} FROM answers WHERE rowid = ?"
            with suppress(SyntrieverError, ValueError, TypeError):
                yield from map(_entry, self._rows(query, row_id))

    def forget(self, reason: str, model: str | None = None, prompt: str | None = None) -> int:
        """Drop the entries without an answer for this reason (a constant of base.py), of one model
        and prompt if they are named: they are asked again. Return how many there were."""
        with self._transaction():
            return self._db.execute(
                "DELETE FROM answers WHERE reason = ?1 AND model = COALESCE(?2, model)"
                " AND prompt = COALESCE(?3, prompt)",
                (reason, model, prompt),
            ).rowcount

    def lose(self, usd: float, count: int = 1) -> None:
        """Book requests that were sent, may have been paid for, and brought nothing."""
        with self._transaction():
            self._book_loss(count, usd)

    def spent(self) -> float:
        """Return the USD that all runs have spent, what may have been paid for nothing included."""
        run = self.total()
        return run.usd + run.lost_usd

    def total(self, run_id: int | None = None) -> Run:
        """Return the sum of all runs, or what one run has asked and spent."""
        sums = ", ".join(f"COALESCE(SUM({name}), 0)" for name in RUN_COLUMNS)
        where, values = ("WHERE id = ?", (run_id,)) if run_id is not None else ("", ())
        return Run(*self._rows(f"SELECT {sums} FROM runs {where}", *values)[0])

    def begin_run(self) -> int:
        """Open the account of a run that asks; `put` books on it. Return its number."""
        with self._transaction():
            cursor = self._db.execute(
                "INSERT INTO runs (started, pid) VALUES (?, ?)", (now(), os.getpid())
            )
            self._run_id = cursor.lastrowid
        return self._run_id

    @contextmanager
    def asking(self, say: Callable[[str], None] = to_stderr) -> Iterator[None]:
        """Be the one process that asks, as long as the block runs; wait for another one first.

        After the wait its answers are here, so look again before asking. Begins a run. A block
        within a block is part of it.

        Args:
            say: is told of the wait, and of what a killed run had in flight.
        """
        self._asking_depth += 1
        try:
            if self._asking_depth > 1:
                yield
                return
            with self._asking.held(say) as left:
                self.begin_run()
                self._take_over(left, say)
                yield
                with self._transaction():
                    self._db.execute(
                        "UPDATE runs SET ended = ? WHERE id = ?", (now(), self._run_id)
                    )
        finally:
            self._asking_depth -= 1

    def note_in_flight(self, count: int, usd: float) -> None:
        """Note how many requests are in flight and what they cost at most, in case of a kill."""
        self._asking.note(count, usd)

    def _take_over(self, left: Note, say: Callable[[str], None]) -> None:
        if left.in_flight:
            with self._transaction():
                self._book_loss(left.in_flight, left.usd)
            say(
                f"the last run was killed with {left.in_flight} requests in flight. Those without "
                f"an answer are asked again; if the server charges for them, they have cost at "
                f"most ${left.usd:.4f}"
            )

    def _book_loss(self, count: int, usd: float) -> None:
        self._db.execute(
            "UPDATE runs SET lost = lost + ?, lost_usd = lost_usd + ? WHERE id = ?",
            (count, usd, self._run_id),
        )

    def save_batch(
        self, content_hash: str, batch_id: str | None, status: str, **details: object
    ) -> None:
        """Keep what is known of a batch; it takes the place of what was known before."""
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO batches VALUES (?, ?, ?, ?, ?)",
                (content_hash, batch_id, status, json.dumps(details), now()),
            )

    def open_batches(self) -> list[Batch]:
        """Return the batches whose status is not `done`."""
        query = "SELECT content_hash, batch_id, status, details FROM batches WHERE status <> 'done'"
        return [
            Batch(*row[:3], json.loads(row[3])) for row in self._rows(f"{query} ORDER BY rowid")
        ]

    def summary(self) -> list[tuple]:
        """Return (model, prompt, reason, answers, prompt tokens, completion tokens) of groups."""
        return self._rows(
            "SELECT model, prompt, COALESCE(reason, 'answered'), COUNT(*), SUM(prompt_tokens),"
            " SUM(completion_tokens) FROM answers GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        )

    def faults(self) -> list[str]:
        """Return what SQLite finds wrong with the file; nothing if it is sound."""
        return [line for (line,) in self._rows("PRAGMA integrity_check") if line != "ok"]

    def _rows(self, query: str, *values: object) -> list[tuple]:
        with self._lock, self._readable_errors():
            return self._db.execute(query, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, self._readable_errors():
            self._db.execute("BEGIN IMMEDIATE")
            with self._db:  # commits, or rolls back after an error
                yield

    @contextmanager
    def _readable_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise SyntrieverError(
                f"{self.path}, the journal of the teacher's answers: {error}. Free its disk or "
                "mend its permissions; if it is damaged, `python -m stages.journal export FILE "
                "--salvage`, move it away, and import FILE."
            ) from None


def _row(entry: Entry) -> tuple:
    values = [getattr(entry, name) for name in COLUMNS]
    values[COLUMNS.index("request")] = json.dumps(entry.request, ensure_ascii=False)
    return tuple(values)


def _entry(row: Sequence) -> Entry:
    values = dict(zip(COLUMNS, row, strict=True))
    values["request"] = json.loads(values["request"])
    values["estimated"] = bool(values["estimated"])
    return Entry(**values)
