"""Whether a difference between systems is more than chance: bootstrap over queries.

Scores are tables of `evaluation.score`: one row a query, with nDCG@10 in the column ndcg_at_10.
"""

import numpy as np
import pandas as pd


def paired_bootstrap(
    differences: np.ndarray, samples: int, seed: int = 0
) -> tuple[float, float, float]:
    """Resample queries with replacement: the 95% interval of the mean, and a two-sided p-value.

    Args:
        differences: (queries,) per-query score of one system minus another's.
        samples: how many resamples.

    Returns:
        low, high: percentiles 2.5 and 97.5 of the resampled means.
        p: twice the smaller share of resampled means on either side of 0, at most 1, counting the
            sample itself once, so that it is never 0.
    """
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [
            differences[rng.integers(len(differences), size=(size, len(differences)))].mean(axis=1)
            for size in _split_evenly(samples, 500)
        ]
    )
    low, high = np.percentile(means, [2.5, 97.5])
    tail = min((means <= 0).sum(), (means >= 0).sum())
    return float(low), float(high), float(min(1.0, 2 * (tail + 1) / (samples + 1)))


def _split_evenly(total: int, most: int) -> list[int]:
    return [min(most, total - start) for start in range(0, total, most)]


def gain(before: pd.DataFrame, after: pd.DataFrame, samples: int) -> dict[str, float]:
    """Return what nDCG@10 gained from one system to another on the same queries.

    Returns:
        gain: the mean; low, high: its 95% interval; p (see `paired_bootstrap`).
    """
    differences = after["ndcg_at_10"] - before["ndcg_at_10"]
    low, high, p = paired_bootstrap(differences.to_numpy(), samples)
    found = {"gain": differences.mean(), "low": low, "high": high, "p": p}
    return {name: rounded(value) for name, value in found.items()}


def intervals(scores: dict[str, pd.DataFrame], samples: int) -> dict[str, list[float]]:
    """Return the 95% bootstrap interval of each system's mean nDCG@10."""
    return {
        system: [
            rounded(end) for end in paired_bootstrap(table["ndcg_at_10"].to_numpy(), samples)[:2]
        ]
        for system, table in scores.items()
    }


def rounded(value: float) -> float:
    """Return a score at the six digits that are kept."""
    return round(float(value), 6)
