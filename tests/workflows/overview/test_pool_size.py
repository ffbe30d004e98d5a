"""A small pool is told, with what more texts would bring; a large or a saturated one is not."""

import numpy as np
import pytest

from potstill.contract.soft_label import SoftLabel
from potstill.workflows.overview.pool_size import ENOUGH, LEAST, gain_by_twice, learning_curve, pool_note

LABELS = ["up", "down"]


def pool(n: int, width: int, seed: int = 0):
    """Vectors and labels of which each depends on one direction of `width`: the wider, the more texts it takes to learn."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, width)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    up = vectors @ rng.normal(size=width) > 0
    return vectors, np.where(up[:, None], [0.9, 0.1], [0.1, 0.9])


def test_the_curve_rises_where_there_is_more_to_learn_and_is_flat_where_there_is_not():
    hard, easy = learning_curve(*pool(300, 100)), learning_curve(*pool(300, 2))
    assert hard[0] < hard[1] < hard[2] and gain_by_twice(hard) > 0.02
    assert easy[0] > 0.9 and gain_by_twice(easy) < 0.01


@pytest.mark.parametrize(
    ("agreement", "gain"), [([0.5, 0.6, 0.65], 0.025), ([0.5, 0.5, 0.55], 0.05), ([0.5, 0.6, 0.6], 0.0), ([0.4, 0.5, 0.7], 0.2)]
)
def test_gains_go_on_shrinking(agreement, gain):
    assert gain_by_twice(agreement) == pytest.approx(gain)


@pytest.mark.parametrize("n", [LEAST - 1, ENOUGH])
def test_nothing_is_said_of_a_tiny_or_a_large_pool(n, monkeypatch):
    monkeypatch.setattr("potstill.workflows.overview.pool_size.embeddings", None)  # nothing is embedded for it
    row = SoftLabel("0", "t", {"up": 0.5, "down": 0.5}, {"up": 1, "down": 0}, 1.0, 1, 0.69, 1.0, "calibrated", "m", "t")
    assert pool_note([row] * n, LABELS, "all-minilm-l6-v2") is None
