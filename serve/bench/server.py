"""Benchmark a server: latency added to its classifier, highest throughput, latency over rate, and behaviour under overload."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import msgspec

from potstill.contract.bundle import read_golden
from potstill.contract.errors import UserError
from potstill.contract.system.machine import usable_cores
from potstill.contract.texts import Text, read_texts
from potstill.serve.bench.config import ServerBenchConfig
from potstill.serve.bench.load.client import REFUSED, Address, Connection
from potstill.serve.bench.load.closed_loop import closed_loop
from potstill.serve.bench.load.in_process import http_and_in_process_p50_ms, in_process_rps
from potstill.serve.bench.load.open_loop import open_loop
from potstill.serve.bench.load.result import LoadResult
from potstill.serve.bench.load.server_process import lost_by_reloads, lost_by_stops, started_server
from potstill.serve.bench.load_report import OVERLOAD, Rung, ServerBenchReport
from potstill.serve.bench.texts import shuffled, text_of
from potstill.serve.http.application.api_keys import VARIABLE
from potstill.serve.http.config import Limits
from potstill.serve.runtime.classifier import Classifier

ROUNDS = 3  # measurements of ceiling and limit, in turns
N_CLIENTS = 32  # clients of the closed loop; enough that no worker waits for a request
LADDER = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9)  # rates, as shares of the ceiling
TOKENS = 32  # length of the text on one connection
DEADLINE_S = Limits.timeout_ms / 1e3
CPU, RSS = "process_cpu_seconds_total", "process_resident_memory_bytes"


class _Load:
    """Load on one server, and the results of all of it."""

    def __init__(self, address: Address, requests: list[bytes], key: str | None) -> None:
        """Args: the server's address; complete requests; the API key, if the server wants one."""
        self.address, self.requests, self.key = address, requests, key
        self.results: list[LoadResult] = []

    def closed(self, seconds: float = float("inf"), n_requests: int | None = None) -> LoadResult:
        """Run a closed loop."""
        run = closed_loop(self.address, self.requests, N_CLIENTS, seconds=seconds, n_requests=n_requests)
        self.results.append(asyncio.run(run))
        return self.results[-1]

    def open(self, rate_rps: float, seconds: float) -> LoadResult:
        """Run an open loop."""
        self.results.append(asyncio.run(open_loop(self.address, self.requests, rate_rps, seconds)))
        return self.results[-1]

    def gauge(self, name: str) -> float:
        """Read one number of the server's metrics; raises UserError if it is not there."""
        for line in _page(self.address, "/metrics", self.key).decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        raise UserError(f"{self.address.host}:{self.address.port}: its metrics lack {name}; is it a potstill server?")


def bench_server(server: str, config: ServerBenchConfig, serve_command: Sequence[str]) -> ServerBenchReport:
    """Measure a server: alone, at its ceiling, at rates below it, and beyond it.

    Args:
        server: its URL, or the bundle to start one with.
        config: what to measure, and for how long.
        serve_command: program and arguments of `potstill serve`, to start servers with.
    Raises:
        FormatError: if bundle or texts are malformed.
        UserError: if the server does not answer, or signals are wanted without a bundle.
    """
    folder = config.bundle if "://" in server else Path(server)
    if folder is None and config.n_signals:
        raise UserError("signals need a server that this command starts; name its bundle: --bundle BUNDLE")
    serve_command = [*serve_command, *(["--trust"] if config.trust else [])]
    key = next((one.strip() for one in os.environ.get(VARIABLE, "").replace(",", "\n").splitlines() if one.strip()), None)
    with ExitStack() as stack:
        address = stack.enter_context(_address(server, config, serve_command))
        classifier = None if folder is None else stack.enter_context(Classifier.open(folder, trust=config.trust))
        texts = _texts(address, folder, config, key)
        load = _Load(address, [_request(address, text, key) for text in shuffled(texts)], key)
        report = _measure(server, load, classifier, texts, config)
    if folder is None or not config.n_signals:
        return report
    lost = lost_by_reloads(serve_command, folder, load.requests, config.n_signals)
    lost += lost_by_stops(serve_command, folder, load.requests, config.n_signals)
    return msgspec.structs.replace(report, lost=report.lost + lost)


