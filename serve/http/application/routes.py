"""Paths and their methods, and the protocol of each kind of path that classifies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from potstill.serve.http.protocols import decisions, native, open_inference, tei
from potstill.serve.http.protocols.request import WireProtocol

RouteKind = Literal[
    "classify", "predict", "infer", "decide", "live", "health", "info",
    "ready", "metrics", "openapi", "bundles", "v2", "model", "model_ready", "page",
]  # fmt: skip
PROTOCOLS: dict[RouteKind, WireProtocol] = {
    "classify": native.PROTOCOL,
    "predict": tei.PROTOCOL,
    "infer": open_inference.PROTOCOL,
    "decide": decisions.PROTOCOL,
}
GET_OR_HEAD, POST = ("GET", "HEAD"), ("POST",)
OPEN_KINDS = {"live", "ready", "health", "openapi", "page"}  # need no key: probes and browsers send none


@dataclass(frozen=True, slots=True)
class Route:
    """What a request's path asks for."""

    kind: RouteKind
    label: str  # the path with placeholders for its variable parts, as in metrics and OpenAPI
    methods: tuple[str, ...] = GET_OR_HEAD
    bundle: str | None = None  # None: the first one
    version: str | None = None
    question: str | None = None  # None: the bundle's only one, or all


FIXED_ROUTES = {
    route.label: route
    for route in (
        Route("classify", "/classify", POST),
        Route("predict", "/predict", POST),
        Route("decide", "/v1/decisions", POST),
        Route("bundles", "/bundles"),
        Route("live", "/livez"),
        Route("ready", "/readyz"),
        Route("live", "/v2/health/live"),
        Route("ready", "/v2/health/ready"),
        Route("v2", "/v2"),
        Route("metrics", "/metrics"),
        Route("openapi", "/openapi.json"),
        Route("page", "/"),
        Route("page", "/playground.css"),
        Route("page", "/playground.js"),
        Route("predict", "/invocations", POST),  # this and the next three as text-embeddings-inference
        Route("health", "/health"),
        Route("health", "/ping"),
        Route("info", "/info"),
    )
}
_POSTED_ROOT = Route("predict", "/", POST)  # as text-embeddings-inference
_OF_BUNDLES: dict[str, tuple[RouteKind, tuple[str, ...]]] = {"classify": ("classify", POST), "predict": ("predict", POST)}
_OF_MODELS: dict[tuple[str, ...], tuple[RouteKind, tuple[str, ...]]] = {
    (): ("model", GET_OR_HEAD),
    ("ready",): ("model_ready", GET_OR_HEAD),
    ("infer",): ("infer", POST),
}


def find_route(path: str, method: str = "GET") -> Route | None:
    """The route of a path, None if the path is unknown. Args: method, which matters for `/` alone."""
    fixed = FIXED_ROUTES.get(path)
    if fixed is not None:
        return _POSTED_ROOT if path == "/" and method == "POST" else fixed
    match path.split("/"):
        case ["", "questions", question, "predict"] if question:
            return Route("predict", "/questions/{question}/predict", POST, question=question)
        case ["", "bundles", name, "questions", question, "predict"] if name and question:
            return Route("predict", "/bundles/{name}/questions/{question}/predict", POST, name, question=question)
        case ["", "bundles", name, "v1", "decisions"] if name:
            return Route("decide", "/bundles/{name}/v1/decisions", POST, name)
        case ["", "bundles", name, action] if name and action in _OF_BUNDLES:
            kind, methods = _OF_BUNDLES[action]
            return Route(kind, f"/bundles/{{name}}/{action}", methods, name)
        case ["", "v2", "models", name, "versions", version, *rest] if name and version and tuple(rest) in _OF_MODELS:
            kind, methods = _OF_MODELS[tuple(rest)]
            return Route(kind, "/".join(["/v2/models/{name}/versions/{version}", *rest]), methods, name, version)
        case ["", "v2", "models", name, *rest] if name and tuple(rest) in _OF_MODELS:
            kind, methods = _OF_MODELS[tuple(rest)]
            return Route(kind, "/".join(["/v2/models/{name}", *rest]), methods, name)
    return None
