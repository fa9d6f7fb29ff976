"""Encode the corpus and all queries with one system's encoder."""

from typing import Annotated, Literal

import typer

import stages
from syntriever import params, paths


@stages.command
def embed(
    system: Annotated[
        Literal["untrained", "stage1", "stage2"], typer.Argument(help="Whose encoder to use.")
    ],
) -> None:
    """Encode the corpus and all queries with one system's encoder.

    Reads models/SYSTEM and data/prepared; writes data/embeddings/SYSTEM: corpus.npy, train.npy,
    dev.npy and test.npy, float32 unit vectors in the order of the prepared files. An interrupted
    run starts over.

    Example: python -m stages.embed untrained
    """
    settings = params.load(params.EmbedView)

    from syntriever import embedding, encoder

    model = encoder.load(paths.model(system), settings.compute.device)
    embedding.embed_all(model, settings, paths.embeddings(system))


if __name__ == "__main__":
    embed()
