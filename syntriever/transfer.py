"""Scores on a collection that was not trained on: what training gained, or cost, elsewhere.

The collection is checked and brought to its prepared form as `syntriever.preparation` does, encoded
as `syntriever.embedding` does and scored as `syntriever.evaluation` does, in a folder that is gone
afterwards: a collection of millions of passages takes disk, not memory.
"""

import hashlib
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from syntriever import collection_files, embedding, encoder, evaluation, params, paths, significance
from syntriever.collection import Corpus
from syntriever.errors import SyntrieverError
from syntriever.evaluation import Run, Split
from syntriever.results import NAMES
from syntriever.tolerance import TOLERATED_FALL

SPLIT = "test"
ENCODERS = ("untrained", "stage1", "stage2")
TRAINED = ("stage1", "stage2")
WORKPLACE = Path("data/.transfer.part")

Measures = dict[str, dict[str, float | int | list[float]]]

_COLUMNS = {
    "ndcg_at_10": "nDCG@10",
    "ndcg_at_1": "nDCG@1",
    "recall_at_100": "Recall@100",
    "mrr_at_10": "MRR@10",
}


def metrics_file(name: str) -> Path:
    """Where the scores on the collection `name` go.

    Raises:
        SyntrieverError: `name` is no plain name.
    """
    if not re.fullmatch(r"[\w-]+", name):
        raise SyntrieverError(
            f"{name!r} is no name for a collection in evaluate.collections. Take letters, digits, "
            "- and _, such as scifact."
        )
    return paths.METRICS / "transfer" / f"{name}.json"


def headline_file(name: str) -> Path:
    """Where the nDCG@10 alone goes, for `dvc metrics` and `dvc exp show`."""
    return paths.METRICS / "ndcg_at_10_on" / f"{name}.json"


def headline(name: str, measures: Measures) -> dict[str, dict[str, float]]:
    """Return nDCG@10 by system, under the collection's name: it becomes the name of the column."""
    return {name: {system: one["ndcg_at_10"] for system, one in measures.items()}}


def score(folder: Path, settings: params.TransferView) -> Measures:
    """Score BM25 and the three encoders on the test queries of a BEIR-format folder.

    Encoders that are the same bytes are run once.

    Returns:
        For each system the mean of each measure over the judged queries, their number (`queries`)
        and the 95% interval of nDCG@10 over them (`interval`). For stage 1 and stage 2 also the
        step in nDCG@10 from the untrained encoder: `gain`, its 95% interval `low` to `high` and
        `p`, by paired bootstrap.

    Raises:
        SyntrieverError: a file is missing, a line is malformed, an id points nowhere, or no test
            query is judged.
    """
    with _workplace() as place:
        split, corpus = read(folder, place / "corpus.arrow")
        evaluation.refuse_own_ids(split, _qrels(folder), settings.evaluate)
        runs = {"bm25": evaluation.search("bm25", split, corpus, settings.evaluate)}
        runs |= _dense_runs(split, corpus, place, settings)
    scores = {system: evaluation.score(run, split) for system, run in runs.items()}
    ends = significance.intervals(scores, settings.evaluate.bootstrap_samples)
    measures = {
        system: evaluation.averages(table) | {"queries": len(table), "interval": ends[system]}
        for system, table in scores.items()
    }
    for system in TRAINED:
        measures[system] |= significance.gain(
            scores["untrained"], scores[system], settings.evaluate.bootstrap_samples
        )
    return measures


def read(folder: Path, corpus_file: Path) -> tuple[Split, Corpus]:
    """Check a BEIR-format folder; read its test queries, write its passages to `corpus_file`.

    Blank passages are left out, as `prepare` leaves them out: they are never ranked.

    Raises:
        SyntrieverError: see `score`.
    """
    _refuse_incomplete(folder)
    counts: Counter[str] = Counter()
    queries = collection_files.read_queries(folder / "queries.jsonl", counts)
    qrels = collection_files.read_qrels(
        _qrels(folder), {query.query_id for query in queries}, counts
    )
    source = folder / "corpus.jsonl"
    blank = set(collection_files.write_corpus(source, corpus_file, counts))
    if not counts["passages"]:
        raise SyntrieverError(f"{source}: all passages are blank. Give them a text.")
    corpus = Corpus.open(corpus_file)
    collection_files.refuse_unknown_passages(folder, {SPLIT: qrels}, corpus, list(blank))
    qrels = {
        query: {passage: grade for passage, grade in grades.items() if passage not in blank}
        for query, grades in qrels.items()
    }
    split = evaluation.make_split(SPLIT, [q for q in queries if q.query_id in qrels], qrels)
    if not split.judged:
        raise SyntrieverError(
            f"{_qrels(folder)}: no query has a passage of score 1 or more that is not blank, so "
            "that nothing can be measured. Label some, or take the collection out of "
            "evaluate.collections."
        )
    return split, corpus


