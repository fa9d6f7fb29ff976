"""Retrieve passages with the stage-1 encoder and ask the teacher which of two it prefers."""

from collections import Counter
from pathlib import Path

import stages
from syntriever import files, params, paths


@stages.command
def mine_pairs() -> None:
    """Retrieve passages with the stage-1 encoder and ask the teacher which of two it prefers.

    Reads data/embeddings/stage1 (corpus.npy, train.npy), from data/prepared corpus.arrow,
    queries/train.jsonl and (with collection.use_labels) qrels/train.tsv, then prompts/compare.txt
    and the teacher's recorded answers (teacher.recorded). Writes
    data/preferences/comparisons.jsonl, one pair a line, null where the teacher gave no clear
    answer, and metrics/mine_pairs.json.

    Example: python -m stages.mine_pairs
    """
    settings = params.load(params.MinePairsView)

    from syntriever import preferences, prompts
    from syntriever.collection import Corpus, read_qrels, read_queries
    from syntriever.teacher import open_teacher
    from syntriever.vectors import read_vectors

    recorded = Path(settings.teacher.recorded)
    for warning in prompts.changed_since_recording(recorded, ["compare"]):
        stages.warn(warning)
    teacher = open_teacher(settings.teacher.backend, recorded)
    corpus = Corpus.open(paths.CORPUS)
    queries = read_queries(paths.queries("train"))
    qrels = read_qrels(paths.qrels("train")) if settings.collection.use_labels else None

    folder, top_k = paths.embeddings("stage1"), settings.mine_pairs.top_k
    rows = preferences.retrieve(
        read_vectors(folder / "train.npy", len(queries)),
        read_vectors(folder / "corpus.npy", len(corpus)),
        top_k,
    )
    sampling = preferences.Sampling(top_k, settings.mine_pairs.pairs, settings.seed)
    counts: Counter[str] = Counter()
    comparisons = preferences.compare(queries, rows, corpus, teacher, sampling, qrels, counts)
    files.write_jsonl(paths.COMPARISONS, comparisons)
    metrics = preferences.summary(counts)
    files.write_json(paths.METRICS / "mine_pairs.json", metrics)
    stages.show(metrics)


if __name__ == "__main__":
    mine_pairs()
