"""Candidates by the real encoder: what they depend on, and what is believed of the labels that are none."""

import math

import pytest
from support.teachers.many_labels import NAMES, TASK, TEXTS, a_task

from potstill.contract.texts import Text
from potstill.labeler.narrowing import COVERED, narrowed
from potstill.models.catalog import find_backbone

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def backbone():
    return find_backbone("all-minilm-l6-v2")


@pytest.fixture(scope="module")
def found(backbone):
    return narrowed(TASK, TEXTS, 10, backbone)


def test_the_label_that_a_text_names_is_a_candidate_and_mostly_the_first(found):
    first = [NAMES[found.candidates[text.id].labels[0]] == text.gold for text in TEXTS]
    assert sum(first) >= 9
    assert all(NAMES.index(text.gold) in found.candidates[text.id].labels for text in TEXTS)


def test_no_label_is_impossible_and_all_are_certain_together(found):
    for own in found.candidates.values():
        assert len(own.log_prior) == len(NAMES) and all(math.isfinite(value) for value in own.log_prior)
        assert math.fsum(map(math.exp, own.log_prior)) == pytest.approx(1, abs=1e-3)
        assert own.outside > 0


def test_a_text_has_as_many_candidates_as_it_takes_and_at_most_the_wanted_ones(backbone):
    few = narrowed(TASK, TEXTS, 3, backbone).candidates
    many = narrowed(TASK, TEXTS, 29, backbone).candidates
    for text in TEXTS:
        assert 2 <= len(few[text.id].labels) <= 3
        assert few[text.id].labels == many[text.id].labels[: len(few[text.id].labels)]
        assert many[text.id].outside <= 1 - COVERED + 1e-3


def test_other_texts_change_nothing(found, backbone):
    alone = narrowed(TASK, TEXTS[:1], 10, backbone)
    assert alone.candidates["0"].labels == found.candidates["0"].labels
    assert alone.candidates["0"].log_prior == pytest.approx(found.candidates["0"].log_prior, abs=1e-3)
    assert alone.examples["0"] == found.examples["0"]


def test_every_candidate_has_an_example_that_of_the_likeliest_last_and_a_meaning_stands_for_a_missing_one(found):
    for text in TEXTS:
        labels = [NAMES[place] for place in found.candidates[text.id].labels]
        examples = found.examples[text.id]
        assert [example.label for example in examples] == labels[::-1]
        for example in examples:
            own = f"My {example.label.replace('_', ' ')}"
            meaning = TASK.labels[NAMES.index(example.label)].meaning
            assert example.text == (own if NAMES.index(example.label) % 2 == 0 else meaning)


def test_two_hundred_labels_are_narrowed(backbone):
    names = tuple(
        f"{name}_{place}"
        for name in NAMES[:20]
        for place in ("home", "work", "abroad", "shop", "post", "boat", "train", "bus", "hotel", "bar")
    )
    own = narrowed(a_task(names), [Text("my card was lost in the hotel", "a")], 10, backbone).candidates["a"]
    assert len(own.log_prior) == 200 and names.index("card_lost_hotel") in own.labels
