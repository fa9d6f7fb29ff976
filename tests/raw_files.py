"""Raw files as people have them, in ./raw, and `init` run on them."""

from pathlib import Path

import pytest

from syntriever.errors import SyntrieverError
from syntriever.files import read_json, read_jsonl
from syntriever.intake import make, reading

COLLECTION = Path("data/collections/mine")
LONG = "".join(f"This is sentence number {i} of the long text.\n" for i in range(40))


def put(name, content):
    """Write one file below ./raw; text as UTF-8."""
    path = Path("raw") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def table(name, *rows):
    """Write a table of these rows beside ./raw."""
    path = Path(name)
    path.write_text("".join("\t".join(row) + "\n" for row in rows), "utf-8")
    return path


def draft(source="raw", **changes):
    """Make ./data/collections/mine of a source, by default with one labelled query a document."""
    plan = plan_of(source, **changes)
    return make.make(plan, None, None)


def plan_of(source="raw", **changes):
    """A plan with queries and labels from ./queries.tsv and ./qrels.tsv."""
    files = {"queries": Path("queries.tsv"), "qrels": Path("qrels.tsv")}
    return make.Plan(**{"source": Path(source), "name": "mine"} | files | changes)


def label(*targets):
    """Write ./queries.tsv and ./qrels.tsv: query q0 labels the first of these, and so on."""
    table("queries.tsv", ("id", "text"), *((f"q{i}", f"number {i}") for i in range(len(targets))))
    table(
        "qrels.tsv",
        ("query-id", "corpus-id", "score"),
        *((f"q{i}", target, "1") for i, target in enumerate(targets)),
    )


def corpus():
    """The passages made: id -> (title, text)."""
    lines = read_jsonl(COLLECTION / "corpus.jsonl")
    return {one["_id"]: (one["title"], one["text"]) for one in lines}


def judged(split):
    """The judgements of a split, as (query, passage, grade)."""
    file = COLLECTION / "qrels" / f"{split}.tsv"
    return [tuple(line.split("\t")) for line in file.read_text("utf-8").splitlines()[1:]]


def about():
    """What collection.json says."""
    return read_json(COLLECTION / "collection.json")


def read(source="raw", encoding=None, exclude=(), **columns):
    """Read all documents; return them and the notes."""
    notes = reading.Notes()
    return list(reading.documents(Path(source), columns, encoding, exclude, notes)), notes


def refused(source, *words, **options):
    """Expect one error that holds all words."""
    with pytest.raises(SyntrieverError) as error:
        read(source, **options)
    for word in words:
        assert word in str(error.value)
