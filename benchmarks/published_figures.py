"""Check the evaluation against figures that others published, on SciFact (BEIR).

python benchmarks/published_figures.py PATH_TO_SCIFACT

Zero-shot all-MiniLM-L6-v2 (float32, 256 tokens, title and text) is published with nDCG@10 0.6451 on
SciFact's test queries; BM25 with 0.66 to 0.69, by implementation. Prints both as measured here, and
exits 1 where they are not met. About five minutes on two cores.
"""

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import shutil  # noqa: E402

import project  # noqa: E402

import stages  # noqa: E402

SETTINGS = {
    "collection.dev_share": 0.0,
    "encoder.max_length": 256,
    "evaluate.splits": ["test"],
}


def main(scifact: Path) -> None:
    from syntriever import evaluation, params, paths
    from syntriever.collection import Corpus

    shutil.copy(ROOT / "params.yaml", "params.yaml")
    project.set_params(Path(), SETTINGS | {"collection.path": str(scifact)})
    project.run_stage("prepare")
    project.run_stage("embed", "untrained")
    settings = params.load(params.EvaluateView).evaluate
    split = evaluation.read_split("test")
    corpus = Corpus.open(paths.CORPUS)
    found = {}
    for system in ("bm25", "untrained"):
        run = evaluation.search(system, split, corpus, settings)
        found[system] = evaluation.summarise(evaluation.score(run, split), split)
        print(system)
        stages.show(found[system])
    met = abs(found["untrained"]["ndcg_at_10"] - 0.6451) < 0.0005
    met &= 0.66 <= found["bm25"]["ndcg_at_10"] <= 0.69
    if not met:
        sys.exit("the published figures are not met")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Check the evaluation against published figures.")
    parser.add_argument("scifact", type=Path, help="BEIR's folder of SciFact: corpus.jsonl, ...")
    path = parser.parse_args().scifact.absolute()
    if not (path / "corpus.jsonl").is_file():
        parser.error(f"{path} holds no corpus.jsonl: `python -m stages.collection get scifact`")
    with tempfile.TemporaryDirectory() as folder, project.inside(Path(folder)):
        stages.run(lambda: main(path))
