"""Table files, overrides and stored cells."""

import contextlib
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT, inside, set_params
from tables_project import TABLE, make_tables, now, record, steps, store_all, write

from syntriever import params
from syntriever.errors import SyntrieverError
from syntriever.files import read_json
from syntriever.tables import cells, measured, overrides, plan, render, rows, runs
from syntriever.tables.runs import Machine


@pytest.fixture
def book(tmp_path, monkeypatch):
    monkeypatch.chdir(make_tables(tmp_path))
    return rows.load()


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
        (
            ("loss.tau: 0.1", "loss.tua: 0.1"),
            "small.yaml, line 10, row slow: loss.tua is",
        ),
        (("loss.tau: 0.1", "loss.tua: 0.1"), "did you mean loss.tau?"),
        (("uses: [slow]", "uses: [fast]"), "row slow: uses: fast is not in presets.yaml"),
        (
            ("uses: [slow]", "columns: [away]"),
            "line 10: row slow: columns: away is no",
        ),
        (("uses: [slow]", "columns: []"), "row slow: columns"),
        (("name: slow,", "name: base,"), "two rows are called base"),
        (("against: base", "against: bass"), "row slow: against: bass is no other row"),
        (("columns: [concepts, far]", "columns: [concept]"), "published: concepts is no column"),
        (
            ("columns: [concepts, far]", "columns: [concepts, far, mars]"),
            "5: columns: mars is",
        ),
        (("{far: 50.5}", "{near: 50.5}"), "row known: published: near is no column"),
        (("{far: 50.5}", "{far: [1.0, 2.0]}"), "row known: published: far has 2 values for 1"),
        (("{far: 50.5}", "{far: 505.0}"), "row known: published.far"),
        (("system: stage2, uses", "system: stage3, uses"), "row slow: system"),
        (("label: known,", ""), "row known: label Field required"),
        (("label: known,", "label: known, colour: 1,"), "row known: colour is not known"),
        (("seeds: [0, 1]", "seeds: [0, 0]"), "row slow: seeds 0 stands there twice"),
        (("seeds: [0, 1]", "seeds: [-1]"), "row slow: seeds.0"),
        (("label: slow,", 'label: "slow\\nrow",'), "row slow: label should be one line"),
        (("loss.tau: 0.1", "collection.path: x"), "row slow: collection.path can't be set here"),
        (("loss.tau: 0.1", "compute.device: cuda"), "slow: compute.device can't be set here"),
        (("columns: [concepts, far]", "columns: [far, far]"), "columns far stands there twice"),
        (
            ("title: A", "metrics: [ndgc_at_10]\ntitle: A"),
            "line 2: metrics: ndgc_at_10 is not",
        ),
        (("title: A small table", "title: [A"), "small.yaml, line"),
        (("title: A small table", "titel: A"), "small.yaml"),
        (("by: 6.0,", "by: 6.0, to: 1,"), "tolerance.to is not known; known are by, why"),
        (("\nrows:\n", "\nrows: 5\nothers:\n"), "small.yaml, line 7: rows should be a valid list"),
        (
            (", set: {loss.tau: 0.2}, needs", ", set: {loss.tau: many}, needs"),
            "line 13, row dear",
        ),
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
        ("presets", "slow: {loss.tua: 1}", "presets.yaml, line 1, slow: loss.tua is not a param"),
        ("presets", "slow: 5", "presets.yaml, line 1: slow should be"),
        ("presets", "3: {loss.tau: 1}", "presets.yaml, line 1: 3"),
        ("presets", "slow: {1: 2}", "presets.yaml, line 1: slow.1"),
        ("presets", "slow: {loss.tau: {a: 1}}", "line 1: slow.loss.tau should be a number, a text"),
        ("presets", "slow: {seed: 7}", "presets.yaml, line 1, slow: seed can't be set here"),
        ("presets", "slow: {loss.tau: 2024-02-31}", "presets.yaml: a value can't be read"),
        ("presets", "a: " + "[" * 3000, "presets.yaml"),
        (
            "collections",
            "concepts: {set: {x: 1}}\nfar: {}\nother: {}",
            "collections.yaml, line 1, concepts",
        ),
        ("collections", "concepts: {place: x}", "collections.yaml, line 1, concepts: place"),
        ("collections", "a: 1\na: 2", "collections.yaml, line"),
    ],
)
def test_faults_of_presets_and_collections_are_named(tmp_path, monkeypatch, file, text, words):
    monkeypatch.chdir(make_tables(tmp_path, **{file: text}))
    with pytest.raises(SyntrieverError) as caught:
        rows.load()
    assert words in str(caught.value)


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


