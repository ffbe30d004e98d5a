"""What a client without a key can do to a server: to its memory, its other clients, and the order of requests and replies."""

from __future__ import annotations

import json
import resource
import socket
import threading
import time

import pytest
from support.serving import ServerProcess, wait_until
from support.tiny_bundle import write_bundle

pytestmark = pytest.mark.slow

BODY = b'{"text": "rise"}'
POST = b"POST /classify HTTP/1.1\r\nHost: localhost\r\n"
WHOLE = POST + b"Content-Length: 16\r\n\r\n" + BODY
LIVE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
MEGABYTE = 1_000_000
MEMORY = "process_resident_memory_bytes"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(write_bundle(tmp_path_factory.mktemp("bundles") / "plain"), "--receipt-s", "3") as server:
        server.classify(text="rise")
        yield server


def replies(server, *parts, pause_s=0.05, closes=True):
    """Everything that the server sends on a connection that sends these parts; it must close it, or the client does."""
    with server.socket() as client:
        found = b""
        try:
            for part in parts:
                client.sendall(part)
                time.sleep(pause_s)
            if not closes:
                client.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            while piece := client.recv(65536):
                found += piece
        except (ConnectionResetError, BrokenPipeError):
            pass
        return found


def statuses(found):
    """The statuses of the replies in these bytes."""
    return [int(part[:3]) for part in found.split(b"HTTP/1.1 ")[1:]]


def send_for(client, data, seconds=1.5, most=60 * MEGABYTE):
    """Send the same bytes over and over, without reading; returns how many were sent."""
    client.settimeout(0.2)
    end_s, n = time.monotonic() + seconds, 0
    while time.monotonic() < end_s and n < most:
        try:
            n += client.send(data)
        except TimeoutError:
            continue
        except OSError:
            break
    return n


def gained(server, attack):
    """Bytes of memory that the server gains by an attack, while it lasts or after it."""
    before = server.count(MEMORY)
    seen = [before]
    over = threading.Event()

    def watch():
        while not over.wait(0.1):
            seen.append(server.count(MEMORY))

    thread = threading.Thread(target=watch)
    thread.start()
    attack()
    over.set()
    thread.join()
    seen.append(server.count(MEMORY))
    return max(seen) - before


@pytest.mark.parametrize("piece", [b"X-T: %s\r\n" % (b"y" * 60) * 500, b"z" * 60_000], ids=["fields", "one long field"])
def test_trailer_fields_take_no_memory(server, piece):
    def attack():
        with server.socket() as client:
            client.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Long: ")
            send_for(client, piece)

    assert gained(server, attack) < 5 * MEGABYTE


def test_requests_whose_replies_nobody_reads_take_little_memory(server):
    def attack():
        clients = [server.socket() for _ in range(10)]
        for client in clients:
            send_for(client, LIVE * 4000, 0.3, 2 * MEGABYTE)
        for client in clients:
            client.close()

    assert gained(server, attack) < 20 * MEGABYTE


def test_requests_sent_ahead_wait_in_the_systems_buffers(server):
    def attack():
        with server.socket() as client:
            send_for(client, b"GET / HTTP/1.1\r\nHost:localhost\r\n\r\n" * 3000, 1.5, 40 * MEGABYTE)

    assert gained(server, attack) < 12 * MEGABYTE  # replies to some of them included
    assert server.count("potstill_shed_total", reason="held") == 0


def test_requests_sent_ahead_are_all_answered_and_a_body_among_them_is_whole(server):
    big = json.dumps({"texts": ["rise " * 3000] * 30}).encode()
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(big[at : at + 7000]), big[at : at + 7000]) for at in range(0, len(big), 7000))
    middle = [
        POST + b"Content-Length: %d\r\n\r\n" % len(big) + big,
        POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunked + b"0\r\n\r\n",
    ]
    with server.socket() as client:
        whole = LIVE * 4000 + middle[0] + LIVE * 10 + middle[1] + WHOLE + LIVE[:-2] + b"Connection: close\r\n\r\n"
        sending = threading.Thread(target=client.sendall, args=(whole,))  # beside the reading, as the replies are many
        sending.start()
        found = b"".join(iter(lambda: client.recv(65536), b""))
        sending.join()
    assert statuses(found) == [200] * 4014


def test_bodies_that_are_held_back_share_a_bound(server):
    def attack():
        clients = [server.socket() for _ in range(150)]
        for client in clients:
            client.settimeout(5)
            try:
                client.sendall(POST + b"Content-Length: 999999\r\n\r\n" + b" " * 950_000)
            except OSError:
                pass  # refused meanwhile
        assert server.classify(text="rise")[0] == 200
        for client in clients:
            client.close()

    assert gained(server, attack) < 45 * MEGABYTE  # of 142 that are sent, and each piece is held twice for a moment
    assert server.count("potstill_shed_total", reason="held") > 0


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"y" * 40_000 + b"\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 6000 + b"\r\n",
        b"GET /" + b"y" * 60_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=["one header", "many headers", "a long path"],
)
def test_a_head_above_the_limit_is_refused_even_in_one_packet(server, request_bytes):
    assert statuses(replies(server, request_bytes)) == [431]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("offer", [b"h2c", b"websocket"])
