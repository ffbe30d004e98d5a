"""The Open Inference Protocol, version 2, over HTTP, as Triton, KServe and MLServer have it.

    inputs    `text` BYTES, and `target` BYTES where the task has one, both of the same shape
    outputs   `label` BYTES [B], `probs` FP32 [B, C] in label order, `abstain` BOOL [B], `logits` FP32 [B, C]; by default all.
              Of a bundle that can tell, `unfamiliar` BOOL [B] and `unfamiliarity` FP32 [B], too.
              Of a bundle with several questions, for each `probs.QUESTION` FP32 [B, C of the question], with `holds.QUESTION` BOOL
              of the same shape for tags, or `label.QUESTION` BYTES [B] and `abstain.QUESTION` BOOL [B] for other kinds, and
              `value.QUESTION` FP32 [B] for a degree; `logits` are those of all questions side by side

The parameter `timeout` is in microseconds, as in Triton. Errors are {"error"}, with status 400 for an invalid request.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from potstill.contract.questions.question import Kind
from potstill.serve.http.asgi import Message, Refused, Reply, decode_json, header, json_reply
from potstill.serve.http.config import Limits
from potstill.serve.http.hosting.job import Job
from potstill.serve.http.hosting.open_bundle import HostedBundle
from potstill.serve.http.protocols.open_inference_tensors import Tensor, binary_size, flat_numbers, read_texts, to_bytes
from potstill.serve.http.protocols.request import ParsedRequest, WireProtocol, WriteReply
from potstill.serve.runtime.heads import QuestionAnswer

HEADER_LENGTH = b"inference-header-content-length"
DATATYPES = {
    "label": "BYTES", "probs": "FP32", "abstain": "BOOL", "logits": "FP32", "unfamiliar": "BOOL", "unfamiliarity": "FP32",
    "holds": "BOOL", "value": "FP32",
}  # fmt: skip
BY_LABEL = frozenset({"probs", "logits", "holds"})  # outputs with a column for each label
ALONE = ("label", "probs", "abstain", "logits", "unfamiliar", "unfamiliarity")  # of a bundle without heads
OF_QUESTIONS: dict[Kind, tuple[str, ...]] = {
    "choice": ("label", "probs", "abstain"),
    "yesno": ("label", "probs", "abstain"),
    "degree": ("label", "probs", "abstain", "value"),
    "tags": ("holds", "probs"),
}


class OutputParameters(msgspec.Struct, frozen=True):
    """Parameters of a requested output. Unknown ones are ignored."""

    binary_data: bool | None = None  # None: as `InferParameters.binary_data_output` says
    classification: msgspec.Raw | UnsetType = UNSET  # an extension that is not supported


class RequestedOutput(msgspec.Struct, frozen=True):
    """An output that the client requests."""

    name: str
    parameters: OutputParameters | None = None


class InferParameters(msgspec.Struct, frozen=True):
    """Parameters of a whole request. Unknown ones are ignored."""

    timeout: float | None = None  # in microseconds
    binary_data_output: bool | None = None  # default of `OutputParameters.binary_data`


class InferRequest(msgspec.Struct, frozen=True):
    """The JSON part of a request."""

    inputs: list[Tensor]
    id: str | None = None
    parameters: InferParameters | None = None
    outputs: list[RequestedOutput] | None = None


_DECODER = msgspec.json.Decoder(InferRequest)


def read(scope: Message, body: bytes, hosted: HostedBundle, limits: Limits) -> tuple[ParsedRequest, WriteReply]:
    """Read a request; raises Refused: 400 or 422."""
    n_json = _json_size(body, header(scope, HEADER_LENGTH))
    request: InferRequest = decode_json(_DECODER, body[:n_json])
    tensors: dict[str, list[str]] = {}
    at = n_json
    for tensor in request.inputs:
        if tensor.name not in ("text", "target") or tensor.name in tensors:
            raise Refused(400, f"unknown or repeated input {tensor.name!r}; the inputs are 'text' and, with a target, 'target'")
        size = binary_size(tensor)
        if size is not None and at + size > len(body):
            raise Refused(400, f"the binary_data_size of input {tensor.name!r} exceeds the {len(body) - at} bytes that are left")
        tensors[tensor.name] = read_texts(tensor, None if size is None else body[at : at + size])
        at += size or 0
    if at != len(body):
        raise Refused(400, f"the last {len(body) - at} bytes of the body belong to no input")
    if "text" not in tensors:
        raise Refused(400, "the input 'text' is missing")
    _check_outputs(request.outputs or [], outputs_of(hosted))
    return ParsedRequest(tensors["text"], tensors.get("target"), timeout_ms=_timeout_ms(request)), partial(_write, request)


def _write(request: InferRequest, job: Job) -> Reply:
    """Write the outputs that were requested, or all."""
    requested = request.outputs or [RequestedOutput(name) for name in outputs_of(job.hosted)]
    binary_default = request.parameters is not None and bool(request.parameters.binary_data_output)
    outputs, tail = [], []
    for one in requested:
        values, datatype = _values(job, one.name), _datatype(one.name)
        shape = [len(job.texts), *_columns(job.hosted, one.name)]
        output: dict[str, Any] = {"name": one.name, "datatype": datatype, "shape": shape}
        own_choice = None if one.parameters is None else one.parameters.binary_data
        binary = binary_default if own_choice is None else own_choice
        if binary:
            data = to_bytes(datatype, values)
            output["parameters"] = {"binary_data_size": len(data)}
            tail.append(data)
        else:
            output["data"] = flat_numbers(values)
        outputs.append(output)
    reply = {"model_name": job.hosted.name, "model_version": job.hosted.version, "outputs": outputs}
    if request.id is not None:
        reply["id"] = request.id
    head = msgspec.json.encode(reply)
    if not tail:
        return Reply(200, head)
    return Reply(200, b"".join([head, *tail]), b"application/octet-stream", [(HEADER_LENGTH, b"%d" % len(head))])


def write_error(refused: Refused) -> Reply:
    """Write an error in this protocol's form: {"error"}, 400 in place of 422."""
    return json_reply({"error": refused.message}, 400 if refused.status == 422 else refused.status, refused.headers)


