"""Which runs a table still lacks, and how long their kind took."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from syntriever import params
from syntriever.errors import SyntrieverError
from syntriever.tables import cells, measured, overrides
from syntriever.tables.cells import Run
from syntriever.tables.measured import Now
from syntriever.tables.measured import runs as runs_of
from syntriever.tables.rows import Book, Row, Table, lines_named


@dataclass
class Step:
    """One run to do, for one or several rows."""

    run: Run
    rows: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    """Other collections to score on."""
    own: bool = False
    """Whether its scores on its own collection are asked for too."""
    why: str = ""

    def add(self, row: str, target: str | None) -> None:
        """Let it fill one more row's cell; `target`: on this other collection."""
        self.rows += [row] if row not in self.rows else []
        self.targets += [target] if target and target not in self.targets else []
        self.own |= target is None

    @property
    def names(self) -> str:
        """What it is, in words."""
        others = f", scored on {', '.join(self.targets)}" if self.targets else ""
        return f"{self.run.collection}: {', '.join(self.rows)}, seed {self.run.seed}{others}"


@dataclass
class Plan:
    """What to run, and what is left out, with the reason."""

    steps: list[Step]
    skipped: dict[str, list[str]]
    """By the reason."""


def missing(
    book: Book,
    table: Table,
    now: Now,
    folders: dict[str, str],
    collection: str | None = None,
    row: str | None = None,
    seed: int | None = None,
    renew: bool = False,
    precision: str = "float32",
) -> Plan:
    """Return the runs whose scores are missing, failed or stale.

    Args:
        book: all of tables/.
        table: the table to complete.
        now: see `measured.Now`.
        folders: of the collections that are here.
        collection: only cells trained or scored on this one.
        row: only this row.
        seed: only this one of a row's seeds.
        renew: also what older code made.
        precision: what the runs are to be computed in. A seed whose other seeds are stored in
            another one is left out: they could not be averaged. Where these disagree among
            themselves, those that are in another one are run again.

    Raises:
        SyntrieverError: the row, the seed or the collection is not in the table, or the collection
            is not here.
    """
    _check_choice(book, table, collection, row, seed, folders)
    steps: dict[tuple, Step] = {}
    skipped: dict[str, list[str]] = defaultdict(list)
    seeds = _seeds(book, table)
    for one, column, trained_on in _cells(table, collection, row):
        reason = _reason_to_skip(book, one, column, trained_on, folders, collection, row)
        if reason:
            name, why = reason
            skipped[why] += [name] if name not in skipped[why] else []
            continue
        target = column if column != trained_on else None
        asked = [r for r in runs_of(book, table, one, column) if seed in (None, r.seed)]
        whys = {r.seed: _why(r, target, one, table.split, now, renew) for r in asked}
        stay = _staying(asked, whys, seeds, target)
        for run in asked:
            why, refusal = _settle(run.seed, whys[run.seed], stay, precision)
            if refusal:
                skipped[refusal].append(f"{one.name}, seed {run.seed}, on {column}")
            elif why:
                step = steps.setdefault((run.collection, run.key), Step(run, why=why))
                step.add(one.name, target)
    return Plan(list(steps.values()), dict(skipped))


def targets(table: Table, row: Row) -> list[str]:
    """Return the other collections that a row is scored on."""
    return [c for c in table.columns_of(row) if c != row.trained_on] if row.trained_on else []


def describe(step: Step) -> str:
    """Say what a step runs, why, and how long its kind took last."""
    seconds, kind = _last(step.run)
    took = "" if seconds is None else f"; {kind} took {seconds / 60:.0f} min"
    return f"{step.names} ({step.why}{took})"


def check(book: Book, table: Table) -> None:
    """Refuse a row whose params would be refused by the stages.

    Raises:
        SyntrieverError: names the table, the line, the row and the param.
    """
    base = params.load_all()
    for row in table.rows:
        for column in table.columns_of(row) if row.system else []:
            chosen = book.overrides(table, row, row.trained_on or column)
            with lines_named():
                overrides.resolve(base, chosen, f"tables/{table.name}.yaml, row {row.name}")


def not_found(book: Book, collection: str) -> str:
    """Say how a collection gets here."""
    known = book.collections[collection]
    if known.path:
        return f"{known.path}, its `path` in tables/collections.yaml, is no folder here."
    how = known.made_by or (
        "Set the environment variable SYNTRIEVER_COLLECTIONS to the folder that holds it, or "
        "`python -m stages.collection get NAME`."
    )
    return f"no such folder here. {how}"


def duration(steps: list[Step]) -> str:
    """Say how many runs there are and how long they took last, in all."""
    known = [seconds for step in steps if (seconds := _last(step.run)[0]) is not None]
    if not known:
        return f"{len(steps)} to run"
    others = "" if len(known) == len(steps) else f" for the {len(known)} whose kind ran before"
    return f"{len(steps)} to run, about {sum(known) / 60:.0f} min{others}"


