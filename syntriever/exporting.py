"""A bundle to take away: encoder, index, passages, an example, cards. Nothing of it points back."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
from tqdm import tqdm

from syntriever import bundle_card, light_encoder, paths
from syntriever.collection import Corpus
from syntriever.errors import SyntrieverError
from syntriever.files import replacing, write_jsonl
from syntriever.vectors import read_vectors

# Passages read and added at once.
SLICE = 65_536

USAGE = '''"""Search this folder: python usage.py "your question" """

import json
import sys
from pathlib import Path

import faiss
from sentence_transformers import SentenceTransformer

here = Path(__file__).parent
model = SentenceTransformer(str(here / "model"))
index = faiss.read_index(str(here / "index.faiss"))
passages = [json.loads(line) for line in (here / "passages.jsonl").open(encoding="utf-8")]
question = " ".join(sys.argv[1:]) or input("question: ")
scores, rows = index.search(model.encode_query([question]), min(5, index.ntotal))
for score, row in sorted(zip(-scores[0], rows[0])):  # equal scores in the corpus' order
    print(f"{-score:.4f}  {passages[row]['id']}  {passages[row]['title']}")
'''


def export(system: str, folder: Path) -> int:
    """Write the bundle of one system to `folder`, all of it or nothing; return the passages in it.

    FOLDER/model, index.faiss (IndexFlatIP), passages.jsonl (id, title, text, in the index' order),
    usage.py and README.md. The index is held in memory, as large as all vectors.

    Raises:
        SyntrieverError: `folder` holds something already, an input is missing or out of date, or
            the vectors are another encoder's.
    """
    folder = folder.resolve()  # a link to an empty folder, perhaps on a larger disk, stays one
    _refuse_occupied(folder)
    encode = light_encoder.load(paths.model(system))
    corpus = Corpus.open(paths.CORPUS)
    vectors = read_vectors(paths.embeddings(system) / "corpus.npy", len(corpus))
    light_encoder.check_vectors(system, vectors, encode(["text"], "document").shape[1])
    facts = bundle_card.gather(system)
    with replacing(folder) as bundle:
        # copyfile: files that DVC links from its cache may be read-only
        shutil.copytree(paths.model(system), bundle / "model", copy_function=shutil.copyfile)
        # Not the card that training wrote: that one knows its own stage alone.
        (bundle / "model" / "README.md").write_text(bundle_card.of_model(facts), "utf-8")
        _write_index(bundle / "index.faiss", vectors)
        write_jsonl(bundle / "passages.jsonl", _passages(corpus))
        (bundle / "usage.py").write_text(USAGE, "utf-8")
        shape = len(corpus), vectors.shape[1]
        (bundle / "README.md").write_text(bundle_card.of_bundle(facts, *shape), "utf-8")
    return len(corpus)


def _refuse_occupied(folder: Path) -> None:
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise SyntrieverError(
            f"--to: {folder} is there already and is not empty. Name a new folder, or remove it."
        )


def _write_index(file: Path, vectors: np.ndarray) -> None:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors, np.float32))  # at once: it grows by doubling
    faiss.write_index(index, str(file))


def _passages(corpus: Corpus) -> Iterator[dict]:
    for start in _slices(len(corpus)):
        rows = np.arange(start, min(start + SLICE, len(corpus)))
        columns = corpus.ids(rows), corpus.titles(rows), corpus.texts(rows)
        for passage_id, title, text in zip(*columns, strict=True):
            text = text.removeprefix(title.strip()).strip()
            yield {"id": passage_id, "title": title, "text": text}


def _slices(count: int) -> Iterator[int]:
    with tqdm(total=count, desc="passages", unit="passage", disable=None) as bar:
        for start in range(0, count, SLICE):
            yield start
            bar.update(min(SLICE, count - start))
