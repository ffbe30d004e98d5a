"""uvicorn's connection with limits that uvicorn lacks: time for a request to arrive, size of its head, number of connections.

Times are checked by a sweep over all connections every SWEEP_S, so that a request needs no timer.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from potstill.serve.http.config import Limits
from potstill.serve.http.telemetry.metrics import ServerMetrics

SWEEP_S = 0.5  # between two checks of all connections
QUIET_S = 1.0  # after a reply; a client that keeps sending has sent its next request by then
STUCK_S = 30.0  # for a client to read its reply
END_OF_HEAD = b"\r\n\r\n"


class CoalescingTransport:
    """A transport that sends the head of a reply together with its body; everything else is passed to the wrapped transport."""

    __slots__ = ("_held", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        """Args: the transport to wrap; its event loop."""
        self._transport, self._loop = transport, loop
        self._held: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Send data with what is held; a head alone is held until more is written, or the loop's iteration ends."""
        if not self._held and data.endswith(END_OF_HEAD):
            self._loop.call_soon(self.flush)  # a head without a body
            self._held.append(data)
            return
        self._held.append(data)
        self.flush()

    def flush(self) -> None:
        """Send what is held."""
        if self._held:
            data = b"".join(self._held)
            self._held.clear()
            if not self._transport.is_closing():
                self._transport.write(data)

    def close(self) -> None:
        """Close after sending everything."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once; what is held is lost."""
        self._held.clear()
        self._transport.abort()

    def get_write_buffer_size(self) -> int:
        """Number of bytes not yet passed to the kernel."""
        return self._transport.get_write_buffer_size() + sum(map(len, self._held))

    def __getattr__(self, name: str) -> Any:
        """Look up anything else in the wrapped transport."""
        return getattr(self._transport, name)


def reply_bytes(status: bytes, message: str) -> bytes:
    """The bytes of an error reply, for a connection that ends before it has a request."""
    body = f'{{"error":"{message}"}}\n'.encode()
    head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (status, len(body))
    return head + body


class LimitedConnection(HttpToolsProtocol):
    """A connection with limits on the time and size of a request, and on the number of connections."""

    limits: Limits
    metrics: ServerMetrics

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Args: as uvicorn passes them."""
        super().__init__(config, server_state, app_state, _loop)
        self.waiting_since: float | None = None  # for the rest of a request, by the loop's clock
        self.stuck_since: float | None = None  # with a reply that the client does not read
        self.last_s = self.loop.time()  # of its start, or of its last reply
        self.n_head_bytes = 0
        self.in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuse the connection if there are too many."""
        super().connection_made(transport)
        self.transport = cast(asyncio.Transport, CoalescingTransport(transport, self.loop))
        if len(self.connections) > self.limits.max_connections:
            self.refuse(b"503 Service Unavailable", "too many connections; close some, or retry later", "connections")
        else:
            self.waiting_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Parse data, and refuse a request whose head is too long."""
        if self.transport.is_closing():
            return
        if self.in_head:
            self.n_head_bytes += len(data)
        super().data_received(data)
        if self.in_head and self.n_head_bytes > self.limits.max_head_bytes:
            message = f"the request line and headers are longer than {self.limits.max_head_bytes} bytes"
            self.refuse(b"431 Request Header Fields Too Large", message, "head")

    def on_message_begin(self) -> None:
        """Start the clock of a request; that of a new connection runs already."""
        if self.waiting_since is None:
            self.waiting_since = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """End the head; its size no longer counts."""
        self.in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Stop the clock: the request is complete."""
        self.waiting_since, self.n_head_bytes, self.in_head = None, 0, True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Note the time: the client may send its next request at once."""
        self.last_s = self.loop.time()
        super().on_response_complete()

    def quiet(self, now: float) -> bool:
        """Tell whether it can be closed without losing a request. Args: now, in seconds, by the loop's clock."""
        answered = self.cycle is None or self.cycle.response_complete
        return answered and self.waiting_since is None and now - self.last_s > QUIET_S

    def sweep(self, now: float) -> None:
        """Close the connection of a client that sends or reads too slowly. Args: now, in seconds, by the loop's clock."""
        if self.waiting_since is not None and now - self.waiting_since > self.limits.receipt_s:
            message = f"the request was not complete after {self.limits.receipt_s:g} s"
            self.refuse(b"408 Request Timeout", message, "slow")
        elif self.transport.get_write_buffer_size() == 0:
            self.stuck_since = None
        elif self.stuck_since is None:
            self.stuck_since = now
        elif now - self.stuck_since > STUCK_S:
            self.metrics.shed.add("unread")
            self.transport.abort()

    def refuse(self, status: bytes, message: str, reason: str) -> None:
        """Send an error, unless a reply has begun, and close. Args: status line; message; reason to count it under."""
        if self.transport.is_closing():
            return
        self.metrics.shed.add(reason)
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(reply_bytes(status, message))
        self.waiting_since = None
        self.transport.close()


def connection_class(limits: Limits, metrics: ServerMetrics) -> type[HttpToolsProtocol]:
    """A class of connections with these limits, which counts refusals in these metrics."""
    return type("Connection", (LimitedConnection,), {"limits": limits, "metrics": metrics})


def n_busy(state: ServerState, now: float) -> int:
    """Number of connections with a request, or perhaps with one on the way. Args: now, in seconds, by the loop's clock."""
    return sum(not cast(Any, connection).quiet(now) for connection in state.connections)


def sweep(state: ServerState, now: float) -> None:
    """Check all connections of a server, which `connection_class` made. Args: now, in seconds, by the loop's clock."""
    for connection in list(state.connections):
        cast(Any, connection).sweep(now)
