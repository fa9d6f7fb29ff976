"""What is left to run: missing, stale and failed cells, and seeds that can't be averaged."""

from pathlib import Path

import pytest
from project import set_params
from tables_project import TABLE, head, make_tables, now, record, steps, store_all, write

from syntriever.errors import SyntrieverError
from syntriever.tables import cells, measured, plan, rows
from syntriever.tables.runs import _is_new


@pytest.fixture
def book(tmp_path, monkeypatch):
    monkeypatch.chdir(make_tables(tmp_path))
    return rows.load()


def test_unknown_names_are_refused(book):
    with pytest.raises(SyntrieverError, match=r"no table 'large'\. There are moved, small"):
        book.table("large")
    with pytest.raises(SyntrieverError, match=r"no row 'fast'\. It has base, slow"):
        book.table("small").row("fast")
    with pytest.raises(SyntrieverError, match=r"small, row slow has no seed 7. It has 0, 1\."):
        steps(book, row="slow", seed=7)
    with pytest.raises(SyntrieverError, match="small has no collection 'nowhere'"):
        steps(book, collection="nowhere")
    with pytest.raises(SyntrieverError, match="published values only"):
        steps(book, row="known")
    with pytest.raises(SyntrieverError, match="SYNTRIEVER_COLLECTIONS"):
        steps(book, collection="far")


def test_missing_runs_are_planned_once(book):
    """Rows that share a run make one step; what is stored makes none; needs are left out."""
    planned = steps(book)
    assert [(s.rows, s.run.seed, s.why) for s in planned] == [
        (["base"], 0, "missing"),
        (["slow"], 0, "missing"),
        (["slow"], 1, "missing"),
    ]
    assert [s.rows for s in steps(book, row="dear")] == [["dear"]]
    shared = TABLE + "  - {name: raw, label: raw, system: bm25}\n"
    shared += "  - {name: half, label: half, system: stage1, uses: [slow], set: {loss.tau: 0.1}}\n"
    write(Path("tables/small.yaml"), shared)
    planned = steps(rows.load())
    assert [s.rows for s in planned] == [["base", "raw"], ["slow", "half"], ["slow"]]
    store_all(book)
    assert steps(book) == []
    assert [s.why for s in steps(book, row="dear")] == ["missing"]


def test_durations_are_of_the_same_kind(book):
    """A run's own time with another seed, else the longest on its collection, if it trained."""
    planned = steps(book)
    assert "took" not in plan.describe(planned[0]) and plan.duration(planned) == "3 to run"
    run = planned[1].run
    made = record(run, now(book)(run, None))
    cells.store(run.file(), made | {"seconds": 6, "stages_run": ["evaluate"]})
    assert "took" not in plan.describe(planned[2])
    cells.store(run.file(), made | {"seconds": 120, "stages_run": ["train_stage1"]})
    assert "; it took 2 min" in plan.describe(planned[2])
    assert "; the longest of its kind on concepts took 2 min" in plan.describe(planned[0])
    assert plan.duration(planned) == "3 to run, about 6 min"


def test_a_run_without_the_tables_split_is_planned_again(book):
    """As one is that was scored on dev alone, because params.yaml said so."""
    store_all(book)
    run = measured.runs(book, book.table("small"), book.table("small").row("base"), "concepts")[0]
    stored = run.stored()
    for part in ("scores", "per_query"):
        stored[part] = {"dev": stored[part]["test"]}
    cells.store(run.file(), stored)
    assert [(s.rows, s.why) for s in steps(book)] == [(["base"], "not scored on test")]


