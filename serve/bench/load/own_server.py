"""A server of one's own for a measurement: `potstill serve` in a process of its own, on a free port."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from potstill.contract.errors import UserError
from potstill.contract.system.child_process import environment
from potstill.serve.bench.load.client import Address

PATIENCE_S = 120.0


@dataclass
class OwnServer:
    """It, running."""

    process: subprocess.Popen[bytes]
    address: Address

    def renew(self) -> None:
        """Have it look for a new version of its bundle."""
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """Tell it to stop."""
        self.process.send_signal(signal.SIGTERM)


@contextmanager
def own_server(bundle: Path, *options: str) -> Iterator[OwnServer]:
    """A server that ends with the block; raises UserError if it does not start."""
    command = [sys.executable, "-m", "potstill.commands.main", "serve", str(bundle), "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment()) as process:
        try:
            line = process.stderr.readline().decode(errors="replace") if process.stderr is not None else ""
            place = line.partition(" at ")[2].partition(" with ")[0]
            if not place.startswith("http://"):
                raise UserError(f"{bundle}: the server did not start: {line.strip()}")
            yield OwnServer(process, Address.parse(place))
        finally:
            process.kill()
