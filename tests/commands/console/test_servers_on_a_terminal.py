"""What a person sees who starts a server in a terminal, uses it, and stops it with Ctrl-C: each line once, and nothing of libraries."""

import http.client
import json
import os
import pty
import re
import select
import subprocess
import sys
import time

import pytest
from support.review_pages import Visitor, some_texts, write_store
from support.small_task import SMALL_TASK
from support.tiny_bundle import write_bundle

pytestmark = pytest.mark.slow

PATIENCE_S = 60
CTRL_C = b"\x03"
# Opens the terminal as the one that controls it, so that the typed character becomes a signal to this program and its children.
ON_THE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from potstill.commands.main import main
main()
"""


class Terminal:
    """`potstill` with these arguments on a terminal of its own; a `with` block ends it."""

    def __init__(self, *args):
        self._ours, theirs = pty.openpty()
        command = [sys.executable, "-c", ON_THE_TERMINAL, *map(str, args)]
        self._process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env=os.environ | {"TERM": "xterm"}
        )
        os.close(theirs)
        self.shown = ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(PATIENCE_S)
        os.close(self._ours)

    def until(self, pattern):
        """Read on until the pattern is shown; returns the match."""
        end = time.monotonic() + PATIENCE_S
        while not (found := re.search(pattern, self.shown)):
            assert time.monotonic() < end and self._read(1.0), f"not shown: {pattern!r} in {self.shown!r}"
        return found

    def interrupted(self):
        """Type Ctrl-C; returns the exit code and all lines that the terminal showed."""
        os.write(self._ours, CTRL_C)
        while self._read(PATIENCE_S):
            pass
        code = self._process.wait(PATIENCE_S)
        return code, [line for line in self.shown.replace("^C", "").splitlines() if line]

    def _read(self, patience_s):
        """Read what there is, waiting so long; False at the end."""
        if not select.select([self._ours], [], [], patience_s)[0]:
            return self._process.poll() is None
        try:
            chunk = os.read(self._ours, 65536)
        except OSError:  # the other end is closed
            return False
        self.shown += chunk.decode()
        return bool(chunk)


def ask(port, path, value=None):
    """The status of one request, with JSON or without."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("POST" if value is not None else "GET", path, None if value is None else json.dumps(value))
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("options", "many"), [(["--workers", 1], "1 worker"), (["--processes", 2, "--workers", 2], "2 processes of 2 workers")]
)
def test_a_server_shows_its_address_and_nothing_else(tmp_path, options, many):
    bundle = write_bundle(tmp_path / "stance")
    with Terminal("serve", bundle, "--port", 0, *options) as terminal:
        port = int(terminal.until(r"http://127\.0\.0\.1:(\d+) ")[1])
        asked = [("/classify", {"text": "rise"}), ("/classify", {"texts": []}), ("/", None), ("/no/such", None), ("/metrics", None)]
        assert [ask(port, *one) for one in asked] == [200, 422, 200, 404, 200]
        assert terminal.interrupted() == (0, [f"stance at http://127.0.0.1:{port} with {many}; stop it with Ctrl-C"])


def test_a_review_shows_an_address_for_each_person_once(tmp_path):
    task, store = tmp_path / "task.toml", tmp_path / "labels.db"
    task.write_text(SMALL_TASK)
    write_store(store, task, some_texts(20))
    with Terminal("review", store, "--task", task, "--port", 0, "--person", "ann", "--person", "bo") as terminal:
        address = terminal.until(r"ann: (http://127\.0\.0\.1:(\d+)/\?token=[\w-]+)")
        terminal.until(r"bo: http://\S+\s")
        person = Visitor(int(address[2]), address[1])
        for answer in ("up", "down"):
            person.label(answer)
        code, lines = terminal.interrupted()
    assert code == 0
    assert lines[-3] == f"20 texts of {store}; each address lets one browser in, once; stop with Ctrl-C"
    assert [line.partition(": ")[0] for line in lines[-2:]] == ["ann", "bo"]
    assert len(set(lines)) == len(lines), "said twice"
    assert all(line.startswith("note: ") for line in lines[:-3]), lines
