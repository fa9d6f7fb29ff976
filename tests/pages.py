"""The commands of README.md and docs/: read from the pages, and checked without running them.

A command is a line of a fenced block that is marked sh, bash or console (there a line with `$ `).
One that ends with `# long`, `# key` or `# network` is only checked; such a line alone marks the
rest of its block.
"""

import importlib
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import typer
from project import ROOT

from syntriever import params
from syntriever.tables.overrides import leaves

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = {"sh", "bash", "console"}
_MARK = re.compile(r"#\s*(long|key|network)\b")
_FENCE = re.compile(r"^ *```(\w*)$")
_OPERATOR = re.compile(r"[();<>|&]+")
_OTHERS = {
    "git",
    "export",
    "unset",
    "head",
    "cp",
    "tail",
    "rm",
    "sed",
    "pip",
    "unzip",
    "cat",
    "hf",
    "mv",
}  # what else may stand in a command that is only checked


@dataclass
class Block:
    """A fenced block: its language, the line of its fence (from 1), its lines."""

    page: Path
    language: str
    start: int
    lines: list[str] = field(default_factory=list)

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}, line {self.start}"

    def commands(self) -> Iterator[tuple[str, bool]]:
        """Yield each command and whether it is to be run."""
        whole = False
        for line in self.lines:
            text = line.strip()
            if self.language == "console":
                if not text.startswith("$ "):
                    continue
                text = text[2:]
            mark = _MARK.search(text)
            if mark and mark.start() == 0:
                whole = True
            elif text and not text.startswith("#"):
                yield text, not (whole or mark)

    def script(self) -> str:
        """Return what is to be run of the block, '' where that is nothing."""
        return "\n".join(text for text, runs in self.commands() if runs)


def blocks(page: Path) -> list[Block]:
    """Return a page's fenced blocks, in order."""
    found, block = [], None
    for number, line in enumerate(page.read_text("utf-8").splitlines(), start=1):
        fence = _FENCE.match(line)
        if fence and block is None:
            found.append(block := Block(page, fence[1], number))
        elif fence:
            block = None
        elif block is not None:
            block.lines.append(line)
    assert block is None, f"{page}: a fence is not closed"
    return found


def inline(page: Path) -> list[str]:
    """Return what stands in `code` in a page's prose, on one line each."""
    lines, inside = [], False
    for line in page.read_text("utf-8").splitlines():
        if _FENCE.match(line):
            inside = not inside
        elif not inside:
            lines.append(line)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", "\n".join(lines))]


def simple_commands(text: str) -> list[list[str]]:
    """Split a line of shell into simple commands; leave out assignments, files and comments."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    commands, words, to_file = [], [], False
    for token in [*lexer, ";"]:
        if _OPERATOR.fullmatch(token):
            commands, words = [*commands, words], []
            to_file = ">" in token
        elif to_file:
            to_file = False
        elif token not in ("$", "eval") and not (not words and re.match(r"\w+=", token)):
            words.append(token)
    return [words for words in commands if words]


def check(words: list[str], tmp_path: Path, in_prose: bool = False) -> None:
    """Check a command without running it: stages, flags, params, targets and files are there.

    Args:
        words: one simple command.
        tmp_path: a folder for a copy of params.yaml.
        in_prose: it stands in a sentence, where it may lack arguments and have … for values.
    """
    match words:
        case ["python", "-m", module, *arguments] if module.startswith("stages."):
            check_stage(module.removeprefix("stages."), arguments)
        case ["python", "-c", code]:
            compile(code, "<page>", "exec")
        case ["python", file, *_]:
            assert (ROOT / file).is_file(), f"{file} does not exist"
        case ["dvc", *arguments]:
            check_dvc(arguments, tmp_path, in_prose)
        case ["make", *targets]:
            known = make_targets()
            for target in targets:
                assert target in known or re.match(r"\w+=", target), f"no target {target}"
        case [name, *_]:
            assert name in _OTHERS, f"{name}: what is this command?"


def make_targets() -> dict[str, str]:
    """Return the Makefile's targets for people, each with its words."""
    text = (ROOT / "Makefile").read_text("utf-8")
    return dict(re.findall(r"^([a-z-]+):.*## (.*)$", text, re.MULTILINE))


def app(stage: str) -> typer.Typer:
    """Return a stage's Typer app; `stages.command` hides that of a single command."""
    module = importlib.import_module(f"stages.{stage}")
    if hasattr(module, "app"):
        return module.app
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command()(getattr(module, stage).__wrapped__)
    return single


def check_stage(stage: str, arguments: list[str]) -> None:
    """Check that a stage is there and takes these arguments."""
    assert (ROOT / f"stages/{stage}.py").is_file(), f"no stage {stage}"
    command = typer.main.get_command(app(stage))
    arguments = [word for word in arguments if word != "--help"]
    subcommands = getattr(command, "commands", None)
    if subcommands is not None:
        if not arguments:
            return
        assert arguments[0] in subcommands, f"stages.{stage} has no command {arguments[0]}"
        command, arguments = subcommands[arguments[0]], arguments[1:]
    if arguments:
        command.make_context(stage, arguments)  # raises what a person would be told


def check_dvc(arguments: list[str], tmp_path: Path, in_prose: bool) -> None:
    """Check DVC's subcommand and flags, targets and params."""
    from dvc.cli import parse_args

    if in_prose and not any(word.startswith("-") for word in arguments):
        try:
            parse_args([*arguments, "--help"])
        except SystemExit as end:
            assert end.code == 0
        return
    parsed = parse_args(arguments)
    if parsed.cmd in ("repro", "exp", "experiments"):
        for target in getattr(parsed, "targets", None) or []:
            known = target in stage_names() or target.startswith("$")
            assert known, f"dvc.yaml has no stage {target}"
    if changes := getattr(parsed, "set_param", None):
        check_params(changes, tmp_path, values=not in_prose)


def stage_names() -> set[str]:
    """Return the stages of dvc.yaml, each run of a foreach stage by its own name too."""
    from ruamel.yaml import YAML

    stages = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"]
    items = {n: s["foreach"] for n, s in stages.items() if isinstance(s.get("foreach"), list)}
    return set(stages) | {f"{name}@{item}" for name, all_ in items.items() for item in all_}


def check_params(changes: list[str], tmp_path: Path, values: bool) -> None:
    """Check the options of -S: each a param, each value (of a sweep, too) one that it takes."""
    from dvc.utils.hydra import apply_overrides, get_hydra_sweeps

    for change in changes:
        name = change.partition("=")[0]
        if not name.startswith("++evaluate.collections."):
            assert name in leaves(), f"{name} is no param"
    if not values:
        return
    for sweep in get_hydra_sweeps({"params.yaml": changes}):
        file = Path(shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml"))
        apply_overrides(str(file), sweep["params.yaml"])
        params.load_all(file)
