"""One of several processes on one socket: `python -m potstill.serve.http.network.child`, with its order as first line of input."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import msgspec

from potstill.contract.errors import UserError
from potstill.serve.http.application.asgi_app import Application, build_application
from potstill.serve.http.config import BundleSpec
from potstill.serve.http.network.server import HttpServer
from potstill.serve.http.network.supervisor import RENEW, STARTED, STOP, ChildConfig
from potstill.serve.http.telemetry.server_metrics import ServerMetrics
from potstill.serve.http.telemetry.shared_counts import SharedCounts

STDIN, STDOUT = 0, 1


class ChildServer(HttpServer):
    """A server that is told by its parent what to do. The socket closes to newcomers when all stop, not before."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take connections, tell the parent, and listen to it."""
        await super().startup(sockets)
        asyncio.get_running_loop().add_reader(STDIN, self._obey)
        try:
            os.write(STDOUT, STARTED)
        except BrokenPipeError:
            pass  # the parent is gone, and the end of the input will say so

    def _obey(self) -> None:
        """Do what the parent says; without a parent, stop."""
        words = os.read(STDIN, 4096)
        if RENEW in words:
            self._app.renew()
        if STOP in words or not words:
            asyncio.get_running_loop().remove_reader(STDIN)
            self._may_close = True
            self._app.draining = True
            self.should_exit = True


def main() -> int:
    """Serve; returns the exit code."""
    order = msgspec.json.decode(_first_line(), type=ChildConfig)
    counts = SharedCounts(order.counts, order.n_processes, order.index)
    try:
        app = _application(order, counts)
    except UserError as error:
        sys.stderr.write(f"potstill: {error}\n")
        return 1
    with socket.socket(fileno=order.listener) as listener:
        try:
            ChildServer(app, order.limits, counts).run(sockets=[listener])
        except KeyboardInterrupt:
            pass
    return 0


def _application(order: ChildConfig, counts: SharedCounts) -> Application:
    """What is served; raises UserError."""
    metrics = ServerMetrics(counts)
    wanted = [BundleSpec(Path(folder), name) for folder, name in order.bundles]
    keys = None if order.keys is None else Path(order.keys)
    return build_application(wanted, order.limits, order.workers, keys, order.otlp, metrics)


def _first_line() -> bytes:
    """Up to the first newline and no byte further: what follows is for the event loop."""
    line = bytearray()
    while not line.endswith(b"\n"):
        piece = os.read(STDIN, 1)
        if not piece:
            break
        line += piece
    return bytes(line)


if __name__ == "__main__":
    sys.exit(main())
