"""Replies that classify nothing: health, metrics, descriptions, the page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from potstill.serve.http.application.routes import Route
from potstill.serve.http.asgi import Headers, Refused, Reply, json_reply
from potstill.serve.http.config import Limits
from potstill.serve.http.hosting.bundle_registry import BundleRegistry
from potstill.serve.http.hosting.hosted_bundle import HostedBundle
from potstill.serve.http.protocols import native, open_inference
from potstill.serve.http.protocols.openapi import openapi_document
from potstill.serve.http.telemetry.prometheus import CONTENT_TYPE as METRICS_TYPE
from potstill.serve.http.telemetry.server_metrics import ServerMetrics

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
    """What there is to see of a server at this moment."""

    bundles: BundleRegistry
    limits: Limits
    metrics: ServerMetrics
    version: str  # of the program
    with_keys: bool
    status: str  # ready, or why not
    wait_s: float  # of a new text, estimated

    @property
    def ready(self) -> bool:
        """Whether a request that comes now would be answered."""
        return self.status == "ready"


def look_up(route: Route, view: ServerView) -> Reply:
    """The reply; raises Refused."""
    match route.kind:
        case "live":
            return json_reply({"status": "alive"})
        case "ready":
            return json_reply({"status": view.status}, 200 if view.ready else 503)
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
            return json_reply(openapi_document(view.bundles.all, view.limits, view.version, with_keys=view.with_keys))
    return _page_file(route.label)


def find_hosted(bundles: BundleRegistry, route: Route) -> HostedBundle:
    """The bundle that a route is about; raises Refused."""
    hosted = bundles.get(route.bundle)
    if hosted is None:
        names = ", ".join(one.name for one in bundles.all)
        raise Refused(404, f"there is no bundle of that name; there are {names}")
    if route.version not in (None, hosted.version):
        raise Refused(404, f"{hosted.name} has no such version; there is {hosted.version}")
    return hosted


def _page_file(path: str) -> Reply:
    """One of the page's files."""
    name, kind = _FILES[path]
    headers: Headers = [
        (b"content-security-policy", POLICY.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cache-control", b"no-cache"),
    ]
    return Reply(200, (FOLDER / name).read_bytes(), kind, headers)
