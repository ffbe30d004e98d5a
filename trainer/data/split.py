"""Which texts are held out for validation: decided by the text's own hash, so that added texts move no other."""

from __future__ import annotations

import hashlib

from potstill.contract.soft_label import SoftLabel


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
