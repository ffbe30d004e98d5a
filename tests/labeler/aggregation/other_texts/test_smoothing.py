"""Neighbours are the most similar other texts, and smoothing is the mixture that it says it is."""

import numpy as np
import pytest

from potstill.contract.errors import UserError
from potstill.labeler.aggregation.other_texts import smoothing
from potstill.labeler.aggregation.other_texts.smoothing import Neighbours, nearest, smoothed


def points(n=60, h=8, seed=0):
    drawn = np.random.default_rng(seed).normal(size=(n, h)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@pytest.mark.parametrize("cells", [60, 200, 10**9])
def test_they_are_the_most_similar_others_whatever_the_block(cells, monkeypatch):
    monkeypatch.setattr(smoothing, "_CELLS", cells)
    found = nearest(points(), 4)
    similarity = points().astype(float) @ points().astype(float).T
    for row in range(60):
        others = sorted((j for j in range(60) if j != row), key=lambda j: -similarity[row, j])
        assert set(found.indices[row]) == set(others[:4])
        np.testing.assert_allclose(found.weights[row], np.clip(similarity[row, found.indices[row]], 0, None), atol=1e-6)


def test_as_many_neighbours_as_there_are_other_texts_are_all_of_them():
    found = nearest(points(n=5), 4)
    assert [set(row) for row in found.indices.tolist()] == [set(range(5)) - {i} for i in range(5)]


def test_more_neighbours_than_other_texts_are_refused():
    with pytest.raises(UserError) as caught:
        nearest(points(n=5), 5)
    assert str(caught.value) == "smooth is 5 neighbours, and the run has 5 texts; ask for at most 4"


def test_the_mixture_is_own_share_and_similarity_weighted_share():
    probs = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    near = Neighbours(np.array([[1, 2], [0, 2], [0, 1]]), np.array([[0.3, 0.1], [0.0, 0.0], [0.0, 0.5]]))
    expected = [0.6 * np.array([1, 0]) + 0.4 * (0.75 * np.array([0, 1]) + 0.25 * np.array([0.5, 0.5])), [0, 1], [0.3, 0.7]]
    np.testing.assert_allclose(smoothed(probs, near, 0.4), expected)


def test_no_weight_changes_nothing_and_rows_stay_distributions():
    probs = np.random.default_rng(0).dirichlet(np.ones(3), 60)
    near = nearest(points(), 5)
    np.testing.assert_allclose(smoothed(probs, near, 0.0), probs)
    np.testing.assert_allclose(smoothed(probs, near, 0.7).sum(axis=1), 1)


def test_where_near_texts_share_their_label_smoothing_corrects_lone_errors():
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 2, 400)
    spots = np.eye(2)[gold] + 0.3 * rng.normal(size=(400, 2))
    spots = (spots / np.linalg.norm(spots, axis=1, keepdims=True)).astype(np.float32)
    right = rng.random(400) < 0.7
    probs = np.where((np.eye(2)[gold] > 0) == right[:, None], 0.7, 0.3)
    assert (smoothed(probs, nearest(spots, 15), 0.8).argmax(axis=1) == gold).mean() > right.mean() + 0.1


def test_a_text_without_a_similar_neighbour_keeps_its_distribution():
    spots = np.array([[1, 0], [1, 0], [-1, 0]], dtype=np.float32)
    near = nearest(spots, 2)
    probs = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8]])
    np.testing.assert_allclose(smoothed(probs, near, 0.5), [[0.8, 0.2], [0.8, 0.2], [0.2, 0.8]])
