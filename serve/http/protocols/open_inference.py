"""The Open Inference Protocol, version 2, over HTTP: what Triton, KServe and MLServer speak.

    inputs    `text` BYTES, and `target` BYTES where the task asks about one, both of the same shape
    outputs   `label` BYTES [B], `probs` FP32 [B, C] in label order, `abstain` BOOL [B]; where it is asked for, `logits` FP32 [B, C]

The parameter `timeout` is in microseconds, as Triton has it. Errors are {"error"}, with status 400 where the request is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from potstill.serve.http.asgi import Message, Refused, Reply, decode_json, header, json_reply
from potstill.serve.http.config import Limits
from potstill.serve.http.hosting.hosted_bundle import HostedBundle
from potstill.serve.http.hosting.job import Job
from potstill.serve.http.protocols.open_inference_tensors import Tensor, binary_size, flat_numbers, read_texts, to_bytes
from potstill.serve.http.protocols.request import ParsedRequest, WireProtocol, WriteReply

HEADER_LENGTH = b"inference-header-content-length"
DEFAULT_OUTPUTS = ("label", "probs", "abstain")
DATATYPES = {"label": "BYTES", "probs": "FP32", "abstain": "BOOL", "logits": "FP32"}


class OutputParameters(msgspec.Struct, frozen=True):
    """How an output is asked for. Parameters that are not known are passed over."""

    binary_data: bool | UnsetType = UNSET  # UNSET: as the request has it
    classification: msgspec.Raw | UnsetType = UNSET  # an extension that is not spoken here


class RequestedOutput(msgspec.Struct, frozen=True):
    """An output that is asked for."""

    name: str
    parameters: OutputParameters = OutputParameters()


class InferParameters(msgspec.Struct, frozen=True):
    """What holds for a whole request. Parameters that are not known are passed over."""

    timeout: float | UnsetType = UNSET  # in microseconds
    binary_data_output: bool = False  # whether outputs are binary that say nothing of their own


class InferRequest(msgspec.Struct, frozen=True):
    """The JSON of a request."""

    inputs: list[Tensor]
    id: str | None = None
    parameters: InferParameters = InferParameters()
    outputs: list[RequestedOutput] = []


_DECODER = msgspec.json.Decoder(InferRequest)


def read(scope: Message, body: bytes, hosted: HostedBundle, limits: Limits) -> tuple[ParsedRequest, WriteReply]:
    """What is asked; raises Refused."""
    n_json = _json_size(body, header(scope, HEADER_LENGTH))
    request: InferRequest = decode_json(_DECODER, body[:n_json])
    tensors: dict[str, list[str]] = {}
    at = n_json
    for tensor in request.inputs:
        if tensor.name not in ("text", "target") or tensor.name in tensors:
            raise Refused(400, f"the input {tensor.name!r} is one too many; there are 'text' and, where a bundle has one, 'target'")
        size = binary_size(tensor)
        if size is not None and at + size > len(body):
            raise Refused(400, f"input {tensor.name!r} should have {size} bytes, and {len(body) - at} follow the JSON")
        tensors[tensor.name] = read_texts(tensor, None if size is None else body[at : at + size])
        at += size or 0
    if at != len(body):
        raise Refused(400, f"{len(body) - at} bytes follow that no input describes")
    if "text" not in tensors:
        raise Refused(400, "the input 'text' is missing")
    _check_wishes(request.outputs)
    return ParsedRequest(tensors["text"], tensors.get("target"), timeout_ms=_timeout_ms(request)), partial(_write, request)


def _write(request: InferRequest, job: Job) -> Reply:
    """The reply."""
    wishes = request.outputs or [RequestedOutput(name) for name in DEFAULT_OUTPUTS]
    outputs, tail = [], []
    for wish in wishes:
        values = _VALUES[wish.name](job)
        output: dict[str, Any] = {"name": wish.name, "datatype": DATATYPES[wish.name], "shape": _shape(job, wish.name)}
        of_its_own = wish.parameters.binary_data
        binary = request.parameters.binary_data_output if isinstance(of_its_own, UnsetType) else of_its_own
        if binary:
            data = to_bytes(DATATYPES[wish.name], values)
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
    """A refusal in this protocol's form."""
    return json_reply({"error": refused.message}, 400 if refused.status == 422 else refused.status, refused.headers)


PROTOCOL = WireProtocol(read, write_error)


def server_metadata(version: str) -> Reply:
    """What `GET /v2` says."""
    return json_reply({"name": "potstill", "version": version, "extensions": ["binary_tensor_data"]})


def model_metadata(hosted: HostedBundle) -> Reply:
    """What `GET /v2/models/NAME` says."""
    names = ["text", "target"] if hosted.manifest.target else ["text"]
    inputs = [{"name": name, "datatype": "BYTES", "shape": [-1]} for name in names]
    wide = [-1, len(hosted.manifest.labels)]
    outputs = [{"name": name, "datatype": kind, "shape": wide if kind == "FP32" else [-1]} for name, kind in DATATYPES.items()]
    parameters = {"labels": hosted.manifest.labels, "digest": hosted.digest}
    return json_reply(
        {
            "name": hosted.name, "versions": [hosted.version], "platform": "potstill", "inputs": inputs, "outputs": outputs,
            "parameters": parameters,
        }
    )  # fmt: skip


def _json_size(body: bytes, header_length: bytes | None) -> int:
    """Bytes of the JSON; raises Refused."""
    if header_length is None:
        return len(body)
    if not header_length.isdigit() or len(header_length) > 12 or int(header_length) > len(body):
        raise Refused(400, f"{HEADER_LENGTH.decode()} must be a number of bytes within the body, which has {len(body)}")
    return int(header_length)


def _check_wishes(wishes: list[RequestedOutput]) -> None:
    """Refuse outputs that there are not; raises Refused."""
    names = [wish.name for wish in wishes]
    for wish in wishes:
        if wish.name not in DATATYPES or names.count(wish.name) > 1:
            raise Refused(400, f"the output {wish.name!r} cannot be given; there are {', '.join(DATATYPES)}, each once")
        if wish.parameters.classification is not UNSET:
            raise Refused(400, "the classification extension is not spoken here; ask for the outputs label and probs")


def _timeout_ms(request: InferRequest) -> float | None:
    """The parameter `timeout` in milliseconds; None without one."""
    timeout_us = request.parameters.timeout
    return None if isinstance(timeout_us, UnsetType) else timeout_us / 1000


def _shape(job: Job, name: str) -> list[int]:
    """The shape of an output."""
    n_texts = len(job.texts)
    return [n_texts, len(job.hosted.manifest.labels)] if DATATYPES[name] == "FP32" else [n_texts]


_VALUES: dict[str, Callable[[Job], list[Any]]] = {
    "label": lambda job: [one.answer.label for one in job.results()],
    "probs": lambda job: [list(one.answer.probs.values()) for one in job.results()],
    "abstain": lambda job: [one.answer.abstain for one in job.results()],
    "logits": lambda job: [one.logits for one in job.results()],
}
