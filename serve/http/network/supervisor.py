"""Serve with several processes that share the listening socket; a process that dies is replaced.

The parent keeps the socket and answers no requests. It has a pipe to each child, for the commands `stop` and `reload`; if the
parent dies, the pipes close and the children stop. A child that is stopped alone, by a signal, leaves the socket to the others.
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
from potstill.serve.http.config import ChildConfig
from potstill.serve.http.telemetry.logs_and_traces import ServerLog
from potstill.serve.http.telemetry.shared_counts import SharedCounts

RESTART_S = 1.0  # before the replacement of a child that died within this time
STARTED, STOP, RELOAD = b"started\n", b"stop\n", b"reload\n"


@dataclass
class ChildProcess:
    """A child process, as its parent sees it."""

    config: ChildConfig
    process: subprocess.Popen[bytes]
    started_s: float

    def tell(self, command: bytes) -> None:
        """Send a command; the child may be dead already."""
        try:
            if self.process.stdin is not None:
                self.process.stdin.write(command)
                self.process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass


class Supervisor:
    """Starts child processes, replaces dead ones, and passes signals on."""

    def __init__(self, listener: socket.socket, configs: list[ChildConfig], log: ServerLog) -> None:
        """Args: the listening socket; settings for each child; the log."""
        self._listener, self._configs, self._log = listener, configs, log
        self._children: list[ChildProcess] = []
        self._stopping = False
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)

    def run(self, announce: Callable[[], None]) -> None:
        """Serve until SIGTERM or SIGINT.

        Args:
            announce: called when all children accept connections.
        Raises:
            UserError: if a child could not start; it has written the reason to stderr.
        """
        earlier = {sig: signal.signal(sig, self._handle) for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
        earlier_wakeup = signal.set_wakeup_fd(self._wake_write)
        try:
            for config in self._configs:
                if not self._stopping:
                    self._children.append(self._start(config))
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

    def _start(self, config: ChildConfig) -> ChildProcess:
        """Start a child, and wait until it accepts connections; raises UserError."""
        child = self._spawn(config)
        line = child.process.stdout.readline() if child.process.stdout is not None else b""
        if line != STARTED and not self._stopping:
            code = child.process.wait()
            raise UserError(f"a server process exited with {code} during startup; the reason is above")
        return child

    def _spawn(self, config: ChildConfig) -> ChildProcess:
        """Start a child."""
        process = subprocess.Popen(
            [sys.executable, "-m", "potstill.serve.http.network.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            pass_fds=[config.listener, config.counts],
            start_new_session=True,  # Ctrl-C reaches the parent alone, which passes it on
        )
        child = ChildProcess(config, process, time.monotonic())
        child.tell(msgspec.json.encode(config) + b"\n")
        return child

    def _replace_dead(self) -> None:
        """Replace each child that has ended."""
        for at, child in enumerate(self._children):
            code = child.process.poll()
            if code is None or self._stopping:
                continue
            self._log.line(f"process {child.process.pid} exited with {code}; a new process replaces it")
            if time.monotonic() - child.started_s < RESTART_S:
                time.sleep(RESTART_S)
            _close(child)
            self._children[at] = self._spawn(child.config)

    def _stop(self) -> None:
        """Stop the children and wait for them; kill those that exceed their grace period."""
        for child in self._children:
            child.tell(STOP)
        limits = self._configs[0].limits
        end_s = time.monotonic() + limits.lead_s + limits.grace_s + 5
        for child in self._children:
            try:
                child.process.wait(max(0.0, end_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
            _close(child)

    def _handle(self, sig: int, _: FrameType | None) -> None:
        """Handle a signal."""
        if sig == signal.SIGHUP:
            for child in self._children:
                child.tell(RELOAD)
        else:
            self._stopping = True

    def _drain_pipe(self) -> None:
        """Discard the wake-up bytes."""
        if select.select([self._wake_read], [], [], 0)[0]:
            os.read(self._wake_read, 4096)


def _close(child: ChildProcess) -> None:
    """Close the pipes of a child that has ended."""
    for pipe in (child.process.stdin, child.process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except BrokenPipeError:
                pass


def supervise(listener: socket.socket, template: ChildConfig, announce: Callable[[], None]) -> None:
    """Serve with `template.n_processes` processes; raises UserError as `Supervisor.run`.

    Args:
        listener: the listening socket.
        template: settings of every child; descriptors and index are filled in here.
        announce: called when all children accept connections.
    """
    counts = SharedCounts.new(template.n_processes)
    try:
        configs = [
            msgspec.structs.replace(template, listener=listener.fileno(), counts=counts, index=index)
            for index in range(template.n_processes)
        ]
        Supervisor(listener, configs, ServerLog()).run(announce)
    finally:
        os.close(counts)
