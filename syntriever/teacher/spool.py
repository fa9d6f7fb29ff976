"""What waits for a batch, and what is in one: an SQLite file, so that memory stays flat.

It lies beside the journal and outlives a kill, so that a later run knows what the batches hold that
an earlier one submitted. Losing it costs nothing: the batches' own request files say the same.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

from syntriever.errors import SyntrieverError

ID_DIGITS = 40  # of a key; the API allows 64 characters, and so many hex digits never collide
BY_ID = f"substr(key, 1, {ID_DIGITS}) = ?"
AWAITED = "wanted AND done <> 1"

# batch: the content hash. done: 1: the answer is in the journal, and the row goes when the batch is
# over; 2: the same, but the answer is cut off, and next_body is to be sent after that. The indices
# cover all counts, so that none of them reads the bodies.
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS items (
    key TEXT PRIMARY KEY, prompt TEXT NOT NULL, query_id TEXT NOT NULL, sample INTEGER NOT NULL,
    body TEXT NOT NULL, cost REAL NOT NULL, next_body TEXT, attempts INTEGER NOT NULL DEFAULT 0,
    batch TEXT, done INTEGER NOT NULL DEFAULT 0, wanted INTEGER NOT NULL DEFAULT 1
);
CREATE UNIQUE INDEX IF NOT EXISTS by_id ON items (substr(key, 1, {ID_DIGITS}));
CREATE INDEX IF NOT EXISTS by_batch ON items (batch);
CREATE INDEX IF NOT EXISTS by_state ON items (batch, done, wanted, attempts, cost);
CREATE TABLE IF NOT EXISTS closed (
    batch TEXT NOT NULL, batch_id TEXT NOT NULL, PRIMARY KEY (batch, batch_id)
);
"""


@dataclass(frozen=True)
class Item:
    """One request that had no answer when it was asked.

    Attributes:
        key: its key in the journal.
        prompt, query_id, sample: as in `Request`.
        body: what is sent, as JSON.
        cost: USD at most, at the batch price.
        next_body: what to send instead if this one's answer is cut off; only while it is in a batch
            of an earlier run, whose limit of tokens was another.
        done: not 0: its answer is in the journal.
    """

    key: str
    prompt: str
    query_id: str
    sample: int
    body: str
    cost: float
    next_body: str | None = None
    done: int = 0

    @property
    def custom_id(self) -> str:
        """Its name in a batch."""
        return self.key[:ID_DIGITS]

    @property
    def line(self) -> bytes:
        """Its line in a request file. The body is JSON already and goes in as it is."""
        return (
            f'{{"custom_id": "{self.custom_id}", "method": "POST", '
            f'"url": "/v1/chat/completions", "body": {self.body}}}\n'
        ).encode()


COLUMNS = "key, prompt, query_id, sample, body, cost, next_body, done"


def spool_path(journal_path: Path) -> Path:
    """Return where the spool lies: beside the journal."""
    return journal_path.with_name(journal_path.name + ".batches")


