"""The charts of the page, each a figure with a caption; `charts` draws them."""

from html import escape

from syntriever.report import charts
from syntriever.report.collect import SYSTEMS
from syntriever.report.results import LABELS

_LOGGED = {
    "ordered": "share of the pairs in the teacher’s order",
    "grad_norm": "gradient norm",
    "masked": "false negatives masked",
    "replayed": "stage-1 loss, replayed",
}


def curves(report: dict) -> str:
    """Return the curves of evaluation and training: those that matter first, the others folded."""
    first, more = [_ndcg(split) for split in report["splits"] if split["curve"]], []
    for system, logged in report["training"].items():
        shares = [name for name in logged if name.startswith("share_")]
        groups = [[name] for name in ("loss", "ordered") if name in logged]
        first += [_training(system, logged, names) for names in (*groups, shares) if names]
        rest = sorted(set(logged) - {"loss", "ordered", *shares})
        more += [_training(system, logged, [name]) for name in rest]
    if not first + more:
        return "<p>There are no plots: the stages that draw them left none.</p>"
    shown = f'<div class="figures">{"".join(first)}</div>'
    if not more:
        return shown
    return (
        f'{shown}<details class="more"><summary>More of the training</summary>'
        f'<div class="figures">{"".join(more)}</div></details>'
    )


def _ndcg(split: dict) -> str:
    title = f"nDCG@k on {split['name']}"
    data = [charts.Line(s, LABELS[s], split["curve"][s]) for s in SYSTEMS if s in split["curve"]]
    return _figure(charts.lines(title, data, logarithmic=True), f"{title}, by k")


def _training(system: str, logged: dict, names: list[str]) -> str:
    """One chart of a training; the shares of the loss come together in one."""
    if names[0].startswith("share_"):
        title = "share of the positives’ weight, by kind"
        parts = [(f"share-{n.removeprefix('share_')}", n.removeprefix("share_")) for n in names]
    else:
        title = _LOGGED.get(names[0], names[0].replace("_", " "))
        parts = [(system, f"{logged[names[0]][-1][1]:.3g}")]
    data = [
        charts.Line(style, label, logged[name])
        for name, (style, label) in zip(names, parts, strict=True)
    ]
    title = f"{LABELS[system]}: {title}"
    return _figure(charts.lines(f"{title}, by step", data), f"{title}, by step")


def balance(changes: list[float]) -> str:
    """Return how many queries won and lost by training, and how much, as a chart and in numbers.

    Args:
        changes: of each query's nDCG@10 from untrained to stage 2.
    """
    won, lost = sum(c > 0 for c in changes), sum(c < 0 for c in changes)
    said = f"{won:,} won, {lost:,} lost, {len(changes) - won - lost:,} stayed"
    title = "Change of each query’s nDCG@10 from untrained to stage 2"
    numbers = "".join(
        f'<div><dt>{name}</dt><dd class="{style}">{number:,}</dd></div>'
        for name, number, style in (
            ("won", won, "up"),
            ("lost", lost, "down"),
            ("stayed", len(changes) - won - lost, ""),
        )
    )
    chart = _figure(charts.changes(f"{title}: {said}", changes), title)
    return f'<div class="balance">{chart}<dl>{numbers}</dl></div>'


def _figure(chart: str, caption: str) -> str:
    return f"<figure>{chart}<figcaption>{escape(caption)}</figcaption></figure>"
