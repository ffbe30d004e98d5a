"""Slow, vanished, too many or malformed clients; overload; graceful shutdown, reloads, and processes that die."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.serving import ServerProcess, wait_until
from support.tiny_bundle import write_bundle

from potstill.contract.bundle import write_sums
from potstill.serve.bench.load.client import Address
from potstill.serve.bench.load.closed_loop import closed_loop
from potstill.serve.bench.load.open_loop import open_loop

pytestmark = pytest.mark.slow

HEAD = b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16\r\n\r\n"
BODY = b'{"text": "rise"}'
QUICK = ("--receipt-s", "1")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundles") / "plain")


@pytest.fixture(scope="module")
def slow_bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundles") / "slow", slow=2500)


@pytest.fixture(scope="module")
def server(bundle):
    with ServerProcess(bundle, *QUICK, "--max-connections", "40") as server:
        yield server


def read_all(client):
    """Everything until the server closes the connection."""
    data = b""
    try:
        while piece := client.recv(65536):
            data += piece
    except ConnectionResetError:
        pass
    return data


def test_a_client_that_does_not_finish_its_request_is_cut_off(server):
    def cut_off(start):
        """(what the client was told, after how many seconds)."""
        with server.socket() as client:
            client.sendall(start)
            began = time.monotonic()
            return read_all(client), time.monotonic() - began

    with ThreadPoolExecutor(4) as clients:  # at the same time, as each waits for more than a second
        for told, seconds in clients.map(cut_off, [b"", b"POST /cl", HEAD, HEAD + b'{"te']):
            assert told.startswith(b"HTTP/1.1 408 ")
            assert seconds > 0.5


def test_a_client_that_trickles_is_cut_off_too(server):
    with server.socket() as client:
        client.settimeout(30)
        over = threading.Event()

        def trickle():
            while not over.wait(0.05):
                try:
                    client.sendall(b"x")
                except OSError:
                    return

        client.sendall(b"POST /classify HTTP/1.1\r\nX-Slow: ")
        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            assert b"408" in read_all(client)
        finally:
            over.set()
            thread.join()
    assert server.count("potstill_shed_total", reason="slow") >= 1


def test_an_idle_connection_between_requests_is_left_alone(server):
    connection = server.connect()
    connection.connect()
    connection.auto_open = 0  # the second request goes over the first one's connection, or fails
    for pause_s in (1.8, 0):  # longer than a request may take
        connection.request("POST", "/classify", BODY)
        reply = connection.getresponse()
        assert reply.status == 200
        reply.read()
        time.sleep(pause_s)
    connection.close()


def test_a_flood_of_headers_is_cut_off(server):
    with server.socket() as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n")
        try:
            for number in range(5000):
                client.sendall(b"X-%d: %s\r\n" % (number, b"y" * 100))
        except OSError:
            pass  # the server has closed the connection by then
        found = read_all(client)
    assert found.startswith(b"HTTP/1.1 431 ") or not found  # a reset may overtake the reply
    assert server.count("potstill_shed_total", reason="head") >= 1


@pytest.mark.parametrize(
    "junk", [b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET \xff HTTP/1.1\r\n\r\n", b"\0" * 50]
)
def test_input_that_is_not_http_is_refused_and_affects_no_other_client(server, junk):
    with server.socket() as client:
        client.sendall(junk + b"\r\n\r\n")
        assert read_all(client).startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 408 "))
    assert server.classify(text="rise")[0] == 200


def test_more_connections_than_allowed_are_refused(server):
    clients = [server.socket() for _ in range(60)]
    refused = 0
    for client in clients[40:]:
        refused += read_all(client).startswith(b"HTTP/1.1 503 ")
    for client in clients:
        client.close()
    assert refused == 20
    wait_until(lambda: server.classify(text="rise")[0] == 200, "room again")
    assert server.count("potstill_shed_total", reason="connections") >= 20


def test_a_client_that_closes_its_side_counts_as_disconnected(server):
    with server.socket() as client:
        client.sendall(HEAD)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b""
    assert server.classify(text="rise")[0] == 200


def test_pipelined_requests_are_answered_in_order(server):
    with server.socket() as client:
        client.sendall((HEAD + BODY) * 3 + b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        found = read_all(client)
    assert found.count(b"HTTP/1.1 200 ") == 4 and found.rstrip().endswith(b'{"status":"alive"}')


def test_a_job_is_dropped_when_its_client_disconnects(slow_bundle):
    body = json.dumps({"texts": ["rise"] * 64, "timeout_ms": 60000}).encode()
    request = b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with ServerProcess(slow_bundle, "--workers", "1") as server:
        for _ in range(3):
            with server.socket() as client:
                client.sendall(request)
                time.sleep(0.05)
        wait_until(lambda: server.count("potstill_shed_total", reason="gone") == 3, "three counted as gone")
        wait_until(lambda: server.count("potstill_wait_seconds") == 0, "an empty queue")


def test_a_deadline_that_cannot_be_met_is_refused_with_429_and_retry_after(slow_bundle):
    with ServerProcess(slow_bundle, "--workers", "1") as server:
        status, body, headers = server.ask("POST", "/classify", b'{"text": "rise", "timeout_ms": 0.01}')
        assert status == 429 and int(headers["retry-after"]) >= 1
        assert json.loads(body)["error"].startswith("the deadline cannot be met: an estimated 0 ms to wait and")
        status, body, _ = server.ask("POST", "/predict", b'{"inputs": "rise"}')
        assert status == 200


def test_under_overload_some_requests_are_refused_and_none_fails(slow_bundle):
    with ServerProcess(slow_bundle, "--workers", "1", "--timeout-ms", "5000") as server:
        address = Address("127.0.0.1", server.port)
        request = address.post("/classify", json.dumps({"texts": ["rise"] * 64}).encode())
        outcome = asyncio.run(closed_loop(address, [request], 80, n_requests=300))
        assert outcome.statuses[200] > 0 and outcome.statuses[429] > 0, outcome.statuses
        assert set(outcome.statuses) <= {200, 429, 504}
        wait_until(lambda: server.ask("GET", "/readyz")[0] == 200, "ready again")


def test_a_stop_under_load_loses_nothing_and_exits_with_0(bundle, slow_bundle):
    for folder in (bundle, slow_bundle):
        with ServerProcess(folder) as server:
            address = Address("127.0.0.1", server.port)
            request = address.post("/classify", BODY)

            async def load(address=address, request=request, server=server):
                clients = asyncio.create_task(closed_loop(address, [request], 8, seconds=60))
                await asyncio.sleep(0.5)
                server.process.send_signal(signal.SIGTERM)
                return await clients

            outcome = asyncio.run(load())
            assert outcome.n_failed() == 0 and outcome.statuses[200] > 0, outcome.statuses
            assert server.process.wait(60) == 0


def test_a_stopping_server_says_so_and_answers_new_requests(bundle):
    with ServerProcess(bundle) as server:
        connection = server.connect()
        connection.request("GET", "/readyz")
        assert connection.getresponse().read() == b'{"status":"ready"}\n'
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (503, b'{"status":"stopping"}\n')
        assert answer.headers["connection"] == "close"
        connection.close()
        assert server.process.wait(60) == 0


def test_a_new_version_replaces_the_old_one_without_losing_a_request(tmp_path):
    folder = write_bundle(tmp_path / "plain")
    with ServerProcess(folder) as server:
        first = server.classify(text="rise")[1]
        address = Address("127.0.0.1", server.port)
        over = threading.Event()
        request = address.post("/classify", BODY)
        outcomes = []
        load = threading.Thread(target=lambda: outcomes.append(asyncio.run(closed_loop(address, [request], 4, until=over.is_set))))
        load.start()
        shutil.rmtree(folder)
        write_bundle(folder, seed=1)
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: server.classify(text="rise")[1]["version"] != first["version"], "another version")
        over.set()
        load.join()
        second = server.classify(text="rise")[1]
        assert second["answer"]["probs"] != first["answer"]["probs"]
        assert outcomes[0].n_failed() == 0 and outcomes[0].statuses[200] > 0
        assert server.count("potstill_reloads_total", bundle="tiny", outcome="replaced") == 1
        assert b" replaces " in server.process.stderr.readline()


def test_a_broken_new_version_leaves_the_old_one_answering(tmp_path):
    folder = write_bundle(tmp_path / "plain")
    with ServerProcess(folder) as server:
        version = server.classify(text="rise")[1]["version"]
        (folder / "model.onnx").write_bytes(b"no model")
        write_sums(folder)
        server.process.send_signal(signal.SIGHUP)
        line = server.process.stderr.readline().decode()
        assert line.startswith(f"tiny: keeps version {version}: ") and "model.onnx" in line
        assert server.classify(text="rise")[1]["version"] == version
        assert server.count("potstill_reloads_total", bundle="tiny", outcome="refused") == 1


def test_several_processes_share_a_port_and_one_that_is_killed_is_replaced(bundle):
    with ServerProcess(bundle, "--processes", "2") as server:
        address = Address("127.0.0.1", server.port)
        request = address.post("/classify", BODY)
        assert asyncio.run(open_loop(address, [request], 100, 0.5)).n_failed() == 0
        n_before = server.count("potstill_requests_total", path="/classify", status="200")
        children = [int(pid) for pid in subprocess.check_output(["pgrep", "-P", str(server.process.pid)]).split()]
        assert len(children) == 2
        time.sleep(1.5)  # counts are shown to the other process once a second
        os.kill(children[0], signal.SIGKILL)
        assert f"process {children[0]} exited with -9".encode() in server.process.stderr.readline()
        wait_until(lambda: server.classify(text="rise")[0] == 200, "an answer")
        assert (
            server.count("potstill_requests_total", path="/classify", status="200") >= n_before
        )  # no count is lost with the process
        assert server.stop() == 0
        for child in children:
            assert not os.path.exists(f"/proc/{child}/cmdline")


def test_children_stop_when_their_parent_is_killed(bundle):
    with ServerProcess(bundle, "--processes", "2") as server:
        children = [int(pid) for pid in subprocess.check_output(["pgrep", "-P", str(server.process.pid)]).split()]
        server.process.kill()
        server.process.wait()
        wait_until(lambda: not any(os.path.exists(f"/proc/{child}") for child in children), "no child left")


def test_a_process_that_cannot_start_ends_the_server_with_its_reason(bundle, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(bundle, broken)
    (broken / "model.onnx").write_bytes(b"other")
    write_sums(broken)
    with ServerProcess(broken, "--processes", "2") as server:
        assert server.process.wait(60) == 1
        assert "model.onnx: is not an ONNX file" in server.line
        assert b"exited with 1 during startup" in server.process.stderr.read()


def test_a_log_on_a_full_disk_affects_no_request(tmp_path):
    folder = write_bundle(tmp_path / "plain")
    path = tmp_path / "socket"
    with open("/dev/full", "wb") as full, ServerProcess(folder, "--unix", path, stderr=full) as server:
        wait_until(path.exists, "the socket")
        server.process.send_signal(0)
        assert ask_at(path, b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        server.process.send_signal(signal.SIGHUP)
        wait_until(
            lambda: (
                b"potstill_lost_log_lines_total 1"
                in ask_at(path, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            ),
            "a lost line",
        )
        assert server.stop() == 0


def ask_at(path, request):
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return b""
        client.sendall(request)
        return read_all(client)


def test_a_unix_socket_is_for_its_user_alone_and_is_removed_with_the_server(bundle, tmp_path):
    path = tmp_path / "socket"
    with ServerProcess(bundle, "--unix", path) as server:
        assert f" at unix:{path} with " in server.line or f"plain at unix:{path}" in server.line
        assert path.stat().st_mode & 0o777 == 0o600
        found = ask_at(path, HEAD.replace(b"Host: localhost", b"Host: localhost\r\nConnection: close") + BODY)
        assert found.startswith(b"HTTP/1.1 200 ")
        with ServerProcess(bundle, "--unix", path) as second:
            assert second.process.wait(60) == 1
            assert second.line.startswith(f"potstill: {path}: another server is listening there")
        assert server.stop() == 0
    assert not path.exists()


def test_a_server_without_a_network_answers(bundle, tmp_path):
    alone = ["unshare", "--net", "--map-root-user"]
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("no network namespace can be made here (unshare --net)")
    path = tmp_path / "socket"
    with ServerProcess(bundle, "--unix", path, prefix=alone) as server:
        found = ask_at(path, HEAD.replace(b"Host: localhost", b"Host: localhost\r\nConnection: close") + BODY)
        assert found.startswith(b"HTTP/1.1 200 ")
        routes = Path(f"/proc/{server.process.pid}/net/route").read_text().splitlines()
        assert len(routes) <= 1  # a headline, and no way out
        assert server.stop() == 0
        assert server.process.stderr.read() == b""
