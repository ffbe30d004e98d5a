"""The HTTP application: raw ASGI and msgspec, so any ASGI server can run it.

    POST /classify                      potstill's own protocol (native)
    POST /predict                       as text-embeddings-inference (tei)
    /v2, /v2/models/NAME/infer, ...     the Open Inference Protocol (open_inference)
    POST /v1/decisions                  as OpenAI's decision models (decisions)
    /bundles/NAME/classify, .../predict, .../v1/decisions       the same for one of several bundles
    /questions/QUESTION/predict, /bundles/NAME/questions/QUESTION/predict   for one of a bundle's questions
    /livez, /readyz, /metrics           for operators
    /health, /ping, /info, POST /, POST /invocations    as text-embeddings-inference
    /, /openapi.json                    a page to try it, and a description

Texts appear neither in the log, nor in metrics, nor in traces.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path

from potstill.contract.bundle import BundleFiles
from potstill.contract.errors import UserError
from potstill.contract.system.machine import usable_cores
from potstill.contract.system.memory import give_back_memory
from potstill.serve.http.application.access import AccessPolicy
from potstill.serve.http.application.api_keys import ApiKeys, check_key, read_keys
from potstill.serve.http.application.lookups import ServerView, find_hosted, look_up, read_page
from potstill.serve.http.application.routes import FIXED_ROUTES, OPEN_KINDS, PROTOCOLS, Route, find_route
from potstill.serve.http.asgi import Disconnected, Message, Receive, Refused, Reply, Send, read_body, send_reply
from potstill.serve.http.config import BundleSpec, Limits, TeacherLink
from potstill.serve.http.hosting.bundle_registry import BundleRegistry, ReloadResult, refused, reload
from potstill.serve.http.hosting.job import Expired, Job
from potstill.serve.http.hosting.open_bundle import Truncated
from potstill.serve.http.hosting.workers import HEADROOM, Overloaded, Workers
from potstill.serve.http.protocols import native
from potstill.serve.http.protocols.request import make_job
from potstill.serve.http.protocols.tei import too_long
from potstill.serve.http.teacher.consulting import TeacherDesk
from potstill.serve.http.telemetry.logs_and_traces import OtlpTracer, ServerLog, request_span
from potstill.serve.http.telemetry.metrics import ServerMetrics

PUBLISH_S = 1.0  # how often this process publishes its counts to the others
GIVE_BACK_S = 1.0  # after a new version has come; the requests that the old one answers have ended by then, or nearly all
_ANYBODY = AccessPolicy()
_CLOSE = (b"connection", b"close")


@dataclass(frozen=True)
class AppDependencies:
    """Everything that an application needs."""

    bundles: BundleRegistry
    limits: Limits = field(default_factory=Limits)
    n_workers: int = field(default_factory=usable_cores)
    keys: ApiKeys = field(default_factory=lambda: ApiKeys([]))
    log: ServerLog = field(default_factory=ServerLog)
    metrics: ServerMetrics = field(default_factory=ServerMetrics)
    version: str = "0"  # of potstill
    tracer: OtlpTracer | None = None  # None: no spans
    access: AccessPolicy = field(default_factory=AccessPolicy)
    teacher: TeacherLink | None = None  # this process's; None: there is no teacher behind the server


class Application:
    """An ASGI application; its threads start and stop with the lifespan events."""

    def __init__(self, dependencies: AppDependencies) -> None:
        """Start nothing yet."""
        self.dependencies = dependencies
        self.draining = False
        self.has_one_client: Callable[[], bool] = lambda: False  # replaced by a server that counts its connections
        self._bundles, self._limits, self._metrics = dependencies.bundles, dependencies.limits, dependencies.metrics
        self._access = dependencies.access
        self._workers = Workers(dependencies.n_workers)
        link, tell = dependencies.teacher, dependencies.log.line
        self._teacher = None if link is None else TeacherDesk(link, dependencies.metrics, tell)
        read_page()
        self._opener = ThreadPoolExecutor(1, "open-bundle")  # always the same thread, as each has memory of its own to free
        self._started = False
        self._reloading: asyncio.Task[None] | None = None
        self._reload_again = False

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle one request, or the lifespan of the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._exchange(scope, receive, send)

    def status(self) -> str:
        """`ready` if a new request would be answered; else the reason: `starting`, `stopping` or `busy`."""
        if self.draining:
            return "stopping"
        if not self._started:
            return "starting"
        return "ready" if self._workers.wait_s() < HEADROOM * self._limits.timeout_ms / 1e3 else "busy"

    def reload(self) -> None:
        """Reload changed bundles in the background; call it in the event loop."""
        if self._reloading is not None and not self._reloading.done():
            self._reload_again = True
        else:
            self._reloading = asyncio.get_running_loop().create_task(self._reload_all())

    async def _reload_all(self) -> None:
        """Reload one bundle after the other, so that at most one is in memory twice."""
        while True:
            self._reload_again = False
            for name in [hosted.name for hosted in self._bundles.all]:
                await self.take(name)
            if not self._reload_again:
                return

    async def take(self, name: str, files: BundleFiles | None = None) -> ReloadResult:
        """Open a new version of a bundle and answer with it, if it is sound; whatever goes wrong is logged and counted.

        Args:
            name: of the bundle.
            files: the new version; None: the one in the folder, if it is another.
        """
        current = self._bundles.get(name)
        if current is None:
            raise ValueError(f"no bundle is called {name!r}")
        loop = asyncio.get_running_loop()
        opening = loop.run_in_executor(self._opener, reload, current, files)
        await asyncio.wait([opening])
        error = opening.exception()
        result = opening.result() if error is None else refused(name, current.version, error)
        if result.hosted is not None:
            self._bundles.put(result.hosted)
            del current
            loop.call_later(GIVE_BACK_S, self._give_back_memory)
        self.count_reload(result)
        return result

    def _give_back_memory(self) -> None:
        """Return the memory of the old version to the system, in the thread that opened it."""
        if not self.draining:
            self._opener.submit(give_back_memory)

    def count_reload(self, result: ReloadResult) -> None:
        """Count and log the result of a look for a new version."""
        self._metrics.reloads.add(result.name, result.outcome)
        self.dependencies.log.line(result.line)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Start the workers when the server starts, and finish the queue when it stops."""
        publishing: asyncio.Task[None] | None = None
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._workers.start()
                if self._teacher is not None:
                    self._teacher.start()
                publishing = asyncio.get_running_loop().create_task(self._publish())
                self._started = True
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                self.draining = True
                if publishing is not None:
                    publishing.cancel()
                await asyncio.to_thread(self._workers.close)
                if self._teacher is not None:
                    await self._teacher.close()
                self._opener.shutdown(wait=False, cancel_futures=True)
                if self.dependencies.tracer is not None:
                    await asyncio.to_thread(self.dependencies.tracer.close)
                self._metrics.publish()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _publish(self) -> None:
        """Publish the counts to the other processes, every PUBLISH_S."""
        while True:
            self._metrics.publish()
            await asyncio.sleep(PUBLISH_S)

    async def _exchange(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, count it and trace it."""
        start_s = time.monotonic()
        route = find_route(scope["path"], scope["method"])
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
            await send_reply(send, _error(route, Refused(500, "internal error; see the server log")), head=False)
            self._trace(label, scope, start_s, 500)
            raise
        if self._access.origins:
            reply.headers += self._access.cors(scope)
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
        self._access.check_host(scope)
        if route is None:
            raise Refused(
                404, f"unknown path; the paths are {', '.join(FIXED_ROUTES)}, and those of single bundles in /openapi.json"
            )
        method = scope["method"]
        if method == "OPTIONS":
            allowed = ", ".join((*route.methods, "OPTIONS"))
            return Reply(200, b"", headers=[(b"allow", allowed.encode()), *self._access.preflight(scope)])
        if method not in route.methods:
            allowed = ", ".join(route.methods)
            raise Refused(405, f"{route.label} accepts {allowed}, not {method}", [(b"allow", allowed.encode())])
        if route.kind not in OPEN_KINDS:
            check_key(scope, self.dependencies.keys)
        if route.kind in PROTOCOLS:
            return await self._answer(route, scope, receive, start_s)
        return look_up(route, self._view())

    def _view(self) -> ServerView:
        """The state that lookups show."""
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
        """Classify the texts of a request; raises Refused or Disconnected."""
        hosted = find_hosted(self._bundles, route)
        body = await read_body(scope, receive, self._limits.max_body_bytes)
        if route.question is not None:
            scope = {**scope, "path_params": {"question": route.question}}
        request, write = PROTOCOLS[route.kind].read(scope, body, hosted, self._limits)
        job = make_job(request, hosted, self._limits, start_s)
        await self._work(job, receive)
        if self._teacher is not None and self._teacher.is_wanted(job):
            await self._teacher.consult(job)
        reply = write(job)
        now = time.monotonic()
        reply.headers.append((b"server-timing", _server_timing(job, now)))
        reply.afterwards = partial(self._afterwards, job, now)
        return reply

    def _afterwards(self, job: Job, now: float) -> None:
        """Count an answered job, and draw from it for the audit. Args: now, in seconds, by `time.monotonic`."""
        self._metrics.answered(job, now)
        if self._teacher is not None:
            self._teacher.audit(job)

    async def _work(self, job: Job, receive: Receive) -> None:
        """Wait until the job is done; raises Refused or Disconnected."""
        try:
            if self._workers.answer_at_once(job, alone=self.has_one_client()):
                return
            future = self._workers.submit(job)
            if not job.waits:  # a worker has it by now, and work that has begun is finished
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
                f"the deadline cannot be met: an estimated {overloaded.wait_s * 1e3:.0f} ms to wait and "
                f"{overloaded.work_s * 1e3:.0f} ms of work; retry later, or allow more time",
                [(b"retry-after", b"%d" % retry_s)],
                "deadline",
            ) from overloaded
        except Expired as expired:
            raise Refused(504, "the deadline passed while the request was queued", reason="expired") from expired
        except Truncated as error:
            raise Refused(413, too_long(job.hosted)) from error
        except UserError as error:
            raise Refused(422, str(error)) from error

    async def _watch(self, job: Job, receive: Receive) -> None:
        """Drop the job if its client disconnects."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._workers.drop(job)
        if job.future is not None and not job.future.done():
            job.future.set_exception(Disconnected())


def build_application(
    bundles: list[BundleSpec],
    limits: Limits,
    n_workers: int,
    keys: str | Path | None,
    otlp: str | None,
    metrics: ServerMetrics | None = None,
    *,
    access: AccessPolicy = _ANYBODY,
    files: Sequence[BundleFiles] | None = None,
    teacher: TeacherLink | None = None,
) -> Application:
    """Open and check the bundles, and build an application that answers with them.

    Args:
        bundles: at least one; the first one answers requests that name none.
        limits: of requests.
        n_workers: texts answered at once.
        keys: a file of API keys; None: those in the environment.
        otlp: URL of a collector for traces; None: no traces.
        metrics: None: new ones, of this process alone.
        access: the hosts and origins that are accepted; any host by default.
        files: what was read of the bundles' folders; None: they are read now.
        teacher: behind the server, as far as this process may ask it; None: there is none.
    Raises:
        UserError: if a bundle or the keys are invalid, or the extra `otlp` is not installed.
    """
    version, metrics = program_version(), metrics or ServerMetrics()
    return Application(
        AppDependencies(
            bundles=BundleRegistry.open(bundles, None if files is None else list(files)),
            limits=limits,
            n_workers=n_workers,
            keys=read_keys(keys),
            log=ServerLog(when_lost=metrics.lost_lines.add),
            metrics=metrics,
            version=version,
            tracer=None if otlp is None else OtlpTracer(otlp, version),
            access=access,
            teacher=teacher,
        )
    )


def program_version() -> str:
    """The installed version of potstill; "unknown" if it runs from a checkout."""
    try:
        return metadata.version("potstill")
    except metadata.PackageNotFoundError:
        return "unknown"


def _error(route: Route | None, refused: Refused) -> Reply:
    """An error in the form of the route's protocol."""
    protocol = native.PROTOCOL if route is None else PROTOCOLS.get(route.kind, native.PROTOCOL)
    return protocol.write_error(refused)


def _server_timing(job: Job, now: float) -> bytes:
    """The value of the header Server-Timing, in milliseconds."""
    timed = job.results()
    tokenize_ms, infer_ms = sum(one.tokenize_s for one in timed) * 1e3, sum(one.infer_s for one in timed) * 1e3
    times_ms = (job.queue_s * 1e3, tokenize_ms, infer_ms, (now - job.start_s) * 1e3)
    return b"queue;dur=%.3f, tokenize;dur=%.3f, infer;dur=%.3f, total;dur=%.3f" % times_ms
