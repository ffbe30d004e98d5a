"""Signals at the worst moment, processes that stand still, and a log that nobody reads."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from support.serving import ROOT, ServerProcess, wait_until
from support.tiny_bundle import write_bundle

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundles") / "plain")


@pytest.mark.parametrize("options", [(), ("--processes", "2")], ids=["one process", "two processes"])
def test_a_signal_right_after_the_announcement_is_handled(bundle, options):
    with ServerProcess(bundle, *options) as server:
        server.process.send_signal(signal.SIGHUP)
        assert b"still version" in server.process.stderr.readline()
        assert server.classify(text="rise")[0] == 200
    with ServerProcess(bundle, *options) as server:
        assert server.stop() == 0


def test_signals_before_the_announcement_are_handled_too(bundle):
    command = [sys.executable, "-m", "potstill.commands.main", "serve", str(bundle), "--port", "0"]
    for sig in (signal.SIGHUP, signal.SIGTERM):
        with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=ROOT) as process:

            def handles(sig=sig, process=process):
                with open(f"/proc/{process.pid}/status") as status:
                    caught = next(line for line in status if line.startswith("SigCgt"))
                return int(caught.split()[1], 16) >> (sig - 1) & 1

            wait_until(handles, "a handler")
            process.send_signal(sig)
            if sig == signal.SIGHUP:
                assert b" at http://" in process.stderr.readline()  # it has started all the same
                assert b"still version" in process.stderr.readline()
                process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


def test_a_process_that_stands_still_is_replaced_and_does_not_delay_the_end(bundle):
    with ServerProcess(bundle, "--processes", "2") as server:
        children = [int(pid) for pid in subprocess.check_output(["pgrep", "-P", str(server.process.pid)]).split()]
        time.sleep(1)  # of turns
        os.kill(children[0], signal.SIGSTOP)
        assert f"process {children[0]} stands still".encode() in server.process.stderr.readline()
        assert f"process {children[0]} exited with -9".encode() in server.process.stderr.readline()
        wait_until(lambda: len(subprocess.check_output(["pgrep", "-P", str(server.process.pid)]).split()) == 2, "two again")
        os.kill(children[1], signal.SIGSTOP)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        assert time.monotonic() - began < 15  # and not the grace period of 20 s


def ask_at(path, request):
    """Everything that the server at a path sends; nothing if there is none, or none that answers."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        try:
            client.connect(str(path))
            client.sendall(request)
            found = b""
            while piece := client.recv(65536):
                found += piece
        except OSError:
            return b""
        return found


@pytest.mark.parametrize("options", [(), ("--processes", "2")], ids=["one process", "two processes"])
def test_a_full_log_pipe_stops_nothing(bundle, tmp_path, options):
    path = tmp_path / "socket"
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writing, True)
    try:
        with ServerProcess(bundle, *options, "--unix", path, stderr=writing) as server:

            def ask(path_of):
                return ask_at(path, b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path_of)

            wait_until(lambda: ask(b"/livez").startswith(b"HTTP/1.1 200 "), "a start")
            for _ in range(3):
                server.process.send_signal(signal.SIGHUP)
                time.sleep(0.1)
            assert ask(b"/livez").endswith(b'{"status":"alive"}\n')
            assert options or b"potstill_lost_log_lines_total 0" not in ask(b"/metrics")
            assert server.stop() == 0
    finally:
        os.close(reading)
        os.close(writing)
