"""Keep the teacher behind a server alive: start its process, and replace it when it dies, stands still or grows.

The server does not depend on it: a teacher that is away only leaves hard texts to the bundle.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType

import msgspec

from potstill.contract.errors import UserError
from potstill.contract.system.child_process import environment
from potstill.contract.system.memory import own_bytes
from potstill.serve.http.telemetry.logs_and_traces import STDERR, ServerLog
from potstill.workflows.fallback.config import OPENED, READY, ProcessConfig

HUNG_S = 20.0  # without a sign of life from a teacher that was ready, its process is killed
RESTART_S = (1.0, 60.0)  # before the next start: first, then doubled up to this
STEADY_S = 60.0  # of life, after which a death counts as the first one
LOOK_S = 0.5  # between two looks at the process
SOCKET_NAME = "teacher.sock"
MEGABYTE = 1_000_000


class TeacherKeeper:
    """One teacher process at a time; a `with` block ends it."""

    def __init__(self, config: ProcessConfig, log: ServerLog) -> None:
        """Start nothing yet. Args: settings, whose socket and status are filled in here; the log.

        Raises:
            UserError: if its memory is to be limited, and this system does not say what a process holds.
        """
        if config.teacher.memory_mb is not None and own_bytes(os.getpid()) is None:
            raise UserError("this system does not say how much memory a process holds, so the teacher's cannot be limited")
        self._folder = Path(tempfile.mkdtemp(prefix="potstill-teacher-"))  # which only this user may enter
        self.socket = str(self._folder / SOCKET_NAME)
        self._config = msgspec.structs.replace(config, socket=self.socket)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._status = -1  # descriptor from which the process's reports are read
        self._closing = threading.Event()
        self._opened = threading.Event()  # a process has opened the teacher, or could not
        self._failed = False  # the first process could not
        self._thread = threading.Thread(target=self._keep, name="teacher-keeper", daemon=True)

    def __enter__(self) -> TeacherKeeper:
        """Start the first process, and wait until it has found a teacher on this machine; a server elsewhere may come later.

        Raises:
            UserError: if there is no such teacher on this machine.
        """
        self._thread.start()
        if not self._config.teacher.is_address:
            self._opened.wait()
        if self._failed:
            self.__exit__(None, None, None)
            raise UserError("the teacher behind the server could not be opened; the reason is above")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Kill the process: it has nothing to save."""
        self._closing.set()
        process = self._process
        if process is not None and process.poll() is None:
            process.kill()
        self._thread.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _keep(self) -> None:
        """Start a process, and the next one when it has ended, until closed."""
        n_deaths = 0
        while not self._closing.is_set():
            started_s = time.monotonic()
            self._start()
            found = self._look_after()
            code = self._end()
            if not self._opened.is_set():
                self._failed = not found and not self._config.teacher.is_address
                self._opened.set()
            if self._closing.is_set() or self._failed:
                return
            n_deaths = 0 if time.monotonic() - started_s > STEADY_S else n_deaths
            first_s, longest_s = RESTART_S
            wait_s = min(longest_s, first_s * 2.0**n_deaths)
            n_deaths += 1
            self._log.line(
                f"the teacher's process ended with {code}; a new one starts in {wait_s:g} s, until then the bundle answers"
            )
            self._closing.wait(wait_s)

    def _start(self) -> None:
        """Start a process."""
        self._status, theirs = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "potstill.workflows.fallback.process"],
                stdin=subprocess.PIPE,
                stdout=STDERR,
                bufsize=0,
                env=environment(),
                pass_fds=[theirs],
                start_new_session=True,  # Ctrl-C reaches the server alone
            )
        finally:
            os.close(theirs)
        if self._closing.is_set():
            self._process.kill()
        if self._process.stdin is not None:
            try:
                self._process.stdin.write(msgspec.json.encode(msgspec.structs.replace(self._config, status=theirs)) + b"\n")
            except BrokenPipeError:
                pass  # it has ended, as `_look_after` will see

    def _look_after(self) -> bool:
        """Read reports until the process ends; kill it if it stands still or is too large. Whether it has opened the teacher."""
        opened, is_ready, heard_s = False, False, time.monotonic()
        while self._process is not None:
            if select.select([self._status], [], [], LOOK_S)[0]:
                data = os.read(self._status, 4096)
                if not data:
                    break
                heard_s = time.monotonic()
                opened, is_ready = opened or OPENED in data, is_ready or READY in data
                if opened:
                    self._opened.set()
            elif is_ready and time.monotonic() - heard_s > HUNG_S:
                self._log.line("the teacher's process stands still and is killed")
                self._process.kill()
                break
            if self._is_too_large(self._process.pid):
                self._process.kill()
                break
        return opened

    def _is_too_large(self, process: int) -> bool:
        """Whether the process holds more memory than it may; the log says so."""
        most_mb, held = self._config.teacher.memory_mb, own_bytes(process)
        if most_mb is None or held is None or held <= most_mb * MEGABYTE:
            return False
        self._log.line(f"the teacher's process holds {held / MEGABYTE:.0f} MB, where {most_mb} MB are allowed, and is killed")
        return True

    def _end(self) -> int:
        """Wait for the process, and close what it used; returns its exit code."""
        process = self._process
        os.close(self._status)
        if process is None:
            return 0
        process.wait()
        if process.stdin is not None:
            process.stdin.close()
        return process.returncode
