"""Runs a table's row as a DVC experiment in a copy of the repository, and stores what came out.

The copy holds the files as they are, committed or not, and shares DVC's cache, the journal and the
checkpoints with the repository. `dvc exp run --temp` would do, but it resets the workspace to the
last commit for a moment, which loses what somebody saves just then, and it leaves new files out.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from syntriever import params, paths
from syntriever.errors import SyntrieverError
from syntriever.files import read_json
from syntriever.reproduction import cpu_type
from syntriever.tables.cells import Run, made_from, store
from syntriever.tables.measured import precision
from syntriever.tables.overrides import flatten, options, without_folders

_SHARED = (".journal", ".checkpoints")
_TAIL = 8
_NO_STAGE = ("ndcg_at_10.json", "record.json")  # of metrics/: what no stage counted


@dataclass(frozen=True)
class Machine:
    """What runs are computed on, and in what precision; params.yaml says it where this does not."""

    device: str | None = None
    precision: str | None = None

    def settings(self) -> dict[str, object]:
        """Return the params that it sets."""
        wanted = {"compute.device": self.device, "compute.precision": self.precision}
        chosen = {name: value for name, value in wanted.items() if value is not None}
        if self.precision == "bf16" and self.device != "cuda":
            chosen["compute.instructions"] = "native"  # avx2 has no bf16
        return chosen

    def check(self) -> None:
        """Refuse what no run could use.

        Raises:
            SyntrieverError: a GPU is asked for, and none is here.
        """
        if (self.device or params.load_all().compute.device) == "cuda":
            import torch  # late: seconds

            if not torch.cuda.is_available():
                raise SyntrieverError("No GPU that PyTorch can use is here: --device cpu.")


def check_targets(folders: Iterable[Path]) -> None:
    """Read collections to score on before anything trains: they are scored last.

    Raises:
        SyntrieverError: one can't be scored on.
    """
    from syntriever import evaluation, transfer  # late: seconds

    settings = params.load_all().evaluate
    for folder in folders:
        with tempfile.TemporaryDirectory() as place:
            split, _ = transfer.read(folder, Path(place) / "corpus.arrow")
            evaluation.refuse_own_ids(split, folder / "qrels/test.tsv", settings)


def measure(
    run: Run, folders: dict[str, str], targets: list[str], own: bool, machine: Machine
) -> str | None:
    """Run one experiment and store its scores the moment it is done.

    Args:
        run: what to run.
        folders: of the collections that are here, by name, as params name them.
        targets: other collections to score on.
        own: whether its scores on its own collection were asked for.
        machine: what to run it on.

    Returns:
        The last lines of what a failed run said; None where it went well. Failure is stored too,
        beside the scores of an earlier run where there are some.
    """
    started = time.monotonic()
    chosen = settings(run, folders) | machine.settings()
    with _copy(Path.cwd()) as copy:
        others = {name: folders[name] for name in targets}
        command = [sys.executable, "-m", "dvc", "exp", "run", *options(chosen, others)]
        code, ran, tail = _stream(command, copy)
        head = {
            "collection": run.collection,
            "seed": run.seed,
            "overrides": {name: without_folders(v) for name, v in run.overrides.items()},
        }
        if code:
            for target in [*targets, *([None] if own else [])]:
                kept = run.stored(target) or head | ({"scored_on": target} if target else {})
                store(run.file(target), kept | {"failed": tail})
            return "\n".join(tail)
        head |= {
            "cpu": cpu_type(),
            "seconds": round(time.monotonic() - started),
            "stages_run": ran,
        }
        _store_all(run, copy, head, folders, targets, own)
    return None


def settings(run: Run, folders: dict[str, str]) -> dict[str, object]:
    """Return all that `-S` must set for a run."""
    fixed = {"collection.path": folders[run.collection], "seed": run.seed}
    return fixed | {"evaluate.splits": ["dev", "test"]} | run.overrides


def _store_all(
    run: Run, copy: Path, head: dict, folders: dict[str, str], targets: list[str], own: bool
) -> None:
    values = flatten(params.load_all(copy / params.PARAMS_FILE))
    head["device"] = _device(values["compute.device"])
    head["compute"] = {n: v for n, v in values.items() if n.startswith("compute.")}
    for target in [*targets, None]:  # its own scores last: they say that the run is done
        here = {name: copy / folders[name] for name in (run.collection, target) if name}
        source = made_from(copy, values, here)
        found = _own_scores(copy) if target is None else _scores_on(copy, target)
        record = head | found | {"made_from": source}
        if _is_new(record, run.stored(target), asked=own or target is not None):
            store(run.file(target), record)


def _is_new(record: dict, kept: dict | None, asked: bool) -> bool:
    """Tell whether a record says more than the one that is kept, which tells how long it took.

    Scores that nobody asked for, beside those on other collections, do not take the place of those
    in another precision: further seeds were measured beside them.
    """
    if kept is None or "failed" in kept:
        return True
    if precision(record) != precision(kept):
        return asked
    return kept["made_from"] != record["made_from"]


def _own_scores(copy: Path) -> dict:
    import pandas as pd

    scores, per_query = {}, {}
    for folder in sorted((copy / paths.METRICS / "evaluate").iterdir()):
        details = copy / paths.EVALUATION / folder.name
        ends = read_json(details / "significance.json")["intervals"]
        scores[folder.name] = {
            file.stem: read_json(file) | {"interval": ends[file.stem]}
            for file in sorted(folder.glob("*.json"))
        }
        table = pd.read_csv(details / "per_query.tsv", sep="\t", dtype={"query_id": str})
        wide = table.pivot(index="query_id", columns="system", values="ndcg_at_10").round(4)
        unseen = table.drop_duplicates("query_id").set_index("query_id")["unseen"]
        per_query[folder.name] = {
            "queries": list(wide.index),
            "unseen": [int(unseen[query]) for query in wide.index],
        } | {system: wide[system].tolist() for system in wide}
    files = sorted((copy / paths.METRICS).glob("*.json"))
    metrics = {f.stem: read_json(f) for f in files if f.name not in _NO_STAGE}
    return {"scores": scores, "metrics": metrics, "per_query": per_query}


def _scores_on(copy: Path, target: str) -> dict:
    found = read_json(copy / paths.METRICS / "transfer" / f"{target}.json")
    return {"scored_on": target, "scores": {"test": found}}


def _device(device: str) -> str:
    if device == "cpu":
        return device
    import torch

    return f"{device}, {torch.cuda.get_device_name()}" if torch.cuda.is_available() else device


@contextmanager
def _copy(root: Path) -> Iterator[Path]:
    """Yield a copy of the repository's files, a git repository of its own, gone afterwards."""
    if not (root / ".dvc").is_dir():
        raise SyntrieverError(f"{root} is no DVC repository. Run this from the repository's root.")
    (root / ".dvc/tmp").mkdir(exist_ok=True)
    copy = Path(tempfile.mkdtemp(prefix="table-", dir=root / ".dvc/tmp"))
    try:
        for name in _git(root, "ls-files", "-coz", "--exclude-standard").split("\0"):
            if name and (root / name).is_file() and not name.startswith("metrics/tables/"):
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, copy / name)
        for name in _SHARED:
            (root / name).mkdir(exist_ok=True)
            (copy / name).symlink_to(root / name)
        _git(copy, "init", "-q")
        (copy / ".git/info/exclude").write_text("".join(f"/{n}\n" for n in _SHARED), "utf-8")
        _share_cache(root, copy)
        who = ("-c", "user.name=tables", "-c", "user.email=tables@localhost")
        who += ("-c", "commit.gpgsign=false")  # whatever the user's own commits are
        _git(copy, "add", "-A")
        _git(copy, *who, "commit", "-qm", "as it is")
        yield copy
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _share_cache(root: Path, copy: Path) -> None:
    if (root / ".dvc/config.local").exists():
        shutil.copy(root / ".dvc/config.local", copy / ".dvc/config.local")
    dvc = [sys.executable, "-m", "dvc"]
    cache = _output([*dvc, "cache", "dir"], root).strip()
    _output([*dvc, "config", "--local", "cache.dir", cache], copy)


