"""The prepared collection, as every stage after `prepare` reads it.

Passages lie in an Arrow file that is mapped into memory, never read whole: what works for 600
passages works for 9 million. Queries and judgements are few enough to be read at once.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from syntriever import files, records
from syntriever.errors import SyntrieverError

# 64-bit offsets: a batch of long passages may exceed 2 GB.
SCHEMA = pa.schema([(name, pa.large_string()) for name in ("id", "title", "text")])

# Unicode's categories of what leaves no mark: control and format characters (zero-width ones among
# them), spaces and separators.
INVISIBLE = {"Cc", "Cf", "Zs", "Zl", "Zp"}

Rows = int | Sequence[int] | np.ndarray


class Query(NamedTuple):
    """One query of a split."""

    query_id: str
    query: str


def read_queries(path: Path) -> list[Query]:
    """Read the prepared queries of one split, in file order.

    Raises:
        SyntrieverError: the file is missing or is not JSON Lines.
    """
    return [Query(one["query_id"], one["query"]) for one in records.read(path, records.Query)]


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Read the prepared judgements of one split: query id -> passage id -> grade, in file order.

    Raises:
        SyntrieverError: the file is missing, or a line is no judgement.
    """
    qrels: dict[str, dict[str, int]] = {}
    with files.opened(path) as file:
        next(file, None)  # the header
        for number, line in enumerate(file, start=2):
            try:
                query_id, passage_id, grade = line.decode("utf-8").split("\t")
                qrels.setdefault(query_id, {})[passage_id] = int(grade)
            except ValueError:
                raise SyntrieverError(
                    f"{path}, line {number}: not query-id, corpus-id and score between tabs. Run "
                    "`dvc repro prepare` again."
                ) from None
    return qrels


def passage_text(title: str, text: str) -> str:
    """Return what encoders, BM25 and the teacher see of a passage: its title first.

    >>> passage_text("", "No title, no leading space.")
    'No title, no leading space.'
    """
    return f"{title} {text}".strip()


def text_key(text: str) -> str:
    """Return what makes two texts one: all but white space."""
    return " ".join(text.split())


def is_blank(text: str) -> bool:
    """Tell whether a text holds nothing that could be seen: no passage, query or answer.

    >>> is_blank(" \\u200b\\ufeff\\n"), is_blank(" .")
    (True, False)
    """
    return all(unicodedata.category(character) in INVISIBLE for character in text)


class Corpus:
    """The passages, memory-mapped. A passage's row is its place in the file, from 0."""

    def __init__(self, table: pa.Table) -> None:
        self._ids = table.column("id")
        self._batches = table.to_batches()
        # The first row of each batch, and the end.
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self._batches)])

    @classmethod
    def open(cls, path: Path) -> "Corpus":
        """Map the prepared corpus into memory.

        Raises:
            SyntrieverError: the file is missing or is no prepared corpus.
        """
        try:
            return cls(pa.ipc.open_file(pa.memory_map(str(path))).read_all())
        except FileNotFoundError:
            raise files.missing(path) from None
        except (pa.ArrowInvalid, KeyError) as error:
            raise SyntrieverError(
                f"{path} is no prepared corpus ({error}). Run `dvc repro prepare` again."
            ) from None

    def __len__(self) -> int:
        return int(self._starts[-1])

    def ids(self, rows: Rows) -> list[str]:
        """Return the ids of the passages in these rows, in the order of `rows`.

        Raises:
            IndexError: a row is negative or past the end. So it is for all that take rows.
        """
        return self._take("id", rows)

    def titles(self, rows: Rows) -> list[str]:
        """Return the titles of the passages in these rows, '' where there is none."""
        return self._take("title", rows)

    def texts(self, rows: Rows) -> list[str]:
        """Return the passages in these rows, each its title first."""
        pairs = zip(self._take("title", rows), self._take("text", rows), strict=True)
        return [passage_text(title, text) for title, text in pairs]

    def rows(self, ids: Iterable[str]) -> dict[str, int]:
        """Return the row of each of these ids that is there, in the corpus' order.

        One scan of the id column; memory grows with `ids`, not with the corpus' strings.
        """
        wanted = pa.array(list(ids), SCHEMA.field("id").type)
        found = pc.index_in(self._ids, value_set=wanted)
        rows = np.flatnonzero(pc.is_valid(found).to_numpy())
        return dict(zip(self.ids(rows), rows.tolist(), strict=True))

    def batches(self, size: int) -> Iterator[list[str]]:
        """Yield the texts of all passages in their order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.texts(np.arange(start, min(start + size, len(self))))

    def _take(self, column: str, rows: Rows) -> list[str]:
        """Take batch by batch: pyarrow's own `take` first copies the whole column into memory."""
        rows = np.asarray(rows, dtype=np.int64).reshape(-1)
        if rows.size and not (rows.min() >= 0 and rows.max() < len(self)):
            raise IndexError(
                f"rows run from 0 to {len(self) - 1}, found {rows.min()} to {rows.max()}"
            )
        batch_of = np.searchsorted(self._starts, rows, side="right") - 1
        values = np.empty(len(rows), dtype=object)
        for number in np.unique(batch_of):
            places = np.flatnonzero(batch_of == number)
            # not pa.array: it imports pandas first, which takes most of a second
            offsets = pa.py_buffer(np.ascontiguousarray(rows[places] - self._starts[number]))
            inside = pa.Array.from_buffers(pa.int64(), len(places), [None, offsets])
            values[places] = self._batches[number].column(column).take(inside).to_pylist()
        return values.tolist()


@dataclass(frozen=True)
class Origin:
    """Who made the queries that a collection is scored on; see `python -m stages.init`.

    Attributes:
        test_queries: `labelled`: people's own queries · `written`: the teacher wrote them, so that
            every score says so.
        held_out: ids of the passages that no training query is written from.
    """

    test_queries: str
    held_out: frozenset[str]


def read_origin(file: Path) -> Origin:
    """Read a collection's collection.json, or the origin.json that `prepare` makes of it; a
    collection without one has queries of people's own.

    Raises:
        SyntrieverError: it does not say who made the test queries, or is no collection's own file
            and missing.
    """
    if file.name == "collection.json" and not file.exists():
        return Origin("labelled", frozenset())
    record = files.read_json(file)
    made_by, held_out = record.get("test_queries"), record.get("held_out", [])
    if made_by not in ("labelled", "written") or not isinstance(held_out, list):
        raise SyntrieverError(
            f'{file}: "test_queries" must be "labelled" or "written", and "held_out" a list of '
            "passage ids. `python -m stages.init` writes it; without the file all queries count "
            "as labelled."
        )
    return Origin(made_by, frozenset(map(str, held_out)))
