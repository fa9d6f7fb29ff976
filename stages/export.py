"""Write a bundle with a retriever, its index and its passages."""

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

import stages


@stages.command
def export(
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="A new folder.")],
    system: Annotated[
        Literal["stage2", "stage1", "untrained"], typer.Option(help="Whose encoder to take.")
    ] = "stage2",
) -> None:
    """Write a bundle with a retriever, its index and its passages, to use elsewhere.

    Reads models/SYSTEM, data/embeddings/SYSTEM/corpus.npy, data/prepared/corpus.arrow, params.yaml
    and metrics. Writes FOLDER: model (a SentenceTransformer with its card), index.faiss,
    passages.jsonl, usage.py and README.md, all of it or nothing. A folder that holds something is
    refused.

    Example: python -m stages.export --to retriever
    """
    from syntriever import exporting

    passages = exporting.export(system, to)
    typer.echo(f"{to}: {system} with {passages} passages. Try it:")
    typer.echo(f'  python {shlex.quote(str(to / "usage.py"))} "your question"')


if __name__ == "__main__":
    export()
