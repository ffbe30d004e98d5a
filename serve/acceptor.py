"""Taking connections from a socket that several processes share, so that none of them stands idle while another has them all.

Every process is told of a new connection, and the quickest would take it, with all others that wait: a process takes one at a
time, and one that has more open than some other leaves it to that one for a moment.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from serve.shared_counts import SharedCounts

LEAVE_S = 0.005  # to the others; a connection that none of them has taken by then is taken all the same
NO_ROOM_S = 1.0  # before another try where the process may open no more files


class Acceptor:
    """Takes connections in the event loop; it closes as the servers of asyncio do, and leaves the socket open."""

    def __init__(
        self, listener: socket.socket, make: Callable[[], asyncio.Protocol], n_open: Callable[[], int], counts: SharedCounts
    ) -> None:
        """Begin to take connections.

        Args:
            listener: shared with the other processes.
            make: the protocol of a new connection.
            n_open: connections that this process has.
            counts: where the processes show how many they have.
        """
        self._listener, self._make, self._n_open, self._counts = listener, make, n_open, counts
        self._loop = asyncio.get_running_loop()
        self._later: asyncio.TimerHandle | None = None
        self._joining: set[asyncio.Task[None]] = set()
        listener.setblocking(False)
        counts.show_open(n_open())
        self._loop.add_reader(listener, self._offered)

    def close(self) -> None:
        """Take no more."""
        if self._later is not None:
            self._later.cancel()
            self._later = None
        else:
            self._loop.remove_reader(self._listener)

    def _offered(self) -> None:
        """Take a connection, or leave it to a process with fewer."""
        if self._n_here() > self._counts.fewest_open():
            self._loop.remove_reader(self._listener)
            self._later = self._loop.call_later(LEAVE_S, self._take_what_is_left)
        else:
            self._take()

    def _take_what_is_left(self) -> None:
        """Look again."""
        self._later = None
        self._loop.add_reader(self._listener, self._offered)
        self._take()

    def _take(self) -> None:
        """Take one connection, if it is still there."""
        try:
            taken, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another process was quicker, or the client has gone
        except OSError:
            self._loop.remove_reader(self._listener)
            self._later = self._loop.call_later(NO_ROOM_S, self._take_what_is_left)
            return
        taken.setblocking(False)
        if taken.family != socket.AF_UNIX:
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._join(taken))
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)
        self._counts.show_open(self._n_here())

    async def _join(self, taken: socket.socket) -> None:
        """Have the event loop look after a connection."""
        try:
            await self._loop.connect_accepted_socket(self._make, taken)
        except OSError:
            taken.close()  # the client has gone

    def _n_here(self) -> int:
        """Connections of this process, and those that are about to be."""
        return self._n_open() + len(self._joining)