class Spool:
    """The requests without an answer; a context manager. Used by one process at a time."""

    def __init__(self, path: Path) -> None:
        """Open the file; what waited for a batch in an earlier run is forgotten.

        Raises:
            SyntrieverError: it is no such file, or cannot be written.
        """
        self._path = path
        with self._readable_errors():
            self._db = sqlite3.connect(path)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(SCHEMA)
        with self._transaction():
            self._db.execute("DELETE FROM items WHERE batch IS NULL")
            self._db.execute("UPDATE items SET wanted = 0")

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def want(self, items: Iterable[Item]) -> None:
        """Add requests, each key once. One that is in a batch already stays there."""
        with self._transaction():
            self._db.executemany(
                f"INSERT INTO items ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (key) DO UPDATE "
                "SET wanted = 1, done = IIF(done AND excluded.body <> body, 2, 0), "
                "next_body = NULLIF(excluded.body, body), cost = MAX(cost, excluded.cost)",
                (astuple(item) for item in items),
            )

    def waiting(self, max_attempts: int) -> Iterator[Item]:
        """Yield what is in no batch and may be sent (again), in the order of asking."""
        rows = self._db.execute(
            f"SELECT {COLUMNS} FROM items INDEXED BY by_batch "
            "WHERE batch IS NULL AND attempts < ? ORDER BY rowid",
            (max_attempts,),
        )
        return (Item(*row) for row in rows)

    def count_waiting(self, max_attempts: int) -> int:
        """Count what `waiting` would yield."""
        return self._one("COUNT(*)", "batch IS NULL AND attempts < ?", max_attempts)

    def count_given_up(self, max_attempts: int) -> int:
        """Count what was sent as often as it may be."""
        return self._one("COUNT(*)", "batch IS NULL AND attempts >= ?", max_attempts)

    def count_wanted(self) -> int:
        """Count what this run asked and has no answer (or a cut-off one), in a batch or not."""
        return self._one("COUNT(*)", AWAITED)

    def count_in(self, batch: str) -> int:
        """Count the requests in a batch."""
        return self._one("COUNT(*)", "batch = ?", batch)

    def cost_of(self, batch: str) -> float:
        """Return what a batch may still cost at most, in USD."""
        return self._one("COALESCE(SUM(cost), 0)", "batch = ? AND done = 0", batch)

    def is_awaited(self, batch: str) -> bool:
        """Tell whether a batch holds what this run asked and has no answer (or a cut-off one)."""
        return self._one("COUNT(*)", f"batch = ? AND {AWAITED}", batch) > 0

    def cost_in_batches(self) -> float:
        """Return what the batches may still cost at most, in USD."""
        return self._one("COALESCE(SUM(cost), 0)", "batch IS NOT NULL AND done = 0")

    def batches(self) -> list[str]:
        """Return the content hashes of all batches that hold requests."""
        rows = self._db.execute("SELECT DISTINCT batch FROM items WHERE batch IS NOT NULL")
        return [row[0] for row in rows]

    def is_closed(self, batch: str, batch_id: str) -> bool:
        """Tell whether a batch of this content is over and its answers are in the journal."""
        query = "SELECT COUNT(*) FROM closed WHERE batch = ? AND batch_id = ?"
        return self._db.execute(query, (batch, batch_id)).fetchone()[0] > 0

    def find(self, batch: str, custom_id: str) -> Item | None:
        """Return a batch's request by its name; None: the batch has none such."""
        row = self._db.execute(
            f"SELECT {COLUMNS} FROM items WHERE batch = ? AND {BY_ID}", (batch, custom_id)
        ).fetchone()
        return row and Item(*row)

    def assign(self, keys: Iterable[str], batch: str) -> None:
        """Note that requests are in a batch."""
        with self._transaction():
            self._db.executemany(
                "UPDATE items SET batch = ? WHERE key = ?", ((batch, key) for key in keys)
            )

    def adopt(self, custom_ids: Iterable[str], batch: str) -> None:
        """Note the same for the names that a batch's request file holds."""
        with self._transaction():
            self._db.executemany(
                f"UPDATE items SET batch = ? WHERE batch IS NULL AND {BY_ID}",
                ((batch, one) for one in custom_ids),
            )

    def mark_done(self, keys: Iterable[tuple[str, bool]]) -> None:
        """Note that answers are in the journal.

        Args:
            keys: (key, whether its `next_body` is to be asked all the same).
        """
        with self._transaction():
            self._db.executemany(
                "UPDATE items SET done = IIF(?, 2, 1) WHERE key = ?",
                ((again, key) for key, again in keys),
            )

    def release(self, batch: str, batch_id: str | None = None, attempted: bool = False) -> int:
        """Let what a batch left without an answer wait again; return how many requests.

        Args:
            batch: its content hash.
            batch_id: of a batch that is over; it is never looked at again.
            attempted: it counts as one of the attempts that each request has.
        """
        with self._transaction():
            self._db.execute(
                "UPDATE items SET batch = NULL, done = 0, body = next_body, next_body = NULL "
                "WHERE batch = ? AND done = 2",
                (batch,),
            )
            self._db.execute("DELETE FROM items WHERE batch = ? AND done = 1", (batch,))
            count = self._db.execute(
                "UPDATE items SET batch = NULL, attempts = attempts + ?, "
                "body = COALESCE(next_body, body), next_body = NULL WHERE batch = ?",
                (int(attempted), batch),
            ).rowcount
            self._db.execute("DELETE FROM items WHERE batch IS NULL AND NOT wanted")
            if batch_id is not None:
                self._db.execute("INSERT OR IGNORE INTO closed VALUES (?, ?)", (batch, batch_id))
        return count

    def _one(self, what: str, where: str, *values: object) -> float:
        return self._db.execute(f"SELECT {what} FROM items WHERE {where}", values).fetchone()[0]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._readable_errors(), self._db:
            yield

    @contextmanager
    def _readable_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise SyntrieverError(
                f"{self._path}, the notes on what is in batches: {error}. Free its disk or mend "
                "its permissions; if it is damaged, delete it: it is made anew from the batches."
            ) from None
