"""What a server is like after many new versions of its bundle, and beside clients whose texts are dear to read.

    python benchmarks/promises/long_run.py out/bundle --versions 150 --seconds 4

First new versions, one after the other, each announced by SIGHUP and waited for: resident memory at the beginning, in between and
at the end. Then a client that asks one short text at a time, beside eight that ask, over and over, for plain texts or for texts of
invisible characters, truncated and not: the median and the 95th percentile of its times, in ms.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from potstill.contract.bundle import write_sums
from potstill.contract.system.memory import own_bytes, resident_bytes
from potstill.serve.bench.load.server_process import ServerProcess, started_server

COMMAND = [sys.executable, "-m", "potstill.commands.main", "serve"]
N_NEIGHBOURS = 8
INVISIBLE = "\u200b\u2060" * 50_000
PLAIN = "the price will rise and fall again " * 2_800  # as many characters


def ask(connection: http.client.HTTPConnection, path: str, value: object) -> int:
    """Post JSON and read the reply; its status."""
    connection.request("POST", path, json.dumps(value, ensure_ascii=False).encode(), {"Content-Type": "application/json"})
    reply = connection.getresponse()
    reply.read()
    return reply.status


def connect(server: ServerProcess) -> http.client.HTTPConnection:
    """A connection to the server."""
    return http.client.HTTPConnection(server.address.host, server.address.port, timeout=60)


def version_of(connection: http.client.HTTPConnection) -> str:
    """The version that answers."""
    connection.request("POST", "/classify", json.dumps({"text": "rise"}).encode())
    return str(json.loads(connection.getresponse().read())["version"])


def memory_over_versions(bundle: Path, n: int) -> list[tuple[int, float, float]]:
    """(number of versions so far, resident MB, MB of it that no file is mapped to)."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "bundle"
        shutil.copytree(bundle, copy)
        with started_server(COMMAND, copy) as server:
            connection = connect(server)
            current, found = version_of(connection), []
            for number in range(n + 1):
                if number in {0, 1, 2, 5, 10, n} or number % 25 == 0:
                    time.sleep(0.5)
                    pid = server.process.pid
                    found.append((number, resident_bytes(pid) / 1e6, (own_bytes(pid) or 0) / 1e6))
                (copy / "README.md").write_text(f"version {number}\n")
                write_sums(copy)
                server.reload()
                end_s = time.monotonic() + 60
                while version_of(connection) == current:
                    if time.monotonic() > end_s:
                        raise SystemExit(f"version {number} never came")
                    time.sleep(0.02)
                current = version_of(connection)
            return found


def neighbour(server_address: tuple[str, int], path: str, value: object) -> None:
    """Ask the same over and over, until killed."""
    connection = http.client.HTTPConnection(*server_address, timeout=60)
    while True:
        ask(connection, path, value)


def times_beside(bundle: Path, path: str, value: object, seconds: float) -> tuple[int, int, list[float]]:
    """(number of answers, of refusals, ms of each answer) of single texts beside such clients. Args: value, None for no clients."""
    with started_server(COMMAND, bundle) as server:
        place = (server.address.host, server.address.port)
        context = multiprocessing.get_context("fork")
        others = [context.Process(target=neighbour, args=(place, path, value)) for _ in range(N_NEIGHBOURS if value else 0)]
        for other in others:
            other.start()
        time.sleep(0.5)
        connection, times, n_refused, end_s = connect(server), [], 0, time.monotonic() + seconds
        while time.monotonic() < end_s:
            began = time.perf_counter()
            if ask(connection, "/classify", {"text": "the price will rise"}) == 200:
                times.append((time.perf_counter() - began) * 1e3)
            else:
                n_refused += 1
            time.sleep(0.01)
        for other in others:
            other.kill()
            other.join()
    return len(times), n_refused, times


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--versions", type=int, default=150)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each kind of neighbours")
    options = parser.parse_args()
    bundle = options.bundle.resolve()
    if options.versions:
        for number, resident, own in memory_over_versions(bundle, options.versions):
            print(f"after {number} versions: {resident:.0f} MB, {own:.0f} MB of them its own", flush=True)
    kinds = [
        ("nobody", "", None),
        ("plain texts", "/predict", {"inputs": PLAIN}),
        ("plain texts, not truncated", "/predict", {"inputs": PLAIN, "truncate": False}),
        ("invisible characters", "/predict", {"inputs": INVISIBLE}),
        ("invisible characters, not truncated", "/predict", {"inputs": INVISIBLE, "truncate": False}),
    ]
    print("| beside eight clients of | answered | refused | median ms | 95th percentile ms |\n|---|---:|---:|---:|---:|")
    for name, path, value in kinds:
        n, n_refused, times = times_beside(bundle, path, value, options.seconds)
        median, high = statistics.median(times), statistics.quantiles(times, n=20)[-1]
        print(f"| {name} | {n} | {n_refused} | {median:.1f} | {high:.1f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
