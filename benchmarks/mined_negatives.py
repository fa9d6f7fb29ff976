"""Mine a hard negative for each labelled training query: does InfoNCE on the labels gain by it?

python benchmarks/mined_negatives.py FOLDER... --to data/teacher/mined_negatives.jsonl

Writes recorded answers (data/teacher/README.md) whose synthetic hard negative is a passage of the
corpus: the one that the untrained encoder ranks first, the labelled ones aside, as is done for
written queries. The row `info_nce_mined` of tables/tune.yaml trains on them. FOLDER is a collection
in BEIR's form that tables/collections.yaml knows. A minute for concepts, five for SciFact, on two
cores.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import project  # noqa: E402

import stages  # noqa: E402

SPARE = 20  # passages ranked beyond the labelled ones: copies of these are passed over


def mined(folder: Path, length: int) -> Iterator[dict]:
    """Yield a record a training query; works in the current folder, which is empty."""
    from syntriever import paths, search
    from syntriever.collection import Corpus, read_qrels, read_queries, text_key
    from syntriever.vectors import read_vectors

    shutil.copy(ROOT / "params.yaml", "params.yaml")
    project.set_params(
        Path(),
        {
            "collection.path": str(folder),
            "collection.dev_share": 0.0,  # a split of the training queries is the row's to make
            "encoder.max_length": length,
            "evaluate.splits": ["test"],
        },
    )
    project.run_stage("prepare")
    project.run_stage("embed", "untrained")
    corpus, labels = Corpus.open(paths.CORPUS), read_qrels(paths.qrels("train"))
    queries = read_queries(paths.queries("train"))
    vectors = paths.embeddings("untrained")
    most = max(map(len, labels.values())) + SPARE
    _, ranked = search.top_k(
        read_vectors(vectors / "train.npy", len(queries)),
        read_vectors(vectors / "corpus.npy", len(corpus)),
        most,
    )
    for query, rows in zip(queries, ranked, strict=True):
        right = corpus.rows(labels[query.query_id])
        seen = {"", *map(text_key, corpus.texts(list(right.values())))}
        texts = [text for text in corpus.texts(rows) if text_key(text) not in seen]
        if texts:
            yield {"query_id": query.query_id, "query": query.query, "hard_negative": texts[0]}


def main(folders: list[Path], to: Path) -> None:
    """Write the records of all folders, one after the other, to one file."""
    from syntriever.errors import SyntrieverError
    from syntriever.files import write_jsonl
    from syntriever.tables import rows

    known = rows.load(ROOT / "tables").collections
    records: list[dict] = []
    for folder in folders:
        settings = known[folder.name].set if folder.name in known else {}
        if "encoder.max_length" not in settings:
            raise SyntrieverError(
                f"{folder}: tables/collections.yaml has no encoder.max_length for {folder.name}."
            )
        with tempfile.TemporaryDirectory() as empty, project.inside(Path(empty)):
            records += mined(folder, settings["encoder.max_length"])
    write_jsonl(to, records)
    print(f"{to}: {len(records)} queries")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Mine hard negatives for labelled queries.")
    parser.add_argument("folders", nargs="+", type=Path, help="collections in BEIR's form")
    parser.add_argument("--to", required=True, type=Path, help="the file to write")
    chosen = parser.parse_args()
    missing = [f for f in chosen.folders if not (f / "corpus.jsonl").is_file()]
    if missing:
        parser.error(f"{missing[0]} holds no corpus.jsonl: it is no collection")
    if chosen.to.is_dir():
        parser.error(f"{chosen.to} is a folder: name the file to write")
    stages.run(lambda: main([f.absolute() for f in chosen.folders], chosen.to.absolute()))
