"""Check a BEIR-format collection line by line and write its prepared form.

Nothing holds the corpus: passages stream from corpus.jsonl into Arrow batches, and what must be
unique is compared by 64-bit hashes, 8 bytes a passage.
"""

import hashlib
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from syntriever import files, params, paths, splits
from syntriever.collection import (
    SCHEMA,
    Corpus,
    Query,
    is_blank,
    passage_text,
    read_origin,
    text_key,
)
from syntriever.errors import SyntrieverError
from syntriever.splits import SPLITS, Qrels, Split

QRELS_HEADER = "query-id\tcorpus-id\tscore\n"
NEAR_EQUAL = 0.7

# Passages written, or tokenised, at once.
BATCH = 4096

Metrics = dict[str, int | float]
TokenCounter = Callable[[list[str]], list[int]]

_WARNINGS = {
    "integer_ids": "ids written as numbers: {}; each is read as its decimal text",
    "blank_passages": "blank passages: {}; left out and never ranked",
    "queries_with_blank_labels_only": "queries whose passages of score 1 or more are all blank: "
    "{}; not measured, since no ranking holds these passages. Give them a text in corpus.jsonl",
    "duplicate_passages": "passages with the text of an earlier one: {}; in evaluation a copy "
    "counts only where it is judged itself",
    "passages_over_limit": "passages longer than encoder.max_length, which get cut: {:.1%}",
    "queries_over_limit": "queries longer than encoder.max_length, which get cut: {:.1%}",
    "doubled_judgements": "judgements that stand twice, with one grade: {}; one of each is kept",
    "queries_without_labels": "queries in no qrels file: {}; left out",
    "queries_in_two_splits": "queries judged in more than one split: {}; they never train",
    "passages_in_two_splits": "passages labelled in training and relevant in dev or test: {}; "
    "scores there are partly recognition",
    "queries_near_equal": "dev or test queries that share over "
    f"{NEAR_EQUAL:.0%} of their words with a training query: {{}}",
}


class Passage(NamedTuple):
    """One line of corpus.jsonl, checked."""

    id: str
    title: str
    text: str


def prepare(settings: params.PrepareView, token_counter: Callable[[], TokenCounter]) -> Metrics:
    """Check the collection and write its prepared form: all of it, or nothing.

    Args:
        settings: where the collection lies, and what the run will need of it.
        token_counter: makes the function that counts tokens. It is called after all checks, so
            that whatever it needs (the encoder) is fetched for a sound collection only.

    Returns:
        Counts, and shares between 0 and 1.

    Raises:
        SyntrieverError: a file is missing, a line is malformed, ids are doubled or point nowhere,
            or the collection lacks what the run needs.
    """
    folder = Path(settings.collection.path)
    _refuse_incomplete(folder)
    counts: Counter[str] = Counter()
    queries = read_queries(folder / "queries.jsonl", counts)
    judged = read_all_qrels(folder, {query.query_id for query in queries}, counts)
    parts = splits.divide(queries, judged, folder, settings)  # refuses before the long corpus
    with (
        files.replacing(paths.CORPUS) as corpus_file,
        files.replacing(paths.QUERIES) as queries_folder,
        files.replacing(paths.QRELS) as qrels_folder,
    ):
        origin = read_origin(folder / "collection.json")
        blank = write_corpus(folder / "corpus.jsonl", corpus_file, counts)
        corpus = Corpus.open(corpus_file)
        refuse_unknown_passages(folder, judged, corpus, blank)
        _refuse_small(corpus, folder, settings)
        if blank:
            judged = _without_blank(judged, set(blank), counts)
            parts = splits.divide(queries, judged, folder, settings)
        for name, part in parts.items():
            files.write_jsonl(queries_folder / f"{name}.jsonl", (q._asdict() for q in part.queries))
            write_qrels(qrels_folder / f"{name}.tsv", part.qrels)
        over = _over_limit(corpus, parts, token_counter(), settings.encoder)
    files.write_json(
        paths.ORIGIN,
        {"test_queries": origin.test_queries, "held_out": sorted(origin.held_out)},
    )
    return _metrics(parts, judged, len(queries), counts, over)


