"""How soon `python -m stages.search` answers: python benchmarks/search_start.py [QUERY]

In the repository's root, after `dvc repro`, on a machine that does nothing else. Starts the search
and, by turns with it, a script that does the same with plain sentence_transformers, and prints the
seconds from the start of the process to the first answer, and their ratio; also the seconds of the
first answer once the model is loaded (five passages with their sentences; below 3 is expected).
Exits 1 where the search is not the quicker, or that answer takes longer. Two minutes on two cores.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
REPEATS = 5
QUIET = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "cwd": ROOT}

PLAIN = """
import sys
import stages
from sentence_transformers import SentenceTransformer
from syntriever import paths
from syntriever.collection import Corpus
from syntriever.search import top_k
from syntriever.vectors import read_vectors

model = SentenceTransformer(str(paths.model("stage2")), device="cpu", local_files_only=True)
corpus = Corpus.open(paths.CORPUS)
vectors = read_vectors(paths.embeddings("stage2") / "corpus.npy", len(corpus))
scores, rows = top_k(model.encode_query([sys.argv[1]]), vectors, 1)
print(corpus.ids(rows[0]), flush=True)
"""

LOADED = """
import sys, time
import stages
from syntriever.searching import Searcher

searcher = Searcher("stage2")
start = time.perf_counter()
list(searcher.search(sys.argv[1], 5))
print(time.perf_counter() - start)
"""


def first_answer(*command: str) -> float:
    """Return the seconds from the start of a process to its first line."""
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, *command], **QUIET) as process:
        line = process.stdout.readline()
        seconds = time.perf_counter() - start
    if not line or process.returncode:
        sys.exit("no answer: run `dvc repro` first")
    return seconds


def loaded_answer(query: str) -> float:
    """Return the seconds of the first answer in a process that has the model loaded."""
    command = [sys.executable, "-c", LOADED, query]
    shown = subprocess.run(command, text=True, check=True, **QUIET)
    return float(shown.stdout)


def main(query: str, repeats: int) -> None:
    """Measure by turns and print the table."""
    search = ("-m", "stages.search", query, "--k", "1", "--json")
    library = ("-c", PLAIN, query)
    measures = {
        "stages.search": lambda: first_answer(*search),
        "sentence_transformers": lambda: first_answer(*library),
        "once the model is loaded": lambda: loaded_answer(query),
    }
    for measure in measures.values():  # so that all find the files in memory
        measure()
    seconds = {name: [] for name in measures}
    for _ in range(repeats):
        for name, measure in measures.items():
            seconds[name].append(measure())
    print(f"{'seconds to the first answer':28} {'median':>7} {'least':>7} {'most':>7}")
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, values in seconds.items():
        print(f"{name:28} {medians[name]:7.2f} {min(values):7.2f} {max(values):7.2f}")
    ratio = medians["stages.search"] / medians["sentence_transformers"]
    print(f"ratio of the medians, stages.search to sentence_transformers: {ratio:.2f}")
    if ratio >= 1 or medians["once the model is loaded"] >= 3:
        sys.exit("slower than expected")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("query", nargs="?", default="why does my bread not rise")
    parser.add_argument("--repeats", type=int, choices=range(1, 101), default=REPEATS, metavar="N")
    options = parser.parse_args()
    main(options.query, options.repeats)
