"""HTTP requests and replies in ASGI's terms: read a body within its limit, decode JSON, send a reply."""

from __future__ import annotations

import zlib
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
MAX_MESSAGE_CHARS = 500  # of an error; it may quote a part of the request
MAX_QUOTES = 20_000  # unescaped quotation marks in a JSON body: far above what the largest allowed request has
CODINGS = b"gzip, deflate"  # of a body, that are decoded
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
        if len(message) > MAX_MESSAGE_CHARS:
            message = f"{message[: MAX_MESSAGE_CHARS // 2]} … {message[-MAX_MESSAGE_CHARS // 4 :]}"
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
    """The request's body, decoded if it is compressed; no more than `max_bytes` of it, before and after.

    Raises:
        Refused: 413 if it is larger, 415 if its coding is not one of `CODINGS`, 400 if it is damaged.
        Disconnected: if the client disconnects before the body is complete.
    """
    coding = (header(scope, b"content-encoding") or b"identity").strip().lower()
    if coding not in (b"identity", b"gzip", b"x-gzip", b"deflate"):
        raise Refused(415, "Content-Encoding may be gzip or deflate", [(b"accept-encoding", CODINGS)])
    body = await _read_raw(scope, receive, max_bytes)
    return body if coding == b"identity" else _decompressed(body, max_bytes, raw=coding == b"deflate")


def _decompressed(body: bytes, max_bytes: int, *, raw: bool) -> bytes:
    """Decode gzip or deflate, and never more than `max_bytes` of it.

    Args:
        body: as it was sent.
        max_bytes: of the decoded body.
        raw: a body without the header of zlib is plain deflate, as some clients send it.
    Raises:
        Refused: 413 or 400.
    """
    plain = raw and (len(body) < 2 or body[0] & 15 != 8 or int.from_bytes(body[:2], "big") % 31)
    decoder = zlib.decompressobj(-zlib.MAX_WBITS if plain else zlib.MAX_WBITS | 32)
    try:
        found = decoder.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise Refused(400, "the body is not what its Content-Encoding says") from error
    if len(found) > max_bytes:
        raise Refused(413, f"the decoded body is larger than {max_bytes} bytes; send fewer texts at a time")
    if not decoder.eof or decoder.unused_data:
        raise Refused(400, "the compressed body is cut off, or more follows it")
    return found


async def _read_raw(scope: Message, receive: Receive, max_bytes: int) -> bytes:
    """The body as it was sent; no more than `max_bytes` is kept in memory.

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
    body = b""
    while message["type"] != "http.disconnect":
        if len(pieces) > max_bytes:
            if message.get("more_body", False):
                await _discard(receive, MAX_DISCARDED * max_bytes)
            raise Refused(413, too_large, [(b"connection", b"close")])
        if not message.get("more_body", False):
            return bytes(pieces)
        message.clear()  # while more is waited for, what has arrived is kept once
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
    if len(body) > MAX_QUOTES and body.count(b'"') - body.count(b'\\"') > MAX_QUOTES:
        raise Refused(422, "the body has far more strings than a request may have; send fewer texts at a time")
    try:
        return decode.from_json(decoder.decode, body)
    except msgspec.ValidationError as error:
        raise Refused(422, str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, f"the body is not valid JSON: {error}") from error
