"""The audit file: what a bundle and the teacher behind it said about the same texts (JSON lines, format 1).

A server appends a line for each text that it drew at random, so the file holds texts of its clients: only its owner may read it.
Several processes write to it, each line with a single call, so no line is mixed with another. A server that was killed, or whose
disk was full, can leave half a line behind; the next line still begins a new one.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import msgspec

from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import decode
from potstill.contract.files.decode import Strict
from potstill.contract.questions.decision import SUM_TOLERANCE

FORMAT = 1
PRIVATE = 0o600
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class AuditRecord(Strict):
    """One text, with the answer of the bundle and that of the teacher."""

    format: int
    at: float  # seconds since 1970
    bundle: str  # name under which it was served
    version: str  # the first digits of its digest
    text: str  # perhaps cut
    probs: dict[str, float]  # the bundle's own, by label in output order
    abstain: bool  # whether the bundle abstained
    teacher: str  # name of the teacher's model
    teacher_probs: dict[str, float]  # by label
    target: str | None = None
    unfamiliar: bool | None = None  # whether the text was unlike those that the bundle knows; None: the bundle cannot tell

    @property
    def label(self) -> str:
        """The bundle's label."""
        return max(self.probs, key=self.probs.__getitem__)

    @property
    def teacher_label(self) -> str:
        """The teacher's label."""
        return max(self.teacher_probs, key=self.teacher_probs.__getitem__)

    @property
    def difference(self) -> float:
        """Total variation distance of the two distributions, from 0 to 1."""
        return sum(abs(value - self.teacher_probs[name]) for name, value in self.probs.items()) / 2


@dataclass(frozen=True)
class AuditRecords:
    """The records of a file, in its order."""

    records: list[AuditRecord]
    n_damaged: int  # lines that were not written whole


class AuditFile:
    """An audit file that is open for appending; one thread at a time uses it."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Open the file, or create it for this user alone.

        Args:
            path: of the file.
            max_bytes: size from which on nothing is added.
        Raises:
            UserError: if it cannot be opened, is not a plain file, or others may read it.
        """
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, PRIVATE)
        except OSError as error:
            raise UserError(f"{path}: cannot write the audit there: {error.strerror}; name a file of yours") from error
        found = os.fstat(self._descriptor)
        if not stat.S_ISREG(found.st_mode):
            self.close()
            raise UserError(f"{path}: is not a plain file; name one for the audit")
        if found.st_mode & _OTHERS:
            self.close()
            raise UserError(f"{path}: others may read it, and an audit holds texts; fix that with: chmod 600 {path}")
        self._max_bytes = max_bytes
        self._begin = b"\n" if found.st_size and os.pread(self._descriptor, 1, found.st_size - 1) != b"\n" else b""

    def add(self, record: AuditRecord) -> bool:
        """Append a record; returns False if the file is full. Raises OSError if it cannot be written."""
        line = self._begin + msgspec.json.encode(record) + b"\n"
        if os.fstat(self._descriptor).st_size + len(line) > self._max_bytes:
            return False
        self._begin = b"\n"  # in case the line is not written whole
        if os.write(self._descriptor, line) != len(line):
            raise OSError("the disk is full")
        self._begin = b""
        return True

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def read_audit(path: str | Path) -> AuditRecords:
    """The records of an audit file, also while a server writes to it.

    Raises:
        FormatError: if the file is missing, of another format, or a record contradicts itself; lines that were not written whole
            are left out and counted.
    """
    path = Path(path)
    records: list[AuditRecord] = []
    n_damaged = 0
    for number, line in enumerate(decode.read_bytes(path).split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            n_damaged += 1
            continue
        place = f"line {number}"
        record = decode.json(path, line, AuditRecord, place)
        _check(path, place, record)
        records.append(record)
    return AuditRecords(records, n_damaged)


def _check(path: Path, place: str, record: AuditRecord) -> None:
    """Check the format and the probabilities of a record; raises FormatError."""
    if record.format != FORMAT:
        raise FormatError(path, f"{place}: format", f"is {record.format}; this version reads {FORMAT}")
    if record.probs.keys() != record.teacher_probs.keys():
        raise FormatError(path, f"{place}: teacher_probs", "are of other labels than the bundle's; the two must be of one task")
    for name, probs in (("probs", record.probs), ("teacher_probs", record.teacher_probs)):
        if not all(0 <= value <= 1 for value in probs.values()) or abs(sum(probs.values()) - 1) > SUM_TOLERANCE:
            raise FormatError(path, f"{place}: {name}", "are no distribution; every one is from 0 to 1, and they sum to 1")
