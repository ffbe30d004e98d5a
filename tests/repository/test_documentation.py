"""What the documents say is true of the program."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from potstill.commands.console.lazy import load
from potstill.commands.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/README.md")])
OURS = ("potstill", "make")


def documented_commands():
    """(document, line) of every command of ours in a fenced block: lines that start with `potstill` or `make`, after a prompt or not."""
    for path in DOCUMENTS:
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S):
            lines = block.replace("\\\n", " ").splitlines() if language in {"", "sh", "bash", "console", "shell"} else []
            for line in lines:
                line = line.strip().removeprefix("$ ")
                if line.startswith(tuple(f"{name} " for name in OURS)):
                    yield pytest.param(line, id=f"{path.relative_to(ROOT)}: {line}")


def words(line):
    """The words of a documented line, without its comment and what it is piped into."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found = []
    for word in lexer:
        if set(word) <= set("|&;<>()"):
            break
        found.append(word)
    return found


def test_the_reference_is_what_the_commands_say(tmp_path):
    """In a process of its own, as `make docs` writes it: click keeps the help option with which a command was first called."""
    command = [sys.executable, "-m", "potstill.commands.reference", str(tmp_path / "cli.md")]
    subprocess.run(command, cwd=ROOT, check=True)
    found = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert found == (tmp_path / "cli.md").read_text(encoding="utf-8"), "docs/cli.md is old; run: make docs"


@pytest.mark.parametrize("line", list(documented_commands()))
def test_a_documented_command_exists_with_its_options(line):
    program, *rest = words(line)
    if program == "make":
        targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
        assert {word for word in rest if "=" not in word} <= targets
        return
    if not rest or rest[0].startswith("-"):
        assert set(rest) <= {"--help", "-h", "--version"}
        return
    assert rest[0] in COMMANDS, f"no command {rest[0]}"
    command = load(COMMANDS[rest.pop(0)])
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        inner = command.get_command(click.Context(command), rest[0])
        assert inner is not None, f"no command {rest[0]} in {command.name}"
        command = inner
        rest.pop(0)
    options = {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]} | {"--help", "-h"}
    for word in rest:
        if word.startswith("--"):
            assert word.partition("=")[0] in options, f"{command.name} has no option {word}"


def test_every_option_of_a_command_says_what_it_is():
    for name, row in COMMANDS.items():
        for option in load(row).params:
            if isinstance(option, click.Option) and not option.hidden:
                assert option.help, f"potstill {name} {option.opts[0]} has no help"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_link_to_a_file_of_ours_leads_somewhere(path):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        if "://" not in target and not target.startswith("mailto:"):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"
