"""Every command of README.md and docs/ runs, on a cut-down collection, or is at least a command.

tests/pages.py says what counts as one, and which are only checked.
"""

import ast
import os
import re
import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path

import pages
import pytest
from clone import Clone, copy_repository
from project import ROOT, inside, run_stage, set_params
from ruamel.yaml import YAML

from syntriever.params import load_all
from syntriever.tables import rows
from syntriever.tables.overrides import leaves, resolve
from syntriever.tables.rows import Table

NAMES = [str(page.relative_to(ROOT)) for page in pages.PAGES]
LEFT_OUT = ("metrics/", "plots/", "data/collections/", "dvc.lock", "tests/", "benchmarks/")

# What your-data.md takes for granted.
SUBJECTS = ("oven", "dough", "yeast", "salt", "steam", "crust", "flour", "water", "time", "heat")
OWN_FILES = {
    **{f"handbook/{name}.md": f"# {name}\n\nWhat {name} does to bread.\n" for name in SUBJECTS},
    "queries.tsv": "id\ttext\n" + "".join(f"q-{n}\twhy does {n} matter\n" for n in SUBJECTS),
    "labels.tsv": "query-id\tcorpus-id\tscore\n"
    + "".join(f"q-{name}\t{name}.md\t1\n" for name in SUBJECTS),
}


@pytest.fixture(scope="module")
def clone(tmp_path_factory, finished_project):
    """A clone of the repository with the results of a tiny run, committed, and an environment."""
    folder = tmp_path_factory.mktemp("docs") / "repository"
    copy_repository(folder, LEFT_OUT)
    shutil.copytree(finished_project, folder, dirs_exist_ok=True)
    shutil.copytree(folder / "collection", folder / "data/collections/concepts")
    for name, text in (OWN_FILES | {".venv/bin/activate": "# turned on already\n"}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    set_params(folder, {"compute.threads": 1})  # a busy machine's second thread only waits
    with inside(folder):
        run_stage("report")
    repository = Clone(folder)
    repository.run("git", "init", "-qb", "main")
    repository.run("dvc", "commit", "--force", "--quiet")  # the results as if they were made here
    repository.commit("results")
    return repository


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NAMES)
def test_commands_run(clone, name):
    """A page's commands run in its order, each block in one shell, as somebody copies them."""
    if clone.run("git", "status", "--porcelain"):
        clone.run("bash", "-ec", "git reset -q --hard; git clean -fdq; dvc checkout -q")
    for block in pages.blocks(ROOT / name):
        if block.language == "python":
            with inside(clone.folder):
                exec(compile("\n".join(block.lines), block.where, "exec"), {})
        elif block.language in pages.SHELL and block.script():
            script = f": {block.where}\n{block.script()}"
            clone.run("bash", "-exo", "pipefail", "-c", script)


@pytest.mark.parametrize("name", NAMES)
def test_commands_are_there(tmp_path, name, monkeypatch):
    """What only runs for long, with a key or on a network: the stage, its flags, each param and its
    value, the target exist. So they do where a command stands in a sentence."""
    monkeypatch.chdir(ROOT)
    for block in pages.blocks(ROOT / name):
        for text, runs in block.commands() if block.language in pages.SHELL else ():
            if not runs:
                assert _fault(text, tmp_path) is None, f"{block.where}: {text}"
    for text in pages.inline(ROOT / name):
        is_command = re.match(r"(\w+=\$\()?(python|dvc|make) \S", text)
        if is_command and "stages.NAME" not in text:
            assert _fault(text, tmp_path, in_prose=True) is None, text


def _fault(text: str, tmp_path: Path, **options) -> Exception | None:
    """Return what is wrong with a command, if anything is."""
    try:
        for words in pages.simple_commands(text):
            pages.check(words, tmp_path, **options)
    except Exception as error:  # of argparse, click, hydra, pydantic: all of them mean no
        return error
    return None


@pytest.mark.parametrize("name", NAMES)
def test_no_command_hides(name):
    """A block that holds commands says so; else nothing would try them."""
    for block in pages.blocks(ROOT / name):
        if block.language not in pages.SHELL:
            found = [line for line in block.lines if re.match(r" *(python -m|dvc|make) ", line)]
            assert not found, f"{block.where}: mark the block as sh"


@pytest.mark.parametrize("name", NAMES)
def test_params_are_there(name):
    """Each param that a page names, in a sentence or in a block of YAML, is in params.yaml."""
    known = leaves()
    groups = {leaf[: dot.start()] for leaf in known for dot in re.finditer(r"\.", leaf)}
    top = "|".join(sorted({leaf.split(".")[0] for leaf in known if "." in leaf}))
    for text in pages.inline(ROOT / name):
        found = re.match(rf"((?:{top})\.[a-z_0-9.]*[a-z_0-9])(?:\.\*|: .*)?$", text)
        if found and not text.endswith(".json"):
            assert found[1] in known | groups, f"{found[1]} is no param"
    for block in pages.blocks(ROOT / name):
        if block.language == "yaml" and not block.lines[0].startswith("title:"):  # that is a table
            values = YAML(typ="safe", pure=True).load("\n".join(block.lines))
            assert set(_dotted(values)) <= known, block.where


