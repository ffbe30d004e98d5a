"""`POST /v1/decisions` as OpenAI's decision models answer it, so that their clients only change the base address.

    {"input": "...", "questions": [{"type": "choice", "instructions": "...", "choices": [{"value": "up"}, {"value": "down"}]}]}
        -> {"answers": [{"type": "choice", "choice", "confidence", "probabilities"}], "model", "usage"}

The questions of a request are matched to what the bundle decides (`decision_questions.py`). Every other question, and one on which
the bundle abstains, gets `{"type": "refusal"}`: never a guess. Instructions and descriptions are not read, the bundle has learned
its own. `model` is not read either: `/v1/decisions` asks the first bundle, `/bundles/NAME/v1/decisions` another.

The text is what the user's messages say. A student answers without writing, so usage counts no output tokens.
Source: the Python package `openai` 3.54, `openai/types/decision_create_params.py` and `openai/types/decision.py`.
"""

from __future__ import annotations

from functools import partial

import msgspec

from potstill.serve.http.asgi import Message, Refused, Reply, decode_json, json_reply
from potstill.serve.http.config import Limits
from potstill.serve.http.hosting.job import Job
from potstill.serve.http.hosting.open_bundle import HostedBundle
from potstill.serve.http.protocols.decision_questions import Decided, QuestionAsked, answer_to, check_question
from potstill.serve.http.protocols.request import ParsedRequest, WireProtocol, WriteReply

MAX_QUESTIONS = 400
_ERROR_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


class Part(msgspec.Struct, frozen=True):
    """A part of a message: text, or JSON that is read as text."""

    type: str
    text: str | None = None
    data: msgspec.Raw = msgspec.Raw()  # empty: there is none


class InputItem(msgspec.Struct, frozen=True):
    """A message, or a call of a tool or its output, which are not read."""

    role: str | None = None
    content: str | list[Part] | None = None


class DecisionRequest(msgspec.Struct, frozen=True):
    """The body of a request. Unknown fields are ignored, as in that API's clients new ones appear."""

    input: str | list[InputItem]
    model: str
    questions: list[QuestionAsked]


class InputDetails(msgspec.Struct, frozen=True):
    """Nothing is cached."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputDetails(msgspec.Struct, frozen=True):
    """Nothing is thought."""

    reasoning_tokens: int = 0


class Usage(msgspec.Struct, frozen=True):
    """Tokens of the text that the student read."""

    input_tokens: int
    total_tokens: int
    output_tokens: int = 0
    input_tokens_details: InputDetails = InputDetails()
    output_tokens_details: OutputDetails = OutputDetails()


class DecisionReply(msgspec.Struct, frozen=True):
    """The body of a reply."""

    answers: list[Decided]  # in the order of the questions
    model: str  # name and version of the bundle
    usage: Usage


_DECODER = msgspec.json.Decoder(DecisionRequest)


def read(scope: Message, body: bytes, hosted: HostedBundle, limits: Limits) -> tuple[ParsedRequest, WriteReply]:
    """Read a request; raises Refused: 400, or 422 where the JSON has another form."""
    request: DecisionRequest = decode_json(_DECODER, body)
    if hosted.manifest.target:
        raise Refused(400, "this bundle decides about a target within the text, for which this API has no field; use /classify")
    if not 1 <= len(request.questions) <= MAX_QUESTIONS:
        raise Refused(400, f"questions has {len(request.questions)} entries; 1 to {MAX_QUESTIONS} are allowed")
    for index, question in enumerate(request.questions):
        check_question(question, f"questions[{index}]")
    return ParsedRequest([_text(request.input)]), partial(_write, request)


def _text(asked: str | list[InputItem]) -> str:
    """What the user says; raises Refused: 400 if that is nothing, or not text."""
    if isinstance(asked, str):
        return asked
    said = [item.content for item in asked if item.role == "user" and item.content is not None]
    if not said:
        raise Refused(400, "input has no message of the role user; the text to decide about is what the user says")
    return "\n\n".join(text if isinstance(text, str) else "\n".join(map(_words, text)) for text in said)


def _words(part: Part) -> str:
    """A part of a message as text; raises Refused: 400."""
    if part.type == "input_text" and part.text is not None:
        return part.text
    if part.type == "input_json" and bytes(part.data):
        return bytes(part.data).decode()
    raise Refused(400, f"input has a part of type {part.type!r}; this classifier reads input_text and input_json")


def _write(request: DecisionRequest, job: Job) -> Reply:
    """Write the answers of a job."""
    timed = job.results()[0]
    answers = [answer_to(question, timed.answer, job.hosted) for question in request.questions]
    usage = Usage(timed.n_tokens, timed.n_tokens)
    return json_reply(DecisionReply(answers, f"{job.hosted.name}@{job.hosted.version}", usage))


def write_error(refused: Refused) -> Reply:
    """Write an error in that API's form."""
    kind = _ERROR_TYPES.get(refused.status, "server_error" if refused.status >= 500 else "invalid_request_error")
    error = {"message": refused.message, "type": kind, "param": None, "code": None}
    return json_reply({"error": error}, refused.status, refused.headers)


PROTOCOL = WireProtocol(read, write_error)
