"""The numbers of one split as HTML: a sentence, a card a system, the steps, all measures."""

from html import escape

from syntriever.report import charts
from syntriever.report.collect import SYSTEMS

LABELS = {"bm25": "BM25", "untrained": "Untrained", "stage1": "Stage 1", "stage2": "Stage 2"}
_EXPLAINED = {
    "bm25": "words, no training",
    "untrained": "the encoder as it came",
    "stage1": "after distillation",
    "stage2": "after alignment",
}
_MEASURES = {
    "ndcg_at_10": "nDCG@10",
    "ndcg_at_10_unseen": "on unseen queries",
    "ndcg_at_1": "nDCG@1",
    "recall_at_10": "Recall@10",
    "recall_at_100": "Recall@100",
    "mrr_at_10": "MRR@10",
    "map_at_100": "MAP@100",
}


def count(number: int, one: str, more: str) -> str:
    """Return a number with its noun: 1 query, 1,200 queries."""
    return f"{number:,} {one if number == 1 else more}"


def of_split(split: dict) -> str:
    """Return the results of one split, as `collect` gathered them."""
    gains = {s["system"]: s for s in split["steps"] if s["queries"] == "all"}
    cards = "".join(_card(system, split, gains.get(system)) for system in SYSTEMS)
    rows = [
        (s, LABELS[s], split["metrics"][s]["ndcg_at_10"], *split["intervals"][s]) for s in SYSTEMS
    ]
    chart = charts.intervals(f"nDCG@10 on {split['name']} with 95% intervals", rows)
    return (
        f'<p>{_verdict(split, gains)}</p><ol class="cards">{cards}</ol><div class="pair">'
        f"<figure>{chart}<figcaption>nDCG@10 on "
        f"{escape(split['name'])}, the mean and its 95% interval</figcaption></figure>"
        f"{_steps(split)}</div>{_table(split)}"
    )


def folded(split: dict) -> str:
    """Return the results of a split that the headline is not about, folded."""
    name = escape(split["name"])
    return f'<details class="more"><summary>Results on {name}</summary>{of_split(split)}</details>'


def _verdict(split: dict, gains: dict[str, dict]) -> str:
    """Say in words what the training brought, and whether it may be chance."""
    metrics = split["metrics"]
    before, after = (metrics[s]["ndcg_at_10"] for s in ("untrained", "stage2"))
    queries = count(metrics["stage2"]["queries"], "query", "queries")
    said = [
        f"On {queries} in {escape(split['name'])}, nDCG@10 went from "
        f"{before:.3f}, untrained, to {after:.3f} after both stages "
        f"({_signed(after - before)})."
    ]
    for system in ("stage1", "stage2"):
        step = gains[system]
        clear = step["low"] > 0 or step["high"] < 0
        said.append(
            f"{LABELS[system]} brought {_signed(step['ndcg_at_10_gain'])} (p = {step['p']:.4f})"
            + ("." if clear else ", which may be chance: its interval holds 0.")
        )
    return " ".join(said)


def _card(system: str, split: dict, gain: dict | None) -> str:
    mean = split["metrics"][system]["ndcg_at_10"]
    low, high = split["intervals"][system]
    step = ""
    if gain and system != "untrained":  # BM25 stands beside: it is no step before the encoder
        way = "up" if gain["ndcg_at_10_gain"] >= 0 else "down"
        step = f'<span class="gain {way}">{_signed(gain["ndcg_at_10_gain"])}</span>'
    return (
        f'<li class="card s-{system}"><span class="name">{LABELS[system]}</span>'
        f'<span class="value">{mean:.3f}</span>{step}'
        f'<span class="note">{low:.3f} to {high:.3f}</span>'
        f'<span class="note">{_EXPLAINED[system]}</span></li>'
    )


def _steps(split: dict) -> str:
    """What each step gained, as a table."""
    rows = "".join(
        f'<tr><th scope="row">{LABELS[s["system"]]} over {LABELS[s["over"]]}'
        f"{', unseen' if s['queries'] == 'unseen' else ''}</th>"
        f"<td>{_signed(s['ndcg_at_10_gain'])}</td>"
        f"<td>{_signed(s['low'])} to {_signed(s['high'])}</td><td>{s['p']:.4f}</td></tr>"
        for s in split["steps"]
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Step", "Gain", "95% interval", "p"))
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Gains"><table><caption>What '
        "each step gained in nDCG@10 (paired bootstrap over queries, two-sided p)</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _table(split: dict) -> str:
    metrics = split["metrics"]
    head = "".join(f'<th scope="col">{name}</th>' for name in _MEASURES.values())
    rows = "".join(
        f'<tr><th scope="row"><span class="swatch s-{system}"></span>{LABELS[system]}</th>'
        + "".join(f"<td>{_number(metrics[system].get(name))}</td>" for name in _MEASURES)
        + "</tr>"
        for system in SYSTEMS
    )
    one = metrics["stage2"]
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="All measures"><table>'
        f"<caption>{escape(split['name'])}: {count(one['queries'], 'query', 'queries')}, of which "
        f"{one['queries_unseen']:,} unseen (no relevant passage labelled in training)</caption>"
        f'<thead><tr><th scope="col">System</th>{head}</tr></thead><tbody>{rows}</tbody></table>'
        "</div>"
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")
