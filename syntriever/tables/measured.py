"""A table's cells: what is stored of each, published beside, and what a row gains over another."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from syntriever.tables.cells import Run, changes
from syntriever.tables.rows import Book, Row, Table
from syntriever.tolerance import TOLERATED_FALL

SAMPLES = 10_000

TOLERATED_POINTS = 100 * TOLERATED_FALL

SEEDLESS = ("bm25", "untrained")
"""The systems that no seed changes: their scores with one stand beside those with any other."""

Now = Callable[[Run, str | None], dict]
"""What `cells.made_from` gives for a run, scored on its own or on another collection, today."""


@dataclass
class Cell:
    """One row on one collection, over its seeds. Scores are in percent."""

    row: Row
    column: str
    trained_on: str
    records: list[dict] = field(default_factory=list)
    """Those of the seeds that ran well."""
    failed: list[str] = field(default_factory=list)
    """The last line of each run that failed."""
    stale: str = ""
    """What has changed since, in words."""
    older_code: bool = False
    split: str = "test"

    @property
    def scored_on(self) -> str | None:
        """The other collection that it is scored on, if it is."""
        return self.column if self.column != self.trained_on else None

    def mean(self, metric: str, system: str | None = None) -> float | None:
        """Return a metric's mean over the seeds, of the row's system or of another one."""
        found = [self._scores(record, system).get(metric) for record in self.records]
        if not found or None in found:
            return None
        return 100 * float(np.mean(found))

    def interval(self) -> tuple[float, float] | None:
        """Return the 95% interval of nDCG@10: over queries, after the mean over seeds."""
        if self.records and "interval" in self._scores(self.records[0]) and len(self.records) == 1:
            low, high = self._scores(self.records[0])["interval"]
            return 100 * low, 100 * high
        scores = self.per_query()
        if scores is None:
            return None
        low, high, _ = _bootstrap(scores)
        return 100 * low, 100 * high

    @property
    def seeds(self) -> set[int]:
        """Those that ran well."""
        return {record["seed"] for record in self.records}

    @property
    def seedless(self) -> bool:
        """Whether its system is one that no seed changes."""
        return self.row.system in SEEDLESS

    def per_seed(self, metric: str) -> dict[int, float]:
        """Return a metric of each seed, in percent."""
        return {record["seed"]: 100 * self._scores(record)[metric] for record in self.records}

    def per_query(
        self, unseen_only: bool = False, seeds: set[int] | None = None
    ) -> np.ndarray | None:
        """Return each judged query's nDCG@10, (queries,), its mean over all or these seeds."""
        every = seeds is None or self.seedless
        chosen = [r for r in self.records if every or r["seed"] in seeds]
        tables = [r["per_query"][self.split] for r in chosen if "per_query" in r]
        if not tables or any(t["queries"] != tables[0]["queries"] for t in tables):
            return None
        means = np.mean([table[self.row.system] for table in tables], axis=0)
        return means[np.array(tables[0]["unseen"], bool)] if unseen_only else means

    def _scores(self, record: dict, system: str | None = None) -> dict:
        return record["scores"].get(self.split, {}).get(system or self.row.system, {})


@dataclass(frozen=True)
class Gain:
    """A row's nDCG@10 over another's, in points, its 95% interval and two-sided p.

    Both are of the queries: how much another seed would change is seen beside, in `per_seed`.
    """

    gain: float
    low: float
    high: float
    p: float
    seeds: int = 1
    """How many were averaged: those that both rows have."""


def runs(book: Book, table: Table, row: Row, column: str) -> list[Run]:
    """Return the runs, one a seed, that a cell is made from."""
    collection = row.trained_on or column
    overrides = book.overrides(table, row, collection)
    return [Run(collection, overrides, seed) for seed in row.seeds]


def cell(book: Book, table: Table, row: Row, column: str, now: Now) -> Cell:
    """Look up what is stored of a cell."""
    found = Cell(row, column, row.trained_on or column, split=table.split)
    for run in runs(book, table, row, column):
        record = run.stored(found.scored_on)
        if record is None:
            continue
        if "failed" in record:
            found.failed.append(_telling(record["failed"]))
        if not comparable(found.records, record, table.split):
            continue
        stale, older = changes(
            record["made_from"], now(run, found.scored_on), row.system, found.scored_on
        )
        found.records.append(record)
        found.stale = found.stale or stale
        found.older_code |= older
    return found


def comparable(others: list[dict], record: dict, split: str) -> bool:
    """Tell whether a record has scores on this split, in the precision of the other seeds'."""
    if split not in record.get("scores", {}):
        return False
    return not others or precision(others[0]) == precision(record)


def precision(record: dict) -> str:
    """Return what a record was trained and scored in: bf16 scores differ in the third digit."""
    return record.get("compute", {}).get("compute.precision", "float32")


def _telling(lines: list[str]) -> str:
    """Return the stage's own message among the last lines of a run: DVC's come after it."""
    own = [line for line in lines if not line.startswith("ERROR:")]
    errors = [line for line in own if line.startswith("error:")]
    found = next(iter([*errors[-1:], *own[-1:], *lines[-1:]]), "no message")
    after = lines[lines.index(found) + 1 :] if found.endswith(":") and found in lines else []
    return " ".join([found, *after[:1]])  # a heading tells nothing without its first line


def gain(one: Cell, other: Cell, unseen_only: bool = False) -> Gain | None:
    """Compare two rows by a paired bootstrap over queries, each query's mean over the seeds that
    both have taken first: one seed may lie points from another. None where they share none, or
    have not scored the same queries, or not in the same precision. What no seed changes is compared
    with all of the other row's."""
    shared = _shared_seeds(one, other)
    ours, theirs = (cell.per_query(unseen_only, shared) for cell in (one, other))
    if ours is None or theirs is None or ours.shape != theirs.shape or not len(ours):
        return None
    first, second = one.records[0], other.records[0]
    if precision(first) != precision(second):
        return None
    if first["per_query"][one.split]["queries"] != second["per_query"][other.split]["queries"]:
        return None
    low, high, p = _bootstrap(ours - theirs)
    return Gain(100 * float((ours - theirs).mean()), 100 * low, 100 * high, p, len(shared))


def _shared_seeds(one: Cell, other: Cell) -> set[int]:
    if one.seedless or other.seedless:
        return other.seeds if one.seedless else one.seeds
    return one.seeds & other.seeds


def gain_elsewhere(found: Cell) -> Gain | None:
    """Return what a trained encoder gained over the untrained one on a collection that it was not
    trained on, as the stage `transfer` counted it; None for several seeds."""
    if found.scored_on is None or len(found.records) != 1:
        return None
    scores = found._scores(found.records[0])
    if "gain" not in scores:
        return None
    return Gain(*(100 * scores[name] for name in ("gain", "low", "high")), scores["p"])


def _bootstrap(differences: np.ndarray) -> tuple[float, float, float]:
    from syntriever.significance import paired_bootstrap  # loads pandas: not for --help

    return paired_bootstrap(differences, SAMPLES)


def fall(found: Cell) -> float | None:
    """Return how many points a trained encoder lost on a collection that it was not trained on,
    where that is more than TOLERATED_POINTS."""
    if found.scored_on is None or found.row.system not in ("stage1", "stage2"):
        return None
    here, before = found.mean("ndcg_at_10"), found.mean("ndcg_at_10", "untrained")
    lost = before - here if here is not None and before is not None else 0.0
    return lost if lost > TOLERATED_POINTS else None
