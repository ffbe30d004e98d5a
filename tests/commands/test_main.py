import json
import os
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from importlib import metadata

import click
import pytest

from potstill.commands import main
from potstill.commands.console.errors import EXTRAS, missing_extra, one_line
from potstill.commands.console.lazy import Row, load
from potstill.contract.errors import FormatError, UserError

pytestmark = pytest.mark.slow

# Modules of our own that `potstill --help` may import; of other libraries only click.
LIGHT = {
    *("potstill", "potstill.commands", "potstill.commands.main", "potstill.contract", "potstill.contract.errors"),
    *("potstill.contract.system", "potstill.contract.system.telemetry"),
    *("potstill.commands.console", "potstill.commands.console.errors", "potstill.commands.console.lazy"),
}


def shell(console, *args, **options):
    return subprocess.run([*console, *args], capture_output=True, text=True, timeout=60, **options)


def test_help_imports_no_stage_and_no_library_but_click(repository):
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); before = set(sys.modules); from potstill.commands.main import run; run(['--help']);"
        "print(json.dumps(sorted(set(sys.modules) - before)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(repository)], capture_output=True, text=True, timeout=60)
    imported = set(json.loads(done.stderr.splitlines()[-1]))
    others = {name.partition(".")[0] for name in imported} - set(sys.stdlib_module_names) - {"potstill"}
    assert others == {"click"}
    assert {name for name in imported if name.partition(".")[0] == "potstill"} <= LIGHT
    assert "importlib.metadata" not in imported  # it takes longer than the rest


HEAVY = [
    *(
        "torch",
        "transformers",
        "llama_cpp",
        "onnxruntime",
        "tokenizers",
        "numpy",
        "scipy",
        "sklearn",
        "matplotlib",
        "pyarrow",
        "jinja2",
    ),
    *("huggingface_hub", "model_signing", "httpx", "uvicorn", "asyncio", "ssl", "multiprocessing", "concurrent.futures"),
]
ALL_HELP = """
import sys
import click
from potstill.commands.main import group
def ask(command, words):
    for name in command.list_commands(click.Context(command)) if isinstance(command, click.Group) else []:
        ask(command.get_command(click.Context(command), name), [*words, name])
    assert group.main([*words, "--help"], prog_name="potstill", standalone_mode=False) == 0
    loaded = sorted(set(sys.argv[1:]) & set(sys.modules))  # what an earlier one loaded counts, too
    assert not loaded, (words, loaded)
ask(group, [])
"""


def test_no_help_imports_what_its_command_works_with(repository):
    done = subprocess.run([sys.executable, "-c", ALL_HELP, *HEAVY], cwd=repository, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage: potstill") > 40


def test_help_lists_every_command_with_its_line(console):
    done = shell(console, "--help", env={**os.environ, "COLUMNS": "200"})
    for name, row in main.COMMANDS.items():
        assert name in done.stdout and row.help.split(";")[0].split(",")[0][:40] in " ".join(done.stdout.split())
    assert done.returncode == 0


def test_every_command_of_the_table_is_a_click_command():
    for name, row in main.COMMANDS.items():
        command = load(row)
        assert isinstance(command, click.Command) and command.name == name
        assert command.help, name


def test_a_system_without_file_locks_is_told_at_the_start(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows: an import of it fails
    assert main.run(["--help"]) == 1
    told = "potstill: this system has no POSIX file locks; potstill runs on Linux and macOS, and on Windows in WSL\n"
    assert capsys.readouterr() == ("", told)


def test_an_unknown_command_is_wrong_usage(console):
    done = shell(console, "distil")
    assert (done.returncode, done.stdout) == (2, "")
    assert "No such command 'distil'" in done.stderr


def test_what_a_person_can_fix_is_one_line_and_exit_code_1(console):
    done = shell(console, "models", "verify", "no-such-model")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "potstill: no-such-model: no such file; check the path\n"


def test_a_message_of_several_lines_still_prints_as_one():
    assert one_line(UserError("first\nsecond")) == "potstill: first second"
    assert one_line(FormatError("task.toml", "labels", "are wrong")) == "potstill: task.toml: labels: are wrong"


def test_version_is_the_installed_one(console):
    done = shell(console, "--version")
    try:
        expected = f"potstill {metadata.version('potstill')}"
    except metadata.PackageNotFoundError:
        expected = "potstill (a source folder that is not installed)"
    assert (done.stdout, done.returncode) == (expected + "\n", 0)


def test_control_c_prints_one_line_and_exits_130(tmp_path, repository):
    slow = "import time, click\n@click.command('slow')\ndef command():\n    print('ready', flush=True)\n    time.sleep(60)\n"
    (tmp_path / "slow_command.py").write_text(slow)
    code = (
        f"import sys; sys.path[:0] = [{str(repository)!r}, {str(tmp_path)!r}]; from potstill.commands import main;"
        "main.COMMANDS['slow'] = main.Row('slow_command', 'Waits.', None); sys.exit(main.run(['slow']))"
    )
    # a shell's background job, as these tests may be one, ignores the signal, and so would every process below it
    heed = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], **pipes, **heed) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, errors.strip()) == (130, "potstill: interrupted")


