"""Find a collection by name, download it, or join several, before the pipeline runs."""

import os
import re
import shlex
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import Annotated

import typer

import stages
from syntriever.errors import SyntrieverError

VARIABLE = "SYNTRIEVER_COLLECTIONS"
REPOSITORY_FOLDER = Path("data/collections")
BEIR_URL = "https://public.ukp.informatik.tu-darmstadt.de/thakur/BEIR/datasets/{name}.zip"

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)


@app.callback()
def collection() -> None:
    """Find a collection by name, download it, or join several, before the pipeline runs."""


@app.command()
def get(name: Annotated[str, typer.Argument(help="The folder's name, such as scifact.")]) -> None:
    """Print the -S options that make the pipeline use the collection NAME.

    Looks for a folder of that name in the folders that the environment variable
    SYNTRIEVER_COLLECTIONS lists, then in data/collections; else downloads it from BEIR's server
    into the first of these that can be written to. Words go to stderr, the options to stdout.

    Example: eval dvc exp run $(python -m stages.collection get scifact)
    """
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise SyntrieverError(f"{name!r} is no plain folder name, such as scifact.")
    folder = find(name) or download(name)
    typer.echo(f"{name} lies in {folder}", err=True)
    typer.echo(shlex.join(options(name, folder)))


@app.command()
def join(
    name: Annotated[str, typer.Argument(help="Of the new collection, such as both.")],
    folders: Annotated[list[Path], typer.Argument(help="BEIR-format folders, two or more.")],
    teacher: Annotated[
        list[Path] | None,
        typer.Option(help="Recorded answers; once for each folder, in the same order."),
    ] = None,
) -> None:
    """Make one collection of several, to train on them together; print the -S options for it.

    Writes data/collections/NAME, its ids with their collection's name in front (scifact:4983). From
    recorded answers it also writes data/teacher/NAME.jsonl and, where a FILE_written_queries.jsonl
    lies beside a FILE.jsonl, data/teacher/NAME_written_queries.jsonl. Where one's test queries are
    the teacher's (collection.json), the new one's are. Overwrites nothing. Words go
    to stderr, the options to stdout.

    Example: python -m stages.collection join both data/collections/concepts
    data/collections/scifact --teacher data/teacher/concepts.jsonl --teacher
    data/teacher/scifact.jsonl
    """
    from syntriever import joining

    plain_path(REPOSITORY_FOLDER / name)  # before any work
    sizes = joining.join(name, folders, teacher or [])
    for part, size in sizes.items():
        counts = ", ".join(f"{count} {what}" for what, count in size.items())
        typer.echo(f"{part}: {counts}", err=True)
    for warning in joining.warnings(sizes):
        stages.warn(warning)
    typer.echo(shlex.join(options(name, REPOSITORY_FOLDER / name)))


def places() -> list[Path]:
    """Return the folders that hold collections, in the order in which they are searched."""
    listed = os.environ.get(VARIABLE, "").split(os.pathsep)
    try:
        return [*(Path(place).expanduser() for place in listed if place), REPOSITORY_FOLDER]
    except RuntimeError:
        raise SyntrieverError(f"{VARIABLE} names a home folder that does not exist.") from None


def find(name: str) -> Path | None:
    """Return the first folder of this name that holds a collection."""
    return next((place / name for place in places() if is_collection(place / name)), None)


def is_collection(folder: Path) -> bool:
    """Tell whether a folder looks like a collection in BEIR's format."""
    return (folder / "corpus.jsonl").is_file()


def download(name: str) -> Path:
    """Download a collection from BEIR's server and unpack it: all of it or nothing.

    Raises:
        SyntrieverError: no folder can be written to, there is no network, or the server does not
            have it.
    """
    import requests
    from beir.util import download_and_unzip

    place = _writable_place()
    if (place / name).exists():
        raise SyntrieverError(
            f"{place / name} is there already and holds no corpus.jsonl. Complete it, or remove it."
        )
    url = BEIR_URL.format(name=name)
    typer.echo(f"no folder {name} here; trying {url}", err=True)
    with tempfile.TemporaryDirectory(dir=place, prefix=f".{name}.", suffix=".part") as temporary:
        try:
            unpacked = Path(download_and_unzip(url, temporary))
        except zipfile.BadZipFile:
            raise _not_found(name, "BEIR's server has none of that name, or broke off") from None
        except requests.RequestException as error:
            reason = f"BEIR's server can't be reached ({type(error).__name__})"
            raise _not_found(name, reason) from None
        except OSError as error:
            raise _not_found(name, f"it can't be stored in {place} ({error.strerror})") from None
        if not is_collection(unpacked):
            raise _not_found(name, "what BEIR's server sent holds no corpus.jsonl")
        return unpacked.rename(place / name)


def options(name: str, folder: Path) -> list[str]:
    """Return the options for `dvc exp run`.

    Raises:
        SyntrieverError: the path holds a character that the shell or DVC would take for another.
    """
    from syntriever import joined_answers

    chosen = ["-S", f"collection.path={plain_path(folder)}"]
    recorded = joined_answers.answers_file(name)
    if recorded.exists():
        chosen += ["-S", f"teacher.recorded={recorded.as_posix()}"]
    else:
        stages.warn(f"{recorded} does not exist: no answers of the teacher are recorded for {name}")
    written = joined_answers.written_file(name)
    if written.exists():
        chosen += ["-S", f"teacher.recorded_queries={written.as_posix()}"]
        if kinds := joined_answers.written_kinds(written):
            chosen += ["-S", f"write_queries.kinds=[{','.join(kinds)}]"]
    return chosen


def plain_path(folder: Path) -> str:
    """Return the folder's path as it can stand unquoted in a command line.

    Raises:
        SyntrieverError: it can't.
    """
    path = _path_for_dvc(folder)
    if not re.fullmatch(r"[\w./:@+-]+", path, re.ASCII):
        raise SyntrieverError(
            f"{path!r} holds a character that the shell or `dvc exp run -S` would take for "
            "something else (a space, a comma, an accent). Move the collection to a plainer path."
        )
    return path


def _path_for_dvc(folder: Path) -> str:
    """Return a committed folder's relative path, any other's absolute one.

    Queued experiments run in a copy of the repository, which has no git-ignored files.
    """
    absolute = folder.resolve()
    try:
        relative = absolute.relative_to(Path.cwd())
    except ValueError:
        return str(absolute)
    ignored = subprocess.run(
        ["git", "check-ignore", "-q", str(relative)], check=False, stderr=subprocess.DEVNULL
    )
    return str(absolute) if ignored.returncode == 0 else relative.as_posix()


def _writable_place() -> Path:
    REPOSITORY_FOLDER.mkdir(parents=True, exist_ok=True)
    for place in places():
        if place.is_dir() and os.access(place, os.W_OK):
            return place
    raise SyntrieverError(
        f"none of {', '.join(map(str, places()))} can be written to. Put a folder that can into "
        f"the environment variable {VARIABLE}."
    )


def _not_found(name: str, reason: str) -> SyntrieverError:
    found = []
    for place in places():
        names = sorted(folder.parent.name for folder in place.glob("*/corpus.jsonl"))
        found.append(f"{place}: {', '.join(names) or 'no collection'}")
    return SyntrieverError(
        f"no collection {name!r}, and {reason}. Found in {'; in '.join(found)}. Check the name, "
        f"or set the environment variable {VARIABLE} to the folder that holds it."
    )


if __name__ == "__main__":
    stages.run(app)
