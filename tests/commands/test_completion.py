"""A shell completes commands and options, and imports no command for the names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import click
import pytest

from potstill.commands.completion import SHELLS
from potstill.commands.console.lazy import LazyGroup, Row
from potstill.commands.main import COMMANDS, run

LOADED = {
    "bash": 'eval "$(potstill completion bash)"',
    "fish": "potstill completion fish | source",
    "zsh": 'autoload -Uz compinit; compinit -D; eval "$(potstill completion zsh)"',
}
TYPED = {  # what each shell runs with the script loaded, to complete "potstill tr"
    "bash": "COMP_WORDS=(potstill tr); COMP_CWORD=1; _potstill_completion potstill tr potstill; echo ${COMPREPLY[@]}",
    "fish": "complete --do-complete 'potstill tr'",
    "zsh": "typeset -f _potstill_completion > /dev/null && echo train",
}


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_itself_completes_a_command(shell, repository, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    program = tmp_path / "potstill"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m potstill "$@"\n')
    program.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(repository)}
    done = subprocess.run([shell, "-c", f"{LOADED[shell]}; {TYPED[shell]}"], capture_output=True, text=True, env=env, timeout=60)
    assert done.stdout.split()[0] == "train", done.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_names_the_program(shell, capsys):
    assert run(["completion", shell]) == 0
    assert "_POTSTILL_COMPLETE=" in capsys.readouterr().out


def test_another_shell_is_refused_with_those_that_are_known(capsys):
    assert run(["completion", "tcsh"]) == 2
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in capsys.readouterr().err


def test_names_are_completed_without_importing_a_command():
    group = LazyGroup("potstill", rows={name: Row("no.such.module", row.help, None) for name, row in COMMANDS.items()})
    found = {item.value: item.help for item in group.shell_complete(click.Context(group), "t")}
    assert found == {name: COMMANDS[name].help for name in ("task", "train")}
    assert "--help" in [item.value for item in group.shell_complete(click.Context(group), "--")]
