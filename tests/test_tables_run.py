"""A small table run by DVC itself, in a repository with stub stages."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from clone import VARIABLES
from project import ROOT
from tables_project import MOVED, make_tables, write

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TABLE = """
title: Two rows
about: One fails.
source: nothing.
columns: [concepts]
rows:
  - {name: bad, label: bad, system: stage2, set: {loss.tau: 0.1}}
  - {name: good, label: good, system: stage2, published: {concepts: 60.0}}
"""
PIPELINE = """
stages:
  prepare:
    cmd: python stub.py prepare
    deps: ["${collection.path}", "${teacher.recorded}", stub.py]
    params: [collection, encoder]
    outs: [data/prepared]
  evaluate:
    cmd: python stub.py evaluate
    deps: [data/prepared, stub.py]
    params: [seed, loss.tau, evaluate.splits]
    outs: [data/evaluation]
    metrics:
      - metrics/evaluate: {cache: false}
      - metrics/verify.json: {cache: false}
  transfer:
    foreach: ${evaluate.collections}
    do:
      cmd: python stub.py transfer ${key}
      deps: ["${item}", data/prepared, stub.py]
      metrics:
        - metrics/transfer/${key}.json: {cache: false}
"""
STUB = """
import json, pathlib, sys
from ruamel.yaml import YAML

def write(file, text):
    pathlib.Path(file).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(file).write_text(text)

params = YAML(typ="safe", pure=True).load(open("params.yaml").read())
systems = {"bm25": 0.1, "untrained": 0.4, "stage1": 0.5, "stage2": 0.6}
if sys.argv[1] == "prepare":
    write("data/prepared/x", "x")
if sys.argv[1] == "transfer":
    scores = {s: {"ndcg_at_10": v, "queries": 2} for s, v in systems.items()}
    write(f"metrics/transfer/{sys.argv[2]}.json", json.dumps(scores))
if sys.argv[1] == "evaluate":
    if params["loss"]["tau"] == 0.1:
        sys.exit("error: /some/where/tau.yaml is no good")
    write("metrics/verify.json", json.dumps({"refused": 1}))
    for split in params["evaluate"]["splits"]:
        lines = ["system\\tquery_id\\tunseen\\tndcg_at_10"]
        for s, v in systems.items():
            score = {"ndcg_at_10": v, "ndcg_at_10_unseen": v, "queries": 2, "queries_unseen": 1}
            write(f"metrics/evaluate/{split}/{s}.json", json.dumps(score))
            lines += [f"{s}\\t1\\tTrue\\t{v + 0.1}", f"{s}\\t2\\tFalse\\t{v - 0.1}"]
        write(f"data/evaluation/{split}/per_query.tsv", "\\n".join(lines) + "\\n")
        ends = {"intervals": {s: [v - 0.1, v + 0.1] for s, v in systems.items()}}
        write(f"data/evaluation/{split}/significance.json", json.dumps(ends))
"""


def call(*command, code=0):
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout, done.stderr


def tables(*arguments, code=0):
    return call(sys.executable, "-m", "stages.tables", *arguments, code=code)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    folder = make_tables(tmp_path / "repository", small=TABLE, moved=MOVED)
    write(folder / "dvc.yaml", PIPELINE)
    write(folder / "stub.py", STUB)
    write(folder / ".gitignore", "__pycache__/\n.journal/\n.checkpoints/\n/data/prepared\n")
    monkeypatch.chdir(folder)
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    call("git", "init", "-q")
    call(sys.executable, "-m", "dvc", "init", "-q")
    call("git", "add", "-A")
    call("git", "commit", "-qm", "all")
    return folder


def test_a_table_runs_and_goes_on_where_it_stopped(repository, tmp_path, monkeypatch):
    """A failed row is a failed cell and exit code 1, the others go on; a second call runs only
    what failed; nothing of the workspace changes but metrics/tables, uncommitted work included."""
    write(repository / "prompts/cot.txt", "changed, not committed")
    settings = repository / "params.yaml"  # as `dvc exp apply` leaves it after a sweep on dev
    settings.write_text(settings.read_text("utf-8").replace("[dev, test]", "[dev]"), "utf-8")
    write(repository / "new.py", "not tracked")
    (repository / os.fsdecode(b"caf\xe9.txt")).write_text("a name that is not UTF-8")
    write(tmp_path / "home/.gitconfig", "[commit]\ngpgsign = true\n")  # and no key
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    before = call("git", "status", "--porcelain")[0]
    out, err = tables("run", "small", code=1)
    assert "Running stage 'evaluate'" in err and "1 of 2 runs failed" in err
    assert "60.0 (50.0–70.0) / 60.0" in out and "tau.yaml is no good" in out
    stored = [json.loads(f.read_text()) for f in repository.glob("metrics/tables/concepts/*.json")]
    (failed,) = (r for r in stored if "failed" in r)
    (good,) = (r for r in stored if "failed" not in r)
    assert "scores" not in failed and "/some" not in json.dumps(stored)
    assert str(repository) not in json.dumps(stored)
    assert set(good["scores"]) == {"dev", "test"} and good["metrics"]["verify"] == {"refused": 1}
    assert good["per_query"]["test"]["stage2"] == [0.7, 0.5]
    assert good["seconds"] >= 0 and good["device"] == "cpu" and good["cpu"]
    after = call("git", "status", "--porcelain")[0]
    assert after == before + "?? metrics/\n" or after.replace("?? metrics/\n", "") == before
    assert not re.search(r"\w", call("git", "for-each-ref", "refs/exps")[0])
    assert not list((repository / ".dvc/tmp").glob("table-*"))
    out, _ = tables("run", "small", "--dry")
    assert "concepts: bad, seed 0 (failed last time" in out and "1 to run" in out
    # A row of another table is the same run: it is only scored on the other collection.
    out, err = tables("run", "moved")
    assert "Running stage 'transfer@other'" in err and "Running stage 'evaluate'" not in err
    assert "| moved `moved` | 50.0 |" in out
    assert "0 to run" in tables("run", "moved", "--dry")[0]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_run_ends_with_its_command(signum):
    """A closed terminal, too, leaves nothing computing for nobody."""
    waits = "import os, time; print(os.getpid(), flush=True); time.sleep(300)"
    code = f"runs._stream([sys.executable, '-c', {waits!r}], Path())"
    code = f"import sys; from pathlib import Path; from syntriever.tables import runs; {code}"
    command = [sys.executable, "-c", code]

    def without_nohup():  # the tests' own would be handed on, and is heeded
        signal.signal(signum, signal.SIG_DFL)

    with subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=without_nohup
    ) as child:
        started = int(child.stderr.readline())
        child.send_signal(signum)
        assert child.wait(60) == 128 + signum
    with pytest.raises(ProcessLookupError):
        os.kill(started, 0)


def test_what_can_never_run_is_refused_before_anything_runs(repository, monkeypatch):
    """A collection that can't be scored on, after the training; a GPU that is not here."""
    qrels = repository / "collections/other/qrels/test.tsv"
    write(qrels, "query-id\tcorpus-id\tscore\nq\tnowhere\t1\n")
    assert "nowhere" in tables("run", "moved", code=1)[1]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "No GPU" in tables("run", "small", "--device", "cuda", code=1)[1]
    assert not (repository / "metrics").exists()
