"""All vectors of one encoder, written once; `syntriever.vectors` reads them."""

import hashlib
import os
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer
from tqdm import tqdm

from syntriever import encoder, params, paths
from syntriever.collection import Corpus, read_queries, text_key
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
    """Write one file of vectors. Equal texts get equal ones, so that copies of a passage rank in
    the order of the corpus: in another batch a text's last digits may be others."""
    shape = (texts, model.get_embedding_dimension())
    if texts == 0:  # a memory map can't be empty
        np.save(file, np.zeros(shape, np.float32))
        return
    vectors = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=shape)
    _reserve(file)
    start, hashes = 0, array("Q")
    with tqdm(total=texts, desc=f"encode {file.stem}", unit="text") as bar:
        for part in encoder.encode(
            model, _hashed(batches, hashes), kind, settings.compute, settings.embed.batch_size
        ):
            vectors[start : start + len(part)] = part
            start += len(part)
            bar.update(len(part))
    _, first, group = np.unique(
        np.frombuffer(hashes, np.uint64), return_index=True, return_inverse=True
    )
    original = first[group]
    copies = np.flatnonzero(original != np.arange(texts))
    for i in range(0, len(copies), BATCH):
        vectors[copies[i : i + BATCH]] = vectors[original[copies[i : i + BATCH]]]
    vectors.flush()


def _reserve(file: Path) -> None:
    """Take the room on the disk at once: written through a memory map, the page that finds none
    would end the process without a word, after hours of encoding.

    Raises:
        OSError: there is not so much room.
    """
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with file.open("r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)


def _hashed(batches: Iterator[list[str]], hashes: array) -> Iterator[list[str]]:
    """Note a hash of each text, 8 bytes, on its way to the encoder."""
    for texts in batches:
        for text in texts:
            digest = hashlib.blake2b(text_key(text).encode("utf-8"), digest_size=8).digest()
            hashes.append(int.from_bytes(digest, "little"))
        yield texts
