"""All vectors of one encoder, written once; `syntriever.vectors` reads them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer
from tqdm import tqdm

from syntriever import encoder, params, paths
from syntriever.collection import Corpus, read_queries
from syntriever.files import replacing

# Texts read and sorted by length at once.
BATCH = 2048


def embed_all(model: SentenceTransformer, settings: params.EmbedView, folder: Path) -> None:
    """Write corpus.npy, train.npy, dev.npy and test.npy: (texts, dimensions) float32 each."""
    corpus = Corpus.open(paths.CORPUS)
    with replacing(folder) as temporary:
        temporary.mkdir()
        write(
            temporary / "corpus.npy",
            model,
            corpus.batches(BATCH),
            len(corpus),
            "document",
            settings,
        )
        for split in ("train", "dev", "test"):
            texts = [query.query for query in read_queries(paths.queries(split))]
            batches = (texts[i : i + BATCH] for i in range(0, len(texts), BATCH))
            write(temporary / f"{split}.npy", model, batches, len(texts), "query", settings)


def write(
    file: Path,
    model: SentenceTransformer,
    batches: Iterator[list[str]],
    texts: int,
    kind: encoder.Kind,
    settings: params.EmbedView,
) -> None:
    shape = (texts, model.get_embedding_dimension())
    if texts == 0:  # a memory map can't be empty
        np.save(file, np.zeros(shape, np.float32))
        return
    vectors = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=shape)
    start = 0
    with tqdm(total=texts, desc=f"encode {file.stem}", unit="text") as bar:
        for part in encoder.encode(
            model, batches, kind, settings.compute, settings.embed.batch_size
        ):
            vectors[start : start + len(part)] = part
            start += len(part)
            bar.update(len(part))
    vectors.flush()
