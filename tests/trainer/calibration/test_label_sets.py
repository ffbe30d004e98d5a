import numpy as np
import pytest
from mapie.classification import SplitConformalClassifier
from scipy.stats import beta
from sklearn.base import BaseEstimator, ClassifierMixin
from support.tiny_bundle import LABELS, write_bundle

from potstill.contract.errors import UserError
from potstill.contract.scores.bounds import Promise
from potstill.serve.runtime.classifier import Classifier
from potstill.trainer.calibration.label_sets import fit_label_sets

POINT = Promise("point")
pytestmark = pytest.mark.slow


def drawn(seed, n):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (n, 3))
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probs, np.array([rng.choice(3, p=row) for row in probs])


class Given(ClassifierMixin, BaseEstimator):
    """A classifier of scikit-learn whose features are the probabilities."""

    classes_ = np.arange(3)

    def fit(self, x, y):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def predict_proba(self, x):
        return np.asarray(x)

    def predict(self, x):
        return np.asarray(x).argmax(axis=1)


@pytest.mark.parametrize(("coverage", "n"), [(0.8, 40), (0.9, 12), (0.9, 137), (0.95, 500)])
def test_the_sets_are_those_of_mapie(coverage, n):
    probs, truth = drawn(0, n)
    new, _ = drawn(1, 300)
    library = SplitConformalClassifier(Given(), confidence_level=coverage, conformity_score="lac", prefit=True)
    _, expected = library.conformalize(probs, truth).predict_set(new)
    quantile = fit_label_sets(probs, truth, coverage, "gold", POINT).conformal.quantile
    assert np.array_equal(1 - new <= quantile + 1e-8, expected[:, :, 0])


def test_a_bundle_answers_with_the_very_sets_of_mapie(tmp_path):
    probs, truth = drawn(4, 80)
    made = fit_label_sets(probs, truth, 0.8, "gold", POINT).conformal
    texts = [f"{word} {'!' * n} {mark}" for word in ("rise", "fall", "stay", "the price") for n in range(4) for mark in "?.a"]
    with Classifier.open(write_bundle(tmp_path / "bundle", conformal=made)) as classifier:
        found = [answer.label_set for answer in classifier.classify(texts, sets=True)]
        new = classifier.probs(texts)
    library = SplitConformalClassifier(Given(), confidence_level=0.8, conformity_score="lac", prefit=True)
    _, expected = library.conformalize(probs, truth).predict_set(new)
    assert found == [[LABELS[c] for c in np.flatnonzero(row)] for row in expected[:, :, 0]]
    assert len({len(names) for names in found}) > 1


@pytest.mark.parametrize("coverage", [0.7, 0.9])
def test_over_many_calibration_sets_the_coverage_is_what_was_wanted_or_a_little_more(coverage):
    covered = []
    for seed in range(200):
        quantile = fit_label_sets(*drawn(seed, 60), coverage, "gold", POINT).conformal.quantile
        probs, truth = drawn(1000 + seed, 200)
        covered.append(np.mean(1 - probs[np.arange(200), truth] <= quantile + 1e-8))
    assert coverage - 0.01 < np.mean(covered) < coverage + 1 / 61 + 0.015


def test_the_quantile_is_the_textbooks_order_statistic():
    probs, truth = drawn(3, 99)
    scores = np.sort(1 - probs[np.arange(99), truth])
    assert fit_label_sets(probs, truth, 0.9, "gold", POINT).conformal.quantile == pytest.approx(scores[90 - 1], abs=1e-12)


def test_the_report_says_whose_label_is_covered():
    assert "hold the label that a person would give" in fit_label_sets(*drawn(0, 50), 0.9, "gold", POINT).as_text()
    assert "hold the teacher's label, not a person's" in fit_label_sets(*drawn(0, 50), 0.9, "teacher", POINT).as_text()
    assert (
        "90% of the sets, on average over draws of the 50 texts, hold"
        in fit_label_sets(*drawn(0, 50), 0.9, "gold", POINT).as_text()
    )
    assert "at least 90% of the sets, with 95% confidence, hold" in fit_label_sets(*drawn(0, 50), 0.9, "gold").as_text()


@pytest.mark.parametrize(("coverage", "n", "confidence"), [(0.9, 60, 0.95), (0.8, 300, 0.9), (0.95, 59, 0.95)])
def test_a_bound_takes_the_first_order_statistic_that_covers_enough_with_the_confidence(coverage, n, confidence):
    probs, truth = drawn(3, n)
    scores = np.sort(1 - probs[np.arange(n), truth])
    made = fit_label_sets(probs, truth, coverage, "gold", Promise(confidence=confidence)).conformal
    k = int(np.argmin(np.abs(scores - made.quantile))) + 1
    assert (made.quantile, made.confidence) == (pytest.approx(scores[k - 1], abs=1e-12), confidence)
    assert beta.sf(coverage, k, n - k + 1) >= confidence - 1e-9  # the share covered by the k-th of n is Beta(k, n - k + 1)
    assert k == 1 or beta.sf(coverage, k - 1, n - k + 2) < confidence


def test_over_many_calibration_sets_a_bound_is_missed_no_oftener_than_it_says():
    probs, truth = drawn(10_000, 50_000)
    scores = 1 - probs[np.arange(50_000), truth]
    covered = [np.mean(scores <= fit_label_sets(*drawn(seed, 200), 0.9, "gold").conformal.quantile) for seed in range(200)]
    assert 0 < sum(share < 0.9 for share in covered) <= 10 + 2 * np.sqrt(200 * 0.05 * 0.95)
    by_point = [np.mean(scores <= fit_label_sets(*drawn(seed, 200), 0.9, "gold", POINT).conformal.quantile) for seed in range(200)]
    assert sum(share < 0.9 for share in by_point) > 60


def test_too_few_texts_for_a_coverage_are_refused():
    with pytest.raises(
        UserError, match="^label sets are fitted on 58 texts, but a coverage of 0.95 with a confidence of 0.95 needs at least 59$"
    ):
        fit_label_sets(*drawn(0, 58), 0.95, "gold")
    with pytest.raises(UserError, match="^label sets are fitted on 18 texts, but a coverage of 0.95 needs at least 19$"):
        fit_label_sets(*drawn(0, 18), 0.95, "gold", POINT)


@pytest.mark.parametrize("coverage", [0.0, 1.0, -0.5, float("nan")])
def test_a_coverage_out_of_its_range_is_refused(coverage):
    with pytest.raises(UserError, match=f"^coverage is {coverage:g}; it must be above 0 and below 1$"):
        fit_label_sets(*drawn(0, 50), coverage, "gold", POINT)
