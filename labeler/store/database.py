"""The label store (`labels.db`): every path of every run, on disk before it is counted.

One SQLite file in WAL mode. A run is identified by everything that decides its paths: task, prompts, teacher, build, settings. So
the same command finds its own run again and draws only what is missing. Soft labels are derived from the store without a new token.
"""

from __future__ import annotations

import pathlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import decode, digest
from potstill.contract.texts import Text
from potstill.labeler.candidates import Candidates
from potstill.labeler.store import candidate_rows, sqlite_file
from potstill.labeler.teacher import TeacherPath, TooLong

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

_OF_PATH = "text_id, path, variant, seed, rationale, word_logprobs, n_prompt_tokens, n_generated"


class RunSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Everything that decides a run's paths; runs with equal settings are the same run.

    Defaults are left out of the digest, so a setting that a later version adds does not change the digest of earlier runs.
    """

    task_digest: str
    prompt_digest: str  # of the prefixes of all variants
    labels: list[str]
    words: list[str]  # all label words, in the order of the stored log-probabilities
    word_labels: list[int]  # label index of each label word
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
    bound: float = 0.0  # above 0: a text gets no further path once its leading label is the leader with this probability
    template: str = "plain"  # or "chat": the model's own chat template
    thoughts: bool = False  # whether rationales are thoughts in the model's own channel
    examples: str = "given"  # how worked examples are chosen
    guideline: bool = True  # whether the prompt holds the guideline
    deterministic: bool = False  # whether the schedule was fixed, so that the same run gives bit-identical paths
    after: str = ""  # of a second teacher's run: digest of the run whose uncertain texts it was asked about
    kv_type: str = "f16"  # of the teacher's cached keys and values
    gpu_layers: int = 0  # of the teacher, when the run began; goes on with others, unless it is deterministic
    api: str = ""  # how a server was asked; empty: by /completions, or the model ran in this process
    question: str = ""  # of a task of several questions: the one that this run asks, or question/tag
    kind: str = ""  # of that question
    values: list[float] = []  # of a degree: what each level is worth
    candidates: int = 0  # labels that each text was asked among; 0: all
    wordings: int = 0  # of the question besides its own, each with words of its own

    @property
    def asks_some(self) -> bool:
        """Whether a path may have asked about some of the words alone."""
        return bool(self.candidates or self.wordings)

    def mode_of(self, variant: int) -> str:
        """The mode of one prompt variant: `direct` or `cot`."""
        if self.mode != "cascade":
            return self.mode
        return "direct" if variant < self.n_direct else "cot"

    def is_same_run(self, other: RunSettings) -> bool:
        """Whether paths with the other settings may be added to this run: how many layers fit a GPU differs from day to day."""
        if not self.deterministic:
            other = msgspec.structs.replace(other, gpu_layers=self.gpu_layers)
        return self == other

    @property
    def digest(self) -> str:
        """SHA-256 of all settings."""
        return digest.of_value(self)


@dataclass(frozen=True)
class Run:
    """A run in the store."""

    number: int
    settings: RunSettings


@dataclass(frozen=True)
class PathColumns:
    """What is derived from, column by column: without an object for each path, 200,000 of them are read in a second."""

    text_ids: Sequence[str] = ()
    variants: Sequence[int] = ()
    word_logprobs: Sequence[Sequence[float]] = ()
    n_prompt_tokens: Sequence[int] = ()
    n_generated: Sequence[int] = ()

    def followed_by(self, later: PathColumns, variants: Sequence[int]) -> PathColumns:
        """These columns with those of other paths after them, whose variants get other numbers."""
        return PathColumns(
            [*self.text_ids, *later.text_ids],
            [*self.variants, *variants],
            [*self.word_logprobs, *later.word_logprobs],
            [*self.n_prompt_tokens, *later.n_prompt_tokens],
            [*self.n_generated, *later.n_generated],
        )


class LabelStore:
    """An open label store: :meth:`create` opens it for writing, :meth:`read` for reading."""

    def __init__(self, path: pathlib.Path, connection: sqlite3.Connection, lock: sqlite3.Connection | None) -> None:
        """Use :meth:`create` or :meth:`read` instead."""
        self.path, self._connection, self._lock = path, connection, lock

    @classmethod
    def create(cls, path: pathlib.Path) -> LabelStore:
        """Open the store at ``path`` as its only writer; create it if absent.

        Raises:
            FormatError: if the file is not a label store, or one that is damaged or of another format; it is left untouched.
            UserError: if another process is writing to it, or the file system refuses.
        """
        with sqlite_file.located(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        lock = sqlite_file.lock(path)
        try:
            with sqlite_file.located(path):
                if path.exists():
                    sqlite_file.check_whole(path)
                connection = sqlite3.connect(path, isolation_level=None)
        except BaseException:
            lock.close()
            raise
        store = cls(path, connection, lock)
        try:
            with sqlite_file.located(path):
                connection.execute("pragma journal_mode = wal")
                connection.execute("pragma synchronous = full")
                if sqlite_file.is_empty(connection):
                    connection.executescript(f"begin; {_SCHEMA} pragma user_version = {sqlite_file.FORMAT}; commit;")
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def read(cls, path: pathlib.Path) -> LabelStore:
        """Open the store at ``path`` for reading, also while another process writes.

        Raises:
            FormatError: if there is no store, or it is damaged or of another format.
        """
        sqlite_file.check_is_there(path)
        with sqlite_file.located(path):
            connection = sqlite_file.open_read_only(path, tidy=True)
            try:
                sqlite_file.check_format(path, connection)
            except BaseException:
                connection.close()
                raise
        return cls(path, connection, None)

    def close(self) -> None:
        """Close the file; the last connection merges the WAL into it."""
        self._connection.close()
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> LabelStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def runs(self) -> list[Run]:
        """All runs, oldest first; raises FormatError if the store is damaged."""
        with sqlite_file.located(self.path):
            rows = self._connection.execute("select run, settings from runs order by run").fetchall()
        return [Run(number, _settings(self.path, number, settings)) for number, settings in rows]

    def find_run(self, number: int | None) -> Run:
        """The run with that number, or the newest for None; raises UserError if there is none."""
        runs = {run.number: run for run in self.runs()}
        if not runs:
            raise UserError(f"{self.path}: holds no run; label something first with: potstill label")
        if number is None:
            return runs[max(runs)]
        if number not in runs:
            raise UserError(f"{self.path}: has no run {number}; it has {', '.join(map(str, runs))}")
        return runs[number]

    def first_run(self, run: Run) -> Run | None:
        """The run whose uncertain texts this one's teacher was asked about; None where there was no teacher before.

        Raises:
            FormatError: if the store lacks that run.
        """
        if not run.settings.after:
            return None
        found = next((first for first in self.runs() if first.settings.digest == run.settings.after), None)
        if found is None:
            problem = "follows a run that the store lacks; restore a copy, or label into another folder"
            raise FormatError(self.path, f"run {run.number}", problem)
        return found

    def begin_run(self, settings: RunSettings) -> Run:
        """The run with these settings; added if absent.

        Settings are compared, not digests: a version that knows more settings may compute another digest for an older run.
        """
        for run in self.runs():
            if run.settings.is_same_run(settings):
                return run
        row = (settings.digest, msgspec.json.encode(settings).decode())
        self._write("insert into runs (digest, settings) values (?, ?)", [row])
        return self.runs()[-1]

    def add_texts(self, texts: Iterable[Text]) -> None:
        """Store the texts; a text that is already stored keeps its row but takes the newer gold label.

        Raises:
            UserError: if an id already belongs to a different text, whose paths would be taken for those of the new text.
        """
        rows = [(_storable(t.id), _storable(t.text), t.target and _storable(t.target), t.gold) for t in texts]
        stored = self.texts()
        for text_id, text, target, _ in rows:
            known = stored.get(text_id)
            if known and (known.text, known.target) != (text, target):
                raise UserError(
                    f"{self.path}: text {text_id!r} was another text when it was labelled ({known.text[:40]!r}); "
                    "give the changed text a new id, or label into another folder"
                )
        statement = "insert into texts values (?, ?, ?, ?) on conflict (id) do update set gold = coalesce(excluded.gold, gold)"
        self._write(statement, rows)

    def add(self, run: Run, results: Iterable[TeacherPath | TooLong]) -> None:
        """Write paths to disk, all or none; once this returns they survive a crash.

        Raises:
            UserError: if the disk is full; what was stored before is kept.
        """
        paths: list[tuple[Any, ...]] = []
        too_long: list[tuple[Any, ...]] = []
        for r in results:
            if isinstance(r, TooLong):
                too_long.append((run.number, r.text_id, r.n_tokens, r.n_free))
                continue
            words = candidate_rows.storable(r.word_logprobs) if run.settings.asks_some else r.word_logprobs
            rationale, logprobs = _storable(r.rationale), msgspec.json.encode(words).decode()
            key = (run.number, r.text_id, r.path, r.variant, r.seed)
            paths.append((*key, rationale, logprobs, r.n_prompt_tokens, r.n_generated))
        self._write("insert into paths values (?, ?, ?, ?, ?, ?, ?, ?, ?)", paths)
        self._write("insert or replace into too_long values (?, ?, ?, ?)", too_long)

    def add_candidates(self, run: Run, found: Mapping[str, Candidates]) -> dict[str, Candidates]:
        """Store the candidates of texts, and return the stored ones: a text keeps those that it was first asked among."""
        with sqlite_file.located(self.path):
            self._connection.execute(candidate_rows.SCHEMA)
        rows = [candidate_rows.row(run.number, text_id, own) for text_id, own in found.items()]
        self._write("insert or ignore into candidates values (?, ?, ?, ?)", rows)
        return self.candidates(run)

    def candidates(self, run: Run) -> dict[str, Candidates]:
        """The candidates of each text, by text id; none where a run asks about all labels; raises FormatError if damaged."""
        if not run.settings.candidates or not self.query(candidate_rows.EXISTS):
            return {}
        with sqlite_file.located(self.path):
            rows = self._connection.execute(candidate_rows.QUERY, (run.number,)).fetchall()
        return dict(candidate_rows.read(self.path, row, len(run.settings.labels)) for row in rows)

    def carry(self, old: Run, new: Run, text_ids: Iterable[str]) -> None:
        """Give a run what another has drawn about some texts, where both would ask the same words; what it has already stays."""
        rows = [(new.number, old.number, text_id) for text_id in text_ids]
        self._write(f"insert or ignore into paths select ?, {_OF_PATH} from paths where run = ? and text_id = ?", rows)
        self._write(
            "insert or ignore into too_long select ?, text_id, n_tokens, n_free from too_long where run = ? and text_id = ?", rows
        )

    def too_long(self, run: Run) -> set[str]:
        """Ids of the texts that did not fit in the teacher's context."""
        with sqlite_file.located(self.path):
            return {row[0] for row in self._connection.execute("select text_id from too_long where run = ?", (run.number,))}

    def texts(self) -> dict[str, Text]:
        """All texts, by id."""
        with sqlite_file.located(self.path):
            rows = self._connection.execute("select text, id, target, gold from texts").fetchall()
        return {row[1]: Text(*row) for row in rows}

    def paths(self, run: Run) -> Iterator[TeacherPath]:
        """All paths of a run, ordered by text id and path number; raises FormatError if the store is damaged."""
        query = f"select {_OF_PATH} from paths where run = ? order by text_id, path"
        with sqlite_file.located(self.path):
            for row in self._connection.execute(query, (run.number,)):
                words = _word_logprobs(self.path, row[0], row[1], row[5], run.settings)
                yield TeacherPath(row[0], row[1], row[2], row[3], row[4], words, row[6], row[7])

    def paths_of(self, run: Run, text_id: str) -> list[TeacherPath]:
        """The paths of one text, by number; raises FormatError if the store is damaged."""
        columns = "path, variant, seed, rationale, word_logprobs, n_prompt_tokens, n_generated"
        found = []
        for path, variant, seed, rationale, stored, n_prompt, n_generated in self.query(
            f"select {columns} from paths where run = ? and text_id = ? order by path", run.number, text_id
        ):
            words = _word_logprobs(self.path, text_id, path, stored, run.settings)
            found.append(TeacherPath(text_id, path, variant, seed, rationale, words, n_prompt, n_generated))
        return found

    def path_columns(self, run: Run) -> PathColumns:
        """The columns of a run's paths, in the order of :meth:`paths`; raises FormatError if the store is damaged."""
        columns = "text_id, variant, word_logprobs, n_prompt_tokens, n_generated, path"
        query = f"select {columns} from paths where run = ? order by text_id, path"
        with sqlite_file.located(self.path):
            rows = self._connection.execute(query, (run.number,)).fetchall()
        if not rows:
            return PathColumns()
        text_ids, variants, stored, n_prompt_tokens, n_generated, numbers = zip(*rows, strict=True)
        n_words = len(run.settings.words)
        try:
            together = f"[{','.join(stored)}]"
            some = run.settings.asks_some
            words = candidate_rows.words(together) if some else msgspec.json.decode(together, type=list[list[float]])
            if len(words) != len(rows) or any(len(row) != n_words for row in words):
                raise msgspec.ValidationError("not one number for each word")
        except (msgspec.MsgspecError, TypeError):  # find the path that is damaged, which raises
            words = [
                list(_word_logprobs(self.path, text_id, number, row, run.settings))
                for text_id, number, row in zip(text_ids, numbers, stored, strict=True)
            ]
        return PathColumns(text_ids, variants, words, n_prompt_tokens, n_generated)

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a read-only SQL statement; raises FormatError if the store is damaged."""
        with sqlite_file.located(self.path):
            return self._connection.execute(statement, values).fetchall()

    def _write(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        """Write all rows in one transaction."""
        if not rows:
            return
        with sqlite_file.located(self.path):
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
    return decode.encodable(text)


def _settings(path: pathlib.Path, number: int, stored: str) -> RunSettings:
    """Decode a run's settings."""
    try:
        return msgspec.json.decode(stored, type=RunSettings)
    except msgspec.MsgspecError as error:
        problem = f"are damaged or of a newer version ({error}); restore a copy, update potstill, or label into another folder"
        raise FormatError(path, f"settings of run {number}", problem) from error


def _word_logprobs(path: pathlib.Path, text_id: str, number: int, stored: str, settings: RunSettings) -> tuple[float, ...]:
    """Decode a path's log-probabilities."""
    words: tuple[float, ...] = ()
    try:
        some = settings.asks_some
        words = tuple(candidate_rows.words(f"[{stored}]")[0]) if some else msgspec.json.decode(stored, type=tuple[float, ...])
    except msgspec.MsgspecError:
        pass
    if len(words) != len(settings.words):
        problem = f"is damaged: its log-probabilities are {stored[:60]!r}; restore a copy, or label into another folder"
        raise FormatError(path, f"path {number} of text {text_id!r}", problem)
    return words
