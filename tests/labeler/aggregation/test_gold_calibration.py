"""The affine map is the logistic regression it claims to be, and no gold text sees its own label."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression

from potstill.contract.errors import UserError
from potstill.contract.scores.metrics import log_loss
from potstill.labeler.aggregation.gold_calibration import PRIOR, MapPrior, affine, check_gold, fit

pytestmark = pytest.mark.slow

NO_PRIOR = MapPrior(1e-9, 1e-9, 1e-9)


def sample(n=120, c=3, shift=(1.0, 0.0, -1.0), scale=0.5, seed=0):
    """Distributions that are too flat and lean to one label, with their true labels."""
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, c, n)
    logits = rng.normal(size=(n, c)) + 1.5 * np.eye(c)[gold]
    return softmax(scale * logits + np.array(shift)[:c], axis=1), gold


def ids(n):
    return [str(i) for i in range(n)]


def test_for_two_labels_an_unpenalised_fit_is_scikit_learns_logistic_regression():
    probs, gold = sample(c=2)
    x = np.log(probs)
    scale, shift = fit(x, gold, NO_PRIOR)
    theirs = LogisticRegression(C=1e9, tol=1e-10, max_iter=10_000).fit(x, gold)
    np.testing.assert_allclose(softmax(scale * x + shift, axis=1), theirs.predict_proba(x), atol=1e-3)


def test_with_one_scale_for_two_labels_it_is_theirs_on_the_log_odds():
    probs, gold = sample(c=2)
    x = np.log(probs)
    scale, shift = fit(x, gold, replace(NO_PRIOR, own_scale=1e12))
    odds = (x[:, 1] - x[:, 0])[:, None]
    theirs = LogisticRegression(C=1e9, tol=1e-10, max_iter=10_000).fit(odds, gold)
    assert scale[0] == pytest.approx(scale[1], abs=1e-6)
    np.testing.assert_allclose(softmax(scale * x + shift, axis=1), theirs.predict_proba(odds), atol=1e-4)


@pytest.mark.parametrize("prior", [PRIOR, MapPrior(3.0, 1e9, 2.0)])
def test_it_is_the_most_probable_map_after_the_texts(prior):
    probs, gold = sample(n=60)
    x = np.log(probs)

    def value(change):
        shared, own, shift = change[0], change[1:4], change[4:]
        likely = log_softmax((1 + shared + own) * x + shift, axis=1)[np.arange(60), gold].sum()
        return likely - (prior.scale * shared**2 + prior.own_scale * own @ own + prior.shift * shift @ shift) / 2

    theirs = minimize(lambda change: -value(change), np.zeros(7), method="BFGS").x
    scale, shift = fit(x, gold, prior)
    np.testing.assert_allclose(scale, 1 + theirs[0] + theirs[1:4], atol=1e-3)
    np.testing.assert_allclose(shift, theirs[4:], atol=1e-3)


@pytest.mark.parametrize("n_gold", [10, 25, 60])
def test_with_little_gold_a_sound_distribution_does_not_get_worse_on_other_texts(n_gold):
    changes = []
    for seed in range(20):
        probs, gold = sample(n=600, shift=(0, 0, 0), scale=1.5, seed=seed)
        few = np.where(np.arange(600) < n_gold, gold, -1)
        others = slice(n_gold, None)
        changes.append(log_loss(affine(probs, few, ids(600))[others], gold[others]) - log_loss(probs[others], gold[others]))
    assert np.mean(changes) < 0.01


def test_a_hundred_gold_texts_get_a_map_further_from_the_identity_than_the_prior_lets_them():
    probs, gold = sample(n=3100, shift=(2.0, 0.0, -2.0), scale=0.3)
    few = np.where(np.arange(3100) < 100, gold, -1)
    scale, shift = fit(np.log(probs[:100]), gold[:100])
    near = softmax(scale * np.log(probs[100:]) + shift, axis=1)
    assert log_loss(affine(probs, few, ids(3100))[100:], gold[100:]) < log_loss(near, gold[100:]) - 0.02


def test_a_label_that_no_gold_text_has_becomes_less_probable_and_not_impossible():
    probs, gold = sample(n=400, shift=(0, 0, 0))
    few = np.where((np.arange(400) < 40) & (gold < 2), gold, -1)
    mapped = affine(probs, few, ids(400))[40:]
    assert 0.2 < mapped[:, 2].mean() / probs[40:, 2].mean() < 0.9


def test_an_infinitely_strong_prior_changes_nothing():
    probs, gold = sample()
    np.testing.assert_allclose(fit(np.log(probs), gold, PRIOR.times(1e12)), [[1, 1, 1], [0, 0, 0]], atol=1e-6)


def test_on_held_out_gold_it_undoes_a_lean_to_one_label():
    probs, gold = sample(n=300)
    assert log_loss(affine(probs, gold, ids(300)), gold) < log_loss(probs, gold) - 0.1


def test_a_sound_distribution_is_left_nearly_alone():
    probs, gold = sample(n=300, shift=(0, 0, 0), scale=1.5)
    assert log_loss(affine(probs, gold, ids(300)), gold) < log_loss(probs, gold) + 0.01


def test_what_a_gold_text_gets_does_not_depend_on_its_own_label():
    probs, gold = sample(n=40)
    before = affine(probs, gold, ids(40))
    for text in (0, 23):
        other = gold.copy()
        other[text] = (gold[text] + 1) % 3
        after = affine(probs, other, ids(40))
        assert (after[text] == before[text]).all()
        assert not np.array_equal(after, before)


def test_texts_without_gold_change_nothing_for_the_others_and_the_order_does_not_matter():
    probs, gold = sample(n=40)
    whole = affine(probs, gold, ids(40))
    more = affine(np.vstack([probs, probs[:5]]), np.concatenate([gold, np.full(5, -1)]), ids(45))
    np.testing.assert_array_equal(more[:40], whole)
    turned = affine(probs[::-1], gold[::-1], ids(40)[::-1])
    np.testing.assert_allclose(turned[::-1], whole, atol=1e-6)


def test_rows_are_distributions_even_of_certain_ones():
    probs, gold = sample(n=40)
    probs[0] = [1, 0, 0]
    out = affine(probs, gold, ids(40))
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out.sum(axis=1), 1, atol=1e-12)


@pytest.mark.parametrize(
    ("gold", "message"),
    [
        ([0, 1, 2] * 3, "method affine needs at least 10 texts with gold, and the run has 9; label with --gold"),
        ([-1] * 50, "method affine needs at least 10 texts with gold, and the run has 0; label with --gold"),
    ],
)
def test_too_little_gold_is_refused(gold, message):
    with pytest.raises(UserError) as caught:
        check_gold(np.array(gold))
    assert str(caught.value) == message
