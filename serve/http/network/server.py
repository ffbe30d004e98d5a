"""uvicorn's server with a graceful shutdown that loses no request.

The server stops being ready, waits for load balancers to notice, drops new connections, and answers every accepted request.
"""

from __future__ import annotations

import asyncio
import ctypes
import resource
import select
import signal
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import uvicorn

from potstill.serve.http.asgi import Message, Receive, Send
from potstill.serve.http.config import Limits
from potstill.serve.http.network.acceptor import Acceptor
from potstill.serve.http.network.connection import SWEEP_S, connection_class, n_busy, sweep
from potstill.serve.http.telemetry.logs_and_traces import ServerLog
from potstill.serve.http.telemetry.metrics import ServerMetrics
from potstill.serve.http.telemetry.shared_counts import SharedCounts

SPARE_FILES = 64  # open files of a process beside its connections, and connections that are being refused
SETTLE_S = 0.05  # for handshakes that have begun to complete
STEP_S = 0.01  # of polling during shutdown

_SO_ATTACH_FILTER = 26  # Linux, asm-generic/socket.h
# Classic BPF over the TCP header: load the flags byte, mask SYN and ACK; SYN alone is dropped, everything else passes.
_DROP_SYN = ((0x30, 0, 0, 13), (0x54, 0, 0, 0x12), (0x15, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))


class Instruments(Protocol):
    """Where an application counts and logs."""

    @property
    def metrics(self) -> ServerMetrics:
        """The counts of this process."""

    @property
    def log(self) -> ServerLog:
        """The log."""


