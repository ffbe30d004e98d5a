"""Decode a server's replies: texts with lists of likely tokens, in the three forms that servers give them, and error messages.

Python servers write `NaN` and `-Infinity`, which are no JSON, and numbers of tokens as 50.0: what is meant is clear, so it is read.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from potstill.contract.errors import UserError

LEAST_LOGPROB = -100.0  # stands for minus infinity, which servers write as null, -9999 or the least float; stored values are finite
MAX_WORDS = 300  # characters of a server's explanation in an error message
T = TypeVar("T")
_Number = int | float | None


@dataclass(frozen=True)
class Position:
    """One generated token, and what else was likely in its place."""

    token: str
    listed: dict[str, float]  # log-probability (nats) of the likeliest tokens, by their text; empty if none are listed


@dataclass(frozen=True)
class CompletionChoice:
    """One continuation of the prompt."""

    text: str
    positions: tuple[Position, ...] = ()  # of the generated tokens; empty if nothing is listed
    thought: str = ""  # what a model that thinks first wrote before its answer, where the server keeps it apart

    @property
    def listed(self) -> dict[str, float]:
        """The likeliest first tokens; empty if none are listed."""
        return self.positions[0].listed if self.positions else {}


@dataclass(frozen=True)
class Completion:
    """The used parts of a reply."""

    choices: list[CompletionChoice]
    n_prompt_tokens: int  # 0 where the server does not count
    n_generated: int  # of all choices, as the server counts: some count only the first
    fingerprint: str = ""  # the server's `system_fingerprint`; may be empty


class _Candidate(msgspec.Struct):
    token: str
    logprob: _Number = None


class _Position(msgspec.Struct):
    token: str = ""
    top_logprobs: list[_Candidate] | None = None


class _Logprobs(msgspec.Struct):
    """OpenAI's completions, vLLM and llama_cpp.server fill `top_logprobs`; llama-server fills `content`, as in chat replies."""

    tokens: list[str] | None = None
    top_logprobs: list[dict[str, _Number] | None] | None = None
    content: list[_Position] | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(msgspec.Struct):
    text: str | msgspec.UnsetType | None = msgspec.UNSET  # null from servers that wrote nothing
    message: _Message | None = None
    index: _Number = None
    logprobs: _Logprobs | list[Any] | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: _Number = None
    completion_tokens: _Number = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None
    system_fingerprint: str | None = None


class _Generated(msgspec.Struct):
    """Ollama's own reply."""

    response: str
    thinking: str | None = None
    logprobs: list[_Position] | None = None
    prompt_eval_count: _Number = None
    eval_count: _Number = None


def decode(body: bytes) -> Completion:
    """Decode a reply to `POST /completions`; raises ValueError if it is not a completion with at least one choice."""
    found = parsed(body, _Completion)
    if any(choice.text is msgspec.UNSET for choice in found.choices):
        raise ValueError("a choice has no text")
    return _completion(found, [CompletionChoice(choice.text or "", _positions(choice.logprobs)) for choice in _in_order(found)])


def decode_chat(body: bytes) -> Completion:
    """Decode a reply to `POST /chat/completions`; raises ValueError if it is not one with at least one choice."""
    found = parsed(body, _Completion)
    choices = []
    for choice in _in_order(found):
        if choice.message is None:
            raise ValueError("it holds no message")
        thought, positions = choice.message.reasoning_content or choice.message.reasoning or "", _positions(choice.logprobs)
        if choice.message.content is None and not (thought or positions):
            raise ValueError("its message has no content")
        choices.append(CompletionChoice(choice.message.content or "", positions, thought))
    return _completion(found, choices)


def decode_generated(body: bytes) -> Completion:
    """Decode a reply to Ollama's `POST /api/generate`; raises ValueError if it is not one."""
    found = parsed(body, _Generated)
    choice = CompletionChoice(found.response, _in_chat_form(found.logprobs or []), found.thinking or "")
    return Completion([choice], count(found.prompt_eval_count), count(found.eval_count))