def _dotted(values: dict, prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_labels_alone_are_the_baseline():
    """The command that trains without an LLM makes what the row `info_nce` makes."""
    text = (ROOT / "docs/your-data.md").read_text("utf-8")
    (line,) = (line for line in text.splitlines() if "-S loss.distill=info_nce" in line)
    settings = (part.split("=") for part in line.split(" -S ")[1:])
    with inside(ROOT):
        book, base = rows.load(), load_all()
        table = book.table("table1")
        made = book.overrides(table, table.row("info_nce"), "concepts")
        row = resolve(base, made, "row")
        said = resolve(base, {name: YAML(typ="safe").load(value) for name, value in settings}, "it")
    differ = {name for name in row if row[name] != said[name]}
    # Nothing is written, verified or aligned, so that nobody reads these.
    assert differ == {"write_queries.hard_negatives", "verify.mode", "train_stage2.epochs"}


def test_tables_of_the_pages_are_tables():
    """The examples of a table of one's own are what tables/ takes, presets included."""
    presets = YAML(typ="safe", pure=True).load((ROOT / "tables/presets.yaml").read_text("utf-8"))
    texts = (page.read_text("utf-8") for page in pages.PAGES)
    blocks = [b for text in texts for b in re.findall(r"```yaml\n(title: .*?)```", text, re.DOTALL)]
    assert len(blocks) == 2
    for block in blocks:
        values = {"name": "mine"} | YAML(typ="safe", pure=True).load(block)
        for row in Table.model_validate(values).rows:
            assert set(row.uses) <= presets.keys() and row.set.keys() <= leaves()


@pytest.mark.parametrize(
    ("script", "page"), [("teacher_costs", "teacher"), ("table_costs", "results")]
)
def test_costs_are_what_the_script_prints(script, page, monkeypatch):
    """The tables of costs come from benchmarks/."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    printed = runpy.run_path(str(ROOT / f"benchmarks/{script}.py"))["table"]()
    assert printed in (ROOT / f"docs/{page}.md").read_text("utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name):
    """Each link to a file of the repository leads to one."""
    page = ROOT / name
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{name}: {target}"


def test_troubleshooting_quotes_what_is_said():
    """A message in the first column of troubleshooting.md is one that the code has, with … where
    something is filled in; those of other programs are named after them."""
    said = [" ".join(text.split()) for text in _messages()]
    page = (ROOT / "docs/troubleshooting.md").read_text("utf-8")
    quoted, unknown = 0, []
    for cell in re.findall(r"^\| (.*?) \| ", page, re.MULTILINE):
        for message in re.findall(r"`([^`]+)`(?! \((?:DVC|torch)\))", cell):
            if " " in message and not message.startswith(("git ", "dvc ")):
                quoted += 1
                words = message.removeprefix("error: ").strip("… ")
                if not any(words in text for text in said):
                    unknown.append(message)
    assert not unknown and quoted > 15


def _messages() -> Iterator[str]:
    """Yield all string constants of the code, with … for what is filled in."""
    yield (ROOT / "Makefile").read_text("utf-8")
    yield os.strerror(28)  # no room on the disk: the system's own words
    for top in ("stages", "syntriever"):
        for file in (ROOT / top).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value
                elif isinstance(node, ast.JoinedStr):
                    parts = (getattr(part, "value", "") for part in node.values)
                    yield "".join(p if isinstance(p, str) else "…" for p in parts)


def test_a_wrong_command_is_found(tmp_path, monkeypatch):
    """The checks of this file see a stage, a flag, a param, a value, a target that is not there."""
    monkeypatch.chdir(ROOT)
    for good in (
        "eval dvc exp run $(python -m stages.collection get scifact)",
        "python -m stages.search 'why' --k 5 | head -1",
        "dvc exp run --queue -S 'loss.tau=0.02,0.05' -S 'evaluate.splits=[dev]' > log",
        "dvc repro embed@stage1",
        "make PYTHON=python3.12 reproduce",
    ):
        assert _fault(good, tmp_path) is None, good
    for bad in (
        "python -m stages.serach why",
        "python -m stages.search why --top 5",
        "python -m stages.embed stage3",
        "python -m stages.tables go",
        "python benchmarks/none.py",
        "dvc exp run --swift",
        "dvc repro evaluation",
        "dvc exp run -S loss.tua=1",
        "dvc exp run -S loss.tau=-1",
        "dvc exp run --queue -S loss.distill=info_nce,paper",
        "make all",
        "syntriever run",
    ):
        assert _fault(bad, tmp_path), bad


def test_blocks_are_read(tmp_path):
    """Marks, prompts and comments are told from commands."""
    page = tmp_path / "page.md"
    page.write_text(
        "a\n```sh\nls   # all\nsleep 9  # long: sleeps\n# long\nmake\n```\n"
        "```console\n$ ls\nfile\n$ curl x  # network\n```\n```\nnone\n```\n"
    )
    one, two, three = pages.blocks(page)
    assert list(one.commands()) == [
        ("ls   # all", True), ("sleep 9  # long: sleeps", False), ("make", False),
    ]  # fmt: skip
    assert two.script() == "ls" and one.start == 2
    assert three.language not in pages.SHELL
