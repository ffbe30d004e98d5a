"""A closed loop: each client sends its next request as soon as it has a reply.

It finds the highest throughput. Its latencies are not what other clients would see, since it never sends into a queue. A reply
leads to the next request without a task, future or timer of its own: CPU time of the client is lost to the server.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator, Sequence

from potstill.serve.bench.load.client import REFUSED, Address, Connection, give_up_in_time
from potstill.serve.bench.load.result import LoadResult


async def closed_loop(
    address: Address,
    requests: Sequence[bytes],
    n_clients: int,
    *,
    seconds: float = float("inf"),
    n_requests: int | None = None,
    until: Callable[[], bool] | None = None,
) -> LoadResult:
    """Send requests as fast as the server answers.

    Args:
        address: the server's.
        requests: complete requests, sent in turn.
        n_clients: connections, each with one request at a time.
        seconds: longest duration in seconds, above 0.
        n_requests: largest number of requests; None: no limit.
        until: called before each request; True ends the load. A client also stops when it can no longer connect.
    """
    result = LoadResult()
    start_s = time.perf_counter()
    turn: Iterator[bytes] = itertools.cycle(requests)
    left = itertools.count() if n_requests is None else iter(range(n_requests))

    def more() -> bool:
        """True if another request is due; it then counts as sent."""
        return time.perf_counter() - start_s < seconds and not (until is not None and until()) and next(left, None) is not None

    clients = [_Client(address, turn, more, result) for _ in range(n_clients)]
    watch = asyncio.create_task(give_up_in_time(lambda: [one.connection for one in clients if one.connection is not None]))
    await asyncio.gather(*(client.run() for client in clients))
    watch.cancel()
    result.seconds = time.perf_counter() - start_s
    return result


class _Client:
    """One client with one connection at a time."""

    def __init__(self, address: Address, turn: Iterator[bytes], more: Callable[[], bool], result: LoadResult) -> None:
        """Args: the server's address; the requests; whether to send another; the result that they are counted in."""
        self._address, self._turn, self._more, self._result = address, turn, more, result
        self.connection: Connection | None = None
        self._goes_on: asyncio.Future[bool] | None = None  # set when the connection ends: True if another is needed
        self._began_s = 0.0

    async def run(self) -> None:
        """Send requests until the load ends or a connection is refused."""
        goes_on = True
        while goes_on and self._more():
            self.connection = await Connection.connect(self._address)
            if self.connection is None:
                self._result.statuses[REFUSED] += 1
                return
            self._goes_on = asyncio.get_running_loop().create_future()
            self._ask(self.connection)
            goes_on = await self._goes_on
            self.connection.close()

    def _ask(self, connection: Connection) -> None:
        """Send the next request."""
        self._began_s = time.perf_counter()
        connection.send(next(self._turn), self._answered)

    def _answered(self, status: int) -> None:
        """Count a reply, and send the next request."""
        self._result.statuses[status] += 1
        if status == 200:
            self._result.latencies_s.append(time.perf_counter() - self._began_s)
        if self.connection is None or self._goes_on is None:
            return
        if not self.connection.open:
            self._goes_on.set_result(True)
        elif self._more():
            self._ask(self.connection)
        else:
            self._goes_on.set_result(False)
