"""Tables as Markdown: measured beside published, what is not there and why, gains."""

import re

import pytest
from project import ROOT
from tables_project import COLLECTIONS, head, make_tables, now, record, write

from stages import tables
from stages.tables import DOCUMENTS
from syntriever.errors import SyntrieverError
from syntriever.tables import cells, measured, render, rows


@pytest.fixture
def book(tmp_path, monkeypatch):
    monkeypatch.chdir(make_tables(tmp_path))
    return rows.load()


def runs(book, row, table="small", column="concepts"):
    return measured.runs(book, book.table(table), book.table(table).row(row), column)


def store(book, run, other=None, **changes):
    made = record(run, now(book)(run, other), other=other)
    cells.store(run.file(other), made | changes)


def line(book, name, table="small"):
    """The cells of one row of the main table: a row with a system shows its name."""
    text = render.render(book, book.table(table), now(book))
    (found,) = (x for x in text.splitlines() if re.match(rf"\| {name}( `{name}`)? \|", x))
    return [part.strip() for part in found.strip("|").split("|")][1:]


def test_measured_stands_beside_published(book):
    """In percent with interval, number of seeds, published value and tolerance."""
    store(book, runs(book, "base")[0])
    for run in runs(book, "slow"):
        store(book, run)
    assert line(book, "base")[0] == "45.0 (40.0–50.0) / 45.0 (within 6: another encoder)"
    mean, count = line(book, "slow")[0].split(" (")[0], line(book, "slow")[0]
    assert mean == "85.0" and count.endswith("×2")
    assert line(book, "known") == ["–", "– / 50.5"]


def test_what_is_not_there_is_said(book):
    """Not run yet, in need of something, failed, some seeds missing; never a number."""
    one, two = runs(book, "slow")
    failed = {"failed": ["error: the GPU gave up:", "CUDA out of memory", "x", "ERROR: dvc"]}
    cells.store(one.file(), head(one) | failed)
    text = render.render(book, book.table("small"), now(book))
    assert "not run yet: `python -m stages.tables run small`" in text
    assert "not run: a GPU" in text and "not run: a key" in text
    assert line(book, "base")[0] == "[1] / 45.0"
    assert line(book, "slow")[0].startswith("failed [") and "CUDA out of memory" in text
    assert "0.0" not in "".join(line(book, "slow"))
    store(book, two)
    assert "×1 of 2 failed" in line(book, "slow")[0]


def test_a_folder_that_can_be_made_is_no_need(tmp_path, monkeypatch):
    """What has to be put there first is said, but only hardware, models and keys are needs."""
    made = COLLECTIONS.replace("  path: collections/other", '  made_by: "Join it."')
    monkeypatch.chdir(make_tables(tmp_path, collections=made))
    book = rows.load()
    text = render.render(book, book.table("moved"), now(book))
    assert "not run yet: `python -m stages.tables run moved`. Join it." in text


def test_stale_and_older_cells_are_marked(book):
    store(book, runs(book, "base")[0])
    write(cells.Path("syntriever/encoder.py"), "changed")
    assert "; older code |" in render.render(book, book.table("small"), now(book))
    assert "stale" not in line(book, "base")[0]
    write(cells.Path("collections/concepts/qrels/test.tsv"), "changed")
    text = render.render(book, book.table("small"), now(book))
    assert "stale [" in line(book, "base")[0] and "collection concepts has changed" in text


def test_gains_are_paired_over_means_of_seeds(book):
    """Over the row named by `against`, for all and for the unseen queries, with interval and p; of
    the seeds that both have, since a lucky one is no gain over a mean."""
    table = book.table("small")
    slow, trained = two_seeds_and_one(book, "stage1")
    found = measured.gain(slow, trained)
    assert found.gain == pytest.approx(20.0) and found.seeds == 1
    assert found.low == pytest.approx(20.0) and found.p < 0.001
    assert measured.gain(slow, trained, unseen_only=True).gain == pytest.approx(20.0)
    for one in slow.records:
        one["per_query"]["test"]["stage2"][0] -= 0.4  # of the one query that was seen
    assert measured.gain(slow, trained).gain == pytest.approx(10.0)
    assert measured.gain(slow, trained, unseen_only=True).gain == pytest.approx(20.0)
    text = render.render(book, table, now(book))
    assert "| refused |" in text and "| 3 | CPU |" in text


