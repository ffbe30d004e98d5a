"""Select the soft labels to train on: the split into training and validation texts, and the filter by agreement."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from potstill.contract.errors import UserError
from potstill.contract.soft_label import SoftLabel

FEW_TEXTS = 1000  # to train on; between sizes at which students lost to their teacher and at which they won (docs/results.md)
_MAX_NAMED = 8  # labels in one warning
SLACK = 1e-9  # 5 of 8 paths pass a threshold written as 0.625 or as 5/8, whatever the last bit


# --- the split


def text_hash(text: str, salt: str = "") -> int:
    """The first 64 bits of SHA-256 over salt and text. Splits and folds made from it need no stored state."""
    data = f"{salt}\0{text}" if salt else text
    return int.from_bytes(hashlib.sha256(data.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def is_validation(text: str, share: float) -> bool:
    """Whether a text is held out.

    The same text is on the same side in every file and run, whatever its target or id; a larger share only adds texts to the
    held-out side.

    Args:
        text: any text.
        share: expected share of distinct texts that are held out, 0 to 1.
    """
    return text_hash(text) < share * 2**64


def split(rows: list[SoftLabel], share: float) -> tuple[list[SoftLabel], list[SoftLabel]]:
    """(training, validation) rows, each in file order. Args: share of distinct texts that are held out, 0 to 1."""
    training = [row for row in rows if not is_validation(row.text, share)]
    validation = [row for row in rows if is_validation(row.text, share)]
    return training, validation


# --- the filter


@dataclass(frozen=True)
class Selection:
    """The rows to train on, and the number of rows that were left out."""

    kept: list[SoftLabel]
    n_unread: int  # no path gave a label
    n_disagreed: int  # below the minimum agreement

    @property
    def n_dropped(self) -> int:
        """Rows left out for any reason."""
        return self.n_unread + self.n_disagreed


def was_read(row: SoftLabel) -> bool:
    """Whether any path gave the text a label; if none did, its distribution says nothing about the text."""
    return sum(row.votes.values()) > 0


def by_agreement(rows: list[SoftLabel], min_agreement: float) -> Selection:
    """Keep the rows with at least the minimum agreement, in order.

    Args:
        min_agreement: share of a text's paths, 0 to 1.
    Source: the agreement filter of arXiv:2212.11311.
    """
    read = [row for row in rows if was_read(row)]
    kept = [row for row in read if row.agreement >= min_agreement - SLACK]
    return Selection(kept, n_unread=len(rows) - len(read), n_disagreed=len(read) - len(kept))


def check_enough(source: str, rows: list[SoftLabel], selection: Selection, min_agreement: float) -> None:
    """Refuse a selection that nothing can be learned from.

    Args:
        source: where the rows come from, for the message.
        rows: the training rows before selection, at least one.
        min_agreement: the minimum that was asked for, 0 to 1.
    Raises:
        UserError: if nothing is left, or one label only.
    """
    kept = selection.kept
    if not kept:
        highest = max(row.agreement for row in rows)
        raise UserError(
            f"{source}: none of {len(rows)} training texts has an agreement of at least {min_agreement:g} (the highest is "
            f"{highest:g}); lower the minimum agreement, or label again with another prompt or teacher"
        )
    majorities = {row.majority for row in kept}
    if len(majorities) == 1:
        raise UserError(
            f"{source}: all {len(kept)} kept texts have the majority label {majorities.pop()!r}, but a student needs at least two; "
            "check the labels, add texts of the other kinds, or lower the minimum agreement"
        )


def size_note(n: int) -> str | None:
    """What to expect of a student of n texts, where they are few."""
    if n >= FEW_TEXTS:
        return None
    return (
        f"{n} texts are few: students of about 400 were up to 6 points of macro-F1 below their teacher, those of 1,700 and more "
        "above; more texts without labels help most, and report --budget shows how much"
    )


def label_warnings(rows: list[SoftLabel], labels: list[str]) -> list[str]:
    """A line that names the labels, if any, that are the majority label of no row: the student will hardly ever answer so."""
    found = {row.majority for row in rows}
    absent = [name for name in labels if name not in found]
    if not absent:
        return []
    if len(absent) == 1:
        return [f"label {absent[0]!r} is the majority label of none of the {len(rows)} kept texts"]
    named, n_more = ", ".join(map(repr, absent[:_MAX_NAMED])), len(absent) - _MAX_NAMED
    if n_more > 0:
        named += f" and {n_more} other{'s' * (n_more > 1)}"
    return [f"{len(absent)} of {len(labels)} labels are the majority label of none of the {len(rows)} kept texts: {named}"]
