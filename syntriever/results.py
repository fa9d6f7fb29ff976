"""The result table, as people read it."""

from pathlib import Path

import pandas as pd

from syntriever import paths
from syntriever.collection import read_origin
from syntriever.evaluation import SYSTEMS
from syntriever.files import read_json

NAMES = {
    "bm25": "BM25",
    "untrained": "untrained encoder",
    "stage1": "+ distillation (stage 1)",
    "stage2": "+ alignment (stage 2)",
}
_COLUMNS = {
    "ndcg_at_10": "nDCG@10",
    "ndcg_at_10_unseen": "unseen",
    "ndcg_at_1": "nDCG@1",
    "recall_at_100": "Recall@100",
    "mrr_at_10": "MRR@10",
}


def table(split: str, metrics: Path = paths.METRICS) -> pd.DataFrame:
    """Return one split's metrics, a row a system."""
    rows = {s: read_json(metrics / "evaluate" / split / f"{s}.json") for s in SYSTEMS}
    return pd.DataFrame.from_dict(rows, orient="index")


def render(split: str) -> str:
    """Return one split's results as text: the main measures and what each step gained."""
    measures = table(split)
    significance = read_json(paths.EVALUATION / split / "significance.json")
    shown = measures[list(_COLUMNS)].rename(columns=_COLUMNS, index=NAMES)
    shown.insert(1, "95% interval", [_interval(significance["intervals"][s]) for s in SYSTEMS])
    written = read_origin(paths.ORIGIN).test_queries == "written"
    unseen, judged = measures["queries_unseen"].iloc[0], measures["queries"].iloc[0]
    # where all queries are unseen, the steps on these alone would say the same again
    steps = [s for s in significance["steps"] if s["queries"] == "all" or unseen < judged]
    head = (
        f"{split}: {judged} queries"
        f"{' that the teacher wrote, not people' if written else ''}, of which "
        f"{unseen} unseen (no relevant passage labelled in training)"
    )
    text = shown.to_string(float_format="{:.4f}".format, na_rep="-")
    return "\n".join([head, text, *map(_step, steps), ""])


def _interval(ends: list[float]) -> str:
    return f"{ends[0]:.3f}-{ends[1]:.3f}"


def _step(step: dict) -> str:
    return (
        f"  {NAMES[step['system']]} over {NAMES[step['over']]}, {step['queries']} queries: "
        f"{step['ndcg_at_10_gain']:+.4f} ({step['low']:+.4f} to {step['high']:+.4f}), "
        f"p = {step['p']:.4f}"
    )