def _measure(
    server: str, load: _Load, classifier: Classifier | None, texts: list[Text], config: ServerBenchConfig
) -> ServerBenchReport:
    """All figures of a running server, but for signals."""
    alone = _Alone() if classifier is None else _alone(load, classifier, texts, config.n_alone)
    load.closed(seconds=config.seconds / 2)  # warm-up
    ceiling = _ceiling(server, load, classifier, texts, config.seconds)
    ladder = [_rung(share * ceiling.rps, load.open(share * ceiling.rps, config.seconds)) for share in LADDER]
    overload = load.open(OVERLOAD * ceiling.rps, config.overload_s)
    rss = load.gauge(RSS)
    load.closed(n_requests=config.n_soak)
    growth = load.gauge(RSS) - rss
    return ServerBenchReport(
        added_p50_ms=alone.added_ms,
        http_p50_ms=alone.http_ms,
        in_process_p50_ms=alone.in_process_ms,
        ceiling_rps=ceiling.rps,
        limit_rps=ceiling.limit_rps,
        ceiling_over_limit=None if ceiling.limit_rps is None else ceiling.rps / ceiling.limit_rps,
        overload_goodput=overload.goodput_rps(DEADLINE_S) / ceiling.rps,
        overload_p99_ms=overload.percentiles_ms(99)[0],
        overload_shed=overload.shed_share(),
        overload_late_p99_ms=overload.late_p99_ms(),
        errors_5xx=sum(result.n_5xx() for result in load.results),
        rss_mb=(rss + growth) / 1e6,
        rss_growth_mb=growth / 1e6,
        n_soak=config.n_soak,
        cpu_ms_per_request=ceiling.cpu_ms_per_request,
        lost=sum(result.n_failed() - result.n_5xx() for result in load.results),
        n_signals=config.n_signals,
        ladder=ladder,
        n=sum(result.n for result in load.results),
    )


@dataclass(frozen=True)
class _Alone:
    """Median latencies of one connection in milliseconds; None without the bundle."""

    http_ms: float | None = None
    in_process_ms: float | None = None
    added_ms: float | None = None


def _alone(load: _Load, classifier: Classifier, texts: list[Text], n: int) -> _Alone:
    """Compare one connection with the classifier in process."""
    n_tokens = min(TOKENS, classifier.manifest.max_tokens)
    text = text_of(n_tokens, texts, lambda text: int(classifier.tokenizer.ids(text.text, text.target)["input_ids"].shape[1]))
    request = _request(load.address, text, load.key)
    http_ms, own_ms = http_and_in_process_p50_ms(load.address, classifier, text, request, n)
    return _Alone(http_ms, own_ms, http_ms - own_ms)


@dataclass(frozen=True)
class _Ceiling:
    """The highest throughput of a closed loop, next to the classifier's in process."""

    rps: float
    limit_rps: float | None  # None without the bundle
    cpu_ms_per_request: float


def _ceiling(server: str, load: _Load, classifier: Classifier | None, texts: list[Text], seconds: float) -> _Ceiling:
    """Measure server and classifier in turns; raises UserError if the server gives no answer."""
    cpu_s, rounds, limits = load.gauge(CPU), [], []
    for _ in range(ROUNDS):
        rounds.append(load.closed(seconds=seconds))
        if classifier is not None:
            limits.append(in_process_rps(classifier, texts, seconds, usable_cores()))
    cpu_s = load.gauge(CPU) - cpu_s
    rps = median(one.answered_rps for one in rounds)
    if not rps:
        raise UserError(f"{server}: gives no answer; statuses: {dict(rounds[-1].statuses)}")
    return _Ceiling(rps, median(limits) if limits else None, cpu_s * 1e3 / max(1, sum(one.n for one in rounds)))


@contextmanager
def _address(server: str, config: ServerBenchConfig, serve_command: Sequence[str]) -> Iterator[Address]:
    """The address of the server; one is started if a bundle is given."""
    if "://" in server:
        yield Address.parse(server)
    else:
        with started_server(serve_command, Path(server), "--processes", str(config.processes)) as started:
            yield started.address


def _texts(address: Address, folder: Path | None, config: ServerBenchConfig, key: str | None) -> list[Text]:
    """The texts to classify: a file's, the bundle's golden ones, or the examples that the server lists; raises UserError."""
    if config.texts is None and folder is not None:
        return [Text(row.text, target=row.target) for row in read_golden(folder)]
    shown = msgspec.json.decode(_page(address, "/bundles", key))["bundles"][0]
    if config.texts is not None:
        return read_texts(config.texts, target=shown["target"]).texts
    return [Text(row["text"], target=row["target"]) for row in shown["examples"]]


def _request(address: Address, text: Text, key: str | None) -> bytes:
    """A complete request for one text."""
    question = {"text": text.text} if text.target is None else {"text": text.text, "target": text.target}
    return address.post("/classify", msgspec.json.encode(question), key)


def _rung(rate_rps: float, result: LoadResult) -> Rung:
    """The figures at one rate."""
    p50, p95, p99, p999 = result.percentiles_ms(50, 95, 99, 99.9)
    goodput_rps = result.goodput_rps(DEADLINE_S)
    return Rung(rate_rps, p50, p95, p99, p999, goodput_rps, result.shed_share(), result.late_p99_ms(), result.n)


def _page(address: Address, path: str, key: str | None) -> bytes:
    """Get a page of the server; raises UserError if it does not answer."""

    async def read() -> bytes:
        """Send the request and read the body."""
        connection = await Connection.connect(address)
        status = REFUSED if connection is None else await connection.ask(address.get(path, key), 10.0)
        if connection is None or status != 200:
            reason = "accepts no connection" if connection is None else f"answers {path} with status {status}"
            raise UserError(f"{address.host}:{address.port}: {reason}; is it a potstill server?")
        connection.close()
        return connection.body

    return asyncio.run(read())
