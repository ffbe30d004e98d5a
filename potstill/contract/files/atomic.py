"""Putting a file or a folder in place whole or not at all, so that a crash or a full disk never leaves half of one."""

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
    """Write the bytes to a neighbour of ``path``, flush them to disk, and rename it into place.

    Raises:
        UserError: if the disk is full or the place cannot be written; what was at ``path`` is untouched.
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
    """An empty folder to fill; it becomes ``path`` when the block ends well, and vanishes when it does not.

    A folder already at ``path`` is exchanged with the new one in one step of the kernel, and then removed: whoever looks, or is
    killed in between, finds one of the two there and whole. Where the system has no such step the old one is moved aside first.

    Raises:
        UserError: if the disk is full, or something other than a folder stands at ``path``.
    """
    with _as_user_error(path):
        if path.exists() and not path.is_dir():
            raise UserError(f"{path}: is a file; name a folder, or a place where nothing is yet")
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


_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step; False, and nothing done, where the system or this file system cannot.

    Source: renameat2(2), Linux 3.15; the C library has it since glibc 2.28.
    """
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    return bool(rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0)


def _flush(folder: Path) -> None:
    """Have the disk hold every file of a folder before its name says that it is whole."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


# What a person can mend; any other OSError, a missing file that somebody wanted to read, say, is not about this place.
_REFUSALS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG),
}


@contextmanager
def _as_user_error(path: Path) -> Iterator[None]:
    """Tell a person what to do when the operating system refuses to write."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        problem = f"cannot be written ({error.strerror}); free some space or choose another place"
        raise UserError(f"{path}: {problem}") from error
