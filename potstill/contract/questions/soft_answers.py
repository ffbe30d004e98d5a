"""Soft labels of several questions: for each text a distribution per question (Parquet or JSON lines, format 2).

The rows of one question are also soft labels of that question alone, see :func:`rows_of`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from potstill.contract.errors import FormatError
from potstill.contract.files import arrow, atomic
from potstill.contract.files.decode import Strict
from potstill.contract.questions.gold import answer_of
from potstill.contract.questions.question import Question
from potstill.contract.soft_label import SUM_TOLERANCE, SoftLabel, rows_in

FORMAT = "potstill.soft_labels.2"


class QuestionLabel(Strict):
    """What the paths say about one question of one text.

    Of tags, each has a probability of its own; `votes` are the paths that say it holds, and the other numbers are means over the
    tags, but for `entropy`, the sum over them.
    """

    probs: dict[str, float]  # by label, in output order; sums to 1 within 1e-6, but for tags
    votes: dict[str, int]  # paths that chose each label
    agreement: float  # share of the paths that chose the majority label, 0 to 1; 0 if no path could be read
    n_paths: int  # of the question; of tags, of each
    entropy: float  # of probs, in nats
    label_mass: float  # mean probability that the teacher gave to the label words together, 0 to 1
    method: str  # how probs were derived from the paths


class SoftAnswers(Strict):
    """One text with what its paths say about each question."""

    id: str
    text: str
    answers: dict[str, QuestionLabel | None]  # by question; None: it was not asked about this text
    teacher_digest: str
    task_digest: str
    target: str | None = None
    gold: dict[str, list[str] | None] | None = None  # by question: the labels a person gave, one but for tags; None: not given


def write_soft_answers(path: Path, rows: list[SoftAnswers]) -> None:
    """Write the rows as .parquet or .jsonl, atomically; raises UserError if the file cannot be written."""
    plain = [msgspec.to_builtins(row) for row in rows]
    match path.suffix.lower():
        case ".jsonl":
            data = b"".join(msgspec.json.encode(row) + b"\n" for row in plain)
        case ".parquet":
            data = arrow.encode_parquet(plain, {"format": FORMAT})
        case _:
            raise FormatError(path, "", f"unknown kind {path.suffix!r}; allowed: .parquet, .jsonl")
    atomic.write_file(path, data)


def read_soft_answers(path: Path, questions: Sequence[Question], *, empty: bool = False) -> list[SoftAnswers]:
    """Read the rows of a file of soft labels of several questions.

    Args:
        path: a .parquet or .jsonl file.
        questions: of the task. A row may leave questions out.
        empty: True: accept a file without rows.
    Raises:
        FormatError: if the file is missing, malformed or empty, or a row breaks a rule: exactly the labels of each question,
            probabilities from 0 to 1 that sum to 1 but for tags, votes of at most n_paths, gold that is a label.
    """
    rows = rows_in(path, SoftAnswers, FORMAT, empty=empty)
    by_name = {question.name: question for question in questions}
    seen: set[str] = set()
    for place, row in rows:
        if row.id in seen:
            raise FormatError(path, f"{place}: id", f"repeats {row.id!r}; ids must be unique")
        seen.add(row.id)
        for name, label in row.answers.items():
            if name not in by_name:
                raise FormatError(path, f"{place}: answers.{name}", f"is not a question; the questions are {', '.join(by_name)}")
            if label is not None:
                _check(path, f"{place}: answers.{name}", label, by_name[name])
        for name, given in (row.gold or {}).items():
            if name not in by_name:
                raise FormatError(path, f"{place}: gold.{name}", f"is not a question; the questions are {', '.join(by_name)}")
            if given is not None:
                _check_gold(path, f"{place}: gold.{name}", by_name[name], given)
    return [row for _, row in rows]


def rows_of(rows: Sequence[SoftAnswers], question: Question, tag: str | None = None) -> list[SoftLabel]:
    """The rows that answer a question, as soft labels of that question alone, in order.

    Args:
        tag: of a question about tags, the one that is wanted: its labels are then `yes` and `no`.
    Raises:
        ValueError: if it is a question about tags and no tag is given.
    """
    if question.kind == "tags" and tag is None:
        raise ValueError(f"{question.name} has a soft label for each tag; name one")
    found = []
    for row in rows:
        label = row.answers.get(question.name)
        if label is None:
            continue
        given = (row.gold or {}).get(question.name)
        found.append(_alone(row, label, question, tag, given))
    return found


def _alone(row: SoftAnswers, label: QuestionLabel, question: Question, tag: str | None, given: list[str] | None) -> SoftLabel:
    """One question's soft label of a row, as that of a task of its own."""
    probs, votes, entropy, agreement = label.probs, label.votes, label.entropy, label.agreement
    gold = given[0] if given and tag is None else None
    if tag is not None:
        yes, n_yes = label.probs[tag], label.votes[tag]
        probs, votes = {"yes": yes, "no": 1 - yes}, {"yes": n_yes, "no": label.n_paths - n_yes}
        entropy = -math.fsum(p * math.log(p) for p in probs.values() if p > 0)
        agreement = max(votes.values()) / label.n_paths if label.n_paths else 0.0
        gold = None if given is None else "yes" if tag in given else "no"
    return SoftLabel(
        id=row.id,
        text=row.text,
        target=row.target,
        probs=probs,
        votes=votes,
        agreement=agreement,
        n_paths=label.n_paths,
        entropy=max(0.0, entropy),
        label_mass=label.label_mass,
        method=label.method,
        teacher_digest=row.teacher_digest,
        task_digest=row.task_digest,
        gold=gold,
    )


def _check(path: Path, place: str, label: QuestionLabel, question: Question) -> None:
    """Check that what is said about a question keeps the rules of the format."""
    names = question.label_names
    numbers: dict[str, dict[str, Any]] = {"probs": dict(label.probs), "votes": dict(label.votes)}
    for field, found in numbers.items():
        if set(found) != set(names):
            raise FormatError(path, f"{place}.{field}", f"has labels {sorted(found)}; expected {sorted(names)}")
    values = list(label.probs.values())
    if any(not 0 <= p <= 1 for p in values):  # NaN fails this too
        raise FormatError(path, f"{place}.probs", f"are {values}; each must be from 0 to 1")
    if question.kind != "tags" and abs(math.fsum(values) - 1) > SUM_TOLERANCE:
        raise FormatError(path, f"{place}.probs", f"sum to {math.fsum(values):.8f}; they must sum to 1 within {SUM_TOLERANCE}")
    most = max(label.votes.values()) if question.kind == "tags" else sum(label.votes.values())
    if min(label.votes.values()) < 0 or most > label.n_paths:
        raise FormatError(path, f"{place}.votes", f"come to {most} of {label.n_paths} paths; at most one vote per path")
    if not 0 <= label.agreement <= 1:
        raise FormatError(path, f"{place}.agreement", f"is {label.agreement}; it must be from 0 to 1")


def _check_gold(path: Path, place: str, question: Question, given: list[str]) -> None:
    """Check that gold names labels of the question: one, but any number of tags."""
    if question.kind == "tags":
        answer_of(path, place, question, given)
        return
    if len(given) != 1:
        raise FormatError(path, place, f"is {given}; a question of kind {question.kind} has one answer")
    answer_of(path, place, question, given[0])
