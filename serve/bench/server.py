"""What a server adds to its classifier, what it bears, and what it does beyond that."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import msgspec

from potstill.contract.bundle import read_golden
from potstill.contract.errors import UserError
from potstill.contract.texts import Text, read_texts
from potstill.serve.bench.load.client import REFUSED, Address, Connection
from potstill.serve.bench.load.closed_loop import closed_loop
from potstill.serve.bench.load.in_process import added_p50_ms, in_process_rps, text_of
from potstill.serve.bench.load.open_loop import open_loop
from potstill.serve.bench.load.outcome import Outcome, mixed
from potstill.serve.bench.load.own_server import own_server
from potstill.serve.bench.load.signals import bad, renewals_lost, stops_lost
from potstill.serve.http.application.api_keys import VARIABLE
from potstill.serve.http.config import Limits
from potstill.serve.runtime.classifier import Classifier

ROUNDS = 3  # of ceiling and limit, in turns
N_CLIENTS = 32  # of the closed loop; a worker is never without a request then
LADDER = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9)  # of the ceiling
OVERLOAD = 2.0  # times the ceiling
LATE_MS = 50.0  # where the client sends later than this, latencies are its own
CPU, RSS = "process_cpu_seconds_total", "process_resident_memory_bytes"


@dataclass(frozen=True)
class ServerBenchConfig:
    """What is measured, and how long."""

    bundle: Path | None = None  # what a server at a URL answers with; without it nothing is compared in process
    texts: Path | None = None  # None: those that the bundle comes with
    seconds: float = 5.0  # of each rung of the ladder, and of each round of the ceiling
    overload_s: float = 10.0
    n_alone: int = 300  # requests on one connection
    n_soak: int = 5000  # requests over which memory is watched
    n_signals: int = 0  # SIGHUP, and as many SIGTERM, under load
    processes: int = 1  # of the server that is started


class Rung(msgspec.Struct, frozen=True):
    """One rate of the ladder."""

    rate_rps: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    p999_ms: float
    goodput_rps: float
    shed_share: float
    late_p99_ms: float  # of the client: how long after its time a request was sent
    n: int


class ServerBenchReport(msgspec.Struct, frozen=True, kw_only=True):
    """The figures."""

    added_p50_ms: float | None  # of one connection over the classifier in process, at 32 tokens; None without the bundle, as below
    http_p50_ms: float | None
    in_process_p50_ms: float | None
    ceiling_rps: float
    limit_rps: float | None  # of the classifier in process, on all usable cores
    ceiling_over_limit: float | None
    over_best_peer: float | None = None  # needs peers: benchmarks/serve_peers.py
    overload_goodput: float  # answers within the deadline at twice the ceiling, over the ceiling
    overload_p99_ms: float  # of the answers given then
    overload_shed: float  # share refused
    overload_late_p99_ms: float  # of the client, as in a rung
    errors_5xx: int
    rss_mb: float
    rss_growth_mb: float  # over n_soak requests
    n_soak: int
    cpu_ms_per_request: float  # of the server
    lost: int  # requests that were taken and not answered, over all of it
    n_signals: int
    ladder: list[Rung]
    n: int  # requests in all

    def as_text(self) -> str:
        """A table for a person."""
        lines = [
            f"one connection  p50 {_shown(self.http_p50_ms, '.3f')} ms, {_shown(self.added_p50_ms, '+.3f')} ms over in process",
            f"ceiling         {self.ceiling_rps:.0f} requests/s, {_shown(self.ceiling_over_limit, '.2f')} of "
            f"{_shown(self.limit_rps, '.0f')} in process",
            f"CPU, memory     {self.cpu_ms_per_request:.3f} ms a request; {self.rss_mb:.0f} MB, {self.rss_growth_mb:+.1f} MB over "
            f"{self.n_soak} requests",
            "",
            "requests/s   p50 ms   p95 ms   p99 ms  p99.9 ms  goodput/s  refused",
        ]
        lines += [
            f"{one.rate_rps:10.0f} {one.p50_ms:8.2f} {one.p95_ms:8.2f} {one.p99_ms:8.2f} {one.p999_ms:9.2f} {one.goodput_rps:10.0f}"
            f" {one.shed_share:7.1%}"
            for one in self.ladder
        ]
        late = max(self.overload_late_p99_ms, *(one.late_p99_ms for one in self.ladder))
        if late > LATE_MS:
            lines.append(
                f"the client was up to {late:.0f} ms late: it has too little CPU for this rate, and such latencies are its own"
            )
        return "\n".join(
            [
                *lines,
                "",
                f"at {OVERLOAD:g} x      goodput {self.overload_goodput:.2f} of the ceiling, p99 {self.overload_p99_ms:.0f} ms, "
                f"{self.overload_shed:.0%} refused",
                f"errors          {self.errors_5xx} with status 5xx, {self.lost} of {self.n} lost, {self.n_signals} signals each",
            ]
        )


class _Load:
    """Load on one server, and what came of all of it."""

    def __init__(self, address: Address, requests: list[bytes]) -> None:
        """Args: of the server; whole requests."""
        self.address, self.requests = address, requests
        self.outcomes: list[Outcome] = []

    def close(self, seconds: float = float("inf"), n_requests: int | None = None) -> Outcome:
        """A closed loop."""
        run = closed_loop(self.address, self.requests, N_CLIENTS, seconds=seconds, n_requests=n_requests)
        self.outcomes.append(asyncio.run(run))
        return self.outcomes[-1]

    def send(self, rate_rps: float, seconds: float) -> Outcome:
        """An open loop."""
        self.outcomes.append(asyncio.run(open_loop(self.address, self.requests, rate_rps, seconds)))
        return self.outcomes[-1]

    def gauge(self, name: str, key: str | None) -> float:
        """One number of the server's metrics; raises UserError."""
        for line in _page(self.address, "/metrics", key).decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        raise UserError(f"{self.address.host}:{self.address.port}: its metrics lack {name}; is it a server of potstill?")


