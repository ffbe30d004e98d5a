"""The SQLite file of a label store: its lock, the checks before anything is written, and its errors as messages for a user."""

from __future__ import annotations

import os
import pathlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import locks
from potstill.contract.project import STORE_FILE

FORMAT = 1
_TABLES = {"runs", "texts", "paths", "too_long"}
_FULL_DISK_BYTES = 65536  # SQLite may report a full disk as an I/O error, or as a file that it cannot open


def lock(path: pathlib.Path) -> sqlite3.Connection:
    """Take the writer's lock, which the operating system releases when its holder dies in any way.

    Raises:
        UserError: if another process holds it, or the file system refuses or has no locks.
        FormatError: if the lock file is damaged.
    """
    file = path.with_name(path.name + ".lock")
    with located(file):
        held = sqlite3.connect(file, isolation_level=None, timeout=0)
        try:
            held.execute("begin exclusive")
        except BaseException as error:
            held.close()
            if isinstance(error, sqlite3.OperationalError):
                locks.check_available(path)
            if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise UserError(f"{path}: another process is writing to it; wait for it, or label into another folder") from error
            raise
    return held


def check_is_there(path: pathlib.Path) -> None:
    """Raise FormatError if there is no file; of a folder it says which file to name."""
    if path.is_dir():
        inside = path / STORE_FILE
        step = f"name the label store in it: {inside}" if inside.is_file() else f"name a label store, such as {inside}"
        raise FormatError(path, "", f"is a folder; {step}")
    if not path.is_file():
        raise FormatError(path, "", "no such label store; make one with: potstill label")


def open_read_only(path: pathlib.Path, *, tidy: bool = False) -> sqlite3.Connection:
    """Connect for reading only.

    Where nothing may be written beside the store (another user's folder, a read-only mount), SQLite cannot make the files that it
    reads a WAL through. Then a store without a WAL is read as a file that nobody changes; one with a WAL is read through the files
    that are there.

    Args:
        tidy: whether to remove the WAL files beside the store if this connection closes last.
    Raises:
        UserError: if the store has a WAL that can only be read by one who may write.
    """
    if os.access(path.parent, os.W_OK) and os.access(path, os.W_OK):
        return _connect(path, f"mode={'rw' if tidy else 'ro'}")
    wal = path.with_name(path.name + "-wal")
    if not wal.is_file() or not wal.stat().st_size:
        return _connect(path, "mode=ro&immutable=1")
    connection = _connect(path, "mode=ro")
    try:
        connection.execute("pragma user_version")
    except sqlite3.OperationalError as error:
        connection.close()
        raise UserError(
            f"{path}: its newest paths are still in {wal.name}, which only a user who may write there can read; "
            f"copy {path.name} and {wal.name} to a folder of your own"
        ) from error
    return connection


def _connect(path: pathlib.Path, mode: str) -> sqlite3.Connection:
    """Connect with those parameters of SQLite's URIs, and refuse to write."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, isolation_level=None)
    connection.execute("pragma query_only = on")
    return connection


def check_whole(path: pathlib.Path) -> None:
    """Check that the file is an intact label store of this format, or empty. It only reads; opening it to write would change it.

    Raises:
        FormatError: if it is not a label store of this format.
        sqlite3.DatabaseError: if it is damaged; :func:`located` turns that into a FormatError.
    """
    connection = open_read_only(path)
    try:
        if is_empty(connection):
            return
        check_format(path, connection)
        found = connection.execute("pragma quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(found.split("\n")[-1])
    finally:
        connection.close()


def is_empty(connection: sqlite3.Connection) -> bool:
    """Whether nothing was ever written to the file."""
    return connection.execute("pragma user_version").fetchone()[0] == 0 and not _tables(connection)


def _tables(connection: sqlite3.Connection) -> set[str]:
    """Names of the tables."""
    return {row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")}


def check_format(path: pathlib.Path, connection: sqlite3.Connection) -> None:
    """Check that the file is a label store of this format; raises FormatError."""
    found = connection.execute("pragma user_version").fetchone()[0]
    if found != FORMAT or _TABLES - _tables(connection):
        raise FormatError(path, "", f"is not a label store of format {FORMAT} (found {found}); choose another place")


@contextmanager
def located(path: pathlib.Path) -> Iterator[None]:
    """Turn errors of SQLite and the operating system into messages with the file and what to do.

    Raises:
        FormatError: if the file is damaged or not a label store.
        UserError: if the disk is full, or the file system refuses.
    """
    try:
        yield
    except (sqlite3.OperationalError, OSError) as error:
        code = getattr(error, "sqlite_errorcode", None)  # SQLite's binding leaves it out where a text is not UTF-8
        if isinstance(error, sqlite3.OperationalError) and code is None:
            raise _damaged(path, error) from error
        if code == sqlite3.SQLITE_FULL or _is_full(path):
            raise UserError(
                f"{path}: the disk is full; paths stored so far are kept: free some space and run the same command again"
            ) from error
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path}: {reason}; check the disk and the file's permissions") from error
    except sqlite3.DatabaseError as error:
        raise _damaged(path, error) from error


def _damaged(path: pathlib.Path, error: sqlite3.Error) -> FormatError:
    """The error for a file that is not what was written."""
    return FormatError(path, "", f"is damaged or not a label store ({error}); restore a copy or label into another folder")


def _is_full(path: pathlib.Path) -> bool:
    """Whether the file's disk has no room left."""
    place = next((folder for folder in path.absolute().parents if folder.is_dir()), None)
    if place is None:
        return False
    disk = os.statvfs(place)
    return disk.f_bavail * disk.f_frsize < _FULL_DISK_BYTES or (disk.f_files > 0 and disk.f_favail == 0)
