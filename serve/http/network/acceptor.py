"""Accept connections so that none waits long at a busy server, and all processes get a similar number.

asyncio accepts one connection per iteration of the event loop, and at a busy server an iteration answers every other client once:
of five hundred simultaneous connections, half had no answer for ten seconds. So many are accepted per iteration. Where processes
share the socket, the fastest would accept all of them: a process with more open connections than another one waits a moment.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from potstill.serve.http.telemetry.shared_counts import SharedCounts

PER_ITERATION = 64  # connections accepted in an iteration of the event loop
YIELD_S = 0.005  # to processes with fewer connections; after that this process accepts one in any case
RETRY_S = 1.0  # after an error, such as too many open files


class Acceptor:
    """Accepts connections in the event loop. `close` stops that and leaves the socket open."""

    def __init__(
        self,
        listener: socket.socket,
        make: Callable[[], asyncio.Protocol],
        n_open: Callable[[], int],
        counts: SharedCounts | None = None,
    ) -> None:
        """Start to accept connections.

        Args:
            listener: perhaps shared with other processes.
            make: creates the protocol of a new connection.
            n_open: gives the number of open connections of this process.
            counts: where the processes publish these numbers; None: there is only one process.
        """
        self._listener, self._make, self._n_open, self._counts = listener, make, n_open, counts
        self._loop = asyncio.get_running_loop()
        self._later: asyncio.TimerHandle | None = None
        self._joining: set[asyncio.Task[None]] = set()
        listener.setblocking(False)
        self.publish()
        self._loop.add_reader(listener, self._accept_waiting)

    def close(self) -> None:
        """Accept no more connections."""
        if self._later is not None:
            self._later.cancel()
            self._later = None
        else:
            self._loop.remove_reader(self._listener)

    def publish(self) -> None:
        """Publish the number of connections to the other processes."""
        if self._counts is not None:
            self._counts.publish_open(self._n_here())

    def _accept_waiting(self) -> None:
        """Accept the waiting connections, or leave them to a process with fewer."""
        for _ in range(PER_ITERATION):
            if self._counts is not None and self._n_here() > self._counts.fewest_open():
                self._pause(YIELD_S)
                return
            if not self._accept():
                return

    def _pause(self, seconds: float) -> None:
        """Stop accepting for a while; after that accept one connection in any case."""
        self._loop.remove_reader(self._listener)
        self._later = self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        """Accept again."""
        self._later = None
        self._loop.add_reader(self._listener, self._accept_waiting)
        self._accept()

    def _accept(self) -> bool:
        """Accept one connection; returns False if there is none."""
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False  # another process was faster, or the client has disconnected
        except OSError:
            self._pause(RETRY_S)
            return False
        connection.setblocking(False)
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._attach(connection))
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)
        self.publish()
        return True

    async def _attach(self, connection: socket.socket) -> None:
        """Hand a connection to the event loop."""
        try:
            await self._loop.connect_accepted_socket(self._make, connection)
        except OSError:
            connection.close()  # the client has disconnected

    def _n_here(self) -> int:
        """Open connections of this process, with those still being attached."""
        return self._n_open() + len(self._joining)
