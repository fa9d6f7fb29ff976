"""A small part of the embedded collection, keys intact: `python tests/cut_down.py TO`"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "data" / "collections" / "concepts"
TEACHER = ROOT / "data" / "teacher" / "concepts.jsonl"


def cut_down(target: Path, train: int = 12, dev: int = 4, test: int = 6) -> None:
    """Write the first queries of each split, with their relevant passages and all passages that
    the recorded teacher has ordered for them."""
    queries = {line["_id"]: line for line in _lines(SOURCE / "queries.jsonl")}
    orders = {line["query_id"]: line["preference_order"] for line in _lines(TEACHER)}
    kept_queries, kept_passages = [], set()
    (target / "qrels").mkdir(parents=True)
    for split, count in (("train", train), ("dev", dev), ("test", test)):
        header, *rows = (SOURCE / "qrels" / f"{split}.tsv").read_text("utf-8").splitlines()
        chosen = list(dict.fromkeys(row.split("\t")[0] for row in rows))[:count]
        rows = [row for row in rows if row.split("\t")[0] in chosen]
        (target / "qrels" / f"{split}.tsv").write_text("\n".join([header, *rows, ""]), "utf-8")
        kept_queries += chosen
        kept_passages |= {row.split("\t")[1] for row in rows}
        kept_passages |= {p for query in chosen for p in orders.get(query, ())}
    _write(target / "queries.jsonl", [queries[query] for query in kept_queries])
    passages = _lines(SOURCE / "corpus.jsonl")
    _write(target / "corpus.jsonl", [p for p in passages if p["_id"] in kept_passages])


def _lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def _write(file: Path, records: list[dict]) -> None:
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    file.write_text(text, "utf-8")


if __name__ == "__main__":
    cut_down(Path(sys.argv[1]))
