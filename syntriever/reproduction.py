"""Holds a run against the committed one: the same bytes, within tolerance, or different."""

import json
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from syntriever import paths
from syntriever.errors import SyntrieverError
from syntriever.files import read_json, replacing, write_json

# How far any metric of metrics/evaluate may lie from the committed one on another CPU type;
# docs/reproducibility.md says between which types it was measured.
TOLERANCE = 0.02

CPU_RECORD = paths.METRICS / "cpu.json"
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


def record_cpu() -> None:
    """Note the CPU type on which dvc.lock and metrics/ were made."""
    write_json(CPU_RECORD, {"cpu": cpu_type()})


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
    """Return one split's nDCG@10 of every system beside the committed one."""
    from syntriever.evaluation import SYSTEMS  # loads faiss and pandas: not for a --help

    rows = [f"{split + ', nDCG@10':<18}{'here':>10}{'committed':>12}{'difference':>12}"]
    for system in SYSTEMS:
        file = paths.METRICS / "evaluate" / split / f"{system}.json"
        here, there = read_json(file)["ndcg_at_10"], committed(file).get("ndcg_at_10")
        known = "" if there is None else f"{there:12.4f}{here - there:+12.4f}"
        rows.append(f"{system:<18}{here:10.4f}{known}")
    return rows


def judge() -> Verdict:
    """Compare dvc.lock and all metrics with the last commit's."""
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
    if not _git("diff", "--quiet", "HEAD", "--", "dvc.lock", "metrics").returncode:
        return Verdict("reproduced, byte for byte", True)
    worst, where = max(_differences(), default=(0.0, "no metric"))
    farthest = f"{worst:.4f} is the largest difference ({where})"
    there, here = committed(CPU_RECORD).get("cpu"), cpu_type()
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


def _differences() -> list[tuple[float, str]]:
    found = []
    for file in sorted((paths.METRICS / "evaluate").rglob("*.json")):
        here, there = read_json(file), committed(file)
        for name, value in here.items():
            if isinstance(value, float) and isinstance(there.get(name), float):
                found.append((abs(value - there[name]), f"{name} of {file}"))
    return found


def _git(*arguments: str) -> subprocess.CompletedProcess:
    try:
        return subprocess.run(
            ["git", *arguments], capture_output=True, text=True, encoding="utf-8", check=False
        )
    except FileNotFoundError:
        raise SyntrieverError(
            "git is not installed, so that the committed results can't be read. Install it."
        ) from None
