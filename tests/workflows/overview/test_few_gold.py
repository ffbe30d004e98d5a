"""The yardstick of a few gold labels, with the real backbone."""

import numpy as np
import pytest

from potstill.contract.texts import Text
from potstill.models.catalog import find_backbone
from potstill.trainer.config import TrainConfig
from potstill.workflows.overview.few_gold import N_GOLD, few_gold

pytestmark = pytest.mark.slow

KINDS = (["prices rose", "gains everywhere"], ["nothing happened", "a quiet day"], ["prices fell", "losses everywhere"])


@pytest.fixture(scope="module")
def texts():
    """100 texts of three kinds, and the kind of each."""
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 3, 100)
    return [Text(f"{KINDS[kind][int(rng.integers(2))]} on day {i}", str(i)) for i, kind in enumerate(gold)], gold


def answered(texts, gold):
    return few_gold(texts, gold, 4, find_backbone(TrainConfig.backbone).path)


def test_forty_labels_tell_three_plain_kinds_apart(texts):
    probs = answered(*texts)
    assert probs.sum(axis=1) == pytest.approx(1)
    assert (probs.argmax(axis=1) == texts[1]).mean() > 0.9
    assert probs[:, 3].max() < 0.05  # a label that no text has


def test_no_text_is_answered_by_what_learned_from_it(texts):
    before = answered(*texts)
    for row in (0, 41, 99):
        gold = texts[1].copy()
        gold[row] = (gold[row] + 1) % 3
        assert answered(texts[0], gold)[row] == pytest.approx(before[row], abs=1e-12)


def test_too_few_texts_or_labels_have_no_answer(texts):
    some, gold = texts
    assert answered(some[: 2 * N_GOLD - 1], gold[: 2 * N_GOLD - 1]) is None
    assert answered(some, np.zeros(100, np.int64)) is None
