"""The SQLite file under a label store: its lock, the checks before anything is written, and what its errors mean to a person."""

from __future__ import annotations

import os
import pathlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from potstill.contract.errors import FormatError, UserError

FORMAT = 1
_TABLES = {"runs", "texts", "paths", "too_long"}
_FULL_DISK_BYTES = 65536  # SQLite calls a full disk an I/O error, or a file it cannot open, where it maps or makes one


def lock(path: pathlib.Path) -> sqlite3.Connection:
    """A lock that the operating system drops when its holder dies, however it dies."""
    file = path.with_name(path.name + ".lock")
    with located(file):
        held = sqlite3.connect(file, isolation_level=None, timeout=0)
        try:
            held.execute("begin exclusive")
        except BaseException as error:
            held.close()
            if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise UserError(f"{path}: another process is writing to it; wait for it, or label into another folder") from error
            raise
    return held


def open_read_only(path: pathlib.Path, *, tidy: bool = False) -> sqlite3.Connection:
    """A connection that changes nothing. Args: tidy, whether it removes the files beside the store if it is the last to close."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode={'rw' if tidy else 'ro'}", uri=True, isolation_level=None)
    connection.execute("pragma query_only = on")
    return connection


def check_whole(path: pathlib.Path) -> None:
    """The file is a whole label store of this format, or empty; looks without touching it, because opening to write would."""
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
    """Whether nothing was ever put into the file."""
    return connection.execute("pragma user_version").fetchone()[0] == 0 and not _tables(connection)


def _tables(connection: sqlite3.Connection) -> set[str]:
    """Names of the tables."""
    return {row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")}


def check_format(path: pathlib.Path, connection: sqlite3.Connection) -> None:
    """The file is a label store of this format."""
    found = connection.execute("pragma user_version").fetchone()[0]
    if found != FORMAT or _TABLES - _tables(connection):
        raise FormatError(path, "", f"is not a label store of format {FORMAT} (found {found}); choose another place")


@contextmanager
def located(path: pathlib.Path) -> Iterator[None]:
    """SQLite's complaints, and the operating system's, with the file and what to do."""
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
    """The file is not what was written."""
    return FormatError(path, "", f"is damaged or not a label store ({error}); restore a copy or label into another folder")


def _is_full(path: pathlib.Path) -> bool:
    """Whether the disk that the file belongs on has no room left."""
    place = next((folder for folder in path.absolute().parents if folder.is_dir()), None)
    if place is None:
        return False
    disk = os.statvfs(place)
    return disk.f_bavail * disk.f_frsize < _FULL_DISK_BYTES or (disk.f_files > 0 and disk.f_favail == 0)
