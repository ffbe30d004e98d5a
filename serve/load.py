"""Load on a server, and what comes of it. The closed loop is in `load_closed.py`.

Open loop: requests are sent at times fixed beforehand, whatever the server does, and each one's latency counts from the time it
was due. A client that waits for an answer before it sends the next request would ask less of a slow server and never see its
queue (coordinated omission).
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from serve.load_client import REFUSED, Address, Connection

CLIENT_TIMEOUT_S = 10.0  # after which a client gives up on a reply
MAX_CONNECTIONS = 512
SEED = 0


@dataclass
class Outcome:
    """What came of some load."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)  # of answers with status 200

    @property
    def n(self) -> int:
        """Requests."""
        return sum(self.statuses.values())

    @property
    def answered_rps(self) -> float:
        """Answers a second."""
        return self.statuses[200] / self.seconds

    def goodput_rps(self, deadline_s: float) -> float:
        """Answers a second that came within the deadline."""
        return sum(latency <= deadline_s for latency in self.latencies_s) / self.seconds

    def percentiles_ms(self, *percents: float) -> list[float]:
        """Latencies of answers in milliseconds; NaN without any."""
        if not self.latencies_s:
            return [float("nan")] * len(percents)
        return [float(value) * 1e3 for value in np.percentile(self.latencies_s, percents)]

    def share(self, *statuses: int) -> float:
        """Share of the requests with one of these statuses."""
        return sum(self.statuses[status] for status in statuses) / max(1, self.n)

    def n_5xx(self) -> int:
        """Replies that are the server's fault; 503 and 504 are refusals."""
        return sum(n for status, n in self.statuses.items() if status >= 500 and status not in (503, 504))

    def n_lost(self) -> int:
        """Requests that were sent, and got no reply."""
        return sum(n for status, n in self.statuses.items() if status < 0 and status != REFUSED)


async def open_loop(address: Address, requests: Sequence[bytes], rate_rps: float, seconds: float, seed: int = SEED) -> Outcome:
    """Send at random times (a Poisson process) with this mean rate.

    Args:
        address: of the server.
        requests: whole requests, sent in turn.
        rate_rps: requests a second, above 0.
        seconds: how long.
        seed: of the times.
    """
    outcome, pool = Outcome(seconds=seconds), _Pool(address)
    due_s = np.cumsum(np.random.default_rng(seed).exponential(1 / rate_rps, int(rate_rps * seconds * 1.5) + 10))
    start_s = time.perf_counter()
    tasks: set[asyncio.Task[None]] = set()

    async def one(request: bytes, due: float) -> None:
        """One request; the latency counts from when it was due."""
        status = await pool.ask(request)
        outcome.statuses[status] += 1
        if status == 200:
            outcome.latencies_s.append(time.perf_counter() - due)

    loop = asyncio.get_running_loop()
    for due, request in zip(due_s[due_s < seconds], itertools.cycle(requests)):
        wait_s = start_s + due - time.perf_counter()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        task = loop.create_task(one(request, start_s + float(due)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    pool.close()
    return outcome


class _Pool:
    """Connections that are kept for the next request."""

    def __init__(self, address: Address) -> None:
        """None is made yet."""
        self._address = address
        self._idle: list[Connection] = []
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)

    async def ask(self, request: bytes) -> int:
        """Send a request on an idle connection, or a new one; returns its status."""
        async with self._slots:
            connection = None
            while self._idle and (connection is None or not connection.open):
                connection = self._idle.pop()
            if connection is None or not connection.open:
                connection = await Connection.connect(self._address)
            if connection is None:
                return REFUSED
            status = await connection.ask(request, CLIENT_TIMEOUT_S)
            if connection.open:
                self._idle.append(connection)
            return status

    def close(self) -> None:
        """Close them all."""
        for connection in self._idle:
            connection.close()


def mixed(requests: Sequence[bytes], seed: int = SEED) -> list[bytes]:
    """The requests in an order that has nothing to do with their lengths."""
    shuffled = list(requests)
    random.Random(seed).shuffle(shuffled)
    return shuffled