def bench_server(server: str, config: ServerBenchConfig) -> ServerBenchReport:
    """Measure a server.

    Args:
        server: its URL, or the bundle to start one with.
        config: what is measured, and how long.
    Raises:
        FormatError: if bundle or texts are malformed.
        UserError: if the server does not answer, or signals are wanted without a bundle.
    """
    folder = config.bundle if "://" in server else Path(server)
    if folder is None and config.n_signals:
        raise UserError("signals go to servers that are started for it; name what to start them with: --bundle BUNDLE")
    key = next((one.strip() for one in os.environ.get(VARIABLE, "").replace(",", "\n").splitlines() if one.strip()), None)
    with ExitStack() as stack:
        address = stack.enter_context(_address(server, config))
        classifier = None if folder is None else stack.enter_context(Classifier.open(folder))
        texts = _texts(address, folder, config, key)
        load = _Load(address, [_request(address, text, key) for text in mixed_texts(texts)])
        alone: tuple[float, float] | tuple[None, None] = (None, None)
        if classifier is not None:
            text = text_of(classifier, texts)
            alone = added_p50_ms(address, classifier, text, _request(address, text, key), config.n_alone)
        load.close(seconds=config.seconds / 2)  # nothing is cold any more
        cpu_s, ceilings, limits = load.gauge(CPU, key), [], []
        for _ in range(ROUNDS):
            ceilings.append(load.close(seconds=config.seconds))
            if classifier is not None:
                limits.append(in_process_rps(classifier, texts, config.seconds))
        cpu_s = load.gauge(CPU, key) - cpu_s
        ceiling = median(one.answered_rps for one in ceilings)
        if not ceiling:
            raise UserError(f"{server}: gives no answer; statuses: {dict(ceilings[-1].statuses)}")
        ladder = [_rung(share * ceiling, load.send(share * ceiling, config.seconds)) for share in LADDER]
        overload = load.send(OVERLOAD * ceiling, config.overload_s)
        rss = load.gauge(RSS, key)
        load.close(n_requests=config.n_soak)
        growth = load.gauge(RSS, key) - rss
    lost = sum(bad(outcome) - outcome.n_5xx() for outcome in load.outcomes)
    if folder is not None and config.n_signals:
        lost += renewals_lost(folder, load.requests, config.n_signals) + stops_lost(folder, load.requests, config.n_signals)
    limit = median(limits) if limits else None
    http_ms, own_ms = alone
    return ServerBenchReport(
        added_p50_ms=None if http_ms is None or own_ms is None else http_ms - own_ms,
        http_p50_ms=http_ms,
        in_process_p50_ms=own_ms,
        ceiling_rps=ceiling,
        limit_rps=limit,
        ceiling_over_limit=None if limit is None else ceiling / limit,
        overload_goodput=overload.goodput_rps(Limits.timeout_ms / 1e3) / ceiling,
        overload_p99_ms=overload.percentiles_ms(99)[0],
        overload_shed=overload.share(429, 504),
        overload_late_p99_ms=overload.late_p99_ms(),
        errors_5xx=sum(outcome.n_5xx() for outcome in load.outcomes),
        rss_mb=(rss + growth) / 1e6,
        rss_growth_mb=growth / 1e6,
        n_soak=config.n_soak,
        cpu_ms_per_request=cpu_s * 1e3 / max(1, sum(one.n for one in ceilings)),
        lost=lost,
        n_signals=config.n_signals,
        ladder=ladder,
        n=sum(outcome.n for outcome in load.outcomes),
    )


