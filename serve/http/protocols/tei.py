"""`POST /predict`, `/` and `/invocations` as text-embeddings-inference answers it, so that its clients only change the address.

    {"inputs": "..."}  or  {"inputs": ["...", "TARGET"]}     -> [{"score", "label"}, ...], the most probable first
    {"inputs": [["..."], ["...", "TARGET"], ...]}            -> a list of those
    "raw_scores": true     logits instead of probabilities
    "truncate": false      a text with more tokens than the model reads is refused instead of truncated
    "truncation_direction": "left"     the last tokens of such a text are read instead of the first

A bundle with several questions answers one of them by its path: /questions/QUESTION/predict, and
/bundles/NAME/questions/QUESTION/predict. Scores of tags are independent of each other, as those of several labels are there.
Errors are {"error", "error_type"}, with that server's types and status codes: Validation 413 (422 where the shape is wrong),
Empty (and for a body that is not JSON Validation) 400, Overloaded 429, Unhealthy 503, Backend 424. The deadline is always the
default, as the protocol has no field for it.
`GET /health` and `/ping` are empty where the server is ready, `GET /info` describes the first bundle.
Source: huggingface/text-embeddings-inference, router/src/http/types.rs and server.rs, router/src/lib.rs.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import msgspec

from potstill.serve.http.asgi import Message, Refused, Reply, decode_json, json_reply
from potstill.serve.http.config import Limits
from potstill.serve.http.hosting.job import Job
from potstill.serve.http.hosting.open_bundle import AS_USUAL, HostedBundle, Reading, TimedAnswer
from potstill.serve.http.protocols.request import ParsedRequest, WireProtocol, WriteReply

ERROR_TYPES = {
    400: "Validation", 413: "Validation", 422: "Validation", 424: "Backend", 429: "Overloaded", 500: "Backend", 503: "Unhealthy",
    504: "Overloaded",
}  # fmt: skip
NO_PAIRS = (
    "two strings in one list are a text and its target, and this bundle takes no target; "
    'to send several texts, put each in a list of its own: {"inputs": [["a"], ["b"]]}'
)
EMPTY = "Input validation error: `inputs` cannot be empty"


class PredictRequest(msgspec.Struct, frozen=True):
    """The body of a request. Unknown fields are ignored, as in that server."""

    inputs: str | list[str | list[str]]
    raw_scores: bool = False
    truncate: bool | None = None  # None: true
    truncation_direction: Literal["left", "right", "Left", "Right"] = "right"


class LabelScore(msgspec.Struct, frozen=True):
    """A label with its score: a probability from 0 to 1, or a logit."""

    score: float
    label: str


_DECODER = msgspec.json.Decoder(PredictRequest)


def read(scope: Message, body: bytes, hosted: HostedBundle, limits: Limits) -> tuple[ParsedRequest, WriteReply]:
    """Read a request; raises Refused: 400, 413 or 422."""
    request: PredictRequest = decode_json(_DECODER, body)
    question = _question(scope, hosted)
    pairs = _pairs(request.inputs)
    if len(pairs) > limits.max_texts:
        raise Refused(413, f"batch size {len(pairs)} > maximum allowed batch size {limits.max_texts}")
    if any(not "".join(pair) for pair in pairs):
        raise Refused(400, EMPTY)
    texts, with_target = [pair[0] for pair in pairs], [len(pair) == 2 for pair in pairs]
    if any(with_target) and not all(with_target):
        raise Refused(422, "some inputs are pairs of text and target and others are not; a bundle takes one kind only")
    if any(with_target) and not hosted.manifest.target:
        raise Refused(422, NO_PAIRS)
    targets = [pair[1] for pair in pairs] if all(with_target) else None
    return ParsedRequest(texts, targets, reading=_reading(request)), partial(_write, request, question)


def _reading(request: PredictRequest) -> Reading:
    """How the texts are read."""
    if request.truncate is False:
        return Reading(whole=True)
    return Reading(keep="tail") if request.truncation_direction.lower() == "left" else AS_USUAL


def _question(scope: Message, hosted: HostedBundle) -> str | None:
    """The question that is asked, None of a bundle without heads; raises Refused: 404 or 422."""
    asked: str | None = scope.get("path_params", {}).get("question")
    if hosted.manifest.heads is None:
        if asked is not None:
            raise Refused(404, f"this bundle has one question, without a name; ask /bundles/{hosted.name}/predict")
        return None
    names = [head.name for head in hosted.manifest.heads]
    if asked is None and len(names) > 1:
        by_path = f"/bundles/{hosted.name}/questions/{names[0]}/predict"
        raise Refused(422, f"this bundle answers {', '.join(names)}; name one of these questions in the path: {by_path}")
    if asked is not None and asked not in names:
        raise Refused(404, f"unknown question; the questions of this bundle are {', '.join(names)}")
    return asked or names[0]


def _write(request: PredictRequest, question: str | None, job: Job) -> Reply:
    """Write the answers of a job."""
    rows = [_predictions(job.hosted, one, question, raw=request.raw_scores) for one in job.results()]
    return json_reply(rows if is_batch(request) else rows[0])


def write_error(refused: Refused) -> Reply:
    """Write an error in that server's form."""
    kind = "Empty" if refused.message == EMPTY else ERROR_TYPES.get(refused.status, "Validation")
    return json_reply({"error": refused.message, "error_type": kind}, refused.status, refused.headers)