def warnings(metrics: Metrics) -> list[str]:
    """Say in words what of the metrics deserves a look."""
    return [text.format(metrics[name]) for name, text in _WARNINGS.items() if metrics.get(name)]


# Reading, line by line


def _refuse_incomplete(folder: Path) -> None:
    for name in ("corpus.jsonl", "queries.jsonl", "qrels"):
        if not (folder / name).exists():
            raise SyntrieverError(
                f"{folder / name} does not exist. collection.path must name a BEIR-format folder: "
                "corpus.jsonl, queries.jsonl, and train.tsv, dev.tsv or test.tsv in qrels. "
                "`python -m stages.collection get NAME` finds or downloads one."
            )


def read_queries(path: Path, counts: Counter[str]) -> list[Query]:
    queries: list[Query] = []
    lines: dict[str, int] = {}
    for number, record in files.read_numbered(path):
        where = f"{path}, line {number}"
        query = Query(_id(record, where, counts), _text(record, "text", where))
        if is_blank(query.query):
            raise SyntrieverError(
                f"{where}: the query is blank. Give it a text or remove the line."
            )
        if query.query_id in lines:
            raise _doubled_id(path, query.query_id, lines[query.query_id], number)
        lines[query.query_id] = number
        queries.append(query)
    if not queries:
        raise SyntrieverError(f"{path} is empty. It must hold one query a line.")
    return queries


def _id(record: dict, where: str, counts: Counter[str]) -> str:
    """Return `_id` as text. White space is refused: in qrels and run files it separates columns."""
    value = record.get("_id")
    if type(value) is int:
        counts["integer_ids"] += 1
        return str(value)
    if value is None:
        raise SyntrieverError(f'{where}: "_id" is missing or null. Give the line a unique text id.')
    if not isinstance(value, str):
        raise SyntrieverError(
            f'{where}: "_id" is {value!r}, of type {type(value).__name__}. Write it as text, in '
            "quotes."
        )
    if not value or re.search(r"[\s\x00-\x1f\x7f]", value, re.ASCII) or value != value.strip():
        raise SyntrieverError(
            f'{where}: "_id" is {value!r}. An id needs at least one character and no white space; '
            "put _ in its place, in qrels too."
        )
    return value


def _text(record: dict, field: str, where: str) -> str:
    """Return a text field, '' for null."""
    value = record.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise SyntrieverError(
            f'{where}: "{field}" is of type {type(value).__name__}. It must be text or null.'
        )
    return value


def _doubled_id(path: Path, doubled: str, first: int, second: int) -> SyntrieverError:
    return SyntrieverError(
        f'{path}, line {second}: "_id" {doubled!r} stands already in line {first}. Remove one of '
        "the two, or give it an id of its own."
    )


def read_all_qrels(folder: Path, query_ids: set[str], counts: Counter[str]) -> dict[str, Qrels]:
    """Read the qrels files that are there, by split."""
    found = {name: folder / "qrels" / f"{name}.tsv" for name in SPLITS}
    return {
        name: read_qrels(path, query_ids, counts) for name, path in found.items() if path.exists()
    }


def read_qrels(path: Path, query_ids: set[str], counts: Counter[str]) -> Qrels:
    qrels: Qrels = {}
    for number, query_id, passage_id, grade in _judgements(path):
        if query_id not in query_ids:
            raise SyntrieverError(
                f"{path}, line {number}: query {query_id!r} is not in queries.jsonl. Add it there "
                "or remove the line."
            )
        grades = qrels.setdefault(query_id, {})
        if passage_id not in grades:
            grades[passage_id] = grade
        elif grades[passage_id] == grade:
            counts["doubled_judgements"] += 1
        else:
            raise _contradiction(path, number, query_id, passage_id)
    if not qrels:
        raise SyntrieverError(f"{path} holds no judgements. Fill it, or delete it.")
    return qrels


