"""The tables as Markdown: measured beside published, and what was measured in detail."""

import re
from pathlib import Path

from syntriever.errors import SyntrieverError
from syntriever.tables.cells import UPSTREAM
from syntriever.tables.measured import (
    Cell,
    Gain,
    Now,
    cell,
    fall,
    gain,
    gain_elsewhere,
    precision,
)
from syntriever.tables.rows import Book, Row, Table

_METRICS = {"ndcg_at_10_unseen": "unseen"}
_MARKS = re.compile(r"(<!-- tables:begin\b(.*?)-->\n).*?(<!-- tables:end -->)", re.DOTALL)

_RUN = "python -m stages.tables run"

LEGEND = (
    "In percent, measured / published, or measured alone where nothing is published; `like this`: "
    "the row's name, for --row; in round brackets the 95% interval over queries. [1] alone: not "
    "run, for the reason below the table. ×3: the mean of three seeds; ×1 of 3: two are missing, "
    "or in another precision. stale [2]: data, prompts or params have changed since; older code, "
    "under `made on`: only modules have. –: nothing to measure. A gain is paired over the seeds "
    "that both rows have (what no seed changes stands beside each); its interval and p are of the "
    "queries, and `each seed` shows how far one is from another."
)


def filled(file: Path, book: Book, now: Now) -> str:
    """Return a file's text with the tables between its marks, `<!-- tables:begin table1 losses -->`
    and `<!-- tables:end -->`; a mark without names takes all tables.

    Raises:
        SyntrieverError: the file or a table that it names does not exist, or its marks are not
            there in pairs.
    """
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        raise SyntrieverError(
            f"{file} does not exist. Run this from the repository's root."
        ) from None
    except UnicodeDecodeError as error:
        raise SyntrieverError(f"{file}: not UTF-8 (at byte {error.start}). Convert it.") from None
    _check_marks(file, text)

    def tables(match: re.Match) -> str:
        # Names stand before the comma; after it, words for people.
        names = match[2].partition(",")[0].split() or list(book.tables)
        shown = "\n".join(render(book, book.table(name), now) for name in names)
        return f"{match[1]}{shown}{match[3]}"

    return _MARKS.sub(tables, text)


def _check_marks(file: Path, text: str) -> None:
    expected, pairs = "begin", 0
    for number, line in enumerate(text.splitlines(), start=1):
        for mark in re.findall(r"<!-- *tables?: *(\w+)", line):
            if mark != expected:
                raise SyntrieverError(
                    f"{file}, line {number}: tables:{mark} where tables:{expected} is expected. "
                    "Tables stand between <!-- tables:begin … --> and <!-- tables:end -->."
                )
            expected = "end" if mark == "begin" else "begin"
            pairs += mark == "end"
    if expected == "end" or not pairs or len(_MARKS.findall(text)) != pairs:
        raise SyntrieverError(
            f"{file} lacks its marks, written exactly so: <!-- tables:begin … --> at the end of a "
            "line, and <!-- tables:end -->."
        )


def render(book: Book, table: Table, now: Now) -> str:
    """Return one table as Markdown."""
    cells = {
        (row.name, column): cell(book, table, row, column, now)
        for row in table.rows
        if row.system
        for column in table.columns_of(row)
    }
    notes: list[str] = []
    source = f" Published: {table.source}" if table.source else ""
    more = f" Every row uses {' and '.join(table.uses)} too, whatever its label says."
    about = table.about + (more if table.uses else "")
    lines = [f"**{table.title}**", "", about + source, ""]
    lines += _matrix(book, table, cells, notes)
    lines += [""] + [f"- [{number}] {note}" for number, note in enumerate(notes, start=1)]
    lines += _details(table, cells)
    return "\n".join(lines).rstrip() + "\n"


def leaderboard(book: Book, table: Table, now: Now) -> list[str]:
    """Return the measured rows of a table on each column, the best first."""
    lines = []
    for column in table.columns:
        rows = [row for row in table.rows if row.system and column in table.columns_of(row)]
        found = [cell(book, table, row, column, now) for row in rows]
        scores = [(c.mean(table.metrics[0]), c) for c in found if c.records]
        scored = [(score, c) for score, c in scores if score is not None]
        lines.append(f"{column}, {table.split}, {_heading(table.metrics[0])} in percent:")
        for score, one in sorted(scored, key=lambda pair: -pair[0]):
            ends = one.interval() if table.metrics[0] == "ndcg_at_10" else None
            lines.append(f"  {score:5.1f}{_ends(ends)}  {one.row.name}: {one.row.label}")
    return lines


def _matrix(book: Book, table: Table, cells: dict, notes: list[str]) -> list[str]:
    heads = [
        column if len(table.metrics) == 1 else f"{column} {_heading(metric)}"
        for column in table.columns
        for metric in table.metrics
    ]
    corner = _heading(table.metrics[0]) if len(table.metrics) == 1 else ""
    lines = [_line([corner, *heads]), _line(["---", *["---:"] * len(heads)])]
    for row in table.rows:
        texts = [f"{row.label} `{row.name}`" if row.system else row.label]
        for column in table.columns:
            for metric in table.metrics:
                published = table.published(row, column, metric)
                found = cells.get((row.name, column))
                text = "–" if found is None else _measured(book, table, found, metric, notes)
                if published is not None:
                    text += f" / {published:.1f}{_agreement(row, found, metric, published)}"
                texts.append(text)
        lines.append(_line(texts))
    return lines


