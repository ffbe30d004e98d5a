"""What a few gold labels alone would have given: a linear classifier over embeddings, as a yardstick for a teacher's labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potstill.contract.texts import Text
from potstill.labeler.aggregation.other_texts.stand_in import learned_answers
from potstill.labeler.embeddings import embeddings

N_GOLD = 40  # what a person labels in a quarter of an hour
RIDGE = 0.1  # certain labels need less of it than a teacher's
SEED = 0


def few_gold(texts: Sequence[Text], gold: NDArray[np.int64], n_labels: int, folder: Path) -> NDArray[np.float64] | None:
    """Answer every text by a logistic regression that was trained on N_GOLD other gold texts.

    The texts are shuffled and cut into parts of N_GOLD; the texts of a part are answered by what learned from the part before it,
    those of the first and those that are left over by what learned from the last.

    Args:
        texts: N texts.
        gold: int [N], class of each.
        n_labels: C.
        folder: of the encoder.
    Returns:
        float [N, C], rows sum to 1; None if there are not two parts, or a part has one label alone.
    """
    vectors = embeddings(texts, folder)
    order = np.random.default_rng(SEED).permutation(len(texts))
    parts = [order[at : at + N_GOLD] for at in range(0, len(order) - N_GOLD + 1, N_GOLD)]
    if len(parts) < 2 or any(len(set(gold[part])) < 2 for part in parts):
        return None
    probs = np.empty((len(texts), n_labels))
    answered = [*parts[1:], np.concatenate([parts[0], order[len(parts) * N_GOLD :]])]
    for part, learned in zip(answered, parts, strict=True):
        probs[part] = learned_answers(vectors[learned], np.eye(n_labels)[gold[learned]], vectors[part], RIDGE)
    return probs
