"""What the report shows, gathered as plain data from the outputs of the other stages.

A passage's text stands once in `passages`; everything else names it by its place there.
"""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from syntriever import paths, records
from syntriever.collection import Corpus, read_origin, read_qrels, read_queries
from syntriever.errors import SyntrieverError
from syntriever.files import missing, read_json
from syntriever.report.curves import ndcg_curve, training_curves

SYSTEMS = ("bm25", "untrained", "stage1", "stage2")
TOP = 10
MOST_QUERIES = 1000
"""Of one kind on the page: each brings the texts of its passages along."""


class Passages:
    """Numbers passages in the order in which they are first named."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def place(self, passage_id: str) -> int:
        """Return the passage's place, from 0."""
        return self._places.setdefault(passage_id, len(self._places))

    def texts(self, corpus: Corpus) -> list[list[str]]:
        """Return [id, title, text without the title] of each, in the order of their places.

        Raises:
            SyntrieverError: the corpus lacks one.
        """
        rows = corpus.rows(self._places)
        lacking = [passage for passage in self._places if passage not in rows]
        if lacking:
            raise SyntrieverError(
                f"{paths.CORPUS} lacks passage {lacking[0]!r}, which a later stage's output names. "
                "The outputs are of different runs: `dvc repro`."
            )
        wanted = np.array([rows[passage] for passage in self._places], dtype=np.int64)
        titles, texts = corpus.titles(wanted), corpus.texts(wanted)
        return [
            [passage, title, text.removeprefix(title).lstrip()]
            for passage, title, text in zip(self._places, titles, texts, strict=True)
        ]


def collect() -> dict:
    """Gather everything that the report shows.

    Raises:
        SyntrieverError: an output is missing or broken, or outputs are of different runs.
    """
    corpus = Corpus.open(paths.CORPUS)
    names = _evaluated_splits()
    passages = Passages()
    labels = read_qrels(paths.qrels("train")) if paths.qrels("train").exists() else {}
    browse = {
        "split": names[0],
        "tested": _tested(names[0], passages),
        "taught": _taught(labels, passages),
        "written": _written(passages),
        "compared": _compared(passages),
    }
    return {
        "corpus": len(corpus),
        "written_tests": read_origin(paths.ORIGIN).test_queries == "written",
        "splits": [_split(name) for name in names],
        "training": {system: training_curves(system) for system in ("stage1", "stage2")},
        "browse": browse | {"passages": passages.texts(corpus)},
    }


def _evaluated_splits() -> list[str]:
    """The evaluated splits, the one that counts first: test, else dev."""
    names = sorted((p.name for p in paths.EVALUATION.glob("*") if p.is_dir()), reverse=True)
    if not names:
        raise missing(paths.EVALUATION / "test")
    return names


def _split(name: str) -> dict:
    folder = paths.METRICS / "evaluate" / name
    significance = read_json(paths.EVALUATION / name / "significance.json")
    return {
        "name": name,
        "metrics": {system: read_json(folder / f"{system}.json") for system in SYSTEMS},
        "intervals": significance["intervals"],
        "steps": significance["steps"],
        "curve": ndcg_curve(name),
    }


def _tested(split: str, passages: Passages) -> dict:
    """The judged queries, each with what stands in any system's top ten and what is relevant.

    `queries` holds {"id", "text", "unseen", "scores": nDCG@10 by system, "rows": [passage, grade,
    rank in each of SYSTEMS, 0 where it is not in the ranking]}.
    """
    scores, unseen = _scores(split)
    runs = [_ranks(paths.EVALUATION / split / f"{system}.run") for system in SYSTEMS]
    qrels = read_qrels(paths.qrels(split))
    judged = [query for query in read_queries(paths.queries(split)) if query.query_id in unseen]
    if len(judged) > MOST_QUERIES:  # those that changed most say most
        moved = sorted(judged, key=lambda query: -_change(scores[query.query_id]))[:MOST_QUERIES]
        kept = {query.query_id for query in moved}
    else:
        kept = {query.query_id for query in judged}
    queries = []
    for query in judged:
        if query.query_id not in kept:
            continue
        ranks = [run.get(query.query_id, {}) for run in runs]
        grades = {p: g for p, g in qrels.get(query.query_id, {}).items() if g >= 1}
        shown = [p for run in ranks for p, rank in run.items() if rank <= TOP]
        queries.append(
            {
                "id": query.query_id,
                "text": query.query,
                "unseen": unseen[query.query_id],
                "scores": scores[query.query_id],
                "rows": [
                    [passages.place(p), grades.get(p, 0), *(run.get(p, 0) for run in ranks)]
                    for p in dict.fromkeys([*grades, *shown])
                ],
            }
        )
    changes = [one[-1] - one[1] for one in scores.values()]
    return {"queries": queries, "of": len(judged), "changes": sorted(changes)}


