"""Split the gold texts for tuning: one half selects a configuration, the other half evaluates it.

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
from potstill.labeler.tuning.config import MOST

FEWEST = 20  # gold texts; with fewer, tuning is refused
FEW = 50  # with fewer, a note says that the result is uncertain


@dataclass(frozen=True)
class GoldHalves:
    """Gold texts in two halves with about equal numbers of every label."""

    texts: list[Text]  # [N]
    gold: NDArray[np.int64]  # [N], index of each text's label
    chooses: NDArray[np.bool_]  # [N], whether a text is in the selection half
    notes: list[str]  # one line each, for a person


def gold_halves(task: Task, file: Path, most: int = MOST) -> GoldHalves:
    """Read the usable gold texts of a file and split them, ordered by digest so that the order in the file has no influence.

    Texts that are worked examples of the task are left out, because the teacher reads their labels.

    Args:
        most: largest number of texts, at least FEWEST; of more texts, the first by digest are taken.
    Raises:
        UserError: if ``most`` is too small.
        FormatError: if the file is malformed, or holds too few texts in total or of some label.
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
        notes.append(f"{len(texts)} gold texts are few: half of them select, so two or three texts decide; use {FEW} or more")
    return GoldHalves(texts, gold, _alternating(gold), notes)


def _digest(text: Text) -> str:
    """SHA-256 of text and target; ids are not used, because they may be generated."""
    return digest.of_bytes(f"{text.text}\0{text.target or ''}".encode("utf-8", "surrogatepass"))


def _check(task: Task, file: Path, gold: NDArray[np.int64]) -> None:
    """Check that there are enough texts in total and of every label."""
    if len(gold) < FEWEST:
        raise FormatError(file, "", f"holds {len(gold)} usable texts with gold; tuning needs at least {FEWEST}: label more by hand")
    for name, count in zip(task.label_names, np.bincount(gold, minlength=len(task.labels)), strict=True):
        if count < 2:
            found = f"holds {count} of {len(gold)} texts with the gold label {name!r}"
            raise FormatError(file, "", f"{found}; tuning needs at least 2 of every label, one for each half: add some")


def _alternating(gold: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Every other text of each label, bool [N]; after a label with an odd count, the next label starts in the other half."""
    chooses = np.zeros(len(gold), dtype=np.bool_)
    chooses[np.argsort(gold, kind="stable")[::2]] = True
    return chooses
