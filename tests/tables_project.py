"""A small repository with tables of its own and stub stages, and records made by hand."""

import shutil
from pathlib import Path

from project import ROOT

from syntriever.tables import cells, measured, plan, rows

COLLECTIONS = """
concepts:
  path: collections/concepts
  set: {encoder.max_length: 32}
other:
  path: collections/other
far: {needs: "a GPU"}
"""
PRESETS = """
slow: {train_stage1.epochs: 9, train_stage1.learning_rate: 2e-5}
"""
TABLE = """
title: A small table
about: Two rows.
source: a paper.
columns: [concepts, far]
extras: {refused: verify.refused}
rows:
  - {name: base, label: base, system: untrained, published: {concepts: 45.0},
     tolerance: {by: 6.0, why: another encoder}}
  - {name: slow, label: slow, system: stage2, uses: [slow], set: {loss.tau: 0.1}, seeds: [0, 1],
     against: base}
  - {name: known, label: known, published: {far: 50.5}}
  - {name: dear, label: dear, system: stage2, set: {loss.tau: 0.2}, needs: a key}
"""
MOVED = """
title: Elsewhere
about: Scored on others.
source: nothing.
columns: [other, concepts]
rows:
  - {name: moved, label: moved, system: stage1, trained_on: concepts}
"""


def make_tables(folder: Path, **files: str) -> Path:
    """Make a folder with tables/, params, prompts, dvc.yaml and two collections."""
    texts = {"collections": COLLECTIONS, "presets": PRESETS, "small": TABLE, "moved": MOVED} | files
    for name, text in texts.items():
        write(folder / "tables" / f"{name}.yaml", text)
    for name in ("concepts", "other"):
        write(folder / f"collections/{name}/corpus.jsonl", f'{{"_id": "p", "text": "{name}"}}')
        write(folder / f"collections/{name}/queries.jsonl", f'{{"_id": "q", "text": "{name}"}}')
        qrels = "query-id\tcorpus-id\tscore\nq\tp\t1\n"
        write(folder / f"collections/{name}/qrels/test.tsv", qrels)
    for name in ("params.yaml", "dvc.yaml", "prompts", "stages", "syntriever"):
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / name, folder / name)
    write(folder / "data/teacher/concepts.jsonl", "{}")
    return folder


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")


def now(book: rows.Book) -> measured.Now:
    """What `stages.tables` makes: what decides a run's scores, today."""
    from stages.tables import _now

    return _now(book)


def head(run: cells.Run) -> dict:
    """What a record says of the run that it is of."""
    return {"collection": run.collection, "seed": run.seed, "overrides": run.overrides}


def record(run: cells.Run, source: dict, shift: float = 0.0, other: str | None = None) -> dict:
    """A record of a run in which each system scores 0.2 more than the one before."""
    values = [0.1, 0.2, 0.3, 0.4]
    scores, table = {}, {"queries": ["q1", "q2", "q3", "q4"], "unseen": [0, 1, 1, 1]}
    for step, system in enumerate(("bm25", "untrained", "stage1", "stage2")):
        table[system] = [round(v + 0.2 * step + shift, 4) for v in values]
        mean = sum(table[system]) / 4
        scores[system] = {
            "ndcg_at_10": mean,
            "ndcg_at_10_unseen": sum(table[system][1:]) / 3,
            "interval": [mean - 0.05, mean + 0.05],
        }
    machine = {"device": "cpu", "cpu": "CPU (avx2)"}
    made = machine | {"seconds": 600, "stages_run": [], "made_from": source}
    if other:
        return head(run) | made | {"scored_on": other, "scores": {"test": scores}}
    found = {"scores": {"test": scores}, "metrics": {"verify": {"refused": 3}}}
    return head(run) | made | found | {"per_query": {"test": table}}


def store_all(book, table="small", shift=0.0):
    """Store a record of each run of a table that needs nothing special."""
    for row in book.table(table).rows:
        if row.system and not row.needs:
            for run in measured.runs(book, book.table(table), row, "concepts"):
                cells.store(run.file(), record(run, now(book)(run, None), shift))


def steps(book, table="small", **options):
    """Return what is left to run."""
    return plan.missing(
        book, book.table(table), now(book), {"concepts": "c", "other": "o"}, **options
    ).steps
