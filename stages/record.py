"""Write the answers that the pipeline used to files of recorded answers."""

from typing import Annotated

import typer

import stages


@stages.command
def record(
    name: Annotated[str, typer.Argument(help="Name of the new file, such as fiqa-gpt.")],
) -> None:
    """Write the answers that the pipeline used to files of recorded answers.

    Reads data/written/queries.jsonl, data/synthetic/synthesized.jsonl,
    data/synthetic/verified.jsonl and data/preferences/comparisons.jsonl, which must be up to date
    (`dvc status`), and prompts. Writes data/teacher/NAME.jsonl where there are training queries,
    data/teacher/NAME_written_queries.jsonl where there are written ones, and the hashes of the
    prompts into data/teacher/prompts.json. With teacher.backend recorded, and teacher.recorded and
    teacher.recorded_queries set to these files, the pipeline gives the same results again, without
    a key.

    Example: python -m stages.record my-answers
    """
    from syntriever import recording

    written = recording.record(name)
    typer.echo(f"Written: {', '.join(map(str, written.values()))}. To run on it:")
    chosen = "".join(f" -S {param}={path.as_posix()}" for param, path in written.items())
    typer.echo(f"  dvc exp run -S teacher.backend=recorded{chosen}")


if __name__ == "__main__":
    record()