def mixed_texts(texts: list[Text]) -> list[Text]:
    """The texts in an order that has nothing to do with their lengths."""
    order = mixed([b"%d" % index for index in range(len(texts))])
    return [texts[int(index)] for index in order]


@contextmanager
def _address(server: str, config: ServerBenchConfig) -> Iterator[Address]:
    """Where the server is; one is started if need be."""
    if "://" in server:
        yield Address.parse(server)
    else:
        with own_server(Path(server), "--processes", str(config.processes)) as own:
            yield own.address


def _texts(address: Address, folder: Path | None, config: ServerBenchConfig, key: str | None) -> list[Text]:
    """What is asked: a file's texts, the bundle's golden ones, or the examples that the server shows; raises UserError."""
    if config.texts is None and folder is not None:
        return [Text(row.text, target=row.target) for row in read_golden(folder)]
    shown = msgspec.json.decode(_page(address, "/bundles", key))["bundles"][0]
    if config.texts is not None:
        return read_texts(config.texts, target=shown["target"]).texts
    return [Text(row["text"], target=row["target"]) for row in shown["examples"]]


def _request(address: Address, text: Text, key: str | None) -> bytes:
    """A whole request for one text."""
    question = {"text": text.text} if text.target is None else {"text": text.text, "target": text.target}
    return address.post("/classify", msgspec.json.encode(question), key)


def _rung(rate_rps: float, outcome: Outcome) -> Rung:
    """One line of the ladder."""
    p50, p95, p99, p999 = outcome.percentiles_ms(50, 95, 99, 99.9)
    goodput_rps, shed = outcome.goodput_rps(Limits.timeout_ms / 1e3), outcome.share(429, 504)
    return Rung(rate_rps, p50, p95, p99, p999, goodput_rps, shed, outcome.late_p99_ms(), outcome.n)


def _page(address: Address, path: str, key: str | None) -> bytes:
    """What a path of the server shows; raises UserError."""

    async def read() -> bytes:
        """It."""
        connection = await Connection.connect(address)
        status = REFUSED if connection is None else await connection.ask(address.get(path, key), 10.0)
        if connection is None or status != 200:
            reason = "takes no connection" if connection is None else f"answers {path} with status {status}"
            raise UserError(f"{address.host}:{address.port}: {reason}; is it a server of potstill?")
        connection.close()
        return connection.body

    return asyncio.run(read())


def _shown(value: float | None, form: str) -> str:
    """A number, or a dash."""
    return "-" if value is None else format(value, form)
