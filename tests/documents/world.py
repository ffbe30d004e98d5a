"""The folder that a reader of the documents stands in: a task, texts, gold labels, and what earlier pages have made.

Everything is real and small. The two embedded models have tiny ones in their place, under the same names: the catalog that is read
says where they are.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from string import ascii_lowercase
from unittest import mock

from support.review_pages import Visitor
from support.tiny_backbone import VOCABULARY, write_backbone
from support.tiny_bundle import write_bundle
from support.toy_task import FILLERS, quick
from transformers import BertForSequenceClassification

from potstill.commands.main import run
from potstill.contract.bundle import read_files
from potstill.contract.fallback.audit import AuditFile, AuditRecord
from potstill.contract.questions.head import Head
from potstill.contract.soft_label import SoftLabel, write_soft_labels
from potstill.contract.task import load_task
from potstill.contract.texts import text_id
from potstill.export.config import ExportConfig
from potstill.export.run import export_bundle
from potstill.models import catalog
from potstill.serve.http.hosting.open_bundle import DIGEST_CHARS
from potstill.serve.runtime.classifier import Classifier
from potstill.trainer.run import train
from potstill.workflows import example_files

ROOT = Path(__file__).resolve().parents[2]
N_PIECES = 2100  # enough rows of the backbone's table for int8
N_POSITIONS = 512  # tokens that the backbone takes
TEACHER, BACKBONE = "smollm2-135m-instruct", "all-minilm-l6-v2"
CLUES = {"bullish": ["rise", "calls"], "bearish": ["fall", "puts"], "neutral": ["stay", "range"]}
OTHER_NAMES = {"bullish": "positive", "bearish": "negative", "neutral": "neutral"}
FILES = {"texts": 60, "more": 300, "target": 60, "gold": 90, "new_gold": 90, "reviews": 60, "hard": 24}  # texts in each
N_BY_HAND = 12  # texts that the reader labels in the browser
RULES = """
[[rules]]
name = "says it rises"
label = "bullish"
keywords = ["rise"]

[[rules]]
name = "says it falls"
label = "bearish"
keywords = ["fall"]
"""
PROJECT = """\
format = 1
task = "task.toml"
texts = "texts.jsonl"
gold = "gold.jsonl"
out = "out"
teacher = "{TEACHER}"
"""


def write_world(folder: Path, teacher: Path) -> None:
    """Fill a folder: `models/` with a catalog, and `reader/`, which pages are read in. Args: teacher, a tiny GGUF file."""
    models, reader = folder / "models", folder / "reader"
    _write_models(models, teacher)
    with at_home(models, reader):
        _write_files(reader, teacher)
        _write_made(reader)


@contextlib.contextmanager
def at_home(models: Path, reader: Path) -> Iterator[None]:
    """Inside, the reader's folder is the current one, the models are the tiny ones, and the examples that come along are short."""
    reader.mkdir(exist_ok=True)
    changes = {catalog.CACHE_VARIABLE: str(models)}
    with (
        mock.patch.object(catalog, "CATALOG_FILE", models / "catalog.toml"),
        mock.patch.object(example_files, "_FOLDER", reader / "examples"),
        mock.patch.dict(os.environ, changes),
        contextlib.chdir(reader),
    ):
        yield