PROTOCOL = WireProtocol(read, write_error)


def server_metadata(version: str) -> Reply:
    """The reply to `GET /v2`."""
    return json_reply({"name": "potstill", "version": version, "extensions": ["binary_tensor_data"]})


def model_metadata(hosted: HostedBundle) -> Reply:
    """The reply to `GET /v2/models/NAME`."""
    names = ["text", "target"] if hosted.manifest.target else ["text"]
    inputs = [{"name": name, "datatype": "BYTES", "shape": [-1]} for name in names]
    outputs = [{"name": name, "datatype": _datatype(name), "shape": [-1, *_columns(hosted, name)]} for name in outputs_of(hosted)]
    parameters: dict[str, Any] = {"labels": hosted.manifest.labels, "digest": hosted.digest}
    if hosted.manifest.heads is not None:
        parameters["questions"] = [{"name": one.name, "kind": one.kind, "labels": one.labels} for one in hosted.manifest.heads]
    return json_reply(
        {
            "name": hosted.name, "versions": [hosted.version], "platform": "potstill", "inputs": inputs, "outputs": outputs,
            "parameters": parameters,
        }
    )  # fmt: skip


def _json_size(body: bytes, header_length: bytes | None) -> int:
    """Length of the JSON part in bytes; raises Refused: 400."""
    if header_length is None:
        return len(body)
    if not header_length.isdigit() or len(header_length) > 12 or int(header_length) > len(body):
        raise Refused(400, f"{HEADER_LENGTH.decode()} must be from 0 to the {len(body)} bytes of the body")
    return int(header_length)


def outputs_of(hosted: HostedBundle) -> list[str]:
    """The outputs that a bundle has; the last two only if it can tell unfamiliar texts."""
    known = hosted.classifier.familiarity is not None
    own = [name for name in ALONE if known or not name.startswith("unfamiliar")]
    if hosted.manifest.heads is None:
        return own
    by_question = [f"{name}.{head.name}" for head in hosted.manifest.heads for name in OF_QUESTIONS[head.kind]]
    return by_question + own[own.index("logits") :]


def _check_outputs(requested: list[RequestedOutput], outputs: list[str]) -> None:
    """Check the requested outputs; raises Refused: 400. Args: outputs, of the bundle."""
    if len(requested) > len(outputs):
        raise Refused(400, f"{len(requested)} outputs are requested; there are {len(outputs)}")
    names = [one.name for one in requested]
    for one in requested:
        if one.name not in outputs or names.count(one.name) > 1:
            raise Refused(400, f"unknown or repeated output {one.name!r}; the outputs are {', '.join(outputs)}, each at most once")
        if one.parameters is not None and one.parameters.classification not in (UNSET, None):
            raise Refused(400, "the classification extension is not supported; request the outputs label and probs")


def _timeout_ms(request: InferRequest) -> float | None:
    """The parameter `timeout` in milliseconds; None without one."""
    timeout_us = None if request.parameters is None else request.parameters.timeout
    return None if timeout_us is None else timeout_us / 1000


def _datatype(name: str) -> str:
    """The datatype of an output."""
    return DATATYPES[name.partition(".")[0]]


def _columns(hosted: HostedBundle, name: str) -> list[int]:
    """The sizes of an output's shape after the first: the number of labels, or none."""
    what, _, question = name.partition(".")
    if what not in BY_LABEL:
        return []
    labels = next((head.labels for head in hosted.manifest.heads or [] if head.name == question), hosted.manifest.labels)
    return [len(labels)]


def _values(job: Job, name: str) -> list[Any]:
    """The values of an output, one for each text."""
    what, _, question = name.partition(".")
    if not question:
        return _VALUES[what](job)
    answers = [one.answer.questions[question] for one in job.results() if one.answer.questions is not None]
    return [_OF_ANSWERS[what](one) for one in answers]


_OF_ANSWERS: dict[str, Callable[[QuestionAnswer], Any]] = {
    "label": lambda one: one.label,
    "probs": lambda one: list(one.probs.values()),
    "abstain": lambda one: one.abstain,
    "holds": lambda one: [name in (one.tags or []) for name in one.probs],
    "value": lambda one: one.value,
}
_VALUES: dict[str, Callable[[Job], list[Any]]] = {
    "label": lambda job: [one.answer.label for one in job.results()],
    "probs": lambda job: [list(one.answer.probs.values()) for one in job.results()],
    "abstain": lambda job: [one.answer.abstain for one in job.results()],
    "logits": lambda job: [one.logits for one in job.results()],
    "unfamiliar": lambda job: [bool(one.answer.unfamiliar) for one in job.results()],
    "unfamiliarity": lambda job: [one.answer.unfamiliarity for one in job.results()],
}
