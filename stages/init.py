"""Make a collection of your own files."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

import stages
from syntriever import params

# Its arguments and options, in the order of --help.
Source = Annotated[
    Path,
    typer.Argument(help="A folder of .txt, .md and .html files, or a .csv, .tsv, .jsonl file."),
]
Name = Annotated[str | None, typer.Option(help="Of the collection; by default that of PATH.")]
Queries = Annotated[
    Path | None, typer.Option(help="A .csv, .tsv or .jsonl file of queries: id, text.")
]
Qrels = Annotated[
    Path | None,
    typer.Option(
        help="A .csv, .tsv or .jsonl file of labels: query-id, corpus-id (a file, an id, or a "
        "passage such as guide/oven.md#3), score."
    ),
]
TestShare = Annotated[
    float, typer.Option(help="Share of the labelled queries that tests; 1: all of them.")
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(help="Leave out files that match, such as '*index*'. May be given again."),
]
WriteTestQueries = Annotated[
    int, typer.Option(min=0, help="Have the teacher write so many test queries (no labels).")
]
ChunkWords = Annotated[
    int | None,
    typer.Option(
        min=8,
        max=100_000,
        help="Words of a passage at most (long ones count double, signs count too); by default "
        "three quarters of encoder.max_length.",
    ),
]
Overlap = Annotated[
    int | None,
    typer.Option(min=0, help="Words repeated from the passage before; default: a quarter."),
]
Encoding = Annotated[str | None, typer.Option(help="Of all files; by default found out for each.")]
Column = Annotated[str | None, typer.Option(help="Of a table; else found by name.")]
SetParams = Annotated[
    bool, typer.Option("--set-params", help="Set params.yaml for the new collection.")
]
Estimate = Annotated[
    bool,
    typer.Option(
        "--estimate",
        help="Print what is read and what the test queries cost; ask and write nothing.",
    ),
]


@stages.command
def init(
    path: Source,
    name: Name = None,
    queries: Queries = None,
    qrels: Qrels = None,
    test_share: TestShare = 0.2,
    exclude: Exclude = None,
    write_test_queries: WriteTestQueries = 0,
    chunk_words: ChunkWords = None,
    overlap: Overlap = None,
    encoding: Encoding = None,
    id_column: Column = None,
    title_column: Column = None,
    text_column: Column = None,
    set_params: SetParams = False,
    estimate: Estimate = False,
) -> None:
    """Make a collection of your own files.

    Reads PATH, and the files of --queries and --qrels. Writes data/collections/NAME: corpus.jsonl
    (passages named by file and position: guide/oven.md#3), queries.jsonl, qrels and
    collection.json. Says what was read and what was skipped, and why. With --write-test-queries it
    asks the teacher of params.yaml, which must be a live one.

    Example: python -m stages.init handbook --name handbook --write-test-queries 100
    """
    whole = params.load_all()
    chosen, runtime = params.load(params.WriteQueriesView), whole.runtime.teacher

    from syntriever.intake import make, summary

    words = chunk_words or whole.encoder.max_length * 3 // 4
    plan = make.Plan(
        source=path,
        name=name or (path.resolve().name if path.is_dir() else path.stem),
        queries=queries,
        qrels=qrels,
        test_share=test_share,
        test_queries=write_test_queries,
        dev_queries=round(write_test_queries * whole.collection.dev_share),
        kinds=chosen.write_queries.kinds,
        chunk_words=words,
        overlap=words // 4 if overlap is None else overlap,
        encoding=encoding,
        exclude=exclude or (),
        columns={"id": id_column, "title": title_column, "text": text_column},
    )
    if estimate:
        draft, cost = make.estimate(plan, chosen.teacher, runtime)
        stages.tell(summary.of_passages(plan, draft))
        stages.tell(cost)
        return
    draft = make.make(plan, chosen.teacher, runtime)
    stages.tell(summary.lines(plan, draft))
    needed = make.settings(plan, draft, whole)
    typer.echo(f"{plan.folder.as_posix()} is written. Next:")
    recorded, labelled = chosen.teacher.backend == "recorded", bool(draft.qrels.get("train"))
    stages.tell(_next_steps(needed, recorded, labelled, set_params))


def _next_steps(
    needed: dict[str, object], recorded: bool, labelled: bool, set_params: bool
) -> Iterator[str]:
    """Yield how to run the pipeline on the new collection; with `set_params` its params are written
    to params.yaml first."""
    from syntriever.intake import settings
    from syntriever.tables import overrides

    if recorded:
        yield "  set a live teacher in params.yaml (docs/teacher.md); then"
    if set_params:
        settings.write(needed)
        yield "  dvc repro      (params.yaml is set for it)"
    else:
        yield f"  dvc exp run {shlex.join(overrides.options(needed, {}))}"
    if recorded and labelled:
        yield "Or train on the labels alone, without an LLM: docs/your-data.md."


if __name__ == "__main__":
    init()
