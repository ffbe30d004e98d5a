"""What a request may hold at a server, found out with short requests: as much as the server grants.

A server that refuses is asked again with less. Where its words name the cause, only that is given up; where they do not (many say
only "Internal Server Error"), each concession is tried alone, so that a limit on likely tokens does not cost the sampling fields.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from potstill.labeler.teachers.replies import Completion, RefusedError

# Numbers of likely tokens to request, tried in this order: llama.cpp lists any number, vLLM, Ollama and OpenAI's chat 20, others 5.
LIST_LENGTHS = (100, 20, 5, 0)
# The local teacher's sampling: temperature and the 40 likeliest tokens, nothing else. `top_p` is in the standard; these are the
# servers' own fields, which OpenAI rejects. Without them llama.cpp would add min_p, and llama_cpp.server a repeat penalty.
SAMPLING: Mapping[str, Any] = {"top_k": 40, "min_p": 0.0, "repeat_penalty": 1.0, "repetition_penalty": 1.0}
# A model that can think is told to answer at once: vLLM, SGLang and llama-server pass the first on to the chat template; Ollama,
# llama-server and OpenAI know the second.
NO_THOUGHT: Mapping[str, Any] = {"chat_template_kwargs": {"enable_thinking": False}, "reasoning_effort": "none"}


@dataclass(frozen=True)
class Terms:
    """What a request may hold."""

    list_length: int = LIST_LENGTHS[0]  # number of likely tokens that the server lists; 0: none
    sampling: Mapping[str, Any] = field(default_factory=lambda: SAMPLING)  # accepted fields beyond the standard
    no_thought: Mapping[str, Any] = field(default_factory=lambda: NO_THOUGHT)  # accepted fields that turn thoughts off
    system: bool = True  # whether a conversation may begin with a system message
    most_tokens: str = "max_tokens"  # name of the field that limits the answer
    no_lists: str = ""  # the server's words where it refused to list tokens


@dataclass(frozen=True)
class Concession:
    """Something that a request can do without."""

    hint: re.Pattern[str]  # found in the words of a server that refuses because of it
    less: Callable[[Terms], Terms | None]  # the next smaller terms; None: nothing is left to give up

    def least(self, terms: Terms) -> Terms:
        """The terms without any of it."""
        while (smaller := self.less(terms)) is not None:
            terms = smaller
        return terms


def _fewer(terms: Terms) -> Terms | None:
    """One step down the list lengths."""
    shorter = [length for length in LIST_LENGTHS if length < terms.list_length]
    return replace(terms, list_length=shorter[0]) if shorter else None


def _fewer_switches(terms: Terms) -> Terms | None:
    """Without the last of the fields that turn thoughts off."""
    return replace(terms, no_thought=dict(list(terms.no_thought.items())[:-1])) if terms.no_thought else None


def _new_limit(terms: Terms) -> Terms | None:
    """With the name that OpenAI gives the field since its models think."""
    return replace(terms, most_tokens="max_completion_tokens") if terms.most_tokens == "max_tokens" else None


LISTS = Concession(re.compile("logprobs", re.IGNORECASE), _fewer)
OWN_FIELDS = Concession(re.compile("|".join(SAMPLING)), lambda terms: replace(terms, sampling={}) if terms.sampling else None)
THOUGHT_SWITCH = Concession(re.compile("chat_template_kwargs|reasoning|think"), _fewer_switches)
SYSTEM = Concession(
    re.compile(r"system role|role.{0,20}system|roles must alternate", re.IGNORECASE),
    lambda terms: replace(terms, system=False) if terms.system else None,
)
NEW_LIMIT = Concession(re.compile("max_completion_tokens"), _new_limit)
Send = Callable[[Terms], Awaitable[Completion]]


async def agreed(send: Send, concessions: Sequence[Concession]) -> tuple[Terms, Completion]:
    """The largest terms on which the server answers, and its answer.

    Args:
        send: sends a short request on those terms.
        concessions: what the request can do without; tried in this order where the server does not name the cause.
    Raises:
        RefusedError: if the server refuses the smallest terms too.
    """
    terms = Terms()
    while True:
        try:
            return terms, await send(terms)
        except RefusedError as error:
            refusal = error
        less = next((found for c in concessions if c.hint.search(refusal.words) and (found := c.less(terms))), None)
        if less is None:
            return await _without_one(send, terms, concessions, refusal)
        terms = replace(less, no_lists=str(refusal)) if terms.list_length and not less.list_length else less


async def _without_one(
    send: Send, terms: Terms, concessions: Sequence[Concession], refusal: RefusedError
) -> tuple[Terms, Completion]:
    """The terms without the one thing that the server does not stand, or without all of them."""
    everything = terms
    for concession in concessions:
        everything = concession.least(everything)
    for tried in (*(concession.least(terms) for concession in concessions), everything):
        if tried == terms:
            continue
        try:
            found = await send(tried)
        except RefusedError:
            continue
        if tried.list_length or not terms.list_length:
            return tried, found
        return await _longest_list(send, tried, terms.list_length) or (replace(tried, no_lists=str(refusal)), found)
    raise refusal


async def _longest_list(send: Send, without: Terms, too_long: int) -> tuple[Terms, Completion] | None:
    """The terms with the longest shorter list that the server stands; None if it stands none."""
    for length in LIST_LENGTHS:
        if 0 < length < too_long:
            tried = replace(without, list_length=length)
            try:
                return tried, await send(tried)
            except RefusedError:
                continue
    return None
