"""An open loop: requests are sent at times fixed in advance, and each one's latency counts from the time it was due.

A client that waits for a reply before it sends the next request would send less to a slow server and never see its queue
(coordinated omission). A client that cannot keep up with its own schedule sees a queue that is not the server's; so its delay is
reported with the latencies.
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
from potstill.serve.bench.load.result import LoadResult

MAX_CONNECTIONS = 512
AT_ONCE = 64  # requests that a late client sends before it handles replies


async def open_loop(address: Address, requests: Sequence[bytes], rate_rps: float, seconds: float, seed: int = 0) -> LoadResult:
    """Send requests at random times (a Poisson process) with this mean rate.

    Args:
        address: the server's.
        requests: complete requests, sent in turn.
        rate_rps: mean rate in requests per second, above 0.
        seconds: duration in seconds, above 0.
        seed: of the random times.
    """
    result = LoadResult(seconds=seconds)
    pool = _Pool(address, result)
    due_s = np.cumsum(np.random.default_rng(seed).exponential(1 / rate_rps, int(rate_rps * seconds * 1.5) + 10))
    start_s = time.perf_counter()
    watch = asyncio.create_task(give_up_in_time(lambda: pool.busy))
    for number, (due, request) in enumerate(zip(due_s[due_s < seconds].tolist(), itertools.cycle(requests)), start=1):
        late_s = time.perf_counter() - start_s - due
        if late_s < 0 or number % AT_ONCE == 0:
            await asyncio.sleep(max(0.0, -late_s))
        result.late_s.append(max(0.0, time.perf_counter() - start_s - due))
        pool.ask(request, start_s + due)
    await pool.finish()
    watch.cancel()
    return result


class _Pool:
    """A pool of open connections; a request that finds none free waits for one."""

    def __init__(self, address: Address, result: LoadResult) -> None:
        """Args: the server's address; the result that requests are counted in."""
        self._address, self._result = address, result
        self._idle: list[Connection] = []
        self.busy: set[Connection] = set()
        self._waiting: deque[tuple[bytes, float]] = deque()
        self._connecting: set[asyncio.Task[None]] = set()
        self._n_left = 0  # requests that are not finished
        self._changed = asyncio.Event()

    def ask(self, request: bytes, due_s: float) -> None:
        """Send a request that was due at `due_s`, in seconds of the performance counter."""
        self._n_left += 1
        self._send_or_wait(request, due_s)

    async def finish(self) -> None:
        """Wait until all requests are finished, and close the connections."""
        while self._n_left:
            self._changed.clear()
            await self._changed.wait()
        for connection in self._idle:
            connection.close()

    def _send_or_wait(self, request: bytes, due_s: float) -> None:
        """Send a request on a free connection or on a new one; queue it if there are too many."""
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
        """Open a connection and send a request on it."""
        connection = await Connection.connect(self._address)
        if connection is None:
            self._count(REFUSED, due_s)
            self._next(None)
        else:
            self._send(connection, request, due_s)

    def _send(self, connection: Connection, request: bytes, due_s: float) -> None:
        """Send a request on this connection."""
        self.busy.add(connection)
        connection.send(request, partial(self._answered, connection, due_s))

    def _answered(self, connection: Connection, due_s: float, status: int) -> None:
        """Count a reply and reuse its connection."""
        self.busy.remove(connection)
        self._count(status, due_s)
        self._next(connection if connection.open else None)

    def _next(self, connection: Connection | None) -> None:
        """Give a free connection, or the room for a new one, to the next waiting request."""
        if self._waiting and connection is not None:
            self._send(connection, *self._waiting.popleft())
        elif self._waiting:
            self._send_or_wait(*self._waiting.popleft())
        elif connection is not None:
            self._idle.append(connection)

    def _count(self, status: int, due_s: float) -> None:
        """Count a finished request."""
        self._result.statuses[status] += 1
        if status == 200:
            self._result.latencies_s.append(time.perf_counter() - due_s)
        self._n_left -= 1
        self._changed.set()
