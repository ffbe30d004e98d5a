"""Label words from lists of likely tokens: exact, or a bound from above. The lists are written out here; real ones are in
test_openai_real_server.py."""

import asyncio
import math

import pytest

from potstill.labeler.teachers.replies import LEAST_LOGPROB
from potstill.labeler.teachers.word_lists import WRITTEN, ceiling, word_logprobs, written_logprobs


def read(lists, *words):
    """Log-probabilities of the words, and after which beginnings a list was asked for."""
    asked = []

    async def ask(beginning, _alone):
        asked.append(beginning)
        return {token: math.log(prob) for token, prob in lists[beginning].items()}

    return asyncio.run(word_logprobs(ask, words)), asked


def test_a_listed_word_has_its_exact_probability_from_one_request():
    found, asked = read({"": {" up": 0.6, " down": 0.3}}, "up", "down")
    assert found == (math.log(0.6), math.log(0.3))
    assert asked == [""]


def test_a_word_of_several_tokens_is_walked_and_its_probabilities_multiply():
    lists = {"": {" bull": 0.5, " b": 0.1, " down": 0.3}, " bull": {"ish": 0.9, "ion": 0.05}}
    found, asked = read(lists, "bullish", "down")
    assert found == pytest.approx((math.log(0.45), math.log(0.3)))
    assert asked == ["", " bull"]  # the longest beginning, not " b"


def test_words_that_begin_alike_share_the_request_after_their_beginning():
    lists = {"": {" very": 0.9}, " very": {" good": 0.5, " bad": 0.25}}
    found, asked = read(lists, "very good", "very bad")
    assert found == pytest.approx((math.log(0.45), math.log(0.225)))
    assert asked == ["", " very"]


def test_a_word_that_is_not_listed_gets_no_more_than_the_last_token_and_no_more_than_what_the_list_leaves_over():
    few, _ = read({"": {" up": 0.5, " left": 0.2}}, "up", "down")
    full, _ = read({"": {" up": 0.75, " left": 0.2}}, "up", "down")
    assert few[1] == pytest.approx(math.log(0.2))
    assert full[1] == pytest.approx(math.log(0.05))


def test_a_walk_ends_as_soon_as_it_can_say_no_more():
    found, asked = read({"": {" up": 0.5, " b": 0.3, " left": 0.1}, " b": {"u": 0.2}}, "up", "bullish")
    assert found[1] == pytest.approx(math.log(0.1))
    assert asked == ["", " b"]


@pytest.mark.parametrize("after_b", [{"ig": 0.5, "ullish": 0.1}, {"ig": 0.5, "it": 0.1}], ids=["to the end", "not to the end"])
def test_a_walk_that_comes_out_below_the_ceiling_says_nothing_about_an_unlisted_spelling(after_b):
    # " b" is listed, but the vocabulary begins the word with " bull", which is not
    lists = {"": {" up": 0.5, " b": 0.3, " left": 0.1}, " b": after_b}
    found, _ = read(lists, "up", "bullish")
    assert found[1] == pytest.approx(math.log(0.1))


def test_what_goes_on_to_a_longer_word_is_taken_from_the_word_that_begins_it():
    lists = {"": {" billing": 0.9, " other": 0.05}, " billing": {" dispute": 0.99, "\n": 0.01}}
    found, asked = read(lists, "billing", "billing dispute", "other")
    assert [math.exp(value) for value in found] == pytest.approx([0.009, 0.891, 0.05])
    assert asked == ["", " billing"]


def test_a_word_of_one_token_takes_nothing_from_the_shorter_word_that_begins_its_letters():
    found, asked = read({"": {" 1": 0.5, " 10": 0.3, " 2": 0.1}}, "1", "2", "10")
    assert [math.exp(value) for value in found] == pytest.approx([0.5, 0.1, 0.3])
    assert asked == [""]


