"""What other texts say corrects a teacher that errs on single texts, confirms no error by itself, and keeps the labels' shares."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from potstill.contract.texts import Text
from potstill.labeler.aggregation.other_texts import text_prior
from potstill.labeler.aggregation.other_texts.text_prior import cross_fitted, fit, folds_of, refined


def corpus(n=900, n_labels=3, seed=0, right=0.6, spread=0.35):
    """Texts whose place in space has to do with their label, and a teacher that is right about some of them, at random."""
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, n_labels, n)
    vectors = np.eye(8)[gold] + spread * rng.normal(size=(n, 8))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    said = np.where(rng.random(n) < right, gold, rng.integers(0, n_labels, n))
    probs = np.full((n, n_labels), 0.4 / (n_labels - 1))
    probs[np.arange(n), said] = 0.6
    return [Text(f"text {i}", str(i)) for i in range(n)], vectors, probs, gold


EVEN = np.log(np.full(3, 1 / 3))


def test_errors_of_single_texts_are_corrected():
    texts, vectors, probs, gold = corpus()
    better = refined(probs, EVEN, vectors, texts)
    assert (better.argmax(axis=1) == gold).mean() > (probs.argmax(axis=1) == gold).mean() + 0.15
    log_loss = [-np.log(found[np.arange(len(gold)), gold]).mean() for found in (probs, better)]
    assert log_loss[1] < log_loss[0] - 0.2
    np.testing.assert_allclose(better.sum(axis=1), 1, atol=1e-12)


def test_a_prior_is_surer_than_the_teacher_where_a_group_of_texts_is_of_one_label():
    texts, vectors, probs, gold = corpus(spread=0.05)
    centred, before = vectors.astype(float) - vectors.mean(axis=0, dtype=float), np.broadcast_to(EVEN, probs.shape)
    prior = np.exp(cross_fitted(centred, np.log(probs) - before, before, folds_of(texts)))
    assert prior[np.arange(len(gold)), gold].mean() > 0.8 > probs.max()


def test_the_labels_shares_are_found_where_calibration_assumed_even_ones():
    rng = np.random.default_rng(0)
    texts, vectors, probs, gold = corpus(n=3000)
    kept = np.flatnonzero(rng.random(3000) < np.array([1.0, 0.5, 0.1])[gold])
    true = np.bincount(gold[kept]) / len(kept)
    better = refined(probs[kept], EVEN, vectors[kept], [texts[i] for i in kept])
    assert np.abs(better.mean(axis=0) - true).max() < 0.04 < np.abs(probs[kept].mean(axis=0) - true).max()


def test_what_was_believed_before_is_not_counted_twice():
    texts, vectors, probs, gold = corpus()
    before = np.log(np.where(np.eye(3)[gold] > 0, 0.5, 0.25))
    both = probs * np.exp(before)
    both /= both.sum(axis=1, keepdims=True)
    nothing_said = np.exp(before)
    silent = refined(nothing_said, before, np.random.default_rng(1).permutation(vectors), texts)
    np.testing.assert_allclose(silent, nothing_said, atol=1e-4)
    assert (refined(both, before, vectors, texts).argmax(axis=1) == gold).mean() > (both.argmax(axis=1) == gold).mean()


def test_where_texts_say_nothing_of_each_other_little_changes():
    texts, vectors, probs, _ = corpus()
    elsewhere = np.random.default_rng(1).permutation(vectors)  # every text is somewhere else
    better = refined(probs, EVEN, elsewhere, texts)
    assert (better.argmax(axis=1) == probs.argmax(axis=1)).mean() > 0.9


def test_the_prior_of_a_text_does_not_depend_on_what_the_teacher_says_of_it():
    texts, vectors, probs, _ = corpus(n=300)
    folds, centred = folds_of(texts), vectors.astype(float) - vectors.mean(axis=0, dtype=float)
    before, other = np.broadcast_to(EVEN, probs.shape), probs.copy()
    other[7] = [0.01, 0.01, 0.98]
    one, two = (cross_fitted(centred, np.log(found) - before, before, folds) for found in (probs, other))
    np.testing.assert_array_equal(one[folds == folds[7]], two[folds == folds[7]])
    assert (one[folds != folds[7]] != two[folds != folds[7]]).any()


def test_equal_texts_are_in_one_fold_whatever_their_ids_and_targets_tell_texts_apart():
    texts = [Text(f"same {i // 2}", str(i)) for i in range(400)]
    folds = folds_of(texts)
    np.testing.assert_array_equal(folds[::2], folds[1::2])
    assert np.bincount(folds, minlength=text_prior.N_FOLDS).min() > 40
    about = folds_of([Text("same", str(i), target=f"company {i}") for i in range(100)])
    assert len(np.unique(about)) == text_prior.N_FOLDS


def test_with_certain_evidence_it_is_the_logistic_regression_of_scikit_learn(monkeypatch):
    monkeypatch.setattr(text_prior, "_MAX_ITERATIONS", 2000)
    _, vectors, _, gold = corpus(n=400)
    centred, before = vectors.astype(float), np.broadcast_to(EVEN, (400, 3))
    weights = fit(centred, 50 * np.eye(3)[gold], before)
    logits = centred @ weights[:-1] + weights[-1]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    known = LogisticRegression(C=1 / text_prior.RIDGE, max_iter=2000, tol=1e-8).fit(centred, gold)
    np.testing.assert_allclose(probs, known.predict_proba(centred), atol=2e-3)


@pytest.mark.parametrize("n_labels", [2, 77])
def test_it_takes_two_labels_and_many(n_labels):
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(n_labels), 300)
    vectors = rng.normal(size=(300, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    better = refined(probs, np.log(np.full(n_labels, 1 / n_labels)), vectors, [Text(str(i), str(i)) for i in range(300)])
    assert better.shape == probs.shape
    assert np.isfinite(better).all()
