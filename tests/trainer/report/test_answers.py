import pytest
from support.judged_texts import DOWN, UP, a_judged, a_soft_label, a_text

from potstill.trainer.report.answers import Rationale, beside, most_confident

SURE = [0.02, 0.02, 0.96]


def test_the_most_confident_mistake_comes_first_and_right_answers_do_not_come():
    judged = a_judged([("a", "up", UP), ("b", "up", DOWN), ("c", "up", SURE), ("d", "flat", DOWN)])
    found = most_confident(judged, {})
    assert found[0].text.text == "c"
    assert {mistake.text.text for mistake in found} == {"b", "c", "d"}
    assert [m.text.id for m in found[1:]] == sorted(m.text.id for m in found[1:])  # equals by id
    assert (found[0].gold, found[0].answer) == ("up", "down")
    assert (found[0].confidence, found[0].gold_prob) == (pytest.approx(0.96), pytest.approx(0.02))
    assert most_confident(judged, {}, 1) == found[:1]


def test_rationales_stand_beside_their_text_and_target():
    said = [Rationale("down", "they fired the auditor")]
    judged = a_judged([("b", "up", DOWN), (a_text("b", target="acme"), "up", DOWN)])
    found = {mistake.text.target: mistake.rationales for mistake in most_confident(judged, {("b", "acme"): said})}
    assert found == {None: (), "acme": tuple(said)}


@pytest.mark.parametrize(
    ("votes", "blame"),
    [
        ([8, 0, 0], "the teacher was right"),
        ([0, 0, 8], "the teacher said so too"),
        ([0, 8, 0], "the teacher was wrong in another way"),
        ([0, 0, 0], ""),
    ],
)
def test_a_mistake_says_whether_the_teacher_made_it_too(votes, blame):
    assert most_confident(a_judged([("b", "up", DOWN)], [a_soft_label("b", votes)]), {})[0].blame == blame


def test_soft_labels_are_found_by_text_and_target_whatever_the_id():
    row, other = a_soft_label("a", [8, 0, 0]), a_soft_label("a", [0, 8, 0], target="acme")
    texts = [a_text("a", target="acme"), a_text("a"), a_text("b")]
    assert beside(texts, [row, other]) == [other, row, None]
