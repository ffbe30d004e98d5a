"""Serve with several processes that share the listening socket; a process that dies or stands still is replaced.

The parent keeps the socket and answers no requests. It reads the bundles, so that all processes answer with the same versions, a
new process too. It has a socket to each child, for commands and versions; if the parent dies, these close and the children stop. A
child that is stopped alone, by a signal, leaves the listening socket to the others.

A new version is opened by the first child. If it is sound there, the other children get it too, and so does every later one.
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
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import msgspec

from potstill.contract.bundle import BundleFiles, read_files, read_manifest, sums_digest
from potstill.contract.errors import UserError
from potstill.contract.system.child_process import environment
from potstill.serve.http.config import ChildConfig
from potstill.serve.http.hosting.bundle_registry import ReloadResult, refused, unchanged
from potstill.serve.http.hosting.open_bundle import DIGEST_CHARS
from potstill.serve.http.hosting.version_memory import pack
from potstill.serve.http.telemetry.logs_and_traces import ServerLog
from potstill.serve.http.telemetry.shared_counts import SharedCounts

RESTART_S = 1.0  # before the replacement of a child that died within this time
LOOK_S = 0.2  # between two looks at the children
HUNG_S = 5.0  # without a turn of its event loop, a child is killed; it takes one every half second
OPENING_S = 60.0  # the same while it opens a version: loading a large graph holds Python's lock
STARTED = b"started\n"


class Command(msgspec.Struct, frozen=True):
    """What the parent tells a child: a line of JSON, with a descriptor for `take`."""

    do: str  # stop; take: open the version behind the descriptor; count: a look for a new version that found none
    bundle: int = 0  # its index on the command line
    outcome: str = ""


class VersionReport(msgspec.Struct, frozen=True):
    """What a child answers to `take`: a line of JSON."""

    bundle: int
    digest: str
    taken: bool


@dataclass
class Version:
    """A version of a bundle that children open."""

    digest: str
    descriptor: int


@dataclass
class HostedFolder:
    """A bundle as the parent sees it."""

    folder: Path
    name: str
    version: Version  # that answers
    trial: Version | None = None  # that the first child is opening


@dataclass
class ChildProcess:
    """A child process, as its parent sees it."""

    config: ChildConfig
    process: subprocess.Popen[bytes]
    commands: socket.socket
    started_s: float
    turns: int = 0  # of its event loop, at the last look
    turned_s: float = field(default_factory=time.monotonic)  # when they last changed
    pending: bytes = b""  # of its next report
    n_opening: int = 0  # versions that it has been told to open, and has not reported on

    def tell(self, command: Command, descriptor: int | None = None) -> None:
        """Send a command; a child that is dead, or takes none, is replaced anyway."""
        self.n_opening += descriptor is not None
        try:
            line = msgspec.json.encode(command) + b"\n"
            socket.send_fds(self.commands, [line], [] if descriptor is None else [descriptor], socket.MSG_DONTWAIT)
        except OSError:
            pass

    def reports(self) -> list[VersionReport]:
        """The reports that have come."""
        stdout = self.process.stdout
        while stdout is not None and select.select([stdout], [], [], 0)[0]:
            data = os.read(stdout.fileno(), 4096)
            if not data:
                break
            self.pending += data
        *lines, self.pending = self.pending.split(b"\n")
        return [msgspec.json.decode(line, type=VersionReport) for line in lines if line.startswith(b"{")]


class Supervisor:
    """Starts child processes, replaces dead ones, gives all of them the same versions, and passes signals on."""

    def __init__(self, listener: socket.socket, configs: list[ChildConfig], counts: SharedCounts, log: ServerLog) -> None:
        """Args: the listening socket; settings for each child; their counts; the log."""
        self._listener, self._configs, self._counts, self._log = listener, configs, counts, log
        self._children: list[ChildProcess] = []
        self._bundles: list[HostedFolder] = []
        self._to_look_at: list[int] = []  # bundles that may have a new version, by index
        self._stopping = self._reload = False
        self._looked_s = time.monotonic()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)

    def run(self, announce: Callable[[], None]) -> None:
        """Serve until SIGTERM or SIGINT.

        Args:
            announce: called when all children accept connections.
        Raises:
            UserError: if a bundle cannot be read, or a child could not start; it has written the reason to stderr.
        """
        earlier = {sig: signal.signal(sig, self._handle) for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
        earlier_wakeup = signal.set_wakeup_fd(self._wake_write)
        try:
            for folder, name in self._configs[0].bundles:
                files = read_files(Path(folder), self._configs[0].trust)
                version = Version(files.digest, pack(files))
                self._bundles.append(HostedFolder(Path(folder), name or read_manifest(files).name, version))
            for config in self._configs:
                if not self._stopping:
                    self._children.append(self._start(config))
            if not self._stopping:
                announce()
            while not self._stopping:
                self._wait()
                self._look_at_children()
                self._look_at_bundles()
        finally:
            self._stop()
            signal.set_wakeup_fd(earlier_wakeup)
            for sig, handler in earlier.items():
                signal.signal(sig, handler)
            for descriptor in (self._wake_read, self._wake_write, *(one.version.descriptor for one in self._bundles)):
                os.close(descriptor)

    def _start(self, config: ChildConfig) -> ChildProcess:
        """Start a child, and wait until it accepts connections; raises UserError."""
        child = self._spawn(config)
        stdout = child.process.stdout
        while stdout is not None and not self._stopping and not select.select([stdout], [], [], LOOK_S)[0]:
            pass
        line = stdout.readline() if stdout is not None and not self._stopping else b""
        if line != STARTED and not self._stopping:
            code = child.process.wait()
            raise UserError(f"a server process exited with {code} during startup; the reason is above")
        child.turned_s = time.monotonic()
        return child

    def _spawn(self, config: ChildConfig) -> ChildProcess:
        """Start a child with the versions that answer."""
        versions = [one.version.descriptor for one in self._bundles]
        config = msgspec.structs.replace(config, versions=versions)
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "potstill.serve.http.network.child"],
                stdin=theirs.fileno(),
                stdout=subprocess.PIPE,
                bufsize=0,
                env=environment(),
                pass_fds=[config.listener, config.counts, *versions],
                start_new_session=True,  # Ctrl-C reaches the parent alone, which passes it on
            )
        ours.sendall(msgspec.json.encode(config) + b"\n")
        # A new one has as long to start as it needs: it counts no turns before that.
        return ChildProcess(config, process, ours, time.monotonic(), self._counts.turns(config.index), float("inf"))

    def _wait(self) -> None:
        """Wait for a signal or a report, and not for long."""
        reports = [child.process.stdout.fileno() for child in self._children if child.process.stdout is not None]
        select.select([self._wake_read, *reports], [], [], LOOK_S)
        if select.select([self._wake_read], [], [], 0)[0]:
            os.read(self._wake_read, 4096)

    def _look_at_children(self) -> None:
        """Read what the children report, and replace each that has ended or stands still."""
        self._kill_hung()
        for at, child in enumerate(self._children):
            for report in child.reports():
                child.n_opening -= 1
                self._heed(at, report)
            code = child.process.poll()
            if code is None or self._stopping:
                continue
            self._log.line(f"process {child.process.pid} exited with {code}; a new process replaces it")
            if time.monotonic() - child.started_s < RESTART_S:
                time.sleep(RESTART_S)
            _close(child)
            if at == 0:
                self._end_trials("the process that was opening it has ended")
            self._children[at] = self._spawn(child.config)

    def _kill_hung(self) -> None:
        """Kill each child whose event loop stands still."""
        now = time.monotonic()
        paused_s, self._looked_s = now - self._looked_s, now  # this process may have stood still itself
        for child in self._children:
            turns = self._counts.turns(child.config.index)
            if turns != child.turns:
                child.turns, child.turned_s = turns, now
            elif paused_s > 1:
                child.turned_s += paused_s
            elif now - child.turned_s > (OPENING_S if child.n_opening else HUNG_S) and child.process.poll() is None:
                self._log.line(f"process {child.process.pid} stands still and is killed")
                child.process.kill()
                child.turned_s = float("inf")

    def _look_at_bundles(self) -> None:
        """Go on with the bundles that may have a new version: one after the other, each in the first child first."""
        if self._reload:
            self._reload = False
            self._to_look_at += [index for index in range(len(self._bundles)) if index not in self._to_look_at]
        while self._to_look_at and not any(one.trial for one in self._bundles):
            self._look_at(self._to_look_at.pop(0))

    def _look_at(self, index: int) -> None:
        """Read the folder of a bundle if it has a new version, and let the first child try it."""
        bundle = self._bundles[index]
        try:
            if sums_digest(bundle.folder) == bundle.version.digest:
                self._tell_outcome(index, unchanged(bundle.name, bundle.version.digest[:DIGEST_CHARS]))
                return
            files: BundleFiles = read_files(bundle.folder, self._configs[0].trust)
        except (UserError, OSError) as error:
            self._tell_outcome(index, refused(bundle.name, bundle.version.digest[:DIGEST_CHARS], error))
            return
        bundle.trial = Version(files.digest, pack(files))
        self._children[0].tell(Command("take", index), bundle.trial.descriptor)

    def _tell_outcome(self, index: int, result: ReloadResult) -> None:
        """Log a look that found no version to open, and have it counted."""
        self._log.line(result.line)
        self._children[0].tell(Command("count", index, result.outcome))

    def _heed(self, at: int, report: VersionReport) -> None:
        """Follow a child's report about a version."""
        bundle = self._bundles[report.bundle]
        trial = bundle.trial
        if at == 0 and trial is not None and report.digest == trial.digest:
            bundle.trial = None
            if not report.taken:
                os.close(trial.descriptor)
                return
            os.close(bundle.version.descriptor)
            bundle.version = trial
            for child in self._children[1:]:
                child.tell(Command("take", report.bundle), trial.descriptor)
        elif not report.taken and report.digest == bundle.version.digest:
            self._log.line(f"process {self._children[at].process.pid} cannot open the version of the others and is replaced")
            self._children[at].process.kill()

    def _end_trials(self, reason: str) -> None:
        """Forget the versions that no child has taken."""
        for bundle in self._bundles:
            if bundle.trial is not None:
                self._log.line(f"{bundle.name}: keeps version {bundle.version.digest[:DIGEST_CHARS]}: {reason}")
                os.close(bundle.trial.descriptor)
                bundle.trial = None

    def _stop(self) -> None:
        """Stop the children and wait for them; kill those that stand still or exceed their grace period."""
        for child in self._children:
            child.tell(Command("stop"))
        limits = self._configs[0].limits
        end_s = time.monotonic() + limits.lead_s + limits.grace_s + 5
        for child in self._children:
            child.turned_s = min(child.turned_s, time.monotonic())
        while any(child.process.poll() is None for child in self._children) and time.monotonic() < end_s:
            time.sleep(0.01)
            self._kill_hung()
        for child in self._children:
            if child.process.poll() is None:
                child.process.kill()
                child.process.wait()
            _close(child)

    def _handle(self, sig: int, _: FrameType | None) -> None:
        """Handle a signal; the loop follows it."""
        if sig == signal.SIGHUP:
            self._reload = True
        else:
            self._stopping = True


def _close(child: ChildProcess) -> None:
    """Close the socket and the pipe of a child that has ended."""
    child.commands.close()
    if child.process.stdout is not None:
        child.process.stdout.close()


def supervise(listener: socket.socket, template: ChildConfig, announce: Callable[[], None]) -> None:
    """Serve with `template.n_processes` processes; raises UserError as `Supervisor.run`.

    Args:
        listener: the listening socket.
        template: settings of every child; descriptors and index are filled in here.
        announce: called when all children accept connections.
    """
    memory = SharedCounts.new(template.n_processes)
    try:
        configs = [
            msgspec.structs.replace(template, listener=listener.fileno(), counts=memory, index=index)
            for index in range(template.n_processes)
        ]
        Supervisor(listener, configs, SharedCounts(memory, template.n_processes, 0), ServerLog()).run(announce)
    finally:
        os.close(memory)
