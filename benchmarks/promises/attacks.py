"""What clients without a key can do to a server: memory and the longest time that its event loop stands still, attack by attack.

    python benchmarks/promises/attacks.py out/bundle --seconds 2

A server is started for each attack, on loopback. A process of its own sends the attack, for a few seconds and with a bound on its
bytes. Meanwhile this process asks for /livez over one connection, again and again, and reads what memory the server holds itself.
The longest wait for a reply is the stall: it contains what this machine's scheduler adds, which the row without an attack shows.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from potstill.contract.system.memory import own_bytes
from potstill.serve.bench.load.server_process import started_server

SETTLE_S = 0.5
MOST_BYTES = 80_000_000  # that one attack sends
POST = b"POST %s HTTP/1.1\r\nHost: localhost\r\n"
LIVE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"

Sender = Callable[[str, int, float], None]  # args: host, port, seconds


@dataclass(frozen=True)
class Row:
    """What an attack did."""

    attack: str
    connections: int
    gained_mb: float  # most memory that the server held during the attack, above that before it
    kept_mb: float  # the same, some time after it
    stall_ms: float  # longest wait for /livez
    median_ms: float
    alive: bool


def whole(path: bytes, body: bytes, headers: bytes = b"") -> bytes:
    """A complete request."""
    return POST % path + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body


def stream(first: bytes, again: bytes, n_connections: int = 1) -> Sender:
    """Open connections, send the first bytes on each, then the others over and over; never read."""

    def send(host: str, port: int, seconds: float) -> None:
        clients = [socket.create_connection((host, port)) for _ in range(n_connections)]
        for client in clients:
            client.sendall(first)
            client.settimeout(0.05 if n_connections == 1 else 0.005)
        end_s, n, living = time.monotonic() + seconds, 0, clients
        while living and time.monotonic() < end_s and n < MOST_BYTES:
            for client in list(living):
                try:
                    n += client.send(again)
                except TimeoutError:
                    continue
                except OSError:
                    living.remove(client)
        time.sleep(max(0.0, end_s - time.monotonic()))

    return send


def asked(request: bytes, n_connections: int = 1) -> Sender:
    """Ask the same on each connection, read the reply, and ask again."""

    def send(host: str, port: int, seconds: float) -> None:
        end_s, n = time.monotonic() + seconds, 0
        clients = [socket.create_connection((host, port), timeout=30) for _ in range(n_connections)]
        while time.monotonic() < end_s and n < MOST_BYTES:
            for at, client in enumerate(clients):
                try:
                    client.sendall(request)
                    n += len(request)
                except OSError:
                    clients[at] = socket.create_connection((host, port), timeout=30)
            for at, client in enumerate(clients):
                try:
                    if not client.recv(1 << 20):
                        clients[at] = socket.create_connection((host, port), timeout=30)
                except OSError:
                    clients[at] = socket.create_connection((host, port), timeout=30)

    return send


def infer(tensor: dict[str, object]) -> bytes:
    """A request of the Open Inference Protocol with one input."""
    one = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"], **tensor}
    return whole(b"/v2/models/%s/infer" % NAME, json.dumps({"inputs": [one]}).encode())


def decision(**changes: object) -> bytes:
    """A request of the decision protocol with one question."""
    question = {"type": "choice", "instructions": "?", "choices": [{"value": "a"}, {"value": "b"}]}
    return whole(b"/v1/decisions", json.dumps({"model": "m", "input": "a", "questions": [question], **changes}).encode())


NAME = b"bundle"


def attacks() -> Iterator[tuple[str, int, Sender | None]]:
    """(name, number of connections, what is sent) of every attack."""
    ask, invisible, marks = b"/classify", "\u200b\u2060" * 50_000, "\u0b01\u0b3c" * 50_000
    yield "nothing", 0, None
    yield "trailer fields", 1, stream(POST % ask + CHUNKED + b"0\r\n", b"X-T: %s\r\n" % (b"y" * 60) * 900)
    yield "one long trailer field", 1, stream(POST % ask + CHUNKED + b"0\r\nX-T: ", b"y" * 60_000)
    yield "chunk extensions", 1, stream(POST % ask + CHUNKED, b"1;%s\r\na\r\n" % (b"y" * 200) * 300)
    yield "chunks of one byte", 1, stream(POST % ask + CHUNKED, b"1\r\na\r\n" * 10_000)
    yield "empty lines", 1, stream(b"", b"\r\n" * 30_000)
    yield "pipelined, replies unread", 1, stream(b"", b"GET / HTTP/1.1\r\nHost:a\r\n\r\n" * 3000)
    yield "pipelined, replies unread", 60, stream(b"", LIVE * 1500, 60)
    yield "bodies held back", 500, stream(POST % ask + b"Content-Length: 999999\r\n\r\n" + b" " * 100_000, b" " * 50_000, 500)
    yield "a shape of 49,000 long numbers", 1, asked(infer({"shape": [9_999_999_999_999_999_999] * 45_000}))
    yield "a shape of 230 numbers of 4,300 digits", 1, asked(infer({"shape": [int("9" * 4200)] * 220}))
    yield "300,000 empty lists", 1, asked(infer({"data": [[]] * 300_000}))
    yield "200,000 objects", 1, asked(infer({"data": [[{}] * 200_000]}))
    yield "a key of 900 KB", 1, asked(whole(ask, json.dumps({"text": "a", "k" * 900_000: 1}).encode()))
    yield "200,000 texts", 1, asked(whole(ask, json.dumps({"texts": ["aa"] * 160_000}).encode()))
    yield "64 texts of a megabyte", 1, asked(whole(ask, json.dumps({"texts": ["price rise " * 1400] * 64}).encode()))
    yield "18,000 messages", 1, asked(decision(input=[{"role": "user", "content": [{"type": "text", "text": "a"}]}] * 18_000))
    yield (
        "60,000 choices",
        1,
        asked(decision(questions=[{"type": "choice", "instructions": "?", "choices": [{"value": "a"}] * 60_000}])),
    )
    yield "20,000 questions", 1, asked(decision(questions=[{"type": "predicate", "instructions": "?"}] * 20_000))
    yield "400 questions with names", 1, asked(decision(questions=[{"type": "x", "instructions": "?", "name": "n" * 2300}] * 400))
    yield "escapes", 1, asked(whole(ask, json.dumps({"text": "\x01" * 160_000}).encode()))
    yield "a gzip bomb", 1, asked(whole(ask, gzip.compress(b" " * 50_000_000), b"Content-Encoding: gzip\r\n"))
    yield "invisible characters", 8, asked(whole(b"/predict", json.dumps({"inputs": invisible}, ensure_ascii=False).encode()), 8)
    yield (
        "the same, not truncated",
        8,
        asked(whole(b"/predict", json.dumps({"inputs": invisible, "truncate": False}, ensure_ascii=False).encode()), 8),
    )
    yield (
        "rare marks, not truncated",
        1,
        asked(whole(b"/predict", json.dumps({"inputs": marks, "truncate": False}, ensure_ascii=False).encode())),
    )
    yield "words just too short to shorten", 1, asked(whole(ask, json.dumps({"text": ("x" * 90 + "qz ") * 2000}).encode()))


def measure(command: list[str], bundle: Path, attack: tuple[str, int, Sender | None], seconds: float) -> Row:
    """Start a server, attack it, and watch it."""
    name, n_connections, send = attack
    with started_server(command, Path(f"bundle={bundle}"), "--receipt-s", "5") as server:
        host, port, pid = server.address.host, server.address.port, server.process.pid
        probe = socket.create_connection((host, port), timeout=60)
        for _ in range(200):
            ask_alive(probe)
        before = held(pid)
        context = multiprocessing.get_context("fork")
        attacker = None if send is None else context.Process(target=send, args=(host, port, seconds))
        if attacker is not None:
            attacker.start()
        waits, peak, end_s = [], before, time.monotonic() + seconds + SETTLE_S
        while time.monotonic() < end_s or (attacker is not None and attacker.is_alive()):
            start = time.perf_counter()
            alive = ask_alive(probe)
            waits.append(time.perf_counter() - start)
            peak = max(peak, held(pid))
            if not alive:
                break
            time.sleep(0.001)
        if attacker is not None:
            attacker.kill()
            attacker.join()
        time.sleep(SETTLE_S)
        kept = held(pid) - before
        alive = server.process.poll() is None
    return Row(name, n_connections, (peak - before) / 1e6, kept / 1e6, max(waits) * 1e3, statistics.median(waits) * 1e3, alive)


def held(pid: int) -> int:
    """Bytes that the server holds itself: pages of its libraries come and go as the system likes. It must be running, on Linux."""
    found = own_bytes(pid)
    if found is None:
        raise SystemExit("the server has ended, or this system does not say what a process holds")
    return found


def ask_alive(probe: socket.socket) -> bool:
    """Ask for /livez and read the reply."""
    probe.sendall(LIVE)
    return probe.recv(4096).startswith(b"HTTP/1.1 200 ")


def table(rows: list[Row]) -> str:
    """The rows as a table."""
    lines = ["| attack | connections | peak MB | kept MB | longest stall ms | median ms | alive |"]
    lines.append("|---|---:|---:|---:|---:|---:|---|")
    for row in rows:
        figures = f"{row.gained_mb:.1f} | {row.kept_mb:.1f} | {row.stall_ms:.1f} | {row.median_ms:.2f}"
        lines.append(f"| {row.attack} | {row.connections} | {figures} | {'yes' if row.alive else 'no'} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each attack")
    parser.add_argument("--only", default="", help="attacks whose name contains this")
    options = parser.parse_args()
    command = [sys.executable, "-m", "potstill.commands.main", "serve"]
    rows = []
    for attack in attacks():
        if options.only in attack[0]:
            rows.append(measure(command, options.bundle.resolve(), attack, options.seconds))
            print(table(rows[-1:]).splitlines()[-1], flush=True)
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
