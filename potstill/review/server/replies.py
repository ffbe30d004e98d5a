"""Replies of the pages: HTML or a redirect, under headers that let a browser load and send nothing elsewhere."""

from __future__ import annotations

from collections.abc import Callable

from potstill.review.server.desk import Desk
from potstill.review.server.request import ReviewRequest
from potstill.serve.http.asgi import Headers, Reply

Handler = Callable[[Desk, ReviewRequest], Reply]

HTML = b"text/html; charset=utf-8"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Headers = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),  # with no-referrer a browser would not say which page sends a form
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]


def html(body: str, status: int = 200) -> Reply:
    """A page."""
    return Reply(status, body.encode("utf-8", "replace"), HTML)


def redirect(path: str, headers: Headers | None = None) -> Reply:
    """Where to go on with a GET. Args: path, on this server."""
    return Reply(303, b"", HTML, [(b"location", path.encode("ascii")), *(headers or [])])


def with_headers(reply: Reply) -> Reply:
    """The reply with the headers of every page; what it says of caching is kept."""
    given = {name for name, _ in reply.headers}
    reply.headers += [pair for pair in _HEADERS if pair[0] not in given]
    return reply