def test_seeds_of_another_precision_are_left_out(book):
    """Unless those that are stored are to be run again themselves."""
    base, slow = (book.table("small").row(name) for name in ("base", "slow"))
    first, second = measured.runs(book, book.table("small"), slow, "concepts")
    cells.store(
        first.file(),
        record(first, now(book)(first, None)) | {"compute": {"compute.precision": "bf16"}},
    )
    arguments = (book, book.table("small"), now(book), {"concepts": "c"})
    planned = plan.missing(*arguments)
    assert [step.rows for step in planned.steps] == [[base.name]]
    (told,) = (reason for reason, names in planned.skipped.items() if "slow, seed 1" in names[0])
    assert "its other seeds are in bf16" in told and "--precision bf16" in told
    assert planned.skipped["a GPU"] == ["far"]
    planned = plan.missing(*arguments, precision="bf16")
    assert [step.run.seed for step in planned.steps if step.rows == ["slow"]] == [second.seed]
    longer = book.table("small").with_presets(["slow"])  # as --uses makes it: in no book
    run = measured.runs(book, longer, slow, "concepts")[0]
    made = record(run, now(book)(run, None)) | {"compute": {"compute.precision": "bf16"}}
    cells.store(run.file(), made)
    planned = plan.missing(book, longer, now(book), {"concepts": "c"}, precision="float32")
    assert not [step for step in planned.steps if step.rows == ["slow"]]
    set_params(Path(), {"loss.distill": "info_nce"})
    assert len(steps(book)) == 3


@pytest.mark.parametrize(
    ("before", "after", "asked", "new"),
    [
        (None, {}, True, True),
        ({}, {}, True, False),
        ({"failed": ["no space"]}, {}, False, True),
        ({"made_from": 1}, {}, True, True),
        ({"made_from": 1}, {}, False, True),
        ({"made_from": 1}, {"compute": {"compute.precision": "bf16"}}, True, True),
        ({}, {"compute": {"compute.precision": "bf16"}}, True, True),
        ({}, {"compute": {"compute.precision": "bf16"}}, False, False),
        ({"made_from": 1}, {"compute": {"compute.precision": "bf16"}}, False, False),
    ],
)
def test_a_record_gives_way_to_what_says_more(before, after, asked, new):
    """A run for other collections alone brings no other precision among a row's seeds."""
    one = {"made_from": 0}
    kept = None if before is None else one | before
    assert _is_new(one | after, kept, asked) == new


@pytest.mark.parametrize(
    ("stay", "precision", "expected"),
    [
        ({}, "bf16", ["missing", "missing"]),
        ({0: "bf16"}, "bf16", ["", "missing"]),
        ({0: "bf16", 2: "bf16"}, "float32", ["", "refused"]),  # 2 is of another table's row
        ({0: "bf16", 2: "float32"}, "float32", ["in bf16, unlike other seeds", "missing"]),
        ({0: "bf16", 2: "float32"}, "bf16", ["", "missing"]),
    ],
)
def test_seeds_of_several_precisions_end_up_in_one(stay, precision, expected):
    found = []
    for seed in (0, 1):
        why, refusal = plan._settle(seed, "" if seed in stay else "missing", stay, precision)
        found.append("refused" if refusal else why)
    assert found == expected


def test_transfer_is_stored_beside_its_run(book):
    """A row that is trained elsewhere asks for the other collections, and for its own scores."""
    (step,) = steps(book, "moved")
    assert step.targets == ["other"] and step.own
    run = step.run
    source = now(book)(run, "other")
    cells.store(run.file("other"), record(run, source, other="other"))
    (step,) = steps(book, "moved")
    assert step.targets == [] and step.own  # its own scores are missing still
    write(cells.Path("collections/other/corpus.jsonl"), "changed")
    cells.store(run.file(), record(run, now(book)(run, None)))
    (step,) = steps(book, "moved")
    assert step.targets == ["other"] and not step.own
    assert "collection other has changed" in step.why


def test_a_failed_run_is_tried_again(book):
    store_all(book)
    run = measured.runs(book, book.table("small"), book.table("small").row("slow"), "concepts")[0]
    cells.store(run.file(), head(run) | {"failed": ["out of memory"]})
    assert [(s.run.seed, s.why) for s in steps(book)] == [(0, "failed last time")]
