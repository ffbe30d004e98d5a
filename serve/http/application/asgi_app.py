"""The HTTP application: raw ASGI and msgspec, so any ASGI server can run it.

    POST /classify                      the protocol of our own (own_protocol)
    POST /predict                       as text-embeddings-inference (tei_protocol)
    /v2, /v2/models/NAME/infer, ...     the Open Inference Protocol (oip_protocol)
    /bundles/NAME/classify, .../predict another bundle than the first one
    /livez, /readyz, /metrics           for whoever looks after the server
    /, /openapi.json                    for people

Texts are never written anywhere: not to the log, not to metrics, not to traces.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from potstill.contract.errors import UserError
from potstill.contract.system.cores import usable_cores
from potstill.serve.http.application.api_keys import ApiKeys, check_key, read_keys
from potstill.serve.http.application.lookups import ServerView, find_hosted, look_up
from potstill.serve.http.application.routes import FIXED_ROUTES, OPEN_KINDS, PROTOCOLS, Route, find_route
from potstill.serve.http.asgi import Disconnected, Message, Receive, Refused, Reply, Send, read_body, send_reply
from potstill.serve.http.config import BundleSpec, Limits
from potstill.serve.http.hosting.bundle_registry import BundleRegistry, renew
from potstill.serve.http.hosting.job import Expired, Job
from potstill.serve.http.hosting.workers import HEADROOM, Overloaded, Workers
from potstill.serve.http.protocols import native
from potstill.serve.http.protocols.request import make_job
from potstill.serve.http.telemetry.logs_and_traces import OtlpTracer, ServerLog, request_span
from potstill.serve.http.telemetry.server_metrics import ServerMetrics

PUBLISH_S = 1.0  # between two showings of this process's counts to the others
_CLOSE = (b"connection", b"close")


@dataclass(frozen=True)
class AppDependencies:
    """What an application is put together from."""

    bundles: BundleRegistry
    limits: Limits = field(default_factory=Limits)
    n_workers: int = field(default_factory=usable_cores)
    keys: ApiKeys = field(default_factory=lambda: ApiKeys([]))
    log: ServerLog = field(default_factory=ServerLog)
    metrics: ServerMetrics = field(default_factory=ServerMetrics)
    version: str = "0"  # of the program
    tracer: OtlpTracer | None = None  # where spans go


class Application:
    """An ASGI application; it starts and stops with the server's lifespan."""

    def __init__(self, dependencies: AppDependencies) -> None:
        """Nothing runs before the server starts."""
        self.dependencies = dependencies
        self.draining = False
        self.has_one_client: Callable[[], bool] = lambda: False  # a server that knows its connections says better
        self._bundles, self._limits, self._metrics = dependencies.bundles, dependencies.limits, dependencies.metrics
        self._workers = Workers(dependencies.n_workers)
        self._started = False
        self._renewing: asyncio.Task[None] | None = None
        self._renew_again = False

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request, or the server's start and stop."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._exchange(scope, receive, send)

    def status(self) -> str:
        """`ready` if a request that comes now would be answered; else why not: starting, stopping, or busy."""
        if self.draining:
            return "stopping"
        if not self._started:
            return "starting"
        return "ready" if self._workers.wait_s() < HEADROOM * self._limits.timeout_ms / 1e3 else "busy"

    def renew(self) -> None:
        """Look for new versions of the bundles, in the background; call it in the event loop."""
        if self._renewing is not None and not self._renewing.done():
            self._renew_again = True
        else:
            self._renewing = asyncio.get_running_loop().create_task(self._renew())

    async def _renew(self) -> None:
        """Look at one bundle after the other, so that at most one is in memory twice."""
        while True:
            self._renew_again = False
            for hosted in self._bundles.all:
                renewal = await asyncio.to_thread(renew, hosted)
                if renewal.hosted is not None:
                    self._bundles.put(renewal.hosted)
                self._metrics.reloads.add(renewal.name, renewal.outcome)
                self.dependencies.log.line(renewal.line)
            if not self._renew_again:
                return

    async def _live(self, receive: Receive, send: Send) -> None:
        """Become ready when the server starts, and finish what is queued when it stops."""
        publishing: asyncio.Task[None] | None = None
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._workers.start()
                publishing = asyncio.get_running_loop().create_task(self._publish())
                self._started = True
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                self.draining = True
                if publishing is not None:
                    publishing.cancel()
                await asyncio.to_thread(self._workers.close)
                if self.dependencies.tracer is not None:
                    await asyncio.to_thread(self.dependencies.tracer.close)
                self._metrics.publish()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _publish(self) -> None:
        """Show the counts to the other processes, now and then."""
        while True:
            self._metrics.publish()
            await asyncio.sleep(PUBLISH_S)

    async def _exchange(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request and its reply."""
        start_s = time.monotonic()
        route = find_route(scope["path"])
        label = route.label if route is not None else "none"
        try:
            reply = await self._reply(route, scope, receive, start_s)
        except Refused as refused:
            reply = _error(route, refused)
            if refused.reason is not None:
                self._metrics.shed.add(refused.reason)
        except Disconnected:
            self._metrics.shed.add("gone")
            return
        except Exception:
            self.dependencies.log.bug(label)
            self._metrics.requests.add(label, "500")
            await send_reply(send, _error(route, Refused(500, "this is a mistake in the server; its log says where")), head=False)
            self._trace(label, scope, start_s, 500)
            raise
        if self.draining:
            reply.headers.append(_CLOSE)
        await send_reply(send, reply, head=scope["method"] == "HEAD")
        if reply.afterwards is not None:
            reply.afterwards()
        self._metrics.requests.add(label, str(reply.status))
        self._trace(label, scope, start_s, reply.status)

    def _trace(self, label: str, scope: Message, start_s: float, status: int) -> None:
        """Hand the request's span to the tracer, if there is one."""
        if self.dependencies.tracer is not None:
            self.dependencies.tracer.take(request_span(scope, label, start_s, status))

    async def _reply(self, route: Route | None, scope: Message, receive: Receive, start_s: float) -> Reply:
        """The reply to a request; raises Refused or Disconnected."""
        if route is None:
            raise Refused(404, f"there is no such path; there are {', '.join(FIXED_ROUTES)}, and more in /openapi.json")
        method = scope["method"]
        if method not in route.methods:
            allowed = ", ".join(route.methods)
            raise Refused(405, f"{route.label} takes {allowed}, not {method}", [(b"allow", allowed.encode())])
        if route.kind not in OPEN_KINDS:
            check_key(scope, self.dependencies.keys)
        if route.kind in PROTOCOLS:
            return await self._answer(route, scope, receive, start_s)
        return look_up(route, self._view())

    def _view(self) -> ServerView:
        """What there is to see now."""
        dependencies = self.dependencies
        return ServerView(
            bundles=dependencies.bundles,
            limits=dependencies.limits,
            metrics=dependencies.metrics,
            version=dependencies.version,
            with_keys=len(dependencies.keys) > 0,
            status=self.status(),
            wait_s=self._workers.wait_s(),
        )

    async def _answer(self, route: Route, scope: Message, receive: Receive, start_s: float) -> Reply:
        """Classify; raises Refused or Disconnected."""
        hosted = find_hosted(self._bundles, route)
        body = await read_body(scope, receive, self._limits.max_body_bytes)
        question, write = PROTOCOLS[route.kind].read(scope, body, hosted, self._limits)
        job = make_job(question, hosted, self._limits, start_s)
        await self._work(job, receive)
        reply = write(job)
        now = time.monotonic()
        reply.headers.append((b"server-timing", _server_timing(job, now)))
        reply.afterwards = lambda: self._metrics.answered(job, now)
        return reply

    async def _work(self, job: Job, receive: Receive) -> None:
        """Have a job done; raises Refused or Disconnected."""
        try:
            if self._workers.answer_at_once(job, alone=self.has_one_client()):
                return
            future = self._workers.submit(job)
            if not job.waits:  # it is being worked on by now, and what has begun is finished
                await future
                return
            watch = asyncio.get_running_loop().create_task(self._watch(job, receive))
            try:
                await future
            finally:
                watch.cancel()
        except Overloaded as overloaded:
            retry_s = max(1, math.ceil(overloaded.wait_s))
            raise Refused(
                429,
                f"the answer would come too late: an estimated {overloaded.wait_s * 1e3:.0f} ms to wait and "
                f"{overloaded.work_s * 1e3:.0f} ms of work; come back later, or allow more time",
                [(b"retry-after", b"%d" % retry_s)],
                "deadline",
            ) from overloaded
        except Expired as expired:
            raise Refused(504, "the time ran out before it was this request's turn", reason="expired") from expired
        except UserError as error:
            raise Refused(422, str(error)) from error

    async def _watch(self, job: Job, receive: Receive) -> None:
        """Drop the job when its client goes."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._workers.drop(job)
        if job.future is not None and not job.future.done():
            job.future.set_exception(Disconnected())


def build_application(
    bundles: list[BundleSpec],
    limits: Limits,
    n_workers: int,
    keys: Path | None,
    otlp: str | None,
    metrics: ServerMetrics | None = None,
) -> Application:
    """An application over open, proved bundles.

    Args:
        bundles: the bundles, at least one.
        limits: what is accepted.
        n_workers: texts answered at once.
        keys: a file of keys; None: those of the environment.
        otlp: a collector's address for traces; None: nowhere.
        metrics: the counts; None: of this process alone.
    Raises:
        UserError: if a bundle or the keys are refused, or the extra `otlp` is missing.
    """
    version, metrics = program_version(), metrics or ServerMetrics()
    return Application(
        AppDependencies(
            bundles=BundleRegistry.open(bundles),
            limits=limits,
            n_workers=n_workers,
            keys=read_keys(keys),
            log=ServerLog(when_lost=metrics.lost_lines.add),
            metrics=metrics,
            version=version,
            tracer=None if otlp is None else OtlpTracer(otlp, version),
        )
    )


def program_version() -> str:
    """The version of potstill that is installed."""
    try:
        return metadata.version("potstill")
    except metadata.PackageNotFoundError:
        return "unknown"


def _error(route: Route | None, refused: Refused) -> Reply:
    """A refusal in the form of the route's protocol."""
    protocol = native.PROTOCOL if route is None else PROTOCOLS.get(route.kind, native.PROTOCOL)
    return protocol.write_error(refused)


def _server_timing(job: Job, now: float) -> bytes:
    """Where the time went, as browsers show it: milliseconds."""
    worked = job.results()
    tokenize_ms, infer_ms = sum(one.tokenize_s for one in worked) * 1e3, sum(one.infer_s for one in worked) * 1e3
    times_ms = (job.queue_s * 1e3, tokenize_ms, infer_ms, (now - job.start_s) * 1e3)
    return b"queue;dur=%.3f, tokenize;dur=%.3f, infer;dur=%.3f, total;dur=%.3f" % times_ms
