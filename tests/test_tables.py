"""Table files, overrides, stored cells and what is left to run."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT, inside, set_params
from tables_project import TABLE, make_tables, now, record, write

from syntriever import params
from syntriever.errors import SyntrieverError
from syntriever.files import read_json
from syntriever.tables import cells, measured, overrides, plan, render, rows
from syntriever.tables.runs import Machine, _is_new


@pytest.fixture
def book(tmp_path, monkeypatch):
    monkeypatch.chdir(make_tables(tmp_path))
    return rows.load()


def store_all(book, table="small", shift=0.0):
    """Store a record of each run of a table that needs nothing special."""
    for row in book.table(table).rows:
        if row.system and not row.needs:
            for run in measured.runs(book, book.table(table), row, "concepts"):
                cells.store(run.file(), record(run, now(book)(run, None), shift))


def steps(book, table="small", **options):
    return plan.missing(
        book, book.table(table), now(book), {"concepts": "c", "other": "o"}, **options
    ).steps


def test_committed_tables_are_valid():
    """Every table of the paper is there, and each row's overrides pass the params' checks."""
    with inside(ROOT):
        book = rows.load()
        for table in book.tables.values():
            plan.check(book, table)
    assert {f"table{n}" for n in range(1, 12)} | {"losses", "beyond", "tune"} <= set(book.tables)


def test_committed_tables_share_runs():
    """One run fills several rows: stage 1 and stage 2, baselines, other tables."""
    with inside(ROOT):
        book = rows.load()
    keys = {
        (table.name, row.name): measured.runs(book, table, row, "concepts")[0].key
        for table in book.tables.values()
        for row in table.rows
        if row.system and not row.trained_on
    }
    assert keys["table3", "all"] == keys["table3", "distilled"] == keys["table1", "paper"]
    assert keys["table3", "none"] == keys["table3", "aligned"]
    assert keys["table8", "partial_plackett_luce"] == keys["table9", "k5"]
    assert keys["table4", "minilm_ours"] == keys["table1", "ours"]
    assert len({keys["losses", row.name] for row in book.table("losses").rows}) == 4


def test_paper_preset_holds_whatever_the_defaults_are():
    """The preset names every param of the recipe that the paper decides."""
    with inside(ROOT):
        presets = rows.load().presets
    groups = ("write_queries", "synthesize", "verify", "loss", "mine_pairs", "train_stage2")
    wanted = {n for n in overrides.leaves() if n.split(".")[0] in groups}
    named = presets["paper"].keys() | presets["settings"].keys()
    assert wanted - named == {"write_queries.kinds", "train_stage2.chunk_size"}
    assert presets["paper_schedule"].keys() == presets["settings"].keys()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("loss.tau: 0.1", "loss.tua: 0.1"), "small.yaml, row slow: loss.tua is not a param"),
        (("loss.tau: 0.1", "loss.tua: 0.1"), "did you mean loss.tau?"),
        (("uses: [slow]", "uses: [fast]"), "row slow: uses: fast is not in presets.yaml"),
        (("uses: [slow]", "columns: [away]"), "row slow: columns: away is no column"),
        (("uses: [slow]", "columns: []"), "row slow: columns"),
        (("name: slow,", "name: base,"), "two rows are called base"),
        (("against: base", "against: bass"), "row slow: against: bass is no other row"),
        (("columns: [concepts, far]", "columns: [concept]"), "published: concepts is no column"),
        (("columns: [concepts, far]", "columns: [concepts, far, mars]"), "column: mars is not in"),
        (("{far: 50.5}", "{near: 50.5}"), "row known: published: near is no column"),
        (("{far: 50.5}", "{far: [1.0, 2.0]}"), "row known: published: far has 2 values for 1"),
        (("{far: 50.5}", "{far: 505.0}"), "row known: published.far"),
        (("system: stage2, uses", "system: stage3, uses"), "row slow: system"),
        (("label: known,", ""), "row known: label Field required"),
        (("label: known,", "label: known, colour: 1,"), "row known: colour is not known"),
        (("title: A small table", "title: [A"), "small.yaml, line"),
        (("title: A small table", "titel: A"), "small.yaml"),
        ((", set: {loss.tau: 0.2}, needs", ", set: {loss.tau: many}, needs"), "loss.tau"),
        (("system: untrained, ", ""), "row slow: against: base is no other row with a system"),
    ],
)
def test_faults_of_a_table_are_named(tmp_path, monkeypatch, change, words):
    """File, line or row, and what is wrong."""
    assert change[0] in TABLE
    monkeypatch.chdir(make_tables(tmp_path, small=TABLE.replace(*change)))
    with pytest.raises(SyntrieverError) as caught:
        book = rows.load()
        plan.check(book, book.table("small"))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("presets", "slow: {loss.tua: 1}", "presets.yaml, slow: loss.tua is not a param"),
        ("presets", "slow: 5", "presets.yaml, slow"),
        (
            "collections",
            "concepts: {set: {x: 1}}\nfar: {}\nother: {}",
            "collections.yaml, concepts",
        ),
        ("collections", "concepts: {place: x}", "collections.yaml, concepts: place"),
        ("collections", "a: 1\na: 2", "collections.yaml, line"),
    ],
)
def test_faults_of_presets_and_collections_are_named(tmp_path, monkeypatch, file, text, words):
    monkeypatch.chdir(make_tables(tmp_path, **{file: text}))
    with pytest.raises(SyntrieverError) as caught:
        rows.load()
    assert words in str(caught.value)


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


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, False, 3, 0.1, 2e-5, "word", "", "query: ", "null", "5", "12e4", 'a "b"'),
        *("back\\slash", 'end\\"', "a,b", "/a/b-c_d.e", "it's", ["situation", "direct"], ["5"]),
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ],
)
def test_overrides_are_read_back_as_they_are(value):
    """What `-S` says, DVC's parser reads as the same value, after a shell too."""
    from dvc.utils.hydra import to_hydra_overrides

    options = overrides.options({"encoder.name": value}, {})
    assert shlex.split(shlex.join(options)) == options
    (parsed,) = to_hydra_overrides(options[1:])
    assert parsed.key_or_group == "encoder.name"
    assert parsed.value() == value and type(parsed.value()) is type(value)


