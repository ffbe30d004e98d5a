from __future__ import annotations

import pytest
from scipy.stats import binom

from potstill.export.gate.noise import LEVEL, explained_flips


@pytest.mark.parametrize("n", [1, 5, 64, 251, 512, 2048])
@pytest.mark.parametrize("rate", [0.001, 0.01, 0.02, 0.5])
def test_chance_does_more_in_at_most_one_of_twenty_cases_and_as_much_in_more(n, rate):
    most = explained_flips(n, rate)
    assert binom.sf(most, n, rate) <= LEVEL  # P(X > most)
    assert most == 0 or binom.sf(most - 1, n, rate) > LEVEL


def test_one_flip_of_a_few_texts_never_decides_and_where_none_is_allowed_none_is_explained():
    assert all(explained_flips(n, 0.01) >= 1 for n in range(6, 100))
    assert explained_flips(64, 0.0) == 0
    assert explained_flips(64, 1.0) == 64
    assert explained_flips(0, 0.01) == 0


def test_the_more_texts_the_smaller_the_share_that_chance_explains():
    shares = [explained_flips(n, 0.01) / n for n in (64, 256, 1024, 4096, 100_000)]
    assert shares == sorted(shares, reverse=True) and shares[-1] < 0.011
