import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax
from support.toy_task import CLUES, FILLERS, LABELS, a_task, gold_texts, soft_label, toy_rows

from potstill.contract.scores import metrics
from potstill.trainer.data.rows import TrainingRows
from potstill.trainer.evaluation.baselines import tfidf
from potstill.trainer.evaluation.baselines.tfidf import STRENGTHS, _regressions, tfidf_answers

pytestmark = pytest.mark.slow


def answers(rows, texts, n_validation=40):
    training_rows = TrainingRows(rows[n_validation:], rows[:n_validation])
    return tfidf_answers(training_rows, LABELS, [(text.text, text.target) for text in texts])


def test_on_separable_texts_it_learns_from_soft_labels_and_beats_the_majority():
    texts = gold_texts(90)
    probs, strength = answers(toy_rows(240, a_task()), texts)
    gold = np.array([LABELS.index(text.gold) for text in texts])
    assert metrics.accuracy(probs, gold) > 0.95
    shares = np.bincount(gold) / len(gold)
    assert metrics.log_loss(probs, gold) < metrics.log_loss(np.tile(shares, (len(gold), 1)), gold)
    np.testing.assert_allclose(probs.sum(axis=1), 1)
    assert strength in STRENGTHS


def test_it_gives_back_how_unsure_the_soft_labels_were():
    rows = [soft_label(f"{'rise' if i % 2 else 'fall'} {i} the", "up" if i % 2 else "down", a_task(), votes=6) for i in range(300)]
    probs, _ = tfidf_answers(TrainingRows(rows[40:], rows[:40]), LABELS, [("rise 301 the", None), ("fall 302 the", None)])
    assert probs[0, 0] == pytest.approx(6 / 8, abs=0.08)  # up, of which the teacher was three quarters sure
    assert probs[1, 2] == pytest.approx(6 / 8, abs=0.08)


def test_weighted_hard_labels_are_the_cross_entropy_of_distributions():
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=(40, 3)), rng.dirichlet(np.ones(3), 40)
    found = next(model.predict_proba(features) for strength, model in _regressions(features, targets) if strength == 3.0)

    def loss(flat):  # the same problem written out: cross-entropy plus the squared weights over 2 C, intercepts free
        weights, bias = flat[:9].reshape(3, 3), flat[9:]
        return -np.sum(targets * log_softmax(features @ weights.T + bias, axis=1)) + np.sum(weights**2) / (2 * 3.0)

    best = minimize(loss, np.zeros(12), method="BFGS", options={"gtol": 1e-6})
    expected = np.exp(log_softmax(features @ best.x[:9].reshape(3, 3).T + best.x[9:], axis=1))
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_a_target_counts_as_words():
    rows = [
        soft_label(f"{FILLERS[i % 9]} {i}", LABELS[i % 3], a_task(target=True), target=CLUES[LABELS[i % 3]][0]) for i in range(200)
    ]
    probs, _ = tfidf_answers(TrainingRows(rows[40:], rows[:40]), LABELS, [("they say", CLUES[name][0]) for name in LABELS])
    assert probs.argmax(axis=1).tolist() == [0, 1, 2]


def test_a_label_that_no_soft_label_allows_gets_no_probability():
    rows = [row for row in toy_rows(240, a_task()) if row.probs["flat"] == 0]
    assert len(rows) > 50
    probs, _ = answers(rows, gold_texts(9), n_validation=10)
    assert (probs[:, 1] == 0).all()


def test_texts_without_a_word_are_read_too():
    rows = [soft_label("🚀 " * (i + 1) if i % 2 else "💩 " * (i + 1), LABELS[i % 2], a_task()) for i in range(40)]
    probs, _ = tfidf_answers(TrainingRows(rows[10:], rows[:10]), LABELS, [("🚀", None), ("💩", None)])
    assert probs.argmax(axis=1).tolist() == [1, 0]


def test_tails_of_many_classes_are_left_out_and_hardly_change_the_answers(monkeypatch):
    rng = np.random.default_rng(1)
    features, tail = rng.normal(size=(200, 5)), 2e-4
    targets = np.full((200, 25), tail)
    targets[np.arange(200), np.arange(200) % 25] = 1 - 24 * tail
    sizes = []
    fit = tfidf.LogisticRegression.fit
    monkeypatch.setattr(
        tfidf.LogisticRegression,
        "fit",
        lambda self, rows, *args, **how: (sizes.append(rows.shape[0]), fit(self, rows, *args, **how))[1],
    )
    found = next(model.predict_proba(features) for strength, model in _regressions(features, targets) if strength == 1.0)
    assert set(sizes) == {200}
    monkeypatch.setattr(tfidf, "TAIL", 0)
    whole = next(model.predict_proba(features) for strength, model in _regressions(features, targets) if strength == 1.0)
    assert sizes[-1] == 200 * 25
    np.testing.assert_allclose(found, whole, atol=0.02)
