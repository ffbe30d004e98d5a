"""Tags are asked for as a list: what the prompt shows, which words are read, and what they say about each tag."""

import math

import pytest
from support.toy_questions import a_questionnaire

from potstill.contract.questions.question import Question
from potstill.contract.questions.questionnaire import AnsweredExample
from potstill.contract.task import Label
from potstill.labeler.config import LabelConfig
from potstill.labeler.prompts import listed
from potstill.labeler.prompts.several import asked_together, shared_variants
from potstill.labeler.teacher import TeacherPath, TooLong

NEWS = Label(name="new_products", meaning="what comes to market")
MONEY = Label(name="money", words=["money", "prices"])


def a_task(labels=(NEWS, MONEY), question="Which of these is it about?", examples=()):
    tags = Question(name="about", kind="tags", question=question, labels=list(labels))
    return a_questionnaire(questions=[tags], examples=list(examples))


def fork(task):
    ((only,),) = asked_together(task)
    return only


def a_path(*logprobs):
    return TeacherPath("t", 3, 1, 7, "", logprobs, 5, 2, question="about")


def test_worked_examples_show_a_list_of_what_holds_and_another_tag_comes_first_each_time():
    held = [["new_products", "money"], ["money"], [], ["money", "new_products"]]
    examples = [AnsweredExample(text=f"text {i}", answers={"about": tags}) for i, tags in enumerate(held)]
    task = a_task(examples=examples)
    made = shared_variants(task, [fork(task)], LabelConfig(mode="direct", n_paths=2))
    assert made[0].prefix == (
        "About: Which of these is it about?\n- new products: what comes to market\n- money\n\n"
        "Text: text 0\nAbout: new products, money\n\nText: text 1\nAbout: money\n\nText: text 2\nAbout: none\n\n"
        "Text: text 3\nAbout: money, new products\n\n"
    )
    assert made[1].prefix.startswith("About: Which of these is it about?\n- money\n- new products: what comes to market\n\n")
    assert made[0].specs[0].words == ("new products", "money", "prices", "none")


def test_a_question_written_for_one_tag_is_asked_of_all():
    assert listed.head(fork(a_task(question="Is it about {tag}?")).asks, 0)[0] == "Is it about any of these?"


def test_a_tags_words_are_its_yes_and_all_else_is_its_no():
    only = fork(a_task([MONEY, NEWS]))
    found = only.results(a_path(*map(math.log, (0.2, 0.1, 0.4, 0.05))))
    assert [(one.question, one.text_id, one.path, one.variant, one.seed) for one in found] == [
        ("about/money", "t", 3, 1, 7), ("about/new_products", "t", 3, 1, 7),
    ]  # fmt: skip
    assert [[math.exp(value) for value in one.word_logprobs] for one in found] == [
        pytest.approx([0.3, 0.7]), pytest.approx([0.4, 0.6]),
    ]  # fmt: skip
    assert [only.words_of(ask) for ask in only.asks] == [["money", "none"], ["new products", "none"]]


def test_a_text_that_is_too_long_is_so_for_every_tag():
    found = fork(a_task()).results(TooLong("t", 9, 5, "about"))
    assert [one.question for one in found] == ["about/new_products", "about/money"]


def test_a_probability_that_is_nothing_and_one_that_is_everything_stay_finite():
    for logprobs in ((1e-7, -1e9, -1e9), (-1e9, -math.inf, 0.0), (-math.inf, -math.inf, 0.0)):
        (one,) = fork(a_task([MONEY])).results(a_path(*logprobs))
        assert all(math.isfinite(value) and value <= 0 for value in one.word_logprobs)


def test_a_tag_called_none_is_told_from_no_tag():
    asks = fork(a_task([Label(name="None"), MONEY])).asks
    assert listed.none_word(asks) == "nothing" and listed.answer(asks, [], 0) == "nothing"


def test_tags_without_an_example_in_a_list_are_left_out_of_it():
    tags = [Label(name=f"t{i}") for i in range(30)]
    task = a_task(tags, examples=[AnsweredExample(text="x", answers={"about": ["t3", "t20"]})])
    shown = [shared_variants(task, forks, LabelConfig(mode="direct", n_paths=1))[0].prefix[-20:] for forks in asked_together(task)]
    assert [one.split("About: ")[1] for one in shown] == ["t3\n\n", "t20\n\n"]


def test_a_list_shows_two_examples_of_none_however_many_have_tags_of_another_list():
    tags = [Label(name=f"t{i}") for i in range(30)]
    task = a_task(tags, examples=[AnsweredExample(text=f"x{i}", answers={"about": [f"t{20 + i}"]}) for i in range(5)])
    config = LabelConfig(mode="direct", n_paths=1, n_examples_per_label=2)
    shown = [shared_variants(task, forks, config)[0].prefix for forks in asked_together(task)]
    assert [prefix.count("About: none") for prefix in shown] == [2, 0]