def _check_choice(
    book: Book,
    table: Table,
    collection: str | None,
    row: str | None,
    seed: int | None,
    folders: dict[str, str],
) -> None:
    chosen = [table.row(row)] if row is not None else table.rows
    if row is not None and chosen[0].system is None:
        raise SyntrieverError(f"{table.name}, row {row} has published values only: nothing to run.")
    seeds = {one for row in chosen for one in row.seeds}
    if seed is not None and seed not in seeds:
        which = table.name if row is None else f"{table.name}, row {row}"
        known = ", ".join(map(str, sorted(seeds)))
        raise SyntrieverError(f"{which} has no seed {seed}. It has {known}.")
    trained = {one.trained_on for one in table.rows if one.trained_on}
    if collection is None:
        return
    if collection not in {*table.columns, *trained}:
        known = ", ".join(dict.fromkeys([*table.columns, *sorted(trained)]))
        raise SyntrieverError(f"{table.name} has no collection {collection!r}. It has {known}.")
    if row is not None and collection not in (chosen[0].trained_on, *table.columns_of(chosen[0])):
        raise SyntrieverError(f"{table.name}, row {row} has no cell on {collection}.")
    if collection not in folders:
        raise SyntrieverError(f"{collection}: {not_found(book, collection)}")


def _cells(table: Table, collection: str | None, row: str | None) -> Iterator[tuple[Row, str, str]]:
    """Yield the row, the column and the collection trained on of each cell that is asked for."""
    for one in table.rows:
        for column in table.columns_of(one) if one.system else []:
            trained_on = one.trained_on or column
            if row in (None, one.name) and collection in (None, trained_on, column):
                yield one, column, trained_on


def _reason_to_skip(
    book: Book,
    row: Row,
    column: str,
    trained_on: str,
    folders: dict[str, str],
    collection: str | None,
    chosen_row: str | None,
) -> tuple[str, str] | None:
    """Return what is left out, and why."""
    if row.needs and chosen_row is None:
        return f"row {row.name}", row.needs
    needs = book.collections[trained_on].needs
    if needs and collection != trained_on:
        return trained_on, needs
    lacking = next((name for name in (trained_on, column) if name not in folders), None)
    return (lacking, not_found(book, lacking)) if lacking else None


def _seeds(book: Book, chosen: Table) -> dict[tuple[str, str], set[int]]:
    """Return the seeds that any row asks for, by what is run: tables share runs."""
    found = defaultdict(set)
    for table in (*book.tables.values(), chosen):  # chosen: with --uses it is in no book
        for row in table.rows:
            for column in table.columns_of(row) if row.system else []:
                for run in runs_of(book, table, row, column):
                    found[_recipe(run)].add(run.seed)
    return found


def _recipe(run: Run) -> tuple[str, str]:
    return run.collection, replace(run, seed=-1).key


def _staying(
    asked: list[Run], whys: dict[int, str], seeds: dict[tuple, set[int]], target: str | None
) -> dict[int, str]:
    """Return the precision of each stored seed of a row that is not to be run again."""
    found = {}
    for run in asked[:1]:
        for seed in seeds[_recipe(run)]:
            record = replace(run, seed=seed).stored(target)
            if record and record.get("scores") and not whys.get(seed):
                found[seed] = measured.precision(record)
    return found


def _settle(seed: int, why: str, stay: dict[int, str], precision: str) -> tuple[str, str]:
    """Return why a seed is run, and why it can't be: only seeds of one precision are averaged."""
    found = set(stay.values())
    if len(found) > 1:  # they disagree: those in another one than this are run again
        other = stay.get(seed, precision)
        return (f"in {other}, unlike other seeds" if other != precision else why), ""
    kept = next(iter(found), precision)
    if kept == precision or not why:
        return why, ""
    return why, f"its other seeds are in {kept}, and are not averaged with {precision}: " + (
        f"--precision {kept}"
    )


def _why(run: Run, target: str | None, row: Row, split: str, now: Now, renew: bool) -> str:
    record = run.stored(target)
    if record is None:
        return "missing"
    if "failed" in record:
        return "failed last time"
    if split not in record["scores"]:
        return f"not scored on {split}"
    stale, older = cells.changes(record["made_from"], now(run, target), row.system, target)
    if stale:
        return f"stale: {stale}"
    return "older code" if older and renew else ""


def _last(run: Run) -> tuple[float | None, str]:
    """How long this run took with any seed, else the longest on its collection with the same
    encoder and as many queries (written ones or none); of those that trained, since one whose
    models lay in DVC's cache says nothing of the next."""
    files = sorted((cells.FOLDER / run.collection).glob("*.json"))
    records = [cells.read(file) for file in files]
    records = [r for r in records if "train_stage1" in r.get("stages_run", [])]
    same = [r["seconds"] for r in records if r["overrides"] == run.overrides]
    if same:
        return max(same), "it"
    kind = [r["seconds"] for r in records if _kind(r["overrides"]) == _kind(run.overrides)]
    return max(kind, default=None), f"the longest of its kind on {run.collection}"


def _kind(overrides: dict[str, object]) -> tuple:
    return overrides.get("write_queries.per_passage") == 0, overrides.get("encoder.name")
