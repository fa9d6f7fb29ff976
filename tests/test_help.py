"""`--help` of every stage is for people, and `make` alone says what there is."""

import re
import subprocess

import pages
import pytest
import typer
from project import ROOT
from typer.testing import CliRunner

STAGES = sorted(f.stem for f in (ROOT / "stages").glob("*.py") if f.stem != "__init__")


def commands(stage: str) -> dict[tuple[str, ...], object]:
    """Return a stage's command, or its subcommands, by the words that call it."""
    command = typer.main.get_command(pages.app(stage))
    inner = getattr(command, "commands", None)
    return {(): command} if inner is None else {(name,): one for name, one in inner.items()}


@pytest.mark.parametrize("stage", STAGES)
def test_help_is_for_people(stage, tmp_path):
    """It begins with a sentence, has an example that is a command, and explains every option."""
    app = pages.app(stage)
    for words, command in commands(stage).items():
        shown = CliRunner().invoke(app, [*words, "--help"], terminal_width=100)
        assert shown.exit_code == 0, shown.output
        text = command.help
        first = text.split("\n\n")[0].split("\n")
        assert re.match(r"[A-Z].* .*[.:]", " ".join(first)), f"{words}: {first}"
        assert "Example: " in shown.output
        example = " ".join(text.partition("Example: ")[2].split())
        assert f"stages.{' '.join((stage, *words))}" in example
        for simple in pages.simple_commands(example):
            pages.check(simple, tmp_path, in_prose=True)
        for option in command.params:
            assert option.help, f"{stage} {words}: {option.name} is not explained"
            assert re.match(r"[A-Z0-9].*\.$", option.help), f"{option.name}: {option.help!r}"


@pytest.mark.parametrize("stage", [name for name in STAGES if () not in commands(name)])
def test_a_group_lists_its_commands(stage):
    """Without a command, a script with several says which there are, each with its sentence."""
    shown = CliRunner().invoke(pages.app(stage), [], terminal_width=100)
    for (name,) in commands(stage):
        assert re.search(rf"^  {name}  +[A-Z]", shown.output, re.MULTILINE), shown.output


def test_make_alone_lists_the_targets():
    """`make` says what can be made, in words, and makes nothing."""
    done = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True)
    rows = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    lines = {name: words for _make, name, words in rows}
    assert lines == pages.make_targets()
    assert {"reproduce", "test", "report"} <= set(lines)
