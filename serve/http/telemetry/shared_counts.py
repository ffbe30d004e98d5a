"""Counts that the processes of one server show to each other, in memory that they share: no file, no port, no lock.

Each process has a slot, and writes only there. A slot begins with the connections that are open, then a number that is odd while
the rest is being written, then the length of what follows: the counts as MessagePack. Whoever reads a slot looks at the number
before and after.
"""

from __future__ import annotations

import mmap
import os
import struct

import msgspec

from potstill.serve.http.telemetry.prometheus import MetricsSnapshot

SLOT_BYTES = 1 << 20  # room for some thousand histograms; untouched pages cost nothing
_OPEN = struct.Struct("<Q")  # connections
_HEAD = struct.Struct("<QQ")  # how often it was written (twice each time), length
_COUNTS = _OPEN.size + _HEAD.size  # where the counts begin
_TRIES = 100


class SharedCounts:
    """The slots of all processes; `index` is the one that is written."""

    def __init__(self, descriptor: int, n_processes: int, index: int) -> None:
        """Args: of memory made by `new`; number of slots; the own one."""
        self._memory = mmap.mmap(descriptor, SLOT_BYTES * n_processes)
        self._n, self._index = n_processes, index
        self._decoder = msgspec.msgpack.Decoder(MetricsSnapshot)

    @staticmethod
    def new(n_processes: int) -> int:
        """A descriptor of fresh memory, to be handed to every process."""
        descriptor = os.memfd_create("potstill-counts")
        os.ftruncate(descriptor, SLOT_BYTES * n_processes)
        return descriptor

    def write(self, counts: MetricsSnapshot) -> None:
        """Replace the own slot's counts; what does not fit stays as it was."""
        data = msgspec.msgpack.encode(counts)
        if len(data) > SLOT_BYTES - _COUNTS:
            return
        start = SLOT_BYTES * self._index + _OPEN.size
        number, length = _HEAD.unpack_from(self._memory, start)
        number += number % 2  # left odd by a process that died while it wrote
        _HEAD.pack_into(self._memory, start, number + 1, length)
        self._memory[start + _HEAD.size : start + _HEAD.size + len(data)] = data
        _HEAD.pack_into(self._memory, start, number + 2, len(data))

    def show_open(self, n: int) -> None:
        """Say how many connections this process has open."""
        _OPEN.pack_into(self._memory, SLOT_BYTES * self._index, n)

    def fewest_open(self) -> int:
        """The connections of the process that has the fewest."""
        fewest: int = min(_OPEN.unpack_from(self._memory, SLOT_BYTES * index)[0] for index in range(self._n))
        return fewest

    def own(self) -> MetricsSnapshot:
        """What the own slot holds, from this process or the one before it."""
        return self._read(self._index)

    def all(self) -> list[MetricsSnapshot]:
        """What every slot holds."""
        return [self._read(index) for index in range(self._n)]

    def _read(self, index: int) -> MetricsSnapshot:
        """One slot; empty if it never held anything whole."""
        start = SLOT_BYTES * index + _OPEN.size
        for _ in range(_TRIES):
            number, length = _HEAD.unpack_from(self._memory, start)
            data = self._memory[start + _HEAD.size : start + _HEAD.size + length]
            if number % 2 == 0 and _HEAD.unpack_from(self._memory, start) == (number, length):
                return self._decoder.decode(data) if data else {}
        return {}
