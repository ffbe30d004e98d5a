"""A text is shown as it stands, whatever stands in it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from potstill.review.pages.text_marks import marked, printable


@given(st.text(), st.text())
def test_no_text_and_no_target_makes_markup_of_its_own(text, target):
    shown = str(marked(text, target))
    assert re.sub("</?mark>", "", shown).count("<") == 0
    assert Markup(re.sub("</?mark>", "", shown)).unescape() == printable(text)


def test_the_target_is_marked_wherever_it_stands_in_its_own_letters():
    assert str(marked("ACME beats, acme's <b>", "Acme")) == "<mark>ACME</mark> beats, <mark>acme</mark>&#39;s &lt;b&gt;"
    assert str(marked("a.b axb", "a.b")) == "<mark>a.b</mark> axb"


@pytest.mark.parametrize("character", ["\0", "\x1b", "\x9f", "\ud800", "\u202e", "\u2066"])
def test_what_would_break_or_turn_the_page_is_replaced(character):
    assert printable(f"a{character}b") == "a\ufffdb"
