"""A clone of the repository, as people have one, in which tests run `git`, `dvc` and stages."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from project import ROOT

# What lets `git commit` go without a configuration, and finds this environment's programs.
VARIABLES = {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b",
    "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b",
}  # fmt: skip


class Clone:
    """A clone of the repository in which `dvc` runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._environment = os.environ | VARIABLES
        self._environment.pop("PYTHONPATH", None)

    def run(self, *command: str, fails: bool = False) -> str:
        """Run a command, which must succeed, or must not; return what it said."""
        done = subprocess.run(
            command, cwd=self.folder, env=self._environment, capture_output=True, text=True
        )
        text = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, text
        return text

    def commit(self, words: str) -> None:
        """Commit all that lies there."""
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", words)

    def start_queue(self) -> None:
        """Start a queue worker. It lives on by itself, so its output must not be waited for."""
        nowhere = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        subprocess.Popen(
            ["dvc", "queue", "start", "-j", "1"],
            cwd=self.folder, env=self._environment, stderr=subprocess.DEVNULL, **nowhere,
        )  # fmt: skip


def copy_repository(folder: Path, left_out: tuple[str, ...]) -> None:
    """Copy the working tree's files, uncommitted ones too, that git doesn't ignore.

    Args:
        folder: where to.
        left_out: beginnings of names, such as "metrics/".
    """
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    for name in listed:
        if (ROOT / name).is_file() and not name.startswith(left_out):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
