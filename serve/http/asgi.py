"""One HTTP request and its reply, as any ASGI server hands them over, within limits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON = b"application/json"
PATIENCE = 8  # times the largest body: what is still taken in of one that is too large


@dataclass(slots=True)
class Reply:
    """What is sent back."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: Headers = field(default_factory=list)
    afterwards: Callable[[], None] | None = None  # what is left to do once it is on its way


class Refused(Exception):
    """A request that gets an error instead of an answer."""

    def __init__(self, status: int, message: str, headers: Headers | None = None, reason: str | None = None) -> None:
        """Args: HTTP status; one line for the client; extra headers; reason to count it under, if it was shed."""
        self.status, self.message, self.headers, self.reason = status, message, headers or [], reason
        super().__init__(message)


class Disconnected(Exception):
    """The client went away before its request was answered; nobody is left to answer."""


def json_reply(value: object, status: int = 200, headers: Headers | None = None) -> Reply:
    """A value as one line of JSON."""
    return Reply(status, msgspec.json.encode(value) + b"\n", JSON, headers or [])


def header(scope: Message, name: bytes) -> bytes | None:
    """The first value of a header, by its name in small letters."""
    for found, value in scope["headers"]:
        if found == name:
            return bytes(value)
    return None


async def read_body(scope: Message, receive: Receive, max_bytes: int) -> bytes:
    """The request's body, never held beyond the limit; raises Refused or Disconnected.

    Of one that is too large a good deal more is still taken in, and thrown away: a client that is cut off while it sends never
    reads why.
    """
    too_large = f"the body is larger than {max_bytes} bytes; send fewer texts at a time"
    length = header(scope, b"content-length")
    if length is not None and length.isdigit() and int(length) > max_bytes:
        if int(length) <= PATIENCE * max_bytes and header(scope, b"expect") is None:
            await _pass_over(receive, PATIENCE * max_bytes)
        raise Refused(413, too_large, [(b"connection", b"close")])
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.request" and not message.get("more_body", False) and len(body) <= max_bytes:
        return body  # nearly every request comes in one piece
    pieces = bytearray(body)
    while message["type"] != "http.disconnect":
        if len(pieces) > max_bytes:
            if message.get("more_body", False):
                await _pass_over(receive, PATIENCE * max_bytes)
            raise Refused(413, too_large, [(b"connection", b"close")])
        if not message.get("more_body", False):
            return bytes(pieces)
        message = await receive()
        pieces += message.get("body", b"")
    raise Disconnected


async def _pass_over(receive: Receive, most: int) -> None:
    """Take in the rest of a body, or as many bytes of it, and keep nothing. How long that may take is the connection's business."""
    n = 0
    while n <= most:
        message = await receive()
        n += len(message.get("body", b""))
        if not message.get("more_body", False):  # the end, or the client has gone
            return


async def send_reply(send: Send, reply: Reply, *, head: bool) -> None:
    """Send a reply; to HEAD, its headers only."""
    length = [(b"content-type", reply.content_type), (b"content-length", b"%d" % len(reply.body))]
    await send({"type": "http.response.start", "status": reply.status, "headers": length + reply.headers})
    await send({"type": "http.response.body", "body": b"" if head else reply.body})


def decode_json(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    """The body as the decoder's type; raises Refused: 400 if it is not JSON, 422 if it is JSON of another shape."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise Refused(422, str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, f"the body is not valid JSON: {error}") from error
