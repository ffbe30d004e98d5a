import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.contract.interchange.annotation import AnnotatedText, gold_question, text_field


@pytest.mark.parametrize(
    ("answers", "gold", "lacks", "disputed"),
    [
        ((), None, "not annotated", False),
        (("up",), "up", "", False),
        (("up", "up"), "up", "", False),
        (("up", "down", "up"), "up", "", True),
        (("up", "down"), None, "tied between annotators", False),
        (("up", "down", "flat", "down"), "down", "", True),
        (("up", "down", "flat", "down", "up"), None, "tied between annotators", False),
    ],
)
def test_the_gold_label_is_what_more_people_chose_than_any_other(answers, gold, lacks, disputed):
    row = AnnotatedText("t", answers=answers)
    assert (row.gold, row.lacks, row.disputed) == (gold, lacks, disputed)


@given(st.lists(st.sampled_from(["up", "down", "flat"])), st.randoms())
def test_the_order_of_the_answers_does_not_matter(answers, random):
    shuffled = random.sample(answers, len(answers))
    assert AnnotatedText("t", answers=tuple(answers)).gold == AnnotatedText("t", answers=tuple(shuffled)).gold


def test_the_gold_question_is_the_one_called_label_or_the_only_one():
    assert gold_question({"label", "comment"}) == "label"
    assert gold_question({"sentiment"}) == "sentiment"
    assert gold_question(set()) == "label"
    assert gold_question({"sentiment", "comment"}) is None


def test_the_text_is_the_field_called_text_or_the_only_string():
    assert text_field({"text": "a", "title": "b"}) == "text"
    assert text_field({"id": "1", "target": "x", "body": "b", "stars": 3}) == "body"
    assert text_field({"title": "a", "body": "b"}) is None
    assert text_field({"text": 3, "title": "a"}) is None
    assert text_field({"text": None, "body": "b"}) == "body"
