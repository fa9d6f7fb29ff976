"""Where stages read and write, relative to the repository's root (dvc.yaml says the same)."""

from pathlib import Path

PREPARED = Path("data/prepared")
ORIGIN = PREPARED / "origin.json"
CORPUS = PREPARED / "corpus.arrow"
QUERIES = PREPARED / "queries"
QRELS = PREPARED / "qrels"
WRITTEN = Path("data/written/queries.jsonl")
SYNTHESIZED = Path("data/synthetic/synthesized.jsonl")
VERIFIED = Path("data/synthetic/verified.jsonl")
COMPARISONS = Path("data/preferences/comparisons.jsonl")
EMBEDDINGS = Path("data/embeddings")
EVALUATION = Path("data/evaluation")
MODELS = Path("models")
PROMPTS = Path("prompts")
METRICS = Path("metrics")
HEADLINE = METRICS / "ndcg_at_10.json"
PLOTS = Path("plots")


def queries(split: str) -> Path:
    """The queries of `train`, `dev` or `test`, one {"query_id", "query"} a line."""
    return QUERIES / f"{split}.jsonl"


def qrels(split: str) -> Path:
    """The judgements of `train`, `dev` or `test`: query-id, corpus-id, score, tab-separated."""
    return QRELS / f"{split}.tsv"


def model(system: str) -> Path:
    """The encoder of `untrained`, `stage1` or `stage2`, a SentenceTransformer folder."""
    return MODELS / system


def embeddings(system: str) -> Path:
    """The folder of one system's corpus.npy and train.npy, dev.npy, test.npy."""
    return EMBEDDINGS / system