def _judgements(path: Path) -> Iterator[tuple[int, str, str, int]]:
    """Yield (line number from 1, query id, passage id, grade) of a qrels file."""
    with files.opened(path) as file:
        for number, line in enumerate(file, start=1):
            where = f"{path}, line {number}"
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise SyntrieverError(f"{where}: not UTF-8. Convert the file to UTF-8.") from None
            columns = [column.strip() for column in text.split("\t")]
            if columns == [""] or (number == 1 and columns[-1].casefold() == "score"):
                continue
            if len(columns) != 3 or not all(columns):
                raise SyntrieverError(
                    f"{where}: query-id, corpus-id and score are expected, separated by tabs; "
                    f"found {text.strip()[:80]!r}. Write the line so, or remove it."
                )
            query_id, passage_id, grade = columns
            if not re.fullmatch("[0-9]{1,4}", grade):
                raise SyntrieverError(
                    f"{where}: the score is {grade!r}. It must be a whole number: 0 for not "
                    "relevant, 1 or more for relevant."
                )
            yield number, query_id, passage_id, int(grade)


def _contradiction(path: Path, second: int, query_id: str, passage_id: str) -> SyntrieverError:
    first = next(number for number, *ids, _ in _judgements(path) if ids == [query_id, passage_id])
    return SyntrieverError(
        f"{path}, line {second}: query {query_id!r} and passage {passage_id!r} have another score "
        f"in line {first}. Remove one of the two."
    )


def read_passages(path: Path, counts: Counter[str]) -> Iterator[Passage]:
    lines = tqdm(files.read_numbered(path), desc="check corpus", unit=" passages", disable=None)
    for number, record in lines:
        where = f"{path}, line {number}"
        if "text" not in record:
            raise SyntrieverError(
                f'{where}: "text" is missing. Add it; null where a passage has only a title.'
            )
        passage_id = _id(record, where, counts)
        yield Passage(passage_id, _text(record, "title", where), _text(record, "text", where))


# Writing, and what only the whole corpus can tell


def write_corpus(source: Path, target: Path, counts: Counter[str]) -> list[str]:
    """Stream the passages into an Arrow file and count them.

    Returns:
        The ids of blank passages, which are not written.
    """
    id_hashes, text_hashes = array("Q"), array("Q")
    blank: list[str] = []
    passages = read_passages(source, counts)
    with pa.OSFile(str(target), "wb") as file, pa.ipc.new_file(file, SCHEMA) as writer:
        while batch := list(islice(passages, BATCH)):
            id_hashes.extend(_hash(passage.id) for passage in batch)
            kept = []
            for passage in batch:
                text = passage_text(passage.title, passage.text)
                if is_blank(text):
                    blank.append(passage.id)
                else:
                    text_hashes.append(_hash(text_key(text)))
                    kept.append(passage._asdict())
            writer.write_batch(pa.RecordBatch.from_pylist(kept, SCHEMA))
    if not id_hashes:
        raise SyntrieverError(f"{source} is empty. It must hold one passage a line.")
    _refuse_doubled_ids(source, _repeated(id_hashes))
    counts["passages"] = len(text_hashes)
    counts["blank_passages"] = len(blank)
    counts["duplicate_passages"] = len(text_hashes) - len(np.unique(text_hashes))
    return blank


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest(), "little")


def _repeated(hashes: array) -> set[int]:
    ordered = np.sort(np.frombuffer(hashes, np.uint64))
    return set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())


def _refuse_doubled_ids(path: Path, suspects: set[int]) -> None:
    """Find the lines of the first doubled id; two ids that share a hash by chance pass."""
    if not suspects:
        return
    lines: dict[str, int] = {}
    for number, record in files.read_numbered(path):
        passage_id = str(record["_id"])
        if passage_id in lines:
            raise _doubled_id(path, passage_id, lines[passage_id], number)
        if _hash(passage_id) in suspects:
            lines[passage_id] = number


def refuse_unknown_passages(
    folder: Path, judged: dict[str, Qrels], corpus: Corpus, blank: list[str]
) -> None:
    asked = {
        passage for qrels in judged.values() for grades in qrels.values() for passage in grades
    }
    unknown = asked - corpus.rows(asked).keys() - set(blank)
    if not unknown:
        return
    for name in judged:
        path = folder / "qrels" / f"{name}.tsv"
        for number, _, passage_id, _ in _judgements(path):
            if passage_id in unknown:
                raise SyntrieverError(
                    f"{path}, line {number}: passage {passage_id!r} is not in corpus.jsonl. Add it "
                    "there or remove the line."
                )


