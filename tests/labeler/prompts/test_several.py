"""The prompt that several questions share: what it shows, and in which orders."""

import pytest
from support.toy_questions import a_questionnaire

from potstill.contract.questions.question import Question
from potstill.contract.questions.questionnaire import AnsweredExample
from potstill.contract.task import Label
from potstill.contract.texts import Text
from potstill.labeler.config import LabelConfig
from potstill.labeler.prompts.several import (
    MOST_LABELS,
    MOST_TOGETHER,
    asked_alone,
    asked_together,
    shared_prompts,
    shared_variants,
    shares_prompt,
    variants_digest,
)

DIRECT = LabelConfig(mode="direct", n_paths=4)
FIRST = """\
Move: Where does it go?
- up
- flat
- down
Asks: Does the text ask something? (yes or no)
Topics: Does the text mention any of these?
- news
- chart
- people
Sure: How sure is the author?
- low
- middle
- high

Text: calls surely
Move: up
Asks: no
Topics: none
Sure: high

Text: why puts
Asks: yes
Topics: chart
Move: down

"""


def variants(task=None, config=DIRECT):
    task = task or a_questionnaire()
    (forks,) = asked_together(task)
    return shared_variants(task, forks, config)


def test_all_questions_stand_above_and_every_example_has_a_line_for_each_that_it_answers():
    made = variants()[0]
    assert made.prefix == FIRST
    assert made.prompt(Text("  two\nlines "), 3) == "Text: two lines\nSure:"
    assert [made.cue(i) for i in range(4)] == ["Move:", "Asks:", "Topics:", "Sure:"]
    assert [ask.key for ask in made.asks] == ["move", "asks", "topics/news", "topics/chart", "topics/people", "sure"]


def test_variants_differ_in_the_order_of_questions_answers_and_examples():
    made = variants()
    assert len({variant.prefix for variant in made}) == 4
    for variant in made:
        assert sorted(variant.prefix.split("\n\n")[0].replace("no or yes", "yes or no").split("\n")) == sorted(
            FIRST.split("\n\n")[0].split("\n")
        )
    assert [variant.prefix.split(":")[0] for variant in made] == ["Move", "Asks", "Topics", "Sure"]
    assert [variant.paths for variant in made] == [(0,), (1,), (2,), (3,)]


def test_every_label_of_every_question_gets_the_wanted_number_of_examples_and_no_text_more():
    examples = [
        AnsweredExample(text=f"text {i}", answers={"move": move, "asks": i == 7})
        for i, move in enumerate(["up"] * 4 + ["down"] * 4)
    ]
    prefix = variants(a_questionnaire(examples=examples), LabelConfig(mode="direct", n_paths=1, n_examples_per_label=2))[0].prefix
    assert [f"text {i}" in prefix for i in range(8)] == [True, True, False, False, True, True, False, True]


def test_in_mode_cot_rationales_come_first_and_answers_without_one_are_left_out():
    examples = [AnsweredExample(text="calls", answers={"move": "up", "asks": False}, rationales={"move": "Calls  pay."})]
    made = variants(a_questionnaire(examples=examples), LabelConfig(mode="cot", n_paths=4))
    assert [variant.paths for variant in made] == [(0, 1, 2, 3)]
    assert made[0].prefix.endswith("\n\nText: calls\nMove, opinion: Calls pay.\nMove: up\n\n")
    assert made[0].prompt(Text("x"), 0) == "Text: x\nMove, opinion:"


def test_without_examples_and_guideline_the_questions_are_asked_as_they_are():
    made = variants(a_questionnaire(examples=[], guideline="Read well."), LabelConfig(mode="direct", n_paths=1, guideline=False))
    assert made[0].prefix == FIRST.split("\n\n")[0] + "\n\n"


def test_words_stand_for_labels_and_meanings_are_shown():
    question = Question(
        name="good_news", kind="yesno", question="Is it good?", guideline="Think.",
        labels=[Label(name="yes", words=["right"]), Label(name="no", words=["wrong"])],
    )  # fmt: skip
    examples = [AnsweredExample(text="a", answers={"good_news": True})]
    made = variants(a_questionnaire(questions=[question], examples=examples))[0]
    assert made.prefix == "Think.\nGood news: Is it good? (right or wrong)\n\nText: a\nGood news: right\n\n"
    assert made.specs[0].words == ("right", "wrong")


def test_many_questions_are_asked_in_groups_of_like_size():
    questions = [Question(name=f"q{i}", kind="yesno", question="Is it?") for i in range(40)]
    groups = asked_together(a_questionnaire(questions=questions, examples=[]))
    assert [len(group) for group in groups] == [14, 14, 12] and max(map(len, groups)) <= MOST_TOGETHER
    assert [fork.key for group in groups for fork in group] == [f"q{i}" for i in range(40)]


def test_many_tags_are_asked_in_lists_of_like_size_each_in_a_prompt_of_its_own():
    tags = Question(name="tags", kind="tags", question="Is it {tag}?", labels=[Label(name=f"t{i}") for i in range(45)])
    sure = a_questionnaire().questions[-1]
    groups = asked_together(a_questionnaire(questions=[tags, sure], examples=[]))
    assert [[len(fork.asks) for fork in group] for group in groups] == [[15, 1], [15], [15]]
    assert [ask.tag for group in groups for ask in group[0].asks] == [f"t{i}" for i in range(45)]


def test_a_question_with_many_labels_has_a_prompt_of_its_own():
    many = Question(name="intent", question="Which?", labels=[Label(name=f"i{i}") for i in range(MOST_LABELS + 1)])
    questions = [many, *a_questionnaire().questions]
    task = a_questionnaire(questions=questions)
    assert [ask.key for ask in asked_alone(task)] == ["intent"]
    assert [[ask.key for fork in group for ask in fork.asks] for group in asked_together(task)] == [
        [ask.key for ask in a_questionnaire().asks()]
    ]
    assert asked_together(a_questionnaire(questions=[many], examples=[])) == []


def test_what_is_shown_of_one_variant_is_what_it_asks():
    task, text = a_questionnaire(), Text("hello")
    ((prompt, ends),) = shared_prompts(task, 2, DIRECT, text)
    made = variants()[2]
    assert [f"{prompt}\n{end}" for end in ends] == [made.prefix + made.prompt(text, place) for place in range(4)]


@pytest.mark.parametrize(
    ("changes", "shared"),
    [({}, True), ({"mode": "cot"}, True), ({"mode": "cascade"}, False), ({"bound": 0.75}, False), ({"template": "chat"}, False), ({"examples": "nearest"}, False)],
)  # fmt: skip
def test_a_prompt_is_shared_where_nothing_follows_from_a_single_question(changes, shared):
    assert shares_prompt(LabelConfig(**{"mode": "direct", **changes})) is shared


def test_the_digest_follows_the_words_of_the_prompts():
    assert variants_digest(variants()) == variants_digest(variants())
    assert variants_digest(variants()) != variants_digest(variants(a_questionnaire(guideline="Read well.")))
