"""Read what an export needs from a checkpoint: task, tokenizer, calibration set, and the texts of the gate.

Activation ranges come from the calibration set. The gate compares forms on texts that calibration has not seen: the validation
split, further training texts, and texts of a pool where one is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from potstill.contract.bundle import TOKENIZER_FILE
from potstill.contract.checkpoint import CALIBRATION_FILE, GATE_FILE, TASK_FILE, VALIDATION_FILE, Student
from potstill.contract.files import decode
from potstill.contract.questions.head import HOLDS, Head, ranges
from potstill.contract.questions.questionnaire import AnyTask, Questionnaire, questionnaire_from_json
from potstill.contract.questions.soft_answers import QuestionLabel, SoftAnswers, read_soft_answers
from potstill.contract.soft_label import SoftLabel, read_soft_labels
from potstill.contract.task import task_from_json
from potstill.contract.texts import Text, read_texts
from potstill.export.gate.speed import TextPair
from potstill.export.tokenizer.files import pad_token_id
from potstill.serve.runtime.tokenizer import Feeds, TextTokenizer

N_CALIBRATION = 256  # texts of a pool for calibration; more do not move activation ranges
CALIBRATION_BATCH = 16  # largest number of texts in a calibration batch
MAX_POOL = 8192  # texts of a pool that are tokenized, at equal steps
MAX_GATE = 2048  # texts of the gate, those of a pool included; enough to know 1 % to within half a percent

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class TaughtQuestion:
    """One of several questions, and what the teacher says about it: n of the validation texts answer it."""

    head: Head
    outputs: slice  # of the logits
    places: NDArray[np.int64]  # [n], among the validation texts
    targets: NDArray[np.float64]  # [n, labels], soft labels; rows sum to 1, but for tags
    majority: NDArray[np.int64]  # [n], index of the teacher's majority label; of tags 0 or 1 [n, tags]


@dataclass(frozen=True)
class GateTexts:
    """The texts of the gate, validation texts first, with the teacher's labels for the validation texts.

    Axes: N texts, V validation texts, C classes.
    """

    texts: list[TextPair]  # N
    feeds: list[Feeds]  # N, as the graph is fed: int64 [1, T] by input name
    n_validation: int  # V
    targets: NDArray[np.float64]  # [V, C], soft labels; rows sum to 1; of several questions empty
    majority: NDArray[np.int64]  # [V], index of the teacher's majority label; of several questions empty
    pad_id: int
    max_tokens: int  # no batch is padded beyond; some networks have no more positions
    questions: tuple[TaughtQuestion, ...] = ()  # empty: one choice


@dataclass(frozen=True)
class ExportSource:
    """A checkpoint's content, with its texts tokenized."""

    checkpoint: Path
    student: Student
    task: AnyTask
    tokenize: TextTokenizer
    calibration: list[Feeds]  # one text each, at least one
    unused: list[TextPair]  # texts of the pool that neither calibration nor the gate uses
    gate: GateTexts


def read_source(checkpoint: Path, student: Student, inputs: list[str], pool: Path | None = None) -> ExportSource:
    """Read a checkpoint's task, calibration set and gate texts.

    Args:
        checkpoint: the trainer's folder.
        student: its `student.json`.
        inputs: names of the graph's inputs.
        pool: a file of unlabelled texts like those to come; replaces the calibration set and adds texts to the gate.
    Raises:
        FormatError: if a file is missing or malformed.
    """
    path = checkpoint / TASK_FILE
    data = decode.read_bytes(path)
    task = task_from_json(path, data) if student.heads is None else questionnaire_from_json(path, data)
    tokenize = TextTokenizer(checkpoint / TOKENIZER_FILE, student.max_tokens, inputs)
    validation, more_rows = _labelled(checkpoint, student, task)
    rows = [*validation, *more_rows]
    calibration_texts = read_texts(checkpoint / CALIBRATION_FILE, target=student.target).texts
    texts: list[TextPair] = [(row.text, row.target if student.target else None) for row in rows]
    calibration: list[TextPair] = [(text.text, text.target) for text in calibration_texts]
    unused: list[TextPair] = []
    if pool is not None:
        calibration, more, unused = _split_pool(pool, student, {row.text for row in rows}, tokenize, MAX_GATE - len(rows))
        seen = {text for text, _ in calibration}  # no gate text may be in the calibration set
        texts = [*texts[: len(validation)], *(one for one in texts[len(validation) :] if one[0] not in seen), *more]
    gate = GateTexts(
        texts=texts,
        feeds=[tokenize.ids(*one) for one in texts],
        n_validation=len(validation),
        targets=np.array([[row.probs[name] for name in student.labels] for row in validation if isinstance(row, SoftLabel)]),
        majority=np.array([student.labels.index(row.majority) for row in validation if isinstance(row, SoftLabel)]),
        pad_id=pad_token_id(checkpoint),
        max_tokens=student.max_tokens,
        questions=tuple(_taught(student.heads or [], [row for row in validation if isinstance(row, SoftAnswers)])),
    )
    return ExportSource(checkpoint, student, task, tokenize, [tokenize.ids(*one) for one in calibration], unused, gate)


