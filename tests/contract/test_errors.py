"""Counts in lines for a person."""

import pytest

from potstill.contract.errors import count_of


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0, "text"), "0 texts"),
        ((1, "soft label"), "1 soft label"),
        ((21, "run"), "21 runs"),
        ((2, "entry", "entries"), "2 entries"),
    ],
)
def test_one_is_one_of_it_and_any_other_number_several(arguments, words):
    assert count_of(*arguments) == words
    assert count_of(1, *arguments[1:]) == f"1 {arguments[1]}"
