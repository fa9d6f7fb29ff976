"""Retrieve passages with the stage-1 encoder and ask the teacher which of two it prefers."""

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

import stages
from syntriever import files, params, paths

if TYPE_CHECKING:
    from syntriever.collection import Corpus


@stages.command
def mine_pairs(
    estimate: Annotated[
        bool,
        typer.Option("--estimate", help="Print calls, tokens and cost; ask and write nothing."),
    ] = False,
) -> None:
    """Retrieve passages with the stage-1 encoder and ask the teacher which of two it prefers.

    Reads data/embeddings/stage1 (corpus.npy, train.npy), from data/prepared corpus.arrow,
    queries/train.jsonl and (with collection.use_labels) qrels/train.tsv, then prompts/compare.txt
    and the teacher's recorded answers (teacher.recorded); with teacher.backend openai asks a
    server. With mine_pairs.written_negatives also models/stage1 and data/written/queries.jsonl: of
    a written query its own passage is preferred, and nobody is asked. Writes
    data/preferences/comparisons.jsonl, one pair a line, null where the teacher gave no clear
    answer, and metrics/mine_pairs.json.

    Example: python -m stages.mine_pairs
    """
    settings = params.load(params.MinePairsView)
    runtime = params.load_all().runtime.teacher

    from syntriever import conversation, preferences, teacher_choice
    from syntriever.collection import Corpus, read_qrels, read_queries
    from syntriever.estimate import report
    from syntriever.vectors import read_vectors

    mining, reasks = settings.mine_pairs, settings.teacher.reasks
    teacher = settings.teacher.model_copy(update={"model": mining.model or settings.teacher.model})
    corpus = Corpus.open(paths.CORPUS)
    queries = read_queries(paths.queries("train"))
    qrels = read_qrels(paths.qrels("train")) if settings.collection.use_labels else None
    folder = paths.embeddings("stage1")
    vectors = read_vectors(folder / "train.npy", len(queries))
    if mining.pairs == 0:  # nothing is compared: on a large corpus the search would take hours
        queries, vectors = [], vectors[:0]
    passages = read_vectors(folder / "corpus.npy", len(corpus))
    rows = preferences.retrieve(vectors, passages, mining.top_k)
    sampling = preferences.Sampling(mining.top_k, mining.pairs, settings.seed, mining.both_orders)
    if estimate:
        requests = preferences.requests(queries, rows, corpus, sampling)
        stages.tell(report(requests, teacher, runtime, reasks))
        return
    for warning in teacher_choice.warnings(teacher, ["compare"]):
        stages.warn(warning)
    counts: Counter[str] = Counter()
    with conversation.opened(teacher, runtime, reasks) as talk:
        comparisons = preferences.compare(queries, rows, corpus, talk, sampling, qrels, counts)
        written = _of_written(settings, corpus, counts) if mining.written_negatives else ()
        files.write_jsonl(paths.COMPARISONS, itertools.chain(comparisons, written))
    live = teacher.backend != "recorded"
    metrics = preferences.summary(counts, mining.both_orders, live) | talk.metrics()
    files.write_json(paths.METRICS / "mine_pairs.json", metrics)
    stages.show(metrics)


def _of_written(
    settings: params.MinePairsView, corpus: "Corpus", counts: Counter[str]
) -> Iterator[dict]:
    """Retrieve for the written queries too; see `preferences.of_written`."""
    import numpy as np

    from syntriever import encoder, preferences, records
    from syntriever.vectors import read_vectors

    queries = list(records.read(paths.WRITTEN, records.WrittenQuery))
    if not queries:
        return
    texts = [[one["query"] for one in queries]]
    model = encoder.load(paths.model("stage1"), settings.compute.device)
    vectors = encoder.encode(
        model, iter(texts), "query", settings.compute, settings.embed.batch_size
    )
    passages = read_vectors(paths.embeddings("stage1") / "corpus.npy", len(corpus))
    negatives = settings.mine_pairs.written_negatives
    rows = preferences.retrieve(
        np.concatenate(list(vectors)), passages, min(negatives + 1, len(corpus))
    )
    yield from preferences.of_written(queries, rows, corpus, negatives, counts)


if __name__ == "__main__":
    mine_pairs()
