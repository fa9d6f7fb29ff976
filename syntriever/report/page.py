"""The page: results and figures as HTML, all that is to browse as JSON that report.js shows.

The page may load and run nothing but its own style and script: its content security policy says so.
"""

import base64
import hashlib
import json
from html import escape
from importlib.resources import files
from string import Template

from syntriever.report import figures, results
from syntriever.report.results import count


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
        results="".join(map(results.of_split, report["splits"][:1])),
        other_results="".join(map(results.folded, report["splits"][1:])),
        curves=figures.curves(report),
        balance=figures.balance(browse["tested"]["changes"]),
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


def _subtitle(report: dict) -> str:
    browse, split = report["browse"], report["splits"][0]
    parts = [
        count(report["corpus"], "passage", "passages"),
        count(browse["taught"]["of"], "training query", "training queries"),
        count(split["metrics"]["stage2"]["queries"], "query", "queries") + f" in {split['name']}",
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
            f"For {count(taught['of'], 'training query', 'training queries')} the teacher wrote a "
            f"chain of thought and passages, then checked its own positive: {verdicts['yes']:,} "
            f"accepted, {verdicts['no']:,} refused"
            + (f", {verdicts['None']:,} without a verdict." if verdicts["None"] else ".")
        ),
        "taught_shown": _shown(taught, "evenly spaced"),
        "written_said": (
            f"{count(written['of'], 'query', 'queries')} that the teacher wrote for passages of "
            "the collection."
        ),
        "written_shown": _shown(written, "evenly spaced"),
        "compared_said": (
            f"{count(compared['pairs'], 'pair', 'pairs')} of retrieved passages for "
            f"{count(compared['of'], 'query', 'queries')}; {compared['undecided']:,} undecided."
        ),
        "compared_shown": _shown(compared, "evenly spaced"),
    }


def _shown(listed: dict, which: str) -> str:
    shown = len(listed["queries"])
    return f"Here are {shown:,} of {listed['of']:,}, {which}." if shown < listed["of"] else ""
