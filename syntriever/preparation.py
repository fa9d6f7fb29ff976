"""Prepare a collection: check it whole, divide it into splits, write what all other stages read.

`collection_files` reads and checks the files; here stands what one run needs of them.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from syntriever import collection_files, files, params, paths, splits
from syntriever.collection import Corpus, read_origin
from syntriever.errors import SyntrieverError
from syntriever.splits import SPLITS, Qrels, Split

NEAR_EQUAL = 0.7

# Passages tokenised at once.
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
    queries = collection_files.read_queries(folder / "queries.jsonl", counts)
    judged = collection_files.read_all_qrels(folder, {query.query_id for query in queries}, counts)
    parts = splits.divide(queries, judged, folder, settings)  # refuses before the long corpus
    with (
        files.replacing(paths.CORPUS) as corpus_file,
        files.replacing(paths.QUERIES) as queries_folder,
        files.replacing(paths.QRELS) as qrels_folder,
    ):
        origin = read_origin(folder / "collection.json")
        blank = collection_files.write_corpus(folder / "corpus.jsonl", corpus_file, counts)
        corpus = Corpus.open(corpus_file)
        collection_files.refuse_unknown_passages(folder, judged, corpus, blank)
        _refuse_small(corpus, folder, settings)
        if blank:
            judged = _without_blank(judged, set(blank), counts)
            parts = splits.divide(queries, judged, folder, settings)
        for name, part in parts.items():
            files.write_jsonl(queries_folder / f"{name}.jsonl", (q._asdict() for q in part.queries))
            collection_files.write_qrels(qrels_folder / f"{name}.tsv", part.qrels)
        over = _over_limit(corpus, parts, token_counter(), settings.encoder)
    files.write_json(
        paths.ORIGIN,
        {"test_queries": origin.test_queries, "held_out": sorted(origin.held_out)},
    )
    return _metrics(parts, judged, len(queries), counts, over)


def warnings(metrics: Metrics) -> list[str]:
    """Say in words what of the metrics deserves a look."""
    return [text.format(metrics[name]) for name, text in _WARNINGS.items() if metrics.get(name)]


def _refuse_incomplete(folder: Path) -> None:
    for name in ("corpus.jsonl", "queries.jsonl", "qrels"):
        if not (folder / name).exists():
            raise SyntrieverError(
                f"{folder / name} does not exist. collection.path must name a BEIR-format folder: "
                "corpus.jsonl, queries.jsonl, and train.tsv, dev.tsv or test.tsv in qrels. "
                "`python -m stages.collection get NAME` finds or downloads one."
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
