"""Replies that need no classification: health, metrics, descriptions, and the page to try a bundle by hand.

The page is three files of ours, under a content security policy that lets the browser load nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from potstill.serve.http.application.routes import Route
from potstill.serve.http.asgi import Headers, Refused, Reply, json_reply
from potstill.serve.http.config import Limits
from potstill.serve.http.hosting.bundle_registry import BundleRegistry
from potstill.serve.http.hosting.open_bundle import HostedBundle
from potstill.serve.http.protocols import native, open_inference, tei
from potstill.serve.http.protocols.openapi import describe_bundle, openapi_document
from potstill.serve.http.telemetry.metrics import ServerMetrics
from potstill.serve.http.telemetry.prometheus import CONTENT_TYPE as METRICS_TYPE

FOLDER = Path(__file__).parents[1] / "playground"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_FILES = {
    "/": ("playground.html", b"text/html; charset=utf-8"),
    "/playground.css": ("playground.css", b"text/css; charset=utf-8"),
    "/playground.js": ("playground.js", b"text/javascript; charset=utf-8"),
}


@dataclass(frozen=True, slots=True)
class ServerView:
    """The state of the server at one moment, as lookups show it."""

    bundles: BundleRegistry
    limits: Limits
    metrics: ServerMetrics
    version: str  # of potstill
    with_keys: bool
    status: str  # as `Application.status` gives it
    wait_s: float  # estimated wait of a new text

    @property
    def ready(self) -> bool:
        """Tell whether a new request would be answered."""
        return self.status == "ready"


def look_up(route: Route, view: ServerView) -> Reply:
    """Reply to a request for a path of `route.kind`; raises Refused: 404 if there is no such bundle."""
    match route.kind:
        case "live":
            return json_reply({"status": "alive"})
        case "ready":
            return json_reply({"status": view.status}, 200 if view.ready else 503)
        case "health":
            return tei.health(view.ready, view.status)
        case "info":
            return json_reply(tei.info(view.bundles.all[0], view.limits, view.version))
        case "metrics":
            return Reply(200, view.metrics.page(view.bundles.all, view.wait_s, view.ready).encode(), METRICS_TYPE)
        case "bundles":
            return json_reply({"bundles": [native.describe(hosted) for hosted in view.bundles.all]})
        case "v2":
            return open_inference.server_metadata(view.version)
        case "model":
            return open_inference.model_metadata(find_hosted(view.bundles, route))
        case "model_ready":
            name = find_hosted(view.bundles, route).name
            return json_reply({"name": name, "ready": view.ready}, 200 if view.ready else 503)
        case "openapi":
            bundles = [describe_bundle(hosted) for hosted in view.bundles.all]
            return json_reply(openapi_document(bundles, view.limits, view.version, with_keys=view.with_keys))
    return _page_file(route.label)


def find_hosted(bundles: BundleRegistry, route: Route) -> HostedBundle:
    """The bundle that a route names; raises Refused: 404."""
    hosted = bundles.get(route.bundle)
    if hosted is None:
        names = ", ".join(one.name for one in bundles.all)
        raise Refused(404, f"unknown bundle; the bundles are {names}")
    if route.version not in (None, hosted.version):
        raise Refused(404, f"unknown version of {hosted.name}; it is at version {hosted.version}")
    return hosted


@cache
def _content(name: str) -> bytes:
    """The bytes of a file of the page, read once: a server whose open files are used up can still show it."""
    return (FOLDER / name).read_bytes()


def read_page() -> None:
    """Read the page's files, before the first request."""
    for name, _ in _FILES.values():
        _content(name)


def _page_file(path: str) -> Reply:
    """A file of the page, with its headers."""
    name, kind = _FILES[path]
    headers: Headers = [
        (b"content-security-policy", POLICY.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cache-control", b"no-cache"),
    ]
    return Reply(200, _content(name), kind, headers)
