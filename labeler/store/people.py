"""What people decided about the texts of a label store: a journal of decisions, to which rows are only ever added.

The journal is a table of the same file, made when the first person decides; a store without it is as it always was, and programs
that do not know it leave it alone. It stands beside the paths and never changes them. Several processes may add to it at once, also
while a teacher labels: each row is on disk before :meth:`Journal.add` returns.
"""

from __future__ import annotations

import pathlib
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal, get_args

import msgspec

from potstill.contract.errors import FormatError
from potstill.contract.questions.gold import Given
from potstill.labeler.store import sqlite_file
from potstill.labeler.store.database import LabelStore

Mode = Literal["random", "ranked", "overlap", "search", "resolution"]
MODES: tuple[str, ...] = get_args(Mode)
WAIT_S = 20.0  # for another process that writes at the same moment

_SCHEMA = """
create table if not exists decisions (
    number integer primary key, entry text not null, text_id text not null, question text not null, person text not null,
    labels text, mode text not null, note text not null, skipped integer not null, revealed integer not null, undoes text,
    made_at text not null, unique (entry, question))"""
_EXISTS = "select 1 from sqlite_master where type = 'table' and name = 'decisions'"
_COLUMNS = "entry, text_id, question, person, labels, mode, note, skipped, revealed, undoes, made_at"


class HumanDecision(msgspec.Struct, frozen=True, kw_only=True):
    """One row: what a person decided about one question of a text, or that an earlier entry does not count."""

    entry: str  # names what was sent at once: the answers to all questions of a text; sent again, it is not stored again
    text_id: str
    person: str
    mode: Mode  # how the person came to this text; resolution: to settle what people disagree about
    question: str = ""  # of a task of several questions: the question
    labels: Given | None = None  # the answer as gold has it: a name, a list of tags; None: skipped, or an undo
    note: str = ""
    skipped: bool = False
    revealed: bool = False  # whether the teacher's answer was shown before
    undoes: str | None = None  # the entry that does not count any more
    made_at: str = ""  # UTC, ISO 8601; empty: now, when it is stored
    number: int = 0  # of the row, rising; 0: not stored yet


class Journal:
    """The open journal of a label store, for reading and adding."""

    def __init__(self, path: pathlib.Path, connection: sqlite3.Connection) -> None:
        """Use :meth:`open` instead."""
        self.path, self._connection = path, connection

    @classmethod
    def open(cls, path: pathlib.Path) -> Journal:
        """Open the journal of the store at ``path``; it is made if the store has none yet.

        Raises:
            FormatError: if there is no store, or it is damaged or of another format; it is left untouched.
            UserError: if the file system refuses.
        """
        if not path.is_file():
            raise FormatError(path, "", "no such label store; make one with: potstill label")
        with sqlite_file.located(path):
            sqlite_file.check_whole(path)
            connection = sqlite3.connect(path, isolation_level=None, timeout=WAIT_S)
            try:
                sqlite_file.check_format(path, connection)  # an empty file is no store
                connection.execute("pragma journal_mode = wal")
                connection.execute("pragma synchronous = full")
                connection.execute(_SCHEMA)
            except BaseException:
                connection.close()
                raise
        return cls(path, connection)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, decisions: Sequence[HumanDecision]) -> None:
        """Write decisions to disk, all or none; once this returns they survive a crash. An entry that is there stays as it is.

        Raises:
            UserError: if the disk is full, or another process does not let go of the file.
        """
        with sqlite_file.located(self.path):
            self._connection.execute("begin immediate")
            try:
                places = ", ".join("?" * 11)
                statement = f"insert or ignore into decisions ({_COLUMNS}) values ({places})"
                self._connection.executemany(statement, [_row(decision) for decision in decisions])
                self._connection.execute("commit")
            except BaseException:
                if self._connection.in_transaction:  # a full disk may already have rolled back
                    self._connection.execute("rollback")
                raise

    def since(self, number: int = 0) -> list[HumanDecision]:
        """The rows after that number, whoever wrote them, oldest first; raises FormatError if one is damaged."""
        with sqlite_file.located(self.path):
            rows = self._connection.execute(f"select {_COLUMNS}, number from decisions where number > ? order by number", (number,))
            return [_decision(self.path, row) for row in rows.fetchall()]


def stored_decisions(store: LabelStore) -> list[HumanDecision]:
    """Every row of the journal of a store that is open for reading, oldest first; none where people have decided nothing yet.

    Raises:
        FormatError: if a row is damaged.
    """
    if not store.query(_EXISTS):
        return []
    return [_decision(store.path, row) for row in store.query(f"select {_COLUMNS}, number from decisions order by number")]


def _row(decision: HumanDecision) -> tuple[object, ...]:
    """The values of a row."""
    labels = None if decision.labels is None else msgspec.json.encode(decision.labels).decode()
    made_at = decision.made_at or datetime.now(UTC).isoformat(timespec="milliseconds")
    first = (decision.entry, decision.text_id, decision.question, decision.person, labels, decision.mode, decision.note)
    return (*first, decision.skipped, decision.revealed, decision.undoes, made_at)


def _decision(path: pathlib.Path, row: tuple[object, ...]) -> HumanDecision:
    """The decision that a row holds; raises FormatError."""
    names = (*_COLUMNS.split(", "), "number")
    values = dict(zip(names, row, strict=True))
    try:
        if values["labels"] is not None:
            values["labels"] = msgspec.json.decode(str(values["labels"]))
        values.update(skipped=bool(values["skipped"]), revealed=bool(values["revealed"]))
        return msgspec.convert(values, HumanDecision)
    except msgspec.MsgspecError as error:
        problem = f"is damaged ({error}); restore a copy of the store"
        raise FormatError(path, f"decision {values['number']}", problem) from error
