"""A server started for a measurement, in a process of its own, and signals sent to it under load.

The command that starts a server is the caller's: this package does not know the command line.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from potstill.contract.bundle import write_sums
from potstill.contract.errors import UserError
from potstill.contract.system.child_process import environment
from potstill.serve.bench.load.client import Address
from potstill.serve.bench.load.closed_loop import closed_loop
from potstill.serve.bench.load.result import LoadResult

CARD_FILE = "README.md"
N_CLIENTS = 8
BETWEEN_S = 0.3  # seconds from one signal to the next
STOP_TIMEOUT_S = 60.0

# --- a server of one's own


@dataclass(frozen=True)
class ServerProcess:
    """A running server."""

    process: subprocess.Popen[bytes]
    address: Address

    def reload(self) -> None:
        """Send SIGHUP: look for a new version of the bundle."""
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """Send SIGTERM: finish and exit."""
        self.process.send_signal(signal.SIGTERM)


@contextmanager
def started_server(command: Sequence[str], bundle: Path, *options: str) -> Iterator[ServerProcess]:
    """Start a server on a free port; it is killed when the block ends.

    Args:
        command: program and arguments of `potstill serve`; bundle, port and options are appended.
        bundle: the folder.
        options: further options of the server.
    Raises:
        UserError: if it does not start.
    """
    whole = [*command, str(bundle), "--port", "0", *options]
    with subprocess.Popen(whole, stderr=subprocess.PIPE, env=environment()) as process:
        try:
            line = process.stderr.readline().decode(errors="replace") if process.stderr is not None else ""
            place = line.partition(" at ")[2].partition(" with ")[0]
            if not place.startswith("http://"):
                raise UserError(f"{bundle}: the server did not start: {line.strip()}")
            yield ServerProcess(process, Address.parse(place))
        finally:
            process.kill()


# --- signals under load


def lost_by_reloads(command: Sequence[str], bundle: Path, requests: Sequence[bytes], n_signals: int) -> int:
    """Requests lost or failed while the server loads new versions of its bundle.

    Args:
        command: as in :func:`started_server`.
        bundle: the folder; a copy of it is changed.
        requests: complete requests, sent in turn.
        n_signals: number of new versions, each announced by SIGHUP.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / bundle.name
        shutil.copytree(bundle, copy)
        with started_server(command, copy) as server:

            async def run() -> LoadResult:
                """Send requests, and signals at the same time."""
                over = False
                load = asyncio.create_task(closed_loop(server.address, requests, N_CLIENTS, until=lambda: over))
                for number in range(n_signals):
                    await asyncio.sleep(BETWEEN_S)
                    (copy / CARD_FILE).write_text(f"version {number}\n", encoding="utf-8")
                    write_sums(copy)
                    server.reload()
                await asyncio.sleep(BETWEEN_S)
                over = True
                return await load

            return asyncio.run(run()).n_failed()


def lost_by_stops(command: Sequence[str], bundle: Path, requests: Sequence[bytes], n_signals: int) -> int:
    """Requests lost or failed while servers stop; a refused connection does not count. A stop that fails counts as one.

    Args:
        command: as in :func:`started_server`.
        bundle: the folder.
        requests: complete requests, sent in turn.
        n_signals: number of servers to start and to stop by SIGTERM.
    """
    total = 0
    for _ in range(n_signals):
        with started_server(command, bundle) as server:

            async def run() -> LoadResult:
                """Send requests until no connection is accepted, and a signal in between."""
                load = asyncio.create_task(closed_loop(server.address, requests, N_CLIENTS, seconds=STOP_TIMEOUT_S))
                await asyncio.sleep(BETWEEN_S)
                server.stop()
                return await load

            total += asyncio.run(run()).n_failed()
            if server.process.wait(STOP_TIMEOUT_S) != 0:
                total += 1
    return total
