"""Look after the journal, which holds every answer that a live teacher was paid for."""

import enum
import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import typer

import stages
from syntriever import files
from syntriever.errors import SyntrieverError
from syntriever.teacher.base import FAILURES

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)

Reason = enum.Enum("Reason", {reason: reason for reason in sorted(FAILURES)})
JournalPath = Annotated[
    Path | None,
    typer.Option("--path", help="The journal; by default .journal/teacher.sqlite beside .dvc."),
]


@app.callback()
def journal() -> None:
    """Look after the journal, which holds every answer that a live teacher was paid for."""


@app.command("list")
def list_answers(path: JournalPath = None) -> None:
    """Print how many answers there are of each model and prompt, and what was spent.

    Example: python -m stages.journal list
    """
    with _opened(path) as opened:
        total, batches = opened.total(), opened.open_batches()
        rows = [("model", "prompt", "outcome", "answers", "prompt tokens", "completion tokens")]
        rows += [tuple(map(str, row)) for row in opened.summary()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:3], widths, strict=False)]
        cells += [cell.rjust(width) for cell, width in zip(row[3:], widths[3:], strict=True)]
        typer.echo("  ".join(cells))
    typer.echo(
        f"asked in all: {total.asked}, {total.prompt_tokens} prompt and {total.completion_tokens} "
        f"completion tokens, ${total.usd:.4f}"
    )
    if total.lost:
        typer.echo(f"sent, no answer kept: {total.lost}, which cost ${total.lost_usd:.4f} at most")
    for batch in batches:
        typer.echo(f"open batch: {batch.batch_id or 'not created yet'}, {batch.status}")


@app.command("export")
def export(
    file: Annotated[Path, typer.Argument(help="The new JSON Lines file.")],
    model: Annotated[str | None, typer.Option(help="Only answers of this model.")] = None,
    salvage: Annotated[
        bool, typer.Option("--salvage", help="Pass over what a damaged journal can't give.")
    ] = False,
    path: JournalPath = None,
) -> None:
    """Write the answers to FILE, one JSON object a line, with the requests as they were sent.

    A file that exists is refused.

    Example: python -m stages.journal export answers.jsonl
    """
    from syntriever.teacher import transfer

    if file.is_dir():
        raise SyntrieverError(f"{file} is a folder. Name the file to write.")
    with _opened(path) as opened:
        if file.resolve() == opened.path.resolve():
            raise SyntrieverError(f"{file} is the journal itself. Name another file to write.")
        if file.exists():  # perhaps an earlier export: a copy of what was paid for
            raise SyntrieverError(f"{file} exists. Take another name, or remove it first.")
        if next(transfer.records(opened, model, salvage), None) is None:
            of = f" of the model {model}" if model else ""
            raise SyntrieverError(f"the journal holds no answer{of}: nothing is written.")
        files.write_jsonl(file, transfer.records(opened, model, salvage))
    typer.echo(f"{file} written")


@app.command("import")
def import_answers(
    file: Annotated[Path, typer.Argument(help="A file that `export` wrote.")],
    path: JournalPath = None,
) -> None:
    """Add the answers of FILE to the journal; those that it holds already stay as they are.

    Example: python -m stages.journal import answers.jsonl
    """
    from syntriever.teacher import transfer

    if not file.is_file():
        raise SyntrieverError(f"{file} is no file. Name one: it is read twice, so no pipe will do.")
    with _opened(path, make=True) as opened:
        count, new = transfer.load(opened, file)
    typer.echo(f"{count} answers read, {new} of them new")


@app.command("forget")
def forget(
    reason: Annotated[
        Reason, typer.Option(help="Why there is no answer, as `list` names the outcome.")
    ],
    model: Annotated[str | None, typer.Option(help="Only of this model.")] = None,
    prompt: Annotated[str | None, typer.Option(help="Only of this prompt.")] = None,
    path: JournalPath = None,
) -> None:
    """Drop what brought no answer for this reason: the next run asks it again.

    For servers that were at fault: a parser of thinking that left nothing, a filter since loosened,
    a context since lengthened. With `cut off` verdicts go too that stood before the cut.

    Example: python -m stages.journal forget --reason empty
    """
    with _opened(path) as opened, opened.asking():
        count = opened.forget(reason.value, model, prompt)
    typer.echo(f"{count} dropped; the next run asks them again")


@app.command("forget-batch")
def forget_batch(
    batch_id: Annotated[str, typer.Argument(help="As `list` shows it.")],
    path: JournalPath = None,
) -> None:
    """Wait no more for a batch that its server has dropped: what it held is sent, and paid, again.

    What it may have cost counts towards the budget.

    Example: python -m stages.journal forget-batch batch_abc123
    """
    from syntriever.teacher.spool import Spool, spool_path

    with _opened(path) as opened, opened.asking():
        batch = next((one for one in opened.open_batches() if one.batch_id == batch_id), None)
        if batch is None:
            raise SyntrieverError(f"no open batch is {batch_id}. `list` shows those that are.")
        with Spool(spool_path(opened.path)) as spool:
            opened.lose(spool.cost_of(batch.content_hash), spool.count_in(batch.content_hash))
            spool.release(batch.content_hash, batch_id)
        opened.save_batch(batch.content_hash, batch_id, "done", **batch.details)
    typer.echo(f"{batch_id} is forgotten; the next run sends its requests again")


@app.command("check")
def check(path: JournalPath = None) -> None:
    """Check the journal's file, and that each answer belongs to its request.

    Example: python -m stages.journal check
    """
    from syntriever.teacher import transfer

    with _opened(path) as opened:
        faults = transfer.faults(opened)
        count = sum(row[3] for row in opened.summary()) if not faults else 0
    if faults:
        raise SyntrieverError(
            "\n".join(
                [
                    *faults[:20],
                    f"{len(faults)} faults. Export what can be read (`export FILE --salvage`), "
                    "move the journal away and import FILE.",
                ]
            )
        )
    typer.echo(f"{count} answers, all sound")


@contextmanager
def _opened(path: Path | None, make: bool = False):
    from syntriever.teacher.journal import Journal, default_path

    chosen = path or default_path()
    if not make and not (chosen.exists() and chosen.stat().st_size):
        raise SyntrieverError(f"there is no journal at {chosen}: no live teacher was asked yet.")
    if chosen.exists():
        _refuse_foreign(chosen)
    with Journal(chosen) as opened:
        yield opened


def _refuse_foreign(path: Path) -> None:
    """Refuse another program's database, in which opening it as a journal would make tables."""
    from syntriever.teacher.journal import COLUMNS

    try:  # mode=ro would leave files of a write-ahead log behind
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True)) as database:
            filled = database.execute("SELECT 1 FROM sqlite_master").fetchone()
            columns = {row[1] for row in database.execute("PRAGMA table_info(answers)")}
    except sqlite3.Error:
        return  # damaged, locked or no database: opening says so in words
    if filled and not columns.issuperset(COLUMNS):
        raise SyntrieverError(
            f"{path} is no journal but another program's SQLite file, and is left as it is. Name "
            "the journal with --path, or leave it out for the usual one."
        )


if __name__ == "__main__":
    stages.run(app)
