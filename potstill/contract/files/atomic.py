"""Write a file or a folder atomically: a crash or a full disk never leaves half of one.

A killed process leaves behind what it was filling, under a hidden name beside the place. Whoever writes to that place next removes
it: what a living process fills is locked, what a dead one left is not.
"""

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
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from potstill.contract.errors import UserError


def write_file(path: Path, data: bytes) -> None:
    """Write the bytes to a temporary file next to ``path``, flush it to disk, and rename it into place.

    A new file may be read by whom the process's umask lets; one that is replaced keeps its permissions.

    Raises:
        UserError: if the disk is full or the place cannot be written; an earlier file at ``path`` stays as it was.
    """
    with growing_file(path) as file:
        file.write(data)


@contextmanager
def growing_file(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file to write; it becomes ``path`` when the block succeeds, and is removed when it fails.

    Everything else is as in :func:`write_file`.
    """
    with as_user_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_left_behind(path.parent, f".{path.name}.")
        new, handle = _new_file(path)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                _keep_permissions(path, new)
                os.replace(new, path)  # while it is still locked
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
    with as_user_error(path):
        if path.exists() and not path.is_dir():
            raise UserError(f"{path}: is a file; name a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_left_behind(path.parent, f".{path.name}.new.")
        staging, lock = _new_folder(path.parent, f".{path.name}.new.", 0o777)  # less the umask
        mode = stat.S_IMODE(staging.stat().st_mode)
        try:
            yield staging
            _open_to(staging, mode)
            _keep_permissions(path, staging)
            _flush(staging)
            if not path.exists():
                os.rename(staging, path)
            elif not _exchange(staging, path):
                aside = _beside(path.parent, f".{path.name}.old.")
                aside.mkdir()
                os.rename(path, aside / path.name)
                os.rename(staging, path)
                shutil.rmtree(aside)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            if lock is not None:
                os.close(lock)


def remove_folder(path: Path) -> None:
    """Remove a folder, if it is there, in one step: whenever this process is killed, it is whole or gone.

    It is renamed first; what a kill leaves of it under the other name is removed by :func:`remove_left_behind`.
    """
    gone = _beside(path.parent, f".{path.name}.gone.")
    try:
        os.rename(path, gone)
    except FileNotFoundError:
        return
    shutil.rmtree(gone, ignore_errors=True)


def remove_left_behind(path: Path) -> None:
    """Remove what killed processes left of folders that they were removing from ``path``."""
    _remove_left_behind(path.parent, f".{path.name}.gone.")


@contextmanager
def scratch(name: str, place: Path | None = None) -> Iterator[Path]:
    """Yield an empty folder for this user alone, which is removed with all in it when the block ends.

    Args:
        name: the folder's is `name-` and some random letters. What killed processes of this user left under such names goes first.
        place: the folder it is made in; None: the system's for temporary files.
    """
    parent = Path(tempfile.gettempdir()) if place is None else place
    _remove_left_behind(parent, f"{name}-")
    folder, lock = _new_folder(parent, f"{name}-", 0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _new_file(path: Path) -> tuple[Path, int]:
    """(a new file beside ``path``, its open and locked descriptor)."""
    while True:
        new = _beside(path.parent, f".{path.name}.")
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)  # less the umask
        if _still_there(new, handle):
            return new, handle
        os.close(handle)


def _new_folder(parent: Path, prefix: str, mode: int) -> tuple[Path, int | None]:
    """(a new folder, a descriptor that locks it until it is closed, None where the file system has no locks)."""
    while True:
        new = _beside(parent, prefix)
        new.mkdir(mode)
        lock = _opened(new)
        if lock is None or _still_there(new, lock):
            return new, lock
        os.close(lock)


def _still_there(new: Path, descriptor: int) -> bool:
    """Lock what was just made; False if another process took it for left behind before the lock was there, and removed it."""
    with suppress(OSError):  # a file system without locks
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return new.exists()


def _opened(path: Path) -> int | None:
    """A descriptor of a file or folder, for its lock; None if it is gone, a link, or may not be read."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None


def _remove_left_behind(parent: Path, prefix: str) -> None:
    """Remove what a process of this user that was killed was filling; a living one holds a lock on it."""
    name = re.compile(re.escape(prefix) + "[0-9a-f]{12}")
    try:
        found_here = [entry for entry in parent.iterdir() if name.fullmatch(entry.name)]
    except (FileNotFoundError, PermissionError):  # a folder may be written without being read
        return
    for left in found_here:
        descriptor = _opened(left)
        if descriptor is None:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = os.fstat(descriptor)
            if found.st_uid == os.geteuid():  # anybody may write to the system's folder for temporary files
                shutil.rmtree(left, ignore_errors=True) if stat.S_ISDIR(found.st_mode) else left.unlink(missing_ok=True)
        except OSError:
            continue  # it is locked, or cannot be
        finally:
            os.close(descriptor)


def _beside(parent: Path, prefix: str) -> Path:
    """A free name. `tempfile`'s own would give everybody but the owner no access at all."""
    return parent / f"{prefix}{secrets.token_hex(6)}"


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
def as_user_error(path: Path) -> Iterator[None]:
    """Turn a refusal of the operating system to write into a UserError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        problem = f"cannot be written ({error.strerror}); free some space or choose another place"
        raise UserError(f"{path}: {problem}") from error