def test_other_collections_become_new_keys():
    from dvc.utils.hydra import to_hydra_overrides

    (_, option) = overrides.options({}, {"dbpedia-pool": "/a/b"})
    (parsed,) = to_hydra_overrides([option])
    assert parsed.is_add() and parsed.key_or_group == "evaluate.collections.dbpedia-pool"


def test_overrides_come_in_order(book):
    """Collection, presets, the row's own; dev tables never score test."""
    table = book.table("small")
    row = table.row("slow")
    assert book.overrides(table, row, "concepts") == {
        "encoder.max_length": 32,
        "train_stage1.epochs": 9,
        "train_stage1.learning_rate": 2e-5,
        "loss.tau": 0.1,
    }
    dev = table.model_copy(update={"split": "dev"})
    assert book.overrides(dev, row, "concepts")["evaluate.splits"] == ["dev"]


def test_more_presets_come_after_a_rows_own(book):
    """`--uses`; a collection may set otherwise what a preset says, and a row's own `set` wins."""
    presets = cells.Path("tables/presets.yaml")
    presets.write_text(presets.read_text("utf-8") + "long: {train_stage1.epochs: 7, loss.tau: 0.9}")
    file = cells.Path("tables/collections.yaml")
    known = "presets: {long: {train_stage1.epochs: 2}}"
    file.write_text(file.read_text("utf-8").replace("other:\n", f"other:\n  {known}\n"), "utf-8")
    book = rows.load()
    table = book.table("small").with_presets(["long"])
    assert table.title == "A small table, with long"
    chosen = book.overrides(table, table.row("slow"), "concepts")
    assert (chosen["train_stage1.epochs"], chosen["loss.tau"]) == (7, 0.1)
    assert book.overrides(table, table.row("slow"), "other")["train_stage1.epochs"] == 2
    assert book.table("small").with_presets([]) == book.table("small")
    shown = render.render(book, table, now(book))
    assert "Every row uses long too" in shown and "run small --uses long`" in shown


