"""The linear model that stands in for a student, against scikit-learn's."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from potstill.labeler.aggregation.other_texts.stand_in import learned_answers


@pytest.fixture(scope="module")
def texts():
    """300 vectors of length 1, and soft labels that a linear rule gives them."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 12)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = 4 * vectors @ rng.normal(size=(12, 3))
    return vectors, np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)


def test_of_certain_labels_it_is_the_usual_logistic_regression(texts):
    vectors, targets = texts
    labels = targets.argmax(axis=1)
    usual = LogisticRegression(C=1 / 0.5, max_iter=5000, tol=1e-10).fit(vectors[:200] - vectors[:200].mean(axis=0), labels[:200])
    wanted = usual.predict_proba(vectors[200:] - vectors[:200].mean(axis=0))
    found = learned_answers(vectors[:200], np.eye(3)[labels[:200]], vectors[200:], ridge=0.5)
    np.testing.assert_allclose(found, wanted, atol=2e-3)


def test_soft_labels_count_as_shares_of_their_text(texts):
    vectors, targets = texts
    usual = LogisticRegression(C=1 / 0.5, max_iter=5000, tol=1e-10)
    centred = vectors[:200] - vectors[:200].mean(axis=0)
    usual.fit(np.repeat(centred, 3, axis=0), np.tile(np.arange(3), 200), sample_weight=targets[:200].ravel())
    wanted = usual.predict_proba(vectors[200:] - vectors[:200].mean(axis=0))
    found = learned_answers(vectors[:200], targets[:200], vectors[200:], ridge=0.5)
    np.testing.assert_allclose(found, wanted, atol=2e-3)


def test_labels_that_were_made_surer_are_learned_and_not_given_up(texts):
    vectors, targets = texts
    surer = targets**4 / (targets**4).sum(axis=1, keepdims=True)
    found = learned_answers(vectors[:200], surer[:200], vectors[200:])
    shares = np.bincount(found.argmax(axis=1), minlength=3) / 100
    np.testing.assert_allclose(shares, np.bincount(targets[200:].argmax(axis=1), minlength=3) / 100, atol=0.1)
