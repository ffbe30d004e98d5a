"""The description of the HTTP interface, OpenAPI 3.1, for exactly the bundles that are served."""

from __future__ import annotations

from potstill.serve.http.config import Limits
from potstill.serve.http.hosting.hosted_bundle import HostedBundle
from potstill.serve.http.protocols.open_inference import DATATYPES
from potstill.serve.http.protocols.openapi_schemas import REPLY_SCHEMAS, Json, classify_request, infer_request, predict_request, ref

_ERRORS = {
    "400": "The body is not JSON, or, in the Open Inference Protocol, wrong in any way.",
    "401": "A key is needed, or not known.",
    "404": "There is no bundle or version of that name.",
    "408": "The request took too long to arrive.",
    "413": "The body is too large; of /predict also: too many texts, or one too long.",
    "422": "The body is JSON of a wrong shape, or does not fit the bundle.",
    "429": "The answer would come too late; Retry-After says when to come back.",
    "500": "A mistake in the server.",
    "503": "Too many connections, or not ready.",
    "504": "The time ran out before it was this request's turn.",
}
_TRACE = {
    "name": "traceparent",
    "in": "header",
    "description": "The caller's place in a trace (W3C Trace Context); another form is passed over.",
    "schema": {"type": "string"},
}


def openapi_document(hosted: list[HostedBundle], limits: Limits, version: str, *, with_keys: bool) -> Json:
    """The description.

    Args:
        hosted: the bundles, the first one being the one that answers where none is named.
        limits: what is accepted.
        version: of the program.
        with_keys: whether a client must bring a key.
    """
    document: Json = {
        "openapi": "3.1.0",
        "info": {"title": "potstill", "version": version, "summary": "Classifies texts.", "license": {"name": "MIT"}},
        "paths": _paths(hosted, limits),
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


def _paths(hosted: list[HostedBundle], limits: Limits) -> Json:
    """Every path with its operations."""
    first = hosted[0]
    paths: Json = {
        "/classify": {"post": _ask("classify", "Classify texts.", classify_request([first], limits), ref("ClassifyReply"))},
        "/predict": {"post": _predict(predict_request([first], limits), "predict")},
        "/bundles": {"get": _look("bundles", "The bundles, with labels, thresholds and examples.", ref("Bundles"))},
        "/livez": {"get": _look("livez", "Whether the process answers at all.", ref("Status"), open_to_all=True)},
        "/readyz": {"get": _ready("readyz")},
        "/v2/health/live": {"get": _look("v2_live", "As /livez.", ref("Status"), open_to_all=True)},
        "/v2/health/ready": {"get": _ready("v2_ready")},
        "/v2": {"get": _look("v2", "What the server speaks.", ref("ServerMetadata"))},
        "/metrics": {"get": _plain("metrics", "Counts and times for Prometheus.", "text/plain")},
        "/openapi.json": {"get": _look("openapi", "This description.", {"type": "object"}, open_to_all=True)},
        "/": {"get": _plain("page", "A page to try it.", "text/html", open_to_all=True)},
        "/playground.css": {"get": _plain("page_css", "The page's style.", "text/css", open_to_all=True)},
        "/playground.js": {"get": _plain("page_js", "The page's script.", "text/javascript", open_to_all=True)},
    }
    for one in hosted:
        paths.update(_paths_of(one, limits))
    return paths


def _paths_of(one: HostedBundle, limits: Limits) -> Json:
    """The paths of one bundle; each has its own, as what one takes another may refuse."""
    name = one.name
    asked = _ask(f"classify_{name}", f"Classify texts with {name}.", classify_request([one], limits), ref("ClassifyReply"))
    paths: Json = {
        f"/bundles/{name}/classify": {"post": _with(asked, "404")},
        f"/bundles/{name}/predict": {"post": _with(_predict(predict_request([one], limits), f"predict_{name}"), "404")},
    }
    version = {"name": "version", "in": "path", "required": True, "schema": {"type": "string", "enum": [one.version]}}
    for path, parameters, suffix in (
        (f"/v2/models/{name}", [], name),
        (f"/v2/models/{name}/versions/{{version}}", [version], f"{name}_version"),
    ):
        metadata = _with(_look(f"model_{suffix}", "What the bundle takes and gives.", ref("ModelMetadata")), "404")
        ready = _with(_look(f"model_ready_{suffix}", "Whether the bundle answers.", ref("ModelReady")), "404")
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
    return _with(described, "400", "401", "408", "413", "422", "429", "500", "503", "504")


def _predict(request: Json, operation: str) -> Json:
    """`/predict`, whose errors have a type too."""
    described = _ask(operation, "As text-embeddings-inference.", request, ref("Predictions"))
    for status, response in described["responses"].items():
        if status not in ("200", "401", "408", "503"):
            response["content"]["application/json"]["schema"] = ref("TypedError")
    return described


def _infer(hosted: list[HostedBundle], limits: Limits, operation: str) -> Json:
    """`/infer`, whose bodies may go on in binary."""
    described = _ask(operation, "The Open Inference Protocol.", infer_request(hosted, limits, list(DATATYPES)), ref("InferReply"))
    described["responses"]["200"]["content"]["application/octet-stream"] = {}
    described["parameters"] = [
        _TRACE,
        {
            "name": "Inference-Header-Content-Length",
            "in": "header",
            "description": "Bytes of the JSON, where tensors follow it in binary.",
            "schema": {"type": "integer", "minimum": 0},
        },
    ]
    return _with(described, "404")


def _look(operation: str, summary: str, schema: Json, *, open_to_all: bool = False) -> Json:
    """An operation that only looks something up."""
    described: Json = {"operationId": operation, "summary": summary, "responses": {"200": _json("It.", schema)}}
    if open_to_all:
        described["security"] = []
        return described
    return _with(described, "401")


def _ready(operation: str) -> Json:
    """Readiness."""
    described = _look(operation, "Whether a request would be answered now.", ref("Status"), open_to_all=True)
    described["responses"]["503"] = _json("Starting, busy, or stopping.", ref("Status"))
    return described


def _plain(operation: str, summary: str, kind: str, *, open_to_all: bool = False) -> Json:
    """An operation whose reply is no JSON."""
    described = _look(operation, summary, {}, open_to_all=open_to_all)
    described["responses"]["200"] = {"description": "It.", "content": {kind: {"schema": {"type": "string"}}}}
    return described


def _with(described: Json, *statuses: str) -> Json:
    """An operation that may also end like that."""
    for status in statuses:
        described["responses"][status] = _json(_ERRORS[status], ref("Error"))
    return described


def _json(description: str, schema: Json) -> Json:
    """A reply of JSON."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}