def _without_blank(
    judged: dict[str, Qrels], blank: set[str], counts: Counter[str]
) -> dict[str, Qrels]:
    """Take the judgements from queries whose relevant passages are all blank: no ranking can hold
    one, so that every system would score 0. The queries stay in their splits, unjudged, and those
    of dev and test never train. Beside another relevant passage a blank one counts as missed."""
    kept: dict[str, Qrels] = {}
    for name, qrels in judged.items():
        relevant = {query: splits.relevant({query: grades}) for query, grades in qrels.items()}
        lost = {query for query, passages in relevant.items() if passages and passages <= blank}
        kept[name] = {query: {} if query in lost else grades for query, grades in qrels.items()}
        counts["queries_with_blank_labels_only"] += len(lost)
    return kept


def _refuse_small(corpus: Corpus, folder: Path, settings: params.PrepareView) -> None:
    if len(corpus) < 2:
        found = ("no passage", "only one passage")[len(corpus)]
        raise SyntrieverError(
            f"{folder / 'corpus.jsonl'} holds {found} that is not blank, so that there is nothing "
            "to rank or to compare. Add passages: 2 at least, better hundreds."
        )
    if settings.mine_pairs.top_k > len(corpus):
        raise SyntrieverError(
            f"params.yaml: mine_pairs.top_k is {settings.mine_pairs.top_k}, but "
            f"{folder / 'corpus.jsonl'} holds only {len(corpus)} passages that are not blank. "
            "Lower top_k or add passages."
        )


def write_qrels(path: Path, qrels: Qrels) -> None:
    with files.replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(QRELS_HEADER)
        for query_id, grades in qrels.items():
            for passage_id, grade in grades.items():
                file.write(f"{query_id}\t{passage_id}\t{grade}\n")


def _over_limit(
    corpus: Corpus, parts: dict[str, Split], count: TokenCounter, encoder: params.Encoder
) -> Metrics:
    """Return the shares of passages and queries whose tokens, prefix included, exceed the
    encoder's limit."""

    def over(texts: list[str], prefix: str) -> int:
        lengths = count([prefix + text for text in texts])
        return sum(length > encoder.max_length for length in lengths)

    passages = 0
    with tqdm(total=len(corpus), desc="count tokens", unit=" passages", disable=None) as bar:
        for texts in corpus.batches(BATCH):
            passages += over(texts, encoder.passage_prefix)
            bar.update(len(texts))
    queries = [query.query for part in parts.values() for query in part.queries]
    return {
        "passages_over_limit": passages / len(corpus),
        "queries_over_limit": over(queries, encoder.query_prefix) / len(queries),
    }


def _metrics(
    parts: dict[str, Split],
    judged: dict[str, Qrels],
    queries: int,
    counts: Counter[str],
    over_limit: Metrics,
) -> Metrics:
    train, dev, test = (parts[name] for name in SPLITS)
    held_out = {query.query_id: query.query for query in dev.queries + test.queries}
    placed = held_out.keys() | {query.query_id for query in train.queries}
    times_judged = Counter(query_id for qrels in judged.values() for query_id in qrels)
    near_equal = splits.near_equal(
        list(held_out.values()), [query.query for query in train.queries], NEAR_EQUAL
    )
    unmeasured = counts["queries_with_blank_labels_only"]
    return {
        "passages": counts["passages"],
        "blank_passages": counts["blank_passages"],
        **({"queries_with_blank_labels_only": unmeasured} if unmeasured else {}),  # a rarity
        "duplicate_passages": counts["duplicate_passages"],
        **over_limit,
        **{f"queries_{name}": len(part.queries) for name, part in parts.items()},
        **{f"qrels_{name}": sum(map(len, part.qrels.values())) for name, part in parts.items()},
        "integer_ids": counts["integer_ids"],
        "doubled_judgements": counts["doubled_judgements"],
        "queries_without_labels": queries - len(placed),
        "queries_in_two_splits": sum(times > 1 for times in times_judged.values()),
        "passages_in_two_splits": len(
            splits.relevant(train.qrels)
            & (splits.relevant(dev.qrels) | splits.relevant(test.qrels))
        ),
        "queries_near_equal": len({held for held, _ in near_equal}),
    }
