"""The page: results and charts as HTML, all that is to browse as JSON that report.js shows.

The page may load and run nothing but its own style and script: its content security policy says so.
"""

import base64
import hashlib
import json
from html import escape
from importlib.resources import files
from string import Template

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
_LOGGED = {
    "ordered": "share of the pairs in the teacher’s order",
    "grad_norm": "gradient norm",
    "masked": "false negatives masked",
    "replayed": "stage-1 loss, replayed",
}


def build(report: dict) -> str:
    """Return the whole page as HTML from what `collect` gathered; same report, same text."""
    here = files("syntriever.report")
    style, script, template = (
        here.joinpath(name).read_text("utf-8")
        for name in ("style.css", "report.js", "template.html")
    )
    browse = report["browse"]
    return Template(template).substitute(
        script_hash=_hash(script),
        style_hash=_hash(style),
        style=style,
        script=script,
        subtitle=escape(_subtitle(report)),
        results="".join(map(_results, report["splits"][:1])),
        other_results="".join(map(_other, report["splits"][1:])),
        curves=_curves(report),
        balance=_balance(browse["tested"]["changes"]),
        data=embedded(browse),
        no_written="" if browse["written"]["queries"] else "hidden",
        **_sentences(browse),
    )


def embedded(data: object) -> str:
    """Return JSON that no text in it can break out of a script element with."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    # U+2028 and U+2029 are harmless in JSON; `<` covers </script> and <!-- alike.
    return text.replace("<", "\\u003c")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _count(number: int, one: str, more: str) -> str:
    return f"{number:,} {one if number == 1 else more}"


def _subtitle(report: dict) -> str:
    browse, split = report["browse"], report["splits"][0]
    parts = [
        _count(report["corpus"], "passage", "passages"),
        _count(browse["taught"]["of"], "training query", "training queries"),
        _count(split["metrics"]["stage2"]["queries"], "query", "queries") + f" in {split['name']}",
    ]
    if report["written_tests"]:
        parts[-1] += ", written by the teacher, not by people"
    return " · ".join(parts)


def _sentences(browse: dict) -> dict[str, str]:
    """What stands at the head of each list."""
    tested, taught = browse["tested"], browse["taught"]
    written, compared = browse["written"], browse["compared"]
    verdicts = taught["verdicts"]
    return {
        "split": escape(browse["split"]),
        "tested_shown": _shown(tested, "those that changed most"),
        "taught_said": (
            f"For {_count(taught['of'], 'training query', 'training queries')} the teacher wrote a "
            f"chain of thought and passages, then checked its own positive: {verdicts['yes']:,} "
            f"accepted, {verdicts['no']:,} refused"
            + (f", {verdicts['None']:,} without a verdict." if verdicts["None"] else ".")
        ),
        "taught_shown": _shown(taught, "evenly spaced"),
        "written_said": (
            f"{_count(written['of'], 'query', 'queries')} that the teacher wrote for passages of "
            "the collection."
        ),
        "written_shown": _shown(written, "evenly spaced"),
        "compared_said": (
            f"{_count(compared['pairs'], 'pair', 'pairs')} of retrieved passages for "
            f"{_count(compared['of'], 'query', 'queries')}; {compared['undecided']:,} undecided."
        ),
        "compared_shown": _shown(compared, "evenly spaced"),
    }


def _shown(listed: dict, which: str) -> str:
    shown = len(listed["queries"])
    return f"Here are {shown:,} of {listed['of']:,}, {which}." if shown < listed["of"] else ""


def _results(split: dict) -> str:
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


def _verdict(split: dict, gains: dict[str, dict]) -> str:
    """Say in words what the training brought, and whether it may be chance."""
    metrics = split["metrics"]
    before, after = (metrics[s]["ndcg_at_10"] for s in ("untrained", "stage2"))
    queries = _count(metrics["stage2"]["queries"], "query", "queries")
    said = [
        f"On {queries} in {escape(split['name'])}, nDCG@10 went from "
        f"{before:.3f}, untrained, to {after:.3f} after both stages "
        f"({_signed(after - before)})."
    ]
    for system in ("stage1", "stage2"):
        step = gains[system]
        clear = step["low"] > 0 or step["high"] < 0
        said.append(
            f"{LABELS[system]} brought {_signed(step['ndcg_at_10_gain'])}"
            + (", beyond chance." if clear else ", which may be chance: its interval holds 0.")
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
        f"<caption>{escape(split['name'])}: {_count(one['queries'], 'query', 'queries')}, of which "
        f"{one['queries_unseen']:,} unseen (no relevant passage labelled in training)</caption>"
        f'<thead><tr><th scope="col">System</th>{head}</tr></thead><tbody>{rows}</tbody></table>'
        "</div>"
    )


def _other(split: dict) -> str:
    """The split that the headline is not about, folded."""
    name = escape(split["name"])
    return f'<details class="more"><summary>Results on {name}</summary>{_results(split)}</details>'


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _curves(report: dict) -> str:
    """The charts that matter first, the others folded."""
    first, more = [_ndcg(split) for split in report["splits"] if split["curve"]], []
    for system, curves in report["training"].items():
        shares = [name for name in curves if name.startswith("share_")]
        groups = [[name] for name in ("loss", "ordered") if name in curves]
        first += [_training(system, curves, names) for names in (*groups, shares) if names]
        rest = sorted(set(curves) - {"loss", "ordered", *shares})
        more += [_training(system, curves, [name]) for name in rest]
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


def _training(system: str, curves: dict, names: list[str]) -> str:
    """One chart of a training; the shares of the loss come together in one."""
    if names[0].startswith("share_"):
        title = "share of the positives’ weight, by kind"
        parts = [(f"share-{n.removeprefix('share_')}", n.removeprefix("share_")) for n in names]
    else:
        title = _LOGGED.get(names[0], names[0].replace("_", " "))
        parts = [(system, f"{curves[names[0]][-1][1]:.3g}")]
    data = [
        charts.Line(style, label, curves[name])
        for name, (style, label) in zip(names, parts, strict=True)
    ]
    title = f"{LABELS[system]}: {title}"
    return _figure(charts.lines(f"{title}, by step", data), f"{title}, by step")


def _balance(changes: list[float]) -> str:
    """How many queries won and lost by training, and how much."""
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
