"""Exports the answers that the pipeline used, so that anyone can run it again without a key.

The formats are those of data/teacher/README.md: `teacher.backend: recorded` reads them.
"""

import itertools
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from syntriever import paths, prompts
from syntriever.errors import SyntrieverError
from syntriever.files import read_json, replacing, write_json, write_jsonl
from syntriever.records import Comparison, Synthesized, Verified, WrittenQuery, read

FOLDER = Path("data/teacher")
PROMPTS = ("cot", "positive", "negative", "relabel", "compare")
QUERIES_SUFFIX = "_written_queries"


class _Compared(Comparison):
    """A comparison, with the answer to the other order where that was asked too."""

    swapped_answer: Literal[1, 2] | None = None


def record(name: str, folder: Path = FOLDER) -> dict[str, Path]:
    """Write the answers behind the present texts, verdicts, comparisons and queries to files.

    The hashes of the prompts go to prompts.json beside them, under each file's name.

    Args:
        name: of the new file, without its ending.
        folder: where recorded answers lie.

    Returns:
        The path of each new file by the param that names it: where there are training queries
        `teacher.recorded`, with one record each; and where there are written queries
        `teacher.recorded_queries`, with one record a passage that has any. These are the ones that
        were kept.

    Raises:
        SyntrieverError: the name is none, a file exists, the outputs of write_queries, synthesize,
            verify and mine_pairs are missing, not what these stages write or not of one run, a
            passage has several written queries of one kind, or there is nothing to write.
    """
    path, queries_path = _new_files(name, folder)
    sidecar = folder / prompts.SIDECAR
    hashes = read_json(sidecar) if sidecar.exists() else {}
    queries = list(read(paths.WRITTEN, WrittenQuery))
    by_passage = queries_by_passage(queries)
    own_ids = {one["query_id"] for one in queries}
    compared = read(paths.COMPARISONS, _Compared)
    comparisons = (one for one in compared if one["query_id"] not in own_ids)
    synthesized, verified = read(paths.SYNTHESIZED, Synthesized), read(paths.VERIFIED, Verified)
    answers = records(synthesized, verified, comparisons)
    first = list(itertools.islice(answers, 1))  # none of a corpus alone: no query, no answers
    if not first and not by_passage:
        raise SyntrieverError(
            f"{paths.SYNTHESIZED} and {paths.WRITTEN} hold no query: there is no answer to record. "
            "Run the pipeline on labelled queries, or with write_queries.per_passage: 1, first."
        )
    written, lines = {}, {}
    if first:
        hashes[path.name] = _hashes(PROMPTS)
        written["teacher.recorded"], lines[path] = path, itertools.chain(first, answers)
    if by_passage:
        kinds = sorted({one["kind"] for one in queries})
        hashes[queries_path.name] = _hashes(f"write_{kind}" for kind in kinds)
        written["teacher.recorded_queries"], lines[queries_path] = queries_path, by_passage
    with ExitStack() as stack:  # all of them or none
        for new, of_file in lines.items():
            write_jsonl(stack.enter_context(replacing(new)), of_file)
        write_json(stack.enter_context(replacing(sidecar)), hashes)
    return written


def _hashes(names: Iterable[str]) -> dict[str, str]:
    return {name: prompts.load(name).sha256 for name in names}


def _new_files(name: str, folder: Path) -> tuple[Path, Path]:
    if not re.fullmatch(r"[\w-][\w.-]*", name, re.ASCII):  # as DVC's options take it
        raise SyntrieverError(
            f"{name!r} is no name for a file of recorded answers. Take a to z, digits, - and _."
        )
    stem = name.removesuffix(".jsonl")
    new = folder / f"{stem}.jsonl", folder / f"{stem}{QUERIES_SUFFIX}.jsonl"
    for path in new:
        if path.exists():
            raise SyntrieverError(f"{path} exists. Take another name, or remove it first.")
    return new


def queries_by_passage(queries: Iterable[dict]) -> list[dict]:
    """Return one record a passage, in the order of the queries: its id and its query of each kind.

    Args:
        queries: of `query_writing.write`.

    Raises:
        SyntrieverError: a passage has several queries of one kind, which a record can't hold.
    """
    by_passage: dict[str, dict] = {}
    for one in queries:
        passage_id, kind = one["passage_id"], one["kind"]
        record = by_passage.setdefault(passage_id, {"passage_id": passage_id})
        if kind in record:
            raise SyntrieverError(
                f"{paths.WRITTEN} holds several queries of kind {kind} for passage {passage_id!r}; "
                "recorded answers hold one. Run with write_queries.per_passage: 1, or pass on the "
                "journal: `python -m stages.journal export`."
            )
        record[kind] = one["query"]
    return list(by_passage.values())


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
