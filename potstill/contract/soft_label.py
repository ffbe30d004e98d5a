"""Soft labels: a distribution over the labels for each text, with its origin (Parquet or JSON lines, format 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from potstill.contract.errors import FormatError
from potstill.contract.files import arrow, atomic, decode
from potstill.contract.files.decode import Strict

FORMAT = "potstill.soft_labels.1"
_MAKE = "make them of texts with: potstill label TASK {} OUT, which writes OUT/soft_labels.parquet"
SUM_TOLERANCE = 1e-6
T = TypeVar("T")


class SoftLabel(Strict):
    """One text's distribution. Probabilities and votes are keyed by label name, so the order of labels cannot be confused."""

    id: str
    text: str
    probs: dict[str, float]  # every label of the task, in the task's order; sums to 1 within 1e-6
    votes: dict[str, int]  # paths that chose each label
    agreement: float  # share of the paths that chose the majority label, 0 to 1; 0 if no path could be read
    n_paths: int
    entropy: float  # of probs, in nats
    label_mass: float  # mean probability that the teacher gave to the label words together, 0 to 1
    method: str  # how probs were derived from the paths
    teacher_digest: str
    task_digest: str
    target: str | None = None
    gold: str | None = None

    @property
    def majority(self) -> str:
        """The label with the most votes; a tie goes to the more probable one."""
        return max(self.votes, key=lambda name: (self.votes[name], self.probs[name]))


def entropy(probs: Sequence[float]) -> float:
    """Shannon entropy in nats, at least 0, of probabilities (0 to 1, summing to 1)."""
    return max(0.0, -math.fsum(p * math.log(p) for p in probs if p > 0))


def write_soft_labels(path: Path, rows: list[SoftLabel]) -> None:
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


def read_soft_labels(path: Path, *, labels: list[str] | None = None, empty: bool = False) -> list[SoftLabel]:
    """Read the rows of a soft-label file.

    Args:
        path: a .parquet or .jsonl file.
        labels: the task's label names in order; None takes those of the first row.
        empty: True: accept a file without rows.
    Raises:
        FormatError: if the file is missing, malformed or empty, or a row breaks a rule: exactly the task's labels,
            probabilities from 0 to 1 that sum to 1 within 1e-6, votes that add up to at most n_paths, agreement from 0 to 1.
    """
    rows = rows_in(path, SoftLabel, FORMAT, empty=empty)
    names = labels if labels is not None else list(rows[0][1].probs) if rows else []
    seen: set[str] = set()
    for place, row in rows:
        _check(path, place, row, names)
        if row.id in seen:
            raise FormatError(path, f"{place}: id", f"repeats {row.id!r}; ids must be unique")
        seen.add(row.id)
    return [row for _, row in rows]


def rows_in(path: Path, kind: type[T], form: str, *, empty: bool) -> list[tuple[str, T]]:
    """(place, row) of every row of a file of soft labels.

    Args:
        kind: of a row: :class:`SoftLabel`, or what holds the answers to several questions.
        form: what the metadata of a Parquet file must say.
        empty: True: accept a file without rows.
    Raises:
        FormatError: if the file is missing, malformed, empty, or holds something else, such as texts.
    """
    suffix = path.suffix.lower()
    if path.is_dir():
        inside = next((one for one in sorted(path.glob("*soft_labels.*")) if one.is_file()), None)
        named = f": {inside}" if inside else ", a .parquet or .jsonl file"
        raise FormatError(path, "", f"is a folder; name the soft labels in it{named}")
    if suffix == ".parquet":
        plain = [(f"row {number}", row) for number, row in enumerate(arrow.read_parquet(path, form), 1)]
        _check_kind(path, plain[0][1] if plain else None, kind)
        rows = [(place, decode.convert(path, row, kind, place)) for place, row in plain]
    elif suffix == ".jsonl":
        lines = decode.json_lines(path, decode.read_bytes(path))
        _check_kind(path, decode.json(path, lines[0][1], Any, lines[0][0]) if lines else None, kind)
        rows = [(place, decode.json(path, line, kind, place)) for place, line in lines]
    else:
        raise FormatError(path, "", f"unknown kind {path.suffix!r}; soft labels are .parquet or .jsonl; {_MAKE.format(path)}")
    if not rows and not empty:
        raise FormatError(path, "", "has no soft label; run: potstill label")
    return rows


def _check_kind(path: Path, row: Any, kind: type[Any]) -> None:
    """Refuse a file whose first row shows that it holds something else that potstill reads or writes."""
    if not isinstance(row, dict) or "text" not in row:
        return
    answers = {"probs", "answers"} & row.keys()
    if not answers:
        raise FormatError(path, "", f"holds texts ({', '.join(row)}), not soft labels; {_MAKE.format(path)}")
    for found, held, asked in (
        ("answers", "several questions, and one is", True),
        ("probs", "one question, and several are", False),
    ):
        if answers == {found} and (kind is SoftLabel) == asked:
            raise FormatError(path, "", f"holds soft labels of {held} asked; name the task that they were made for")


def _check(path: Path, place: str, row: SoftLabel, names: list[str]) -> None:
    """Check that a row keeps the rules of the format."""
    for field in ("probs", "votes"):
        found = getattr(row, field)
        if set(found) != set(names):
            raise FormatError(path, f"{place}: {field}", f"has labels {sorted(found)}; expected {sorted(names)}")
    values = list(row.probs.values())
    if any(not 0 <= p <= 1 for p in values):  # NaN fails this too
        raise FormatError(path, f"{place}: probs", f"are {values}; each must be from 0 to 1")
    if abs(math.fsum(values) - 1) > SUM_TOLERANCE:
        raise FormatError(path, f"{place}: probs", f"sum to {math.fsum(values):.8f}; they must sum to 1 within {SUM_TOLERANCE}")
    n_votes = sum(row.votes.values())
    if min(row.votes.values()) < 0 or n_votes > row.n_paths:
        raise FormatError(path, f"{place}: votes", f"add up to {n_votes} of {row.n_paths} paths; at most one vote per path")
    if not 0 <= row.agreement <= 1:
        raise FormatError(path, f"{place}: agreement", f"is {row.agreement}; it must be from 0 to 1")
    if row.gold is not None and row.gold not in names:
        raise FormatError(path, f"{place}: gold", f"{row.gold!r} is not a label; allowed: {', '.join(names)}")
