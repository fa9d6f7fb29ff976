"""Holds a run against the committed one: the same bytes, within tolerance, or different."""

import json
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from syntriever import paths
from syntriever.errors import SyntrieverError
from syntriever.files import opened, read_json, replacing, write_json

# How far any metric of metrics/evaluate may lie from the recorded one on another CPU type: a bound
# with room, see docs/reproducibility.md.
TOLERANCE = 0.02

EVALUATE = paths.METRICS / "evaluate"
RECORD = paths.METRICS / "record.json"
LOCK = Path("dvc.lock")
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


@dataclass(frozen=True)
class Verdict:
    """What came out, in words, and whether it counts as reproduced."""

    words: str
    reproduced: bool


def cpu_type() -> str:
    """Name this machine's CPU type: vendor, family, model and the instruction sets that matter."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return f"{platform.system()} {platform.machine()}"
    values = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    flags = values.get("flags", "").split()
    sets = ", ".join(flag for flag in _FLAGS if flag in flags) or platform.machine()
    numbers = f"family {values.get('cpu family', '?')} model {values.get('model', '?')}"
    return f"{values.get('vendor_id', platform.machine())} {numbers} ({sets})"


def note() -> dict:
    """Return all metrics of metrics/evaluate, their hash in dvc.lock, and this CPU type.

    Raises:
        SyntrieverError: dvc.lock or a file of metrics can't be read.
    """
    files = sorted(EVALUATE.rglob("*.json"))
    metrics = {file.relative_to(EVALUATE).as_posix(): read_json(file) for file in files}
    with opened(LOCK) as file:
        lock = file.read()
    try:
        md5 = _locked(lock.decode("utf-8"))
    except (ValueError, YAMLError, LookupError, TypeError, AttributeError):
        raise SyntrieverError(
            f"{LOCK} is not as DVC writes it, perhaps after a merge. Restore it with `git checkout "
            f"HEAD -- {LOCK}`, then run `dvc repro`."
        ) from None
    return {"cpu": cpu_type(), "md5": md5, "metrics": metrics}


def record(noted: dict) -> None:
    """Keep what `note` returned.

    Git keeps this record; metrics/evaluate itself is an output like any other, that DVC keeps.
    """
    write_json(RECORD, noted)


def _locked(lock: str) -> str | None:
    """Return the hash of metrics/evaluate in a dvc.lock."""
    outs = YAML(typ="safe").load(lock)["stages"].get("evaluate", {}).get("outs", [])
    return next((out["md5"] for out in outs if out["path"] == EVALUATE.as_posix()), None)


def fill_readme(tables: list[str], readme: Path = Path("README.md")) -> None:
    """Put the result tables between README's two marks, so that no figure is typed by hand.

    Raises:
        SyntrieverError: the file or its marks are missing; nothing is written.
    """
    restore = f"Restore it with `git checkout -- {readme}`."
    try:
        text = readme.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise SyntrieverError(
            f"{readme}, which is to hold the tables, can't be read ({why}). {restore}"
        ) from None
    parts = re.split(r"(<!-- results:.*? -->\n)", text)
    if len(parts) != 5:
        raise SyntrieverError(
            f"{readme} lacks its marks, between which the tables go: a line "
            "<!-- results:begin --> and a line <!-- results:end -->, each once. Put them in, or: "
            f"{restore}"
        )
    parts[2] = "```\n" + "\n".join(tables).rstrip() + "\n```\n"
    with replacing(readme) as temporary:
        temporary.write_text("".join(parts), "utf-8")


def lines(split: str) -> list[str]:
    """Return one split's nDCG@10 of every system beside the committed one.

    Raises:
        SyntrieverError: metrics/ndcg_at_10.json is missing or lacks one.
    """
    from syntriever.evaluation import SYSTEMS  # loads faiss and pandas: not for a --help

    rows = [f"{split + ', nDCG@10':<18}{'here':>10}{'committed':>12}{'difference':>12}"]
    for system in SYSTEMS:
        here = _headline(split, system)
        there = committed(paths.HEADLINE).get(split, {}).get(system)
        known = "" if there is None else f"{there:12.4f}{here - there:+12.4f}"
        rows.append(f"{system:<18}{here:10.4f}{known}")
    return rows


def _headline(split: str, system: str) -> float:
    try:
        return float(read_json(paths.HEADLINE)[split][system])
    except (LookupError, TypeError, ValueError):
        raise SyntrieverError(
            f"{paths.HEADLINE} holds no number under {split}, {system}. Run `dvc repro evaluate`, "
            "which makes it."
        ) from None


def judge() -> Verdict:
    """Compare dvc.lock with the last commit's and, where it differs, all metrics with its record.

    Raises:
        SyntrieverError: there is no commit, or its record is of another dvc.lock.
    """
    if _git("cat-file", "-e", "HEAD:./dvc.lock").returncode:
        raise SyntrieverError(
            "there is no commit with a dvc.lock here to compare with. Run this in a clone."
        )
    if _git("diff", "--quiet", "HEAD", "--", "params.yaml", "data", "prompts").returncode:
        return Verdict(
            "params, data or prompts differ from the commit: another experiment (`dvc status` says "
            "whether these results are its own)",
            True,
        )
    # The tables' cells are runs of their own.
    results = ("dvc.lock", "metrics", ":(exclude)metrics/tables")
    if not _git("diff", "--quiet", "HEAD", "--", *results).returncode:
        if _outputs_are_there():
            return Verdict("reproduced, byte for byte", True)
        return Verdict(
            "dvc.lock is the commit's, but the outputs here are not what it says: `dvc status` "
            "names them, `dvc checkout` brings them back, `dvc repro` makes them",
            False,
        )
    known = committed(RECORD)
    if known.get("md5") != _locked(_git("show", "HEAD:./dvc.lock").stdout):
        raise SyntrieverError(
            f"the committed {RECORD} is not of the committed dvc.lock, so that there is nothing to "
            "hold these results against. Make both anew by `make lock`, and commit them."
        )
    worst, where = max(_differences(known["metrics"]), default=(0.0, "no metric"))
    farthest = f"{worst:.4f} is the largest difference ({where})"
    there, here = known["cpu"], cpu_type()
    if here == there:
        return Verdict(
            f"NOT reproduced: this CPU type ({here}) made the committed lock, so the bytes must be "
            f"the same, but they differ; {farthest}. `git diff dvc.lock` shows the first stage "
            "that does; if code or packages changed since, run `make lock`",
            False,
        )
    if worst <= TOLERANCE:
        return Verdict(
            f"reproduced within tolerance on another CPU: {farthest}, allowed are {TOLERANCE}; "
            f"committed from {there}, this is {here}",
            True,
        )
    return Verdict(
        f"NOT reproduced: {farthest}, allowed are {TOLERANCE} on another CPU. `git diff dvc.lock "
        "metrics` shows where it begins; docs/reproducibility.md says what may differ",
        False,
    )


def committed(file: Path) -> dict:
    """Return a JSON file of the last commit, empty where the commit has none."""
    shown = _git("show", f"HEAD:./{file.as_posix()}")
    return json.loads(shown.stdout) if shown.returncode == 0 else {}


def _differences(recorded: dict[str, dict]) -> list[tuple[float, str]]:
    found = []
    for file, there in recorded.items():
        here = read_json(EVALUATE / file)
        for name, value in there.items():
            if isinstance(value, float) and isinstance(here.get(name), float):
                found.append((abs(value - here[name]), f"{name} of {EVALUATE / file}"))
    return found


def _outputs_are_there() -> bool:
    command = [sys.executable, "-m", "dvc", "status", "--quiet"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _git(*arguments: str) -> subprocess.CompletedProcess:
    try:
        return subprocess.run(
            ["git", *arguments], capture_output=True, text=True, encoding="utf-8", check=False
        )
    except FileNotFoundError:
        raise SyntrieverError(
            "git is not installed, so that the committed results can't be read. Install it."
        ) from None