@pytest.mark.parametrize("system", ["untrained", "bm25"])
def test_what_no_seed_changes_stands_beside_every_seed(book, system):
    """The untrained encoder is measured once, and a row of several seeds gains over it by all."""
    slow, seedless = two_seeds_and_one(book, system)
    found, back = measured.gain(slow, seedless), measured.gain(seedless, slow)
    assert found.gain == pytest.approx(90.0 - {"untrained": 45.0, "bm25": 25.0}[system])
    assert back.gain == pytest.approx(-found.gain) and found.seeds == back.seeds == 2
    text = render.render(book, book.table("small"), now(book))
    assert "| concepts: `slow` | 0: 85.0, 1: 95.0 | 95.0 | `base` | +45.0 (+45.0 to" in text
    del slow.records[0]  # the seed that both were run with
    assert measured.gain(slow, seedless).gain == pytest.approx(found.gain + 5.0)


def two_seeds_and_one(book, system):
    """Store `slow` with seeds 0 and 1, the second ten points better, and `base` with seed 0; return
    both cells, `base` as the cell of that system."""
    store(book, runs(book, "base")[0])
    first, second = runs(book, "slow")
    store(book, first)
    cells.store(second.file(), record(second, now(book)(second, None), shift=0.1))
    table = book.table("small")
    other = table.row("base").model_copy(update={"system": system})
    return (
        measured.cell(book, table, row, "concepts", now(book)) for row in (table.row("slow"), other)
    )


def test_other_precisions_are_not_compared(book):
    """Neither averaged over seeds nor set against each other."""
    store(book, runs(book, "base")[0])
    first, second = runs(book, "slow")
    store(book, first, compute={"compute.precision": "bf16"})
    store(book, second)
    assert "×1 of 2" in line(book, "slow")[0]
    table = book.table("small")
    slow, base = (
        measured.cell(book, table, table.row(name), "concepts", now(book))
        for name in ("slow", "base")
    )
    assert len(slow.records) == 1 and measured.gain(slow, base) is None


def test_scores_stay_where_a_later_run_fails(book):
    """The failure is told beside them."""
    run = runs(book, "base")[0]
    store(book, run, failed=["error: no space left"])
    text = render.render(book, book.table("small"), now(book))
    assert line(book, "base")[0].startswith("45.0 (40.0–50.0) failed: [")
    assert "no space left" in text


@pytest.mark.parametrize(
    ("counted", "shown"), [(16200, "16200"), (0.76543, "0.7654"), (6, "6"), (1000, "1000")]
)
def test_what_was_counted_is_written_out(book, counted, shown):
    """16200 pairs are no 1.62e+04."""
    run = runs(book, "slow")[0]
    made = record(run, now(book)(run, None))
    made["metrics"]["verify"]["refused"] = counted
    cells.store(run.file(), made)
    text = render.render(book, book.table("small"), now(book))
    assert f"| {shown} | CPU |" in text


def test_other_queries_are_not_compared(book):
    store(book, runs(book, "base")[0])
    run = runs(book, "slow")[0]
    made = record(run, now(book)(run, None))
    made["per_query"]["test"]["queries"] = ["q1", "q2", "q3", "q9"]
    cells.store(run.file(), made)
    table = book.table("small")
    slow, base = (
        measured.cell(book, table, table.row(name), "concepts", now(book))
        for name in ("slow", "base")
    )
    assert measured.gain(slow, base) is None


def test_falls_elsewhere_are_warned_of(book):
    """On other collections the score of the transfer file; far below untrained is a warning."""
    (run,) = runs(book, "moved", "moved", "other")
    store(book, run, other="other")
    assert line(book, "moved", "moved") == ["65.0 (60.0–70.0)", "trained on"]
    made = record(run, now(book)(run, "other"), other="other")
    made["scores"]["test"]["stage1"]["ndcg_at_10"] = 0.42
    cells.store(run.file("other"), made)
    assert "**warning: −3.0 against untrained**" in line(book, "moved", "moved")[0]
    made["scores"]["test"]["stage1"] |= {"gain": -0.03, "low": -0.05, "high": -0.01, "p": 0.01}
    cells.store(run.file("other"), made)
    text = render.render(book, book.table("moved"), now(book))
    assert "other: `moved` | 70.0 | untrained | -3.0 (-5.0 to -1.0), p = 0.0100 | –" in text


def test_a_row_may_be_about_some_columns(book):
    """It has no cell in the others, and what its run counted after its system is not shown."""
    file = cells.Path("tables/small.yaml")
    text = file.read_text("utf-8").replace("label: base,", "label: base, columns: [far],")
    file.write_text(text.replace("extras: {", "extras: {asked: mine_pairs.asked, "), "utf-8")
    changed = rows.load()
    assert line(changed, "base") == ["– / 45.0", "[1]"]
    for run in runs(changed, "slow"):
        store(changed, run, metrics={"mine_pairs": {"asked": 7}, "verify": {"refused": 3}})
    shown = render.render(changed, changed.table("small"), now(changed))
    assert "| asked | refused |" in shown and "| 7 | 3 | CPU |" in shown
    file.write_text(file.read_text("utf-8").replace("system: stage2", "system: stage1"), "utf-8")
    changed = rows.load()
    assert "| – | 3 | CPU |" in render.render(changed, changed.table("small"), now(changed))


