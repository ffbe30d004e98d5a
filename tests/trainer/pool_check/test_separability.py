import numpy as np
import pytest
from support.drawn_texts import drawn_texts

from potstill.trainer.pool_check.separability import auc_by, everything, reading, word_weights


def told(pool, target, seed=0):
    return auc_by(everything(reading([*pool, *target])), np.arange(len(pool) + len(target)) < len(pool), seed)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_texts_of_one_source_cannot_be_told_apart(seed):
    found = told(drawn_texts(300, seed), drawn_texts(300, seed + 100))
    assert found.low < 0.5 < found.high
    assert found.value == pytest.approx(0.5, abs=0.06) and found.n == 600


def test_a_word_that_only_one_side_has_tells_them_apart():
    pool, target = [f"{text} zebra" for text in drawn_texts(100, 1)], drawn_texts(100, 2)
    assert told(pool, target).low > 0.95
    read = reading([*pool, *target])
    weights = word_weights(read, np.arange(200) < 100)
    assert read.terms[int(weights.argmax())] == "zebra"


def test_swapping_the_sides_changes_nothing_but_the_sign_of_the_weights():
    read, is_pool = reading([*drawn_texts(80, 1), *drawn_texts(80, 2, words=(20, 40))]), np.arange(160) < 80
    there, back = auc_by(everything(read), is_pool, 0), auc_by(everything(read), ~is_pool, 0)
    assert there.value == pytest.approx(back.value, abs=0.02)  # the folds are dealt by side
    np.testing.assert_allclose(word_weights(read, is_pool), -word_weights(read, ~is_pool), atol=1e-2)


def test_texts_without_a_single_term_are_read_too():
    found = told([chr(0x100 + i) for i in range(60)], [chr(0x400 + i) for i in range(60)])
    assert 0 <= found.low <= found.high <= 1


def test_lengths_that_lie_in_the_middle_are_told_from_those_at_both_ends():
    ends = [*drawn_texts(100, 1, words=(3, 5)), *drawn_texts(100, 2, words=(40, 60))]
    middle = drawn_texts(200, 3, words=(12, 20))  # a single weight for the length could not do this
    read = reading([*ends, *middle])
    assert auc_by(read.form, np.arange(400) < 200, 0).low > 0.95
