"""Send a server thousands of damaged requests of every protocol over raw sockets, and count what it answers.

    python benchmarks/promises/protocol_fuzz.py out/bundle --cases 10000

A server is started with the bundle under two names. For each protocol so many requests are made from sound ones: values of other
types and sizes, keys left out and added, bytes changed in the JSON, compressed and binary bodies cut, paths, methods and headers
changed; `http` changes bytes and lines of whole requests, so that lengths, chunks and heads no longer fit. What is wrong is a 5xx
that is no refusal (501, 503 and 504 are), a reply that is not HTTP, an error that is not one object of JSON, no reply to a whole
request, a traceback in the log, and a server that is dead at the end. Prints a Markdown table, then what is wrong; ends with 1 if
anything is. `api_fuzz.py` holds replies against the OpenAPI description instead.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from odd_requests import PROTOCOLS, request

from potstill.contract.system.child_process import environment
from potstill.contract.system.memory import resident_bytes

REFUSALS = {501, 503, 504}
PATIENCE_S = 30.0
UNREAD_BYTES = 50_000  # a client that still sends when it is refused may lose the reply


# Asking


@dataclass
class Result:
    """What one protocol's requests got."""

    protocol: str
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)  # the first request of each kind of wrong
    slowest_ms: float = 0.0
    gained_mb: float = 0.0

    def note(self, what: str, sent: bytes) -> None:
        """Count something wrong."""
        self.wrong[what] += 1
        self.examples.setdefault(what, repr(sent[:600]))


class Client:
    """One connection at a time."""

    def __init__(self, port: int) -> None:
        self._port, self._socket = port, None

    def close(self) -> None:
        """End the connection."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def ask(self, sent: bytes, *, last: bool) -> bytes:
        """All that comes back for a request. Args: last, whether nothing more is sent, and all replies are read."""
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE_S)
        found = b""
        try:
            self._socket.sendall(sent)
            if last:
                self._socket.shutdown(socket.SHUT_WR)
            while not (whole(found, sent) and not last):
                more = self._socket.recv(1 << 16)
                if not more:
                    self.close()
                    return found
                found += more
        except ConnectionError:
            self.close()
            return found
        if last or b"connection: close" in found.partition(b"\r\n\r\n")[0].lower():
            self.close()
        return found


def whole(found: bytes, sent: bytes) -> bool:
    """Whether a reply is complete; `100 Continue` is none."""
    if found.startswith(b"HTTP/1.1 100 "):
        found = found.partition(b"\r\n\r\n")[2]
    head, end, body = found.partition(b"\r\n\r\n")
    return bool(end) and len(body) >= (0 if sent.startswith(b"HEAD ") else length_of(head))


def length_of(head: bytes) -> int:
    """The length of a reply's body."""
    lengths = [line.partition(b":")[2] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    return int(lengths[0]) if lengths else 0


def note_replies(result: Result, found: bytes, sent: bytes, *, may_be_silent: bool) -> None:
    """Count the replies to a request, and what is wrong with them."""
    if not found and not may_be_silent:
        result.note("no reply", sent)
    while found:
        head, end, rest = found.partition(b"\r\n\r\n")
        words = head.split(b"\r\n")[0].split(b" ")
        if not end or words[0] != b"HTTP/1.1" or not words[1].isdigit():
            result.note("a reply that is not HTTP", sent)
            return
        status, n_body = int(words[1]), 0 if words[1] == b"100" else length_of(head)
        head_only = sent.startswith(b"HEAD ") or (may_be_silent and len(rest) < n_body and not rest)
        body, found = (b"", rest) if head_only else (rest[:n_body], rest[n_body:])
        result.statuses[status] += 1
        if status >= 500 and status not in REFUSALS:
            result.note(f"status {status}", sent)
        if status >= 400 and not head_only and not is_object(body):
            result.note("an error that is no object of JSON", sent)


def is_object(body: bytes) -> bool:
    """Whether it is one JSON object; or what /readyz and its kind say."""
    try:
        return isinstance(json.loads(body), dict)
    except ValueError:
        return False


def fuzz(port: int, pid: int, protocol: str, n_cases: int, seed: int) -> Result:
    """Send so many requests of a protocol, and watch the server's memory."""
    result, client, rng = Result(protocol), Client(port), random.Random(f"{seed} {protocol}")
    make, loose = PROTOCOLS[protocol], protocol == "http"
    before = resident_bytes(pid)
    for case in range(n_cases):
        sent = make(rng)
        began = time.perf_counter()
        try:
            found = client.ask(sent, last=loose)
        except TimeoutError:
            result.note("no end of the reply", sent)
            client.close()
            continue
        result.slowest_ms = max(result.slowest_ms, (time.perf_counter() - began) * 1e3)
        note_replies(result, found, sent, may_be_silent=loose or len(sent) > UNREAD_BYTES)
        if case % 50 == 0:
            result.gained_mb = max(result.gained_mb, (resident_bytes(pid) - before) / 1e6)
    client.close()
    return result


@contextmanager
def server(bundle: Path, log: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """(port, process) of a server whose log is a file."""
    command = [sys.executable, "-m", "potstill.commands.main", "serve", f"one={bundle}", f"two={bundle}", "--port", "0"]
    with log.open("wb") as file, subprocess.Popen(command, stderr=file, env=environment()) as process:
        try:
            end_s = time.monotonic() + PATIENCE_S
            while " at http://" not in (said := log.read_text(errors="replace")):
                if process.poll() is not None or time.monotonic() > end_s:
                    raise SystemExit(f"the server did not start: {said}")
                time.sleep(0.05)
            yield int(said.partition(" at http://")[2].partition(" with ")[0].rpartition(":")[2]), process
        finally:
            process.kill()


def table(rows: list[Result]) -> str:
    """Markdown."""
    lines = [
        "| protocol | requests | statuses | slowest reply, ms | memory gained, MB | wrong |",
        "| --- | ---: | --- | ---: | ---: | ---: |",
    ]
    for row in rows:
        statuses = ", ".join(f"{status}: {n}" for status, n in sorted(row.statuses.items()))
        figures = f"{row.slowest_ms:.0f} | {row.gained_mb:.1f} | {row.wrong.total()}"
        lines.append(f"| {row.protocol} | {row.statuses.total()} | {statuses} | {figures} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--cases", type=int, default=10_000, help="of each protocol")
    parser.add_argument("--only", default="", help="protocols whose name contains this")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rows, ended = [], []
    with tempfile.TemporaryDirectory() as folder, server(options.bundle.resolve(), Path(folder) / "log") as (port, process):
        for protocol in PROTOCOLS:
            if options.only in protocol:
                rows.append(fuzz(port, process.pid, protocol, options.cases, options.seed))
                print(table(rows[-1:]).splitlines()[-1], flush=True)
        if process.poll() is not None or b" 200 " not in Client(port).ask(request(b"GET", b"/livez"), last=False):
            ended.append("the server is dead")
        process.send_signal(signal.SIGTERM)
        if process.wait(PATIENCE_S) != 0:
            ended.append(f"the server ended with {process.returncode}")
        said = (Path(folder) / "log").read_text(errors="replace")
        ended += [line for line in said.splitlines() if "Traceback" in line or "bug" in line][:5]
    print("\n" + table(rows))
    for row in rows:
        for what, n in row.wrong.items():
            print(f"\n{row.protocol}: {n} times {what}, such as {row.examples[what]}")
    print("\n".join(ended))
    return int(bool(ended or any(row.wrong for row in rows)))


if __name__ == "__main__":
    sys.exit(main())
