"""A minimal HTTP client for load: one request at a time per connection, with as little work for each as Python allows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from potstill.contract.errors import UserError

CONNECT_TIMEOUT_S = 10.0
REPLY_TIMEOUT_S = 10.0
WATCH_S = 1.0  # seconds between checks for overdue replies
LOST, REFUSED, TIMED_OUT = -1, -2, -3  # in place of a status: the connection broke, was never made, or no reply came in time


@dataclass(frozen=True)
class Address:
    """Host and port of a server."""

    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> Address:
        """Parse the address in a URL; raises UserError if it is not `http://HOST[:PORT]`."""
        parts = urlsplit(url)
        try:
            port = parts.port or 80
        except ValueError as error:
            raise UserError(f"{url}: {error}") from error
        if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
            raise UserError(f"{url}: is not the address of a server; give one like http://127.0.0.1:8080")
        return cls(parts.hostname, port)

    def post(self, path: str, body: bytes, key: str | None = None) -> bytes:
        """A complete POST request, with an API key if one is given."""
        secret = b"" if key is None else b"X-API-Key: %s\r\n" % key.encode()
        head = b"POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n%s\r\n" % (
            path.encode(),
            self.host.encode(),
            len(body),
            secret,
        )
        return head + body

    def get(self, path: str, key: str | None = None) -> bytes:
        """A complete GET request, with an API key if one is given."""
        secret = b"" if key is None else b"X-API-Key: %s\r\n" % key.encode()
        return b"GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n" % (path.encode(), self.host.encode(), secret)


class Connection(asyncio.Protocol):
    """One connection: `ask` sends a request and waits for the reply, `send` calls back when it arrives."""

    def __init__(self) -> None:
        """Create it unconnected; :meth:`connect` makes connected ones."""
        self._transport: asyncio.Transport | None = None
        self._done: Callable[[int], None] | None = None
        self._sent_s = 0.0
        self._buffer = bytearray()
        self._body_end = 0  # position in the buffer, once the head has been read
        self._status = 0
        self._closes = False
        self.body = b""  # of the last reply
        self.open = False

    @classmethod
    async def connect(cls, address: Address) -> Connection | None:
        """Open a connection; None if the server accepts none."""
        loop = asyncio.get_running_loop()
        try:
            made = loop.create_connection(cls, address.host, address.port)
            _, protocol = await asyncio.wait_for(made, CONNECT_TIMEOUT_S)
        except (OSError, TimeoutError):
            return None
        return protocol

    async def ask(self, request: bytes, timeout_s: float) -> int:
        """Send a request and return the reply's status, or LOST or TIMED_OUT; `timeout_s` is in seconds, above 0."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[int] = loop.create_future()
        timer = loop.call_later(timeout_s, self.give_up)
        self.send(request, waiter.set_result)
        try:
            return await waiter
        finally:
            self._done = None
            timer.cancel()

    def send(self, request: bytes, done: Callable[[int], None]) -> None:
        """Send a request; `done` is called with the reply's status, or with LOST or TIMED_OUT, possibly at once."""
        self._done, self._sent_s = done, time.perf_counter()
        if self._transport is None or not self.open:
            self._finish(LOST)
        else:
            self._transport.write(request)

    def is_late(self) -> bool:
        """True if a reply is overdue."""
        return self._done is not None and time.perf_counter() - self._sent_s > REPLY_TIMEOUT_S

    def give_up(self) -> None:
        """Stop waiting for the reply, and close the connection."""
        self.close()
        self._finish(TIMED_OUT)

    def close(self) -> None:
        """Close the connection."""
        self.open = False
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        if isinstance(transport, asyncio.Transport):
            self._transport, self.open = transport, True

    def connection_lost(self, exc: Exception | None) -> None:
        """Connection lost: fail the pending reply."""
        self.open = False
        self._finish(LOST)

    def data_received(self, data: bytes) -> None:
        """Add a piece of the reply; finish the request when the reply is complete."""
        self._buffer += data
        if not self._body_end:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._buffer[:end]).lower()
            self._status = int(head[9:12])
            self._closes = b"\r\nconnection: close" in head
            at = head.find(b"\r\ncontent-length:")
            length = int(head[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            self._body_end = end + 4 + length
        if len(self._buffer) >= self._body_end:
            self.body = bytes(self._buffer[: self._body_end]).partition(b"\r\n\r\n")[2]
            del self._buffer[: self._body_end]
            self._body_end = 0
            if self._closes:
                self.close()
            self._finish(self._status)

    def _finish(self, status: int) -> None:
        """Report the status to the caller that waits for it."""
        done, self._done = self._done, None
        if done is not None:
            done(status)


async def give_up_in_time(connections: Callable[[], Iterable[Connection]]) -> None:
    """Give up overdue replies on all connections, with one timer for all of them; runs until it is cancelled."""
    while True:
        await asyncio.sleep(WATCH_S)
        for connection in [one for one in connections() if one.is_late()]:
            connection.give_up()
