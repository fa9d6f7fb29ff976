"""`python -m stages.reproduce` tells same bytes, another CPU and a difference apart."""

import platform
import subprocess
from pathlib import Path

import pytest
from project import ROOT, inside, run_stage

from syntriever import paths, reproduction, results
from syntriever.errors import SyntrieverError
from syntriever.evaluation import SYSTEMS
from syntriever.files import read_json, write_json

FILE = "metrics/evaluate/test/stage2.json"
LOCK = "stages: {{evaluate: {{outs: [{{path: metrics/evaluate, md5: {}}}]}}}}\n"


@pytest.fixture
def committed(project, monkeypatch):
    """A project whose results are committed; it is no DVC repository."""
    monkeypatch.setattr(reproduction, "_outputs_are_there", lambda: True)
    (project / "dvc.lock").write_text(LOCK.format("a"))
    reproduction.record(reproduction.note())
    (project / ".gitignore").write_text("models\ndata\nmetrics/evaluate\n")
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "results"],
    ):
        subprocess.run(["git", *command], check=True)
    return project


def shift(by, name="ndcg_at_10"):
    """Give other results than the committed ones, as a run would: another lock, another file."""
    metrics = read_json(FILE)
    write_json(FILE, metrics | {name: metrics[name] + by})
    Path("dvc.lock").write_text(LOCK.format("b"))
    headline = read_json(paths.HEADLINE)
    headline["test"]["stage2"] = read_json(FILE)["ndcg_at_10"]
    write_json(paths.HEADLINE, headline)


def elsewhere(monkeypatch):
    monkeypatch.setattr(reproduction, "cpu_type", lambda: "another type")


def test_same_bytes(committed):
    """Nothing differs: reproduced, byte for byte, on any CPU."""
    verdict = reproduction.judge()
    assert verdict.reproduced and "byte for byte" in verdict.words


def test_outputs_that_are_gone_are_not_reproduced(committed, monkeypatch):
    """The committed lock beside missing outputs proves nothing."""
    monkeypatch.setattr(reproduction, "_outputs_are_there", lambda: False)
    verdict = reproduction.judge()
    assert not verdict.reproduced and "dvc checkout" in verdict.words


def test_same_cpu_other_bytes(committed):
    """On the CPU type that made the lock, other bytes are a failure, however small."""
    shift(0)
    verdict = reproduction.judge()
    assert not verdict.reproduced and "make lock" in verdict.words


def test_a_tables_cell_is_no_result_of_this_run(committed):
    """A row of tables/ that is measured again changes nothing here."""
    cell = committed / "metrics/tables/concepts/0.json"
    write_json(cell, {"seconds": 1})
    subprocess.run(["git", "add", "-A"], check=True)
    assert reproduction.judge().reproduced


def test_other_cpu_within_tolerance(committed, monkeypatch):
    """On another CPU type a difference within the tolerance is reproduced, in words."""
    elsewhere(monkeypatch)
    shift(reproduction.TOLERANCE / 2)
    verdict = reproduction.judge()
    assert verdict.reproduced
    assert "reproduced within tolerance on another CPU" in verdict.words
    assert FILE in verdict.words


@pytest.mark.parametrize("name", ["ndcg_at_10", "recall_at_100"])
def test_other_cpu_beyond_tolerance(committed, monkeypatch, name):
    """Beyond the tolerance no CPU type is an excuse, for any metric."""
    elsewhere(monkeypatch)
    shift(-2 * reproduction.TOLERANCE, name)
    verdict = reproduction.judge()
    assert not verdict.reproduced and name in verdict.words


def test_a_record_of_another_lock(committed):
    """Figures that are not the committed lock's are nothing to compare with, and that is said."""
    shift(0.01)
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "no record"],
        check=True,
    )
    shift(0.01)
    (committed / "dvc.lock").write_text(LOCK.format("c"))
    with pytest.raises(SyntrieverError, match=r"record\.json is not of the committed dvc\.lock"):
        reproduction.judge()


def test_another_experiment(committed):
    """With changed params there is nothing to reproduce, and that is said."""
    (committed / "params.yaml").write_text((committed / "params.yaml").read_text() + "\n")
    assert "another experiment" in reproduction.judge().words


