"""A server under load while the teacher behind it is killed, held and talks nonsense; and what easy texts pay for a teacher.

    python benchmarks/promises/fallback_teacher.py out/bundle --task task.toml --texts texts.jsonl --teacher smollm2-135m-instruct

The bundle is copied, with thresholds from which on it abstains from a share of the texts (--hard). Clients in processes of their
own send one request after the other, easy texts and hard ones, with a pause. A request is lost if it gets no reply, or one that is
neither 200 nor a refusal (429, 503) at once. The time of easy texts with and without a teacher is taken in turns from two servers.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from potstill.contract.bundle import read_manifest, write_manifest, write_sums
from potstill.contract.fallback import wire
from potstill.contract.system.child_process import environment
from potstill.contract.texts import read_texts
from potstill.serve.runtime.classifier import Classifier

PAUSE_S = 0.01  # of a client between two requests
DEADLINE_S = 1.0  # the server's default
N_EASY_CLIENTS, N_HARD_CLIENTS = 2, 3
KILL_EVERY_S = 4.0
ROUNDS, PER_ROUND = 60, 100  # of the comparison in turns
LINKED = """
import sys, msgspec
from potstill.serve.http.config import ServeConfig, TeacherLink
from potstill.serve.http.telemetry.logs_and_traces import ServerLog
from potstill.serve.run import serve
link = msgspec.json.decode(sys.argv[1], type=TeacherLink)
serve(sys.argv[2:], ServeConfig(port=0, teacher=link), announce=ServerLog().line)
"""


@dataclass(frozen=True)
class Exchange:
    """One request."""

    hard: bool
    status: int  # 0: no reply
    seconds: float
    by: str  # teacher, bundle, or the bundle with the reason


@contextmanager
def server(command: Sequence[str]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """(a running server, its port)."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment())
    try:
        if process.stderr is None:
            raise ValueError("the server's log is not read")
        line = b""
        while b"stop it with Ctrl-C" not in line:
            line = process.stderr.readline()
            if not line:
                sys.exit("the server did not start")
        threading.Thread(target=process.stderr.read, daemon=True).start()  # else the log would fill the pipe
        yield process, int(line.split(b" with ")[0].rpartition(b":")[2])
    finally:
        process.terminate()
        process.wait()


def ask(connection: http.client.HTTPConnection, body: bytes, *, hard: bool) -> Exchange:
    """Send one request, and read its reply."""
    start = time.perf_counter()
    try:
        connection.request("POST", "/classify", body)
        reply = connection.getresponse()
        value = json.loads(reply.read())
    except (OSError, http.client.HTTPException):
        connection.close()
        return Exchange(hard, 0, time.perf_counter() - start, "")
    answer = value.get("answer", {})
    by = answer.get("teacher") or answer.get("answered_by", "")
    return Exchange(hard, reply.status, time.perf_counter() - start, by)


def client(port: int, texts: list[str], hard: bool, end_s: float, found: multiprocessing.connection.Connection) -> None:  # type: ignore[name-defined]
    """Send requests until the end; for a process of its own."""
    connection, exchanges, n = http.client.HTTPConnection("127.0.0.1", port, timeout=30), [], 0
    while time.monotonic() < end_s:
        exchanges.append(ask(connection, json.dumps({"text": texts[n % len(texts)]}).encode(), hard=hard))
        n += 1
        time.sleep(PAUSE_S)
    found.send(exchanges)


def under_load(port: int, easy: list[str], hard: list[str], seconds: float, fault: Callable[[float], None]) -> list[Exchange]:
    """The exchanges of all clients, while a fault goes on. Args: fault, called with the moment of the end."""
    end_s, running = time.monotonic() + seconds, []
    for texts, is_hard, n in ((easy, False, N_EASY_CLIENTS), (hard, True, N_HARD_CLIENTS)):
        for _ in range(n):
            ours, theirs = multiprocessing.Pipe(duplex=False)
            process = multiprocessing.Process(target=client, args=(port, texts, is_hard, end_s, theirs))
            process.start()
            running.append((process, ours))
    fault(end_s)
    exchanges = [one for _, ours in running for one in ours.recv()]
    for process, _ in running:
        process.join()
    return exchanges