class ServedApplication(Protocol):
    """What is served: bundles, or the pages on which people label."""

    draining: bool  # whether it is being stopped, so that replies say that the connection closes
    has_one_client: Callable[[], bool]

    @property
    def dependencies(self) -> Instruments:
        """Its metrics and its log."""

    def reload(self) -> None:
        """What SIGHUP asks for."""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle one request, or the lifespan of the server."""


class HttpServer(uvicorn.Server):
    """Serves an application until SIGTERM or SIGINT; SIGHUP reloads it: changed bundles are opened."""

    def __init__(
        self,
        app: ServedApplication,
        limits: Limits,
        counts: SharedCounts | None = None,
        announce: Callable[[], None] | None = None,
        early: EarlySignals | None = None,
    ) -> None:
        """Take the limits that the process's open files allow.

        Args:
            app: the application.
            limits: of requests and connections.
            counts: where processes that share the socket publish their numbers of connections.
            announce: called once connections are accepted and signals are handled.
            early: what came before.
        """
        limits = fit_open_files(limits)
        self._announce, self._early = announce, early
        self._connection = connection_class(limits, app.dependencies.metrics)
        self._counts, self._acceptors = counts, list[Acceptor]()
        config = uvicorn.Config(
            app,
            http=self._connection,
            loop="uvloop",
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="critical",  # the application has a log of its own, without texts
            access_log=False,
            server_header=False,
            proxy_headers=False,  # the client's address is not used
            timeout_keep_alive=int(limits.idle_s),
            timeout_graceful_shutdown=None,  # `shutdown` keeps the grace period itself
        )
        super().__init__(config)
        self._app, self._limits = app, limits
        self._may_close = counts is None  # new connections at the socket may be dropped
        app.has_one_client = lambda: self._n_open() == 1

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections, handle SIGHUP, and say so."""
        await super().startup([])  # the acceptors below take the place of uvicorn's
        make = partial(self._connection, self.config, self.server_state, self.lifespan.state)
        self._acceptors = [Acceptor(listener, make, self._n_open, self._counts) for listener in sockets or []]
        loop = asyncio.get_running_loop()
        self._sweeping = loop.create_task(self._sweep())
        if self._counts is None:  # else the parent handles it
            try:
                loop.add_signal_handler(signal.SIGHUP, self._app.reload)
            except (ValueError, RuntimeError):
                pass  # not the main thread, which alone can handle signals
        if self._early is not None and self._early.reload:
            self._app.reload()
        if self._announce is not None:
            self._announce()

    async def _sweep(self) -> None:
        """Enforce the limits of connections, every SWEEP_S."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            sweep(self.server_state, loop.time())
            for acceptor in self._acceptors:
                acceptor.publish()
            if self._counts is not None:
                self._counts.count_turn()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Shut down gracefully; requests that exceed the grace period are cancelled."""
        self._app.draining = True
        end_s = asyncio.get_running_loop().time() + self._limits.lead_s + self._limits.grace_s
        await self._pause(self._limits.lead_s)
        if self._may_close:
            for listener in sockets or []:
                drop_new_connections(listener)
            await self._pause(SETTLE_S)
            while any(has_pending_connection(listener) for listener in sockets or []) and not self.force_exit:
                await asyncio.sleep(STEP_S)
        for acceptor in self._acceptors:
            acceptor.close()
        while self._n_busy() and not self.force_exit and asyncio.get_running_loop().time() < end_s:
            await asyncio.sleep(STEP_S)
        n_cut = len(self.server_state.tasks)
        if n_cut:
            self._app.dependencies.log.line(f"{n_cut} requests exceeded the grace period and were cancelled")
        for connection in list(self.server_state.connections):
            connection.shutdown()
        for task in list(self.server_state.tasks):
            task.cancel()
        await asyncio.sleep(STEP_S)
        self._captured_signals.clear()  # uvicorn would raise them again, and the process would end by the signal instead of with 0
        await self.lifespan.shutdown()
        self._sweeping.cancel()

    def _n_open(self) -> int:
        """Number of open connections."""
        return len(self.server_state.connections)

    async def _pause(self, seconds: float) -> None:
        """Sleep; a second SIGTERM or SIGINT ends it early."""
        end_s = asyncio.get_running_loop().time() + seconds
        while not self.force_exit and asyncio.get_running_loop().time() < end_s:
            await asyncio.sleep(STEP_S)

    def _n_busy(self) -> int:
        """Number of requests being answered, or perhaps arriving."""
        return max(len(self.server_state.tasks), n_busy(self.server_state, asyncio.get_running_loop().time()))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle SIGTERM or SIGINT: from now on the server is not ready."""
        self._app.draining = True
        super().handle_exit(sig, frame)


class Stopped(BaseException):
    """SIGTERM or SIGINT came while the server was starting."""


class EarlySignals:
    """Handles signals until the event loop does: SIGHUP is remembered, SIGTERM and SIGINT raise Stopped. For a `with` block."""

    def __init__(self) -> None:
        """Handle nothing yet."""
        self.reload = False
        self._earlier: dict[int, Any] = {}

    def __enter__(self) -> EarlySignals:
        """Begin; in a thread other than the main one, which alone can handle signals, do nothing."""
        if threading.current_thread() is threading.main_thread():
            self._earlier = {sig: signal.signal(sig, self._stop) for sig in (signal.SIGTERM, signal.SIGINT)}
            self._earlier[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the handlers of before."""
        for sig, handler in self._earlier.items():
            signal.signal(sig, handler)

    def _remember(self, _: int, __: FrameType | None) -> None:
        """Reload once the server has started."""
        self.reload = True

    def _stop(self, _: int, __: FrameType | None) -> None:
        """End the start."""
        raise Stopped


def fit_open_files(limits: Limits) -> Limits:
    """Allow this process as many open files as its connections need; where it may not, the limits with fewer connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.max_connections + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        limits = replace(limits, max_connections=max(1, min(limits.max_connections, soft - SPARE_FILES)))
    return limits


def has_pending_connection(listener: socket.socket) -> bool:
    """Tell whether a connection waits to be accepted."""
    return bool(select.select([listener], [], [], 0)[0])


def drop_new_connections(listener: socket.socket) -> bool:
    """Drop new connections at a listening socket, and keep those that have begun; returns False if the kernel cannot do that."""
    if listener.family == socket.AF_UNIX:
        Path(str(listener.getsockname())).unlink(missing_ok=True)
        return True
    code = b"".join(struct.pack("=HBBI", *step) for step in _DROP_SYN)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HP", len(_DROP_SYN), ctypes.addressof(buffer))
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    except OSError:
        return False
    return True
