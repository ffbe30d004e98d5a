"""The table of claims, and the program that runs it and writes one page."""

import json
import os
import re
import shlex
import subprocess
import sys

import claim_table
import pytest
import run_claims
from claim_page import bars, tables
from claim_runs import words
from claim_table import Given, job, read_table

# Takes commands from stdin and has each parsed by its own program, which is stopped before it does anything.
PARSE = """
import argparse, json, runpy, sys, traceback
from pathlib import Path
import click

class Parsed(BaseException): pass

def parsed(*_): raise Parsed
parse = argparse.ArgumentParser.parse_args
argparse.ArgumentParser.parse_args = lambda self, *args: parsed(parse(self, *args))
invoke = click.Command.invoke
click.Command.invoke = lambda self, context: invoke(self, context) if isinstance(self, click.Group) else parsed()
from potstill.commands.main import run
for program, *arguments in json.load(sys.stdin):
    sys.argv = [program, *arguments]
    try:
        if program == "potstill":
            sys.exit(run(arguments))
        else:
            sys.path[0] = str(Path(program).parent)
            runpy.run_path(program, run_name="__main__")
        print(f"{program} {arguments}: ran without parsing")
    except Parsed:
        continue
    except SystemExit as error:
        print(f"{program} {arguments}: {error}")
"""

TABLE = """
[inputs]
[by_hand]
"other.py" = ["needs a person", "python other.py"]
[parts]
[claims.breaks]
title = "A program that breaks"
commands = ["python -c 'import sys; print(\\"before\\"); sys.exit(\\"no such luck\\")'", "python -c 'print(\\"never\\")'"]
minutes = 1
[claims.reads]
title = "One that reads what the first one makes"
commands = ["python -c 'print(1)' {breaks}"]
after = "breaks"
minutes = 1
[claims.sleeps]
title = "One that never ends"
commands = ["python -c 'import subprocess, sys; subprocess.run([sys.executable, \\"-c\\", \\"import time; time.sleep(600)\\"])' {out}"]
minutes = 0.02
[claims.sets]
title = "One on a set"
commands = ["python of_sets.py {data}"]
sets = ["ag_news"]
minutes = 1
[claims.works]
title = "One that works"
commands = ["python -c 'print(\\"| way | score |\\\\n| --- | --- |\\\\n| this | 0.5 [0.4, 0.6] |\\\\n| that | 0.7 [0.6, 0.8] |\\")'"]
minutes = 1
"""


def test_every_program_is_in_the_table_or_has_its_reason(repository):
    table = read_table()
    run = {program for claim in table.claims.values() for program in claim.programs}
    there = {
        path.relative_to(repository).as_posix()
        for path in (repository / "benchmarks").rglob("*")
        if path.is_file() and path.suffix in (".py", "") and "__pycache__" not in path.parts
    }
    named = [*run, *(program for program in table.by_hand if not program.startswith("potstill ")), *table.parts]
    assert sorted(named) == sorted(set(named)), "named twice"
    assert there == set(named)


def test_every_program_that_the_results_name_is_there(repository):
    named = set(re.findall(r"benchmarks/[\w/]+(?:\.py|\b)", (repository / "docs/results.md").read_text(encoding="utf-8")))
    assert [path for path in sorted(named) if not list((repository / path).parent.glob((repository / path).name + "*"))] == []


def test_every_section_of_the_results_names_its_command_or_says_that_it_has_none(repository):
    _, *sections = re.split(r"(?m)^##+ ", (repository / "docs/results.md").read_text(encoding="utf-8"))
    named = re.compile(r"(?:benchmarks|examples)/\w|`(?:potstill|python) \w|not in the repository")
    assert len(sections) > 30
    with_parts = [text for text in sections if text.split("\n", 1)[1].strip()]
    assert [text.partition("\n")[0] for text in with_parts if not named.search(text)] == []


