"""Gold texts, and the teacher's answers to them, under the labels that are scored.

Axes: N texts, S labels of the student, C scored labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from potstill.contract.checkpoint import Student
from potstill.contract.errors import UserError
from potstill.contract.soft_label import read_soft_labels
from potstill.contract.texts import Text, read_texts
from potstill.trainer.data.selection import was_read
from potstill.trainer.evaluation.label_map import LabelMap


@dataclass(frozen=True)
class Gold:
    """The gold texts to score on; the gold label of each is a scored label."""

    path: Path
    texts: list[Text]  # [N]
    label_map: LabelMap
    names: tuple[str, ...]  # the labels as the file writes them
    notes: tuple[str, ...] = ()  # for a reader of the scores, on texts left out for example

    @property
    def labels(self) -> list[str]:
        """The scored labels, [C], in output order."""
        return self.label_map.scored

    @property
    def classes(self) -> NDArray[np.int64]:
        """int64 [N]: index of every text's gold label among the scored labels."""
        return np.array([self.labels.index(text.gold or "") for text in self.texts], dtype=np.int64)

    def only(self, places: Collection[int], note: str) -> Gold:
        """Keep only the texts at these indices, and add a note that says why."""
        return replace(self, texts=[self.texts[i] for i in places], notes=(*self.notes, note))


def read_gold(path: Path, student: Student, label_map: LabelMap) -> Gold:
    """Read a file of gold texts, with their labels mapped to the student's.

    Raises:
        FormatError: if the file is missing or malformed.
        UserError: if a gold label is neither one of the student's nor mapped, or the map leaves out every text.
    """
    read = read_texts(path, target=student.target, gold=True)
    names = sorted({text.gold or "" for text in read.texts})
    stands_for = label_map.resolve(names, f"{path}: gold")
    texts, dropped = [], Counter[str]()
    for text in read.texts:
        label = stands_for[text.gold or ""]
        if label:
            texts.append(msgspec.structs.replace(text, gold=label))
        else:
            dropped[text.gold or ""] += 1
    if not texts:
        raise UserError(f"{path}: the map leaves out all {len(read.texts)} texts; their labels are {', '.join(names)}")
    notes = [read.skipped_line()] if read.skipped_line() else []
    if dropped:
        counts = ", ".join(f"{n} {name!r}" for name, n in sorted(dropped.items()))
        notes.append(f"left out {dropped.total()} of {len(read.texts)} gold texts by the map: {counts}")
    notes += _absent(texts, label_map.scored)
    return Gold(path, texts, label_map, tuple(names), tuple(notes))


def _absent(texts: list[Text], scored: list[str]) -> list[str]:
    """A note for every scored label that no text has."""
    had = {text.gold for text in texts}
    return [
        f"no gold text has the label {name!r}, so its F1 is 0 for every system; score the other labels alone with --map '{name}='"
        for name in scored
        if name not in had
    ]


@dataclass(frozen=True)
class TeacherAnswers:
    """The gold texts that the teacher labelled, and its answers."""

    gold: Gold  # with a note on the texts that the file lacks
    probs: NDArray[np.float64]  # [N, S]
    n_unread: int  # of these texts: those that no path could label; their distributions count as answers


def read_teacher(path: Path, student: Student, gold: Gold) -> TeacherAnswers:
    """Read the teacher's answers, matched by text and target; of a repeated text the first row counts.

    Raises:
        FormatError: if the file is malformed, or has other labels.
        UserError: if it holds none of the texts.
    """
    rows = {(row.text, row.target or None): row for row in reversed(read_soft_labels(path, labels=student.labels))}
    places = [i for i, text in enumerate(gold.texts) if (text.text, text.target) in rows]
    if not places:
        raise UserError(
            f"{path}: holds none of the {len(gold.texts)} gold texts; label them with: potstill label --gold {gold.path} "
            "(it writes gold_labels.parquet)"
        )
    if n_lacking := len(gold.texts) - len(places):
        verb = "text is" if n_lacking == 1 else "texts are"
        gold = gold.only(
            places,
            f"{n_lacking} of {len(gold.texts)} gold {verb} not scored for any system, because {path} lacks the teacher's labels",
        )
    answered = [rows[text.text, text.target] for text in gold.texts]
    probs = np.array([[row.probs[name] for name in student.labels] for row in answered])
    return TeacherAnswers(gold, probs, sum(not was_read(row) for row in answered))
