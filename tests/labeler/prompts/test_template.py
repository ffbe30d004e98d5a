"""What kind a chat template is, found by rendering it: one row for each habit, and the reason where one cannot be used."""

import re
import tomllib
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest

from potstill.contract.errors import UserError
from potstill.labeler.prompts.check import check_template
from potstill.labeler.prompts.template import read_template
from potstill.labeler.prompts.thoughts import Marks, common, mirrored
from potstill.labeler.teacher import Identity, Thought

written = SimpleNamespace(**tomllib.loads(Path(__file__).with_name("templates.toml").read_text(encoding="utf-8")))

ASKED = "<|end|><|assistant|>"
NEW_LINE = Thought("</think>", "\n</think>\n\n")
PLAIN = "a system turn; no thoughts"
THINKS = "a system turn; thoughts between '<think>' and '</think>'"
NO_SYSTEM = "no system turn, so the guideline begins the first question; no thoughts"

# name of the template -> kind, end of the prompt in mode direct, end of the prompt where a thought begins, the thought
TABLE = {
    "PLAIN": (PLAIN, ASKED, "", None),
    "NO_SYSTEM": (NO_SYSTEM, ASKED, "", None),
    "ALTERNATING": (NO_SYSTEM, "\n[assistant] ", "", None),
    "LOOP_CONTROLS": (PLAIN, ASKED, "", None),
    "GENERATION": (PLAIN, ASKED, "", None),
    "SWITCH": (THINKS + "; off with enable_thinking=False", ASKED + "<think>\n\n</think>\n\n", ASKED + "<think>\n", NEW_LINE),
    "KEEPING": (THINKS, ASKED, ASKED + "<think>\n", NEW_LINE),
    "SWITCHED_ON": (
        THINKS + "; on with reasoning_mode=deep",
        ASKED + "<think></think>", ASKED + "<think>", Thought("</think>", "</think>"),
    ),
    "SWITCH_IN_WORDS": (
        THINKS + "; off with /no_think", ASKED + "<think></think>", ASKED + "<think>", Thought("</think>", "</think>"),
    ),
    "ALWAYS_OPEN": (THINKS, ASKED + "<think>\n\n</think>\n\n", ASKED + "<think>\n", NEW_LINE),
    "OPEN_IN_WORDS": (
        "a system turn; thoughts between 'Let me work this out:' and '[FINAL ANSWER]'",
        ASKED + "\nLet me work this out:\n\n[FINAL ANSWER]\n",
        ASKED + "\nLet me work this out:\n",
        Thought("[FINAL ANSWER]", "\n[FINAL ANSWER]\n"),
    ),
    "CHANNELS": (
        "a system turn; thoughts between '<|channel|>analysis<|message|>' and '<|end|>'",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
        "<|end|><|start|>assistant<|channel|>analysis<|message|>",
        Thought("<|end|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ),
    "RECIPIENT": (PLAIN, ASKED + ">>>all\n", "", None),
    "EMPTY_THOUGHT_BY_CHANNEL": (
        "a system turn; thoughts between '<|channel>thought' and '<channel|>'; on with enable_thinking=True",
        ASKED + "<|channel>thought\n<channel|>",
        ASKED + "<|channel>thought\n",
        Thought("<channel|>", "\n<channel|>"),
    ),
    "PARTS": (PLAIN, ASKED, "", None),
    "TOOLS": (PLAIN, ASKED, "", None),
    "EOS": (PLAIN, "<|assistant|>", "", None),
    "BOS_IN_LETTERS": (PLAIN, ASKED, "", None),
}  # fmt: skip


@cache
def report(template: str):
    return check_template(Identity("", "", "", "", template, "<s>", "</s>", True))


@pytest.mark.parametrize("name", TABLE)
def test_every_kind_of_template_is_recognised_and_asked_where_an_answer_begins(name):
    found = report(getattr(written, name))
    assert (found.kind, found.direct, found.thinking, found.thought) == TABLE[name]


@pytest.mark.parametrize("name", TABLE)
def test_no_answer_begins_inside_a_thought(name):
    found = report(getattr(written, name))
    opened = re.findall(r"<think>|analysis<\|message\|>|thought\n|work this out:", found.direct)
    closed = re.findall(r"</think>|<channel\|>|\[FINAL ANSWER\]", found.direct)
    assert len(opened) == len(closed)


def test_a_thought_that_nothing_ends_is_refused_with_the_mark_that_opens_it():
    assert report(written.NEVER_CLOSED).broken == (
        "--template chat: the teacher's chat template cannot be rendered (it opens a thought with <|my_thought|>, and nothing in it "
        "says how one ends); use --template plain",
    )


@pytest.mark.parametrize("where", ["add_generation_prompt", "not add_generation_prompt"])
def test_a_book_between_question_and_answer_is_refused(where):
    template = f"{written.PLAIN}{{{{ '<x>think' * 9999 if {where} else '' }}}}"
    assert report(template).broken == (
        "--template chat: the teacher's chat template cannot be rendered (it writes more than 10000 characters after a question); "
        "use --template plain",
    )


def test_earlier_answers_keep_their_thoughts_where_the_template_keeps_them():
    assert read_template(written.KEEPING).keeps_thoughts
    assert not read_template(written.SWITCH).keeps_thoughts


def test_a_template_is_read_once():
    assert read_template(written.PLAIN) is read_template(written.PLAIN)


def test_an_end_token_that_nobody_spells_is_named():
    found = check_template(Identity("", "", "", "", written.EOS))
    assert found.broken[1] == "end tokens: the template writes one, and the vocabulary does not say how it is spelled"


def test_a_template_that_is_missing_is_one_line():
    with pytest.raises(UserError, match="^the teacher has no chat template of its own; use --template plain$"):
        read_template("")


@pytest.mark.parametrize(
    ("mark", "end"),
    [("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("<|START_THINKING|>", "<|END_THINKING|>"), ("<|thought|>", None)],
)
def test_a_mark_is_closed_by_its_mirror(mark, end):
    assert mirrored(mark) == end


def test_what_texts_share_ends_before_a_mark_that_differs():
    assert common(["<|a|><|START_TEXT|>", "<|a|><|START_THINKING|>"]) == "<|a|>"
    assert common(["<|a|>x", "<|a|>y"]) == "<|a|>"


def test_a_thought_that_was_closed_is_not_open():
    marks = Marks("<t>", "</t>")
    assert [marks.open_in(text) for text in ("", "<t>", "<t>a</t>", "<t>a</t><t>")] == [False, True, False, True]
