"""Locks on files, by which one process alone writes: taken, held by another process, or not to be had on this file system."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path
from typing import IO, Any

from potstill.contract.errors import UserError


class HeldError(Exception):
    """Another process holds the lock."""


def take(path: Path, file: IO[Any]) -> None:
    """Lock an open file until it is closed or the process ends in any way.

    Args:
        path: of the file, or of what it guards; for the message.
        file: open for writing.
    Raises:
        HeldError: if another process holds the lock.
        UserError: if the file system has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise HeldError from error
    except OSError as error:
        raise _no_locks(path, error) from error


def check_available(path: Path) -> None:
    """Check that files beside ``path`` can be locked, as SQLite locks them.

    SQLite takes the refusal of such a file system (ENOLCK) for the lock of another process, so it has to be told apart here.

    Raises:
        UserError: if the file system has no locks.
    """
    try:
        with tempfile.TemporaryFile(dir=path.absolute().parent) as probe:
            fcntl.lockf(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.lockf(probe, fcntl.LOCK_UN)
    except PermissionError:
        return  # nothing can be written there, which is another matter
    except OSError as error:
        raise _no_locks(path, error) from error


def _no_locks(path: Path, error: OSError) -> UserError:
    """The error about a file system without locks."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    return UserError(
        f"{path}: its file system gives no locks ({reason}), so nothing could keep a second process from writing "
        "there too; choose a folder on a local disk"
    )
