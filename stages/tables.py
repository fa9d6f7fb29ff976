"""The paper's tables: run their rows as DVC experiments, show measured beside published."""

import functools
import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

import stages
from stages.collection import find
from syntriever import params
from syntriever.errors import SyntrieverError
from syntriever.files import replacing
from syntriever.tables import cells, overrides, plan, rows, runs

DOCUMENTS = (Path("docs/results.md"), Path("README.md"))

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)

TableName = Annotated[str, typer.Argument(help="A file of tables/, such as table3.")]
CollectionName = Annotated[str | None, typer.Option(help="Only the cells of this collection.")]
RowName = Annotated[str | None, typer.Option(help="Only this row.")]
Seed = Annotated[int | None, typer.Option(help="Only this one of a row's seeds.")]
Dry = Annotated[bool, typer.Option("--dry", help="Only list what would be run.")]
Renew = Annotated[bool, typer.Option("--renew", help="Also what older code made.")]
Uses = Annotated[
    list[str] | None,
    typer.Option(
        help="A preset of tables/presets.yaml for every row, such as e5; a row's own `set` still "
        "wins. May be given several times."
    ),
]
Device = Annotated[Literal["cpu", "cuda"] | None, typer.Option(help="The device. A cell names it.")]
Precision = Annotated[
    Literal["float32", "bf16"] | None, typer.Option(help="The precision. A cell names it.")
]


@app.callback()
def tables() -> None:
    """The paper's tables: run their rows as DVC experiments, show measured beside published."""


