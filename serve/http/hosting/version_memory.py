"""A version of a bundle in memory that processes share: a descriptor is handed on, and every process opens exactly these files.

A folder may be exchanged at any moment; what a process reads there after a while may be another version. Memory costs the size of
the files once, however many processes there are.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import msgspec

from potstill.contract.bundle import BundleFiles


class _Packed(msgspec.Struct, frozen=True):
    """The files as they lie in the memory, as MessagePack."""

    folder: str
    digest: str
    contents: dict[str, bytes]
    trust: bool


def pack(files: BundleFiles) -> int:
    """Put files into memory of their own; returns its descriptor, for other processes to inherit or to receive."""
    descriptor = os.memfd_create("potstill-version")
    data = memoryview(msgspec.msgpack.encode({**asdict(files), "folder": str(files.folder)}))
    while data:
        data = data[os.write(descriptor, data) :]
    return descriptor


def unpack(descriptor: int) -> BundleFiles:
    """The files in the memory behind a descriptor, which stays open; every process may read it, at any time."""
    size, pieces, at = os.fstat(descriptor).st_size, [], 0
    while at < size:
        piece = os.pread(descriptor, size - at, at)
        if not piece:
            break
        pieces.append(piece)
        at += len(piece)
    packed = msgspec.msgpack.decode(b"".join(pieces), type=_Packed)
    return BundleFiles(Path(packed.folder), packed.digest, packed.contents, packed.trust)
