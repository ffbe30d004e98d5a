"""Read label words through a server: from its lists of likely tokens, or, where it lists none, from the word that it wrote.

A list holds only the likeliest tokens, from which follows:

- A word that is a token of the list has its exact probability.
- A word that begins with a token of the list is walked: the server is asked again after that beginning, and the probabilities
  are multiplied. That is exact if the vocabulary begins the word with that token.
- Any other word is less probable than the last token of the list, and less than what the list leaves over. The smaller of the two,
  the list's ceiling, is stored. It is also stored if a walk ends below it: `b` + `ullish` says nothing about an unlisted `bull`.

So the stored value is exact or an upper bound, never too low. The longer the list, the lower the bound.
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence

from potstill.labeler.teachers.replies import LEAST_LOGPROB

Listed = Mapping[str, float]  # log-probability (nats) of likely next tokens, by their text
FetchList = Callable[[str], Awaitable[Listed]]  # requests the list after the prompt and a beginning of an answer

WRITTEN = 0.99  # probability stored for the word that a server without lists wrote; the other words share the rest
_LEAST_REST = 1e-6  # the probability that a list leaves over is no more precise than its rounding


async def word_logprobs(fetch: FetchList, words: Sequence[str]) -> tuple[float, ...]:
    """Log-probability (nats) of each word as the beginning of the answer, after a space; one request, and one per walk step."""
    seen: dict[str, Listed] = {}

    async def after(beginning: str) -> Listed:
        if beginning not in seen:
            seen[beginning] = await fetch(beginning)
        return seen[beginning]

    return tuple([await _walk(after, word, words) for word in words])


async def _walk(after: FetchList, word: str, words: Sequence[str]) -> float:
    """Log-probability of one word, token by token, or the first list's ceiling where that is higher."""
    first = await after("")
    beginning, rest, total, listed = "", f" {word}", 0.0, first
    while True:
        piece, text = _longest(listed, rest)
        if not beginning and text == rest:
            return first[piece]
        # a token that is another complete label word belongs to that word
        if not text or (not beginning and text.strip() in words):
            return max(ceiling(first), total + ceiling(listed))
        beginning, rest, total = beginning + text, rest[len(text) :], total + listed[piece]
        if not rest or total <= ceiling(first):
            return max(ceiling(first), total)
        listed = await after(beginning)


def _longest(listed: Listed, text: str) -> tuple[str, str]:
    """The longest token that the text begins with, and the part that it covers; two empty strings if there is none.

    Some servers decode each token alone and lose the space before it. If no token of the list has a space, all are read as if they
    had one.
    """
    lost = text.startswith(" ") and not any(token.startswith(" ") for token in listed)
    bare = text[1:] if lost else text
    piece = max((token for token in listed if token and bare.startswith(token)), key=len, default="")
    return piece, f" {piece}" if piece and lost else piece


def ceiling(listed: Listed) -> float:
    """Upper bound of the log-probability (nats) of a token outside the list; LEAST_LOGPROB for an empty list."""
    if not listed:
        return LEAST_LOGPROB
    rest = 1.0 - math.fsum(map(math.exp, listed.values()))
    return min(min(listed.values()), math.log(max(rest, _LEAST_REST)))


def written_logprobs(text: str, words: Sequence[str]) -> tuple[float, ...]:
    """Log-probabilities (nats) that stand for a vote: most probability (:data:`WRITTEN`) on the word that the text begins with.

    If it begins with none, each word gets an equal share of the small rest: the path is kept, with little label mass. Case is
    ignored. Only the vote is information, not the values.
    """
    found = [word for word in words if re.match(rf"\s*{re.escape(word)}(?!\w)", text, re.IGNORECASE)]
    rest = 1.0 - WRITTEN
    if not found:
        return tuple(math.log(rest / len(words)) for _ in words)
    vote = max(found, key=len)
    return tuple(math.log(WRITTEN) if word == vote else math.log(rest / max(1, len(words) - 1)) for word in words)
