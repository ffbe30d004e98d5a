"""Python programs that tests start: one whose standard error is a terminal, one run by a user whom permissions bind, and children
forked from a parent that has imported their libraries, because a fresh interpreter for each would import torch anew."""

import ctypes
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 24, 1, 2  # constants of Linux
# What the system answers for a user who is in no list of users, as in a container that was started with a number for its user.
UNKNOWN = """
import pwd
def unknown(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = unknown
"""


def run_on_a_terminal(program: str) -> tuple[str, str]:
    """(standard output, what the terminal got without its control codes) of a program that must end well."""
    environment = os.environ | {"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"}
    code, output, shown = on_a_terminal([sys.executable, "-c", program], environment, REPOSITORY)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert code == 0, plain
    return output, plain


def on_a_terminal(command: list[str], environment: dict[str, str], cwd: Path, *, whole: bool = False) -> tuple[int, str, str]:
    """(exit code, standard output, all that the terminal got) of a program whose standard error is a terminal.

    Args:
        whole: its standard output goes to the terminal, too.
    """
    ours, theirs = pty.openpty()
    environment = environment | {"TERM": "xterm", "COLUMNS": "160"}
    out = theirs if whole else subprocess.PIPE
    with subprocess.Popen(command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 65536):
                shown += chunk
        except OSError:  # the other end is closed
            pass
        output = process.stdout.read() if process.stdout else b""
    os.close(ours)
    return process.returncode, output.decode(), shown.decode()


def plain_user(code, *arguments, unknown=False, **environment):
    """Run the code with the arguments and nothing else in its environment. Args: unknown, whether the system lacks the user."""
    settings = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    command = [sys.executable, "-W", "error", "-c", UNKNOWN * unknown + code, *map(str, arguments)]
    done = subprocess.run(command, env=settings, cwd="/", capture_output=True, text=True, timeout=120, preexec_fn=_bound)
    return done.returncode, done.stdout, done.stderr


def _bound():
    """Give up the right to pass over permissions, before the program starts; only root has it."""
    if os.geteuid() == 0:
        for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
            ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


PARENT = """
import importlib, os, select, signal, socket, sys, traceback

link = socket.socket(fileno=int(sys.argv[1]))
for name in sys.argv[2:]:
    importlib.import_module(name)

def run(code):
    try:
        exec(compile(code, "<child>", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0

while True:
    if select.select([link], [], [], 0.01)[0]:
        code, streams, _, _ = socket.recv_fds(link, 1_000_000, 2)
        if not code:  # the test has ended
            break
        out, err = streams
        pid = os.fork()
        if pid == 0:
            link.close()
            os.dup2(out, 1), os.dup2(err, 2), os.close(out), os.close(err)
            status = run(code.decode())
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(status)
        os.close(out), os.close(err)
        link.send(f"{pid}".encode())
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        continue
    if pid:
        link.send(f"{pid} {os.waitstatus_to_exitcode(status)}".encode())
"""


class Child:
    """One forked process, with the part of `subprocess.Popen` that the tests use."""

    def __init__(self, parent: "Parent", pid: int, stdout: int, stderr: int) -> None:
        self.pid, self.returncode, self._parent = pid, None, parent
        self.stdout, self.stderr = os.fdopen(stdout), os.fdopen(stderr)

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.wait()
        self.stdout.close()
        self.stderr.close()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def poll(self) -> int | None:
        self._parent.hear(wait=False)
        if self.returncode is None:
            self.returncode = self._parent.ended.get(self.pid)
        return self.returncode

    def wait(self) -> int:
        while self.poll() is None:
            self._parent.hear(wait=True)
        return self.returncode

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """All that it writes until it ends."""
        with ThreadPoolExecutor(2) as readers:
            reading = [readers.submit(stream.read) for stream in (self.stdout, self.stderr)]
            end = time.monotonic() + timeout
            while self.poll() is None:
                if time.monotonic() > end:
                    self.kill()
                    raise subprocess.TimeoutExpired(str(self.pid), timeout)
                time.sleep(0.01)
            return reading[0].result(), reading[1].result()


class Parent:
    """The process that has imported the libraries, and forks a child for each code that it is given."""

    def __init__(self, link: socket.socket) -> None:
        self._link, self._began, self.ended = link, [], {}

    def start(self, code: str) -> Child:
        """Begin Python code in a child of its own."""
        (out_read, out_write), (err_read, err_write) = os.pipe(), os.pipe()
        socket.send_fds(self._link, [code.encode()], [out_write, err_write])
        os.close(out_write), os.close(err_write)
        while not self._began:
            self.hear(wait=True)
        return Child(self, self._began.pop(), out_read, err_read)

    def hear(self, *, wait: bool) -> None:
        """Take note of the next child that began or ended."""
        try:
            said = self._link.recv(100, 0 if wait else socket.MSG_DONTWAIT).decode().split()
        except BlockingIOError:
            return
        assert said, "the parent of the children has ended"
        if len(said) == 1:
            self._began.append(int(said[0]))
        else:
            self.ended[int(said[0])] = int(said[1])


@contextmanager
def parent_of(*modules: str) -> Iterator[Parent]:
    """A parent that has imported these modules; its children heed SIGINT as a program in a terminal does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-W", "ignore", "-c", PARENT, str(theirs.fileno()), *modules]
    heed = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment, **heed) as process:
        theirs.close()
        try:
            yield Parent(ours)
        finally:
            ours.close()
            process.kill()