def _change(scores: Sequence[float]) -> float:
    return abs(scores[-1] - scores[1])


def _scores(split: str) -> tuple[dict[str, list[float]], dict[str, bool]]:
    """Read each judged query's nDCG@10 by system, and whether it is unseen."""
    path = paths.EVALUATION / split / "per_query.tsv"
    if not path.is_file():
        raise missing(path)
    scores: dict[str, list[float]] = {}
    unseen: dict[str, bool] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file, delimiter="\t"), start=2):
            try:
                place = SYSTEMS.index(row["system"])
                one = scores.setdefault(row["query_id"], [0.0] * len(SYSTEMS))
                one[place] = float(row["ndcg_at_10"])
                unseen[row["query_id"]] = row["unseen"] == "True"
            except (KeyError, TypeError, ValueError):
                raise SyntrieverError(
                    f"{path}, line {number}: not the scores of a system on a query. Run "
                    "`dvc repro evaluate` again."
                ) from None
    return scores, unseen


def _ranks(path: Path) -> dict[str, dict[str, int]]:
    """Read a TREC run: query id -> passage id -> rank from 1, in the order of the ranks."""
    if not path.is_file():
        raise missing(path)
    ranks: dict[str, dict[str, int]] = {}
    with path.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            try:
                ids, rank, _, _ = line.rsplit(" ", 3)
                query_id, passage_id = ids.split(" Q0 ")
                ranks.setdefault(query_id, {})[passage_id] = int(rank)
            except ValueError:
                raise SyntrieverError(
                    f"{path}, line {number}: not a line of a TREC run. Run `dvc repro evaluate` "
                    "again."
                ) from None
    return ranks


def _sample(items: Sequence[dict]) -> dict:
    """At most MOST_QUERIES of these, evenly spaced, and of how many."""
    step = max(1, -(-len(items) // MOST_QUERIES))
    return {"queries": list(items[::step]), "of": len(items)}


def _taught(labels: dict[str, dict[str, int]], passages: Passages) -> dict:
    """What the teacher wrote for each training query, and the passages labelled for it."""
    verified = list(records.read(paths.VERIFIED, records.Verified))
    verdicts = [record["verdict"] for record in verified]
    sample = _sample(verified)
    sample["queries"] = [
        {
            "id": record["query_id"],
            "text": record["query"],
            "cot": record["cot"],
            "positive": record["positive"],
            "hard_negatives": record["hard_negatives"],
            "verdict": record["verdict"],
            "relabelled": record["relabelled"],
            "labelled": _labelled(labels.get(record["query_id"], {}), passages),
        }
        for record in sample["queries"]
    ]
    counts = {str(verdict): verdicts.count(verdict) for verdict in ("yes", "no", None)}
    return sample | {"verdicts": counts}


def _labelled(grades: dict[str, int], passages: Passages) -> list[int]:
    return [passages.place(passage) for passage, grade in grades.items() if grade >= 1]


def _written(passages: Passages) -> dict:
    """The queries that the teacher wrote, each with its passage and its kind."""
    if not paths.WRITTEN.exists():
        return {"queries": [], "of": 0}
    sample = _sample(list(records.read(paths.WRITTEN, records.WrittenQuery)))
    sample["queries"] = [
        {
            "id": record["query_id"],
            "text": record["query"],
            "kind": record["kind"],
            "passage": passages.place(record["passage_id"]),
            "hard_negatives": [passages.place(p) for p in record["hard_negatives"]],
        }
        for record in sample["queries"]
    ]
    return sample


def _compared(passages: Passages) -> dict:
    """Each query's comparisons: [first passage, second, which was preferred: 1, 2 or 0 (none)]."""
    grouped = _grouped(records.read(paths.COMPARISONS, records.Comparison))
    sample = _sample(grouped)
    sample["queries"] = [
        {
            "id": first["query_id"],
            "text": first["query"],
            "pairs": [
                [
                    passages.place(pair["passage_1"]),
                    passages.place(pair["passage_2"]),
                    _side(pair),
                ]
                for pair in pairs
            ],
        }
        for pairs in sample["queries"]
        for first in pairs[:1]
    ]
    undecided = sum(pair["preferred"] is None for pairs in grouped for pair in pairs)
    return sample | {"pairs": sum(map(len, grouped)), "undecided": undecided}


def _grouped(comparisons: Iterable[dict]) -> list[list[dict]]:
    groups: dict[str, list[dict]] = {}
    for record in comparisons:
        groups.setdefault(record["query_id"], []).append(record)
    return list(groups.values())


def _side(pair: dict) -> int:
    if pair["preferred"] is None:
        return 0
    return 1 if pair["preferred"] == pair["passage_1"] else 2
