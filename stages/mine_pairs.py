"""Retrieve passages with the stage-1 encoder and ask the teacher which of two it prefers."""

from collections import Counter
from typing import Annotated

import typer

import stages
from syntriever import files, params, paths


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
    server. Writes data/preferences/comparisons.jsonl, one pair a line, null where the teacher gave
    no clear answer, and metrics/mine_pairs.json.

    Example: python -m stages.mine_pairs
    """
    settings = params.load(params.MinePairsView)
    runtime = params.load_all().runtime.teacher

    from syntriever import conversation, preferences
    from syntriever.collection import Corpus, read_qrels, read_queries
    from syntriever.estimate import report
    from syntriever.vectors import read_vectors

    mining, reasks = settings.mine_pairs, settings.teacher.reasks
    corpus = Corpus.open(paths.CORPUS)
    queries = read_queries(paths.queries("train"))
    qrels = read_qrels(paths.qrels("train")) if settings.collection.use_labels else None
    folder = paths.embeddings("stage1")
    rows = preferences.retrieve(
        read_vectors(folder / "train.npy", len(queries)),
        read_vectors(folder / "corpus.npy", len(corpus)),
        mining.top_k,
    )
    sampling = preferences.Sampling(mining.top_k, mining.pairs, settings.seed, mining.both_orders)
    if estimate:
        requests = preferences.requests(queries, rows, corpus, sampling)
        stages.tell(report(requests, settings.teacher, runtime, reasks))
        return
    for warning in conversation.warnings(settings.teacher, ["compare"]):
        stages.warn(warning)
    counts: Counter[str] = Counter()
    with conversation.opened(settings.teacher, runtime, reasks) as talk:
        comparisons = preferences.compare(queries, rows, corpus, talk, sampling, qrels, counts)
        files.write_jsonl(paths.COMPARISONS, comparisons)
    live = settings.teacher.backend != "recorded"
    metrics = preferences.summary(counts, mining.both_orders, live) | talk.metrics()
    files.write_json(paths.METRICS / "mine_pairs.json", metrics)
    stages.show(metrics)


if __name__ == "__main__":
    mine_pairs()
