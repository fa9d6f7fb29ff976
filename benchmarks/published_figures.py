"""Check the evaluation against figures that others published, on SciFact (BEIR).

python benchmarks/published_figures.py PATH_TO_SCIFACT

Zero-shot all-MiniLM-L6-v2 (float32, 256 tokens, title and text) is published with nDCG@10 0.6451 on
SciFact's test queries; BM25 with 0.66 to 0.69, by implementation. Prints both as measured here, and
exits 1 where they are not met. About five minutes on two cores.
"""

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import shutil  # noqa: E402

import project  # noqa: E402

SETTINGS = {
    "collection.dev_share": 0.0,
    "encoder.max_length": 256,
    "evaluate.splits": ["test"],
}


def main(scifact: Path) -> None:
    import stages
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
    path = Path(sys.argv[1]).absolute()
    with tempfile.TemporaryDirectory() as folder, project.inside(Path(folder)):
        main(path)