def test_a_body_behind_an_offered_upgrade_is_that_request_and_no_other(server, offer, together):
    inner = b"GET /bundles HTTP/1.1\r\nHost: localhost\r\n\r\n"
    head = POST + b"Connection: Upgrade\r\nUpgrade: %s\r\nContent-Length: %d\r\n\r\n"
    for body, status in ((BODY, 200), (inner, 400)):
        whole = [head % (offer, len(body)), body]
        found = replies(server, *([b"".join(whole)] if together else whole), closes=False)
        assert statuses(found) == [status, 200] and b'"bundles"' not in found


def test_a_body_in_thousands_of_chunks_is_read_to_its_end(server):
    wire = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY + b" " * 9000) + b"0\r\n\r\n"
    pieces = [wire[at : at + 9001] for at in range(0, len(wire), 9001)]
    found = replies(server, POST + b"Transfer-Encoding: chunked\r\n\r\n", *pieces, LIVE, pause_s=0.01, closes=False)
    assert statuses(found) == [200, 200, 200]


def test_trailer_fields_are_no_headers(server):
    found = replies(
        server, POST + b"Transfer-Encoding: chunked\r\n\r\n10\r\n" + BODY + b"\r\n0\r\nHost: other\r\n\r\n" + LIVE, closes=False
    )
    assert statuses(found) == [200, 200, 200]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /livez HTTP/1.1\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400),
        (b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"NOT HTTP\r\n\r\n", 400),
        (b"\r\n" * 100, 400),
        (b"GET / HTTP/1.1\nHost: a\n\nGET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    ],
)
def test_malformed_http_is_refused_in_json_and_counted(server, request_bytes, status):
    before = server.count("potstill_shed_total", reason="malformed")
    found = replies(server, request_bytes)
    assert statuses(found) == [status]
    assert json.loads(found.partition(b"\r\n\r\n")[2])["error"]
    assert server.count("potstill_shed_total", reason="malformed") == before + 1
    assert server.count("potstill_requests_total", path="none", status=str(status)) >= 1


def test_a_refused_head_gets_a_reply_without_a_body(server):
    found = replies(server, b"HEAD /livez HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n")
    assert statuses(found) == [400] and found.endswith(b"\r\n\r\n")


def test_a_whole_request_is_answered_though_half_of_another_follows_it(server):
    assert statuses(replies(server, WHOLE + WHOLE[:-5])) == [200, 408]


def test_a_request_in_work_is_answered_though_the_half_that_follows_it_is_given_up(tmp_path):
    body = json.dumps({"texts": ["rise"] * 64, "timeout_ms": 30_000}).encode()
    whole = POST + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with ServerProcess(write_bundle(tmp_path / "slow", slow=5000), "--receipt-s", "0.2", "--workers", "1") as server:
        assert statuses(replies(server, whole + whole[:-5])) == [200, 408]  # in work for longer than the half may take to arrive


def test_a_client_whose_reply_came_before_its_body_gets_no_second_one(server):
    found = replies(server, b"POST /none HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf")
    assert statuses(found) == [404]


def test_a_server_that_may_open_few_files_refuses_connections_and_stays_well(tmp_path):
    few = ["prlimit", "--nofile=160:160"]
    with ServerProcess(write_bundle(tmp_path / "plain"), prefix=few) as server:
        clients = [server.socket() for _ in range(150)]
        time.sleep(0.5)
        clients[0].sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert clients[0].recv(65536).startswith(b"HTTP/1.1 200 ")

        def refused():
            with server.socket() as client:
                return client.recv(100).startswith(b"HTTP/1.1 503 ")

        wait_until(refused, "a refusal")
        for client in clients:
            client.close()
        wait_until(lambda: server.classify(text="rise")[0] == 200, "room again")
        server.stop()
        assert b"bug" not in server.process.stderr.read()


def test_a_server_takes_the_open_files_that_its_connections_need(tmp_path):
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 2000:
        pytest.skip("the hard limit of open files is too low here")
    with ServerProcess(write_bundle(tmp_path / "plain"), prefix=["prlimit", "--nofile=256:2000"]) as server:
        clients = [server.socket() for _ in range(300)]
        assert server.classify(text="rise")[0] == 200
        for client in clients:
            client.close()


def test_a_new_client_is_answered_between_the_requests_of_one_that_sends_many(server):
    with server.socket() as flood:
        flood.sendall(LIVE * 5000)
        began = time.monotonic()
        assert server.classify(text="rise")[0] == 200
        took_s = time.monotonic() - began
        flood.shutdown(socket.SHUT_RDWR)
    assert took_s < 1  # the whole flood would take longer, even where nothing else runs
