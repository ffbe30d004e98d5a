"""Several processes on one port: they share the listening socket, and one that dies is replaced.

The process that was started keeps the socket and serves nothing. To each child it holds a pipe, over which it says `stop` or
`renew`; when it dies itself the pipes close, and the children stop. A child that is told to stop alone, by a signal, leaves the
socket to the others.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

import msgspec

from potstill.contract.errors import UserError
from potstill.contract.system.child_process import environment
from potstill.serve.http.config import Limits
from potstill.serve.http.telemetry.logs_and_traces import ServerLog
from potstill.serve.http.telemetry.shared_counts import SharedCounts

RESTART_S = 1.0  # before a child is replaced that died as soon as it had started
STARTED, STOP, RENEW = b"started\n", b"stop\n", b"renew\n"


class ChildConfig(msgspec.Struct, frozen=True):
    """What a child is told on its first line."""

    bundles: list[tuple[str, str | None]]  # folder and name
    listener: int  # descriptor of the listening socket
    counts: int  # descriptor of the shared memory
    n_processes: int
    index: int
    workers: int
    keys: str | None
    otlp: str | None
    limits: Limits


@dataclass
class ChildProcess:
    """One running child."""

    order: ChildConfig
    process: subprocess.Popen[bytes]
    started_s: float

    def tell(self, word: bytes) -> None:
        """Say something to it; it may be dead already."""
        try:
            if self.process.stdin is not None:
                self.process.stdin.write(word)
                self.process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass


class Supervisor:
    """Starts children, replaces the dead, passes signals on."""

    def __init__(self, listener: socket.socket, orders: list[ChildConfig], log: ServerLog) -> None:
        """Args: the listening socket; an order for each child; the log."""
        self._listener, self._orders, self._log = listener, orders, log
        self._children: list[ChildProcess] = []
        self._stopping = False
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)

    def run(self, announce: Callable[[], None]) -> None:
        """Serve until told to stop.

        Args:
            announce: is called when all children take connections.
        Raises:
            UserError: if a child could not start; what is wrong it has said itself.
        """
        earlier = {sig: signal.signal(sig, self._handle) for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
        earlier_wakeup = signal.set_wakeup_fd(self._wake_write)
        try:
            for order in self._orders:
                if not self._stopping:
                    self._children.append(self._start(order))
            if not self._stopping:
                announce()
            while not self._stopping:
                select.select([self._wake_read], [], [], 0.2)
                self._drain_pipe()
                self._replace_dead()
        finally:
            self._stop()
            signal.set_wakeup_fd(earlier_wakeup)
            for sig, handler in earlier.items():
                signal.signal(sig, handler)
            os.close(self._wake_read)
            os.close(self._wake_write)

    def _start(self, order: ChildConfig) -> ChildProcess:
        """Start a child, and wait until it takes connections; raises UserError."""
        child = self._spawn(order)
        line = child.process.stdout.readline() if child.process.stdout is not None else b""
        if line != STARTED and not self._stopping:
            code = child.process.wait()
            raise UserError(f"a process of the server ended with {code} as it started; its reason stands above")
        return child

    def _spawn(self, order: ChildConfig) -> ChildProcess:
        """Start a child."""
        process = subprocess.Popen(
            [sys.executable, "-m", "potstill.serve.http.network.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            pass_fds=[order.listener, order.counts],
            start_new_session=True,  # Ctrl-C is this process's to pass on
        )
        child = ChildProcess(order, process, time.monotonic())
        child.tell(msgspec.json.encode(order) + b"\n")
        return child

    def _replace_dead(self) -> None:
        """Start another child for each that ended."""
        for at, child in enumerate(self._children):
            code = child.process.poll()
            if code is None or self._stopping:
                continue
            self._log.line(f"process {child.process.pid} ended with {code}; another one takes its place")
            if time.monotonic() - child.started_s < RESTART_S:
                time.sleep(RESTART_S)
            _close(child)
            self._children[at] = self._spawn(child.order)

    def _stop(self) -> None:
        """Have the children finish, and wait for them; those that take longer than their grace are killed."""
        for child in self._children:
            child.tell(STOP)
        limits = self._orders[0].limits
        end_s = time.monotonic() + limits.lead_s + limits.grace_s + 5
        for child in self._children:
            try:
                child.process.wait(max(0.0, end_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
            _close(child)

    def _handle(self, sig: int, _: FrameType | None) -> None:
        """Take a signal."""
        if sig == signal.SIGHUP:
            for child in self._children:
                child.tell(RENEW)
        else:
            self._stopping = True

    def _drain_pipe(self) -> None:
        """Forget the wake-up calls."""
        if select.select([self._wake_read], [], [], 0)[0]:
            os.read(self._wake_read, 4096)


def _close(child: ChildProcess) -> None:
    """Close the pipes to a child that has ended."""
    for pipe in (child.process.stdin, child.process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except BrokenPipeError:
                pass


def supervise(listener: socket.socket, template: ChildConfig, announce: Callable[[], None]) -> None:
    """Serve with as many processes as the order says; raises as `Supervisor.run`.

    Args:
        listener: the listening socket.
        template: an order, whose descriptors and index are filled in here.
        announce: is called when all children take connections.
    """
    counts = SharedCounts.new(template.n_processes)
    try:
        orders = [
            msgspec.structs.replace(template, listener=listener.fileno(), counts=counts, index=index)
            for index in range(template.n_processes)
        ]
        Supervisor(listener, orders, ServerLog()).run(announce)
    finally:
        os.close(counts)
