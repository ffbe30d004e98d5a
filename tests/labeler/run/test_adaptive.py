"""A text is decided when its leader would lead in the long run; what decides it are its paths, not the order they came in."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from potstill.labeler.run.adaptive import N_FIRST, Ballot, as_vote, leader_probability

COUNTS = st.lists(st.integers(0, 40), min_size=2, max_size=6)


@given(COUNTS)
def test_the_leader_leads_with_the_probability_that_its_beta_share_is_above_one_half(votes):
    second, first = sorted(votes)[-2:]
    assert leader_probability(votes) == pytest.approx(beta(first + 1, second + 1).sf(0.5), abs=1e-12)
    n = first + second + 1  # the beta distribution's tail is a binomial sum
    exact = sum(math.comb(n, k) for k in range(first + 1)) / 2**n
    assert leader_probability(votes) == pytest.approx(exact, abs=1e-12)


@given(COUNTS, st.randoms())
def test_the_order_of_the_labels_changes_nothing(votes, rng):
    shuffled = rng.sample(votes, len(votes))
    assert leader_probability(shuffled) == leader_probability(votes)


@given(COUNTS)
def test_a_vote_for_the_leader_raises_it_and_one_for_the_second_lowers_it(votes):
    ordered = sorted(votes)
    now = leader_probability(ordered)
    assert leader_probability([*ordered[:-1], ordered[-1] + 1]) >= now - 1e-12
    if ordered[-2] < ordered[-1]:
        assert leader_probability([*ordered[:-2], ordered[-2] + 1, ordered[-1]]) <= now + 1e-12
    assert 0.5 - 1e-12 <= now <= 1


@given(st.integers(0, 60))
def test_a_tie_is_one_half_and_unanimity_is_the_closed_form(n):
    assert leader_probability([n, n, 0]) == pytest.approx(0.5)
    assert leader_probability([n, 0]) == pytest.approx(1 - 2.0 ** -(n + 1))


def ballot(bound: float = 0.9, shift=(0.0, 0.0), n: int = 8) -> Ballot:
    return Ballot(np.array(shift), [0, 1], bound, range(n))


FOR = {0: (-0.1, -3.0), 1: (-3.0, -0.1)}  # word log-probabilities of a vote for label 0 and for label 1


@given(st.lists(st.integers(0, 1), min_size=1, max_size=8), st.randoms(), st.sampled_from([0.6, 0.8, 0.9]))
def test_whether_a_text_is_decided_depends_on_its_paths_and_not_on_their_order(votes, rng, bound):
    expected = any(leader_probability([votes[:n].count(0), votes[:n].count(1)]) >= bound for n in range(N_FIRST, len(votes) + 1))
    made = ballot(bound)
    for path in rng.sample(range(len(votes)), len(votes)):
        made.add("a", path, FOR[votes[path]])
        made.add("a", path, FOR[votes[path]])  # drawn again: changes nothing
    assert made.decided("a") == expected


def test_votes_count_from_the_first_path_on_so_quick_answers_do_not_decide_alone():
    made = ballot()
    for path in (1, 2, 3, 4):
        made.add("a", path, FOR[0])
    assert not made.decided("a")
    made.add("a", 0, FOR[0])
    assert made.decided("a")


def test_a_decided_text_stays_decided_when_a_path_that_had_begun_disagrees():
    made = ballot()
    for path, label in enumerate((0, 0, 0, 1)):
        made.add("a", path, FOR[label])
    assert leader_probability([3, 1]) < 0.9
    assert made.decided("a")


def test_texts_are_decided_each_by_itself_and_never_before_the_first_paths():
    made = ballot(bound=0.6)
    made.add("a", 0, FOR[0])
    assert (made.decided("a"), made.decided("b")) == (False, False)
    made.add("a", 1, FOR[0])
    assert (made.decided("a"), made.decided("b")) == (True, False)


def test_a_vote_is_taken_after_the_shift_and_words_of_a_label_are_summed():
    shifted, summed = ballot(0.6, shift=(0.0, 5.0)), Ballot(np.zeros(2), [0, 1, 1], 0.6, range(3))
    for path in range(2):
        shifted.add("a", path, FOR[0])
        summed.add("a", path, (math.log(0.4), math.log(0.3), math.log(0.29)))
    for votes in (shifted._texts["a"].by_label, summed._texts["a"].by_label):
        assert votes.sum() == pytest.approx(2)
        assert votes.argmax() == 1


def test_a_vote_counts_more_the_surer_the_path_is():
    unsure, sure, certain = (as_vote(np.log([p, 1 - p])) for p in (0.5, 0.6, 0.99))
    assert unsure.tolist() == [0.5, 0.5]
    assert unsure[0] < sure[0] < certain[0] <= 1
    np.testing.assert_allclose(as_vote(np.log([0.2, 0.8]), 1.0), [0.2, 0.8])
