"""Ask the trained retriever a question."""

import json
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

import typer

import stages
from syntriever import light_encoder, paths
from syntriever.errors import SyntrieverError

if TYPE_CHECKING:
    from syntriever.searching import Hit, Searcher

PROMPT = "query> "
_TITLE_WORDS = 12

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def search(
    query: Annotated[
        str | None,
        typer.Argument(
            help="The question; after -- one that begins with -. Without it you are asked for one."
        ),
    ] = None,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="How many passages.")] = 5,
    system: Annotated[
        Literal["stage2", "stage1", "untrained"], typer.Option(help="Whose encoder to use.")
    ] = "stage2",
    beside_untrained: Annotated[
        bool, typer.Option("--beside-untrained", help="Also rank by the untrained encoder.")
    ] = False,
    by_document: Annotated[
        bool, typer.Option("--by-document", help="Of each document its best passage alone.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a passage.")] = False,
) -> None:
    """Ask the trained retriever a question.

    Reads data/prepared/corpus.arrow, data/embeddings/SYSTEM/corpus.npy and models/SYSTEM; writes
    nothing. Shows the best passages: rank, cosine similarity, title, id, and the sentence that the
    encoder finds nearest to the question. Without a query it asks for one after another, until an
    empty line or Ctrl-D. --beside-untrained shows both rankings, and how far each passage has come.
    --by-document shows one passage of each file or row that `stages.init` cut into passages.

    Example: python -m stages.search "why does my bread not rise" --k 5
    """
    if beside_untrained and system == "untrained":
        raise SyntrieverError(
            "--beside-untrained compares with the untrained encoder. Choose --system stage2 or "
            "stage1."
        )
    from syntriever.collection import is_blank

    if query is not None and is_blank(query):
        raise SyntrieverError("The query is blank. Give some words, or none to be asked for them.")
    try:
        searchers = _load([system, "untrained"] if beside_untrained else [system])
        for text in _read_queries() if query is None else [query]:
            (_print_json if as_json else _print)(_clean(text), k, by_document, *searchers)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head -1` has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        typer.echo(err=True)
        raise typer.Exit(130) from None


def _load(systems: list[str]) -> list["Searcher"]:
    for system in systems:  # before the slow imports
        light_encoder.check(paths.model(system))
    if sys.stderr.isatty():
        typer.echo(f"loading {' and '.join(systems)} …", err=True)
    from syntriever.searching import Searcher

    return [Searcher(system) for system in systems]


def _read_queries() -> Iterator[str]:
    """Yield what is typed, or the lines of a file or pipe, until an empty line or the end."""
    from syntriever.collection import is_blank

    if sys.stdin is None:  # closed: <&-
        return
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="replace")
    typed = sys.stdin.isatty()
    if typed:
        import readline  # noqa: F401 - arrow keys and history in input()
    while True:
        try:
            if typed and not sys.stdout.isatty():  # then the prompt must not go to stdout
                typer.echo(PROMPT, nl=False, err=True)
            text = input(PROMPT if typed and sys.stdout.isatty() else "")
        except EOFError:
            if typed:
                typer.echo(err=True)
            return
        if is_blank(text):
            return
        yield text


def _clean(text: str) -> str:
    """Replace the bytes of an argument that are not UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").strip()


def _print_json(query: str, k: int, by_document: bool, *searchers: "Searcher") -> None:
    for searcher in searchers:
        for hit in searcher.search(query, k, by_document):
            record = {
                "query": query,
                "system": searcher.system,
                "rank": hit.rank,
                "score": hit.score,
                "passage_id": hit.passage_id,
                "title": hit.title,
                "sentence": hit.sentence,
            }
            typer.echo(json.dumps(record, ensure_ascii=False))


def _print(
    query: str,
    k: int,
    by_document: bool,
    searcher: "Searcher",
    untrained: "Searcher | None" = None,
) -> None:
    after = searcher.search(query, k, by_document)
    if untrained is None:
        for hit in after:
            _show(hit)
        return
    from syntriever.searching import moves

    before, after = list(untrained.search(query, k, by_document)), list(after)
    _echo(typer.style(f"{searcher.system}, moves from the untrained encoder's ranking", bold=True))
    for hit, move in zip(after, moves(before, after, by_document), strict=True):
        _show(hit, f"{move:<5}")
    _echo(typer.style("\nuntrained", bold=True))
    for hit in before:
        _show(hit, " " * 5)


def _show(hit: "Hit", move: str = "") -> None:
    from syntriever.searching import plain

    title = hit.title or _first_words(hit.text)
    colour = {"↑": "green", "n": "green", "↓": "red"}.get(move[:1])
    head = [
        f"{hit.rank:2}  {hit.score:.4f} ",
        typer.style(move, fg=colour) if move else "",
        typer.style(title, fg="cyan", bold=True),
        typer.style(f"({plain(hit.passage_id)})", dim=True),
    ]
    _echo(" ".join(part for part in head if part))
    if hit.sentence:
        _echo(f"    {typer.style(hit.sentence, fg='yellow')}")


def _first_words(text: str) -> str:
    words = text.split()
    return " ".join(words[:_TITLE_WORDS]) + (" …" if len(words) > _TITLE_WORDS else "")


def _echo(line: str) -> None:
    """Print in colour on a terminal, unless NO_COLOR is set (https://no-color.org)."""
    typer.echo(line, color=False if os.environ.get("NO_COLOR") else None)


if __name__ == "__main__":
    stages.run(app)
