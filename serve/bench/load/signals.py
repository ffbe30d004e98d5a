"""Signals under load: new versions taken up, and orderly ends, while clients ask without pause; and what was lost by it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from potstill.contract.bundle import write_sums
from potstill.serve.bench.load.closed_loop import closed_loop
from potstill.serve.bench.load.outcome import Outcome
from potstill.serve.bench.load.own_server import own_server

CARD_FILE = "README.md"
N_CLIENTS = 8
BETWEEN_S = 0.3  # signals


def renewals_lost(bundle: Path, requests: Sequence[bytes], n_signals: int) -> int:
    """Requests lost or failed while the server takes up that many new versions of its bundle."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / bundle.name
        shutil.copytree(bundle, copy)
        with own_server(copy) as server:

            async def run() -> Outcome:
                """Load, and signals beside it."""
                over = False
                load = asyncio.create_task(closed_loop(server.address, requests, N_CLIENTS, until=lambda: over))
                for number in range(n_signals):
                    await asyncio.sleep(BETWEEN_S)
                    (copy / CARD_FILE).write_text(f"version {number}\n", encoding="utf-8")
                    write_sums(copy)
                    server.renew()
                await asyncio.sleep(BETWEEN_S)
                over = True
                return await load

            return bad(asyncio.run(run()))


def stops_lost(bundle: Path, requests: Sequence[bytes], n_signals: int) -> int:
    """Requests lost or failed while the server is told to stop, that many times; a refused connection was never taken."""
    total = 0
    for _ in range(n_signals):
        with own_server(bundle) as server:

            async def run() -> Outcome:
                """Load until nobody answers, and a signal beside it."""
                load = asyncio.create_task(closed_loop(server.address, requests, N_CLIENTS, seconds=60))
                await asyncio.sleep(BETWEEN_S)
                server.stop()
                return await load

            total += bad(asyncio.run(run()))
            if server.process.wait(60) != 0:
                total += 1
    return total


def bad(outcome: Outcome) -> int:
    """Requests that were taken and not answered as they should."""
    refusals = (200, 429, 504)
    return outcome.n_lost() + sum(n for status, n in outcome.statuses.items() if status > 0 and status not in refusals)
