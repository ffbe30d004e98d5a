"""Write a file or a folder atomically: a crash or a full disk never leaves half of one."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from potstill.contract.errors import UserError


def write_file(path: Path, data: bytes) -> None:
    """Write the bytes to a temporary file next to ``path``, flush it to disk, and rename it into place.

    A new file may be read by whom the process's umask lets; one that is replaced keeps its permissions.

    Raises:
        UserError: if the disk is full or the place cannot be written; an earlier file at ``path`` stays as it was.
    """
    with _as_user_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        new = _beside(path, "")
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)  # less the umask
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            _keep_permissions(path, new)
            os.replace(new, path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise


@contextmanager
def folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; it becomes ``path`` when the block succeeds, and is removed when it fails.

    A folder already at ``path`` is exchanged with the new one in one system call, then removed: at any moment one of the two is
    there and complete. Where the system has no such call, the old folder is moved aside first. Permissions are those of
    :func:`write_file`, for everything in the folder too.

    Raises:
        UserError: if the disk is full, or ``path`` exists and is not a folder.
    """
    with _as_user_error(path):
        if path.exists() and not path.is_dir():
            raise UserError(f"{path}: is a file; name a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_left_behind(path)
        staging = _beside(path, "new.")
        staging.mkdir()  # every permission less the umask
        lock = _locked(staging)
        mode = stat.S_IMODE(staging.stat().st_mode)
        try:
            yield staging
            _open_to(staging, mode)
            _keep_permissions(path, staging)
            _flush(staging)
            if not path.exists():
                os.rename(staging, path)
            elif not _exchange(staging, path):
                aside = _beside(path, "old.")
                aside.mkdir()
                os.rename(path, aside / path.name)
                os.rename(staging, path)
                shutil.rmtree(aside)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            if lock is not None:
                os.close(lock)


def _locked(folder: Path) -> int | None:
    """A descriptor that locks a folder until it is closed or the process ends; None if it is locked, gone or cannot be locked."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_left_behind(path: Path) -> None:
    """Remove what a process that was killed was filling; a living one holds a lock on its folder."""
    left = re.compile(rf"\.{re.escape(path.name)}\.new\.[0-9a-f]{{12}}")
    for other in [entry for entry in path.parent.iterdir() if left.fullmatch(entry.name)]:
        lock = _locked(other)
        if lock is not None:
            shutil.rmtree(other, ignore_errors=True)
            os.close(lock)


def _beside(path: Path, role: str) -> Path:
    """A free name for a temporary file or folder next to ``path``. `tempfile` gives everybody but the owner no access at all."""
    return path.parent / f".{path.name}.{role}{secrets.token_hex(6)}"


def _keep_permissions(path: Path, new: Path) -> None:
    """Give ``new`` the permissions of what it replaces, if there is any."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return
    if mode != stat.S_IMODE(new.stat().st_mode):
        os.chmod(new, mode)


_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # constants of Linux


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one system call; False, with nothing done, if the system or the file system cannot.

    Source: renameat2(2), Linux 3.15; the C library has it since glibc 2.28.
    """
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    return bool(rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0)


def _open_to(folder: Path, mode: int) -> None:
    """Give a folder and all in it the permissions of a new folder; a file keeps whether it can be executed.

    Libraries set their own: safetensors writes for the owner alone, and a copied file keeps what it had elsewhere.
    """
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink():
            continue
        found = stat.S_IMODE(path.stat().st_mode)
        wanted = mode if path.is_dir() else mode & (0o666 | found & 0o111)
        if found != wanted:
            path.chmod(wanted)


def _flush(folder: Path) -> None:
    """Flush every file of a folder to disk, before the folder gets its final name."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


# Errors that a person can fix. Any other OSError, such as a missing file that was to be read, is not about this place.
_REFUSALS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG),
}


@contextmanager
def _as_user_error(path: Path) -> Iterator[None]:
    """Turn a refusal of the operating system to write into a UserError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        problem = f"cannot be written ({error.strerror}); free some space or choose another place"
        raise UserError(f"{path}: {problem}") from error
