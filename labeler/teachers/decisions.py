"""Ask a server that decides: one question with all options, answered with a probability for each. Nothing is written or parsed.

Two forms of the same request. `POST /decisions` is OpenAI's, as its Python package types it (3.54,
`openai/types/decision_create_params.py` and `decision.py`); vLLM (0.33) takes it too. `POST /systemone` is TypeSafe's, as the
README of llama.cpp's server and SGLang's page on decision models describe it; Ollama (0.35) and vLLM (0.32) take it too.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from potstill.contract.files import decode
from potstill.labeler.teacher import Identity, PutQuestion
from potstill.labeler.teachers.replies import LEAST_LOGPROB, Completion, count, parsed
from potstill.labeler.teachers.served_model import Prompt, Served, ServedModel, read_reply
from potstill.labeler.teachers.terms import Terms

DECISIONS, SYSTEMONE = "/decisions", "/systemone"
DECLINED = 0.01  # label mass of a path whose question the model declined to answer: kept, and shown as unreadable
_NAME = "label"  # of the question, by which its answer is found
_SUM_TOLERANCE = 0.02  # of the probabilities, which servers round
_PROBE = PutQuestion("Is the text about the weather?", (("yes", "It is about the weather."), ("no", "It is about something else.")))
_PROBE_TEXT = "It rains all day."
_Number = int | float


@dataclass(frozen=True)
class DecidedAnswer:
    """The answer to one question."""

    logprobs: tuple[float, ...]  # nats, by option
    n_prompt_tokens: int  # 0 where the server does not count
    model: str  # that answered, as the server calls it; an alias may stand for one version today and for another tomorrow


class DecidingModel(ServedModel):
    """A model that answers questions and writes nothing."""

    async def complete(self, prompt: Prompt, max_tokens: int, **_options: Any) -> Completion:
        """Not possible; raises TypeError."""
        raise TypeError("a decision server writes nothing")

    @abstractmethod
    async def decide(self, question: PutQuestion, text: str, *, quick: bool = False) -> DecidedAnswer:
        """Have the question answered about a text.

        Args:
            quick: see :meth:`potstill.labeler.teachers.openai_client.ServerClient.post`.
        Raises:
            RefusedError: if the server rejects the request.
            UserError: if it keeps failing, or its answer lacks an option.
        """


class _Probability(msgspec.Struct):
    value: str | bool
    probability: _Number


class _Answer(msgspec.Struct):
    type: str
    probabilities: list[_Probability] | dict[str, _Number] | None = None
    x_label_mass: _Number | None = None  # SGLang's: probability of all options before they were scaled to 1


class _Usage(msgspec.Struct):
    input_tokens: int | float | None = None


class _DecisionsReply(msgspec.Struct):
    answers: list[_Answer]
    model: str | None = None
    usage: _Usage | None = None


class _SystemOneReply(msgspec.Struct):
    answers: dict[str, _Answer]
    model: str | None = None
    usage: _Usage | None = None


class DecisionsModel(DecidingModel):
    """A model behind `POST /decisions`."""

    async def decide(self, question: PutQuestion, text: str, *, quick: bool = False) -> DecidedAnswer:
        """See :meth:`DecidingModel.decide`."""
        choices = [{"value": word, "description": decode.encodable(meaning)} for word, meaning in question.options]
        asked = {"type": "choice", "name": _NAME, "instructions": decode.encodable(question.instructions), "choices": choices}
        body = {"model": self.served.entry.id, "input": decode.encodable(text), "questions": [asked]}
        answer = await self.client.post(DECISIONS, body, quick=quick)
        return read_reply(self.client, DECISIONS, answer.body, lambda data: _decided(data, question), "a decision")


class SystemOneModel(DecidingModel):
    """A model behind `POST /systemone`."""

    async def decide(self, question: PutQuestion, text: str, *, quick: bool = False) -> DecidedAnswer:
        """See :meth:`DecidingModel.decide`."""
        criteria = {word: decode.encodable(meaning) or None for word, meaning in question.options}
        asked = {"type": "choice", "instructions": decode.encodable(question.instructions), "criteria": criteria}
        body = {"model": self.served.entry.id, "state": decode.encodable(text), "questions": {_NAME: asked}}
        answer = await self.client.post(SYSTEMONE, body, quick=quick)
        return read_reply(self.client, SYSTEMONE, answer.body, lambda data: _system_one(data, question), "a decision")


async def open_decisions(served: Served) -> DecisionsModel:
    """The model behind `POST /decisions`; raises RefusedError or UnreadableError if it does not decide."""
    model = DecisionsModel(served, Terms(), Identity("", "", "", ""))
    model.identity = await _identity(model, "decisions")
    return model


async def open_systemone(served: Served) -> SystemOneModel:
    """The model behind `POST /systemone`; raises RefusedError or UnreadableError if it does not decide."""
    model = SystemOneModel(served, Terms(), Identity("", "", "", ""))
    model.identity = await _identity(model, "systemone")
    return model


async def _identity(model: DecisionsModel | SystemOneModel, api: Any) -> Identity:
    """The teacher's identity, with the name under which the model itself answers."""
    found = await model.decide(_PROBE, _PROBE_TEXT, quick=True)
    by = f" by {found.model}" if found.model and found.model != model.served.entry.id else ""
    return model.served.identity(api, "", f"{api}{by}")


def _decided(body: bytes, question: PutQuestion) -> DecidedAnswer:
    """Decode a reply to `POST /decisions`; raises ValueError."""
    found = parsed(body, _DecisionsReply)
    if len(found.answers) != 1:
        raise ValueError(f"it holds {len(found.answers)} answers to one question")
    return _answer(found.answers[0], question, found)


def _system_one(body: bytes, question: PutQuestion) -> DecidedAnswer:
    """Decode a reply to `POST /systemone`, which leaves out a question that the model did not answer; raises ValueError."""
    found = parsed(body, _SystemOneReply)
    return _answer(found.answers.get(_NAME, _Answer("refusal")), question, found)


def _answer(answer: _Answer, question: PutQuestion, reply: _DecisionsReply | _SystemOneReply) -> DecidedAnswer:
    """The probability of every option; raises ValueError where one is missing or is none."""
    n_tokens, words = count(reply.usage.input_tokens) if reply.usage else 0, [word for word, _ in question.options]
    if answer.type == "refusal":
        return DecidedAnswer(tuple(math.log(DECLINED / len(words)) for _ in words), n_tokens, reply.model or "")
    if answer.type != "choice":
        raise ValueError(f"it answers a choice with a {answer.type}")
    pairs = answer.probabilities or {}
    given = pairs if isinstance(pairs, dict) else {str(pair.value): pair.probability for pair in pairs}
    missing = [word for word in words if word not in given]
    if missing:
        raise ValueError(f"it has no probability for {missing[0]!r}")
    probs = [float(given[word]) for word in words]
    if not all(0 <= prob <= 1 for prob in probs) or abs(sum(probs) - 1) > _SUM_TOLERANCE:
        raise ValueError(f"its probabilities sum to {sum(probs):g}")
    mass = answer.x_label_mass if answer.x_label_mass and 0 < answer.x_label_mass <= 1 else 1.0
    return DecidedAnswer(_scaled(probs, float(mass)), n_tokens, reply.model or "")


def _scaled(probs: Sequence[float], mass: float) -> tuple[float, ...]:
    """Log-probabilities (nats) that sum to the label mass. Args: probs, at least 0, with a positive sum."""
    total = sum(probs)
    return tuple(max(LEAST_LOGPROB, math.log(prob / total * mass)) if prob > 0 else LEAST_LOGPROB for prob in probs)
