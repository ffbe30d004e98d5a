"""uvicorn's connection with limits that uvicorn lacks: time for a request to arrive, size of its head, number of connections,
one request at a time on each, and the memory of all unfinished requests together.

Times are checked by a sweep over all connections every SWEEP_S, so that a request needs no timer.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from potstill.serve.http.config import Limits
from potstill.serve.http.network.framing import ChunkDecoder, Malformed, body_length, without_upgrade
from potstill.serve.http.telemetry.metrics import ServerMetrics

SWEEP_S = 0.5  # between two checks of all connections
QUIET_S = 1.0  # after a reply; a client that keeps sending has sent its next request by then
STUCK_S = 30.0  # for a client to read its reply
MAX_EMPTY_BYTES = 16  # of line breaks before a request
UNCOUNTED_BYTES = 4096  # of an unfinished request: so much is nothing beside what any connection takes
MAX_AHEAD_BYTES = 65_536  # read of what follows a request; more of it waits in the system's buffers
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


class HeldBodies:
    """The bodies of all connections of a process that have not arrived whole, within one bound for all of them together."""

    def __init__(self, max_bytes: int) -> None:
        """Args: bytes held at most."""
        self._max_bytes, self._n_bytes = max_bytes, 0
        self._sizes: dict[LimitedConnection, int] = {}

    def hold(self, connection: LimitedConnection, n_bytes: int) -> None:
        """Note how much of a body has arrived. Over the bound, the connection that holds most is refused."""
        self._n_bytes += n_bytes - self._sizes.get(connection, 0)
        self._sizes[connection] = n_bytes
        while self._n_bytes > self._max_bytes:
            largest = max(self._sizes, key=self._sizes.__getitem__)
            self.release(largest)
            largest.refuse(b"503 Service Unavailable", "too many unfinished requests; retry later", "held")

    def release(self, connection: LimitedConnection) -> None:
        """Forget a body that is complete, or whose connection has ended."""
        self._n_bytes -= self._sizes.pop(connection, 0)


class LimitedConnection(HttpToolsProtocol):
    """A connection with limits on the time and size of a request, and on the number of connections.

    Requests are taken one by one: what follows a request waits unread until that request is answered.
    """

    limits: Limits
    metrics: ServerMetrics
    held: HeldBodies

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
        self._unread, self._at = b"", 0  # received and not parsed yet, from this position on
        self._in_head = True
        self._wants_body = True  # of replies: its last request is no HEAD
        self._n_heads = 0  # that the parser has seen of the bytes it was given; exactly one
        self._body_left, self._n_body = 0, 0  # bytes to come, bytes received
        self._chunks: ChunkDecoder | None = None
        self._counted = False  # among the held bodies
        self._full = False  # nothing more is read before some of what is here is parsed

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuse the connection if there are too many."""
        super().connection_made(transport)
        self.transport = cast(asyncio.Transport, CoalescingTransport(transport, self.loop))
        if len(self.connections) > self.limits.max_connections:
            self.refuse(b"503 Service Unavailable", "too many connections; close some, or retry later", "connections")
        else:
            self.waiting_since = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop what was not parsed."""
        self._unread, self._at = b"", 0
        self.held.release(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what may be parsed now; the rest stays."""
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        self._unread, self._at = (self._unread[self._at :] + data if self._unread else data), 0
        self._advance()

    def _advance(self) -> None:
        """Go through the received bytes up to the end of a request that has no answer yet."""
        try:
            while self._at < len(self._unread) and not self.transport.is_closing():
                if self._in_head:
                    if self._answering():
                        if not self._full:
                            self.flow.pause_reading()
                        return
                    if not self._take_head():
                        return
                elif self._chunks is not None:
                    if not self._take_chunks(self._chunks):
                        return
                else:
                    self._take_body()
        except Malformed as malformed:
            self.refuse(malformed.status, malformed.message, "malformed")
        finally:
            if self._at >= len(self._unread):
                self._unread, self._at = b"", 0
            self._note_held()
            self._bound_ahead()

    def _note_held(self) -> None:
        """Count what is kept for requests that are not complete, or not begun."""
        n_bytes = len(self._unread) - self._at
        if not self._in_head:
            n_bytes += min(self._n_body, self.limits.max_body_bytes)
        if n_bytes > UNCOUNTED_BYTES:
            self._counted = True
            self.held.hold(self, n_bytes)
        elif self._counted:
            self._counted = False
            self.held.release(self)

    def _bound_ahead(self) -> None:
        """Read no more while much is here that must wait, whoever else wishes to read on."""
        if self.transport.is_closing():
            return
        if len(self._unread) - self._at > MAX_AHEAD_BYTES:
            self._full = True
            self.flow.read_paused = False  # so that its `resume_reading` does nothing
            self.transport.pause_reading()
        elif self._full:
            self._full = False
            if not self.flow.read_paused:
                self.transport.resume_reading()

    def _take_head(self) -> bool:
        """Give the parser the next head; returns False if it is not complete yet. Raises Malformed."""
        if self._unread.startswith((b"\r", b"\n"), self._at):  # empty lines before a request are allowed
            begin = self._unread[self._at : self._at + MAX_EMPTY_BYTES + 1]
            n_empty = len(begin) - len(begin.lstrip(b"\r\n"))
            if n_empty > MAX_EMPTY_BYTES:
                raise Malformed("too many empty lines before the request")
            self._at += n_empty
        if self.waiting_since is None:
            self.waiting_since = self.loop.time()
        limit = self.limits.max_head_bytes
        end = self._unread.find(END_OF_HEAD, self._at, self._at + limit)
        if end < 0:
            if len(self._unread) - self._at >= limit:
                self.refuse(
                    b"431 Request Header Fields Too Large", f"the request line and headers are longer than {limit} bytes", "head"
                )
            return False
        end += len(END_OF_HEAD)
        head, self._at, self._n_heads = self._unread[self._at : end], end, 0
        self._wants_body = not head.startswith(b"HEAD ")
        self._feed(without_upgrade(head))
        if self._n_heads != 1:
            raise Malformed("the request is not valid HTTP")
        return True

    def _feed(self, data: bytes) -> None:
        """Give bytes to the parser; raises Malformed."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, Malformed):
                raise error.__context__ from None
            raise Malformed("the request is not valid HTTP") from error
        except httptools.HttpParserUpgrade as error:
            raise Malformed("CONNECT and other protocols than HTTP/1.1 are not supported", b"501 Not Implemented") from error

    def _take_body(self) -> None:
        """Give the parser what is there of a body of known length; raises Malformed."""
        end = self._at + self._body_left
        whole = self._at == 0 and len(self._unread) <= end
        piece = self._unread if whole else self._unread[self._at : end]
        self._at += len(piece)
        self._body_left -= len(piece)
        self._feed(piece)
        self._n_body = self._n_body + len(piece) if self._body_left else 0

    def _take_chunks(self, chunks: ChunkDecoder) -> bool:
        """Decode chunks; returns False if more bytes, or another turn of the event loop, are needed. Raises Malformed."""
        data, self._at = chunks.decode(self._unread, self._at)
        if data:
            self._n_body += len(data)
            self.on_body(data)
        if chunks.complete:
            self._chunks = None
            self.parser = httptools.HttpRequestParser(self)  # the old one still waits for the body
            self.on_message_complete()
            return True
        if chunks.stopped:
            self.flow.pause_reading()
            self.loop.call_soon(self._go_on)
        return False

    def _go_on(self) -> None:
        """Read on after a turn of the event loop, or after a reply."""
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        self._advance()
        if not (self._chunks.stopped if self._chunks is not None else self._in_head and self._answering()):
            self.flow.resume_reading()

    def _answering(self) -> bool:
        """Tell whether a request has no complete reply yet."""
        return self.cycle is not None and not self.cycle.response_complete

    def on_headers_complete(self) -> None:
        """Find out how long the body is, and begin to answer; raises Malformed, through the parser."""
        self._n_heads += 1
        if self._n_heads != 1 or not self._in_head:
            raise Malformed("the request is not valid HTTP")
        length = body_length(self.headers, self.parser.get_http_version())
        self._body_left, self._n_body = length.n_bytes, 0
        self._chunks = ChunkDecoder() if length.chunked else None
        self._in_head = not length.n_bytes and not length.chunked
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass on a piece of the body; raises Malformed where none is expected, through the parser."""
        if self._in_head:
            raise Malformed("the request is not valid HTTP")
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop the clock: the request is complete."""
        self.waiting_since, self._in_head, self._n_body = None, True, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Note the time, and take the next request if it is there already."""
        self.last_s = self.loop.time()
        super().on_response_complete()
        if self._unread:
            self.loop.call_soon(self._go_on)

    def quiet(self, now: float) -> bool:
        """Tell whether it can be closed without losing a request. Args: now, in seconds, by the loop's clock."""
        return not self._answering() and self.waiting_since is None and not self._unread and now - self.last_s > QUIET_S

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
        self.metrics.requests.add("none", status[:3].decode())
        unanswered = self._in_head if not self._answering() else not self.cycle.response_started
        if self.cycle is None or unanswered:
            reply = reply_bytes(status, message)
            self.transport.write(reply if self._wants_body else reply[: reply.index(END_OF_HEAD) + len(END_OF_HEAD)])
        self.waiting_since = None
        self.held.release(self)
        self._forget_request()
        self.transport.close()

    def _forget_request(self) -> None:
        """Let go of what has arrived at once: the event loop may read from hundreds of connections before it ends this one."""
        self._unread, self._at = b"", 0
        if self._answering():
            self.cycle.body = bytearray()
            self.cycle.disconnected = True
            self.cycle.message_event.set()  # the application ends its reading, and frees what it has


def connection_class(limits: Limits, metrics: ServerMetrics) -> type[HttpToolsProtocol]:
    """A class of connections with these limits, which counts refusals in these metrics."""
    held = HeldBodies(limits.max_held_bytes)
    return type("Connection", (LimitedConnection,), {"limits": limits, "metrics": metrics, "held": held})


def n_busy(state: ServerState, now: float) -> int:
    """Number of connections with a request, or perhaps with one on the way. Args: now, in seconds, by the loop's clock."""
    return sum(not cast(Any, connection).quiet(now) for connection in state.connections)


def sweep(state: ServerState, now: float) -> None:
    """Check all connections of a server, which `connection_class` made. Args: now, in seconds, by the loop's clock."""
    for connection in list(state.connections):
        cast(Any, connection).sweep(now)
