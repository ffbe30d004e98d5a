"""HTTP requests and replies in ASGI's terms: read a body within its limit, decode JSON, send a reply."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from potstill.contract.files import decode

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON = b"application/json"
MAX_DISCARDED = 8  # times the largest allowed body: how much of a body that is too large is read and discarded


@dataclass(slots=True)
class Reply:
    """Status, headers and body of a reply."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: Headers = field(default_factory=list)
    afterwards: Callable[[], None] | None = None  # runs once the reply has been sent


class Refused(Exception):
    """A request that gets an error reply."""

    def __init__(self, status: int, message: str, headers: Headers | None = None, reason: str | None = None) -> None:
        """Args: HTTP status; one line for the client; extra headers; its reason in `potstill_shed_total`, if any."""
        self.status, self.message, self.headers, self.reason = status, message, headers or [], reason
        super().__init__(message)


class Disconnected(Exception):
    """The client disconnected before its request was answered."""


def json_reply(value: object, status: int = 200, headers: Headers | None = None) -> Reply:
    """A reply whose body is the value as one line of JSON."""
    return Reply(status, msgspec.json.encode(value) + b"\n", JSON, headers or [])


def header(scope: Message, name: bytes) -> bytes | None:
    """The first value of a header, None if it is absent. Args: name, in lower case."""
    for found, value in scope["headers"]:
        if found == name:
            return bytes(value)
    return None


async def read_body(scope: Message, receive: Receive, max_bytes: int) -> bytes:
    """The request's body; no more than `max_bytes` is kept in memory.

    The rest of a body that is too large is read and discarded, up to MAX_DISCARDED times the limit: a client that is
    disconnected while it sends never reads the error.

    Raises:
        Refused: 413 if the body is larger than `max_bytes`.
        Disconnected: if the client disconnects before the body is complete.
    """
    too_large = f"the body is larger than {max_bytes} bytes; send fewer texts at a time"
    length = header(scope, b"content-length")
    if length is not None and length.isdigit() and int(length) > max_bytes:
        if int(length) <= MAX_DISCARDED * max_bytes and header(scope, b"expect") is None:
            await _discard(receive, MAX_DISCARDED * max_bytes)
        raise Refused(413, too_large, [(b"connection", b"close")])
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.request" and not message.get("more_body", False) and len(body) <= max_bytes:
        return body  # nearly every request arrives in one piece
    pieces = bytearray(body)
    while message["type"] != "http.disconnect":
        if len(pieces) > max_bytes:
            if message.get("more_body", False):
                await _discard(receive, MAX_DISCARDED * max_bytes)
            raise Refused(413, too_large, [(b"connection", b"close")])
        if not message.get("more_body", False):
            return bytes(pieces)
        message = await receive()
        pieces += message.get("body", b"")
    raise Disconnected


async def _discard(receive: Receive, max_bytes: int) -> None:
    """Read the rest of a body, or that many bytes of it, and keep nothing. The connection limits the time."""
    n = 0
    while n <= max_bytes:
        message = await receive()
        n += len(message.get("body", b""))
        if not message.get("more_body", False):  # the end, or the client has disconnected
            return


async def send_reply(send: Send, reply: Reply, *, head: bool) -> None:
    """Send a reply. Args: head, True to send the headers alone, as for a HEAD request."""
    length = [(b"content-type", reply.content_type), (b"content-length", b"%d" % len(reply.body))]
    await send({"type": "http.response.start", "status": reply.status, "headers": length + reply.headers})
    await send({"type": "http.response.body", "body": b"" if head else reply.body})


def decode_json(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    """The body as the decoder's type; raises Refused: 400 if it is not JSON, 422 if the JSON does not fit the type."""
    try:
        return decode.from_json(decoder.decode, body)
    except msgspec.ValidationError as error:
        raise Refused(422, str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, f"the body is not valid JSON: {error}") from error
