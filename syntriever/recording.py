"""Exports the answers that the pipeline used, so that anyone can run it again without a key.

The format is that of data/teacher/README.md: `teacher.backend: recorded` reads it.
"""

import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from syntriever import paths, prompts
from syntriever.errors import SyntrieverError
from syntriever.files import read_json, read_jsonl, write_json, write_jsonl

FOLDER = Path("data/teacher")
PROMPTS = ("cot", "positive", "negative", "relabel", "compare")


def record(name: str, folder: Path = FOLDER) -> Path:
    """Write the answers behind the present synthetic texts, verdicts and comparisons to a file.

    The hashes of the prompts go to prompts.json beside it, under the file's name.

    Args:
        name: of the new file, without its ending.
        folder: where recorded answers lie.

    Returns:
        The path of the file, with one record a training query.

    Raises:
        SyntrieverError: the name is none, the file exists, or the outputs of synthesize, verify and
            mine_pairs are missing or not of one run.
    """
    path = _new_file(name, folder)
    hashes = {prompt: prompts.load(prompt).sha256 for prompt in PROMPTS}
    sidecar = folder / prompts.SIDECAR
    known = read_json(sidecar) if sidecar.exists() else {}
    write_jsonl(
        path,
        records(
            read_jsonl(paths.SYNTHESIZED), read_jsonl(paths.VERIFIED), read_jsonl(paths.COMPARISONS)
        ),
    )
    write_json(sidecar, known | {path.name: hashes})
    return path


def _new_file(name: str, folder: Path) -> Path:
    if not re.fullmatch(r"[\w-][\w.-]*", name):
        raise SyntrieverError(
            f"{name!r} is no name for a file of recorded answers. Take letters, digits, - and _."
        )
    path = folder / f"{name.removesuffix('.jsonl')}.jsonl"
    if path.exists():
        raise SyntrieverError(f"{path} exists. Take another name, or remove it first.")
    return path


def records(
    synthesized: Iterable[dict], verified: Iterable[dict], comparisons: Iterable[dict]
) -> Iterator[dict]:
    """Yield one record a query, in their order, from what the stages wrote.

    Args:
        synthesized: of `synthesis.synthesize`.
        verified: of `verification.verify`, for the same queries in the same order.
        comparisons: of `preferences.compare`, in the order of the queries, of which some may have
            none.

    Raises:
        SyntrieverError: the three are not of one run.
    """
    of_query = itertools.groupby(comparisons, key=lambda one: one["query_id"])
    waiting = next(of_query, None)
    for text, verdict in itertools.zip_longest(synthesized, verified, fillvalue={}):
        query_id = text.get("query_id")
        if query_id != verdict.get("query_id"):
            raise _mixed(paths.VERIFIED, query_id or verdict["query_id"])
        asked = []
        if waiting and waiting[0] == query_id:
            asked = [pair for one in waiting[1] for pair in _asked(one)]
            waiting = next(of_query, None)
        yield {
            "query_id": query_id,
            "query": text["query"],
            "cot": text["cot"],
            "positive": text["positive"],
            "hard_negative": text["hard_negative"],
            "verdict": verdict["verdict"],
            "comparisons": asked,
        }
    if waiting:
        raise _mixed(paths.COMPARISONS, waiting[0])


def _asked(comparison: dict) -> Iterator[list]:
    """The pair as shown, with the answer; then the other order, if that was asked too."""
    one, two = comparison["passage_1"], comparison["passage_2"]
    yield [one, two, comparison["answer"]]
    if "swapped_answer" in comparison:
        yield [two, one, comparison["swapped_answer"]]


def _mixed(path: Path, query_id: str) -> SyntrieverError:
    return SyntrieverError(
        f"{path} does not fit {paths.SYNTHESIZED}: query {query_id!r} is out of place. "
        "Run `dvc repro`, which brings them to one state."
    )
