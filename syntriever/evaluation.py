"""Scores of all systems on the same queries: runs, nDCG and its friends, significance.

Averages are over the *judged* queries of a split, those with a passage of grade 1 or more; a query
without an answer counts 0. Equal scores follow `syntriever.search`: the order of the corpus file.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytrec_eval

from syntriever import params, paths
from syntriever.collection import Corpus, Query, read_qrels, read_queries
from syntriever.errors import SyntrieverError
from syntriever.files import replacing, write_json
from syntriever.search import BM25, strictly_falling, top_k
from syntriever.significance import gain, intervals, rounded
from syntriever.vectors import read_vectors

SYSTEMS = ("bm25", "untrained", "stage1", "stage2")
DEPTH = 100
CUTS = (1, 3, 5, 10, 100)
_TREC_NAMES = {
    **{f"ndcg_at_{k}": f"ndcg_cut_{k}" for k in CUTS},
    "map_at_100": "map_cut_100",
    "recall_at_10": "recall_10",
    "recall_at_100": "recall_100",
}

Ranking = list[tuple[str, float]]
"""Passage ids with strictly falling scores."""
Run = dict[str, Ranking]


@dataclass(frozen=True)
class Split:
    """The queries of dev or test with their judgements."""

    name: str
    query_ids: list[str]
    texts: list[str]
    qrels: dict[str, dict[str, int]]
    judged: list[str]
    unseen: list[str]
    """The judged queries none of whose relevant passages was a labelled passage in training."""


def read_split(name: str, corpus: Corpus) -> Split:
    """Read one prepared split.

    Raises:
        SyntrieverError: it holds no judged query, or judges what is not there.
    """
    trained = set().union(*map(_relevant, read_qrels(paths.qrels("train")).values()))
    split = make_split(name, read_queries(paths.queries(name)), read_qrels(paths.qrels(name)))
    judged = {passage for grades in split.qrels.values() for passage in grades}
    for kind, unknown in (
        ("query", split.qrels.keys() - set(split.query_ids)),
        ("passage", judged - corpus.rows(judged).keys()),
    ):
        if unknown:
            raise SyntrieverError(
                f"{paths.qrels(name)} judges the {kind} {min(unknown)!r}, which is not there. Run "
                "`dvc repro`, which makes the file again."
            )
    if not split.judged:
        raise SyntrieverError(
            f"The collection has no judged {name} query. Leave {name} out of evaluate.splits."
        )
    seen = {query for query in split.judged if _relevant(split.qrels[query]) & trained}
    return replace(split, unseen=[query for query in split.judged if query not in seen])


def make_split(name: str, queries: Sequence[Query], qrels: dict[str, dict[str, int]]) -> Split:
    """Return a split of a collection that no training has seen: all its judged queries are unseen.

    Args:
        name: of the split.
        queries: of the split, in the order of the collection.
        qrels: query id -> passage id -> grade.
    """
    judged = [one.query_id for one in queries if _relevant(qrels.get(one.query_id, {}))]
    return Split(
        name=name,
        query_ids=[query.query_id for query in queries],
        texts=[query.query for query in queries],
        qrels=qrels,
        judged=judged,
        unseen=judged,
    )


def evaluate(settings: params.EvaluateView) -> None:
    """Score every system on every split of `evaluate.splits` and write all that stages declare."""
    corpus = Corpus.open(paths.CORPUS)
    headline: dict[str, dict[str, float]] = {}
    with (
        replacing(paths.EVALUATION) as details,
        replacing(paths.METRICS / "evaluate") as metrics,
        replacing(paths.PLOTS / "evaluate") as plots,
    ):
        for folder in (details, metrics, plots):
            folder.mkdir()
        for name in settings.evaluate.splits:
            split = read_split(name, corpus)
            refuse_own_ids(split, paths.qrels(name), settings.evaluate)
            runs = {system: search(system, split, corpus, settings.evaluate) for system in SYSTEMS}
            scores = {system: score(run, split) for system, run in runs.items()}
            _write_details(details / name, runs, scores, split, settings.evaluate)
            for system, table in scores.items():
                write_json(metrics / name / f"{system}.json", summarise(table, split))
            write_json(plots / f"ndcg_{name}.json", _curve(scores))
            headline[name] = {s: averages(table)["ndcg_at_10"] for s, table in scores.items()}
    write_json(paths.HEADLINE, headline)


def refuse_own_ids(split: Split, qrels_file: Path, settings: params.Scoring) -> None:
    """Refuse to take relevant passages out of rankings because they have their query's id.

    Raises:
        SyntrieverError: `ignore_identical_ids` would do that.
    """
    own = [query for query in split.judged if split.qrels[query].get(query, 0) >= 1]
    if settings.ignore_identical_ids and own:
        raise SyntrieverError(
            f"{qrels_file}: the passage relevant to query {own[0]!r} has the query's own id "
            f"(so it is for {len(own)} queries), and evaluate.ignore_identical_ids: true "
            "takes it out of every ranking. Set it to false, or give queries and passages ids of "
            "their own."
        )


def search(
    system: str,
    split: Split,
    corpus: Corpus,
    settings: params.Scoring,
    embeddings: Path | None = None,
) -> Run:
    """Return one system's ranking of every query of a split.

    Args:
        system: one of SYSTEMS.
        split: the queries.
        corpus: the passages.
        settings: of BM25 and of a query's own id.
        embeddings: folder of the encoder's corpus.npy and SPLIT.npy; None: where `embed` put them.
    """
    depth = DEPTH + 1 if settings.ignore_identical_ids else DEPTH
    if system == "bm25":
        index = BM25(corpus.batches(4096), settings.bm25_k1, settings.bm25_b)
        scores, rows = index.top_k(split.texts, depth)
    else:
        folder = embeddings or paths.embeddings(system)
        queries = read_vectors(folder / f"{split.name}.npy", len(split.query_ids))
        passages = read_vectors(folder / "corpus.npy", len(corpus))
        scores, rows = top_k(queries, passages, depth)
    # BM25 finds nothing where no word is shared.
    found = scores > 0 if system == "bm25" else np.ones_like(scores, bool)
    return to_run(split.query_ids, corpus, strictly_falling(scores), rows, found, settings)


def to_run(
    query_ids: Sequence[str],
    corpus: Corpus,
    scores: np.ndarray,
    rows: np.ndarray,
    found: np.ndarray,
    settings: params.Scoring,
) -> Run:
    """Name the rows of each query's ranking, without what was not found and without the query
    itself where `ignore_identical_ids` asks for that; at most DEPTH passages remain."""
    run = {}
    for i, query_id in enumerate(query_ids):
        ids = corpus.ids(rows[i][found[i]])
        ranking = zip(ids, map(float, scores[i][found[i]]), strict=True)
        own = query_id if settings.ignore_identical_ids else None
        run[query_id] = [(passage, s) for passage, s in ranking if passage != own][:DEPTH]
    return run


def score(run: Run, split: Split) -> pd.DataFrame:
    """Return the measures of each judged query (index query_id), by pytrec_eval."""
    qrels = {query: split.qrels[query] for query in split.judged}
    full = {query: dict(run[query]) for query in split.judged}
    top10 = {query: dict(run[query][:10]) for query in split.judged}
    measures = {"ndcg_cut." + ",".join(map(str, CUTS)), "map_cut.100", "recall.10,100"}
    found = pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(full)
    reciprocal = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(top10)
    table = {
        query: {name: found.get(query, {}).get(trec, 0.0) for name, trec in _TREC_NAMES.items()}
        | {"mrr_at_10": reciprocal.get(query, {}).get("recip_rank", 0.0)}
        for query in split.judged
    }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("query_id")


def averages(table: pd.DataFrame) -> dict[str, float]:
    """Return the mean of each measure over the judged queries."""
    return {name: rounded(table[name].mean()) for name in table}


def summarise(table: pd.DataFrame, split: Split) -> dict[str, float | int | None]:
    """Return the flat metrics of one system on one split."""
    unseen = table.loc[split.unseen, "ndcg_at_10"]
    return averages(table) | {
        "ndcg_at_10_unseen": rounded(unseen.mean()) if len(unseen) else None,
        "queries": len(table),
        "queries_unseen": len(unseen),
    }


def compare(scores: dict[str, pd.DataFrame], split: Split, samples: int) -> list[dict[str, object]]:
    """Return each system's step over the one before, on all and on the unseen queries."""
    steps = []
    for before, system in pairwise(SYSTEMS):
        for queries, ids in (("all", split.judged), ("unseen", split.unseen)):
            if not ids:
                continue
            found = gain(scores[before].loc[ids], scores[system].loc[ids], samples)
            head = {"system": system, "over": before, "queries": queries}
            steps.append(head | {"ndcg_at_10_gain": found.pop("gain")} | found)
    return steps


