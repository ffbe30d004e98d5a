"""Counts of several processes in shared memory, without a file, a port or a lock.

Each process writes to its own slot only. A slot has the number of open connections and that of turns of the event loop, then a
sequence number that is odd during a write, then the length of the counts, then the counts as MessagePack. A reader checks that the
sequence number has not changed.
"""

from __future__ import annotations

import mmap
import os
import struct

import msgspec

from potstill.serve.http.telemetry.prometheus import MetricsSnapshot

SLOT_BYTES = 1 << 20  # enough for some thousand histograms; untouched pages take no memory
_OPEN = struct.Struct("<Q")  # connections
_TURNS = struct.Struct("<Q")  # counted while the event loop runs
_HEAD = struct.Struct("<QQ")  # sequence number (two for each write), length
_BEFORE = _OPEN.size + _TURNS.size
_COUNTS = _BEFORE + _HEAD.size  # offset of the counts
_TRIES = 100


class SharedCounts:
    """The slots of all processes; this process writes to the one at `index`."""

    def __init__(self, descriptor: int, n_processes: int, index: int) -> None:
        """Args: descriptor made by `new`; number of slots; index of this process's slot, from 0."""
        self._memory = mmap.mmap(descriptor, SLOT_BYTES * n_processes)
        self._n, self._index = n_processes, index
        self._decoder = msgspec.msgpack.Decoder(MetricsSnapshot)

    @staticmethod
    def new(n_processes: int) -> int:
        """Create shared memory; returns its descriptor, for every process to inherit."""
        descriptor = os.memfd_create("potstill-counts")
        os.ftruncate(descriptor, SLOT_BYTES * n_processes)
        return descriptor

    def write(self, counts: MetricsSnapshot) -> None:
        """Replace the counts of this process; counts too large for a slot are not written."""
        data = msgspec.msgpack.encode(counts)
        if len(data) > SLOT_BYTES - _COUNTS:
            return
        start = SLOT_BYTES * self._index + _BEFORE
        number, length = _HEAD.unpack_from(self._memory, start)
        number += number % 2  # odd if an earlier process died during a write
        _HEAD.pack_into(self._memory, start, number + 1, length)
        self._memory[start + _HEAD.size : start + _HEAD.size + len(data)] = data
        _HEAD.pack_into(self._memory, start, number + 2, len(data))

    def publish_open(self, n: int) -> None:
        """Publish the number of open connections of this process."""
        _OPEN.pack_into(self._memory, SLOT_BYTES * self._index, n)

    def count_turn(self) -> None:
        """Show that the event loop of this process runs."""
        at = SLOT_BYTES * self._index + _OPEN.size
        _TURNS.pack_into(self._memory, at, (_TURNS.unpack_from(self._memory, at)[0] + 1) % 2**64)

    def turns(self, index: int) -> int:
        """The turns that a process has counted; a number that stays the same means that it stands still."""
        turns: int = _TURNS.unpack_from(self._memory, SLOT_BYTES * index + _OPEN.size)[0]
        return turns

    def fewest_open(self) -> int:
        """The smallest number of open connections of any process."""
        fewest: int = min(_OPEN.unpack_from(self._memory, SLOT_BYTES * index)[0] for index in range(self._n))
        return fewest

    def own(self) -> MetricsSnapshot:
        """The counts in this process's slot, perhaps from the process that it replaces."""
        return self._read(self._index)

    def all(self) -> list[MetricsSnapshot]:
        """The counts in every slot."""
        return [self._read(index) for index in range(self._n)]

    def _read(self, index: int) -> MetricsSnapshot:
        """The counts in a slot; empty if none were written, or no complete read succeeds."""
        start = SLOT_BYTES * index + _BEFORE
        for _ in range(_TRIES):
            number, length = _HEAD.unpack_from(self._memory, start)
            data = self._memory[start + _HEAD.size : start + _HEAD.size + length]
            if number % 2 == 0 and _HEAD.unpack_from(self._memory, start) == (number, length):
                return self._decoder.decode(data) if data else {}
        return {}
