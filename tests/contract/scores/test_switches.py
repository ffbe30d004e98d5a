"""What is certified holds on texts to come as often as it says, whatever the texts, the groups and the order."""

import numpy as np
import pytest
from scipy import stats

from potstill.contract.scores.switches import (
    SWITCHES,
    Answers,
    certify_groups,
    certify_switches,
    fewest_answers,
    for_reference,
    share_at_least,
)


def drawn(rng, n, power=3.0):
    """(probability of the answer, whether it is right): answers are right as often as their probability says, and few are sure."""
    top = 1 / 3 + 2 / 3 * rng.beta(1.0, 1.0, n) ** (1 / power)
    return top, rng.random(n) < top


def some_answers(rng, n, n_reference=50):
    return Answers(*drawn(rng, n), drawn(rng, n_reference)[0])


@pytest.mark.parametrize("n", [150, 400])
@pytest.mark.parametrize("accuracy", [0.8, 0.9])
def test_the_true_accuracy_is_below_the_certified_one_no_oftener_than_the_error(n, accuracy):
    rng = np.random.default_rng(7)
    fresh, _ = drawn(rng, 200_000)  # of which the accuracy above a switch is known: it is the mean probability
    wrong = 0
    for _ in range(200):
        best = certify_switches(some_answers(rng, n), accuracy, 0.1).best
        wrong += best is not None and fresh[fresh >= best.sure].mean() < accuracy
    assert wrong <= 200 * 0.1 + 2 * np.sqrt(200 * 0.1 * 0.9)


@pytest.mark.parametrize(("n", "accuracy", "error"), [(60, 0.9, 0.05), (200, 0.8, 0.05), (200, 0.95, 0.2)])
def test_one_switch_passes_exactly_where_the_beta_quantile_says_so(n, accuracy, error):
    same, chance = np.full(n, 0.7), 0.0
    for n_right in range(n + 1):  # every outcome with its probability at the limit: nothing is drawn
        right = np.arange(n) < n_right
        passed = certify_switches(Answers(same, right, np.full(20, 0.7)), accuracy, error).best is not None
        assert passed == (n_right > 0 and stats.beta.ppf(error, n_right, n - n_right + 1) >= accuracy)
        chance += passed * stats.binom.pmf(n_right, n, accuracy)
    assert error / 5 < chance <= error


def test_more_texts_certify_a_larger_share_and_hindsight_is_near():
    rng, reached = np.random.default_rng(1), []
    for n in (200, 1000, 8000):
        found = [certify_switches(some_answers(rng, n), 0.9, 0.05).best for _ in range(20)]
        reached.append(np.mean([0 if best is None else best.n_answered / n for best in found]))
    falling = np.sort(drawn(rng, 200_000)[0])[::-1]
    hindsight = np.mean(np.cumsum(falling) / np.arange(1, len(falling) + 1) >= 0.9)
    assert reached == sorted(reached)
    assert hindsight - 0.06 < reached[-1] <= hindsight + 0.02


def test_answers_that_are_all_right_are_all_certified_and_too_few_of_them_are_not():
    top, reference = np.linspace(0.4, 0.99, 200), np.linspace(0.4, 0.99, 30)
    tested = certify_switches(Answers(top, np.ones(200, bool), reference), 0.9, 0.05)
    assert tested.complete
    assert (tested.best.sure, tested.best.n_answered, tested.best.n_right) == (0.0, 200, 200)
    few = fewest_answers(0.9, 0.05) - 1
    assert certify_switches(Answers(top[:few], np.ones(few, bool), reference), 0.9, 0.05).best is None


def test_where_the_tests_begin_depends_on_the_reference_alone_and_the_order_of_texts_is_nothing():
    rng = np.random.default_rng(3)
    top, right = drawn(rng, 500)
    reference = drawn(rng, 40)[0]
    first = {certify_switches(Answers(top, rng.permutation(right), reference), 0.6, 0.05).passed[0].sure for _ in range(5)}
    assert first == {SWITCHES[np.quantile(reference, 0.75) >= SWITCHES].max()}
    order = rng.permutation(500)
    assert certify_switches(Answers(top[order], right[order], reference), 0.7, 0.05) == certify_switches(
        Answers(top, right, reference), 0.7, 0.05
    )


@pytest.mark.parametrize(("n", "n_groups", "expected"), [(4, 1, 0), (100, 1, 20), (400, 1, 40), (5000, 1, 40), (5000, 3, 60)])
def test_at_most_a_fifth_of_the_texts_only_tells_where_to_begin_from_the_first_to_the_last(n, n_groups, expected):
    chosen = for_reference(n, n_groups)
    assert (len(chosen), chosen.sum()) == (n, expected)
    if expected:
        gaps = np.diff(np.flatnonzero(chosen))
        assert chosen[0] and chosen[-1] and gaps.max() - gaps.min() <= 1


def test_a_smaller_error_or_a_higher_accuracy_never_certifies_more():
    answers = some_answers(np.random.default_rng(5), 600)
    passed = [len(certify_switches(answers, 0.85, error).passed) for error in (0.2, 0.05, 0.01)]
    assert passed == sorted(passed, reverse=True) and passed[0] > passed[-1]
    lowest = [certify_switches(answers, accuracy, 0.05).best.sure for accuracy in (0.75, 0.8, 0.85)]
    assert lowest == sorted(lowest)


def test_one_of_several_groups_is_wrong_no_oftener_than_the_error_allows():
    rng, wrong = np.random.default_rng(11), 0
    fresh, _ = drawn(rng, 100_000)
    for _ in range(150):
        groups = {name: some_answers(rng, 250) for name in "abcd"}
        found = [tested.best for tested in certify_groups(groups, 0.87, 0.1).values()]
        wrong += any(best is not None and fresh[fresh >= best.sure].mean() < 0.87 for best in found)
    assert 0 < wrong <= 150 * 0.1 + 2 * np.sqrt(150 * 0.1 * 0.9)


def test_a_group_without_a_failure_and_one_that_is_too_small_leave_their_part_of_the_error_to_the_others():
    rng = np.random.default_rng(2)
    hard = some_answers(rng, 400)
    easy = Answers(hard.top, np.ones(400, bool), hard.reference)
    tiny = Answers(hard.top[:5], np.ones(5, bool), hard.reference)
    alone = certify_switches(hard, 0.85, 0.05)
    assert certify_groups({"hard": hard, "easy": easy, "tiny": tiny}, 0.85, 0.05)["hard"] == alone
    both = certify_groups({"hard": hard, "hard too": hard}, 0.85, 0.05)
    assert both["hard"] == both["hard too"] == certify_switches(hard, 0.85, 0.025)
    assert len(both["hard"].passed) < len(alone.passed)
    assert certify_groups({"tiny": tiny}, 0.85, 0.05)["tiny"].best is None


def test_the_share_that_is_answered_at_least_holds_for_a_switch_chosen_on_the_same_texts():
    rng, n, wrong = np.random.default_rng(4), 300, 0
    for _ in range(1000):
        tops = np.sort(rng.random(n))  # so that a switch answers one minus itself of the texts to come
        luckiest = max(share_at_least(n - i, n, 0.9) - (1 - sure) for i, sure in enumerate(tops))
        wrong += luckiest > 0
    assert 40 < wrong <= 100 + 2 * np.sqrt(90)
    assert share_at_least(0, 10, 0.95) == 0
    assert share_at_least(500, 1000, 0.99) < share_at_least(500, 1000, 0.95) < 0.5
