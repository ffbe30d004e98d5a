"""An open loop: requests are sent at times fixed beforehand, whatever the server does, and each one's latency counts from the time
it was due.

A client that waits for an answer before it sends the next request would ask less of a slow server and never see its queue
(coordinated omission). One that cannot keep up with its own times sees a queue, too, which is not the server's: how late it was is
told beside the latencies.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Sequence
from functools import partial

import numpy as np

from potstill.serve.bench.load.client import REFUSED, Address, Connection, give_up_in_time
from potstill.serve.bench.load.outcome import SEED, Outcome

MAX_CONNECTIONS = 512
AT_ONCE = 64  # requests that a client which is late sends before it looks at replies


async def open_loop(address: Address, requests: Sequence[bytes], rate_rps: float, seconds: float, seed: int = SEED) -> Outcome:
    """Send at random times (a Poisson process) with this mean rate.

    Args:
        address: of the server.
        requests: whole requests, sent in turn.
        rate_rps: requests a second, above 0.
        seconds: how long.
        seed: of the times.
    """
    outcome = Outcome(seconds=seconds)
    pool = _Pool(address, outcome)
    due_s = np.cumsum(np.random.default_rng(seed).exponential(1 / rate_rps, int(rate_rps * seconds * 1.5) + 10))
    start_s = time.perf_counter()
    watch = asyncio.create_task(give_up_in_time(lambda: pool.busy))
    for number, (due, request) in enumerate(zip(due_s[due_s < seconds].tolist(), itertools.cycle(requests)), start=1):
        late_s = time.perf_counter() - start_s - due
        if late_s < 0 or number % AT_ONCE == 0:
            await asyncio.sleep(max(0.0, -late_s))
        outcome.late_s.append(max(0.0, time.perf_counter() - start_s - due))
        pool.ask(request, start_s + due)
    await pool.finish()
    watch.cancel()
    return outcome


class _Pool:
    """Connections that are kept for the next request; what finds none free waits for one."""

    def __init__(self, address: Address, outcome: Outcome) -> None:
        """Args: of the server; where it is counted what came of the requests."""
        self._address, self._outcome = address, outcome
        self._idle: list[Connection] = []
        self.busy: set[Connection] = set()
        self._waiting: deque[tuple[bytes, float]] = deque()
        self._connecting: set[asyncio.Task[None]] = set()
        self._n_left = 0  # asked and not over
        self._changed = asyncio.Event()

    def ask(self, request: bytes, due_s: float) -> None:
        """Send a request that was due then."""
        self._n_left += 1
        self._send_or_wait(request, due_s)

    async def finish(self) -> None:
        """Wait until all are answered, and close the connections."""
        while self._n_left:
            self._changed.clear()
            await self._changed.wait()
        for connection in self._idle:
            connection.close()

    def _send_or_wait(self, request: bytes, due_s: float) -> None:
        """Send a request on a connection that is free, or a new one, or later."""
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                self._send(connection, request, due_s)
                return
        if len(self.busy) + len(self._connecting) < MAX_CONNECTIONS:
            task = asyncio.get_running_loop().create_task(self._connect(request, due_s))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)
        else:
            self._waiting.append((request, due_s))

    async def _connect(self, request: bytes, due_s: float) -> None:
        """Send a request on a new connection."""
        connection = await Connection.connect(self._address)
        if connection is None:
            self._count(REFUSED, due_s)
            self._next(None)
        else:
            self._send(connection, request, due_s)

    def _send(self, connection: Connection, request: bytes, due_s: float) -> None:
        """Send a request."""
        self.busy.add(connection)
        connection.send(request, partial(self._answered, connection, due_s))

    def _answered(self, connection: Connection, due_s: float, status: int) -> None:
        """Take a reply."""
        self.busy.remove(connection)
        self._count(status, due_s)
        self._next(connection if connection.open else None)

    def _next(self, connection: Connection | None) -> None:
        """Use a connection that is free now, or the room for another one."""
        if self._waiting and connection is not None:
            self._send(connection, *self._waiting.popleft())
        elif self._waiting:
            self._send_or_wait(*self._waiting.popleft())
        elif connection is not None:
            self._idle.append(connection)

    def _count(self, status: int, due_s: float) -> None:
        """One request is over."""
        self._outcome.statuses[status] += 1
        if status == 200:
            self._outcome.latencies_s.append(time.perf_counter() - due_s)
        self._n_left -= 1
        self._changed.set()
