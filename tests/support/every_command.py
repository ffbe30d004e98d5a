"""Every command of the console, one after the other, in a folder that holds all they read."""

import json
import os
import subprocess
import sys
from pathlib import Path

from support.tiny_backbone import VOCABULARY, write_backbone
from support.toy_task import a_task, gold_texts, toy_rows, write_gold, write_rows

from potstill.contract.task import load_task
from potstill.contract.texts import Text, write_texts

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
COMMAND = ["sh", "-c", f'exec "{sys.executable}" -c "$0" < lines', DRIVER]


def surroundings(home: Path, **more: str) -> dict[str, str]:
    """The environment of a person who has set nothing: no CI, no switch of any library."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(Path(__file__).resolve().parents[2]), **more}


def write_everything(folder: Path, teacher: Path) -> None:
    """Write what the commands read: a task, texts, gold, a tiny teacher, a tiny backbone, keys, and the lines themselves."""
    (folder / "home").mkdir(parents=True)
    write_task(folder / "task.toml", a_task())
    task, gold = load_task(folder / "task.toml"), gold_texts(30)
    write_gold(folder / "gold.jsonl", gold)
    (folder / "texts.jsonl").write_bytes(write_texts(Text(f"{one.text} {n}") for n, one in enumerate(gold)))
    for name, word in (("pool", "price"), ("others", "range")):
        (folder / f"{name}.jsonl").write_bytes(write_texts(Text(f"the {word} {n}") for n in range(60)))
    write_rows(folder / "soft.jsonl", toy_rows(80, task))
    write_backbone(folder / "backbone", [*VOCABULARY, *(f"w{i}" for i in range(2100 - len(VOCABULARY)))])  # enough for int8
    (folder / "teacher.gguf").write_bytes(teacher.read_bytes())
    (folder / "project.toml").write_text(PROJECT)
    record = {"at": 0.0, "bundle": "b", "version": "v", "text": "price", "probs": {"up": 1.0}, "abstain": True, "teacher": "m"}
    (folder / "audit.jsonl").write_text(json.dumps({"format": 1, **record, "teacher_probs": {"up": 1.0}}) + "\n")
    (folder / "lines").write_text(OPENS_NOTHING)
    for command in ("ecparam -name prime256v1 -genkey -noout -out key.pem", "ec -in key.pem -pubout -out public.pem"):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)


def write_task(path, task):
    """The toy task as a file."""
    parts = [f'format = 1\nname = "{task.name}"\nquestion = "Where to?"\nguideline = ""\n']
    parts += [f'[[labels]]\nname = "{label.name}"\nmeaning = "{label.meaning}"\n' for label in task.labels]
    parts += [f'[[examples]]\ntext = "{one.text}"\nrationale = "{one.rationale}"\nlabel = "{one.label}"\n' for one in task.examples]
    path.write_text("".join(parts))
