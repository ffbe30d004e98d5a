"""Texts made up for tests: of random words, and with a student's answers and a teacher's labels for reports."""

import random

import numpy as np

from potstill.contract.soft_label import SoftLabel
from potstill.contract.task import Example, Input, Knowledge, Label, Task
from potstill.contract.texts import Text, text_id
from potstill.trainer.report.answers import AnsweredTexts

LABELS = ["up", "flat", "down"]


def a_task(**changes):
    labels = [Label(name=name, meaning=f"the price goes {name}") for name in LABELS]
    values = {"format": 1, "name": "moves", "question": "Where does it go?", "guideline": "", "labels": labels}
    values["examples"] = [Example(text=name, rationale="it says so", label=name) for name in LABELS]
    return Task(**values | {"knowledge": [Knowledge(term="puts", meaning="gain when it falls")], "input": Input()} | changes)


def a_text(text, gold="up", target=None):
    return Text(text=text, id=text_id(text, target), gold=gold, target=target)


def a_soft_label(text, votes, task=None, target=None):
    """A soft label whose votes are given in the order of the labels."""
    n = max(1, sum(votes))
    return SoftLabel(
        id=text_id(text, target),
        text=text,
        target=target,
        probs={name: vote / n if sum(votes) else 1 / 3 for name, vote in zip(LABELS, votes)},
        votes=dict(zip(LABELS, votes)),
        agreement=max(votes) / n,
        n_paths=n,
        entropy=0.0,
        label_mass=1.0,
        method="votes",
        teacher_digest="t" * 64,
        task_digest=(task or a_task()).digest,
    )


def answered_texts(rows, teacher=None, task=None):
    """Args: rows of (text, gold label, probabilities); teacher, a soft label or None for each."""
    texts = [row[0] if isinstance(row[0], Text) else a_text(row[0], row[1]) for row in rows]
    gold = np.array([LABELS.index(row[1]) for row in rows])
    return AnsweredTexts(
        task or a_task(), texts, gold, np.array([row[2] for row in rows], dtype=float), teacher or [None] * len(rows)
    )


UP, FLAT, DOWN = [0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]


# --- random words

WORDS = [
    a + b + c for a in ("ba", "ke", "li", "mo", "nu") for b in ("ra", "se", "ti", "go", "pu") for c in ("n", "s", "l", "x", "")
]


def drawn_texts(n, seed, words=(6, 30)):
    """n texts of that many words; some words are frequent, most are rare, and half the texts end with a full stop."""
    rng = random.Random(seed)
    weights = [1 / (i + 1) for i in range(len(WORDS))]
    return [" ".join(rng.choices(WORDS, weights, k=rng.randint(*words))) + rng.choice(["", "."]) for _ in range(n)]
