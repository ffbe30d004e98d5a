"""One connection of uvicorn's, held to limits that uvicorn does not have: how long a request may take to arrive, and how much.

Checked by a sweep twice a second over all connections, so that a request costs no timer.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from potstill.serve.http.config import Limits
from potstill.serve.http.telemetry.server_metrics import ServerMetrics

END_OF_HEAD = b"\r\n\r\n"


class CoalescingTransport:
    """A transport that holds a head until more is written, or the turn ends; all else is the transport's own."""

    __slots__ = ("_held", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        """Nothing is held."""
        self._transport, self._loop = transport, loop
        self._held: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Send it with what is held, or hold it."""
        if not self._held and data.endswith(END_OF_HEAD):
            self._loop.call_soon(self.flush)  # a head that no body follows
            self._held.append(data)
            return
        self._held.append(data)
        self.flush()

    def flush(self) -> None:
        """Send what is held now."""
        if self._held:
            data = b"".join(self._held)
            self._held.clear()
            if not self._transport.is_closing():
                self._transport.write(data)

    def close(self) -> None:
        """Close when all is sent."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once; what is held is lost."""
        self._held.clear()
        self._transport.abort()

    def get_write_buffer_size(self) -> int:
        """Bytes that are not with the kernel yet."""
        return self._transport.get_write_buffer_size() + sum(map(len, self._held))

    def __getattr__(self, name: str) -> Any:
        """The transport's own."""
        return getattr(self._transport, name)


SWEEP_S = 0.5
QUIET_S = 1.0  # after a reply; a client that goes on asking has asked again by then
STUCK_S = 30.0  # after which a client that does not read its reply is cut off


def reply_bytes(status: bytes, message: str) -> bytes:
    """A whole reply, for what ends before there is a request."""
    body = f'{{"error":"{message}"}}\n'.encode()
    head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (status, len(body))
    return head + body


class LimitedConnection(HttpToolsProtocol):
    """A connection that must not trickle, flood, or stand in line behind too many others."""

    limits: Limits
    metrics: ServerMetrics

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """As uvicorn calls it."""
        super().__init__(config, server_state, app_state, _loop)
        self.waiting_since: float | None = None  # for the rest of a request
        self.stuck_since: float | None = None  # with a reply that is not read
        self.last_s = self.loop.time()  # when it was made, or last got a reply
        self.n_head_bytes = 0
        self.in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it, unless there are too many."""
        super().connection_made(transport)
        self.transport = cast(asyncio.Transport, CoalescingTransport(transport, self.loop))
        if len(self.connections) > self.limits.max_connections:
            self.refuse(b"503 Service Unavailable", "too many connections; close some, or come back later", "connections")
        else:
            self.waiting_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Read on, unless the request's head grows too long."""
        if self.transport.is_closing():
            return
        if self.in_head:
            self.n_head_bytes += len(data)
        super().data_received(data)
        if self.in_head and self.n_head_bytes > self.limits.max_head_bytes:
            message = f"the request line and headers are longer than {self.limits.max_head_bytes} bytes"
            self.refuse(b"431 Request Header Fields Too Large", message, "head")

    def on_message_begin(self) -> None:
        """A request begins, and the clock runs; a new connection's clock runs already."""
        if self.waiting_since is None:
            self.waiting_since = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The body comes next."""
        self.in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is here; another one may begin."""
        self.waiting_since, self.n_head_bytes, self.in_head = None, 0, True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Its client may ask again at once."""
        self.last_s = self.loop.time()
        super().on_response_complete()

    def quiet(self, now: float) -> bool:
        """Whether it can be closed without a request being lost, as far as anybody can tell."""
        answered = self.cycle is None or self.cycle.response_complete
        return answered and self.waiting_since is None and now - self.last_s > QUIET_S

    def sweep(self, now: float) -> None:
        """Cut off whoever lets the server wait."""
        if self.waiting_since is not None and now - self.waiting_since > self.limits.receipt_s:
            message = f"the request was not whole after {self.limits.receipt_s:g} s"
            self.refuse(b"408 Request Timeout", message, "slow")
        elif self.transport.get_write_buffer_size() == 0:
            self.stuck_since = None
        elif self.stuck_since is None:
            self.stuck_since = now
        elif now - self.stuck_since > STUCK_S:
            self.metrics.shed.add("unread")
            self.transport.abort()

    def refuse(self, status: bytes, message: str, reason: str) -> None:
        """Say why, unless a reply has begun, and close."""
        if self.transport.is_closing():
            return
        self.metrics.shed.add(reason)
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(reply_bytes(status, message))
        self.waiting_since = None
        self.transport.close()


def connection_class(limits: Limits, metrics: ServerMetrics) -> type[HttpToolsProtocol]:
    """The class of connections within these limits; what they refuse is counted."""
    return type("Connection", (LimitedConnection,), {"limits": limits, "metrics": metrics})


def n_busy(state: ServerState, now: float) -> int:
    """Connections that a request is on, or may be on its way on."""
    return sum(not cast(Any, connection).quiet(now) for connection in state.connections)


def sweep(state: ServerState, now: float) -> None:
    """Sweep over all connections of a server whose class is of `connection_class`."""
    for connection in list(state.connections):
        cast(Any, connection).sweep(now)
