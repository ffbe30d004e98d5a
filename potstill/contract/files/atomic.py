"""Write a file or a folder atomically: a crash or a full disk never leaves half of one."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from potstill.contract.errors import UserError


def write_file(path: Path, data: bytes) -> None:
    """Write the bytes to a temporary file next to ``path``, flush it to disk, and rename it into place.

    Raises:
        UserError: if the disk is full or the place cannot be written; an earlier file at ``path`` stays as it was.
    """
    with _as_user_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


@contextmanager
def folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; it becomes ``path`` when the block succeeds, and is removed when it fails.

    A folder already at ``path`` is exchanged with the new one in one system call, then removed: at any moment one of the two is
    there and complete. Where the system has no such call, the old folder is moved aside first.

    Raises:
        UserError: if the disk is full, or ``path`` exists and is not a folder.
    """
    with _as_user_error(path):
        if path.exists() and not path.is_dir():
            raise UserError(f"{path}: is a file; name a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.new."))
        try:
            yield staging
            os.chmod(staging, 0o755)
            _flush(staging)
            if not path.exists():
                os.rename(staging, path)
            elif not _exchange(staging, path):
                aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
                os.rename(path, aside / path.name)
                os.rename(staging, path)
                shutil.rmtree(aside)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


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
