"""The exact test of a loss of accuracy: against enumeration, against the binomial distribution, and in its order."""

import numpy as np
import pytest
from scipy import stats

from potstill.serve.offline.net_loss import UNLIKELY, probability_of_less


@pytest.mark.parametrize(("n", "loss"), [(40, 0.1), (60, 0.05), (60, 0.3)])
def test_a_true_loss_at_the_limit_is_called_smaller_no_oftener_than_the_error(n, loss):
    counts = [(harms, gains) for harms in range(n + 1) for gains in range(n + 1 - harms)]
    called = np.array([probability_of_less(*pair, n, loss) <= 0.05 for pair in counts])
    chances = []
    for gain in [0.0, 0.003, 0.01, 0.03, 0.1, 0.2, (1 - loss) / 2]:  # every outcome with its probability: nothing is drawn
        shares = [gain + loss, gain, max(0.0, 1 - 2 * gain - loss)]
        rows = np.array([(harms, gains, n - harms - gains) for harms, gains in counts])
        chances.append(stats.multinomial.pmf(rows, n, shares)[called].sum())
    assert 0.015 < max(chances) <= 0.05


@pytest.mark.parametrize(("n_harms", "n", "loss"), [(0, 400, 0.01), (1, 400, 0.01), (3, 1000, 0.01), (20, 1000, 0.04)])
def test_without_a_gain_it_is_nearly_the_binomial_test(n_harms, n, loss):
    binomial = stats.binom.cdf(n_harms, n, loss)
    assert binomial <= probability_of_less(n_harms, 0, n, loss) <= binomial * 1.4 + UNLIKELY


@pytest.mark.parametrize(("n_harms", "n_gains", "n", "loss"), [(5, 8, 400, 0.02), (10, 10, 1000, 0.01), (60, 50, 2000, 0.02)])
def test_it_is_close_to_the_largest_probability_over_all_shares_of_gains(n_harms, n_gains, n, loss):
    def statistic(harms, changed):
        return (n * loss + changed - 2 * harms) / np.sqrt(changed + n * loss / 2)

    found, changed = statistic(n_harms, n_harms + n_gains), np.arange(n + 1)
    most = np.array([max((h for h in range(d + 1) if statistic(h, d) >= found - 1e-9), default=-1) for d in range(301)])
    largest = 0.0
    for gain in np.linspace(0, 0.1, 300):
        share = 2 * gain + loss
        chance = stats.binom.pmf(changed[:301], n, share) * stats.binom.cdf(most, changed[:301], (gain + loss) / share)
        largest = max(largest, chance.sum() if n * share < 200 else 0.0)
    assert largest * 0.999 <= probability_of_less(n_harms, n_gains, n, loss) <= largest * 1.3 + 2 * UNLIKELY


def test_more_harms_raise_it_and_more_gains_or_a_larger_limit_lower_it():
    by_harms = [probability_of_less(harms, 5, 500, 0.02) for harms in range(0, 30, 3)]
    by_gains = [probability_of_less(10, gains, 500, 0.02) for gains in range(0, 30, 3)]
    by_loss = [probability_of_less(10, 5, 500, loss) for loss in (0.0, 0.005, 0.02, 0.05, 0.3, 1.0)]
    assert by_harms == sorted(by_harms) and by_harms[0] < 0.01 and by_harms[-1] == 1
    assert by_gains == sorted(by_gains, reverse=True)
    assert by_loss == sorted(by_loss, reverse=True) and by_loss[0] == 1 and by_loss[-1] == 0


def test_it_takes_a_number_of_texts_without_one_loss_that_the_binomial_test_takes_too():
    assert probability_of_less(0, 0, 290, 0.01) > 0.05 > probability_of_less(0, 0, 302, 0.01)
