"""Run the pipeline on a cut-down collection in two clones and compare every hash.

The real encoder, real DVC, no shared cache: `python tests/run_twice.py`. Prints the counts of
files that agree and differ, and exits 1 where any differs.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # run as a script, from anywhere

from cut_down import cut_down
from project import ROOT, hashes, set_params

CHANGES = {
    "collection.path": "data/collections/cut_down",
    "train_stage1.epochs": 1,
    "train_stage1.batch_size": 6,
    "train_stage2.epochs": 1,
    "train_stage2.batch_size": 6,
    "runtime.checkpoint_every_steps": 1,
}


def run(folder: Path) -> dict[str, str]:
    """Clone, cut down, reproduce; return the hash of every file that was made."""
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    cut_down(folder / "data/collections/cut_down")
    set_params(folder, CHANGES)
    subprocess.run(["dvc", "repro"], cwd=folder, env=os.environ, check=True)
    made = hashes(folder)
    made["dvc.lock"] = (folder / "dvc.lock").read_text("utf-8")
    return made


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        first, second = (run(Path(temporary) / name) for name in ("first", "second"))
    differ = sorted(name for name in first | second if first.get(name) != second.get(name))
    print(f"\ntwo runs: {len(first) - len(differ)} passed, {len(differ)} failed")
    if differ:
        sys.exit("these files differ between two runs: " + ", ".join(differ))


if __name__ == "__main__":
    main()
