"""The texts that are said to have changed prompts are those whose prompts are other words."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.teachers.table_teacher import TASK

from potstill.contract.task import Input, Knowledge
from potstill.contract.texts import Text
from potstill.labeler.config import LabelConfig
from potstill.labeler.prompts.variants import prompt_variants
from potstill.labeler.teacher import Identity
from potstill.review.steering.changed_prompts import changed_prompts

WORDS = ["puts", "calls", "a", "buy", "short squeeze"]
TEXTS = {
    str(i): Text(words, str(i)) for i, words in enumerate(["puts and calls", "a", "Puts", "output", "short squeeze of a", "calls"])
}
KNOWLEDGE = st.lists(st.builds(Knowledge, term=st.sampled_from(WORDS), meaning=st.sampled_from(["x", "y"])), max_size=3)


def with_terms(knowledge, **changes):
    return msgspec.structs.replace(TASK, knowledge=list(knowledge), **changes)


def prompts(task, text):
    """Every word that a teacher reads about a text, of all variants."""
    identity = Identity("table", "d", "d", "b")
    variants = prompt_variants(task, LabelConfig(mode="cot", n_paths=2, n_variants=2), identity)
    return [(variant.prefix, variant.prompt(text)) for variant in variants]


@given(KNOWLEDGE, KNOWLEDGE)
def test_exactly_the_texts_with_other_prompts_are_found(before, after):
    old, new = with_terms(before), with_terms(after)
    found = changed_prompts(old, new, TEXTS)
    assert found.ids == [text_id for text_id, text in TEXTS.items() if prompts(old, text) != prompts(new, text)]


def test_a_term_of_a_worked_example_changes_all_prompts_and_that_is_said():
    found = changed_prompts(TASK, with_terms([Knowledge("buy", "take")]), TEXTS)
    assert found.ids == list(TEXTS) and "a worked example holds the term" in found.everywhere


@pytest.mark.parametrize("changes", [{"guideline": "g"}, {"examples": TASK.examples[:1]}, {"input": Input(max_chars=3)}])
def test_a_change_of_what_all_prompts_share_changes_all(changes):
    found = changed_prompts(TASK, with_terms([], **changes), TEXTS)
    assert found.ids == list(TEXTS) and found.everywhere == "what all prompts share has changed"


def test_a_term_beyond_what_is_shown_of_a_text_changes_nothing():
    old = msgspec.structs.replace(TASK, input=Input(max_chars=4))
    new = msgspec.structs.replace(old, knowledge=[Knowledge("calls", "x")])
    assert changed_prompts(old, new, TEXTS).ids == []