def test_a_run_is_known_by_overrides_and_seed():
    """Order does not matter, seed and values do, and a folder's place does not."""
    one = cells.Run("concepts", {"a": 1, "b": "/here/x.jsonl"}, 0)
    assert one.key == cells.Run("concepts", {"b": "/there/x.jsonl", "a": 1}, 0).key
    assert one.key != cells.Run("concepts", {"a": 1, "b": "/here/x.jsonl"}, 1).key
    assert one.file("other").name == f"{one.key}-other.json"


def test_missing_runs_are_planned_once(book):
    """Rows that share a run make one step; what is stored makes none; needs are left out."""
    planned = steps(book)
    assert [(s.rows, s.run.seed, s.why) for s in planned] == [
        (["base"], 0, "missing"),
        (["slow"], 0, "missing"),
        (["slow"], 1, "missing"),
    ]
    assert [s.rows for s in steps(book, row="dear")] == [["dear"]]
    store_all(book)
    assert steps(book) == []
    assert [s.why for s in steps(book, row="dear")] == ["missing"]


def test_durations_are_of_the_same_kind(book):
    """A run's own time with another seed, else the longest on its collection, if it trained."""
    planned = steps(book)
    assert "took" not in plan.describe(planned[0])
    run = planned[1].run
    cells.store(run.file(), record(run, {}) | {"seconds": 6, "stages_run": ["evaluate"]})
    assert "took" not in plan.describe(planned[2])
    cells.store(run.file(), record(run, {}) | {"seconds": 120, "stages_run": ["train_stage1"]})
    assert "; it took 2 min" in plan.describe(planned[2])
    assert "; the longest of its kind on concepts took 2 min" in plan.describe(planned[0])


def test_a_run_without_the_tables_split_is_planned_again(book):
    """As one is that was scored on dev alone, because params.yaml said so."""
    store_all(book)
    run = measured.runs(book, book.table("small"), book.table("small").row("base"), "concepts")[0]
    stored = run.stored()
    cells.store(run.file(), stored | {"scores": {"dev": stored["scores"]["test"]}})
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
    assert step.targets == ["other"]
    run = step.run
    source = now(book)(run, "other")
    cells.store(run.file("other"), record(run, source, other="other"))
    (step,) = steps(book, "moved")
    assert step.targets == []  # its own scores are missing still
    write(run_file := cells.Path("collections/other/corpus.jsonl"), "changed")
    cells.store(run.file(), record(run, now(book)(run, None)))
    (step,) = steps(book, "moved")
    assert step.targets == ["other"] and "collection other has changed" in step.why
    assert run_file.exists()


def verdict(book, row):
    found = measured.cell(
        book, book.table("small"), book.table("small").row(row), "concepts", now(book)
    )
    return found.stale, found.older_code


@pytest.mark.parametrize(
    ("name", "value", "stale"),
    [
        ("loss.weights.cot", 0.5, {"slow"}),  # upstream of stage 1
        ("encoder.pooling", "max", {"slow", "base"}),
        ("loss.tau", 0.3, set()),  # the row overrides it
        ("compute.threads", 1, set()),
        ("runtime.checkpoint_every_steps", 5, set()),
        ("evaluate.bm25_b", 0.5, {"slow", "base"}),
    ],
)
def test_params_make_cells_stale(book, name, value, stale):
    """Only those that the row's system depends on and that the row leaves as they are."""
    store_all(book)
    set_params(cells.Path(), {name: value})
    found = {row for row in ("slow", "base") if verdict(book, row)[0]}
    assert found == stale
    assert all(name in verdict(book, row)[0] for row in stale)
    assert {r for step in steps(book) for r in step.rows} == stale