def parsed(body: bytes, kind: type[T]) -> T:
    """A JSON body as that type, `NaN` and `Infinity` allowed; raises ValueError if it is no JSON, or another type."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        try:
            loose = json.loads(body)
        except (ValueError, RecursionError):
            raise ValueError(str(error)) from None
    try:
        return msgspec.convert(loose, kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None


def count(value: _Number) -> int:
    """A number of tokens; 0 where the server gives none, or none that can be counted."""
    return int(value) if value is not None and math.isfinite(value) and value > 0 else 0


def _in_order(found: _Completion) -> list[_Choice]:
    """The choices by their index; raises ValueError if there is none."""
    if not found.choices:
        raise ValueError("it holds no choice")
    return sorted(found.choices, key=lambda choice: count(choice.index))


def _completion(found: _Completion, choices: list[CompletionChoice]) -> Completion:
    """The decoded choices with what was counted."""
    usage = found.usage or _Usage()
    return Completion(choices, count(usage.prompt_tokens), count(usage.completion_tokens), found.system_fingerprint or "")


def _positions(logprobs: _Logprobs | list[Any] | None) -> tuple[Position, ...]:
    """The generated tokens with their lists, from either form."""
    if not isinstance(logprobs, _Logprobs):
        return ()
    if logprobs.content:
        return _in_chat_form(logprobs.content)
    tokens = logprobs.tokens or []
    lists = logprobs.top_logprobs or []
    return tuple(Position(tokens[i] if i < len(tokens) else "", _clean((own or {}).items())) for i, own in enumerate(lists))


def _in_chat_form(content: list[_Position]) -> tuple[Position, ...]:
    """The generated tokens with their lists, from the form of chat replies."""
    return tuple(
        Position(position.token, _clean((found.token, found.logprob) for found in position.top_logprobs or []))
        for position in content
    )


def _clean(pairs: Iterable[tuple[str, _Number]]) -> dict[str, float]:
    """The likely tokens of one position, without those that are no number; of several with the same text, the likeliest."""
    listed: dict[str, float] = {}
    for token, value in pairs:
        if value is not None and math.isnan(value):
            continue
        clipped = LEAST_LOGPROB if value is None else min(0.0, max(LEAST_LOGPROB, value))
        listed[token] = max(clipped, listed.get(token, LEAST_LOGPROB))
    return listed


# Errors

# The known messages for a full context: OpenAI and llama_cpp.server ("maximum context length is 512 tokens"), vLLM
# ("the model's context length is only 512 tokens", "the maximum model length of 512"), llama-server ("context size (512 tokens)").
_TOO_LONG = re.compile(r"context (?:length|size|window)|maximum model length", re.IGNORECASE)
_N_CONTEXT = re.compile(r"(?:context (?:length|size|window)|model length)(?: is| of)?(?: only)? \(?(\d+)", re.IGNORECASE)
_N_PROMPT = re.compile(
    r"(\d+) in (?:your prompt|the messages)|passed (\d+) input tokens|request \((\d+) tokens\)|at least (\d+) input tokens"
    r"|prompt \(length (\d+)\)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ContextLimit:
    """The size of a prompt and of the context it does not fit in, in tokens; 0 where the server does not say."""

    n_prompt: int
    n_context: int


class RefusedError(Exception):
    """The server rejects the request for good; a retry would not help."""

    def __init__(self, status: int, body: bytes) -> None:
        """Args: HTTP status, 0 where there was no reply; its body, or what happened instead."""
        self.status, self.words, self.limit = status, words_of(body), _limit(body)
        super().__init__(f"{status}: {self.words}" if status else self.words)


class UnreadableError(UserError):
    """The reply is something else than was asked for; the message shows how it begins."""


def words_of(body: bytes) -> str:
    """The explanation in an error's body, on one line: OpenAI's `error.message`, FastAPI's `detail`, or the plain text."""
    try:
        found: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = body.decode("utf-8", "replace")
    for key in ("error", "message", "detail"):
        if isinstance(found, dict) and found.get(key):
            found = found[key]
    if not isinstance(found, str):
        found = msgspec.json.encode(found).decode()
    return " ".join(found.split())[:MAX_WORDS] or "no explanation"


def _limit(body: bytes) -> ContextLimit | None:
    """The context limit, if the error is about it."""
    text = body.decode("utf-8", "replace")
    if not _TOO_LONG.search(text):
        return None
    numbers = re.search(r'"n_prompt_tokens":\s*(\d+),\s*"n_ctx":\s*(\d+)', text)  # llama-server's own fields
    if numbers:
        return ContextLimit(int(numbers[1]), int(numbers[2]))
    prompt, context = _N_PROMPT.search(text), _N_CONTEXT.search(text)
    return ContextLimit(int(next(filter(None, prompt.groups()))) if prompt else 0, int(context[1]) if context else 0)
