"""Write the answers that the pipeline used to a file of recorded answers."""

from typing import Annotated

import typer

import stages


@stages.command
def record(
    name: Annotated[str, typer.Argument(help="Name of the new file, such as fiqa-gpt.")],
) -> None:
    """Write the answers that the pipeline used to a file of recorded answers.

    Reads data/synthetic/synthesized.jsonl, data/synthetic/verified.jsonl and
    data/preferences/comparisons.jsonl, which must be up to date (`dvc status`), and prompts. Writes
    data/teacher/NAME.jsonl and the hashes of the prompts into data/teacher/prompts.json. With
    teacher.backend recorded and teacher.recorded set to that file, the pipeline gives the same
    results again, without a key.

    Example: python -m stages.record my-answers
    """
    from syntriever import recording

    path = recording.record(name)
    typer.echo(f"{path} is written. To run on it:")
    typer.echo(f"  dvc exp run -S teacher.backend=recorded -S teacher.recorded={path.as_posix()}")


if __name__ == "__main__":
    record()