@pytest.mark.parametrize(
    ("file", "stale", "older"),
    [
        ("prompts/compare.txt", {"slow"}, set()),
        ("data/teacher/concepts.jsonl", {"slow"}, set()),
        ("collections/concepts/qrels/test.tsv", {"slow", "base"}, set()),
        ("collections/concepts/README.md", set(), set()),
        ("syntriever/losses.py", set(), {"slow"}),
        ("syntriever/encoder.py", set(), {"slow", "base"}),
    ],
)
def test_files_make_cells_stale_and_modules_make_them_old(book, file, stale, older):
    store_all(book)
    write(cells.Path(file), "changed")
    assert {row for row in ("slow", "base") if verdict(book, row)[0]} == stale
    assert {row for row in ("slow", "base") if verdict(book, row)[1]} == older
    assert {r for step in steps(book) for r in step.rows} == stale
    assert {r for step in steps(book, renew=True) for r in step.rows} == stale | older


def test_a_param_that_is_new_is_older_code(book):
    """A knob that did not exist says nothing of the data: it came with newer modules."""
    store_all(book)
    run = measured.runs(book, book.table("small"), book.table("small").row("slow"), "concepts")[0]
    stored = read_json(run.file())
    del stored["made_from"]["params"]["mine_pairs.written_negatives"]
    cells.store(run.file(), stored)
    assert verdict(book, "slow") == ("", True)


def test_a_failed_run_is_tried_again(book):
    store_all(book)
    run = measured.runs(book, book.table("small"), book.table("small").row("slow"), "concepts")[0]
    cells.store(run.file(), {"overrides": run.overrides, "failed": ["out of memory"]})
    assert [(s.run.seed, s.why) for s in steps(book)] == [(0, "failed last time")]


def test_records_hold_no_folders_and_read_well(book):
    """Names and hashes, no absolute path; a list takes one line."""
    run = cells.Run("concepts", {"teacher.recorded": "/somewhere/answers.jsonl"}, 0)
    values = overrides.resolve(params.load_all(), run.overrides, "here")
    source = cells.made_from(cells.Path(), values, {"concepts": cells.Path("collections/concepts")})
    cells.store(
        run.file(), record(run, source) | {"overrides": {"teacher.recorded": "answers.jsonl"}}
    )
    text = run.file().read_text("utf-8")
    assert "/somewhere" not in text and "answers.jsonl" in text
    assert '"queries": [ "q1", "q2", "q3", "q4" ]' in text


def test_command_prints_overrides(book):
    """One line, as the shell needs it; what can't be printed is said."""
    from stages import tables

    printed = subprocess.run(
        [sys.executable, "-m", "stages.tables", "overrides", "small", "slow"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert printed.count("\n") == 1
    assert "-S loss.tau=0.1" in printed and "-S collection.path=collections/concepts" in printed
    with pytest.raises(SyntrieverError, match="published values only"):
        tables.print_overrides("small", "known")
    with pytest.raises(SyntrieverError, match="SYNTRIEVER_COLLECTIONS"):
        tables.print_overrides("small", "slow", "far")
    with pytest.raises(SyntrieverError, match="not trained on 'other', but on concepts"):
        tables.print_overrides("moved", "moved", "other")
    with pytest.raises(SyntrieverError, match=r"--uses: fast is not in tables/presets\.yaml"):
        tables.print_overrides("small", "slow", uses=["fast"])


def test_a_machine_sets_what_params_do_not():
    """bf16 on a CPU needs its own instructions; nothing is set where params.yaml decides."""
    assert Machine().settings() == {}
    assert Machine("cuda", "bf16").settings() == {
        "compute.device": "cuda",
        "compute.precision": "bf16",
    }
    assert Machine("cpu", "bf16").settings() == {
        "compute.precision": "bf16",
        "compute.instructions": "native",
    }
