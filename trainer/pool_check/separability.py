"""Train a small classifier to tell pool from target texts by words, characters, lengths and traits, and measure its AUC.

Axes: N texts, F features, W terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from potstill.contract.scores.metrics import N_RESAMPLES
from potstill.contract.scores.record import Score
from potstill.contract.system.progress import counted
from potstill.trainer.data.text_features import lengths, term_occurrences, trait_table


def auc_over_folds(scores: NDArray[np.float64], positive: NDArray[np.bool_], folds: NDArray[np.int64], *, seed: int = 0) -> Score:
    """Mean AUC over folds, 0 to 1, with its 95 % percentile bootstrap interval over texts.

    Only texts of the same fold are compared: other folds were scored by another classifier. Every bootstrap draw takes as many
    texts of each side of each fold as there are; the classifiers are not trained again.

    Args:
        scores: float [N], finite, higher for what is more probably positive.
        positive: bool [N].
        folds: int [N]; each fold holds texts of both sides.
    Source: Hanley, McNeil 1982, Radiology 143(1): the area is the share of pairs in the right order, equals counted half.
    """
    rng = np.random.default_rng(seed)
    names = np.unique(folds)
    value, draws = 0.0, np.zeros(N_RESAMPLES)
    for fold in names:
        inside = folds == fold
        wins = _wins(scores[inside & positive], scores[inside & ~positive])
        value += float(wins.mean())
        n_rows, n_columns = wins.shape
        rows = rng.multinomial(n_rows, np.full(n_rows, 1 / n_rows), size=N_RESAMPLES) / n_rows  # [draws, rows], sums of 1
        columns = rng.multinomial(n_columns, np.full(n_columns, 1 / n_columns), size=N_RESAMPLES) / n_columns
        draws += ((rows @ wins) * columns).sum(axis=1)
    low, high = np.percentile(draws / len(names), [2.5, 97.5])
    return Score(value=value / len(names), low=float(low), high=float(high), n=len(scores))


def _wins(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """float [len(first), len(second)]: 1 where the first is higher, 0.5 where they are equal, else 0."""
    return (np.sign(first[:, None] - second[None, :]) + 1) / 2


N_FOLDS = 5
MAX_FEATURES = 50_000  # of each kind, the most frequent
MAX_CHARS = 2000  # of a text, for characters within words; more add little
N_LENGTH_BINS = 10
MAX_STEPS = 1000
NO_TERM = ""  # the term of a text without terms, so that the vocabulary is never empty


@dataclass(frozen=True)
class TextFeatures:
    """Features of N texts. They do not depend on the sides, so they may be computed before the split into folds."""

    words: Any  # sparse [N, W], TF-IDF of terms, rows of length 1
    chars: Any  # sparse [N, F], TF-IDF of characters within words
    form: Any  # sparse [N, F], lengths and traits
    counts: Any  # sparse int [N, W], of terms
    terms: list[str]  # [W]


def extract_features(texts: list[str]) -> TextFeatures:
    """Compute the features of the texts. Args: texts [N], at least one, none of them blank."""
    counter = CountVectorizer(analyzer=_terms, max_features=MAX_FEATURES)
    counts = csr_matrix(counter.fit_transform(texts))
    words = TfidfTransformer(sublinear_tf=True).fit_transform(counts)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, max_features=MAX_FEATURES)
    chars = characters.fit_transform([text[:MAX_CHARS] for text in texts])
    return TextFeatures(words, chars, csr_matrix(_form(texts)), counts, counter.get_feature_names_out().tolist())


def cross_validated_auc(features: Any, is_pool: NDArray[np.bool_], seed: int) -> Score:
    """AUC of a classifier on these features, with each text scored by one that was not trained on it.

    Args:
        features: sparse [N, F].
        is_pool: bool [N]; at least N_FOLDS texts of each side.
        seed: of folds and bootstrap.
    """
    matrix = csr_matrix(features)
    scores, folds = np.zeros(len(is_pool)), np.zeros(len(is_pool), dtype=np.int64)
    cut = StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed).split(matrix, is_pool)
    for fold, (seen, held_out) in enumerate(counted(cut, "train on folds", N_FOLDS)):
        scores[held_out] = _regression(matrix[seen], is_pool[seen]).decision_function(matrix[held_out])
        folds[held_out] = fold
    return auc_over_folds(scores, is_pool, folds, seed=seed)


def all_features(read: TextFeatures) -> Any:
    """sparse [N, F]: all features side by side."""
    return hstack([read.words, read.chars, read.form]).tocsr()


def word_weights(read: TextFeatures, is_pool: NDArray[np.bool_]) -> NDArray[np.float64]:
    """float64 [W]: weights of the terms in a classifier on all features and texts; above 0 for terms of the pool."""
    return np.asarray(_regression(all_features(read), is_pool).coef_[0, : len(read.terms)], dtype=np.float64)


def _regression(features: Any, is_pool: NDArray[np.bool_]) -> LogisticRegression:
    """Fit the classifier. Args: features sparse [N, F]."""
    return LogisticRegression(max_iter=MAX_STEPS).fit(features, is_pool)


def _terms(text: str) -> list[str]:
    """The terms of a text; at least one."""
    return term_occurrences(text) or [NO_TERM]


def _form(texts: list[str]) -> NDArray[np.float64]:
    """float64 [N, F]: the standardized log length, its decile one-hot, and the traits."""
    sizes = np.log(lengths(texts))
    edges = np.quantile(sizes, np.linspace(0, 1, N_LENGTH_BINS + 1)[1:-1])
    bins = np.eye(N_LENGTH_BINS)[np.searchsorted(edges, sizes)]
    spread = float(sizes.std()) or 1.0
    return np.hstack([((sizes - sizes.mean()) / spread)[:, None], bins, trait_table(texts)])
