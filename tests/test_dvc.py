"""The user's commands, through DVC itself, on a clone with a cut-down collection."""

import re
import shutil

import pytest
from clone import Clone, copy_repository
from project import QUICK, make_project, set_params
from ruamel.yaml import YAML

from syntriever.evaluation import SYSTEMS

ALL = {
    "prepare", "embed@untrained", "synthesize", "verify", "train_stage1", "embed@stage1",
    "mine_pairs", "train_stage2", "embed@stage2", "evaluate", "report", "write_queries",
}  # fmt: skip
AFTER_TAU = ALL - {"prepare", "embed@untrained", "write_queries", "synthesize", "verify"}
AFTER_STAGE2 = {"train_stage2", "embed@stage2", "evaluate", "report"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def stages_run(text: str) -> set[str]:
    return set(re.findall(r"Running stage '([^']+)'", text))


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone with the tiny encoder, its results committed."""
    folder = tmp_path_factory.mktemp("clone") / "repository"
    copy_repository(folder, left_out=("metrics/", "plots/", "dvc.lock"))
    made = make_project(tmp_path_factory.mktemp("made") / "project")
    shutil.copytree(made / "collection", folder / "data/collections/concepts", dirs_exist_ok=True)
    shutil.copy(made / "data/teacher/concepts.jsonl", folder / "data/teacher")
    shutil.copytree(made / "tiny-encoder", folder / "tiny-encoder")
    set_params(folder, QUICK | {"collection.path": "data/collections/concepts"})
    repository = Clone(folder)
    repository.run("git", "init", "-q")
    repository.commit("clone")
    text = repository.run("dvc", "repro")
    assert stages_run(text) == ALL
    repository.commit("results")
    return repository


def test_repro_leaves_git_clean_and_runs_once(clone):
    """After `dvc repro` nothing is left untracked; a second one runs nothing."""
    assert clone.run("git", "status", "--porcelain") == ""
    assert stages_run(clone.run("dvc", "repro")) == set()
    assert "up to date" in clone.run("dvc", "status")


def test_experiments_run_what_depends_on_them(clone):
    """`dvc exp run -S` runs only the stages that depend on the param, `dvc metrics diff` shows
    what changed, a sweep is queued, run, shown, and one of its experiments applied."""
    text = clone.run("dvc", "exp", "run", "-S", "loss.tau=0.1")
    assert stages_run(text) == AFTER_TAU
    diff = clone.run("dvc", "metrics", "diff", "--all")
    assert "metrics/ndcg_at_10.json" in diff and "test.stage2" in diff
    accounts = clone.run("dvc", "metrics", "diff", "--targets", "metrics/train_stage1.json")
    assert "loss_first_epoch" in accounts
    clone.run("git", "checkout", "-q", ".")
    clone.run("dvc", "checkout", "-q")
    text = clone.run("dvc", "exp", "run", "-S", "train_stage2.epochs=2")
    assert stages_run(text) == AFTER_STAGE2
    clone.run("git", "checkout", "-q", ".")
    clone.run("dvc", "checkout", "-q")
    clone.run("dvc", "queue", "remove", "--all")  # what other tests left
    clone.run("dvc", "exp", "run", "--queue", "-S", "train_stage2.epochs=1,2")
    clone.start_queue()
    names = queued(clone)
    assert len(names) == 2
    shown = clone.run("dvc", "exp", "show", "--csv", "--no-pager")
    assert all(name in shown for name in names)
    applied = []
    for name in names:
        clone.run("dvc", "exp", "apply", name)
        applied.append(clone.run("dvc", "params", "diff"))
    assert sum("epochs" in diff for diff in applied) == 1  # the other is the committed value
    clone.run("git", "checkout", "-q", ".")
    clone.run("dvc", "checkout", "-q")
    assert clone.run("git", "status", "--porcelain") == ""


def queued(clone) -> list[str]:
    """Wait for the queue; return the names of the experiments, which must all have succeeded."""
    import time

    for _ in range(300):
        status = clone.run("dvc", "queue", "status")
        if re.search(r"Success|Failed", status) and not re.search(r"\b(Running|Queued)\b", status):
            break
        time.sleep(1)
    failed = re.findall(r"^(\w{7})\s.*Failed", status, re.MULTILINE)
    assert not failed, status + "".join(clone.run("dvc", "queue", "logs", task) for task in failed)
    return re.findall(r"^\w{7}\s+(\S+)\s+.*Success", status, re.MULTILINE)


def test_each_stage_owns_its_curves(clone):
    """Forcing one stage leaves the curves of the others, and `dvc plots show` draws them."""
    for stage in ("evaluate", "train_stage2"):
        clone.run("dvc", "repro", "--single-item", "--force", stage)
        for name in ("train_stage1/plots/metrics/loss.tsv", "train_stage2/plots/metrics/loss.tsv"):
            assert (clone.folder / "plots" / name).exists()
        assert (clone.folder / "plots/evaluate/ndcg_test.json").exists()
    clone.run("dvc", "plots", "show", "--out", "../page")
    page = (clone.folder.parent / "page/index.html").read_text("utf-8")
    titles = YAML(typ="safe").load((clone.folder / "dvc.yaml").read_text("utf-8"))["plots"]
    assert len(titles) == 5 and all(t in page for one in titles for t in one)
    table = clone.run("dvc", "metrics", "show")
    assert "test.stage2" in table and max(map(len, table.splitlines())) <= 140
    shown = clone.run("dvc", "exp", "show", "--csv", "--no-pager").splitlines()[0].split(",")
    metrics = [name for name in shown if name.startswith(("dev.", "test."))]
    assert sorted(metrics) == sorted(f"{split}.{s}" for split in ("dev", "test") for s in SYSTEMS)
    systems = clone.run("dvc", "metrics", "show", "metrics/evaluate/test")
    assert "ndcg_at_10_unseen" in systems
    assert clone.run("git", "status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("loss.tau=-1", "loss.tau should be greater than 0"),
        ("train_stage1.batch_size=many", "train_stage1.batch_size should be a valid integer"),
        ("mine_pairs.top_k=100000", "top_k"),
        ("encoder.name=no-such-encoder", "no-such-encoder"),
        ("collection.path=no-such-folder", "no-such-folder"),
        ("teacher.recorded=data/teacher/scifact.jsonl", "answered nothing that was asked"),
        ("write_queries.kinds=[claim]", "claim"),
    ],
)
def test_bad_values_through_dvc(clone, change, words):
    """A bad value through -S is one clear message and a failed run, and nothing half-written."""
    text = clone.run("dvc", "exp", "run", "-S", change, fails=True)
    assert words in text
    assert "Traceback" not in text
    assert not list((clone.folder / "data").rglob("*.part"))
    clone.run("git", "checkout", "-q", ".")
    clone.run("dvc", "checkout", "-q")


def test_unknown_params_through_dvc(clone):
    """A misspelt name through -S is refused."""
    text = clone.run("dvc", "exp", "run", "-S", "loss.tua=1", fails=True)
    assert "tua" in text
    clone.run("git", "checkout", "-q", ".")
