"""Check the collection, write its prepared form and fetch the pre-trained encoder."""

import stages
from syntriever import params, paths
from syntriever.files import write_json


@stages.command
def prepare() -> None:
    """Check the collection, write its prepared form and fetch the pre-trained encoder.

    Reads the BEIR-format folder at collection.path: corpus.jsonl, queries.jsonl, train.tsv, dev.tsv
    and test.tsv in qrels, and collection.json where `stages.init` made it. Writes data/prepared
    (corpus.arrow, queries and qrels by split, origin.json), models/untrained and
    metrics/prepare.json. A collection with a fault leaves nothing behind.

    Example: python -m stages.prepare
    """
    settings = params.load(params.PrepareView)

    from syntriever import encoder, preparation

    def token_counter() -> preparation.TokenCounter:
        untrained = paths.model("untrained")
        encoder.prepare(settings.encoder, untrained)
        return encoder.token_counter(untrained)

    metrics = preparation.prepare(settings, token_counter)
    write_json(paths.METRICS / "prepare.json", metrics)
    stages.show(metrics)
    for warning in preparation.warnings(metrics):
        stages.warn(warning)


if __name__ == "__main__":
    prepare()