def test_a_closed_pipe_is_no_traceback(console):
    script = f'{shlex.join(console)} models list | head -c 1 >/dev/null; echo "${{PIPESTATUS[0]}}"'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stderr == "" and done.stdout.strip() in {"0", "1"}


def broken_command(tmp_path, monkeypatch, body, extra):
    (tmp_path / "broken_command.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_command", raising=False)
    monkeypatch.setitem(main.COMMANDS, "broken", Row("broken_command", "Fails.", extra))


def test_a_missing_extra_is_one_line_with_the_command_that_installs_it(tmp_path, monkeypatch, capsys):
    body = "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n"
    broken_command(tmp_path, monkeypatch, body, "export")
    assert main.run(["broken"]) == 1
    assert (
        capsys.readouterr().err
        == "potstill: the package 'torch' is not installed; install it with: pip install 'potstill[export]'\n"
    )


def test_an_extra_that_lacks_the_package_is_not_named():
    error = ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")
    assert missing_extra(error, "serve").extra == "train"
    assert missing_extra(error, "all").extra == "all"
    assert missing_extra(error, None).extra == "train"


@pytest.mark.parametrize(
    "body",
    [
        "import contract.nothing_of_that_name\n",
        "import a_module_that_nobody_has\n",
        "raise ImportError('cannot import name x', name='torch')\n",
    ],
)
def test_a_failing_import_of_our_own_is_not_masked(tmp_path, monkeypatch, body):
    broken_command(tmp_path, monkeypatch, body, "train")
    with pytest.raises(ImportError):
        main.run(["broken"])


def test_a_library_that_is_missing_while_a_command_works_is_one_line_too(tmp_path, monkeypatch, capsys):
    body = "import click\n@click.command('broken')\ndef command():\n    raise ModuleNotFoundError('no', name='pyarrow.parquet')\n"
    broken_command(tmp_path, monkeypatch, body, None)
    assert main.run(["broken"]) == 1
    assert (
        capsys.readouterr().err
        == "potstill: the package 'pyarrow' is not installed; install it with: pip install 'potstill[label]'\n"
    )


def test_the_table_of_extras_agrees_with_the_package(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    brings = {
        extra: {line.split(">")[0].split("=")[0].replace("-", "_") for line in lines}
        for extra, lines in project["optional-dependencies"].items()
    }
    distribution = {"llama_cpp": "llama_cpp_python", "OpenSSL": "pyopenssl", "sklearn": "scikit_learn", "ray": "ray[data]"}
    for module, extras in EXTRAS.items():
        for extra in extras:
            assert distribution.get(module, module) in brings[extra], (module, extra)
