"""What all protocols have in common: a request is read into texts, and an answered job or an error is written as a reply."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from potstill.contract.errors import UserError
from potstill.serve.http.asgi import Message, Refused, Reply
from potstill.serve.http.config import Limits
from potstill.serve.http.hosting.job import Job
from potstill.serve.http.hosting.open_bundle import AS_USUAL, HostedBundle, Reading


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """The texts of a request, whatever its protocol."""

    texts: Sequence[str]
    targets: Sequence[str] | None = None
    timeout_ms: float | None = None  # None: `Limits.timeout_ms`
    reading: Reading = AS_USUAL


WriteReply = Callable[[Job], Reply]


@dataclass(frozen=True, slots=True)
class WireProtocol:
    """A protocol, as the application uses it: read a request, write an answer or an error."""

    read: Callable[
        [Message, bytes, HostedBundle, Limits], tuple[ParsedRequest, WriteReply]
    ]  # args: scope, body, bundle, limits; raises Refused
    write_error: Callable[[Refused], Reply]


def make_job(request: ParsedRequest, hosted: HostedBundle, limits: Limits, start_s: float) -> Job:
    """Check a request against the limits and the bundle, and make it a job for the workers.

    Args:
        request: as its protocol has read it.
        hosted: the bundle that answers.
        limits: of the number and length of texts, and of the deadline.
        start_s: when the request was received, by `time.monotonic`.
    Raises:
        Refused: 422 if it exceeds a limit, or does not fit the bundle.
    """
    texts, targets = request.texts, request.targets
    if not 1 <= len(texts) <= limits.max_texts:
        raise Refused(422, f"texts has {len(texts)} entries; 1 to {limits.max_texts} are allowed per request")
    for index, text in enumerate(texts):
        if len(text) > limits.max_chars:
            raise Refused(422, f"texts[{index}] has {len(text)} characters; at most {limits.max_chars} are allowed")
    timeout_ms = limits.timeout_ms if request.timeout_ms is None else request.timeout_ms
    if not limits.min_timeout_ms <= timeout_ms <= limits.max_timeout_ms:
        allowed = f"from {limits.min_timeout_ms:g} to {limits.max_timeout_ms:g}"
        raise Refused(422, f"timeout_ms is {timeout_ms:g}; it must be {allowed}")
    try:
        hosted.classifier.check_targets(texts, targets)
        if request.reading.sets:
            hosted.classifier.check_sets()
    except UserError as error:
        raise Refused(422, str(error)) from error
    return Job(hosted, texts, targets, start_s=start_s, deadline_s=start_s + timeout_ms / 1e3, reading=request.reading)
