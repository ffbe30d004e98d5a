import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.contract.errors import UserError
from potstill.trainer.evaluation.label_map import parse_label_map

LABELS = ["bullish", "bearish", "neutral"]
BINARY = "positive=bullish,negative=bearish,neutral="


def a_map(*entries, labels=LABELS):
    return parse_label_map(entries, labels)


def test_without_entries_every_label_is_scored_and_stands_for_itself():
    assert a_map().scored == LABELS
    assert a_map().resolve(LABELS, "gold") == {name: name for name in LABELS}


def test_an_entry_says_what_a_name_stands_for_and_an_empty_one_leaves_it_out():
    found = a_map(BINARY)
    assert found.scored == ["bullish", "bearish"]
    assert found.resolve(["negative", "neutral", "positive", "bullish"], "gold") == {
        "negative": "bearish", "neutral": "", "positive": "bullish", "bullish": "bullish",
    }  # fmt: skip


def test_entries_may_come_one_by_one_with_spaces_and_in_any_case():
    assert a_map(" Positive = BULLISH ", "negative=bearish", "Neutral=") == a_map("Positive=bullish,negative=bearish,Neutral=")
    assert a_map("Positive=BULLISH").resolve(["POSITIVE", "Bearish"], "gold") == {"POSITIVE": "bullish", "Bearish": "bearish"}
    assert a_map("NEUTRAL=").scored == ["bullish", "bearish"]


def test_a_name_with_an_equals_sign_is_split_at_the_last_one():
    assert a_map("a=b=bullish").resolve(["a=b"], "gold") == {"a=b": "bullish"}


def test_labels_and_names_may_have_commas_and_equals_signs():
    labels = ["yes", "yes, pleased", "no = annoyed", "a=b"]
    found = a_map("positive=yes, pleased,negative=no = annoyed, so,so = Yes,x=a=b,left=", labels=labels)
    assert found.entries == {"positive": "yes, pleased", "negative": "no = annoyed", "so,so": "yes", "x": "a=b", "left": ""}


def test_entries_may_swap_labels_and_the_student_is_still_read_as_it_is():
    swapped = a_map("up=down,down=up", labels=["up", "down"])
    assert swapped.resolve(["up", "down"], "gold") == {"up": "down", "down": "up"}
    probs = np.array([[0.9, 0.1]])
    np.testing.assert_array_equal(swapped.own(probs)[0], probs)
    np.testing.assert_array_equal(swapped.foreign(probs, ["up", "down"], "other")[0], probs[:, ::-1])


def test_a_label_that_is_left_out_stays_scored_if_another_name_stands_for_it():
    found = a_map("hold=neutral,neutral=")
    assert found.scored == LABELS
    assert found.resolve(["hold", "neutral"], "gold") == {"hold": "neutral", "neutral": ""}


def test_a_foreign_name_that_is_left_out_takes_no_label_with_it():
    assert a_map("mixed=").scored == LABELS


def test_names_that_only_case_tells_apart_are_each_taken_exactly():
    found = a_map("US=country,us=people", labels=["country", "people"])
    assert found.resolve(["US", "us"], "gold") == {"US": "country", "us": "people"}


def test_leaving_a_label_out_brings_the_others_back_to_one():
    probs = np.array([[0.2, 0.3, 0.5], [0.0, 0.0, 1.0]])
    found, n_even = a_map("neutral=").own(probs)
    np.testing.assert_allclose(found, [[0.4, 0.6], [0.5, 0.5]])
    assert n_even == 1


def test_probabilities_go_to_the_labels_by_name_add_up_and_lose_what_is_left_out():
    probs = np.array([[0.5, 0.1, 0.2, 0.2]])
    found, n_even = a_map("good=bullish,great=bullish,bad=bearish,neutral=").foreign(
        probs, ["neutral", "good", "bad", "great"], "x"
    )
    np.testing.assert_allclose(found, [[0.6, 0.4]])
    assert n_even == 0


def test_a_classifier_without_one_of_the_labels_gives_it_nothing():
    found, _ = a_map().foreign(np.array([[0.3, 0.7]]), ["bearish", "bullish"], "x")
    np.testing.assert_allclose(found, [[0.7, 0.3, 0]])


@given(st.permutations(["neutral", "positive", "negative"]), st.integers(0, 1000))
def test_the_order_of_a_classifiers_outputs_does_not_matter(order, seed):
    by_name = dict(zip(["positive", "negative", "neutral"], np.random.default_rng(seed).dirichlet(np.ones(3)), strict=True))
    for entries in (BINARY, "positive=bullish,negative=bearish"):
        expected, _ = a_map(entries).foreign(np.array([list(by_name.values())]), list(by_name), "x")
        found, _ = a_map(entries).foreign(np.array([[by_name[name] for name in order]]), order, "x")
        np.testing.assert_allclose(found, expected, atol=1e-15)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["positive"], "map: 'positive' is not NAME=LABEL, or NAME= to leave NAME out; the labels are bullish, bearish, neutral"),
        (["=bullish"], "map: '=bullish' is not NAME=LABEL, or NAME= to leave NAME out; the labels are bullish, bearish, neutral"),
        (["a=bullish,"], "map: '' is not NAME=LABEL, or NAME= to leave NAME out; the labels are bullish, bearish, neutral"),
        (
            ["a=bulish"],
            "map: 'a=bulish' does not end with a label; allowed: bullish, bearish, neutral, or nothing to leave 'a' out",
        ),
        (["a=bullish", "a=bearish"], "map: repeats the name 'a'; keep one of the two"),
        (["neutral=,bearish="], "map: leaves fewer than two labels to score (bullish); leave out less"),
    ],
)
def test_a_map_that_says_nothing_clear_is_refused(entries, message):
    with pytest.raises(UserError) as caught:
        parse_label_map(entries, LABELS)
    assert str(caught.value) == message


def test_a_label_that_is_mapped_nowhere_is_one_line_that_lists_what_is_allowed():
    with pytest.raises(UserError) as caught:
        a_map("positive=bullish").resolve(["positive", "negative"], "reviews.jsonl: gold")
    assert str(caught.value) == (
        "reviews.jsonl: gold: 'negative' is not a label; allowed: bullish, bearish, neutral; "
        "say what it stands for with --map 'negative=LABEL', or leave it out with --map 'negative='"
    )


@pytest.mark.parametrize("entries", [[], ["US=up"], ["Us=up"]])
def test_names_that_only_case_tells_apart_are_refused_where_one_entry_would_fit_both(entries):
    with pytest.raises(UserError, match=r"^gold: 'US' and 'us' differ in case only; map each by its exact name, with --map$"):
        parse_label_map(entries, ["up", "us", "down"]).resolve(["US", "us"], "gold")


def test_an_entry_for_a_name_that_nothing_has_is_refused():
    found = a_map("postive=bullish,neutral=,LABEL_0=bearish")
    found.check_used({"gold.jsonl": ["postive"], "finbert": ["label_0"]})
    with pytest.raises(UserError) as caught:
        found.check_used({"gold.jsonl": ["positive", "neutral"], "finbert": ["LABEL_0"]})
    assert str(caught.value) == (
        "map: no label is named 'postive'; gold.jsonl has neutral, positive; finbert has LABEL_0; "
        "the student has bullish, bearish, neutral"
    )