def teacher_pid(parent: int) -> int | None:
    """Process id of the teacher behind a server; None while there is none."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                return int(path.parent.name)
        except OSError:
            continue
    return None


def kills(parent: int) -> Callable[[float], None]:
    """A fault: the teacher is killed again and again."""

    def fault(end_s: float) -> None:
        while time.monotonic() < end_s:
            time.sleep(min(KILL_EVERY_S, max(0.0, end_s - time.monotonic())))
            if (pid := teacher_pid(parent)) is not None:
                os.kill(pid, signal.SIGKILL)

    return fault


def held(parent: int) -> Callable[[float], None]:
    """A fault: the teacher is stopped, and goes on at the end."""

    def fault(end_s: float) -> None:
        if (pid := teacher_pid(parent)) is None:
            return
        os.kill(pid, signal.SIGSTOP)
        time.sleep(max(0.0, end_s - time.monotonic()))
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass  # it was replaced, as it gave no sign of life

    return fault


def nonsense(path: Path, labels: list[str]) -> None:
    """Listen at a path, and answer questions with one kind of nonsense after the other."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    even = {name: 1 / len(labels) for name in labels}
    kinds = [b"\0\0\0\x02{}", b"HTTP/1.1 200 OK\r\n\r\n", wire.HEAD.pack(2**31) + b"x", wire.HEAD.pack(0)]
    kinds.append(wire.encode(wire.TeacherReply(id=10**9, probs=even)))
    n = 0
    while True:
        connection, _ = listener.accept()
        connection.sendall(wire.encode(wire.Greeting(format=wire.FORMAT, teacher="nonsense", labels=labels, target=False)))
        if connection.recv(4096):
            connection.sendall(kinds[n % len(kinds)])
            n += 1


def row(name: str, found: list[Exchange]) -> str:
    """A row of the table."""
    lost = sum(one.status not in (200, 429, 503) for one in found)
    refused = sum(one.status in (429, 503) for one in found)
    easy = np.array([one.seconds for one in found if not one.hard and one.status == 200]) * 1e3
    hard = np.array([one.seconds for one in found if one.hard and one.status == 200]) * 1e3
    missed = int((easy > DEADLINE_S * 1e3).sum())
    by = Counter(one.by for one in found if one.hard and one.status == 200)
    whom = ", ".join(f"{who} {n}" for who, n in by.most_common())
    times = f"{np.median(easy):.2f} / {np.quantile(easy, 0.99):.1f} / {easy.max():.0f}"
    waits = f"{np.median(hard):.0f} / {np.quantile(hard, 0.99):.0f}"
    return f"| {name} | {len(found)} | {lost} | {refused} | {missed} of {len(easy)} | {times} | {waits} | {whom} |"


def in_turns(plain: int, behind: int, easy: list[str]) -> str:
    """What an easy text takes with a teacher behind the server and without, a client alone, in turns."""
    connections = [http.client.HTTPConnection("127.0.0.1", port) for port in (plain, behind)]
    medians: list[list[float]] = []
    for number in range(ROUNDS):
        texts = [easy[(number * PER_ROUND + i) % len(easy)] for i in range(PER_ROUND)]
        pair = [0.0, 0.0]
        for which in (0, 1) if number % 2 else (1, 0):
            seconds = [ask(connections[which], json.dumps({"text": text}).encode(), hard=False).seconds for text in texts]
            pair[which] = float(np.median(seconds)) * 1e3
        medians.append(pair)
    table = np.array(medians)  # [ROUNDS, 2], milliseconds
    added = table[:, 1] - table[:, 0]
    rng = np.random.default_rng(0)
    low, high = np.quantile([np.median(rng.choice(added, ROUNDS)) for _ in range(2000)], [0.025, 0.975])
    without, with_teacher = np.median(table, axis=0)
    return (
        f"p50 of easy texts: {without:.3f} ms without, {with_teacher:.3f} ms with a teacher; added {np.median(added):.4f} ms "
        f"[{low:.4f}, {high:.4f}], {ROUNDS} rounds of {PER_ROUND} requests each, in turns"
    )


