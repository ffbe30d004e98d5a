"""What a label store holds, in a moment and without a trace: it is opened for reading, and no file appears beside it.

Where counting takes too long, the number of paths is estimated from the size of the file.
"""

from __future__ import annotations

import pathlib
import sqlite3
import time
from dataclasses import dataclass, field

import msgspec

from potstill.labeler.store import sqlite_file
from potstill.labeler.store.database import RunSettings

COUNTING_S = 0.3  # for the paths; the whole of `potstill status` should take less than a second
_STEPS = 10_000  # of SQLite between two looks at the clock
_SAMPLED = 5_000  # paths whose mean size stands for all; the first ones, so that two looks say the same


@dataclass
class RunFigures:
    """The paths of one run."""

    number: int
    settings: RunSettings
    n_texts: int = 0
    n_paths: int = 0
    n_prompt_tokens: int = 0  # after the shared prefix, of each path for itself
    n_generated: int = 0


@dataclass(frozen=True)
class StoreFigures:
    """What a store holds."""

    n_texts: int
    n_gold: int  # of the texts
    runs: list[RunFigures] = field(default_factory=list)  # oldest first
    n_paths: int = 0
    exact: bool = True  # False: n_paths is an estimate, and the runs' figures are not known
    is_written: bool = False  # another process is writing to it


def store_figures(path: pathlib.Path, counting_s: float = COUNTING_S) -> StoreFigures:
    """Look into a store. Args: counting_s, time for counting paths.

    Raises:
        FormatError: if it is missing, damaged or of another format.
    """
    with sqlite_file.located(path):
        connection = _untouched(path)
        try:
            sqlite_file.check_format(path, connection)
            n_texts, n_gold = connection.execute("select count(*), count(gold) from texts").fetchone()
            stored = connection.execute("select run, settings from runs order by run").fetchall()
            runs = {number: RunFigures(number, _settings(path, settings)) for number, settings in stored}
            n_paths, exact = _count(connection, runs, time.monotonic() + counting_s)
        finally:
            connection.close()
    return StoreFigures(n_texts, n_gold, list(runs.values()), n_paths, exact, _is_written(path))


def _untouched(path: pathlib.Path) -> sqlite3.Connection:
    """Connect so that no file beside the store is made or removed: without a WAL it is read as one that nobody changes."""
    wal = path.with_name(path.name + "-wal")
    lone = not wal.is_file() or not wal.stat().st_size
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' * lone}", uri=True, isolation_level=None)
    connection.execute("pragma query_only = on")
    return connection


def _count(connection: sqlite3.Connection, runs: dict[int, RunFigures], until: float) -> tuple[int, bool]:
    """(number of paths, whether it is exact); fills the runs if it is. Args: until, on the monotonic clock."""
    connection.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
    try:
        totals = connection.execute(
            "select run, count(*), sum(n_prompt_tokens), sum(n_generated) from paths group by run"
        ).fetchall()
        texts = dict(
            connection.execute("select run, count(*) from (select distinct run, text_id from paths) group by run").fetchall()
        )
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        connection.set_progress_handler(None, 0)
        return _estimate(connection), False
    finally:
        connection.set_progress_handler(None, 0)
    for number, n_paths, n_prompt, n_generated in totals:
        if run := runs.get(number):
            run.n_texts, run.n_paths, run.n_prompt_tokens, run.n_generated = texts[number], n_paths, n_prompt, n_generated
    return sum(n_paths for _, n_paths, _, _ in totals), True


def _estimate(connection: sqlite3.Connection) -> int:
    """The number of paths, from the size of the file and of the first ones."""
    size = "length(rationale) + length(word_logprobs) + length(text_id) + 24"
    n_rows, n_bytes = connection.execute(f"select count(*), sum({size}) from (select * from paths limit {_SAMPLED})").fetchone()
    (pages,), (page_bytes,) = (connection.execute(f"pragma {name}").fetchone() for name in ("page_count", "page_size"))
    text_bytes = connection.execute("select avg(length(text) + 100) from (select text from texts limit 500)").fetchone()[0] or 0
    n_texts = connection.execute("select count(*) from texts").fetchone()[0]
    return max(n_rows, round((pages * page_bytes - text_bytes * n_texts) / (n_bytes / n_rows))) if n_rows else 0


def _settings(path: pathlib.Path, stored: str) -> RunSettings:
    """A run's settings; raises sqlite3.DatabaseError, which becomes a FormatError, if they are damaged."""
    try:
        return msgspec.json.decode(stored, type=RunSettings)
    except msgspec.MsgspecError as error:
        raise sqlite3.DatabaseError(f"the settings of a run cannot be read: {error}") from error


def _is_written(path: pathlib.Path) -> bool:
    """Whether somebody holds the writer's lock; it is asked about, not taken, and through SQLite alone.

    Another way to open the file would, once closed, drop the lock of a writer in this very process.
    """
    lock = path.with_name(path.name + ".lock")
    if not lock.is_file():
        return False
    connection = sqlite3.connect(f"{lock.absolute().as_uri()}?mode=ro", uri=True, timeout=0)
    try:
        connection.execute("select 1 from sqlite_master").fetchall()
    except sqlite3.OperationalError as error:
        return error.sqlite_errorcode == sqlite3.SQLITE_BUSY
    finally:
        connection.close()
    return False