PROTOCOL = WireProtocol(read, write_error)


def is_batch(request: PredictRequest) -> bool:
    """Tell whether the reply is a list of lists."""
    return isinstance(request.inputs, list) and bool(request.inputs) and isinstance(request.inputs[0], list)


def _pairs(inputs: str | list[str | list[str]]) -> list[list[str]]:
    """Each input as [text] or [text, target]; raises Refused: 422."""
    if isinstance(inputs, str):
        return [[inputs]]
    flat = [one for one in inputs if isinstance(one, str)]
    nested = [one for one in inputs if isinstance(one, list)]
    rows = [flat] if flat else nested
    if (flat and nested) or not rows or any(not 1 <= len(row) <= 2 for row in rows):
        raise Refused(422, "inputs must be a string, a pair of strings, or a list of [string] and [string, string]")
    return rows


def too_long(hosted: HostedBundle) -> str:
    """The message for a text that was to be read whole, and is too long for that."""
    most = hosted.manifest.max_tokens
    return f"Input validation error: `inputs` must have at most {most} tokens. Given: more than {most}"


def health(ready: bool, status: str) -> Reply:
    """The reply to `GET /health`: nothing, if a request would be answered. Args: status, the reason if not."""
    return Reply(200, b"", b"text/plain") if ready else json_reply({"error": status, "error_type": "Unhealthy"}, 503)


def info(hosted: HostedBundle, limits: Limits, version: str) -> dict[str, Any]:
    """The reply to `GET /info`, with the fields that its clients read. Args: the first bundle; limits; version of potstill."""
    heads = hosted.manifest.heads
    labels = heads[0].labels if heads is not None and len(heads) == 1 else hosted.manifest.labels
    names = {"id2label": {str(i): name for i, name in enumerate(labels)}, "label2id": {name: i for i, name in enumerate(labels)}}
    return {
        "model_id": hosted.name,
        "model_sha": hosted.digest,
        "model_dtype": hosted.manifest.variant,
        "model_type": {"classifier": names},
        "max_concurrent_requests": limits.max_connections,
        "max_input_length": hosted.manifest.max_tokens,
        "max_batch_tokens": hosted.manifest.max_tokens * limits.max_texts,
        "max_batch_requests": None,
        "max_client_batch_size": limits.max_texts,
        "auto_truncate": True,
        "tokenization_workers": 1,
        "version": version,
        "sha": None,
        "docker_label": None,
    }


def _predictions(hosted: HostedBundle, timed: TimedAnswer, question: str | None, *, raw: bool) -> list[LabelScore]:
    """All labels by descending score; among equal scores the later label first, as that server sorts upwards and reverses."""
    if question is None or timed.answer.questions is None:
        labels = hosted.manifest.labels
        scores = timed.logits if raw else [timed.answer.probs[name] for name in labels]
    else:
        part = next(part for head, part in hosted.parts if head.name == question)
        probs = timed.answer.questions[question].probs
        labels, scores = list(probs), timed.logits[part] if raw else list(probs.values())
    rows = [LabelScore(score, label) for score, label in zip(scores, labels, strict=True)]
    return sorted(rows, key=lambda row: row.score)[::-1]
