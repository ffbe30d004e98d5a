from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny_bundle import a_familiarity

from potstill.contract.errors import FormatError
from potstill.contract.promises.familiarity import (
    FAMILIARITY_FILE,
    fewest_held_out,
    rank_of_threshold,
    read_familiarity,
    unfamiliarity_of,
    write_familiarity,
)

PATH = Path("bundle/familiarity.json")


def test_what_is_written_is_read_again(tmp_path):
    written = a_familiarity()
    write_familiarity(tmp_path, written)
    assert read_familiarity(tmp_path / FAMILIARITY_FILE, (tmp_path / FAMILIARITY_FILE).read_bytes()) == written


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 0}, "format: is 0; this version reads 1"),
        ({"format": 2}, "format: is 2; this version reads 1, a newer one wrote it: update potstill"),
        ({"rate": 0.0}, "rate: is 0.0; it must be above 0 and below 1"),
        ({"rate": 0.01}, "n: is 40; a rate of 0.01 needs at least 99 texts"),
        ({"tokens": [1, 2], "scores": [0.0]}, "scores: are 1 for 2 tokens; give one for each"),
        ({"tokens": [2, 2], "scores": [0.0, 1.0]}, "tokens: are not ascending ids from 0 on"),
        ({"tokens": [-3, 2], "scores": [0.0, 1.0]}, "tokens: are not ascending ids from 0 on"),
        ({"tokens": [2, 2**40], "scores": [0.0, 1.0]}, "tokens: go up to 1099511627776; ids above 2097152 are no vocabulary's"),
        ({"unseen": 1e9}, "scores: must be from -100 to 100"),
        ({"distance_weight": -0.1}, "distance_weight: is -0.1; it must be from 0 to 100"),
        ({"threshold": -101.0}, "scores: must be from -100 to 100"),
    ],
)
def test_a_malformed_file_is_refused_with_its_reason(changes, message):
    data = msgspec.json.encode(a_familiarity(**changes))
    with pytest.raises(FormatError) as error:
        read_familiarity(PATH, data)
    assert message in str(error.value)


def test_an_unknown_key_is_refused():
    with pytest.raises(FormatError, match="familiarity.json"):
        read_familiarity(PATH, msgspec.json.encode({**msgspec.to_builtins(a_familiarity()), "more": 1}))


@settings(max_examples=60, deadline=None)
@given(rate=st.sampled_from([0.01, 0.05, 0.1, 0.2, 0.5]), more=st.integers(0, 300))
def test_the_threshold_is_the_lowest_of_the_scores_that_keeps_the_rate(rate, more):
    n = fewest_held_out(rate) + more
    rank = rank_of_threshold(n, rate)
    # a further text is as likely in each of the n + 1 gaps between the scores
    assert (n + 1 - rank) / (n + 1) <= rate + 1e-9 and (n + 2 - rank) / (n + 1) > rate - 1e-9
    assert rank_of_threshold(fewest_held_out(rate) - 1, rate) > fewest_held_out(rate) - 1
    assert 1 <= rank <= n


def test_texts_of_the_same_kind_are_called_unfamiliar_at_most_at_the_rate_on_average():
    rng, found = np.random.default_rng(0), []
    for _ in range(400):
        held_out, fresh = np.sort(rng.gumbel(size=59)), rng.gumbel(size=200)
        found.append((fresh > held_out[rank_of_threshold(59, 0.05) - 1]).mean())
    assert np.mean(found) == pytest.approx(0.05, abs=0.005)


def test_a_score_is_the_mean_over_the_tokens_in_any_order_and_the_weighted_distance():
    parts = {"tokens": [3, 5], "scores": [-1.0, 2.0], "unseen": 0.5}
    score = unfamiliarity_of(a_familiarity(**parts))
    assert score([3, 5, 9, 3], 7.0) == score([9, 3, 3, 5], 0.0) == pytest.approx(0.125)
    assert score([], 7.0) == 0.0
    far = unfamiliarity_of(a_familiarity(**parts, distance_weight=0.25))
    assert far([3, 5, 9, 3], 7.0) == pytest.approx(0.125 + 1.75) and far([], 2.0) == 0.5
