"""The label store (`labels.db`): every path of every run, on disk before it is counted.

One SQLite file in WAL mode. A run is what decides its paths: task, prompts, teacher, build, settings; its digest names it, so the
same command finds its own run again and draws only what is missing. Soft labels are derived from here without a new token.
"""

from __future__ import annotations

import pathlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from contract import digest
from contract.errors import FormatError, UserError
from contract.texts import Text
from labeler.paths import TeacherPath, TooLong

FORMAT = 1
_SCHEMA = """
create table runs (
    run integer primary key, digest text not null unique, settings text not null);
create table texts (
    id text primary key, text text not null, target text, gold text) without rowid;
create table paths (
    run integer not null references runs, text_id text not null references texts, path integer not null, variant integer not null,
    seed integer not null, rationale text not null, word_logprobs text not null, n_prompt_tokens integer not null,
    n_generated integer not null, primary key (run, text_id, path)) without rowid;
create table too_long (
    run integer not null references runs, text_id text not null references texts, n_tokens integer not null,
    n_free integer not null, primary key (run, text_id)) without rowid;
"""


class RunSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Everything that decides a run's paths; two runs are the same when all of it is equal.

    Defaults are left out of the digest: a setting that a later version adds leaves earlier runs their names.
    """

    task_digest: str
    prompt_digest: str  # of the prefixes of all variants
    labels: list[str]
    words: list[str]  # all label words, in the order of the stored log-probabilities
    word_labels: list[int]  # index of the label that each word stands for
    teacher: str
    teacher_digest: str
    source_digest: str
    build: str
    mode: str
    n_variants: int
    temperature: float
    max_rationale_tokens: int
    seed: int
    n_direct: int = 0  # mode `cascade`: variants below this number are asked directly, the others reason first
    bound: float = 0.0  # above 0: a text gets no further path once its leading label is this probable to be the leader
    template: str = "plain"  # or "chat": the model's own chat template
    examples: str = "given"  # how worked examples are chosen
    guideline: bool = True  # whether the prompt holds the guideline
    deterministic: bool = False  # whether the schedule was fixed, so that the same run gives the same paths bit for bit

    def mode_of(self, variant: int) -> str:
        """`direct` or `cot`: how paths of that variant were asked."""
        if self.mode != "cascade":
            return self.mode
        return "direct" if variant < self.n_direct else "cot"

    @property
    def digest(self) -> str:
        """SHA-256 of all settings."""
        return digest.of_value(self)


@dataclass(frozen=True)
class Run:
    """A run in the store."""

    number: int
    settings: RunSettings


class LabelStore:
    """An open label store. Open it with :meth:`create` to write and :meth:`read` to read."""

    def __init__(self, path: pathlib.Path, connection: sqlite3.Connection, lock: sqlite3.Connection | None) -> None:
        """Use :meth:`create` or :meth:`read`."""
        self.path, self._connection, self._lock = path, connection, lock

    @classmethod
    def create(cls, path: pathlib.Path) -> LabelStore:
        """The store at ``path``, made if absent, for its only writer.

        Raises:
            FormatError: if another kind of file stands there, or the store is damaged or of another format.
            UserError: if somebody else is writing to it.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock(path)
        with _located(path):
            connection = sqlite3.connect(path, isolation_level=None)
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = full")
            if connection.execute("pragma user_version").fetchone()[0] == 0 and not _tables(connection):
                connection.executescript(f"begin; {_SCHEMA} pragma user_version = {FORMAT}; commit;")
            _check_format(path, connection)
        return cls(path, connection, lock)

    @classmethod
    def read(cls, path: pathlib.Path) -> LabelStore:
        """The store at ``path``, to read from, also while another process writes; raises FormatError."""
        if not path.is_file():
            raise FormatError(path, "", "no such label store; make one with: potstill label")
        with _located(path):
            connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
            _check_format(path, connection)
        return cls(path, connection, None)

    def close(self) -> None:
        """Close the file; the last writer folds the WAL into it."""
        self._connection.close()
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> LabelStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def runs(self) -> list[Run]:
        """All runs, oldest first; raises FormatError if the store is damaged."""
        with _located(self.path):
            rows = self._connection.execute("select run, settings from runs order by run").fetchall()
        try:
            return [Run(number, msgspec.json.decode(settings, type=RunSettings)) for number, settings in rows]
        except msgspec.MsgspecError as error:
            raise FormatError(self.path, "runs", f"settings cannot be read ({error}); look with: potstill labels check") from error

    def find_run(self, number: int | None) -> Run:
        """The run of that number, or the newest; raises UserError if there is none."""
        runs = {run.number: run for run in self.runs()}
        if not runs:
            raise UserError(f"{self.path}: holds no run; label something first with: potstill label")
        if number is None:
            return runs[max(runs)]
        if number not in runs:
            raise UserError(f"{self.path}: has no run {number}; it has {', '.join(map(str, runs))}")
        return runs[number]

    def begin_run(self, settings: RunSettings) -> Run:
        """The run with these settings, new or found again."""
        with _located(self.path):
            self._connection.execute(
                "insert or ignore into runs (digest, settings) values (?, ?)",
                (settings.digest, msgspec.json.encode(settings).decode()),
            )
            row = self._connection.execute("select run from runs where digest = ?", (settings.digest,)).fetchone()
        return Run(row[0], settings)

    def add_texts(self, texts: Iterable[Text]) -> None:
        """Remember the texts; a text already there keeps its row but takes the newer gold."""
        rows = [(_storable(t.id), _storable(t.text), t.target and _storable(t.target), t.gold) for t in texts]
        statement = "insert into texts values (?, ?, ?, ?) on conflict (id) do update set gold = coalesce(excluded.gold, gold)"
        self._write(statement, rows)

    def add(self, run: Run, results: Iterable[TeacherPath | TooLong]) -> None:
        """Put paths on disk, all or none; when this returns they survive a crash.

        Raises:
            UserError: if the disk is full; what was stored before is kept.
        """
        paths: list[tuple[Any, ...]] = []
        too_long: list[tuple[Any, ...]] = []
        for r in results:
            if isinstance(r, TooLong):
                too_long.append((run.number, r.text_id, r.n_tokens, r.n_free))
                continue
            logprobs = msgspec.json.encode(r.word_logprobs).decode()
            paths.append(
                (
                    run.number,
                    r.text_id,
                    r.path,
                    r.variant,
                    r.seed,
                    _storable(r.rationale),
                    logprobs,
                    r.n_prompt_tokens,
                    r.n_generated,
                )
            )
        self._write("insert into paths values (?, ?, ?, ?, ?, ?, ?, ?, ?)", paths)
        self._write("insert or replace into too_long values (?, ?, ?, ?)", too_long)

    def done(self, run: Run) -> dict[str, set[int]]:
        """Numbers of the stored paths, by text id."""
        found: dict[str, set[int]] = {}
        with _located(self.path):
            for text_id, path in self._connection.execute("select text_id, path from paths where run = ?", (run.number,)):
                found.setdefault(text_id, set()).add(path)
        return found

    def too_long(self, run: Run) -> set[str]:
        """Ids of the texts that did not fit."""
        with _located(self.path):
            return {row[0] for row in self._connection.execute("select text_id from too_long where run = ?", (run.number,))}

    def texts(self) -> dict[str, Text]:
        """All texts, by id."""
        with _located(self.path):
            rows = self._connection.execute("select text, id, target, gold from texts").fetchall()
        return {row[1]: Text(*row) for row in rows}

    def paths(self, run: Run) -> Iterator[TeacherPath]:
        """All paths of a run, by text id and path number."""
        query = (
            "select text_id, path, variant, seed, rationale, word_logprobs, n_prompt_tokens, n_generated "
            "from paths where run = ? order by text_id, path"
        )
        with _located(self.path):
            for row in self._connection.execute(query, (run.number,)):
                try:
                    words = msgspec.json.decode(row[5], type=tuple[float, ...])
                except msgspec.MsgspecError as error:
                    place, problem = f"path {row[1]} of text {row[0]!r}", f"{error}; look with: potstill labels check"
                    raise FormatError(self.path, place, problem) from error
                yield TeacherPath(row[0], row[1], row[2], row[3], row[4], words, row[6], row[7])

    def query(self, question: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows that answer a question that changes nothing; raises FormatError if the store is damaged."""
        with _located(self.path):
            return self._connection.execute(question, values).fetchall()

    def _write(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        """All rows in one transaction."""
        if not rows:
            return
        with _located(self.path):
            self._connection.execute("begin immediate")
            try:
                self._connection.executemany(statement, rows)
                self._connection.execute("commit")
            except BaseException:
                if self._connection.in_transaction:  # a full disk may already have rolled back
                    self._connection.execute("rollback")
                raise


def _storable(text: str) -> str:
    """The text without lone surrogates, which SQLite cannot store."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _lock(path: pathlib.Path) -> sqlite3.Connection:
    """A lock that the operating system drops when its holder dies, however it dies."""
    lock = sqlite3.connect(path.with_name(path.name + ".lock"), isolation_level=None, timeout=0)
    try:
        lock.execute("begin exclusive")
    except sqlite3.OperationalError as error:
        lock.close()
        raise UserError(f"{path}: another process is writing to it; wait for it, or label into another folder") from error
    return lock


def _tables(connection: sqlite3.Connection) -> set[str]:
    """Names of the tables."""
    return {row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")}


def _check_format(path: pathlib.Path, connection: sqlite3.Connection) -> None:
    """The file is a label store of this format."""
    found = connection.execute("pragma user_version").fetchone()[0]
    if found != FORMAT or not {"runs", "texts", "paths", "too_long"} <= _tables(connection):
        connection.close()
        raise FormatError(path, "", f"is not a label store of format {FORMAT} (found {found}); choose another place")


@contextmanager
def _located(path: pathlib.Path) -> Iterator[None]:
    """SQLite's complaints, with the file and what to do."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise UserError(
                f"{path}: the disk is full; paths stored so far are kept: free some space and run the same command again"
            ) from error
        raise UserError(f"{path}: {error}; check the disk and the file's permissions") from error
    except sqlite3.DatabaseError as error:
        raise FormatError(
            path, "", f"is damaged or not a label store ({error}); restore a copy or label into another folder"
        ) from error
