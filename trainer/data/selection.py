"""Which soft labels are worth training on: those whose paths agree enough, provided that they still tell labels apart."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from potstill.contract.errors import UserError
from potstill.contract.soft_label import SoftLabel

SLACK = 1e-9  # 5 of 8 paths pass a threshold written as 0.625 or as 5/8, whatever the last bit


@dataclass(frozen=True)
class Selection:
    """The rows to train on, and how many were left out."""

    kept: list[SoftLabel]
    n_unread: int  # no path gave a label
    n_disagreed: int  # below the wanted agreement

    @property
    def n_dropped(self) -> int:
        """Rows left out for any reason."""
        return self.n_unread + self.n_disagreed


def was_read(row: SoftLabel) -> bool:
    """Whether any path gave the text a label; if none did, its distribution says nothing about the text."""
    return sum(row.votes.values()) > 0


def by_agreement(rows: list[SoftLabel], min_agreement: float) -> Selection:
    """The rows with at least the wanted agreement (0 to 1), in order.

    Source: the agreement filter of arXiv:2212.11311.
    """
    read = [row for row in rows if was_read(row)]
    kept = [row for row in read if row.agreement >= min_agreement - SLACK]
    return Selection(kept, n_unread=len(rows) - len(read), n_disagreed=len(read) - len(kept))


def check_enough(path: Path, rows: list[SoftLabel], selection: Selection, min_agreement: float) -> None:
    """Refuse a selection that nothing can be learned from.

    Args:
        path: the soft-label file, for the message.
        rows: what was selected from, at least one.
    Raises:
        UserError: if nothing is left, or one label only.
    """
    kept = selection.kept
    if not kept:
        highest = max(row.agreement for row in rows)
        raise UserError(
            f"{path}: none of {len(rows)} training texts has an agreement of at least {min_agreement:g} (the highest is "
            f"{highest:g}); lower the wanted agreement, or label again with another prompt or teacher"
        )
    majorities = {row.majority for row in kept}
    if len(majorities) == 1:
        raise UserError(
            f"{path}: all {len(kept)} kept texts have the majority label {majorities.pop()!r}, but a student needs at least two; "
            "look at the labels, add texts of the other kinds, or lower the wanted agreement"
        )


def label_warnings(rows: list[SoftLabel], labels: list[str]) -> list[str]:
    """A line for every label that is the majority label of no row: the student will hardly ever answer it."""
    counts = Counter(row.majority for row in rows)
    return [f"label {name!r} is the majority label of none of the {len(rows)} kept texts" for name in labels if not counts[name]]


def is_validation(text: str, share: float) -> bool:
    """Whether a text is held out.

    The same text is on the same side in every file and run, whatever its target or id; a larger share only adds texts to the
    held-out side.

    Args:
        text: any text.
        share: expected share of distinct texts that are held out, 0 to 1.
    """
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def split(rows: list[SoftLabel], share: float) -> tuple[list[SoftLabel], list[SoftLabel]]:
    """(training, validation) rows, each in file order."""
    training = [row for row in rows if not is_validation(row.text, share)]
    validation = [row for row in rows if is_validation(row.text, share)]
    return training, validation
