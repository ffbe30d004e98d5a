"""A closed loop: clients that ask again at once. It finds the ceiling, and tells no latency that others would meet.

A reply leads to the next request without a task, a future or a timer of its own, as the client takes from the server what it uses.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator, Sequence

from potstill.serve.bench.load.client import REFUSED, Address, Connection, give_up_in_time
from potstill.serve.bench.load.outcome import Outcome


async def closed_loop(
    address: Address,
    requests: Sequence[bytes],
    n_clients: int,
    *,
    seconds: float = float("inf"),
    n_requests: int | None = None,
    until: Callable[[], bool] | None = None,
) -> Outcome:
    """Ask as fast as the server answers.

    Args:
        address: of the server.
        requests: whole requests, sent in turn.
        n_clients: connections, each with one request at a time.
        seconds: how long, at most.
        n_requests: how many, at most; None: no matter.
        until: asked before each request whether it is enough; a client also stops when it cannot connect any more.
    """
    outcome = Outcome()
    start_s = time.perf_counter()
    turn: Iterator[bytes] = itertools.cycle(requests)
    left = itertools.count() if n_requests is None else iter(range(n_requests))

    def more() -> bool:
        """Whether another request is to be sent; it counts as sent."""
        return time.perf_counter() - start_s < seconds and not (until is not None and until()) and next(left, None) is not None

    clients = [_Client(address, turn, more, outcome) for _ in range(n_clients)]
    watch = asyncio.create_task(give_up_in_time(lambda: [one.connection for one in clients if one.connection is not None]))
    await asyncio.gather(*(client.run() for client in clients))
    watch.cancel()
    outcome.seconds = time.perf_counter() - start_s
    return outcome


class _Client:
    """One of the clients."""

    def __init__(self, address: Address, turn: Iterator[bytes], more: Callable[[], bool], outcome: Outcome) -> None:
        """Args: of the server; requests; whether to send another; where it is counted what came of them."""
        self._address, self._turn, self._more, self._outcome = address, turn, more, outcome
        self.connection: Connection | None = None
        self._goes_on: asyncio.Future[bool] | None = None  # once the connection is of no more use: whether another is wanted
        self._began_s = 0.0

    async def run(self) -> None:
        """Ask until it is enough, or nobody takes a connection."""
        goes_on = True
        while goes_on and self._more():
            self.connection = await Connection.connect(self._address)
            if self.connection is None:
                self._outcome.statuses[REFUSED] += 1
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
        self._outcome.statuses[status] += 1
        if status == 200:
            self._outcome.latencies_s.append(time.perf_counter() - self._began_s)
        if self.connection is None or self._goes_on is None:
            return
        if not self.connection.open:
            self._goes_on.set_result(True)
        elif self._more():
            self._ask(self.connection)
        else:
            self._goes_on.set_result(False)
