"""Score BM25, the untrained encoder, stage 1 and stage 2."""

import typer

import stages
from syntriever import params


@stages.command
def evaluate() -> None:
    """Score BM25, the untrained encoder, stage 1 and stage 2 on the same queries.

    Reads data/embeddings and data/prepared. Writes metrics/evaluate/SPLIT/SYSTEM.json, nDCG@10
    alone, which `dvc metrics show` shows, in metrics/ndcg_at_10.json, the nDCG curves in
    plots/evaluate, and in data/evaluation/SPLIT the TREC run files (SYSTEM.run), every
    query's scores (per_query.tsv) and bootstrap intervals and p-values (significance.json).

    Example: python -m stages.evaluate
    """
    settings = params.load(params.EvaluateView)

    from syntriever import evaluation, results

    evaluation.evaluate(settings)
    for split in settings.evaluate.splits:
        typer.echo(results.render(split))


if __name__ == "__main__":
    evaluate()
