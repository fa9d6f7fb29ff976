"""Makes a collection folder from raw files: all of it, or nothing."""

import re
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from syntriever import conversation, files, params, splits
from syntriever.collection_files import write_qrels
from syntriever.errors import SyntrieverError
from syntriever.estimate import report
from syntriever.intake import build, chunking, encodings, labels, reading, written
from syntriever.splits import Qrels

COLLECTIONS = Path("data/collections")
ABOUT = "collection.json"

# Passages that training queries are written for; more only where the user asks and pays for them.
ENOUGH = 1000


@dataclass(frozen=True)
class Plan:
    """What to make a collection of.

    Attributes:
        source: a folder, or a file.
        name: of the collection, and of its folder in data/collections.
        queries, qrels: files, or None.
        test_share: of the labelled queries, above 0, up to 1.
        test_queries: how many the teacher writes; 0: none.
        dev_queries: how many it writes beside them to choose settings on.
        kinds: of written queries, in turn (prompts/write_<kind>.txt).
        chunk_words, overlap: see `chunking.splitter`.
        encoding: of all text files and tables; None: found out.
        exclude: patterns of files that are left out.
        columns: of a table, by role (`id`, `title`, `text`); None: found out.
    """

    source: Path
    name: str
    queries: Path | None = None
    qrels: Path | None = None
    test_share: float = 0.2
    test_queries: int = 0
    dev_queries: int = 0
    kinds: Sequence[str] = ("situation", "direct")
    chunk_words: int = 96
    overlap: int = 24
    encoding: str | None = None
    exclude: Sequence[str] = ()
    columns: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where the collection is written."""
        return COLLECTIONS / self.name


@dataclass
class Draft:
    """What is made so far: the corpus lies in a folder, all else here.

    Attributes:
        notes: what reading met.
        counts: of passages, labels and what was asked.
        queries: id -> text.
        qrels: split -> judgements.
        parts: first folder ('' without one) -> passages kept.
        asks: what the teacher is asked.
        held_out: passages that no training query may be written for.
    """

    notes: reading.Notes
    counts: Counter[str]
    queries: dict[str, str]
    qrels: dict[str, Qrels] = field(default_factory=dict)
    parts: Counter[str] = field(default_factory=Counter)
    asks: list[written.Ask] = field(default_factory=list)
    held_out: list[str] = field(default_factory=list)


def check(plan: Plan) -> None:
    """Refuse what can be refused before anything is read.

    Raises:
        SyntrieverError: options contradict each other, or the collection exists.
    """
    for path in (plan.source, plan.queries, plan.qrels):
        if path is not None and not path.exists():
            raise SyntrieverError(f"{path} does not exist. Check the path.")
    if not re.fullmatch(r"\w[\w.-]*", plan.name, re.ASCII):
        raise SyntrieverError(
            f"--name {plan.name!r} is no plain folder name. Use letters, digits, . _ and -."
        )
    if plan.folder.exists():
        raise SyntrieverError(
            f"{plan.folder} exists already, and is left as it is. Choose another --name, or remove "
            "it first."
        )
    if plan.qrels and not plan.queries:
        raise SyntrieverError("--qrels labels queries: name their file too, with --queries.")
    if plan.qrels and plan.test_queries:
        raise SyntrieverError(
            "--write-test-queries is for corpora without labels; with --qrels the labelled queries "
            "are the test. Leave one of the two out."
        )
    if not plan.qrels and not plan.test_queries:
        raise SyntrieverError(
            "Without labels there is no test, so that nothing could be measured. Label queries "
            "(--queries and --qrels), or have the teacher write some: --write-test-queries 100."
        )
    if not 0 < plan.test_share <= 1:
        raise SyntrieverError(
            f"--test-share {plan.test_share:g}: a share above 0, up to 1, is meant."
        )


def make(plan: Plan, teacher: params.QueryWritingTeacher, runtime: params.RuntimeTeacher) -> Draft:
    """Write the collection's folder.

    Raises:
        SyntrieverError: an input has a fault, or the teacher cannot write the test queries.
    """
    check(plan)
    if plan.test_queries and teacher.backend == "recorded":
        raise SyntrieverError(
            "--write-test-queries needs a teacher that can be asked, and teacher.backend is "
            "recorded: a file of recorded answers knows nothing of this corpus. Set "
            "teacher.backend: openai in params.yaml (docs/teacher.md)."
        )
    with files.replacing(plan.folder) as folder:
        draft = _read(plan, folder)
        if draft.asks:
            with conversation.opened(teacher, runtime) as talk:
                queries, draft.qrels = written.write(
                    draft.asks, talk, plan.dev_queries, draft.counts, draft.queries.values()
                )
                draft.counts.update(calls=talk.metrics()["calls"])
            _merge(draft.queries, queries, plan)
        files.write_jsonl(
            folder / "queries.jsonl",
            ({"_id": own, "text": text} for own, text in draft.queries.items()),
        )
        for name, qrels in draft.qrels.items():
            if qrels:
                write_qrels(folder / "qrels" / f"{name}.tsv", qrels)
        files.write_json(folder / ABOUT, _about(plan, draft))
    return draft


def estimate(
    plan: Plan, teacher: params.QueryWritingTeacher, runtime: params.RuntimeTeacher
) -> tuple[Draft, list[str]]:
    """Return what was read, and what writing the test queries would take; nothing is asked, nothing
    is kept.

    Raises:
        SyntrieverError: an input has a fault, or there is nothing to write.
    """
    check(plan)
    if not plan.test_queries:
        raise SyntrieverError("--estimate is of --write-test-queries, which is not asked for.")
    with tempfile.TemporaryDirectory() as folder:
        draft = _read(plan, Path(folder))
        return draft, list(report(written.requests(draft.asks), teacher, runtime))


def _read(plan: Plan, folder: Path) -> Draft:
    """Read all inputs and write the corpus into `folder`."""
    split = chunking.splitter(plan.chunk_words, plan.overlap)
    encoding = encodings.chosen(plan.encoding)
    queries = labels.read_queries(plan.queries, encoding) if plan.queries else {}
    judged = labels.read_labels(plan.qrels, queries, encoding) if plan.qrels else []
    draft = Draft(reading.Notes(), Counter(), queries)
    documents = reading.documents(plan.source, plan.columns, encoding, plan.exclude, draft.notes)
    bar = tqdm(documents, desc="read", unit=" documents", disable=None)
    folder.mkdir(parents=True, exist_ok=True)
    corpus = folder / "corpus.jsonl"
    places = build.write_corpus(bar, split, corpus, labels.targets(judged), draft.counts)
    if not draft.counts["kept"]:
        raise SyntrieverError(f"{plan.source}: all that was read is blank. Give it text.")
    draft.parts = places.parts
    if plan.qrels:
        qrels = labels.resolve(judged, places, plan.qrels, draft.counts)
        draft.qrels = labels.divide(qrels, queries, plan.test_share, plan.qrels)
        draft.counts["twins"] = labels.drop_twins(queries, draft.qrels)
    if plan.test_queries:
        draft.asks = written.choose(corpus, plan.dev_queries + plan.test_queries, plan.kinds)
        draft.held_out = written.held_out(draft.asks, corpus, plan.chunk_words, plan.overlap)
    return draft


def _merge(queries: dict[str, str], new: dict[str, str], plan: Plan) -> None:
    for own in new:
        if own in queries:
            raise SyntrieverError(
                f"{plan.queries}: the id {own!r} is that of a written query. Rename it."
            )
    queries.update(new)


def _about(plan: Plan, draft: Draft) -> dict:
    """What collection.json says: who made the test queries, and what became of the files."""
    notes = draft.notes
    return {
        "test_queries": "written" if plan.test_queries else "labelled",
        "held_out": draft.held_out,
        "chunk_words": plan.chunk_words,
        "overlap": plan.overlap,
        "exclude": list(plan.exclude),
        "read": notes.read,
        "skipped": dict(sorted(notes.skipped.items())),
        "encodings": dict(sorted(notes.encodings.items())),
        "guessed_encodings": notes.guessed,
        "columns": notes.columns,
        "kept_by_folder": {} if notes.columns else dict(sorted(draft.parts.items())),
        "counts": {name: draft.counts[name] for name in sorted(draft.counts)},
        "queries": len(draft.queries),
        "judged_queries": {name: len(qrels) for name, qrels in draft.qrels.items()},
    }


def settings(plan: Plan, draft: Draft, current: params.Params) -> dict[str, object]:
    """Return the params that this collection needs, by dotted name.

    What `current` says of written queries stays where it says anything: init turns them on where
    nothing else could train, and of a large corpus draws some passages to write them for.
    """
    writing = current.write_queries
    train, dev_share = draft.qrels.get("train", {}), current.collection.dev_share
    has_dev = "dev" in draft.qrels or bool(
        train and dev_share and splits.choose_dev(train, dev_share)
    )
    chosen: dict[str, object] = {
        "collection.path": plan.folder.as_posix(),
        "collection.use_labels": bool(train),
        "evaluate.splits": ["dev", "test"] if has_dev else ["test"],
    }
    judged = sum(map(len, draft.qrels.values()))
    if not train and len(draft.queries) == judged:  # nothing else to train on
        if not writing.per_passage:
            chosen["write_queries.per_passage"] = 1
        if not current.mine_pairs.written_negatives:
            chosen["mine_pairs.written_negatives"] = 2
    writes = chosen.get("write_queries.per_passage", writing.per_passage)
    if writes and writing.passages is None and draft.counts["kept"] > ENOUGH:
        chosen["write_queries.passages"] = ENOUGH
    return chosen