def _write_details(
    folder: Path,
    runs: dict[str, Run],
    scores: dict[str, pd.DataFrame],
    split: Split,
    settings: params.Scoring,
) -> None:
    folder.mkdir()
    for system, run in runs.items():
        with (folder / f"{system}.run").open("w", encoding="utf-8") as file:
            for query_id, ranking in run.items():
                for rank, (passage_id, value) in enumerate(ranking, start=1):
                    file.write(f"{query_id} Q0 {passage_id} {rank} {value:.9g} {system}\n")
    unseen = set(split.unseen)
    table = pd.concat(scores, names=["system"]).round(6).reset_index()
    table.insert(2, "unseen", table["query_id"].isin(unseen))
    table.to_csv(folder / "per_query.tsv", sep="\t", index=False)
    samples = settings.bootstrap_samples
    write_json(
        folder / "significance.json",
        {"intervals": intervals(scores, samples), "steps": compare(scores, split, samples)},
    )


def _curve(scores: dict[str, pd.DataFrame]) -> list[dict[str, object]]:
    return [
        {"system": system, "k": k, "ndcg": rounded(table[f"ndcg_at_{k}"].mean())}
        for system, table in scores.items()
        for k in CUTS
    ]


def _relevant(grades: dict[str, int]) -> set[str]:
    return {passage for passage, grade in grades.items() if grade >= 1}
