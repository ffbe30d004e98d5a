"""What a person is told about soft labels: estimated shares, unsuitable words, a biased teacher, and what gold says of refining.

Axes: N texts, P paths, C labels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from potstill.labeler.aggregation.config import UNCALIBRATED, DeriveConfig
from potstill.labeler.aggregation.narrowed import outside_probs
from potstill.labeler.aggregation.other_texts.gold_check import GoldCheck
from potstill.labeler.aggregation.path_table import UNREADABLE_MASS, PathTable
from potstill.labeler.store.database import RunSettings

MAX_UNREADABLE = 0.20  # share of unreadable paths without a warning
MIN_VOTES, MAX_VOTES = 0.02, 0.90  # a label's share of the uncalibrated votes without a warning
MIN_OF_EVEN = 0.2  # with many labels, the lower bound is this fraction of an even share
STATED = "the stated ones"  # shares, in a note about calibration
_SHOWN_SHARES = 6  # labels in a note


def label_warnings(table: PathTable, settings: RunSettings, config: DeriveConfig) -> list[str]:
    """Notes on the estimated prior, and warnings about unsuitable label words and a teacher that prefers or avoids a label."""
    if table.asked is not None and table.log_prior is not None:
        outside = outside_probs(table.asked, table.log_prior[table.owners]).mean()
        return [
            f"each text was asked among at most {settings.candidates} of {len(settings.labels)} labels; the others keep what "
            f"similarity gives them, {outside:.1%} together on average; the labels' shares are brought towards "
            + ("even ones; state known shares with --prior" if config.prior is None else "the stated ones")
        ]
    lines = []
    if config.method not in UNCALIBRATED:
        shares = "even; state known shares with --prior" if config.prior is None else STATED
        lines.append(
            f"each prompt's preference for single labels is estimated on the {len(table.texts)} texts of this run and removed "
            f"until the labels' shares are {shares}"
        )
    unreadable = float(np.mean(table.mass < UNREADABLE_MASS))
    if unreadable > MAX_UNREADABLE:
        damaged = ", or its file is damaged" * (unreadable == 1)  # a download with holes loads, and writes what it likes
        lines.append(
            f"in {unreadable:.0%} of the paths the label words have a total probability below {UNREADABLE_MASS}: "
            f"the words do not suit the teacher{damaged}; choose others in task.toml (now: {', '.join(settings.words)})"
        )
    n_labels = len(settings.labels)
    votes = np.bincount(table.logprobs.argmax(axis=1), minlength=n_labels) / len(table.logprobs)
    least = min(MIN_VOTES, MIN_OF_EVEN / n_labels)
    odd = [f"{name} {share:.0%}" for name, share in zip(settings.labels, votes, strict=True) if not least <= share <= MAX_VOTES]
    if odd:
        lines.append(f"the teacher is biased (shares of its own votes: {', '.join(odd)}); do not use the methods votes and mean")
    return lines


def refining_note(shares: Mapping[str, float], check: GoldCheck | None) -> str:
    """What became of the other texts as a prior.

    Args:
        shares: of the labels, estimated with the other texts; none: they were stated.
        check: what gold says; None: it was not asked.
    """
    if check is not None and check.worse:
        return (
            f"labels are not refined by what other texts say: {check.n_gold} texts with gold became clearly worse by it "
            f"(mean squared error {check.refined_error:.3f} instead of {check.plain_error:.3f}); --refine on refines all the same"
        )
    listed = sorted(shares.items(), key=lambda pair: -pair[1])[:_SHOWN_SHARES]
    parts = ["what all other texts say is a prior for each"]
    if listed:
        parts.append("the labels' shares, estimated with it: " + ", ".join(f"{name} {share:.0%}" for name, share in listed))
    if check is not None:
        parts.append(f"{check.n_gold} texts with gold do not speak against it")
    return "; ".join(parts)