def _labelled(
    checkpoint: Path, student: Student, task: AnyTask
) -> tuple[Sequence[SoftLabel | SoftAnswers], Sequence[SoftLabel | SoftAnswers]]:
    """(the validation rows, further rows of the gate)."""
    places = checkpoint / VALIDATION_FILE, checkpoint / GATE_FILE
    if isinstance(task, Questionnaire):
        return read_soft_answers(places[0], task.questions), read_soft_answers(places[1], task.questions, empty=True)
    return read_soft_labels(places[0], labels=student.labels), read_soft_labels(places[1], labels=student.labels, empty=True)


def _taught(heads: Sequence[Head], validation: Sequence[SoftAnswers]) -> Iterator[TaughtQuestion]:
    """What the teacher says about each question that a validation text answers."""
    for head, outputs in zip(heads, ranges(heads), strict=True):
        found = [(i, label) for i, row in enumerate(validation) if (label := row.answers.get(head.name)) is not None]
        if not found:
            continue
        targets = np.array([[label.probs[name] for name in head.labels] for _, label in found])
        if head.is_softmax:
            majority = np.array([max(range(len(head.labels)), key=_rank(label, head)) for _, label in found])
        else:
            majority = np.array([[int(label.votes[name] >= HOLDS * label.n_paths) for name in head.labels] for _, label in found])
        yield TaughtQuestion(head, outputs, np.array([i for i, _ in found]), targets, majority)


def _rank(label: QuestionLabel, head: Head) -> Callable[[int], tuple[int, float]]:
    """What orders the labels: votes, and among equals probability."""
    return lambda c: (label.votes[head.labels[c]], label.probs[head.labels[c]])


def _split_pool(
    path: Path, student: Student, known: set[str], tokenize: TextTokenizer, n_gate: int
) -> tuple[list[TextPair], list[TextPair], list[TextPair]]:
    """Split a pool into (calibration texts, gate texts, the rest), each spread over all lengths; known texts are left out."""
    unique = {(text.text, text.target): text for text in read_texts(path, target=student.target).texts if text.text not in known}
    pool: list[Text] = list(unique.values())
    n = min(MAX_POOL, len(pool))
    texts: list[TextPair] = [(text.text, text.target) for text in (pool[i * len(pool) // n] for i in range(n))]
    lengths = [n_tokens(tokenize.ids(*one)) for one in texts]
    calibration, left = spread_by_length(texts, lengths, min(N_CALIBRATION, -(-n // 2)))
    length_of = dict(zip(texts, lengths, strict=True))
    return calibration, *spread_by_length(left, [length_of[one] for one in left], max(0, n_gate))


# Sampling and batching by length


def spread_by_length(items: Sequence[_Item], lengths: Sequence[int], n: int) -> tuple[list[_Item], list[_Item]]:
    """Take n items at equal steps from the shortest to the longest.

    Args:
        items: N texts, in any form.
        lengths: N, in tokens.
        n: number to take, at least 0; all if there are fewer.
    Returns:
        (the items taken, the items left), both in the given order.
    """
    order = sorted(range(len(items)), key=lambda i: lengths[i])
    n = min(n, len(items))
    taken = {order[i * len(items) // n] for i in range(n)}
    return [item for i, item in enumerate(items) if i in taken], [item for i, item in enumerate(items) if i not in taken]


def group_by_length(feeds: Sequence[Feeds], at_most: int) -> list[list[int]]:
    """Group texts of equal length, shortest first; returns their indices, at most so many in a group."""
    groups: list[list[int]] = []
    for i in sorted(range(len(feeds)), key=lambda i: n_tokens(feeds[i])):
        last = groups[-1] if groups else []
        if last and len(last) < at_most and n_tokens(feeds[last[0]]) == n_tokens(feeds[i]):
            last.append(i)
        else:
            groups.append([i])
    return groups


def batch_by_length(feeds: Sequence[Feeds]) -> list[Feeds]:
    """Batch texts of equal length, int64 [B, T] by input name, shortest first.

    The batches need no padding: the quantizer would take padding for text, and a bundle pads nothing.

    Args:
        feeds: one text each, int64 [1, T] by input name.
    """
    groups = group_by_length(feeds, CALIBRATION_BATCH)
    return [{name: np.concatenate([feeds[i][name] for i in group]) for name in feeds[group[0]]} for group in groups]


def n_tokens(feed: Feeds) -> int:
    """Number of tokens of one text."""
    return int(feed["input_ids"].shape[1])