def _measured(book: Book, table: Table, found: Cell, metric: str, notes: list[str]) -> str:
    if found.row.trained_on == found.column and found.row.system in ("stage1", "stage2"):
        return "trained on"
    if not found.records:
        return _absent(book, table, found, notes)
    score = found.mean(metric)
    if score is None:
        return "–"
    ends = found.interval() if metric == "ndcg_at_10" else None
    done, asked = len(found.records), len(found.row.seeds)
    count = "" if done == asked == 1 else f" ×{done}" + (f" of {asked}" if done < asked else "")
    text = f"{score:.1f}{_ends(ends)}{count}"
    if found.failed:
        text += f" failed: {_note(notes, found.failed[0])}"
    if found.stale:
        text += f" stale {_note(notes, 'stale: ' + found.stale)}"
    lost = fall(found) if metric == "ndcg_at_10" else None
    return text if lost is None else f"{text} **warning: −{lost:.1f} against untrained**"


def _absent(book: Book, table: Table, found: Cell, notes: list[str]) -> str:
    if found.failed:
        return f"failed {_note(notes, 'failed: ' + found.failed[0])}"
    trained_on, column = (book.collections[n] for n in (found.trained_on, found.column))
    needs, made_by = found.row.needs or trained_on.needs, trained_on.made_by
    if found.scored_on is not None:
        needs, made_by = needs or column.scoring_needs or column.needs, made_by or column.made_by
    if needs:
        return _note(notes, f"not run: {needs}")
    command = " ".join([_RUN, table.name, *(f"--uses {name}" for name in table.uses)])
    return _note(notes, f"not run yet: `{command}`" + (f". {made_by}" if made_by else ""))


def _note(notes: list[str], words: str) -> str:
    words = words.replace("\n", " ")
    if words not in notes:
        notes.append(words)
    return f"[{notes.index(words) + 1}]"


def _agreement(row: Row, found: Cell | None, metric: str, published: float) -> str:
    score = found.mean(metric) if found else None
    if row.tolerance is None or score is None:
        return ""
    within = abs(score - published) <= row.tolerance.by
    return f" ({'within' if within else 'beyond'} {row.tolerance.by:g}: {row.tolerance.why})"


def _details(table: Table, cells: dict[tuple[str, str], Cell]) -> list[str]:
    """One line a measured cell: each seed, unseen queries, the gain over its row `against`, or
    over the untrained encoder on other collections, extras."""
    compared = any(cell.row.against or cell.scored_on for cell in cells.values())
    several = any(len(cell.row.seeds) > 1 for cell in cells.values())
    heads = ["measured", *(["each seed"] if several else []), "unseen"]
    heads += (["over", "gain", "gain, unseen"] if compared else []) + [*table.extras, "made on"]
    lines = []
    for (_, column), found in cells.items():
        if not found.records:
            continue
        unseen = found.mean("ndcg_at_10_unseen")
        texts = [f"{column}: {_marked(found)}"]
        texts += [_seeds(found)] if several else []
        texts.append("–" if unseen is None else f"{unseen:.1f}")
        texts += _compared(found, cells.get((found.row.against, column))) if compared else []
        texts += [_extra(found, name) for name in table.extras.values()]
        made = dict.fromkeys(_made_on(record) for record in found.records)
        older = ["older code"] if found.older_code and not found.stale else []
        lines.append(_line([*texts, "; ".join([*made, *older])]))
    if not lines:
        return []
    return ["", _line(heads), _line(["---"] * len(heads)), *lines]


def _compared(found: Cell, other: Cell | None) -> list[str]:
    """What it is compared with, the gain over that, and the same on unseen queries."""
    if found.scored_on:
        elsewhere = gain_elsewhere(found)
        return ["–" if elsewhere is None else "untrained", _gain(elsewhere), "–"]
    if other is None:
        return ["–"] * 3
    return [_marked(other), *(_gain(gain(found, other, unseen)) for unseen in (False, True))]


def _seeds(found: Cell) -> str:
    scores = found.per_seed("ndcg_at_10")
    return ", ".join(f"{seed}: {score:.1f}" for seed, score in scores.items())


def _marked(found: Cell) -> str:
    return f"`{found.row.name}`{' (stale)' if found.stale else ''}"


def _extra(found: Cell, name: str) -> str:
    stage, _, metric = name.partition(".")
    if stage not in UPSTREAM[found.row.system]:  # the run has it, the row does not rest on it
        return "–"
    values = [record.get("metrics", {}).get(stage, {}).get(metric) for record in found.records]
    if any(not isinstance(value, int | float) for value in values):
        return "–"
    mean = sum(values) / len(values)
    return f"{mean:.0f}" if mean >= 1000 else f"{mean:.4g}"


def _gain(found: Gain | None) -> str:
    if found is None:
        return "–"
    count = f" ×{found.seeds}" if found.seeds > 1 else ""
    return f"{found.gain:+.1f} ({found.low:+.1f} to {found.high:+.1f}){count}, p = {found.p:.4f}"


def _ends(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else f" ({ends[0]:.1f}–{ends[1]:.1f})"


def _heading(metric: str) -> str:
    return _METRICS.get(metric) or re.sub(r"^ndcg_at_", "nDCG@", metric)


def _line(texts: list[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"


def _made_on(record: dict) -> str:
    """The CPU's type or the GPU, and the precision where it is not the default: neither bf16's
    scores nor another type's are comparable to the last digit."""
    device, found = record["device"], precision(record)
    if device == "cpu":
        device = record["cpu"].partition(" (")[0]  # without its instruction sets
    return device if found == "float32" else f"{device}, {found}"
