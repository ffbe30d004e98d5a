"""Answers in a file as a source: of another classifier, of another tool, or soft labels that were derived before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from potstill.contract.errors import FormatError
from potstill.contract.files import decode
from potstill.contract.files.decode import Strict
from potstill.contract.soft_label import read_soft_labels
from potstill.contract.texts import Text
from potstill.labeler.weak_supervision.sources.rules import Vote, checked_vote
from potstill.labeler.weak_supervision.votes import SourceVotes, source_votes


class AnswerRow(Strict):
    """One line of a file of answers; `potstill predict` writes such lines, and what it adds is not looked at."""

    id: str
    label: str | None = None  # null without probs: the source abstains
    probs: dict[str, float] | None = None  # by label; counts in place of the label
    abstain: bool = False  # true: the source abstains, whatever else the line says
    target: str | None = None
    label_set: list[str] | None = None
    skipped: str | None = None
    unfamiliar: bool | None = None
    unfamiliarity: float | None = None


def answer_votes(name: str, path: Path, texts: list[Text], labels: list[str]) -> SourceVotes:
    """The votes in a file of answers, by the texts' ids; texts that it does not have were not asked about.

    Args:
        name: of the source.
        path: JSON lines of :class:`AnswerRow`, or soft labels (.parquet, or .jsonl).
        texts: [N].
        labels: in the task's order.
    Raises:
        FormatError: if the file is missing or malformed, names another label, or has none of the texts.
    """
    found = _soft_labels(path, labels) if _has_soft_labels(path) else _answers(path, labels)
    if not found.keys() & {text.id for text in texts}:
        first = next(iter(found), None)
        problem = "has no line" if first is None else f"has none of the {len(texts)} texts (its first id is {first!r})"
        raise FormatError(path, "", f"{problem}; answer the same texts, with the same ids")
    return source_votes(name, "answers", texts, labels, found)


def _has_soft_labels(path: Path) -> bool:
    """Whether a file holds soft labels, by its suffix or its first line; raises FormatError."""
    if path.suffix.lower() == ".parquet":
        return True
    lines = decode.json_lines(path, decode.read_bytes(path))
    first: Any = decode.json(path, lines[0][1], object, lines[0][0]) if lines else None
    return isinstance(first, dict) and "n_paths" in first


def _soft_labels(path: Path, labels: list[str]) -> dict[str, Vote]:
    """The distributions of soft labels, by text id; a text that nobody voted on has none."""
    rows = read_soft_labels(path, labels=labels)
    return {row.id: dict(row.probs) if sum(row.votes.values()) else None for row in rows}


def _answers(path: Path, labels: list[str]) -> dict[str, Vote]:
    """The answers in JSON lines, by text id."""
    found: dict[str, Vote] = {}
    for place, line in decode.json_lines(path, decode.read_bytes(path)):
        row = decode.json(path, line, AnswerRow, place)
        if row.id in found:
            raise FormatError(path, f"{place}: id", f"repeats {row.id!r}; ids must be unique")
        shares = row.probs or ({} if row.label is None else {row.label: 1.0})
        found[row.id] = None if row.abstain or not shares else checked_vote(path, place, shares, labels)
    return found
