"""What a request may hold at a server: as little is given up as the server makes necessary."""

import asyncio
from dataclasses import replace

import pytest

from potstill.labeler.teachers.replies import Completion, CompletionChoice, RefusedError
from potstill.labeler.teachers.terms import LISTS, NEW_LIMIT, OWN_FIELDS, SYSTEM, THOUGHT_SWITCH, Terms, agreed

ANSWER = Completion([CompletionChoice("up")], 0, 0)
ALL = (OWN_FIELDS, THOUGHT_SWITCH, LISTS, SYSTEM, NEW_LIMIT)
FULL = Terms()
FAILS = b"Internal Server Error"


def agreement(why_not):
    """The terms reached at a server that refuses with those words, or answers where there are none; and how often it was asked."""
    asked = []

    async def send(terms):
        asked.append(terms)
        if words := why_not(terms):
            raise RefusedError(500, words)
        return ANSWER

    terms, answer = asyncio.run(agreed(send, ALL))
    assert answer is ANSWER
    return terms, len(asked)


def test_a_server_that_takes_everything_is_asked_once():
    assert agreement(lambda terms: b"") == (FULL, 1)


@pytest.mark.parametrize(
    ("words", "cause", "expected"),
    [
        (b"Unknown field: min_p", lambda t: t.sampling, replace(FULL, sampling={})),
        (b"reasoning_effort is not supported", lambda t: "reasoning_effort" in t.no_thought, replace(FULL, no_thought={"chat_template_kwargs": {"enable_thinking": False}})),
        (b"top_logprobs must be at most 20", lambda t: t.list_length > 20, replace(FULL, list_length=20)),
        (b"System role not supported", lambda t: t.system, replace(FULL, system=False)),
        (b"Use 'max_completion_tokens' instead", lambda t: t.most_tokens == "max_tokens", replace(FULL, most_tokens="max_completion_tokens")),
    ],
)  # fmt: skip
def test_what_the_server_names_is_given_up_and_nothing_else(words, cause, expected):
    assert agreement(lambda terms: words if cause(terms) else b"") == (expected, 2)


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (lambda t: t.sampling, replace(FULL, sampling={})),
        (lambda t: t.no_thought, replace(FULL, no_thought={})),
        (lambda t: t.system, replace(FULL, system=False)),
        (lambda t: t.list_length > 20, replace(FULL, list_length=20)),
        (lambda t: t.list_length, replace(FULL, list_length=0, no_lists="500: Internal Server Error")),
    ],
)
def test_where_it_names_nothing_the_one_thing_is_found_that_it_does_not_stand(cause, expected):
    assert agreement(lambda terms: FAILS if cause(terms) else b"")[0] == expected


def test_several_things_that_it_does_not_stand_are_given_up_together():
    terms, _ = agreement(lambda t: FAILS if t.sampling or t.no_thought or t.list_length else b"")
    assert (terms.sampling, terms.no_thought, terms.list_length) == ({}, {}, 0)


def test_a_server_that_always_refuses_is_refused_with_its_own_words():
    with pytest.raises(RefusedError, match="^500: Internal Server Error$"):
        agreement(lambda terms: FAILS)
