"""Replies that classify nothing: health, metrics, descriptions, the page."""

from __future__ import annotations

from dataclasses import dataclass

from potstill.serve.http.asgi import Refused, Reply, json_reply
from potstill.serve.http.hosting.bundle_registry import Bundles
from potstill.serve.http.hosting.hosted_bundle import Hosted
from potstill.serve.http.limits import Limits
from potstill.serve.http.page import page
from potstill.serve.http.protocols import native, open_inference
from potstill.serve.http.protocols.openapi import describe
from potstill.serve.http.routes import Route
from potstill.serve.http.telemetry.prometheus import CONTENT_TYPE as METRICS_TYPE
from potstill.serve.http.telemetry.server_metrics import Measures


@dataclass(frozen=True, slots=True)
class View:
    """What there is to see of a server at this moment."""

    bundles: Bundles
    limits: Limits
    measures: Measures
    version: str  # of the program
    with_keys: bool
    status: str  # ready, or why not
    wait_s: float  # of a new text, estimated

    @property
    def ready(self) -> bool:
        """Whether a request that comes now would be answered."""
        return self.status == "ready"


def look_up(route: Route, view: View) -> Reply:
    """The reply; raises Refused."""
    match route.kind:
        case "live":
            return json_reply({"status": "alive"})
        case "ready":
            return json_reply({"status": view.status}, 200 if view.ready else 503)
        case "metrics":
            return Reply(200, view.measures.page(view.bundles.all, view.wait_s, view.ready).encode(), METRICS_TYPE)
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
            return json_reply(describe(view.bundles.all, view.limits, view.version, with_keys=view.with_keys))
    return page(route.label)


def find_hosted(bundles: Bundles, route: Route) -> Hosted:
    """The bundle that a route is about; raises Refused."""
    hosted = bundles.get(route.bundle)
    if hosted is None:
        names = ", ".join(one.name for one in bundles.all)
        raise Refused(404, f"there is no bundle of that name; there are {names}")
    if route.version not in (None, hosted.version):
        raise Refused(404, f"{hosted.name} has no such version; there is {hosted.version}")
    return hosted
