"""Decode a server's replies: completions, in either of the two forms that list likely tokens, and error messages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import msgspec

LEAST_LOGPROB = -100.0  # stands for minus infinity, which servers write as null, -9999 or the least float; stored values are finite
MAX_WORDS = 300  # characters of a server's explanation in an error message


@dataclass(frozen=True)
class CompletionChoice:
    """One continuation of the prompt."""

    text: str
    listed: dict[str, float]  # log-probability (nats) of the likeliest first tokens, by their text; empty if none are listed


@dataclass(frozen=True)
class Completion:
    """The used parts of a reply to `POST /completions`."""

    choices: list[CompletionChoice]
    n_prompt_tokens: int  # 0 where the server does not count
    n_generated: int  # of all choices, as the server counts: some count only the first
    fingerprint: str  # the server's `system_fingerprint`; may be empty


class _Candidate(msgspec.Struct):
    token: str
    logprob: float | None = None


class _Position(msgspec.Struct):
    top_logprobs: list[_Candidate] = []


class _Logprobs(msgspec.Struct):
    """OpenAI's completions, vLLM and llama_cpp.server fill `top_logprobs`; llama-server fills `content`, as in chat replies."""

    top_logprobs: list[dict[str, float | None] | None] | None = None
    content: list[_Position] | None = None


class _Choice(msgspec.Struct):
    text: str
    index: int = 0
    logprobs: _Logprobs | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None
    system_fingerprint: str | None = None


def decode(body: bytes) -> Completion:
    """Decode a reply; raises ValueError if it is not a completion with at least one choice."""
    try:
        found = msgspec.json.decode(body, type=_Completion)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from None
    if not found.choices:
        raise ValueError("it holds no choice")
    usage = found.usage or _Usage()
    choices = [
        CompletionChoice(choice.text, _first(choice.logprobs)) for choice in sorted(found.choices, key=lambda choice: choice.index)
    ]
    return Completion(choices, usage.prompt_tokens or 0, usage.completion_tokens or 0, found.system_fingerprint or "")


def _first(logprobs: _Logprobs | None) -> dict[str, float]:
    """The likely tokens at the first position; of several with the same text, the likeliest."""
    if logprobs is None:
        return {}
    pairs: list[tuple[str, float | None]] = []
    if logprobs.content:
        pairs = [(candidate.token, candidate.logprob) for candidate in logprobs.content[0].top_logprobs]
    elif logprobs.top_logprobs:
        pairs = list((logprobs.top_logprobs[0] or {}).items())
    listed: dict[str, float] = {}
    for token, value in pairs:
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
        """Args: HTTP status; body of the reply."""
        self.status, self.words, self.limit = status, words_of(body), _limit(body)
        super().__init__(f"{status}: {self.words}")


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
