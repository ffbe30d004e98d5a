"""Reading label words through a server: from its lists of likely tokens, or, where it gives none, from the word that it wrote.

A list holds only the likeliest tokens. What can be known from it:

- A word that is a token of the list has its exact probability.
- A word that begins with a token of the list is walked: the server is asked again after that beginning, and the probabilities
  multiply. That is exact where the list's token is how the vocabulary begins the word.
- Any other word is less probable than the last token of the list, and than what the list leaves over. The smaller of these two,
  the list's ceiling, is stored. So it is where a walk comes out below it: `b` + `ullish` says nothing about an unlisted `bull`.

What is stored is therefore exact or a bound from above, never too low. The longer the list, the lower the bound lies.
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence

from potstill.labeler.teachers.replies import LEAST_LOGPROB

Listed = Mapping[str, float]  # log-probability (nats) of likely next tokens, by their text
FetchList = Callable[[str], Awaitable[Listed]]  # the list after the prompt and that beginning of an answer

WRITTEN = 0.99  # probability stored for the word that a server without lists wrote; the other words share the rest
_LEAST_REST = 1e-6  # what a list leaves over is known no better than its rounding


async def word_logprobs(ask: FetchList, words: Sequence[str]) -> tuple[float, ...]:
    """Log-probability (nats) of each word, with a space before it, as the answer's beginning. One request, and one per walk."""
    seen: dict[str, Listed] = {}

    async def after(beginning: str) -> Listed:
        if beginning not in seen:
            seen[beginning] = await ask(beginning)
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
        # a token that is another label word whole belongs to that one
        if not text or (not beginning and text.strip() in words):
            return max(ceiling(first), total + ceiling(listed))
        beginning, rest, total = beginning + text, rest[len(text) :], total + listed[piece]
        if not rest or total <= ceiling(first):
            return max(ceiling(first), total)
        listed = await after(beginning)


def _longest(listed: Listed, text: str) -> tuple[str, str]:
    """The longest token that begins the text, and the part that it covers; two empty strings where none does.

    Some servers decode each token alone and lose the space before it. Then no token of the list has one, and is read as if it had.
    """
    lost = text.startswith(" ") and not any(token.startswith(" ") for token in listed)
    bare = text[1:] if lost else text
    piece = max((token for token in listed if token and bare.startswith(token)), key=len, default="")
    return piece, f" {piece}" if piece and lost else piece


def ceiling(listed: Listed) -> float:
    """Most log-probability (nats) that a token outside the list can have; the least there is where nothing is listed."""
    if not listed:
        return LEAST_LOGPROB
    rest = 1.0 - math.fsum(map(math.exp, listed.values()))
    return min(min(listed.values()), math.log(max(rest, _LEAST_REST)))


def written_logprobs(text: str, words: Sequence[str]) -> tuple[float, ...]:
    """What is stored for a vote: nearly all probability (:data:`WRITTEN`) on the word that the text begins with.

    Where it begins with none of them, each word gets an equal share of the small rest: the path is kept, with little label mass.
    Case does not count. The values are finite, but only the vote in them is information.
    """
    found = [word for word in words if re.match(rf"\s*{re.escape(word)}(?!\w)", text, re.IGNORECASE)]
    rest = 1.0 - WRITTEN
    if not found:
        return tuple(math.log(rest / len(words)) for _ in words)
    vote = max(found, key=len)
    return tuple(math.log(WRITTEN) if word == vote else math.log(rest / max(1, len(words) - 1)) for word in words)
