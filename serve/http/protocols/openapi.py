"""The OpenAPI 3.1 description of the HTTP interface, for exactly the bundles that are served."""

from __future__ import annotations

from urllib.parse import quote

from potstill.serve.http.config import Limits
from potstill.serve.http.hosting.open_bundle import HostedBundle
from potstill.serve.http.protocols.open_inference import outputs_of
from potstill.serve.http.protocols.openapi_schemas import (
    REPLY_SCHEMAS,
    DescribedBundle,
    Json,
    classify_request,
    decision_request,
    infer_request,
    predict_request,
    ref,
)

_ERRORS = {
    "400": "The body is not JSON; in the Open Inference Protocol, any invalid request.",
    "401": "The API key is missing or unknown.",
    "404": "Unknown bundle or version.",
    "408": "The request took too long to arrive.",
    "413": "The body is too large; in /predict also too many texts, or too long a text.",
    "415": "The body is compressed in another way than gzip or deflate.",
    "421": "No key is required, and Host is not a name of this machine.",
    "422": "The JSON does not have the form of a request, or does not fit the bundle.",
    "429": "The deadline cannot be met; Retry-After says when to retry.",
    "500": "Internal error.",
    "503": "Too many connections, or not ready.",
    "504": "The deadline passed while the request was queued.",
}
_TRACE = {
    "name": "traceparent",
    "in": "header",
    "description": "The caller's place in a trace (W3C Trace Context); a malformed value is ignored.",
    "schema": {"type": "string"},
}


def describe_bundle(hosted: HostedBundle) -> DescribedBundle:
    """What the description needs of an open bundle."""
    manifest = hosted.manifest
    names = [head.name for head in manifest.heads or []]
    return DescribedBundle(hosted.name, hosted.version, manifest.target, hosted.classifier.has_sets, names, outputs_of(hosted))


