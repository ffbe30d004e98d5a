"""The page at `/` to try a bundle by hand: three files of our own, and a policy that lets the browser load nothing else."""

from __future__ import annotations

from pathlib import Path

from potstill.serve.http.asgi import Headers, Reply

FOLDER = Path(__file__).parent / "playground"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_FILES = {
    "/": ("playground.html", b"text/html; charset=utf-8"),
    "/playground.css": ("playground.css", b"text/css; charset=utf-8"),
    "/playground.js": ("playground.js", b"text/javascript; charset=utf-8"),
}


def page(path: str) -> Reply:
    """One of the page's files."""
    name, kind = _FILES[path]
    headers: Headers = [
        (b"content-security-policy", POLICY.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cache-control", b"no-cache"),
    ]
    return Reply(200, (FOLDER / name).read_bytes(), kind, headers)
