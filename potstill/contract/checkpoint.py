"""The checkpoint: a `transformers` folder plus the settings that turn its logits into a decision (`student.json`, format 1;
2 where it answers several questions).

student.json        this file's :class:`Student`
task.json           the parsed task that the student was trained on
calibration.jsonl   texts of the training split, for the quantizer's activation ranges
validation.jsonl    soft labels of the validation split, for scores and the export gate
gate.jsonl          more soft labels for the export gate: training texts that the quantizer does not see
gold_rows.jsonl     only where gold labels were trained on: the rows that have them
config.json, model.safetensors, tokenizer.json, ...   as `transformers` writes them
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from potstill.contract.errors import FormatError
from potstill.contract.files import decode
from potstill.contract.files.decode import Strict
from potstill.contract.files.wrong_folder import MARKS, not_a
from potstill.contract.questions.decision import Conformal, Precision, check_decision
from potstill.contract.questions.head import Head, check_heads
from potstill.contract.scores.record import Scores

FORMAT = 1
WITH_HEADS = 2  # the format of a student of several questions
FAMILIES = ("encoder", "static", "charformer")
STUDENT_FILE, TASK_FILE = MARKS["checkpoint"], "task.json"
CALIBRATION_FILE, VALIDATION_FILE, GATE_FILE = "calibration.jsonl", "validation.jsonl", "gate.jsonl"
GOLD_ROWS_FILE = "gold_rows.jsonl"
WORK_SUFFIX, WORK_LOCK_FILE = ".partial", "lock"  # of the folder beside a checkpoint that is being trained
GoldUse = Literal["replace", "join", "weigh"]  # what a person's label does to the teacher's of the same text, see _GOLD_PLACE
_GOLD_PLACE = {
    "replace": "in place of the teacher's",
    "join": "beside the teacher's, counting as much",  # as all its paths together
    "weigh": "weighed against the teacher's",  # Bayes' rule, by how often people are right
}


class PeopleRight(Strict):
    """How often people's labels are taken to be right, and what recalibrates the teacher beside them; of one question."""

    share: float  # above chance, to 1
    interval: tuple[float, float] | None  # 95 % of the estimate; None: the share was stated, not estimated
    temperature: float  # divides the logarithms of the teacher's soft labels where a person's is weighed against them; above 0
    bias: list[float]  # added to them then, by label in output order; of tags for one that holds, and one that does not
    n_compared: int  # labels that were held against a soft label for it; of tags, one for each tag

    def as_text(self) -> str:
        """`on 74% (estimated from 170 labels, 95 % interval 61% to 86%)`."""
        if self.interval is None:
            return f"on {self.share:.0%} (stated)"
        low, high = self.interval
        compared = f"estimated from {self.n_compared} labels" if self.n_compared else "assumed: no label can be compared"
        return f"on {self.share:.0%} ({compared}, 95 % interval {low:.0%} to {high:.0%})"


class UsedGold(Strict, omit_defaults=True):
    """The gold labels that a student was trained on, which is done only on request."""

    how: GoldUse
    file_digest: str  # SHA-256 of the file of gold texts
    n_changed: int  # training texts whose soft label they changed
    n_new: int  # training texts that had none
    n_held_out: int  # texts that were held out, and kept the teacher's label
    right: dict[str, PeopleRight] | None = None  # by question, of one choice ""; only where labels were weighed

    def as_text(self) -> str:
        """A sentence without its stop."""
        new = f"; {self.n_new} more have a person's alone" if self.n_new else ""
        kept = f"; {self.n_held_out} held-out ones kept the teacher's" if self.n_held_out else ""
        of_each = [f"{name}: {right.as_text()}" if name else right.as_text() for name, right in (self.right or {}).items()]
        taken = f"; people are taken to be right {', '.join(of_each)}" if of_each else ""
        return f"{self.n_changed} training texts have a label that a person gave, {_GOLD_PLACE[self.how]}{new}{kept}{taken}"


class Student(Strict):
    """The origin of a checkpoint, its scores, and the settings that turn its logits into a decision."""

    format: int
    task_name: str
    labels: list[str]  # in output order; of several questions `question/label`
    family: str  # one of FAMILIES
    target: bool  # True: the student reads text and target as a pair
    max_tokens: int  # longer texts are truncated; special tokens included
    temperature: float  # logits are divided by it before softmax; above 0
    thresholds: dict[str, float | None] | None  # by label: answer at or above this probability only; null: never; absent: always
    loss: str
    seed: int
    task_digest: str
    soft_labels_digest: str  # of the soft-label file's bytes
    teacher_digest: str
    backbone: str  # name or folder of what was fine-tuned
    backbone_digest: str
    n_train: int
    n_validation: int
    scores: dict[str, Scores]  # by split
    precision: Precision | None = None  # the target that the thresholds were chosen for
    conformal: Conformal | None = None  # for label sets
    label_shares: dict[str, float] | None = None  # mean probability of each label over the held-out texts
    validation_losses: list[float] = []  # in nats, after each epoch; empty: not recorded
    kept_epoch: int = 0  # the epoch, from 1, whose weights were kept; 0: not recorded
    init: str | None = None  # the folder that training started from, if not the backbone's
    init_digest: str | None = None  # SHA-256 of that folder's weights
    heads: list[Head] | None = None  # by question, with the settings above for each; None: one choice
    used_gold: UsedGold | None = None  # gold labels that were trained on; None: none was


def write_student(folder: Path, student: Student) -> None:
    """Write `student.json` into a folder that is being filled."""
    (folder / STUDENT_FILE).write_bytes(student_json(student))


def student_json(student: Student) -> bytes:
    """Encode the content of `student.json`."""
    plain = msgspec.to_builtins(student)
    for name in ("heads", "used_gold"):  # earlier versions know no such fields
        if plain[name] is None:
            del plain[name]
    return msgspec.json.format(msgspec.json.encode(plain), indent=2) + b"\n"


def read_student(folder: Path) -> Student:
    """Read a checkpoint's `student.json`.

    Raises:
        FormatError: if the folder is not a checkpoint, or the file is malformed, of another format or inconsistent.
    """
    path = folder / STUDENT_FILE
    if not folder.is_dir() or not path.exists():
        raise not_a("checkpoint", folder)
    student = decode.json(path, decode.read_bytes(path), Student, newest=WITH_HEADS)
    wanted = FORMAT if student.heads is None else WITH_HEADS
    if student.format != wanted:
        raise FormatError(
            path, "format", f"is {student.format}; this version reads {wanted}{' with heads' * (wanted == WITH_HEADS)}"
        )
    if student.family not in FAMILIES:
        raise FormatError(path, "family", f"is {student.family!r}; allowed: {', '.join(FAMILIES)}")
    check_heads(path, student)
    if student.heads is None:
        check_decision(path, student)
    return student