def test_leaderboard_puts_the_best_first(book):
    store(book, runs(book, "base")[0])
    for run in runs(book, "slow"):
        store(book, run)
    lines = render.leaderboard(book, book.table("small"), now(book))
    assert "slow" in lines[1] and "base" in lines[2] and "(" in lines[1].split("slow")[0]
    table = book.table("small").model_copy(update={"metrics": ["ndcg_at_10_unseen"]})
    shown = render.leaderboard(book, table, now(book))[1]
    assert "90.0" in shown and "(" not in shown.split("slow")[0]  # the interval is of nDCG@10
    table = book.table("small").model_copy(update={"metrics": ["map_at_100"]})
    assert not [one for one in render.leaderboard(book, table, now(book)) if "slow" in one]


def test_documents_are_filled_between_marks(book):
    """Marks name their tables; text around stays; twice gives the same bytes."""
    file = cells.Path("results.md")
    file.write_text("a\n<!-- tables:begin small, by x -->\nold\n<!-- tables:end -->\nb\n", "utf-8")
    text = render.filled(file, book, now(book))
    assert text.startswith("a\n<!-- tables:begin small, by x -->\n**A small table**")
    assert text.endswith("\n<!-- tables:end -->\nb\n")
    assert "old" not in text and "Elsewhere" not in text
    file.write_text(text, "utf-8")
    assert render.filled(file, book, now(book)) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<!-- tables:begin huge -->\n<!-- tables:end -->\n", "no table 'huge'"),
        ("no marks", "lacks its marks"),
        ("<!-- tables:begin small -->\nold\n", "lacks its marks"),
        ("<!-- tables:begin a -->\n<!-- tables:begin b -->\n", "line 2: tables:begin where"),
        ("<!-- tables:end -->\n", "line 1: tables:end where tables:begin"),
        ("<!-- tables:begin small -->\n\n<!-- table:ende -->", "line 3: tables:ende where"),
        (
            "<!-- tables:begin small -->\n<!--tables:end -->\nprecious\n"
            "<!-- tables:begin small -->\n<!-- tables:end -->\n",
            "lacks its marks",
        ),
        ("<!-- table:begin small -->\n<!-- tables:end -->\n", "lacks its marks"),
        ("<!-- tables:begin small --> \n<!-- tables:end -->\n", "lacks its marks"),
    ],
)
def test_damaged_marks_are_named(book, text, words):
    """Where one is missing, all up to the next would be lost."""
    file = cells.Path("results.md")
    file.write_text(text, "utf-8")
    with pytest.raises(SyntrieverError, match=words):
        render.filled(file, book, now(book))


def test_no_document_is_written_where_another_is_at_fault(book):
    """Both or neither."""
    good = "<!-- tables:begin small -->\n<!-- tables:end -->\n"
    for file, text in zip(DOCUMENTS, (good, "no marks"), strict=True):
        write(cells.Path(file), text)
    with pytest.raises(SyntrieverError, match=r"README\.md lacks"):
        tables.show(write=True)
    assert DOCUMENTS[0].read_text("utf-8") == good


def test_committed_documents_have_marks_for_every_table():
    """They show each table of this repository once; a user may add others."""
    texts = [(ROOT / file).read_text("utf-8") for file in DOCUMENTS]
    names = " ".join(re.findall(r"<!-- tables:begin (.*?),", "\n".join(texts))).split()
    assert len(names) == len(set(names)) == 15
    assert set(names) <= set(rows.load(ROOT / "tables").tables)


def test_another_precision_is_named():
    """Cells in bf16 stand beside those in float32: the table says which are which."""
    from syntriever.tables.render import _made_on

    typed = {"device": "cpu", "cpu": "AuthenticAMD family 25 model 17 (avx2, avx512f)"}
    assert _made_on(typed) == "AuthenticAMD family 25 model 17"
    float32 = typed | {"compute": {"compute.precision": "float32"}}
    assert _made_on(float32) == "AuthenticAMD family 25 model 17"
    bf16 = typed | {"compute": {"compute.precision": "bf16"}}
    assert _made_on(bf16) == "AuthenticAMD family 25 model 17, bf16"
    assert _made_on(typed | {"device": "cuda, H100"}) == "cuda, H100"


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_the_committed_page_is_what_show_writes(monkeypatch, document):
    """It has today's cells and rows, and says which cells older code made."""
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("SYNTRIEVER_COLLECTIONS", raising=False)
    book = rows.load()
    said = "run `python -m stages.tables show --write` and commit the documents"
    found = render.filled(document, book, tables._now(book))
    assert found == document.read_text("utf-8"), said