def test_other_collections_become_new_keys(tmp_path):
    """Also the second time: `dvc exp run` leaves the first run's key in params.yaml."""
    from dvc.utils.hydra import apply_overrides

    file = Path(shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml"))
    for folder in ("/a/b", "/c/d"):
        (_, option) = overrides.options({}, {"dbpedia-pool": folder})
        apply_overrides(file, [option])
        assert params.load_all(file).evaluate.collections == {"dbpedia-pool": folder}


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


def test_answers_that_are_not_here_make_nothing_stale(book):
    """They can't be compared, as a collection that is elsewhere can't be."""
    store_all(book)
    cells.Path("data/teacher/concepts.jsonl").unlink()
    assert verdict(book, "slow") == ("", False)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda record: record.clear(), "collection Field required"),
        (lambda record: record.pop("scores"), "has neither scores"),
        (lambda record: record.pop("made_from"), "has neither scores"),
        (lambda record: record.update(failed=None), "failed should be a list"),
        (lambda record: record["made_from"].pop("code"), "made_from.code Field required"),
        (lambda record: record["scores"]["test"].update(stage1="well"), "scores.test.stage1"),
        (lambda record: record["per_query"]["test"]["unseen"].pop(), "of different lengths"),
        (lambda record: record["scores"]["test"].pop("stage2"), "scores.test lacks"),
        (lambda record: record["per_query"].update(dev={}), "other splits than scores"),
        (lambda record: record.update(seed=1), "another run than its name says"),
        (lambda record: record.update(collection="other"), "another run than its name says"),
        (lambda record: record["overrides"].update({"loss.tau": 1}), "another run than its name"),
    ],
)
def test_damaged_records_are_named(book, damage, words):
    """Neither shown nor taken for measured, and no traceback."""
    store_all(book)
    run = measured.runs(book, book.table("small"), book.table("small").row("slow"), "concepts")[0]
    stored = read_json(run.file())
    damage(stored)
    cells.store(run.file(), stored)
    for look in (lambda: verdict(book, "slow"), lambda: steps(book)):
        with pytest.raises(SyntrieverError, match=words) as caught:
            look()
        assert run.file().name in str(caught.value) and "git checkout" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "",
        "<<<<<<< HEAD\n",
        "stages: 3",
        "stages: {a: 1}",
        "stages: {a: {do: 3}}",
        "stages: {a: {deps: {b: c}}}",
    ],
)
def test_a_broken_pipeline_is_named(book, text):
    store_all(book)
    write(cells.Path("dvc.yaml"), text)
    with pytest.raises(SyntrieverError, match=r"dvc\.yaml"):
        steps(book)


def test_measures_are_those_that_a_run_has():
    """One more that is measured can be shown, too."""
    book = rows.load(ROOT / "tables")
    (run, *_) = measured.runs(
        book, book.table("table1"), book.table("table1").row("ours"), "concepts"
    )
    found = read_json(ROOT / run.file())["scores"]["test"]["stage1"]
    assert set(rows.MEASURES) == found.keys() - {"queries", "queries_unseen", "interval"}


def test_a_param_that_is_new_is_older_code(book):
    """A knob that did not exist says nothing of the data: it came with newer modules."""
    store_all(book)
    run = measured.runs(book, book.table("small"), book.table("small").row("slow"), "concepts")[0]
    stored = read_json(run.file())
    del stored["made_from"]["params"]["mine_pairs.written_negatives"]
    cells.store(run.file(), stored)
    assert verdict(book, "slow") == ("", True)


def test_a_failed_transfer_is_stored_as_one(book, tmp_path, monkeypatch):
    """Under its own name, so that tables go on; no absolute path of its settings is in it."""
    monkeypatch.setattr(runs, "_copy", lambda root: contextlib.nullcontext(root))
    monkeypatch.setattr(runs, "_stream", lambda *_: (1, [], ["error: no room"]))
    run = cells.Run("concepts", {"teacher.recorded": str(tmp_path / "answers.jsonl")}, 0)
    folders = {"concepts": "collections/concepts", "other": "collections/other"}
    assert runs.measure(run, folders, ["other"], True, Machine()) == "error: no room"
    stored = {file.name: cells.read(file) for file in Path("metrics/tables/concepts").iterdir()}
    assert sorted(one.get("scored_on") or "" for one in stored.values()) == ["", "other"]
    assert all(one["failed"] == ["error: no room"] for one in stored.values())
    assert all(one["overrides"] == {"teacher.recorded": "answers.jsonl"} for one in stored.values())
    assert steps(book, "moved")  # which reads all of them


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
    assert Machine(None, "bf16").settings() == {
        "compute.precision": "bf16",
        "compute.instructions": "native",
    }
