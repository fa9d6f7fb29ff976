"""dvc.yaml tells DVC everything that can change a result, and nothing else."""

import ast
import hashlib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from syntriever import params
from syntriever.tables.overrides import leaves

ROOT = Path(__file__).parent.parent
YAML_12 = YAML(typ="safe", pure=True)
PIPELINE = YAML_12.load((ROOT / "dvc.yaml").read_text("utf-8"))
LOCK_FILE = ROOT / "dvc.lock"
COMPUTING = {"torch", "faiss", "bm25s", "sentence_transformers", "transformers"}


def definitions() -> dict[str, dict]:
    """Each stage's definition; a foreach stage's is its `do`."""
    return {name: stage.get("do", stage) for name, stage in PIPELINE["stages"].items()}


def imports(file: Path) -> set[str]:
    """All names that a module imports, at its top or inside a function, as dotted names."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files_of(name: str) -> set[Path]:
    """The project's files that importing a dotted name runs."""
    found, parts = set(), name.split(".")
    for end in range(1, len(parts) + 1):
        base = ROOT.joinpath(*parts[:end])
        found |= {f for f in (base.with_suffix(".py"), base / "__init__.py") if f.exists()}
    return found


def closure(script: Path) -> set[Path]:
    """The project's files that a script imports, directly or not, itself included."""
    seen, waiting = set(), [script, ROOT / "stages" / "__init__.py"]
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        for name in imports(file):
            if name.split(".")[0] in ("syntriever", "stages"):
                waiting += files_of(name)
    return seen


def code_deps(name: str) -> set[str]:
    files = closure(ROOT / "stages" / f"{name}.py")
    deps = {str(file.relative_to(ROOT)) for file in files}
    used = {module.split(".")[0] for file in files for module in imports(file)}
    return deps | ({"requirements.lock"} if used & COMPUTING else set())


ALL_LEAVES = leaves(params.Params)


@pytest.mark.parametrize("name", sorted(definitions()))
def test_code_is_tracked(name):
    """A stage's deps name each project file that it imports, and the lock of what computes."""
    deps = {d for d in definitions()[name]["deps"] if d.endswith((".py", ".lock"))}
    assert deps == code_deps(name)


@pytest.mark.parametrize("name", sorted(definitions()))
def test_params_are_tracked(name):
    """A stage's params in dvc.yaml are the leaves of its view, so that it reads nothing else."""
    declared = set()
    for group in definitions()[name].get("params", []):
        within = {leaf for leaf in ALL_LEAVES if leaf == group or leaf.startswith(f"{group}.")}
        assert within, f"{group} is no param"
        declared |= within
    assert declared == leaves(params.VIEWS[name])


def test_runtime_is_tracked_by_no_stage():
    """What cannot change a result reruns nothing."""
    for view in params.VIEWS.values():
        assert not any(leaf.startswith("runtime") for leaf in leaves(view))


@pytest.mark.parametrize("name", sorted(definitions()))
def test_outs_allow_the_run_cache(name):
    """No stage has a persistent or an uncached plain out: both switch DVC's run cache off."""
    for out in definitions()[name].get("outs", []):
        assert isinstance(out, str), f"{name}: {out} has options"


@pytest.mark.parametrize("name", sorted(definitions()))
def test_stage_is_described(name):
    """One word names stage, script and command, and dvc.yaml describes each."""
    stage = definitions()[name]
    assert stage["cmd"].split()[:3] == ["python", "-m", f"stages.{name}"]
    assert stage["desc"]


def md5(path: Path) -> str:
    """A file's hash as DVC computes it."""
    return hashlib.md5(path.read_bytes()).hexdigest()


def tree_md5(folder: Path) -> str:
    """A folder's hash as DVC computes it."""
    import json

    entries = [
        {"md5": md5(file), "relpath": file.relative_to(folder).as_posix()}
        for file in folder.rglob("*")
        if file.is_file()
    ]
    entries.sort(key=lambda entry: entry["relpath"])
    return hashlib.md5(json.dumps(entries).encode()).hexdigest() + ".dir"


def locked_stages() -> dict[str, dict]:
    return YAML_12.load(LOCK_FILE.read_text("utf-8"))["stages"]


def tracked_by_git(path: str) -> bool:
    """Whether a dep stands in the repository (others are made by the pipeline)."""
    return not path.startswith(
        (
            "data/prepared",
            "data/written",
            "data/synthetic",
            "data/pref",
            "data/emb",
            "data/eval",
            "models",
            "metrics",
            "plots",
        )
    )


def test_lock_is_fresh():
    """dvc.lock holds the hashes of the files and the values of the params that stand here."""
    values = YAML_12.load((ROOT / "params.yaml").read_text("utf-8"))
    stale = []
    for name, stage in locked_stages().items():
        for dep in stage["deps"]:
            path = ROOT / dep["path"]
            if tracked_by_git(dep["path"]):
                found = tree_md5(path) if path.is_dir() else md5(path)
                stale += [f"{name}: {dep['path']}"] if found != dep["md5"] else []
        for param, value in stage.get("params", {}).get("params.yaml", {}).items():
            here = values
            for part in param.split("."):
                here = here[part]
            stale += [f"{name}: {param}"] if here != value else []
    assert not stale, "run `make lock` and commit dvc.lock and metrics; stale: " + ", ".join(stale)


def test_lock_is_whole():
    """Every stage is locked with the very deps that dvc.yaml names, and their outputs chain."""
    locked = locked_stages()
    for name, stage in PIPELINE["stages"].items():
        items = stage.get("foreach", [None])
        for item in [] if isinstance(items, str) else items:  # str: params name no collection
            entry = locked[name if item is None else f"{name}@{item}"]
            expected = {
                dep.replace("${item}", item or "")
                .replace("${collection.path}", "data/collections/concepts")
                .replace("${teacher.recorded}", "data/teacher/concepts.jsonl")
                .replace(
                    "${teacher.recorded_queries}", "data/teacher/concepts_written_queries.jsonl"
                )
                for dep in stage.get("do", stage)["deps"]
            }
            assert {dep["path"] for dep in entry["deps"]} == expected
    made = {out["path"]: out["md5"] for stage in locked.values() for out in stage["outs"]}
    for name, stage in locked.items():
        for dep in stage["deps"]:
            assert made.get(dep["path"], dep["md5"]) == dep["md5"], f"{name}: {dep['path']}"
