"""`POST /classify`: potstill's own protocol, the only one that carries everything a bundle can say.

{"text": "..."}                 -> {"answer": {"label", "probs", "threshold", "abstain", "unfamiliar", "unfamiliarity",
                                    "answered_by"}, "bundle", "version"}
{"texts": ["...", ...]}         -> {"answers": [...], ...}, in order
"target" or "targets"           where the task has a target
"sets": true                    each answer has "label_set" too
"timing": true                  the reply has "timing" too
"timeout_ms": 200               the deadline

Of a bundle with several questions an answer is {"questions": {QUESTION: {...}}, "abstain", "unfamiliar", "unfamiliarity", ...}.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from potstill.contract.bundle import Manifest
from potstill.contract.questions.head import HOLDS, Head
from potstill.contract.questions.question import Kind
from potstill.serve.http.asgi import Message, Refused, Reply, decode_json, json_reply
from potstill.serve.http.config import Limits
from potstill.serve.http.hosting.job import Job
from potstill.serve.http.hosting.open_bundle import AS_USUAL, HostedBundle, Reading, TimedAnswer
from potstill.serve.http.protocols.request import ParsedRequest, WireProtocol, WriteReply
from potstill.serve.runtime.heads import QuestionAnswer


class ClassifyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request: `text` with `target`, or `texts` with `targets`."""

    text: str | UnsetType = UNSET
    texts: list[str] | UnsetType = UNSET
    target: str | UnsetType = UNSET
    targets: list[str] | UnsetType = UNSET
    sets: bool = False  # add a label set to every answer
    timing: bool = False  # add the times to the reply
    timeout_ms: float | UnsetType = UNSET


class Verdict(msgspec.Struct, frozen=True):
    """The answer for one text."""

    label: str  # the most probable label
    probs: dict[str, float]  # by label, in output order; sums to 1
    threshold: float | None  # of this label's probability, from 0 to 1; null: always abstain
    abstain: bool  # the probability is below the threshold
    unfamiliar: bool | None  # the text is unlike those the bundle was made from; null: this bundle cannot tell
    unfamiliarity: float | None  # the score behind it
    answered_by: Literal["bundle", "teacher"] = "bundle"  # whose label and probabilities these are
    teacher: str | UnsetType = UNSET  # why the teacher's are not given, where they were wanted
    label_set: list[str] | UnsetType = UNSET  # in output order, if requested


class QuestionVerdict(msgspec.Struct, frozen=True):
    """The answer to one of several questions about a text; what a kind does not have is left out."""

    kind: Kind
    probs: dict[str, float]  # by label, in output order; sums to 1, but for tags
    abstain: bool  # the probability is below the threshold; never for tags
    label: str | UnsetType = UNSET  # the most probable label; not for tags
    threshold: float | UnsetType | None = UNSET  # of this label's probability, from 0 to 1; null: always abstain; not for tags
    tags: list[str] | UnsetType = UNSET  # those that hold, in output order
    value: float | UnsetType = UNSET  # of a degree: the expected value of its levels
    label_set: list[str] | UnsetType = UNSET  # in output order, if requested


class SeveralVerdicts(msgspec.Struct, frozen=True):
    """The answers about one text of a bundle with several questions."""

    questions: dict[str, QuestionVerdict]  # in the order of the task
    abstain: bool  # all questions abstain
    unfamiliar: bool | None  # as `Verdict` has it
    unfamiliarity: float | None
    answered_by: Literal["bundle"] = "bundle"


class Timing(msgspec.Struct, frozen=True):
    """Times in milliseconds; tokenize and infer are sums over the texts."""

    queue_ms: float
    tokenize_ms: float
    infer_ms: float
    n_tokens: int


class ClassifyReply(msgspec.Struct, frozen=True):
    """The body of a reply."""

    bundle: str
    version: str
    answer: Verdict | SeveralVerdicts | UnsetType = UNSET
    answers: list[Verdict | SeveralVerdicts] | UnsetType = UNSET
    timing: Timing | UnsetType = UNSET


N_EXAMPLES = 6  # golden texts shown in /bundles, and on the page
_DECODER = msgspec.json.Decoder(ClassifyRequest)


