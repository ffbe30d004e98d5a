"""One of several processes on one socket: `python -m potstill.serve.http.network.child`, with settings on stdin's first line."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import msgspec

from potstill.contract.errors import UserError
from potstill.serve.http.application.access import AccessPolicy
from potstill.serve.http.application.asgi_app import Application, build_application
from potstill.serve.http.config import BundleSpec, ChildConfig
from potstill.serve.http.hosting.version_memory import unpack
from potstill.serve.http.network.server import HttpServer
from potstill.serve.http.network.supervisor import STARTED, Command, VersionReport
from potstill.serve.http.telemetry.logs_and_traces import ServerLog
from potstill.serve.http.telemetry.metrics import ServerMetrics
from potstill.serve.http.telemetry.shared_counts import SharedCounts

STDIN, STDOUT = 0, 1


class ChildServer(HttpServer):
    """A server that obeys its parent. It closes the socket to new connections only if all processes stop."""

    def __init__(self, app: Application, config: ChildConfig, names: list[str], counts: SharedCounts) -> None:
        """Args: the application; settings; the names of the bundles, in their order; the counts of all processes."""
        super().__init__(app, config.limits, counts)
        self._bundles, self._names = app, names
        self._parent = socket.socket(fileno=STDIN)
        self._unread = b""
        self._descriptors: list[int] = []
        self._taking: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections, tell the parent, and listen to it."""
        await super().startup(sockets)
        asyncio.get_running_loop().add_reader(STDIN, self._read_commands)
        _tell_parent(STARTED)

    def _read_commands(self) -> None:
        """Follow the parent's commands; stop if it is dead."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self._parent, 4096, 16)
        except OSError:
            data, descriptors = b"", []
        self._descriptors += descriptors
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._follow(msgspec.json.decode(line, type=Command))
        if not data:
            self._follow(Command("stop"))

    def _follow(self, command: Command) -> None:
        """Follow one command."""
        loop = asyncio.get_running_loop()
        if command.do == "stop":
            loop.remove_reader(STDIN)
            self._may_close = True
            self._app.draining = True
            self.should_exit = True
        elif command.do == "take":
            task = loop.create_task(self._take(command.bundle, self._descriptors.pop(0)))
            self._taking.add(task)
            task.add_done_callback(self._taking.discard)
        else:
            self._app.dependencies.metrics.reloads.add(self._names[command.bundle], command.outcome)

    async def _take(self, index: int, descriptor: int) -> None:
        """Open the version behind a descriptor, answer with it, and report."""
        try:
            files = await asyncio.to_thread(unpack, descriptor)
        finally:
            os.close(descriptor)
        result = await self._bundles.take(self._names[index], files)
        _tell_parent(msgspec.json.encode(VersionReport(index, files.digest, result.hosted is not None)) + b"\n")


def _tell_parent(line: bytes) -> None:
    """Write a line to the parent."""
    try:
        os.write(STDOUT, line)
    except BrokenPipeError:
        pass  # the parent is dead; the end of stdin will say so


def main() -> int:
    """Serve until told to stop; returns the exit code."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the parent alone looks for new versions
    config = msgspec.json.decode(_first_line(), type=ChildConfig)
    counts = SharedCounts(config.counts, config.n_processes, config.index)
    try:
        app = _application(config, counts)
    except UserError as error:
        ServerLog().line(f"potstill: {error}")
        return 1
    with socket.socket(fileno=config.listener) as listener:
        try:
            names = [one.name for one in app.dependencies.bundles.all]
            ChildServer(app, config, names, counts).run(sockets=[listener])
        except KeyboardInterrupt:
            pass
    return 0


def _application(config: ChildConfig, counts: SharedCounts) -> Application:
    """The application that the settings describe; raises UserError as `build_application`."""
    metrics = ServerMetrics(counts)
    bundles = [BundleSpec(Path(folder), name) for folder, name in config.bundles]
    keys = None if config.keys is None else Path(config.keys)
    access = AccessPolicy(None if config.hosts is None else frozenset(config.hosts), frozenset(config.origins))
    files = [unpack(descriptor) for descriptor in config.versions]
    for descriptor in config.versions:
        os.close(descriptor)
    teacher = None if config.teacher is None else config.teacher.part(config.index, config.n_processes)
    return build_application(
        bundles, config.limits, config.workers, keys, config.otlp, metrics, access=access, files=files, teacher=teacher
    )


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