def _git(folder: Path, *arguments: str) -> str:
    try:
        return _output(["git", *arguments], folder)
    except FileNotFoundError:
        raise SyntrieverError("git is not installed, and DVC's experiments need it.") from None


def _output(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, env=_environment(), capture_output=True, text=True,
        errors="surrogateescape",  # as Python has names of files that are not UTF-8
    )  # fmt: skip
    if done.returncode:
        words = " ".join(command[:4])
        raise SyntrieverError(f"`{words}` failed in {folder}: {done.stderr.strip()}")
    return done.stdout


def _environment() -> dict[str, str]:
    """`python` in dvc.yaml must be this one, and git's and DVC's own variables must not leak in."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "DVC_"))}
    return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"}


def _stream(command: list[str], folder: Path) -> tuple[int, list[str], list[str]]:
    """Run a command, passing on what it prints.

    Returns:
        Its exit code, the names of the DVC stages that ran, and the last lines that it printed.
    """
    child = subprocess.Popen(
        command, cwd=folder, env=_environment(), start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGHUP)}
    for one, handler in before.items():
        if handler != signal.SIG_IGN:  # nohup
            signal.signal(one, lambda number, _: sys.exit(128 + number))
    ran, rest, last = [], b"", deque(maxlen=40)
    try:
        while block := os.read(child.stdout.fileno(), 65536):
            sys.stderr.buffer.write(block)
            sys.stderr.flush()
            *lines, rest = re.split(rb"[\r\n]+", rest + block)
            for line in (line.decode("utf-8", "replace").strip() for line in lines):
                ran += re.findall(r"Running stage '([^']+)'", line)
                last += [line] if line else []
        code = child.wait()
    except BaseException:
        _stop(child)
        raise
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    return code, ran, [_without_folders(line) for line in last][-_TAIL:]


def _stop(child: subprocess.Popen) -> None:
    """End the experiment with all its processes; DVC tidies up after an interrupt."""
    for signum in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(child.pid, signum)
            child.wait(timeout=20)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
        return


def _without_folders(line: str) -> str:
    return re.sub(r"(?<![\w.])(?:/[\w.@+-]+)+/", "", line).strip()[:300]
