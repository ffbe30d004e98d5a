"""Read plain files of an open folder, whatever takes the folder's place meanwhile: no link is followed, and no pipe blocks."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

_PIECE_BYTES = 1 << 20


class TooLargeError(Exception):
    """A file has more bytes than are accepted."""


def open_folder(folder: Path) -> int | None:
    """A descriptor of the folder, None if it cannot be opened or is no folder."""
    try:
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None


def is_still_there(folder: Path, descriptor: int) -> bool:
    """Tell whether the path still leads to the folder that was opened."""
    opened = os.fstat(descriptor)
    try:
        now = folder.stat()
    except OSError:
        return False
    return (now.st_dev, now.st_ino) == (opened.st_dev, opened.st_ino)


def read_plain(descriptor: int, name: str, max_bytes: int | None = None, *, keep: bool = True) -> tuple[str, bytes] | None:
    """(SHA-256 of a file, its bytes); None if it is missing, unreadable or not a plain file.

    Args:
        descriptor: of the folder.
        name: of the file; a link is not followed, and a pipe does not block.
        max_bytes: the largest accepted size; None: any.
        keep: False: the bytes are not kept, and b"" is returned for them.
    Raises:
        TooLargeError: if the file has more bytes; no more than that are read.
    """
    kept: list[bytes] = []
    n_bytes = 0
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=descriptor)
    except OSError:
        return None
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            return None
        if max_bytes is not None and found.st_size > max_bytes:
            raise TooLargeError
        state = hashlib.sha256()
        while piece := os.read(file, _PIECE_BYTES):
            n_bytes += len(piece)
            if max_bytes is not None and n_bytes > max_bytes:
                raise TooLargeError
            state.update(piece)
            if keep:
                kept.append(piece)
    except OSError:
        return None
    finally:
        os.close(file)
    return state.hexdigest(), b"".join(kept)