def openapi_document(bundles: list[DescribedBundle], limits: Limits, version: str, *, with_keys: bool) -> Json:
    """The description of a server.

    Args:
        bundles: at least one; the first one answers requests that name none.
        limits: of requests.
        version: of potstill.
        with_keys: clients must send an API key.
    """
    document: Json = {
        "openapi": "3.1.0",
        "info": {"title": "potstill", "version": version, "summary": "Classifies texts.", "license": {"name": "MIT"}},
        "paths": _paths(bundles, limits),
        "components": {
            "schemas": dict(REPLY_SCHEMAS),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }
    if with_keys:
        document["security"] = [{"bearer": []}, {"key": []}]
    return document


def _paths(bundles: list[DescribedBundle], limits: Limits) -> Json:
    """All paths with their operations."""
    first = bundles[0]
    paths: Json = {
        "/classify": {"post": _ask("classify", "Classify texts.", classify_request([first], limits), ref("ClassifyReply"))},
        "/v1/decisions": {"post": _decide(limits, "decisions")},
        "/health": {"get": _health("health")},
        "/ping": {"get": _health("ping")},
        "/info": {"get": _look("info", "The first bundle, as text-embeddings-inference describes it.", {"type": "object"})},
        "/bundles": {"get": _look("bundles", "The bundles, with labels, thresholds and examples.", ref("Bundles"))},
        "/livez": {"get": _look("livez", "Tell that the process is alive.", ref("Status"), open_to_all=True)},
        "/readyz": {"get": _ready("readyz")},
        "/v2/health/live": {"get": _look("v2_live", "As /livez.", ref("Status"), open_to_all=True)},
        "/v2/health/ready": {"get": _ready("v2_ready")},
        "/v2": {"get": _look("v2", "The server's name, version and protocol extensions.", ref("ServerMetadata"))},
        "/metrics": {"get": _plain("metrics", "Metrics for Prometheus.", "text/plain")},
        "/openapi.json": {"get": _look("openapi", "This description.", {"type": "object"}, open_to_all=True)},
        "/": {
            "get": _plain("page", "A page to try the server.", "text/html", open_to_all=True),
        },
        "/playground.css": {"get": _plain("page_css", "The page's style.", "text/css", open_to_all=True)},
        "/playground.js": {"get": _plain("page_js", "The page's script.", "text/javascript", open_to_all=True)},
    }
    paths.update({path: {"post": _with(one, "404")} for path, one in _questions(first, limits, "").items()})
    if first.has_one_question:
        for path, operation in (("/predict", "predict"), ("/invocations", "invocations"), ("/", "predict_root")):
            paths.setdefault(path, {})["post"] = _predict(predict_request([first], limits), operation)
    for one in bundles:
        paths.update(_paths_of(one, limits))
    return paths


def _questions(one: DescribedBundle, limits: Limits, place: str) -> Json:
    """By path, `/predict` for each of a bundle's questions. Args: place, of the bundle, as a beginning of paths."""
    of = f"_{one.name}" if place else ""
    return {
        f"{place}/questions/{name}/predict": _predict(predict_request([one], limits), f"predict{of}_question_{name}")
        for name in one.questions
    }


def _paths_of(one: DescribedBundle, limits: Limits) -> Json:
    """The paths of one bundle; bundles differ in what they accept."""
    name, place = one.name, quote(one.name, safe="")
    asked = _ask(f"classify_{name}", f"Classify texts with {name}.", classify_request([one], limits), ref("ClassifyReply"))
    paths: Json = {
        f"/bundles/{place}/classify": {"post": _with(asked, "404")},
        f"/bundles/{place}/v1/decisions": {"post": _decide(limits, f"decisions_{name}")},
    }
    asked_by_path = _questions(one, limits, f"/bundles/{place}")
    if one.has_one_question:
        asked_by_path[f"/bundles/{place}/predict"] = _predict(predict_request([one], limits), f"predict_{name}")
    paths.update({path: {"post": _with(operation, "404")} for path, operation in asked_by_path.items()})
    version = {"name": "version", "in": "path", "required": True, "schema": {"type": "string", "enum": [one.version]}}
    for path, parameters, suffix in (
        (f"/v2/models/{place}", [], name),
        (f"/v2/models/{place}/versions/{{version}}", [version], f"{name}_version"),
    ):
        metadata = _with(_look(f"model_{suffix}", "Inputs and outputs of the bundle.", ref("ModelMetadata")), "404")
        ready = _with(_look(f"model_ready_{suffix}", "Tell whether the bundle answers.", ref("ModelReady")), "404")
        ready["responses"]["503"] = _json("Not ready.", ref("ModelReady"))
        paths[path] = {"parameters": parameters, "get": metadata}
        paths[f"{path}/ready"] = {"parameters": parameters, "get": ready}
        paths[f"{path}/infer"] = {"parameters": parameters, "post": _infer([one], limits, f"infer_{suffix}")}
    return paths


def _ask(operation: str, summary: str, request: Json, reply: Json) -> Json:
    """An operation that classifies."""
    answered = _json("The answer.", reply)
    answered["headers"] = {
        "Server-Timing": {"description": "Milliseconds: queue, tokenize, infer, total.", "schema": {"type": "string"}}
    }
    described: Json = {
        "operationId": operation,
        "summary": summary,
        "parameters": [_TRACE],
        "requestBody": {"required": True, "content": {"application/json": {"schema": request}}},
        "responses": {"200": answered},
    }
    return _with(described, "400", "401", "408", "421", "413", "415", "422", "429", "500", "503", "504")


def _predict(request: Json, operation: str) -> Json:
    """`/predict`, whose errors have a type."""
    described = _ask(operation, "As text-embeddings-inference.", request, ref("Predictions"))
    for status, response in described["responses"].items():
        if status not in ("200", "401", "408", "421", "503"):
            response["content"]["application/json"]["schema"] = ref("TypedError")
    return described


def _decide(limits: Limits, operation: str) -> Json:
    """`/v1/decisions`, whose errors are objects."""
    described = _ask(operation, "As OpenAI's decision models.", decision_request(limits), ref("DecisionReply"))
    described = _with(described, "404")
    for status, response in described["responses"].items():
        if status not in ("200", "408", "503"):
            response["content"]["application/json"]["schema"] = ref("OpenAIError")
    return described


def _infer(bundles: list[DescribedBundle], limits: Limits, operation: str) -> Json:
    """`/infer`, whose bodies may end in binary data."""
    common = [name for name in bundles[0].outputs if all(name in one.outputs for one in bundles)]
    described = _ask(operation, "The Open Inference Protocol.", infer_request(bundles, limits, common), ref("InferReply"))
    described["responses"]["200"]["content"]["application/octet-stream"] = {}
    described["parameters"] = [
        _TRACE,
        {
            "name": "Inference-Header-Content-Length",
            "in": "header",
            "description": "Length of the JSON in bytes, if binary tensors follow it.",
            "schema": {"type": "integer", "minimum": 0},
        },
    ]
    return _with(described, "404")


def _look(operation: str, summary: str, schema: Json, *, open_to_all: bool = False) -> Json:
    """An operation that classifies nothing."""
    described: Json = {"operationId": operation, "summary": summary, "responses": {"200": _json("The reply.", schema)}}
    _with(described, "421")
    if open_to_all:
        described["security"] = []
        return described
    return _with(described, "401")


def _ready(operation: str) -> Json:
    """A readiness probe."""
    described = _look(operation, "Tell whether a new request would be answered.", ref("Status"), open_to_all=True)
    described["responses"]["503"] = _json("Starting, busy, or stopping.", ref("Status"))
    return described


def _health(operation: str) -> Json:
    """A readiness probe whose reply is empty."""
    described = _plain(operation, "Tell whether a new request would be answered.", "text/plain", open_to_all=True)
    return _with(described, "503")


def _plain(operation: str, summary: str, kind: str, *, open_to_all: bool = False) -> Json:
    """An operation whose reply is not JSON."""
    described = _look(operation, summary, {}, open_to_all=open_to_all)
    described["responses"]["200"] = {"description": "The reply.", "content": {kind: {"schema": {"type": "string"}}}}
    return described


def _with(described: Json, *statuses: str) -> Json:
    """Add error replies with these statuses to an operation."""
    for status in statuses:
        described["responses"][status] = _json(_ERRORS[status], ref("Error"))
    return described


def _json(description: str, schema: Json) -> Json:
    """A JSON reply."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}
