"""Weights by agreement find out, without gold, which variants know something."""

import numpy as np
import pytest

from potstill.labeler.aggregation.variant_weights import ABSENT, log_odds, skills, variant_weights


def votes(skill, n=4000, c=3, seed=0, shares=None):
    """Votes of variants that know the label of a share of the texts and guess the others; and the labels."""
    rng = np.random.default_rng(seed)
    gold = rng.choice(c, n, p=shares)
    knows = rng.random((n, len(skill))) < np.array(skill)
    return np.where(knows, gold[:, None], rng.integers(0, c, (n, len(skill)))), gold


@pytest.mark.parametrize("skill", [(0.8, 0.5, 0.2), (0.3, 0.3, 0.3, 0.3), (0.9, 0.6, 0.4, 0.2, 0.0)])
def test_the_skills_of_the_model_are_found_again(skill):
    np.testing.assert_allclose(skills(votes(skill, n=40_000)[0], 3), skill, atol=0.05)


def test_a_useless_variant_hardly_counts_and_equals_count_the_same():
    (weights,) = np.unique(variant_weights(votes((0.5, 0.5, 0.5, 0.0))[0], 3), axis=0)
    assert weights[3] < 0.1
    np.testing.assert_allclose(weights[:3], weights[:3].mean(), rtol=0.1)
    np.testing.assert_allclose(weights.mean(), 1)


def test_a_variant_that_always_gives_one_label_counts_nothing():
    cast, _ = votes((0.5, 0.5, 0.5, 0.5), shares=(0.7, 0.2, 0.1))
    cast[:, 3] = 0
    assert (variant_weights(cast, 3)[:, 3] == 0).all()


def test_a_variant_that_contradicts_the_others_counts_nothing():
    cast, _ = votes((0.6, 0.6, 0.6, 0.6))
    cast[:, 3] = (cast[:, 3] + 1) % 3
    assert (variant_weights(cast, 3)[:, 3] < 0.05).all()


def test_the_weighted_vote_is_right_more_often_than_the_even_one():
    cast, gold = votes((0.7, 0.15, 0.1, 0.05, 0.05))
    weights = variant_weights(cast, 3)
    ballots = np.eye(3)[cast]  # [N, V, C]
    weighted = (ballots * weights[:, :, None]).sum(axis=1).argmax(axis=1)
    assert (weighted == gold).mean() > (ballots.sum(axis=1).argmax(axis=1) == gold).mean() + 0.1


def test_a_vote_is_worth_its_log_odds():
    np.testing.assert_allclose(log_odds(np.array([0.0, 0.4]), 3), [0, np.log((0.4 + 0.2) / 0.2)])


def test_variants_asked_about_hard_texts_only_are_compared_there():
    easy, _ = votes((0.9, 0.9, 0.9, 0.9), n=1000)
    hard, _ = votes((0.3, 0.3, 0.3, 0.8), n=1000, seed=1)
    easy[:, 3] = ABSENT
    weights = variant_weights(np.vstack([easy, hard]), 3)
    assert (weights[:1000, 3] == 0).all()
    np.testing.assert_allclose(weights[:1000, :3], 1, atol=0.15)
    assert (weights[1000:, 3] > 2 * weights[1000:, 0]).all()
    np.testing.assert_allclose(weights[1000:].mean(axis=1), 1)


@pytest.mark.parametrize(
    "cast",
    [
        votes((0.9, 0.1))[0],  # two variants have one agreement
        votes((0.9, 0.1, 0.5), n=20)[0],  # too few texts
        np.zeros((50, 3), dtype=np.int64),  # nothing beyond chance
    ],
)
def test_where_nothing_can_be_said_all_count_the_same(cast):
    assert (variant_weights(cast, 3) == 1).all()
