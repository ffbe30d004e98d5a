"""The gold texts that a teacher is tuned on: one half chooses between ways to ask, the other one judges what was chosen.

Axes: N texts, C labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import digest
from potstill.contract.task import Task
from potstill.contract.texts import Text, read_texts

FEWEST, FEW, MOST = (
    20,
    50,
    300,
)  # gold texts: below the first nothing can be said, below the second little; more than the last bring little


@dataclass(frozen=True)
class GoldHalves:
    """Texts with gold in two halves that hold every label in equal parts."""

    texts: list[Text]  # [N]
    gold: NDArray[np.int64]  # [N], index of each text's label
    chooses: NDArray[np.bool_]  # [N], whether a text is of the half that chooses
    notes: list[str]  # what a person should know about them, a line each


def gold_halves(task: Task, file: Path, most: int = MOST) -> GoldHalves:
    """The usable texts of a file and their halves, in the order of the texts' digests: the order in the file changes nothing.

    Texts that are worked examples of the task are left out: the teacher reads their labels.

    Args:
        most: at least 20; of more texts the first ones are taken.
    Raises:
        UserError: if ``most`` is too small.
        FormatError: if the file is malformed, or holds too few texts, or fewer than two of some label.
    """
    if most < FEWEST:
        raise UserError(f"max texts is {most}; it must be at least {FEWEST}")
    read = read_texts(file, labels=task.label_names, target=task.input.target, gold=True)
    shown = {(example.text, example.target) for example in task.examples}
    usable = [text for text in read.texts if (text.text, text.target) not in shown]
    texts = sorted(usable, key=_digest)[:most]
    gold = np.array([task.label_names.index(text.gold or "") for text in texts], dtype=np.int64)
    _check(task, file, gold)
    notes = [line] if (line := read.skipped_line()) else []
    if n_shown := len(read.texts) - len(usable):
        notes.append(f"left out {n_shown} gold texts that are worked examples of the task")
    if len(texts) < len(usable):
        notes.append(f"of {len(usable)} gold texts, the first {most} in the order of their digests are used (--max-texts)")
    if len(texts) < FEW:
        notes.append(f"{len(texts)} gold texts are few: half of them choose, and two or three texts decide; {FEW} or more help")
    return GoldHalves(texts, gold, _alternating(gold), notes)


def _digest(text: Text) -> str:
    """SHA-256 of what is classified; ids may have been made up."""
    return digest.of_bytes(f"{text.text}\0{text.target or ''}".encode("utf-8", "surrogatepass"))


def _check(task: Task, file: Path, gold: NDArray[np.int64]) -> None:
    """Enough texts in all and of every label."""
    if len(gold) < FEWEST:
        raise FormatError(file, "", f"holds {len(gold)} usable texts with gold; tuning needs at least {FEWEST}: label more by hand")
    for name, count in zip(task.label_names, np.bincount(gold, minlength=len(task.labels)), strict=True):
        if count < 2:
            found = f"holds {count} of {len(gold)} texts with the gold label {name!r}"
            raise FormatError(file, "", f"{found}; tuning needs at least 2 of every label, one for each half: add some")


def _alternating(gold: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Every other text of each label, bool [N]; where a label's count is odd, the next label starts on the other side."""
    chooses = np.zeros(len(gold), dtype=np.bool_)
    chooses[np.argsort(gold, kind="stable")[::2]] = True
    return chooses