def test_without_a_commit_nothing_is_judged(project):
    """Outside git, or without a committed lock, there is nothing to compare with."""
    with pytest.raises(SyntrieverError, match="no commit"):
        reproduction.judge()


def test_command_prints_both_and_fails(committed, monkeypatch, capsys):
    """The command prints the committed figure beside this run's, and exits 1 where it must."""
    from stages import reproduce

    monkeypatch.setattr("sys.argv", ["reproduce"])
    with pytest.raises(SystemExit) as end:
        reproduce.reproduce()
    assert end.value.code == 0
    shift(0.01)
    with pytest.raises(SystemExit) as end:
        reproduce.reproduce()
    assert end.value.code == 1
    out, err = capsys.readouterr()
    assert "+0.0100" in out and "committed" in out
    assert "NOT reproduced" in err


@pytest.mark.parametrize("fault", ["split", "system", "value"])
def test_a_headline_that_lacks_something_is_said(committed, fault):
    """File and key are named."""
    headline = read_json(paths.HEADLINE)
    if fault == "split":
        del headline["test"]
    elif fault == "system":
        del headline["test"]["bm25"]
    else:
        headline["test"]["bm25"] = None
    write_json(paths.HEADLINE, headline)
    with pytest.raises(
        SyntrieverError, match=r"ndcg_at_10\.json holds no .* test, bm25\..*dvc repro"
    ):
        reproduction.lines("test")


@pytest.mark.parametrize("lock", [None, "<<<<<<< HEAD\nstages:\n", "", "schema: '2.0'\n", "a: [\n"])
def test_without_a_lock_nothing_is_recorded(committed, lock):
    """README and the record stay as they are until all that goes into them is read."""
    readme = "a\n<!-- results:begin -->\nold\n<!-- results:end -->\nb\n"
    Path("README.md").write_text(readme)
    before = reproduction.RECORD.read_bytes()
    Path("dvc.lock").unlink() if lock is None else Path("dvc.lock").write_text(lock)
    with pytest.raises(SyntrieverError, match=r"dvc\.lock .*dvc repro"):
        run_stage("reproduce", True)
    assert Path("README.md").read_text() == readme
    assert reproduction.RECORD.read_bytes() == before


def test_results_are_rendered(finished_project):
    """The table has a line a system, its interval, and what each step gained."""
    with inside(finished_project):
        text = results.render("test")
    for words in ("BM25", "alignment (stage 2)", "unseen", "95% interval", "p = "):
        assert words in text


def test_readme_is_filled_between_its_marks(tmp_path):
    """Tables replace what stood between the marks and nothing else; without marks it is said."""
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- results:begin, x -->\nold\n<!-- results:end -->\nb\n")
    reproduction.fill_readme(["one\n", "two\n"], readme)
    expected = "a\n<!-- results:begin, x -->\n```\none\n\ntwo\n```\n<!-- results:end -->\nb\n"
    assert readme.read_text() == expected
    readme.write_text("a\n")
    with pytest.raises(SyntrieverError, match="marks"):
        reproduction.fill_readme(["one"], readme)


def test_readme_shows_the_committed_metrics():
    """Each system's figures in README are those of metrics/record.json, whose nDCG@10 are those of
    metrics/ndcg_at_10.json."""
    recorded = read_json(ROOT / reproduction.RECORD)["metrics"]
    headline = read_json(ROOT / paths.HEADLINE)
    text = (ROOT / "README.md").read_text("utf-8")
    for split in ("dev", "test"):
        table = text.split(f"\n{split}: ")[1].split("\n\n")[0]
        for system in SYSTEMS:
            metrics = recorded[f"{split}/{system}.json"]
            assert headline[split][system] == metrics["ndcg_at_10"]
            (line,) = (x for x in table.splitlines() if x.startswith(results.NAMES[system]))
            for name in ("ndcg_at_10", "ndcg_at_10_unseen", "recall_at_100", "mrr_at_10"):
                assert f"{metrics[name]:.4f}" in line


def test_cpu_type_names_the_instruction_sets():
    """The type names what decides code paths, and no host."""
    found = reproduction.cpu_type()
    assert "family" in found or "Darwin" in found
    assert platform.node() not in found and "\n" not in found