def ask(*words: str) -> None:
    """Run a command of ours that has to succeed."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = run(words)
    if code != 0:
        raise RuntimeError(f"potstill {' '.join(words)} ends with {code}: {said.getvalue()}")


# What is there before anything is run.


def _write_models(folder: Path, teacher: Path) -> None:
    """The tiny models, and the catalog with their places and without their sums."""
    text = catalog.CATALOG_FILE.read_text(encoding="utf-8")
    entries = text.split("[[models]]")
    for place, entry in enumerate(entries):
        name = tomllib.loads(entry).get("name")
        if name in (TEACHER, BACKBONE):
            here = f'source = {{ from = "hub", repository = "tiny/{name}" }}'
            kept = re.sub(r"^(sha256|pack) .*\n", "", entry, flags=re.M)
            entries[place] = re.sub(r"^source .*$", here, kept, flags=re.M)
    folder.mkdir(parents=True)
    (folder / "catalog.toml").write_text("[[models]]".join(entries), encoding="utf-8")
    file = next(tomllib.loads(entry)["file"] for entry in entries if tomllib.loads(entry).get("name") == TEACHER)
    (folder / TEACHER).mkdir()
    shutil.copy(teacher, folder / TEACHER / file)
    words = [word for clues in CLUES.values() for word in clues]
    pieces = [*VOCABULARY, *(word for word in words if word not in VOCABULARY)]
    unused = ("".join(letters) for letters in product(ascii_lowercase, repeat=3))  # what pruning drops
    more = islice((piece for piece in unused if piece not in pieces), N_PIECES - len(pieces))
    write_backbone(folder / BACKBONE, [*pieces, *more], max_position_embeddings=N_POSITIONS)


def _write_files(folder: Path, teacher: Path) -> None:
    """Task, project, texts, keys, models and examples."""
    example = ROOT / "examples" / "market_stance"
    (folder / "task.toml").write_text((example / "task.toml").read_text(encoding="utf-8") + RULES, encoding="utf-8")
    (folder / "project.toml").write_text(PROJECT.format(TEACHER=TEACHER), encoding="utf-8")
    rng, seen = random.Random(0), set()
    for name, n in FILES.items():
        names = OTHER_NAMES if name == "reviews" else None
        rows = _rows(rng, n, seen, gold="gold" in name or name == "reviews", names=names)
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    texts = (folder / "texts.jsonl").read_bytes()
    (folder / "posts.jsonl.gz").write_bytes(gzip.compress(texts))
    for name, data in (("a", texts), ("b", (folder / "more.jsonl").read_bytes())):
        (folder / "posts").mkdir(exist_ok=True)
        (folder / "posts" / f"{name}.jsonl").write_bytes(data)
    for name in ("teacher", "small", "large", "in"):
        shutil.copy(teacher, folder / f"{name}.gguf")
    (folder / "keys.txt").write_text("a-key-of-16-or-more-characters\n")
    (folder / "keys.txt").chmod(0o600)
    for private, public in (("key.pem", "key.pub"), ("private.pem", "public.pem")):
        make = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", private]
        subprocess.run(make, cwd=folder, check=True, capture_output=True)
        subprocess.run(["openssl", "ec", "-in", private, "-pubout", "-out", public], cwd=folder, check=True, capture_output=True)
    _write_intents(folder / "intents.toml")
    here = folder / "examples" / "market_stance"
    here.mkdir(parents=True)
    shutil.copy(example / "task.toml", here)
    for name, n in (("texts.jsonl", 40), ("gold.jsonl", 30)):
        lines = (example / name).read_text(encoding="utf-8").splitlines()[:n]
        (here / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _rows(rng: random.Random, n: int, seen: set[str], *, gold: bool, names: dict[str, str] | None) -> list[dict[str, str]]:
    """Texts that no other file has; a word gives the label away. Args: names, of the labels."""
    labels, rows = list(CLUES), []
    while len(rows) < n:
        label = labels[len(rows) % len(labels)]
        words = [*rng.choices(FILLERS, k=rng.randint(4, 8)), rng.choice(CLUES[label])]
        rng.shuffle(words)
        text = " ".join(words)
        if text in seen:
            continue
        seen.add(text)
        rows.append({"id": text_id(text, None), "text": text} | ({"gold": (names or {}).get(label, label)} if gold else {}))
    return rows


def _write_intents(path: Path) -> None:
    """A task with more labels than the teacher is shown at once."""
    labels = "".join(f'[[labels]]\nname = "intent-{i}"\nmeaning = "the customer asks about matter {i}"\n' for i in range(24))
    head = 'format = 1\nname = "intents"\nquestion = "What does the customer want?"\nguideline = ""\n'
    path.write_text(head + labels, encoding="utf-8")


# What the commands of other pages have made.


def _write_made(folder: Path) -> None:
    """Label stores, soft labels, students and bundles. The student has learned labels that are right, so that a promise can hold."""
    ask("label", "task.toml", "posts", "out", "--gold", "gold.jsonl")
    _answer_rightly(folder / "out" / "labels.db")
    for name in ("q8", "q4"):
        ask("label", "task.toml", "texts.jsonl", name, "--teacher", f"{'small' if name == 'q4' else 'large'}.gguf", "--paths", "2")
    soft_labels = folder / "soft_labels.parquet"
    more = (folder / "more.jsonl").read_text(encoding="utf-8").splitlines()
    write_soft_labels(soft_labels, [_sure(folder, json.loads(line)) for line in more])
    shutil.copy(soft_labels, folder / "out" / "soft_labels.parquet")
    shutil.copy(soft_labels, folder / "new_labels.parquet")
    settings = replace(quick(BACKBONE), epochs=12, max_tokens=128)
    for seed, (student, bundle) in enumerate((("student", "bundle"), ("out/student", "out/bundle"), ("fast_student", "fast"))):
        family = {"family": "static", "batch_size": 8} if bundle == "fast" else {}
        train("task.toml", soft_labels, student, replace(settings, seed=seed, **family))
        export_bundle(student, bundle, ExportConfig(variant="float", threads=1))
    for name in ("stance", "topic"):
        shutil.copytree(folder / "bundle", folder / "out" / name)
    _write_audit(folder / "audit.jsonl", [json.loads(line)["text"] for line in more])
    heads = [
        Head(name="stance", kind="choice", labels=list(CLUES)),
        Head(name="asks", kind="yesno", labels=["yes", "no"]),
        Head(name="topics", kind="tags", labels=["price", "options", "risk"]),
        Head(name="sure", kind="degree", labels=["low", "middle", "high"], values=[0.0, 0.5, 1.0]),
    ]
    write_bundle(folder / "out" / "posts", heads=heads)
    names = dict(enumerate(OTHER_NAMES.values()))
    shapes = {"num_labels": len(names), "id2label": names, "label2id": {name: i for i, name in names.items()}}
    write_backbone(folder / "models" / "finbert", kind=BertForSequenceClassification, max_position_embeddings=N_POSITIONS, **shapes)


def _answer_rightly(store: Path) -> None:
    """Have every stored path answer with the label that a word of its text gives away: a tiny teacher guesses, and no rule follows."""
    with contextlib.closing(sqlite3.connect(store)) as rows, rows:
        texts = dict(rows.execute("select id, text from texts"))
        for number, settings in rows.execute("select run, settings from runs").fetchall():
            run = json.loads(settings)
            first = {label: run["word_labels"].index(place) for place, label in enumerate(run["labels"])}  # word of each label
            found = rows.execute("select text_id, path, word_logprobs from paths where run = ?", (number,)).fetchall()
            for text_id, path, stored in found:
                logprobs, right = json.loads(stored), first[_label_of(texts[text_id])]
                likeliest = max(range(len(logprobs)), key=logprobs.__getitem__)
                logprobs[right], logprobs[likeliest] = logprobs[likeliest], logprobs[right]
                change = "update paths set word_logprobs = ? where run = ? and text_id = ? and path = ?"
                rows.execute(change, (json.dumps(logprobs), number, text_id, path))


def _write_audit(path: Path, texts: list[str]) -> None:
    """What a server with `--audit` kept of these texts: a teacher that is right but for a few of them, as the bundle is."""
    records, version = AuditFile(path, 10**6), read_files(Path("out/bundle")).digest[:DIGEST_CHARS]
    with Classifier.open("out/bundle") as classifier:
        for number, (text, answer) in enumerate(zip(texts, classifier.classify(texts), strict=True)):
            right = _label_of(text) if number % 60 else next(name for name in CLUES if name != _label_of(text))
            record = AuditRecord(
                format=1, at=1.7e9, bundle="bundle", version=version, text=text, probs=answer.probs, abstain=answer.abstain, teacher=TEACHER,
                teacher_probs={name: 0.9 if name == right else 0.1 / (len(CLUES) - 1) for name in answer.probs},
            )  # fmt: skip
            if not records.add(record):
                raise RuntimeError(f"{path} is full")
    records.close()


# What one page needs, and no other.


def prepare(page: str) -> None:
    """Change the reader's folder for a page, before it is read."""
    if page == "docs/training.md":  # a cascade's loss is shown from some three hundred texts on
        with open("texts.jsonl", "a", encoding="utf-8") as texts:
            texts.write(Path("more.jsonl").read_text(encoding="utf-8"))