@pytest.mark.slow
def test_every_command_of_the_table_is_one_that_its_program_takes(repository, tmp_path):
    table = read_table()
    given = Given(tmp_path / "results", tmp_path / "data", dict.fromkeys(table.inputs, tmp_path / "input"), True)
    commands = [shlex.split(command) for name in table.claims for command in job(name, table, given).commands]
    for path in [tmp_path / word for command in commands for word in command if word.startswith(str(tmp_path))]:
        path.parent.mkdir(parents=True, exist_ok=True)  # the console looks whether a file is there
        if path.suffix:
            path.touch()
        else:
            path.mkdir(exist_ok=True)
    ours = [command[1:] if command[0] == "python" else command for command in commands if command[0] in ("python", "potstill")]
    scripts = [command[0] for command in commands if command[0] not in ("python", "potstill")]
    assert all((repository / script).stat().st_mode & 0o100 for script in scripts)
    done = subprocess.run(
        [sys.executable, "-c", PARSE], input=json.dumps(ours), cwd=repository, env={**os.environ, "PYTHONPATH": f"{repository}:{repository / 'tests'}"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["run_claims.py", *map(str, arguments)])
    return run_claims.main()


@pytest.fixture
def small(tmp_path):
    """The options for a small table."""
    (tmp_path / "claims.toml").write_text(TABLE, encoding="utf-8")
    return ["--table", tmp_path / "claims.toml", "--out", tmp_path / "out"]


def test_a_program_that_fails_or_never_ends_is_reported_and_the_rest_runs(small, tmp_path, monkeypatch, capsys):
    assert call(monkeypatch, *small) == 1
    states = {path.stem: json.loads(path.read_text())["state"] for path in (tmp_path / "out").glob("*.json")}
    assert states == {"breaks": "failed", "sleeps": "stopped", "works": "passed"}
    page = (tmp_path / "out/index.md").read_text(encoding="utf-8")
    assert "exit code 1\nno such luck" in page and "before" in page and "\nnever" not in page
    assert "the time was over" in page
    assert "One that reads what the first one makes: reads what 'A program that breaks' makes, which did not pass" in page
    assert "One on a set: needs public sets (ag_news): --data FOLDER, or make bench DATA=FOLDER" in page
    assert "python of_sets.py DATA" in page and "python other.py" in page
    folder = str(next((tmp_path / "out/work").glob("sleeps-*")))
    assert all(folder not in line for line in commands_of_all_processes()), "what it had started goes on"

    capsys.readouterr()
    assert call(monkeypatch, *small, "--only", "works", "breaks") == 1
    told = capsys.readouterr().out
    assert "works: passed already" in told and "breaks: failed" in told and "sleeps: stopped" not in told


def commands_of_all_processes():
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()


def test_the_page_tells_machine_versions_and_figures(small, tmp_path, monkeypatch):
    assert call(monkeypatch, *small, "--only", "works") == 0
    page = (tmp_path / "out/index.md").read_text(encoding="utf-8")
    run = json.loads((tmp_path / "out/works.json").read_text())
    assert run["cpu"] in page and f"{run['cores']} cores" in page and f"numpy {run['versions']['numpy']}" in page
    assert "| that | 0.7 [0.6, 0.8] |" in page and "![way: score](works.svg)" in page
    assert "that" in (tmp_path / "out/works.svg").read_text(encoding="utf-8")


def test_what_passed_runs_again_when_its_program_or_the_package_changes(tmp_path, monkeypatch, capsys):
    program, module = tmp_path / "benchmarks/room/one.py", tmp_path / "potstill/module.py"
    for path in (program, module):
        path.parent.mkdir(parents=True)
        path.write_text("print('some figure')\n", encoding="utf-8")
    table = '[inputs]\n[by_hand]\n[parts]\n[claims.one]\ntitle = "One"\nminutes = 1\ncommands = ["python benchmarks/room/one.py"]\n'
    (tmp_path / "claims.toml").write_text(table, encoding="utf-8")
    for used in (claim_table, run_claims, sys.modules["claim_runs"]):
        monkeypatch.setattr(used, "ROOT", tmp_path)
    options = ["--table", tmp_path / "claims.toml", "--out", tmp_path / "out"]

    def is_run():
        claim_table.package_digest.cache_clear()
        assert call(monkeypatch, *options) == 0
        return "one: passed after" in capsys.readouterr().out

    found = [is_run(), is_run()]
    for path in (program, module):
        path.write_text("print('another figure')\n", encoding="utf-8")
        found += [is_run(), is_run()]
    claim_table.package_digest.cache_clear()
    assert found == [True, False, True, False, True, False]


def test_a_plot_takes_the_column_with_intervals():
    printed = "text\n\n| set | paths | score | time |\n| --- | --- | --- | --- |\n"
    printed += "| a | few | 0.565 [0.527, 0.602] | 3 |\n| | many | **-1,024.5** (-2,000 to 3) | 4 |\n| b | few | none | 5 |\n"
    bar = bars(tables(printed))
    assert (bar.title, bar.names, bar.values) == ("set: score", ["a, few", "a, many"], [0.565, -1024.5])
    assert bar.intervals == [(0.527, 0.602), (-2000.0, 3.0)]
    assert bars(tables("one line\nand another\n")) is None
    assert bars(tables("files  854\nfiles over 400 lines  0\n")) is None, "figures of several kinds, without a header"
    spaced = bars(tables("part      8 tok\nthis one  1.5\nthat      2\n"))
    assert (spaced.title, spaced.names, spaced.values, spaced.intervals) == (
        "part: 8 tok",
        ["this one", "that"],
        [1.5, 2.0],
        [None, None],
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "nothing"], "--only nothing: is not in the table: demo, structure"),
        (["--data", "/no/such"], "--data /no/such: there is no such folder"),
        (
            ["--input", "sdist"],
            "--input sdist: expected NAME=PATH, NAME one of sdist, llama_server, web_runtime",
        ),
        (["--input", "sdist=/no/such"], "--input sdist=/no/such: there is no /no/such"),
    ],
)
def test_a_wrong_option_is_one_line(options, message, tmp_path, monkeypatch):
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, *options, "--out", tmp_path / "out")
    assert str(stopped.value).startswith(message)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("minutes = 1\n", "minuets = 1\n"), "Object contains unknown field `minuets`"),
        (('after = "breaks"', 'after = "works"'), "claims.reads.after: no claim above it is named 'works'"),
        (('sets = ["ag_news"]', 'inputs = ["ag_news"]'), "claims.sets.inputs: 'ag_news' is not under [inputs]"),
    ],
)
def test_a_damaged_table_is_one_line(change, message, tmp_path):
    (tmp_path / "claims.toml").write_text(TABLE.replace(*change), encoding="utf-8")
    with pytest.raises(SystemExit) as stopped:
        read_table(tmp_path / "claims.toml")
    assert message in str(stopped.value)


def test_a_python_of_the_table_is_this_one():
    assert words("python a.py 'b c'") == [sys.executable, "a.py", "b c"]
    assert words("potstill demo") == [sys.executable, "-m", "potstill", "demo"]
