"""Read label words through a server: from its lists of likely tokens, or, where it lists none, from the word that it wrote.

A list holds only the likeliest tokens, from which follows:

- A word that is a token of the list has its exact probability.
- A word that begins with a token of the list is walked: the server is asked again after that beginning, and the probabilities
  are multiplied. That is exact if the vocabulary begins the word with that token.
- Any other word is less probable than the last token of the list, and less than what the list leaves over. The smaller of the two,
  the list's ceiling, is stored. It is also stored if a walk ends below it: `b` + `ullish` says nothing about an unlisted `bull`.
- Where the server does not go on after a beginning, as in most chats, the beginning's own probability is the bound.
- A walk may pass another complete word, as ` billing` + ` dispute` does. What it finds is taken from the word that it passed:
  the probability of `billing` is that of every answer that begins so and does not go on to `billing dispute`.

So the stored value is exact or an upper bound, never too low. The longer the list, the lower the bound.
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from potstill.labeler.teachers.replies import LEAST_LOGPROB

Listed = Mapping[str, float]  # log-probability (nats) of likely next tokens, by their text
# Asks for the list after the prompt and a beginning of an answer, and says whether one label word alone begins so; None: there is
# no way to get it, or it is not worth a request.
FetchList = Callable[[str, bool], Awaitable[Listed | None]]

WRITTEN = 0.99  # probability stored for the word that a server without lists wrote; the other words share the rest
_LEAST_REST = 1e-6  # the probability that a list leaves over, or that a word keeps for itself, is no more precise than its rounding


@dataclass(frozen=True)
class _Walk:
    """What was found about one word."""

    logprob: float  # nats
    exact: bool  # False: an upper bound
    passed: str = ""  # the longest other label word that the walk passed; empty: none


async def word_logprobs(fetch: FetchList, words: Sequence[str], *, spaced: bool = True) -> tuple[float, ...]:
    """Log-probability (nats) of each word as the beginning of the answer; one request, and one per walk step.

    Args:
        spaced: whether a space stands before the answer, as after a cue; if not, a token counts with a space before it and without.
    """
    seen: dict[str, Listed | None] = {}
    before = " " if spaced else ""

    async def after(beginning: str) -> Listed | None:
        if beginning not in seen:
            alone = sum((before + word).startswith(beginning) for word in words) == 1
            found = await fetch(beginning, alone)
            seen[beginning] = found if spaced or beginning or found is None else _unspaced(found)
        return seen[beginning]

    return _apart(words, [await _walk(after, word, words, before) for word in words])


async def _walk(after: Callable[[str], Awaitable[Listed | None]], word: str, words: Sequence[str], before: str) -> _Walk:
    """One word, token by token, or the first list's ceiling where that is higher."""
    first = await after("") or {}
    beginning, rest, total, listed, passed = "", before + word, 0.0, first, ""
    while True:
        piece, text = _longest(listed, rest)
        if not text:
            return _Walk(max(ceiling(first), total + ceiling(listed)), exact=False)
        beginning, rest, total = beginning + text, rest[len(text) :], total + listed[piece]
        if not rest and beginning == text:
            return _Walk(total, exact=True)
        if not rest or total <= ceiling(first):
            return _Walk(max(ceiling(first), total), total > ceiling(first), passed)
        passed = beginning.removeprefix(before) if beginning.removeprefix(before) in words else passed
        found = await after(beginning)
        if found is None:
            return _Walk(total, exact=False)
        listed = found


def _apart(words: Sequence[str], walks: Sequence[_Walk]) -> tuple[float, ...]:
    """The log-probabilities, without what was found to go on from one word to a longer one."""
    gone_on = dict.fromkeys(words, 0.0)  # probability
    for walk in walks:
        if walk.exact and walk.passed:
            gone_on[walk.passed] += math.exp(walk.logprob)
    left = []
    for word, walk in zip(words, walks, strict=True):
        gone = gone_on[word] / math.exp(walk.logprob) if walk.logprob > LEAST_LOGPROB else 0.0
        left.append(walk.logprob + math.log(max(_LEAST_REST, 1.0 - gone)) if gone else walk.logprob)
    return tuple(left)


def _unspaced(listed: Listed) -> Listed:
    """The list with each token's first space cut off, so that ` up` and `up` are one token with the probability of both."""
    together: dict[str, float] = {}
    for token, value in listed.items():
        bare = token.removeprefix(" ")
        both = math.exp(value) + math.exp(together[bare]) if bare in together else math.exp(value)
        together[bare] = max(LEAST_LOGPROB, min(0.0, math.log(both))) if both else LEAST_LOGPROB
    return together


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