def _sure(folder: Path, row: dict[str, str]) -> SoftLabel:
    """The label that a word gives away, with nearly all of the probability."""
    task = load_task(folder / "task.toml")
    label = _label_of(row["text"])
    return SoftLabel(
        id=row["id"], text=row["text"], probs={name: 0.94 if name == label else 0.03 for name in task.label_names},
        votes={name: 8 * (name == label) for name in task.label_names}, agreement=1.0, n_paths=8, entropy=0.1, label_mass=1.0,
        method="votes", teacher_digest="t" * 64, task_digest=task.digest,
    )  # fmt: skip


# What a reader does by hand, as the pages ask for it.


def write_own(folder: Path) -> None:
    """Put texts and gold labels of one's own into a folder that `potstill init` wrote; its labels are in the order of ours."""
    names = dict(zip(CLUES, load_task(folder / "task.toml").label_names, strict=True))
    (folder / "texts.jsonl").write_text(Path("texts.jsonl").read_text(encoding="utf-8"), encoding="utf-8")
    gold = [json.loads(line) for line in Path("gold.jsonl").read_text(encoding="utf-8").splitlines()]
    own = [row | {"gold": names[row["gold"]]} for row in gold]
    (folder / "gold.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own), encoding="utf-8")


def label_by_hand(port: int, address: str, task: Path) -> None:
    """Label some texts on the pages of `potstill review`, rightly. Args: task, whose labels are in the order of ours."""
    person, texts, names = Visitor(port, address), {}, dict(zip(CLUES, load_task(task).label_names, strict=True))
    for name in ("texts.jsonl", "more.jsonl", "gold.jsonl"):
        texts |= {row["id"]: row["text"] for row in map(json.loads, Path(name).read_text(encoding="utf-8").splitlines())}
    for _ in range(N_BY_HAND):
        person.label(names[_label_of(texts[person.shown()["id"]])])


def _label_of(text: str) -> str:
    """The label that a word gives away."""
    return next(label for label, clues in CLUES.items() if set(clues) & set(text.split()))