def test_a_scale_whose_ten_is_two_tokens_counts_each_number_once():
    lists = {"": {" 1": 0.6, " 2": 0.3}, " 1": {"0": 0.25, "\n": 0.7}}
    found, _ = read(lists, "1", "2", "10")
    assert [math.exp(value) for value in found] == pytest.approx([0.45, 0.3, 0.15])


def test_a_word_may_pass_several_that_begin_it_and_takes_from_the_longest():
    lists = {"": {" a": 0.8}, " a": {" b": 0.5}, " a b": {" c": 0.5, "\n": 0.1}}
    found, _ = read(lists, "a", "a b", "a b c")
    assert [math.exp(value) for value in found] == pytest.approx([0.4, 0.2, 0.2])


def test_a_longer_word_whose_next_token_is_not_listed_takes_nothing_as_its_own_value_is_only_a_bound():
    lists = {"": {" up": 0.6, " left": 0.1}, " up": {"\n": 0.5, "!": 0.4}}
    found, asked = read(lists, "up", "upward")
    assert [math.exp(value) for value in found] == pytest.approx([0.6, 0.1])  # " upward" may be a token of its own
    assert asked == ["", " up"]


def test_a_word_that_is_always_gone_on_from_keeps_a_finite_rest():
    found, _ = read({"": {" up": 0.5, " left": 0.4}, " up": {"ward": 1.0}}, "up", "upward")
    assert math.exp(found[0]) == pytest.approx(0.5e-6)


def test_where_a_server_cannot_go_on_after_a_beginning_its_own_probability_is_the_bound():
    async def ask(beginning, _alone):
        return None if beginning else {"very": math.log(0.7), "so": math.log(0.2), "bad": math.log(0.05)}

    found = asyncio.run(word_logprobs(ask, ("very good", "very bad", "bad"), spaced=False))
    assert [math.exp(value) for value in found] == pytest.approx([0.7, 0.7, 0.05])


def test_at_the_beginning_of_a_turn_a_token_counts_with_a_space_before_it_and_without():
    async def ask(beginning, _alone):
        assert not beginning
        return {" up": math.log(0.3), "up": math.log(0.4), "down": math.log(0.2)}

    found = asyncio.run(word_logprobs(ask, ("up", "down"), spaced=False))
    assert [math.exp(value) for value in found] == pytest.approx([0.7, 0.2])


def test_a_server_that_loses_the_space_before_a_token_is_read_all_the_same():
    lists = {"": {"up": 0.6, "bear": 0.3}, " bear": {"ish": 0.5}}
    found, _ = read(lists, "up", "bearish")
    assert found == pytest.approx((math.log(0.6), math.log(0.15)))


def test_a_token_without_a_space_is_no_label_word_where_others_have_one():
    found, _ = read({"": {" up": 0.5, "down": 0.3, " left": 0.1}}, "up", "down")
    assert found[1] == pytest.approx(math.log(0.1))


def test_no_list_at_all_gives_every_word_the_least_probability():
    assert read({"": {}}, "up", "down")[0] == (LEAST_LOGPROB, LEAST_LOGPROB)
    assert ceiling({}) == LEAST_LOGPROB


def test_a_list_whose_rounded_probabilities_exceed_one_still_has_a_finite_ceiling():
    assert ceiling({" up": 0.0, " down": -3.0}) == pytest.approx(math.log(1e-6))


@pytest.mark.parametrize(
    ("text", "vote"),
    [
        (" up", "up"),
        ("\nUP, I think", "up"),
        (" upward", "upward"),
        ("up-and-coming", "up"),
        (" upset", None),
        (" I cannot say: down", None),
        ("", None),
    ],
)
def test_a_written_word_is_a_vote_and_anything_else_is_none(text, vote):
    words = ("up", "upward", "down")
    probs = [math.exp(value) for value in written_logprobs(text, words)]
    assert probs[words.index(vote)] == pytest.approx(WRITTEN) if vote else max(probs) < 0.01
    assert sum(probs) == pytest.approx(1.0 if vote else 1 - WRITTEN)
