"""One of several processes on one socket: `python -m potstill.serve.http.network.child`, with settings on stdin's first line."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import msgspec

from potstill.contract.errors import UserError
from potstill.serve.http.application.asgi_app import Application, build_application
from potstill.serve.http.config import BundleSpec, ChildConfig
from potstill.serve.http.network.server import HttpServer
from potstill.serve.http.network.supervisor import RELOAD, STARTED, STOP
from potstill.serve.http.telemetry.metrics import ServerMetrics
from potstill.serve.http.telemetry.shared_counts import SharedCounts

STDIN, STDOUT = 0, 1


class ChildServer(HttpServer):
    """A server that obeys its parent. It closes the socket to new connections only if all processes stop."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections, tell the parent, and listen to it."""
        await super().startup(sockets)
        asyncio.get_running_loop().add_reader(STDIN, self._read_commands)
        try:
            os.write(STDOUT, STARTED)
        except BrokenPipeError:
            pass  # the parent is dead; the end of stdin will say so

    def _read_commands(self) -> None:
        """Follow the parent's commands; stop if it is dead."""
        words = os.read(STDIN, 4096)
        if RELOAD in words:
            self._app.reload()
        if STOP in words or not words:
            asyncio.get_running_loop().remove_reader(STDIN)
            self._may_close = True
            self._app.draining = True
            self.should_exit = True


def main() -> int:
    """Serve until told to stop; returns the exit code."""
    config = msgspec.json.decode(_first_line(), type=ChildConfig)
    counts = SharedCounts(config.counts, config.n_processes, config.index)
    try:
        app = _application(config, counts)
    except UserError as error:
        sys.stderr.write(f"potstill: {error}\n")
        return 1
    with socket.socket(fileno=config.listener) as listener:
        try:
            ChildServer(app, config.limits, counts).run(sockets=[listener])
        except KeyboardInterrupt:
            pass
    return 0


def _application(config: ChildConfig, counts: SharedCounts) -> Application:
    """The application that the settings describe; raises UserError as `build_application`."""
    metrics = ServerMetrics(counts)
    bundles = [BundleSpec(Path(folder), name) for folder, name in config.bundles]
    keys = None if config.keys is None else Path(config.keys)
    return build_application(bundles, config.limits, config.workers, keys, config.otlp, metrics)


def _first_line() -> bytes:
    """Read stdin up to the first newline, and no byte further: the rest is for the event loop."""
    line = bytearray()
    while not line.endswith(b"\n"):
        piece = os.read(STDIN, 1)
        if not piece:
            break
        line += piece
    return bytes(line)


if __name__ == "__main__":
    sys.exit(main())
