"""What a person should know before trusting the soft labels of a run, each as one line.

Axes: P paths, C labels.
"""

from __future__ import annotations

import numpy as np

from potstill.labeler.aggregation.config import UNCALIBRATED, DeriveConfig
from potstill.labeler.aggregation.path_table import UNREADABLE_MASS, PathTable
from potstill.labeler.store.label_store import RunSettings

MAX_UNREADABLE = 0.20  # share of such paths
MIN_VOTES, MAX_VOTES = 0.02, 0.90  # share of the uncalibrated votes that a label may have
MIN_OF_EVEN = 0.2  # with many labels, the lower bound is this part of an even share


def doubts(table: PathTable, settings: RunSettings, config: DeriveConfig) -> list[str]:
    """Lines about where the prior is estimated, label words that do not fit, and a teacher that favours or shuns a label."""
    lines = []
    if config.method not in UNCALIBRATED:
        shares = "even; state known shares with --prior" if config.prior is None else "the stated ones"
        lines.append(
            f"each prompt's preference for single labels is estimated on the {len(table.texts)} texts of this run and taken out "
            f"until the labels' shares are {shares}"
        )
    unreadable = float(np.mean(table.mass < UNREADABLE_MASS))
    if unreadable > MAX_UNREADABLE:
        lines.append(
            f"{unreadable:.0%} of the paths give all label words together a probability below {UNREADABLE_MASS}: "
            f"the words do not fit the teacher; choose others in task.toml (now: {', '.join(settings.words)})"
        )
    n_labels = len(settings.labels)
    votes = np.bincount(table.logprobs.argmax(axis=1), minlength=n_labels) / len(table.logprobs)
    least = min(MIN_VOTES, MIN_OF_EVEN / n_labels)
    odd = [f"{name} {share:.0%}" for name, share in zip(settings.labels, votes, strict=True) if not least <= share <= MAX_VOTES]
    if odd:
        lines.append(f"the teacher is biased (shares of its own votes: {', '.join(odd)}); do not use the methods votes and mean")
    return lines
