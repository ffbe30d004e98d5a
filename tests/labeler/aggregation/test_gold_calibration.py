"""The affine map is the logistic regression it claims to be, and no gold text sees its own label."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression

from potstill.contract.errors import UserError
from potstill.contract.scores.metrics import log_loss
from potstill.labeler.aggregation.gold_calibration import affine, check_gold, fit

pytestmark = pytest.mark.slow

LABELS = ["up", "down", "flat"]


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
    scale, shift = fit(x, gold, 1e-9)
    theirs = LogisticRegression(C=1e9, tol=1e-10, max_iter=10_000).fit(x, gold)
    np.testing.assert_allclose(softmax(scale * x + shift, axis=1), theirs.predict_proba(x), atol=1e-3)


def test_with_one_scale_for_two_labels_it_is_theirs_on_the_log_odds():
    probs, gold = sample(c=2)
    x = np.log(probs)
    scale, shift = fit(x, gold, 1e-9, one_scale=True)
    odds = (x[:, 1] - x[:, 0])[:, None]
    theirs = LogisticRegression(C=1e9, tol=1e-10, max_iter=10_000).fit(odds, gold)
    assert scale[0] == scale[1]
    np.testing.assert_allclose(softmax(scale * x + shift, axis=1), theirs.predict_proba(odds), atol=1e-4)


@pytest.mark.parametrize("one_scale", [True, False])
def test_no_nearby_map_has_a_lower_penalised_loss(one_scale):
    probs, gold = sample(n=60)
    x = np.log(probs)

    def value(scale, shift):
        n_scales = 1 if one_scale else 3
        change = np.concatenate([(scale - 1)[:n_scales], shift])
        return -log_softmax(scale * x + shift, axis=1)[np.arange(60), gold].mean() + 0.05 * change @ change

    scale, shift = fit(x, gold, 0.1, one_scale=one_scale)
    for step in np.random.default_rng(1).normal(size=(50, 2, 3)) * 1e-2:
        moved = np.full(3, step[0, 0]) if one_scale else step[0]
        assert value(scale + moved, shift + step[1]) > value(scale, shift)


def test_an_infinite_penalty_changes_nothing():
    probs, gold = sample()
    np.testing.assert_allclose(fit(np.log(probs), gold, 1e9), [[1, 1, 1], [0, 0, 0]], atol=1e-6)


def test_on_held_out_gold_it_undoes_a_lean_to_one_label():
    probs, gold = sample(n=300)
    assert log_loss(affine(probs, gold, ids(300), LABELS), gold) < log_loss(probs, gold) - 0.1


def test_a_sound_distribution_is_left_nearly_alone():
    probs, gold = sample(n=300, shift=(0, 0, 0), scale=1.5)
    assert log_loss(affine(probs, gold, ids(300), LABELS), gold) < log_loss(probs, gold) + 0.01


def test_what_a_gold_text_gets_does_not_depend_on_its_own_label():
    probs, gold = sample(n=40)
    before = affine(probs, gold, ids(40), LABELS)
    for text in (0, 23):
        other = gold.copy()
        other[text] = (gold[text] + 1) % 3
        after = affine(probs, other, ids(40), LABELS)
        assert (after[text] == before[text]).all()
        assert not np.array_equal(after, before)


def test_texts_without_gold_change_nothing_for_the_others_and_the_order_does_not_matter():
    probs, gold = sample(n=40)
    whole = affine(probs, gold, ids(40), LABELS)
    more = affine(np.vstack([probs, probs[:5]]), np.concatenate([gold, np.full(5, -1)]), ids(45), LABELS)
    np.testing.assert_array_equal(more[:40], whole)
    turned = affine(probs[::-1], gold[::-1], ids(40)[::-1], LABELS)
    np.testing.assert_allclose(turned[::-1], whole, atol=1e-6)


def test_rows_are_distributions_even_of_certain_ones():
    probs, gold = sample(n=40)
    probs[0] = [1, 0, 0]
    out = affine(probs, gold, ids(40), LABELS)
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out.sum(axis=1), 1, atol=1e-12)


@pytest.mark.parametrize(
    ("gold", "message"),
    [
        ([0, 1, 2] * 3, "method affine needs at least 10 texts with gold, and the run has 9; label with --gold"),
        ([-1] * 50, "method affine needs at least 10 texts with gold, and the run has 0; label with --gold"),
        ([0, 2] * 8 + [-1], "method affine needs gold texts of every label, and none of the 16 is 'down'; add some"),
    ],
)
def test_too_little_gold_is_refused(gold, message):
    with pytest.raises(UserError) as caught:
        check_gold(np.array(gold), LABELS)
    assert str(caught.value) == message
