"""Nothing leaves the machine: what every command asks of the network, and what it leaves in the user's home folder.

`CI` is unset throughout, since it hides onnxruntime's telemetry.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import pytest
from support.network.watch import Seen, can_watch, watch
from support.tiny_backbone import VOCABULARY, write_backbone
from support.tiny_bundle import write_bundle
from support.toy_task import a_task, gold_texts, toy_rows, write_gold, write_rows

from potstill.commands.console.lazy import load
from potstill.commands.main import COMMANDS
from potstill.contract.system.telemetry import SWITCHES, TOO_LATE
from potstill.contract.task import load_task
from potstill.contract.texts import Text, write_texts
from potstill.models.catalog import Hub, load_catalog

pytestmark = pytest.mark.slow
needs_namespace = pytest.mark.skipif(not can_watch(), reason="this system does not let us make a network namespace")

# One line for each command, in an order in which each finds the files that it needs.
# None asks for a name or a machine; `bench server` alone opens a port, on the loopback.
OPENS_NOTHING = """
init new
task check task.toml
task show task.toml hello --mode direct
doctor
models list
models check teacher.gguf
models verify teacher.gguf
models repack teacher.gguf packed.gguf --threads 1
label task.toml texts.jsonl out --gold gold.jsonl --teacher teacher.gguf --mode direct --paths 1 --pack as-is --threads 1 --parallel 4
task tune task.toml gold.jsonl tuned --teacher teacher.gguf --no-cot --examples given --template plain --max-texts 20 --pack as-is --threads 1 --parallel 4
plan task.toml texts.jsonl --hours 0.001 --teacher teacher.gguf --mode direct --measure 2
labels check out/labels.db
labels summary out/labels.db
labels show out/labels.db --uncertain
labels derive out/labels.db out/again.parquet
labels export out/labels.db out/review.json
labels export out/labels.db out/table --format datasets
labels check-pool pool.jsonl others.jsonl --max-texts 50
train task.toml soft.jsonl student --backbone backbone --epochs 2 --max-tokens 16 --threads 1 --min-agreement 0
calibrate student gold.jsonl --coverage 0.8
report student gold.jsonl --plots plots --run out
export student bundle --variant static_int8 --min-agreement 0 --max-change 1 --max-drop 1
evaluate student gold.jsonl --bundle bundle --soft-labels soft.jsonl --baseline tfidf
package bundle packed-hf --layout huggingface
package bundle packed-triton --layout triton
package bundle packed-docker --layout docker
package bundle packed-kserve --layout kserve
package bundle packed-kubernetes --for kubernetes
sign bundle --key key.pem
verify bundle --key public.pem
certify bundle gold.jsonl --accuracy 0.05 --out certified
check certified gold.jsonl
predict bundle texts.jsonl
predict bundle pool.jsonl --out answers.parquet
labels combine task.toml out/labels.db combined.jsonl --bundle bundle
labels propose task.toml out/labels.db proposals.json --refine off
completion bash
shares bundle pool.jsonl --gold gold.jsonl
audit audit.jsonl --hard hard.jsonl
adapt bundle pool.jsonl --out adapted
cascade bundle bundle gold.jsonl joined --max-loss 1
bench bundle bundle --n 2
bench server bundle --seconds 0.1 --overload-s 0.1 --n-alone 2 --n-soak 10
run project.toml
status project.toml
status out
"""
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
PROJECT = """
format = 1
task = "task.toml"
texts = "texts.jsonl"
gold = "gold.jsonl"
out = "project"
teacher = "teacher.gguf"
[label]
mode = "direct"
n_paths = 1
pack = "as-is"
threads = 1
[train]
backbone = "backbone"
epochs = 1
max_tokens = 16
min_agreement = 0.0
[export]
variant = "float"
"""
# Runs the commands in one process, the console's way, and lists after each what is new in the home folder.
DRIVER = """
import json, os, sys
from pathlib import Path
from potstill.commands import main

home, found, before, failed = Path.home(), {}, set(), []
for line in sys.stdin.read().split("\\n"):
    if line:
        sys.argv = ["potstill", *line.split()]
        try:
            main.main()
        except SystemExit as end:
            failed += [line] * bool(end.code)
        now = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}
        found[line], before = sorted(now - before), now
Path("found.json").write_text(json.dumps(found))
sys.exit("\\n".join(["failed:", *failed]) if failed else 0)
"""
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


def surroundings(home: Path, **more: str) -> dict[str, str]:
    """The environment of a person who has set nothing: no CI, no switch of any library."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(Path(__file__).resolve().parents[2]), **more}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_models):
    """Everything that the commands read: a task, texts, gold, a tiny teacher, a tiny backbone, keys."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "home").mkdir()
    write_task(folder / "task.toml", a_task())
    task, gold = load_task(folder / "task.toml"), gold_texts(30)
    write_gold(folder / "gold.jsonl", gold)
    (folder / "texts.jsonl").write_bytes(write_texts(Text(f"{one.text} {n}") for n, one in enumerate(gold)))
    for name, word in (("pool", "price"), ("others", "range")):
        (folder / f"{name}.jsonl").write_bytes(write_texts(Text(f"the {word} {n}") for n in range(60)))
    write_rows(folder / "soft.jsonl", toy_rows(80, task))
    write_backbone(folder / "backbone", [*VOCABULARY, *(f"w{i}" for i in range(2100 - len(VOCABULARY)))])  # enough for int8
    (folder / "teacher.gguf").write_bytes(tiny_models["dense"].read_bytes())
    (folder / "project.toml").write_text(PROJECT)
    record = {"at": 0.0, "bundle": "b", "version": "v", "text": "price", "probs": {"up": 1.0}, "abstain": True, "teacher": "m"}
    (folder / "audit.jsonl").write_text(json.dumps({"format": 1, **record, "teacher_probs": {"up": 1.0}}) + "\n")
    (folder / "lines").write_text(OPENS_NOTHING)
    for command in ("ecparam -name prime256v1 -genkey -noout -out key.pem", "ec -in key.pem -pubout -out public.pem"):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    return folder


def write_task(path, task):
    """The toy task as a file."""
    parts = [f'format = 1\nname = "{task.name}"\nquestion = "Where to?"\nguideline = ""\n']
    parts += [f'[[labels]]\nname = "{label.name}"\nmeaning = "{label.meaning}"\n' for label in task.labels]
    parts += [f'[[examples]]\ntext = "{one.text}"\nrationale = "{one.rationale}"\nlabel = "{one.label}"\n' for one in task.examples]
    path.write_text("".join(parts))


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
    command = ["sh", "-c", f'exec "{sys.executable}" -c "$0" < lines', DRIVER]
    if can_watch():
        return watch(command, env=env, cwd=folder)
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=900, check=False)
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