def abstaining(bundle: Path, texts: list[str], share: float, copy: Path) -> tuple[list[str], list[str]]:
    """Copy the bundle so that it abstains from a share of the texts; returns (easy texts, hard texts)."""
    shutil.copytree(bundle, copy)
    with Classifier.open(bundle) as classifier:
        top = classifier.probs(texts).max(axis=1)
    least = float(np.quantile(top, share))
    manifest = read_manifest(copy)
    thresholds = dict.fromkeys(manifest.labels, least)
    write_manifest(copy, msgspec.structs.replace(manifest, thresholds=thresholds, precision=None, certificate=None))
    write_sums(copy)
    return [t for t, p in zip(texts, top, strict=True) if p >= least], [t for t, p in zip(texts, top, strict=True) if p < least]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--task", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--teacher", default="smollm2-135m-instruct")
    parser.add_argument("--seconds", type=float, default=15.0, help="Of each row.")
    parser.add_argument("--hard", type=float, default=0.2, help="Share of the texts from which the bundle abstains.")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        measure(args, folder)
    finally:
        shutil.rmtree(folder)


def measure(args: argparse.Namespace, folder: Path) -> None:
    """Start the servers, and print the rows."""
    bundle = folder / "bundle"
    easy, hard = abstaining(args.bundle, [text.text for text in read_texts(args.texts).texts], args.hard, bundle)
    serve = [sys.executable, "-m", "potstill", "serve", str(bundle), "--port", "0"]
    with_teacher = [*serve, "--teacher", args.teacher, "--task", str(args.task)]
    head = (
        "| teacher | requests | lost | refused | easy texts late | easy p50 / p99 / max, ms | hard p50 / p99, ms | hard texts by |"
    )
    rows = [head, "| --- | --- | --- | --- | --- | --- | --- | --- |"]
    with server(serve) as (_, plain), server(with_teacher) as (behind, port):
        wait_for_teacher(port, hard)
        print(in_turns(plain, port, easy), flush=True)
        rows.append(row("none", under_load(plain, easy, hard, args.seconds, lambda _: None)))
        rows.append(row("works", under_load(port, easy, hard, args.seconds, lambda _: None)))
        rows.append(row(f"killed every {KILL_EVERY_S:g} s", under_load(port, easy, hard, args.seconds, kills(behind.pid))))
        wait_for_teacher(port, hard)
        rows.append(row("held", under_load(port, easy, hard, args.seconds, held(behind.pid))))
    manifest = read_manifest(bundle)
    path = folder / "nonsense.sock"
    liar = multiprocessing.Process(target=nonsense, args=(path, manifest.labels), daemon=True)
    liar.start()
    link = {"socket": str(path), "labels": manifest.labels, "target": False}
    with server([sys.executable, "-c", LINKED, json.dumps(link), str(bundle)]) as (_, port):
        rows.append(row("talks nonsense", under_load(port, easy, hard, args.seconds, lambda _: None)))
    liar.kill()
    print("\n".join(rows))


def wait_for_teacher(port: int, hard: list[str]) -> None:
    """Wait until the teacher answers a hard text."""
    connection, end_s = http.client.HTTPConnection("127.0.0.1", port), time.monotonic() + 120
    body = json.dumps({"text": hard[0], "timeout_ms": 10_000}).encode()
    while ask(connection, body, hard=True).by != "teacher":
        if time.monotonic() > end_s:
            sys.exit("the teacher does not answer")
        time.sleep(0.2)


if __name__ == "__main__":
    main()
