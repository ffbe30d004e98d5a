"""What a request costs: `/v1/decisions` over `/classify`, and a bundle of several questions over one, in turns on kept connections.

    python benchmarks/questions/request_times.py --bundle one=out/one --bundle four=out/four --turns 200
    python benchmarks/questions/request_times.py --bundle one=out/one --before OTHER_CHECKOUT --turns 400

A server is started with the bundles, with `--before` a second one from another checkout of this repository. The same text goes to
each path in turns of 20 requests on bare sockets. Prints p50 in milliseconds, and the differences of the turns' medians with 95 %
intervals by bootstrap over the turns.
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from potstill.contract.system.child_process import environment

TURN = 20
N_DRAWS = 2000
PATIENCE_S = 60.0
ROOT = Path(__file__).resolve().parents[2]
Json = dict[str, Any]


class Timed:
    """One kind of request on a kept connection, timed in turns."""

    def __init__(self, port: int, path: str, body: Json) -> None:
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
        self._request = head.encode() + data
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        self._connection.connect()
        self.turns: list[list[float]] = []  # milliseconds

    def turn(self) -> None:
        """Time `TURN` requests."""
        self.turns.append([self._ask() for _ in range(TURN)])

    def _ask(self) -> float:
        """Milliseconds of one request on the bare socket."""
        start = time.perf_counter()
        self._connection.sock.sendall(self._request)
        reply = self._connection.sock.recv(1 << 16)
        head, _, body = reply.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        while len(body) < length:
            body += self._connection.sock.recv(1 << 16)
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"not answered: {reply[:300]!r}")
        return (time.perf_counter() - start) * 1e3

    @property
    def medians(self) -> np.ndarray:
        """The median of each turn, in milliseconds."""
        return np.array([median(times) for times in self.turns])

    @property
    def p50_ms(self) -> float:
        """The median of all requests."""
        return median(one for times in self.turns for one in times)


@contextmanager
def server(bundles: list[str], checkout: Path) -> Iterator[int]:
    """The port of a server of these bundles, run from a checkout."""
    command = [sys.executable, "-m", "potstill.commands.main", "serve", *bundles, "--port", "0"]
    more = {"cwd": checkout, "env": {**environment(), "PYTHONPATH": str(checkout)}}
    with tempfile.TemporaryFile() as log, subprocess.Popen(command, stderr=log, **more) as process:
        try:
            end_s, said = time.monotonic() + PATIENCE_S, ""
            while " at http://" not in said:
                if process.poll() is not None or time.monotonic() > end_s:
                    raise SystemExit(f"the server did not start: {said}")
                time.sleep(0.05)
                log.seek(0)
                said = log.read().decode(errors="replace")
            yield int(said.partition(" at http://")[2].partition(" with ")[0].rpartition(":")[2])
        finally:
            process.kill()


def described(port: int) -> dict[str, Json]:
    """The server's bundles by name."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    connection.request("GET", "/bundles")
    return {row["bundle"]: row for row in json.loads(connection.getresponse().read())["bundles"]}


def all_questions(bundle: Json) -> list[Json]:
    """All that a bundle decides, as a decision model is asked."""
    found = bundle.get("questions") or [{"name": None, "kind": "choice", "labels": bundle["labels"]}]
    asked: list[Json] = []
    for one in found:
        words: Json = {"instructions": "Which of these?"} | ({"name": one["name"]} if one["name"] else {})
        if one["kind"] == "choice":
            asked.append(words | {"type": "choice", "choices": [{"value": label} for label in one["labels"]]})
        elif one["kind"] == "degree":
            asked.append(words | {"type": "score", "levels": [{"label": label} for label in one["labels"]]})
        elif one["kind"] == "yesno":
            asked.append(words | {"type": "predicate"})
        else:
            asked += [words | {"type": "predicate", "name": f"{one['name']}/{tag}"} for tag in one["labels"]]
    return asked


def interval(changes: np.ndarray) -> str:
    """The median of the turns' differences, with a 95 % interval by bootstrap."""
    rng = np.random.default_rng(0)
    drawn = np.median(rng.choice(changes, (N_DRAWS, len(changes))), axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{np.median(changes):+.4f} [{low:+.4f}, {high:+.4f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", action="append", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--before", type=Path, help="another checkout; its server answers /classify in turns with this one's")
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--text", default="Shipments rise again, and everyone I know bought more calls this morning.")
    options = parser.parse_args()
    bundles = [f"{name}={Path(folder).resolve()}" for name, _, folder in (one.partition("=") for one in options.bundle)]
    paths: dict[str, Timed] = {}
    with ExitStack() as stack:
        port = stack.enter_context(server(bundles, ROOT))
        before = None if options.before is None else stack.enter_context(server(bundles, options.before.resolve()))
        for name, bundle in described(port).items():
            text = {"text": options.text}
            paths[f"{name} /classify"] = Timed(port, f"/bundles/{name}/classify", text)
            if before is not None:
                paths[f"{name} /classify, before"] = Timed(before, f"/bundles/{name}/classify", text)
                continue
            asked = {"model": "m", "input": options.text, "questions": all_questions(bundle)}
            paths[f"{name} /v1/decisions"] = Timed(port, f"/bundles/{name}/v1/decisions", asked)
        names = list(paths)
        for turn in range(options.turns + 2):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                paths[name].turn()
        for one in paths.values():
            del one.turns[:2]
    first, n = next(iter(paths.values())), options.turns * TURN
    print(f"| {n} requests each | p50, ms | over {names[0]}, ms | over its own /classify, ms |\n| --- | ---: | ---: | ---: |")
    for name, one in paths.items():
        own = paths[name.split()[0] + " /classify"]
        rows = ["" if one is other else interval(one.medians - other.medians) for other in (first, own)]
        print(f"| {name} | {one.p50_ms:.4f} | {rows[0]} | {rows[1]} |")


if __name__ == "__main__":
    main()
