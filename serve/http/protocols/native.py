"""`POST /classify`: the protocol of our own, the only one that can say everything a bundle knows.

{"text": "..."}                 -> {"answer": {"label", "probs", "threshold", "abstain"}, "bundle", "version"}
{"texts": ["...", ...]}         -> {"answers": [...], ...}, in order
"target" or "targets"           where the task asks about a target
"sets": true                    each answer has "label_set" too
"timing": true                  the reply has "timing" too
"timeout_ms": 200               after which the answer is worth nothing to the client
"""

from __future__ import annotations

from functools import partial

import msgspec
from msgspec import UNSET, UnsetType

from potstill.serve.http.asgi import Message, Refused, Reply, decode_json, json_reply
from potstill.serve.http.config import Limits
from potstill.serve.http.hosting.hosted_bundle import HostedBundle, TimedAnswer
from potstill.serve.http.hosting.job import Job
from potstill.serve.http.protocols.request import ParsedRequest, WireProtocol, WriteReply


class ClassifyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request: `text` with `target`, or `texts` with `targets`."""

    text: str | UnsetType = UNSET
    texts: list[str] | UnsetType = UNSET
    target: str | UnsetType = UNSET
    targets: list[str] | UnsetType = UNSET
    sets: bool = False  # whether every answer lists its label set
    timing: bool = False  # whether the reply says where the time went
    timeout_ms: float | UnsetType = UNSET


class Verdict(msgspec.Struct, frozen=True):
    """What is said about one text."""

    label: str  # the most probable one
    probs: dict[str, float]  # by label, in output order; sums to 1
    threshold: float | None  # the least probability at which this label counts; null: it never does
    abstain: bool  # True: the probability is below the threshold, so better ask a person
    label_set: list[str] | UnsetType = UNSET  # in output order, where it was asked for


class Timing(msgspec.Struct, frozen=True):
    """Where the time went, in milliseconds; tokenize and infer are sums over the texts."""

    queue_ms: float
    tokenize_ms: float
    infer_ms: float
    n_tokens: int


class ClassifyReply(msgspec.Struct, frozen=True):
    """The body of a reply."""

    bundle: str
    version: str
    answer: Verdict | UnsetType = UNSET
    answers: list[Verdict] | UnsetType = UNSET
    timing: Timing | UnsetType = UNSET


N_EXAMPLES = 6  # texts of the bundle, for whoever wants to try it
_DECODER = msgspec.json.Decoder(ClassifyRequest)


def read(scope: Message, body: bytes, hosted: HostedBundle, limits: Limits) -> tuple[ParsedRequest, WriteReply]:
    """What is asked; raises Refused."""
    request: ClassifyRequest = decode_json(_DECODER, body)
    one, many = request.text is not UNSET, request.texts is not UNSET
    if one == many:
        raise Refused(422, f"{'both text and texts are' if one else 'neither text nor texts is'} given; give one of them")
    if request.target is not UNSET and many:
        raise Refused(422, "target is given beside texts; give targets, one for each text")
    if request.targets is not UNSET and one:
        raise Refused(422, "targets are given beside text; give target")
    texts = [request.text] if isinstance(request.text, str) else request.texts or []
    targets = [request.target] if isinstance(request.target, str) else request.targets or None
    timeout_ms = None if request.timeout_ms is UNSET else request.timeout_ms
    return ParsedRequest(texts, targets, timeout_ms=timeout_ms, sets=request.sets), partial(_write, request)


def _write(request: ClassifyRequest, job: Job) -> Reply:
    """The reply."""
    worked = job.results()
    verdicts = [_verdict(one) for one in worked]
    single = request.text is not UNSET
    reply = ClassifyReply(
        bundle=job.hosted.name,
        version=job.hosted.version,
        answer=verdicts[0] if single else UNSET,
        answers=UNSET if single else verdicts,
        timing=_timing(job, worked) if request.timing else UNSET,
    )
    return json_reply(reply)


def write_error(refused: Refused) -> Reply:
    """A refusal in this protocol's form."""
    return json_reply({"error": refused.message}, refused.status, refused.headers)


PROTOCOL = WireProtocol(read, write_error)


def _verdict(worked: TimedAnswer) -> Verdict:
    """One answer, with the threshold it was held against."""
    answer = worked.answer
    label_set = UNSET if answer.label_set is None else answer.label_set
    return Verdict(answer.label, answer.probs, answer.threshold, answer.abstain, label_set)


def _timing(job: Job, worked: list[TimedAnswer]) -> Timing:
    """Sums over the texts."""
    return Timing(
        queue_ms=job.queue_s * 1e3,
        tokenize_ms=sum(one.tokenize_s for one in worked) * 1e3,
        infer_ms=sum(one.infer_s for one in worked) * 1e3,
        n_tokens=sum(one.n_tokens for one in worked),
    )


def describe(hosted: HostedBundle) -> dict[str, object]:
    """What `GET /bundles` says of a bundle: enough to ask it something sensible and to read its answers."""
    manifest = hosted.manifest
    return {
        "bundle": hosted.name,
        "version": hosted.version,
        "digest": hosted.digest,
        "labels": manifest.labels,
        "target": manifest.target,
        "thresholds": {name: (manifest.thresholds or {}).get(name, 0.0) for name in manifest.labels},
        "sets": manifest.conformal is not None,
        "max_tokens": manifest.max_tokens,
        "variant": manifest.variant,
        "examples": [{"text": row.text, "target": row.target} for row in hosted.golden[:N_EXAMPLES]],
    }
