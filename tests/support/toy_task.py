"""A toy task of three labels, each with words that give it away; soft labels, gold texts, and quick settings to train on it."""

import random

from potstill.contract.soft_label import SoftLabel, write_soft_labels
from potstill.contract.task import Example, Input, Label, Task
from potstill.contract.texts import Text, text_id, write_texts
from potstill.trainer.config import TrainConfig

LABELS = ["up", "flat", "down"]
CLUES = {"up": ["rise", "calls"], "flat": ["stay", "range"], "down": ["fall", "puts"]}
FILLERS = ["the", "price", "will", "today", "maybe", "acme", "and", "so", "on", "it", "goes", "they", "say"]
QUICK = {"learning_rate": 6e-3, "head_rate": 6e-3, "batch_size": 8, "epochs": 6, "threads": 1, "max_tokens": 16}


def quick(backbone, **changes):
    """Settings with which a tiny encoder learns the task in a second or two."""
    return TrainConfig(**{"backbone": str(backbone), **QUICK, **changes})


def a_task(*, target=False, **changes):
    labels = [Label(name=name, meaning=f"the price goes {name}") for name in LABELS]
    about = "acme" if target else None
    examples = [Example(text=name, rationale="it says so", label=name, target=about) for name in LABELS]
    values = {"format": 1, "name": "moves", "question": "?", "guideline": "", "labels": labels, "examples": examples}
    return Task(**values | {"input": Input(target=target)} | changes)


def a_text(rng, label):
    words = [*rng.choices(FILLERS, k=rng.randint(2, 6)), rng.choice(CLUES[label])]
    rng.shuffle(words)
    return " ".join(words)


def soft_label(text, label, task, votes=8, **changes):
    """A row with `votes` of 8 paths for the label and the rest for the one before it."""
    counts = dict.fromkeys(LABELS, 0) | {label: votes}
    counts[LABELS[LABELS.index(label) - 1]] += 8 - votes
    row = {
        "id": text_id(text, changes.get("target")), "text": text, "probs": {name: count / 8 for name, count in counts.items()},
        "votes": counts, "agreement": max(counts.values()) / 8, "n_paths": 8, "entropy": 0.0, "label_mass": 1.0, "method": "votes",
        "teacher_digest": "t" * 64, "task_digest": task.digest,
    }  # fmt: skip
    return SoftLabel(**row | changes)


def toy_rows(n, task, seed=0, labels=LABELS, votes=(5, 7, 8, 8)):
    """Soft labels of different texts, about a target if the task has one; some of the teacher's votes are wrong."""
    rng, rows = random.Random(seed), {}
    about = {"target": "acme"} if task.input.target else {}
    while len(rows) < n:
        label = labels[len(rows) % len(labels)]
        row = soft_label(a_text(rng, label), label, task, votes=rng.choice(votes), **about)
        rows.setdefault(row.id, row)
    return list(rows.values())


def sure_rows(n, task, seed=0):
    """The same from a teacher that is never wrong."""
    return toy_rows(n, task, seed, votes=(8,))


def write_rows(path, rows):
    """Write the soft labels; returns the path."""
    write_soft_labels(path, rows)
    return path


def gold_texts(n=90, seed=1):
    """About n texts with their labels, no text twice."""
    rng = random.Random(seed)
    texts = {text: label for label in LABELS for text in (a_text(rng, label) for _ in range(n // 3))}
    return [Text(text=text, id=text_id(text, None), gold=label) for text, label in texts.items()]


def write_gold(path, texts, names=None):
    """The texts as JSON lines, their labels under other names if there are any; returns the path."""
    path.write_bytes(write_texts(Text(text.text, text.id, text.target, (names or {}).get(text.gold, text.gold)) for text in texts))
    return path


def until_step(process, wanted):
    """Wait until a process that prints its steps has printed this one."""
    for line in process.stdout:
        if int(line) >= wanted:
            return
    raise AssertionError(process.stderr.read())
