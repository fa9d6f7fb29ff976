"""Print the results beside the committed ones and say whether they are reproduced."""

from typing import Annotated

import typer

import stages
from syntriever import params
from syntriever.errors import SyntrieverError


@stages.command
def reproduce(
    record: Annotated[
        bool,
        typer.Option(
            "--record", help="Note the metrics and this CPU's type; put the tables into README.md."
        ),
    ] = False,
) -> None:
    """Print the results beside the committed ones and say whether they are reproduced.

    Reads metrics/, data/evaluation and the last commit. Exits 1 where the same CPU type gives other
    bytes than dvc.lock says, or another CPU type gives a metric beyond the tolerance.

    Example: python -m stages.reproduce
    """
    splits = params.load_all().evaluate.splits

    from syntriever import reproduction, results

    tables = [results.render(split) for split in splits]
    typer.echo("\n".join(tables))
    for split in splits:
        typer.echo("\n".join(reproduction.lines(split)) + "\n")
    if record:
        noted = reproduction.note()  # before anything is written: it may be refused
        reproduction.fill_readme(tables)  # before the record: so may this
        reproduction.record(noted)
        typer.echo(f"{reproduction.RECORD}: {reproduction.cpu_type()}")
        return
    verdict = reproduction.judge()
    if not verdict.reproduced:
        raise SyntrieverError(verdict.words)
    typer.secho(verdict.words, bold=True)


if __name__ == "__main__":
    reproduce()