@app.command()
def run(
    table: TableName,
    collection: CollectionName = None,
    row: RowName = None,
    seed: Seed = None,
    dry: Dry = False,
    renew: Renew = False,
    uses: Uses = None,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """Run the missing and the stale rows of TABLE, one after the other.

    Reads tables/, params.yaml and the collections that are found by name. Writes each run's scores
    to metrics/tables/COLLECTION/ the moment it is done, so that an interrupted table goes on where
    it stopped. Runs in a copy of the repository with its DVC cache: the workspace stays as it is.
    A row that needs what most machines lack runs only where --row names it, a collection where
    --collection does. A failed row is stored as failed, the others go on, and the exit code is 1.
    Rows of different precision are not compared, seeds of different precision not mixed.

    Example: python -m stages.tables run table3 --collection concepts
    """
    book = rows.load()
    folders = _folders(book)
    chosen = _table(book, table, uses)
    plan.check(book, chosen)
    computed_in = precision or params.load_all().compute.precision
    todo = plan.missing(
        book, chosen, _now(book), folders, collection, row, seed, renew, computed_in
    )
    for reason, names in todo.skipped.items():
        typer.echo(f"left out: {', '.join(names)}: {reason}", err=True)
    if dry:
        stages.tell(plan.describe(step) for step in todo.steps)
        typer.echo(plan.duration(todo.steps))
        return
    failures, machine = 0, runs.Machine(device, precision)
    machine.check()
    runs.check_targets({Path(folders[name]) for step in todo.steps for name in step.targets})
    for number, step in enumerate(todo.steps, start=1):
        typer.secho(f"[{number} of {len(todo.steps)}] {plan.describe(step)}", bold=True, err=True)
        failure = runs.measure(step.run, folders, step.targets, step.own, machine)
        if failure is not None:
            failures += 1
            stages.warn(f"{step.names} failed:\n{failure}")
    _show(book, chosen)
    if failures:
        raise SyntrieverError(f"{failures} of {len(todo.steps)} runs failed; the table says which.")


@app.command()
def tune(
    collection: CollectionName = None,
    row: RowName = None,
    seed: Seed = None,
    dry: Dry = False,
    renew: Renew = False,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """Run the grid of tables/tune.yaml; print its rows by their dev score, the best first.

    No test query is scored. As `run tune`, which says what is read and written.

    Example: python -m stages.tables tune
    """
    run("tune", collection, row, seed, dry, renew, device=device, precision=precision)


@app.command("overrides")
def print_overrides(
    table: TableName,
    row: Annotated[str, typer.Argument(help="A row of it, by its name.")],
    collection: Annotated[
        str | None,
        typer.Option(help="A column; by default the first, or what the row is trained on."),
    ] = None,
    uses: Uses = None,
) -> None:
    """Print the -S options that make ROW of TABLE, for `dvc exp run`.

    Example: row=$(python -m stages.tables overrides table1 paper) && eval dvc exp run $row
    """
    book = rows.load()
    chosen = _table(book, table, uses)
    plan.check(book, chosen)
    one = chosen.row(row)
    if one.system is None:
        raise SyntrieverError(f"{table}, row {row} has published values only; nothing makes it.")
    known = [one.trained_on] if one.trained_on else chosen.columns_of(one)
    name = collection or known[0]
    if name not in known:
        raise SyntrieverError(
            f"{table}, row {row} is not trained on {name!r}, but on {', '.join(known)}."
        )
    folders = _folders(book)
    if name not in folders:
        raise SyntrieverError(f"{name}: {plan.not_found(book, name)}")
    seed = one.seeds[0]
    wanted = runs.settings(cells.Run(name, book.overrides(chosen, one, name), seed), folders)
    others = {c: folders[c] for c in plan.targets(chosen, one) if c in folders}
    typer.echo(shlex.join(overrides.options(wanted, others)))


@app.command()
def show(
    names: Annotated[list[str] | None, typer.Argument(help="Tables; none: all.")] = None,
    uses: Uses = None,
    write: Annotated[
        bool, typer.Option("--write", help="Fill docs/results.md and README.md instead.")
    ] = False,
) -> None:
    """Print tables as Markdown, or put them between the marks of docs/results.md and README.md.

    Reads tables/ and metrics/tables/.

    Example: python -m stages.tables show table1
    """
    from syntriever.tables import render

    book = rows.load()
    if write:
        if names or uses:
            raise SyntrieverError("--write fills all tables as they are: no name, no --uses.")
        for table in book.tables.values():
            plan.check(book, table)
        filled = {file: render.filled(file, book, _now(book)) for file in DOCUMENTS}
        for file, text in filled.items():
            with replacing(file) as temporary:
                temporary.write_text(text, "utf-8")
        return
    chosen = [_table(book, name, uses) for name in names or book.tables]
    for table in chosen:
        plan.check(book, table)
    typer.echo(render.LEGEND + "\n")
    for table in chosen:
        typer.echo(render.render(book, table, _now(book)))


def _show(book: rows.Book, table: rows.Table) -> None:
    from syntriever.tables import render

    if table.split == "dev":
        stages.tell(render.leaderboard(book, table, _now(book)))
    else:
        typer.echo(f"{render.LEGEND}\n\n{render.render(book, table, _now(book))}")


def _table(book: rows.Book, name: str, uses: list[str] | None) -> rows.Table:
    for preset in uses or []:
        rows.refuse_unknown(preset, book.presets, "--uses", "tables/presets.yaml")
    return book.table(name).with_presets(uses or [])


def _folders(book: rows.Book) -> dict[str, str]:
    """Where the collections that are here lie, as params name them."""
    found = {}
    for name, known in book.collections.items():
        if known.path:
            found |= {name: known.path} if Path(known.path).is_dir() else {}
        elif folder := find(name):
            found[name] = str(folder.resolve())
    return found


def _now(book: rows.Book):
    """Return what `measured.Now` asks for, each run's own answer worked out once."""
    base, folders = params.load_all(), _folders(book)

    @functools.cache
    def source(run_file: Path, run: cells.Run, scored_on: str | None) -> dict:
        values = overrides.resolve(base, run.overrides, str(run_file))
        here = {n: Path(folders[n]) for n in (run.collection, scored_on) if n in folders}
        return cells.made_from(Path(), values, here)

    return lambda run, scored_on: source(run.file(scored_on), run, scored_on)


if __name__ == "__main__":
    stages.run(app)
