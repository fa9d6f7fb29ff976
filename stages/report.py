"""Make one page from what all stages did."""

from pathlib import Path

import typer

import stages
from syntriever import files, params

PAGE = Path("reports/index.html")


@stages.command
def report() -> None:
    """Make one page from what all stages did: results, and what lies behind them, to browse.

    Reads metrics/evaluate, data/evaluation, plots, data/synthetic/verified.jsonl,
    data/written/queries.jsonl, data/preferences/comparisons.jsonl and data/prepared. Writes
    reports/index.html, which needs no network and no other file: open it in any browser.

    Example: python -m stages.report
    """
    params.load_all()  # only checked: the page is made of files alone

    from syntriever.report import build, collect

    page = build(collect())
    with files.replacing(PAGE) as temporary:
        temporary.write_text(page, "utf-8", newline="\n")
    typer.echo(f"{PAGE}: {len(page.encode()) / 1e6:.1f} MB. Open it in a browser.")


if __name__ == "__main__":
    report()
