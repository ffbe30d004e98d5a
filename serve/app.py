"""The HTTP application: raw ASGI and msgspec, so any ASGI server can run it.

    POST /predict   {"texts": ["...", ...]} or {"texts": [...], "targets": [...]}
                    -> {"answers": [{"label": "...", "probs": {"...": 0.5, ...}, "abstain": false}, ...]}, in order
                    with "sets": true beside the texts each answer has "label_set": ["...", ...] too
    GET  /livez     200 while the process answers at all
    GET  /readyz    200 once the bundle is proved, 503 before start-up is over and while shutting down

Every error is one line of JSON, {"error": "..."}: 400 not JSON, 404 no such path, 405 wrong method, 413 body too large,
422 JSON of the wrong shape. Texts are never written anywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from contract.cores import usable_cores
from contract.errors import UserError
from serve.classifier import Answer, Classifier
from serve.limits import Limits

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

METHODS = {"/predict": ("POST",), "/livez": ("GET", "HEAD"), "/readyz": ("GET", "HEAD")}


class PredictRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request."""

    texts: list[str]
    targets: list[str] | None = None
    sets: bool = False  # whether every answer lists its label set


class PredictResponse(msgspec.Struct, frozen=True):
    """The body of its answer."""

    answers: list[Answer]


class Refused(Exception):
    """A request that gets an error instead of an answer."""

    def __init__(self, status: int, message: str, headers: list[tuple[bytes, bytes]] | None = None) -> None:
        """Args: HTTP status; one line for the client; extra headers."""
        self.status, self.message, self.headers = status, message, headers or []
        super().__init__(message)


class Disconnected(Exception):
    """The client went away before its request was whole; nobody is left to answer."""


def create_app(classifier: Classifier, *, limits: Limits | None = None, workers: int | None = None) -> App:
    """An ASGI application that answers with the classifier.

    Args:
        classifier: open, its golden texts replayed; the caller closes it.
        limits: of one request.
        workers: texts answered at once; None means the usable cores.
    """
    return _Application(classifier, limits or Limits(), workers or usable_cores())


class _Application:
    """The application's state: the classifier, its worker threads, and whether it is ready."""

    def __init__(self, classifier: Classifier, limits: Limits, workers: int) -> None:
        """Nothing runs before the server starts."""
        self._classifier = classifier
        self._limits = limits
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="answer")
        self._ready = False
        self._decoder = msgspec.json.Decoder(PredictRequest)
        self._encoder = msgspec.json.Encoder()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request, or the server's start and stop."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            try:
                status, body, headers = await self._respond(scope, receive)
            except Refused as refused:
                status, body, headers = refused.status, self._encoder.encode({"error": refused.message}), refused.headers
            except Disconnected:
                return
            await _reply(send, status, body, headers, head=scope["method"] == "HEAD")

    async def _live(self, receive: Receive, send: Send) -> None:
        """Become ready when the server starts, and finish the running texts when it stops."""
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._ready = True
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                self._ready = False
                await asyncio.to_thread(self._pool.shutdown)
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _respond(self, scope: Message, receive: Receive) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
        """Status, body and extra headers; raises Refused or Disconnected."""
        path, method = scope["path"], scope["method"]
        if path not in METHODS:
            raise Refused(404, f"there is no {path}; there are {', '.join(METHODS)}")
        if method not in METHODS[path]:
            allowed = ", ".join(METHODS[path])
            raise Refused(405, f"{path} takes {allowed}, not {method}", [(b"allow", allowed.encode())])
        if path == "/livez":
            return 200, b'{"status":"alive"}', []
        if path == "/readyz":
            return (200, b'{"status":"ready"}', []) if self._ready else (503, b'{"status":"not ready"}', [])
        return 200, await self._predict(await self._body(scope, receive)), []

    async def _body(self, scope: Message, receive: Receive) -> bytes:
        """The request's body, never held beyond the limit."""
        most = self._limits.max_body_bytes
        too_large = Refused(413, f"the body is larger than {most} bytes; send fewer texts at a time", [(b"connection", b"close")])
        for name, value in scope["headers"]:
            if name == b"content-length" and int(value) > most:
                raise too_large
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            body += message.get("body", b"")
            if len(body) > most:
                raise too_large
            if not message.get("more_body", False):
                return bytes(body)

    async def _predict(self, body: bytes) -> bytes:
        """Answer a body; each text is a job of its own, so that a large request does not hold up a small one."""
        request = self._checked(body)
        loop = asyncio.get_running_loop()
        targets: list[str] | list[None] = request.targets or [None] * len(request.texts)
        pairs = zip(request.texts, targets, strict=True)
        jobs = [loop.run_in_executor(self._pool, self._answer, text, target, request.sets) for text, target in pairs]
        try:
            return self._encoder.encode(PredictResponse(await asyncio.gather(*jobs)))
        except UserError as error:
            raise Refused(422, str(error)) from error

    def _checked(self, body: bytes) -> PredictRequest:
        """The decoded request; raises Refused."""
        try:
            request = self._decoder.decode(body)
            self._classifier.check_targets(request.texts, request.targets)
            if request.sets:
                self._classifier.check_sets()
        except (msgspec.ValidationError, UserError) as error:
            raise Refused(422, str(error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refused(400, f"the body is not valid JSON: {error}") from error
        n_texts, most = len(request.texts), self._limits.max_texts
        if not 1 <= n_texts <= most:
            raise Refused(422, f"texts holds {n_texts}; from 1 to {most} are allowed in one request")
        return request

    def _answer(self, text: str, target: str | None, sets: bool) -> Answer:
        """One text's answer, in a worker thread."""
        return self._classifier.classify([text], None if target is None else [target], sets=sets)[0]


async def _reply(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]], *, head: bool) -> None:
    """Send one JSON line; to HEAD, its headers only."""
    body += b"\n"
    length = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": length + headers})
    await send({"type": "http.response.body", "body": b"" if head else body})
