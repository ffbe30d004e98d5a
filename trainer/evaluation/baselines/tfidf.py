"""The baseline without a network: TF-IDF of words and characters, and a multinomial logistic regression on soft labels.

Axes: N texts, F features, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion

from potstill.trainer.data.rows import TrainingRows
from potstill.trainer.data.targets import target_matrix

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # inverse regularization; the lowest validation loss decides
MAX_FEATURES = 100_000  # of each kind, the most frequent
MAX_STEPS = 2000
MIN_PROB = 1e-12
MANY_CLASSES, TAIL = 20, 1e-3  # with more classes, a probability below TAIL is left out: 77 repeats of each text take many minutes


def tfidf_answers(rows: TrainingRows, labels: list[str], texts: list[tuple[str, str | None]]) -> tuple[NDArray[np.float64], float]:
    """Train the baseline on the student's own training rows, and answer the texts.

    Args:
        rows: the student's training rows, and the validation rows, which choose the regularization.
        labels: [C], in output order.
        texts: N pairs of text and target; a target is appended to its text.
    Returns:
        (float64 [N, C], rows sum to 1; the chosen entry of STRENGTHS).
    """
    features = _features()
    training = features.fit_transform([_joined(row.text, row.target) for row in rows.training])
    validation = features.transform([_joined(row.text, row.target) for row in rows.validation])
    targets, wanted = target_matrix(rows.training, labels), target_matrix(rows.validation, labels)
    asked = features.transform([_joined(text, target) for text, target in texts])
    found = {}
    for strength, model in _regressions(training, targets):
        probs = _probs(model, validation, len(labels))
        loss = float(-np.mean(np.sum(wanted * np.log(np.maximum(probs, MIN_PROB)), axis=1)))
        found[strength] = loss, _probs(model, asked, len(labels))
    strength = min(found, key=lambda strength: found[strength][0])
    return found[strength][1], strength


def _features() -> FeatureUnion:
    """TF-IDF of words and pairs of words, and of characters within words."""
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\w+|[^\w\s]", sublinear_tf=True, max_features=MAX_FEATURES)
    chars = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, max_features=MAX_FEATURES)
    return FeatureUnion([("words", words), ("chars", chars)])


def _regressions(features: Any, targets: NDArray[np.float64]) -> Iterator[tuple[float, LogisticRegression]]:
    """Yield (strength, fitted regression) for each of STRENGTHS; the next fit changes the same object.

    scikit-learn takes only hard labels. So every text is repeated for each class that its target allows, weighted by the target,
    which is the same cross-entropy; with more than MANY_CLASSES of them, but for the targets' tails. Each regression starts from
    the one before.

    Args: features sparse [N, F]; targets float [N, C].
    """
    texts, classes = np.nonzero(targets > (TAIL if targets.shape[1] > MANY_CLASSES else 0))
    rows, weights = csr_matrix(features)[texts], targets[texts, classes]
    model = LogisticRegression(max_iter=MAX_STEPS, warm_start=True)
    for strength in STRENGTHS:
        yield strength, model.set_params(C=strength).fit(rows, classes, sample_weight=weights)


def _probs(model: LogisticRegression, features: Any, n_classes: int) -> NDArray[np.float64]:
    """float64 [N, C]: probabilities; a class that no target had gets 0. Args: features sparse [N, F]."""
    probs = np.zeros((features.shape[0], n_classes))
    probs[:, model.classes_] = model.predict_proba(features)
    return probs


def _joined(text: str, target: str | None) -> str:
    """Text and target as one text."""
    return text if target is None else f"{text}\n{target}"