def read(scope: Message, body: bytes, hosted: HostedBundle, limits: Limits) -> tuple[ParsedRequest, WriteReply]:
    """Read a request; raises Refused: 400 or 422."""
    request: ClassifyRequest = decode_json(_DECODER, body)
    one, many = request.text is not UNSET, request.texts is not UNSET
    if one == many:
        raise Refused(422, f"{'both text and texts are' if one else 'neither text nor texts is'} given; give one of them")
    if request.target is not UNSET and many:
        raise Refused(422, "target is given with texts; give targets, one for each text")
    if request.targets is not UNSET and one:
        raise Refused(422, "targets is given with text; give target")
    texts = [request.text] if isinstance(request.text, str) else request.texts or []
    targets = [request.target] if isinstance(request.target, str) else request.targets or None
    timeout_ms = None if request.timeout_ms is UNSET else request.timeout_ms
    reading = Reading(sets=True) if request.sets else AS_USUAL
    return ParsedRequest(texts, targets, timeout_ms=timeout_ms, reading=reading), partial(_write, request)


def _write(request: ClassifyRequest, job: Job) -> Reply:
    """Write the answers of a job."""
    timed = job.results()
    verdicts = [_verdict(one) for one in timed]
    single = request.text is not UNSET
    reply = ClassifyReply(
        bundle=job.hosted.name,
        version=job.hosted.version,
        answer=verdicts[0] if single else UNSET,
        answers=UNSET if single else verdicts,
        timing=_timing(job, timed) if request.timing else UNSET,
    )
    return json_reply(reply)


def write_error(refused: Refused) -> Reply:
    """Write an error in this protocol's form."""
    return json_reply({"error": refused.message}, refused.status, refused.headers)


PROTOCOL = WireProtocol(read, write_error)


def _verdict(timed: TimedAnswer) -> Verdict | SeveralVerdicts:
    """The reply's form of one answer."""
    answer = timed.answer
    if answer.questions is not None:
        verdicts = {name: _of_question(one) for name, one in answer.questions.items()}
        return SeveralVerdicts(verdicts, answer.abstain, answer.unfamiliar, answer.unfamiliarity)
    label_set = UNSET if answer.label_set is None else answer.label_set
    known = answer.unfamiliar, answer.unfamiliarity
    by: Literal["bundle", "teacher"] = "bundle" if timed.own is None else "teacher"
    teacher = timed.teacher or UNSET
    return Verdict(answer.label, answer.probs, answer.threshold, answer.abstain, *known, by, teacher, label_set)


def _of_question(answer: QuestionAnswer) -> QuestionVerdict:
    """The reply's form of the answer to one question."""
    if answer.tags is not None:
        return QuestionVerdict(answer.kind, answer.probs, answer.abstain, tags=answer.tags)
    value = UNSET if answer.value is None else answer.value
    label_set = UNSET if answer.label_set is None else answer.label_set
    said = answer.label, answer.threshold
    return QuestionVerdict(answer.kind, answer.probs, answer.abstain, *said, value=value, label_set=label_set)


def _timing(job: Job, timed: list[TimedAnswer]) -> Timing:
    """The times of a job, summed over its texts."""
    return Timing(
        queue_ms=job.queue_s * 1e3,
        tokenize_ms=sum(one.tokenize_s for one in timed) * 1e3,
        infer_ms=sum(one.infer_s for one in timed) * 1e3,
        n_tokens=sum(one.n_tokens for one in timed),
    )


def describe(hosted: HostedBundle) -> dict[str, object]:
    """A bundle as `GET /bundles` shows it: what is needed to send requests and to read the answers."""
    manifest, known = hosted.manifest, hosted.classifier.familiarity
    heads = manifest.heads
    questions = {} if heads is None else {"questions": [_question(head) for head in heads]}
    return {
        "bundle": hosted.name,
        "version": hosted.version,
        "digest": hosted.digest,
        "labels": manifest.labels,
        "target": manifest.target,
        **questions,
        "thresholds": _thresholds(manifest) if heads is None else {},
        "sets": hosted.classifier.has_sets,
        "unfamiliar": None if known is None else {"rate": known.rate, "threshold": known.threshold, "n": known.n},
        "max_tokens": manifest.max_tokens,
        "variant": manifest.variant,
        "examples": [{"text": row.text, "target": row.target} for row in hosted.golden[:N_EXAMPLES]],
    }


def _question(head: Head) -> dict[str, object]:
    """One of several questions, as `describe` shows it."""
    return {
        "name": head.name,
        "kind": head.kind,
        "labels": head.labels,
        "thresholds": _thresholds(head, 0.0 if head.is_softmax else HOLDS),
        "values": head.values,
        "sets": head.conformal is not None,
    }


def _thresholds(decision: Manifest | Head, default: float = 0.0) -> dict[str, float | None]:
    """Each label's threshold: from it on the label is answered, or the tag holds; null: never."""
    return {name: (decision.thresholds or {}).get(name, default) for name in decision.labels}
