"""The answer to `POST /completions` as data. Servers list likely tokens in one of two forms; both are read."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

LEAST_LOGPROB = -100.0  # servers write minus infinity as null, -9999 or the least float; stored values must stay finite


@dataclass(frozen=True)
class Choice:
    """One text that goes on from the prompt."""

    text: str
    listed: dict[str, float]  # log-probability (nats) of the likeliest first tokens, by their text; empty where none are given


@dataclass(frozen=True)
class Completion:
    """All of an answer that is used."""

    choices: list[Choice]
    n_prompt_tokens: int  # 0 where the server does not count
    n_generated: int  # of all choices, as the server counts: some count only the first
    fingerprint: str  # what the server says about its software; may be empty


class _Candidate(msgspec.Struct):
    token: str
    logprob: float | None = None


class _Position(msgspec.Struct):
    top_logprobs: list[_Candidate] = []


class _Logprobs(msgspec.Struct):
    """OpenAI's completions, vLLM, llama_cpp.server fill `top_logprobs`; llama-server fills `content`, as in chat answers."""

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
    """The answer in a body; raises ValueError if it is no completion with at least one choice."""
    try:
        found = msgspec.json.decode(body, type=_Completion)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from None
    if not found.choices:
        raise ValueError("it holds no choice")
    usage = found.usage or _Usage()
    choices = [Choice(choice.text, _first(choice.logprobs)) for choice in sorted(found.choices, key=lambda choice: choice.index)]
    return Completion(choices, usage.prompt_tokens or 0, usage.completion_tokens or 0, found.system_fingerprint or "")


def _first(logprobs: _Logprobs | None) -> dict[str, float]:
    """The likely tokens at the first position. Where several are written alike, the likeliest stands for them."""
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
