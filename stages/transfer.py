"""Score BM25 and the three encoders on a collection that was not trained on."""

from pathlib import Path
from typing import Annotated

import typer

import stages
from syntriever import params
from syntriever.files import write_json


@stages.command
def transfer(
    name: Annotated[str, typer.Argument(help="What to call it, such as cranfield.")],
    folder: Annotated[Path, typer.Argument(help="The collection's BEIR-format folder.")],
) -> None:
    """Score BM25 and the three encoders on a collection that was not trained on.

    Reads corpus.jsonl, queries.jsonl and qrels/test.tsv in FOLDER, and models/untrained,
    models/stage1 and models/stage2. Writes metrics/transfer/NAME.json: the scores of each system
    on the test queries, and what stage 1 and stage 2 gained over the untrained encoder; nDCG@10
    alone, which `dvc metrics show` shows, goes to metrics/ndcg_at_10_on/NAME.json. Warns where
    they lost more than 0.02 nDCG@10. An interrupted run starts over.

    Example: python -m stages.transfer concepts data/collections/concepts
    """
    settings = params.load(params.TransferView)

    from syntriever import transfer

    file = transfer.metrics_file(name)
    measures = transfer.score(folder, settings)
    write_json(file, measures)
    write_json(transfer.headline_file(name), transfer.headline(name, measures))
    typer.echo(transfer.render(name, measures))
    for warning in transfer.warnings(name, measures):
        stages.warn(warning)


if __name__ == "__main__":
    transfer()
