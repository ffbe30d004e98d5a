"""A request that the server refused: its own words, and whether they say that the prompt is too long for its context."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import msgspec

MAX_WORDS = 300  # characters of a server's explanation that fit in one line for a person

# One pattern for each way of saying it that is known: OpenAI and llama_cpp.server ("maximum context length is 512 tokens"), vLLM
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
    """How much was asked of a context that is too small. Tokens; 0 where the server does not say."""

    n_prompt: int
    n_context: int


class RefusedError(Exception):
    """The server understood the request and will not answer it, however often it is asked."""

    def __init__(self, status: int, body: bytes) -> None:
        """Args: HTTP status; body of the answer."""
        self.status, self.words, self.limit = status, words_of(body), _limit(body)
        super().__init__(f"{status}: {self.words}")


def words_of(body: bytes) -> str:
    """The explanation in an error's body, on one line: OpenAI's `error.message`, FastAPI's `detail`, or the bare text."""
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
    """The context's limit, if that is what the body complains about."""
    text = body.decode("utf-8", "replace")
    if not _TOO_LONG.search(text):
        return None
    numbers = re.search(r'"n_prompt_tokens":\s*(\d+),\s*"n_ctx":\s*(\d+)', text)  # llama-server says it in fields of their own
    if numbers:
        return ContextLimit(int(numbers[1]), int(numbers[2]))
    prompt, context = _N_PROMPT.search(text), _N_CONTEXT.search(text)
    return ContextLimit(int(next(filter(None, prompt.groups()))) if prompt else 0, int(context[1]) if context else 0)
