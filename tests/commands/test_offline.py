"""Nothing leaves the machine: what every command asks of the network, and what it leaves in the user's home folder.

`CI` is unset throughout, since it hides onnxruntime's telemetry.
"""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import click
import pytest
from support.every_command import COMMAND, OPENS_NOTHING, surroundings, write_everything
from support.network.watch import Seen, can_watch, watch
from support.tiny_bundle import write_bundle

from potstill.commands.console.lazy import load
from potstill.commands.main import COMMANDS
from potstill.contract.system.telemetry import SWITCHES, TOO_LATE
from potstill.models.catalog import Hub, load_catalog

pytestmark = pytest.mark.slow
needs_namespace = pytest.mark.skipif(not can_watch(), reason="this system does not let us make a network namespace")

ELSEWHERE = {
    "push": "writes to the hub: tests/serve/runtime/test_hub.py",
    "pull": "asks the hub: tests/serve/runtime/test_hub.py",
    "models fetch": "asks the hub, as its own test says",
    "demo": "is `run` on the example that comes with potstill",
    "bench label": "is `label`, many times, on the example that comes with potstill",
    "review": "serves until it is stopped; its own test labels through it",
    "labels gold": "writes what people have decided: that test's last step",
    "serve": "is what `bench server` starts; its own test lets it live longer",
}
REVIEWED = """
import os, subprocess, sys
from pathlib import Path
sys.path.insert(0, str(Path(os.environ["PYTHONPATH"]) / "tests"))
from support.review_pages import ReviewProcess, some_texts, write_store
from support.small_task import SMALL_TASK

Path("task.toml").write_text(SMALL_TASK)
write_store(Path("labels.db"), "task.toml", some_texts(4))
with ReviewProcess(Path("labels.db").resolve(), Path("task.toml").resolve()) as server:
    ann = server.visitor()
    ann.label("up")
    for path in ("/texts", "/agreement", "/disagreements", "/steer", "/static/htmx.min.js"):
        ann.get(path)
sys.exit(subprocess.call([sys.executable, "-m", "potstill", "labels", "gold", "labels.db", "gold.jsonl"]))
"""
KEPT_OPEN = "import sys, time, potstill\nwith potstill.Classifier.open(sys.argv[1]) as one: one.classify(['rise']); time.sleep(13)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_models):
    """Everything that the commands read, beside an empty home."""
    folder = tmp_path_factory.mktemp("offline") / "work"
    write_everything(folder, tiny_models["dense"])
    return folder


@pytest.fixture(scope="module")
def kept_open(tmp_path_factory):
    """What will be seen of a program that keeps a classifier open, and its home; onnxruntime waits ten seconds before it looks up the
    host of its collector, so the others are asked meanwhile."""
    folder = tmp_path_factory.mktemp("kept")
    command = [sys.executable, "-c", KEPT_OPEN, str(write_bundle(folder / "bundle"))]
    with ThreadPoolExecutor(1) as beside:
        yield beside.submit(lambda: (watch(command, env=surroundings(folder / "home"), cwd=folder), folder / "home"))


@pytest.fixture(scope="module")
def ran(folder, kept_open):
    """What was seen of all commands of the table, run one after the other in one process of the console."""
    env = surroundings(folder / "home", OMP_NUM_THREADS="2", HF_HUB_OFFLINE="0")  # what is not asked must be so without that, too
    if can_watch():
        return watch(COMMAND, env=env, cwd=folder)
    done = subprocess.run(COMMAND, env=env, cwd=folder, capture_output=True, text=True, timeout=900, check=False)
    return Seen(done.returncode, done.stdout, done.stderr, [], 0)


def test_every_command_is_in_the_table_or_has_a_reason_not_to_be():
    lines = [line for line in OPENS_NOTHING.splitlines() if line]
    for name in commands():
        assert name in ELSEWHERE or any(line.startswith(f"{name} ") or line == name for line in lines), f"{name} is not tried"


def commands():
    """The names of all commands, with those of groups: `labels derive`."""
    for name, row in COMMANDS.items():
        command = load(row)
        if isinstance(command, click.Group):
            yield from (f"{name} {inner}" for inner in command.list_commands(click.Context(command)))
        else:
            yield name


@needs_namespace
def test_no_command_asks_for_a_name_or_sends_anything_elsewhere(ran):
    assert ran.code == 0, ran.err[-3000:]
    assert ran.names == []
    assert ran.n_strays == 0


def test_a_fresh_home_stays_empty_but_for_what_is_potstills_own(ran, folder):
    assert ran.code == 0, ran.err[-3000:]
    left = {line: files for line, files in json.loads((folder / "found.json").read_text()).items() if files}
    strange = {line: [file for file in files if not file.startswith(".cache/potstill/")] for line, files in left.items()}
    assert not any(strange.values()), strange


def test_off_a_terminal_every_command_writes_plain_lines_and_no_library_warns(ran):
    assert ran.code == 0, ran.err[-3000:]
    assert "\x1b" not in ran.out + ran.err
    assert "\r" not in ran.err  # which would write a line over the one before
    assert "Warning" not in ran.err and "warn(" not in ran.err, ran.err


@needs_namespace
def test_only_models_fetch_asks_for_the_hub(folder, tmp_path):
    env = surroundings(tmp_path, POTSTILL_MODELS=str(tmp_path / "models"))
    model = next(entry.name for entry in load_catalog().values() if isinstance(entry.source, Hub))
    seen = watch([sys.executable, "-m", "potstill", "models", "fetch", model], env=env, cwd=tmp_path)
    assert seen.code == 1 and "could not be fetched" in seen.err
    assert seen.names == ["huggingface.co"] and seen.n_strays == 0


@needs_namespace
def test_a_review_and_its_gold_ask_for_nothing_and_leave_the_home_as_it_was(tmp_path):
    (tmp_path / "home").mkdir()
    seen = watch([sys.executable, "-c", REVIEWED], env=surroundings(tmp_path / "home"), cwd=tmp_path)
    assert seen.code == 0, seen.err
    assert (seen.names, seen.n_strays) == ([], 0)
    strange = [file for file in (tmp_path / "home").rglob("*") if file.is_file() and ".cache/potstill/" not in str(file)]
    assert not strange and (tmp_path / "gold.jsonl").is_file()


@needs_namespace
def test_a_program_that_keeps_a_classifier_open_asks_for_nothing(kept_open):
    seen, home = kept_open.result()
    assert seen.code == 0, seen.err
    assert (seen.names, seen.n_strays) == ([], 0)
    assert not home.exists()


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("import onnxruntime; import potstill", True),
        ("import os; os.environ['ORT_DISABLE_TELEMETRY'] = '1'; import onnxruntime; import potstill", False),
        ("import potstill; import onnxruntime; from potstill import Classifier; Classifier", False),
    ],
)
def test_whoever_imports_onnxruntime_first_is_told_that_it_is_too_late(program, told, tmp_path):
    done = subprocess.run([sys.executable, "-c", program], env=surroundings(tmp_path), capture_output=True, text=True, check=True)
    assert (TOO_LATE in done.stderr) == told and done.stderr.count("Warning") == told
    assert any(tmp_path.rglob("deviceid")) == told


def test_child_processes_inherit_every_switch(tmp_path):
    program = "import potstill, subprocess, sys; subprocess.run([sys.executable, '-c', 'import os, json; print(json.dumps(dict(os.environ)))'])"
    done = subprocess.run([sys.executable, "-c", program], env=surroundings(tmp_path), capture_output=True, text=True, check=True)
    assert SWITCHES.items() <= json.loads(done.stdout).items()
