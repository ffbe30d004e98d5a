"""A ranked order whose every beginning is spread over the embedding space, so that people do not label the same again and again.

Axes: N texts, H width.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 25  # texts that are chosen at a time
CHOICE = 4  # times as many to choose them from, those of highest worth
N_SPREAD = 2000  # texts; people do not get further, and the rest keeps its rank


def spread_ranked(worth: NDArray[np.float64], vectors: NDArray[np.float32] | None) -> NDArray[np.int64]:
    """Places of the texts, int [N]: block by block, of the texts with highest worth those that lie farthest from what came before.

    The first of a block is the one of highest worth; each other one has the largest distance to its nearest predecessor (greedy
    k-centre: Gonzalez 1985, Theoretical Computer Science 38).

    Args:
        worth: float [N].
        vectors: float32 [N, H], rows of length 1; None: the order follows worth alone.
    """
    order = np.argsort(-worth, kind="stable")
    if vectors is None:
        return order
    chosen: list[int] = []
    waiting = order.tolist()
    closest = np.full(len(worth), -np.inf, dtype=np.float32)  # cosine to the nearest text that was chosen
    looked_at = order[: N_SPREAD + BLOCK * CHOICE]
    while waiting and len(chosen) < N_SPREAD:
        candidates = waiting[: BLOCK * CHOICE]
        taken: set[int] = set()
        for number in range(min(BLOCK, len(candidates))):
            left = [i for i in candidates if i not in taken]
            best = left[0] if number == 0 else left[int(np.argmin(closest[left]))]
            taken.add(best)
            chosen.append(best)
            closest[looked_at] = np.maximum(closest[looked_at], vectors[looked_at] @ vectors[best])
        waiting = [i for i in waiting if i not in taken]
    return np.array([*chosen, *waiting], dtype=np.int64)