def render(name: str, measures: Measures) -> str:
    """Return the scores as a small table, with each trained encoder's step."""
    head = f"{name}: {measures['bm25']['queries']} test queries"
    width = max(map(len, NAMES.values()))
    titles = " ".join(f"{title:>10}" for title in _COLUMNS.values())
    lines = [head, f"{'':{width}} {titles}  nDCG@10 over the untrained encoder's"]
    for system, found in measures.items():
        values = " ".join(f"{found[column]:10.4f}" for column in _COLUMNS)
        lines.append(f"{NAMES[system]:{width}} {values}  {_step(found)}".rstrip())
    return "\n".join(lines)


def warnings(name: str, measures: Measures) -> list[str]:
    """Say where a trained encoder falls far below the one that it was trained from."""
    return [
        f"training cost {-measures[system]['gain']:.4f} nDCG@10 on {name}: {NAMES['untrained']} "
        f"{measures['untrained']['ndcg_at_10']:.4f}, {NAMES[system]} "
        f"{measures[system]['ndcg_at_10']:.4f}"
        for system in TRAINED
        if measures[system]["gain"] < -TOLERATED_FALL
    ]


def _step(found: dict[str, float | int | list[float]]) -> str:
    if "gain" not in found:
        return ""
    interval = f"{found['low']:+.4f} to {found['high']:+.4f}"
    return f"{found['gain']:+.4f} ({interval}), p = {found['p']:.4f}"


def _qrels(folder: Path) -> Path:
    return folder / "qrels" / f"{SPLIT}.tsv"


def _refuse_incomplete(folder: Path) -> None:
    for file in (folder / "corpus.jsonl", folder / "queries.jsonl", _qrels(folder)):
        if not file.is_file():
            raise SyntrieverError(
                f"{file} does not exist. A collection to score on is a BEIR-format folder: "
                "corpus.jsonl, queries.jsonl and qrels/test.tsv. Check its path in "
                "evaluate.collections."
            )


@contextmanager
def _workplace() -> Iterator[Path]:
    """Yield an empty folder, removed at the end; a killed run's is removed by the next."""
    shutil.rmtree(WORKPLACE, ignore_errors=True)
    WORKPLACE.mkdir(parents=True)
    try:
        yield WORKPLACE
    finally:
        shutil.rmtree(WORKPLACE)


def _dense_runs(
    split: Split, corpus: Corpus, place: Path, settings: params.TransferView
) -> dict[str, Run]:
    runs: dict[str, Run] = {}
    first_of: dict[str, str] = {}  # an encoder's fingerprint -> the first system that has it
    for system in ENCODERS:
        first = first_of.setdefault(_fingerprint(paths.model(system)), system)
        if first != system:
            tqdm.write(f"models/{system} is models/{first}: its scores are the same")
            runs[system] = runs[first]
            continue
        folder = place / system
        _encode(system, split, corpus, folder, settings)
        runs[system] = evaluation.search(system, split, corpus, settings.evaluate, folder)
        shutil.rmtree(folder)
    return runs


def _encode(
    system: str, split: Split, corpus: Corpus, folder: Path, settings: params.TransferView
) -> None:
    """Write corpus.npy and test.npy as `embed` would: same batches, so same last bits."""
    model = encoder.load(paths.model(system), settings.compute.device)
    size = embedding.BATCH
    passages = corpus.batches(size)
    queries = (split.texts[i : i + size] for i in range(0, len(split.texts), size))
    folder.mkdir()
    embedding.write(folder / "corpus.npy", model, passages, len(corpus), "document", settings)
    embedding.write(folder / f"{SPLIT}.npy", model, queries, len(split.texts), "query", settings)


def _fingerprint(folder: Path) -> str:
    """Hash all that decides an encoder's vectors: every file but its model card."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.name != "README.md":
            with file.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
            digest.update(f"{file.relative_to(folder)} {content}\n".encode())
    return digest.hexdigest()
