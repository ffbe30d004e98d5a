"""Taking connections, so that none of them waits long at a busy server, and no process stands idle while another has them all.

An event loop takes one connection a turn, and a turn at a busy server answers everybody else once: of five hundred connections
that came at once, half had no answer for ten seconds. So many are taken in a turn. Where several processes share the socket, each
is told of a new connection, and the quickest would have them all: one that has more open than some other leaves them to that one
for a moment.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from potstill.serve.http.telemetry.shared_counts import SharedCounts

AT_ONCE = 64  # connections that are taken in a turn
LEAVE_S = 0.005  # to the other processes; a connection that none of them has taken by then is taken all the same
NO_ROOM_S = 1.0  # before another try where the process may open no more files


class Acceptor:
    """Takes connections in the event loop; it closes as the servers of asyncio do, and leaves the socket open."""

    def __init__(
        self,
        listener: socket.socket,
        make: Callable[[], asyncio.Protocol],
        n_open: Callable[[], int],
        counts: SharedCounts | None = None,
    ) -> None:
        """Begin to take connections.

        Args:
            listener: perhaps shared with other processes.
            make: the protocol of a new connection.
            n_open: connections that this process has.
            counts: where the processes show how many they have; None: there is only this one.
        """
        self._listener, self._make, self._n_open, self._counts = listener, make, n_open, counts
        self._loop = asyncio.get_running_loop()
        self._later: asyncio.TimerHandle | None = None
        self._joining: set[asyncio.Task[None]] = set()
        listener.setblocking(False)
        self.show()
        self._loop.add_reader(listener, self._offered)

    def close(self) -> None:
        """Take no more."""
        if self._later is not None:
            self._later.cancel()
            self._later = None
        else:
            self._loop.remove_reader(self._listener)

    def show(self) -> None:
        """Show the other processes how many connections this one has."""
        if self._counts is not None:
            self._counts.show_open(self._n_here())

    def _offered(self) -> None:
        """Take what connections there are, or leave them to a process with fewer."""
        for _ in range(AT_ONCE):
            if self._counts is not None and self._n_here() > self._counts.fewest_open():
                self._pause(LEAVE_S)
                return
            if not self._take():
                return

    def _pause(self, seconds: float) -> None:
        """Look again later, at one connection before all others."""
        self._loop.remove_reader(self._listener)
        self._later = self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        """Look again."""
        self._later = None
        self._loop.add_reader(self._listener, self._offered)
        self._take()

    def _take(self) -> bool:
        """Take one connection; tells whether it was there."""
        try:
            taken, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False  # another process was quicker, or the client has gone
        except OSError:
            self._pause(NO_ROOM_S)
            return False
        taken.setblocking(False)
        if taken.family != socket.AF_UNIX:
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._join(taken))
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)
        self.show()
        return True

    async def _join(self, taken: socket.socket) -> None:
        """Have the event loop look after a connection."""
        try:
            await self._loop.connect_accepted_socket(self._make, taken)
        except OSError:
            taken.close()  # the client has gone

    def _n_here(self) -> int:
        """Connections of this process, and those that are about to be."""
        return self._n_open() + len(self._joining)
