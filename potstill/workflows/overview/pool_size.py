"""Whether a pool is too small for a student, and what more texts would bring: a stand-in's learning curve, without gold.

A linear model over the embeddings learns the labels of a part of the texts and is asked about others. How often it agrees with
their labels grows with the part; where it still grows, so will the student. With some 400 texts of three labels a student was
five points of macro-F1 below its teacher, from about 1,000 on the curves were flat (docs/results.md).

Axes: N texts, H width, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from potstill.contract.soft_label import SoftLabel
from potstill.contract.texts import Text
from potstill.labeler.aggregation.other_texts.stand_in import learned_answers
from potstill.labeler.embeddings import embeddings
from potstill.labeler.encoder_at_hand import encoder_at_hand

ENOUGH = 1000  # texts, from which on nothing is said
LEAST = 40  # texts; with fewer there is no curve
PARTS = (0.25, 0.5, 1.0)  # of the texts that are learned from
HELD_OUT = 0.2
N_DRAWS = 10
WORTH_SAYING = 0.01  # expected of twice as many texts; less is not worth labelling them


def pool_note(rows: Sequence[SoftLabel], labels: Sequence[str], backbone: str) -> str | None:
    """A line for a person if the pool is small and more texts would help; None if not, or no encoder is at hand.

    Args:
        rows: the soft labels that a student is to learn, N of them.
        labels: their names.
        backbone: of the embeddings.
    Raises:
        FormatError: if the encoder cannot be read.
    """
    if not LEAST <= len(rows) < ENOUGH:
        return None
    folder, _ = encoder_at_hand(backbone)
    if folder is None:
        return None
    probs = np.array([[row.probs[name] for name in labels] for row in rows])
    agreement = learning_curve(embeddings([Text(row.text, row.id, row.target) for row in rows], folder.path), probs)
    more = gain_by_twice(agreement)
    if more < WORTH_SAYING:
        return None
    shown = ", ".join(f"{value:.2f}" for value in agreement)
    return (
        f"more texts would help: a linear model of a quarter, half and all of the {len(rows)} agrees with the labels of texts left "
        f"out on {shown}; twice as many would bring about {100 * more:.0f} points more"
    )


def learning_curve(vectors: NDArray[np.float32], probs: NDArray[np.float64]) -> list[float]:
    """How often a model of each of PARTS agrees with the likeliest labels of texts left out, mean over draws, 0 to 1.

    Args:
        vectors: float32 [N, H], rows of length 1.
        probs: float [N, C], rows sum to 1.
    """
    rng = np.random.default_rng(0)
    wanted, n_held = probs.argmax(axis=1), max(1, round(HELD_OUT * len(probs)))
    found = np.zeros((N_DRAWS, len(PARTS)))
    for draw in range(N_DRAWS):
        order = rng.permutation(len(probs))
        held, rest = order[:n_held], order[n_held:]
        for place, part in enumerate(PARTS):
            learned = rest[: max(2, round(part * len(rest)))]
            answers = learned_answers(vectors[learned], probs[learned], vectors[held])
            found[draw, place] = np.mean(answers.argmax(axis=1) == wanted[held])
    return [float(value) for value in found.mean(axis=0)]


def gain_by_twice(agreement: Sequence[float]) -> float:
    """What twice as many texts would add, if gains go on shrinking as they did; 0 where the curve is flat or falls."""
    first, second = agreement[1] - agreement[0], agreement[2] - agreement[1]
    if second <= 0:
        return 0.0
    return second * min(1.0, second / first) if first > 0 else second
