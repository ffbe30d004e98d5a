"""What every protocol has in common: a request is read into texts to classify, and a job or an error is written as a reply."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from potstill.contract.errors import UserError
from potstill.serve.http.asgi import Message, Refused, Reply
from potstill.serve.http.config import Limits
from potstill.serve.http.hosting.hosted_bundle import HostedBundle
from potstill.serve.http.hosting.job import Job


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """Texts to classify."""

    texts: Sequence[str]
    targets: Sequence[str] | None = None
    timeout_ms: float | None = None  # None: the server's own
    sets: bool = False


WriteReply = Callable[[Job], Reply]


@dataclass(frozen=True, slots=True)
class WireProtocol:
    """One protocol: the two functions that the application needs of it."""

    read: Callable[[Message, bytes, HostedBundle, Limits], tuple[ParsedRequest, WriteReply]]  # scope, body, ...; raises Refused
    write_error: Callable[[Refused], Reply]


def make_job(question: ParsedRequest, hosted: HostedBundle, limits: Limits, start_s: float) -> Job:
    """A job for the workers.

    Args:
        question: what is asked.
        hosted: who answers.
        limits: what is accepted.
        start_s: when the request came in, by `time.monotonic`.
    Raises:
        Refused: 422 if it asks too much, or does not fit the bundle.
    """
    texts, targets = question.texts, question.targets
    if not 1 <= len(texts) <= limits.max_texts:
        raise Refused(422, f"texts holds {len(texts)}; from 1 to {limits.max_texts} are allowed in one request")
    for index, text in enumerate(texts):
        if len(text) > limits.max_chars:
            raise Refused(422, f"texts[{index}] has {len(text)} characters; at most {limits.max_chars} are allowed")
    timeout_ms = limits.timeout_ms if question.timeout_ms is None else question.timeout_ms
    if not limits.min_timeout_ms <= timeout_ms <= limits.max_timeout_ms:
        allowed = f"from {limits.min_timeout_ms:g} to {limits.max_timeout_ms:g}"
        raise Refused(422, f"timeout_ms is {timeout_ms:g}; {allowed} is allowed")
    try:
        hosted.classifier.check_targets(texts, targets)
        if question.sets:
            hosted.classifier.check_sets()
    except UserError as error:
        raise Refused(422, str(error)) from error
    return Job(hosted, texts, targets, start_s=start_s, deadline_s=start_s + timeout_ms / 1e3, sets=question.sets)
