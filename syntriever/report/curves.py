"""The plots that other stages wrote, as points; absent ones are no fault."""

import csv
import json
import math
from pathlib import Path

from syntriever import paths
from syntriever.errors import SyntrieverError

Points = list[tuple[float, float]]
MOST_POINTS = 240
"""Of one line; more are averaged over steps that follow each other."""


def ndcg_curve(split: str) -> dict[str, Points]:
    """Read the nDCG@k of each system: system -> (k, nDCG); empty where there is no such plot."""
    path = paths.PLOTS / "evaluate" / f"ndcg_{split}.json"
    if not path.exists():
        return {}
    curve: dict[str, Points] = {}
    try:
        for point in json.loads(path.read_text("utf-8")):
            curve.setdefault(point["system"], []).append((point["k"], point["ndcg"]))
    except (KeyError, TypeError, ValueError):
        raise SyntrieverError(f"{path} is no nDCG curve. Run `dvc repro evaluate` again.") from None
    return curve


def training_curves(system: str) -> dict[str, Points]:
    """Read what DVCLive logged in a training: metric -> (step, value); empty without plots."""
    folder = paths.PLOTS / f"train_{system}"
    curves = {path.stem: _read_points(path) for path in sorted(folder.rglob("*.tsv"))}
    return {name: _thinned(points) for name, points in curves.items() if points}


def _read_points(path: Path) -> Points:
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file, delimiter="\t")
        next(rows, None)  # step, the metric's name
        try:
            points = [(float(step), float(value)) for step, value in rows]
        except ValueError:
            raise SyntrieverError(
                f"{path}, line {rows.line_num}: not a step and a value. Train again: "
                "`dvc repro -f` with the stage's name."
            ) from None
    return [(step, value) for step, value in points if math.isfinite(value)]


def _thinned(points: Points) -> Points:
    size = -(-len(points) // MOST_POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size or 1)]
    return [
        (sum(step for step, _ in g) / len(g), sum(value for _, value in g) / len(g)) for g in groups
    ]
