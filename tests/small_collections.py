"""Small collections in ./collection, and what prepare makes of them."""

import json
from pathlib import Path

import pytest

from syntriever import params, preparation
from syntriever.errors import SyntrieverError

ROOT = Path(__file__).parent.parent
HEADER = "query-id\tcorpus-id\tscore\n"

CORPUS = [
    {"_id": f"p{i}", "title": f"Title {i}", "text": f"Text of passage {i}."} for i in range(6)
]
QUERIES = [{"_id": f"q{i}", "text": f"where is number {i} {'abcdef'[i] * 5}"} for i in range(6)]
QRELS = {
    "train": [("q0", "p0", 1), ("q1", "p1", 1), ("q1", "p2", 2)],
    "dev": [("q2", "p3", 1), ("q2", "p0", 0)],
    "test": [("q3", "p4", 1)],
}


def lines(records):
    """Return records as JSON Lines."""
    return "".join(json.dumps(record) + "\n" for record in records)


def table(rows):
    """Return judgements as a qrels file."""
    return HEADER + "".join(f"{query}\t{passage}\t{grade}\n" for query, passage, grade in rows)


def write(corpus=CORPUS, queries=QUERIES, **qrels):
    """Write ./collection; text is written as it stands, and None leaves a file out."""
    folder = Path("collection")
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    for name, records in (("corpus", corpus), ("queries", queries)):
        text = records if isinstance(records, str) else lines(records)
        (folder / f"{name}.jsonl").write_text(text, "utf-8", newline="")
    for name, rows in (QRELS | qrels).items():
        if rows is not None:
            text = rows if isinstance(rows, str) else table(rows)
            (folder / "qrels" / f"{name}.tsv").write_text(text, "utf-8", newline="")


def view(path="collection", top_k=3, max_length=16, prefix="", **collection):
    """Return prepare's params: the repository's own with a few changed."""
    whole = params.load_all(ROOT / "params.yaml")
    return params.PrepareView.model_construct(
        collection=whole.collection.model_copy(update={"path": str(path)} | collection),
        encoder=whole.encoder.model_copy(
            update={"max_length": max_length, "passage_prefix": prefix}
        ),
        mine_pairs=params.TopK(top_k=top_k),
        evaluate=params.Splits(splits=["dev", "test"]),
    )


def count_words():
    """Stand in for the encoder's tokenizer."""
    return lambda texts: [len(text.split()) for text in texts]


def prepare(**settings):
    """Prepare ./collection."""
    return preparation.prepare(view(**settings), count_words)


def outputs():
    """Return everything that lies outside ./collection, by name."""
    return {
        str(path): path.read_bytes()
        for path in sorted(Path().rglob("*"))
        if path.is_file() and path.parts[0] != "collection"
    }


def refused(*words, **settings):
    """Expect one error that holds all words, no output, and no question to the encoder."""

    def no_encoder():
        raise AssertionError("the encoder was fetched for a faulty collection")

    with pytest.raises(SyntrieverError) as error:
        preparation.prepare(view(**settings), no_encoder)
    for word in words:
        assert word in str(error.value)
    assert outputs() == {}
