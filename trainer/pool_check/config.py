"""Size and seed of the samples that a check of a pool compares, and what they are of. Importing this file loads no numpy."""

from __future__ import annotations

from dataclasses import dataclass

from potstill.contract.errors import UserError

MIN_TEXTS = 50  # of a side; with fewer the interval is too wide to be useful
MOST_TEXTS = 10_000  # more would take minutes and change little


@dataclass(frozen=True)
class SampleConfig:
    """Size and seed of the sample; raises UserError if the size is out of range."""

    max_texts: int = 2000  # of each side
    seed: int = 0  # of the sample, the folds and the interval

    def __post_init__(self) -> None:
        """Check the size; raises UserError."""
        if not MIN_TEXTS <= self.max_texts <= MOST_TEXTS:
            raise UserError(f"max_texts is {self.max_texts}; it must be from {MIN_TEXTS} to {MOST_TEXTS}")


@dataclass(frozen=True)
class TextSource:
    """A file's texts."""

    name: str  # of the file, for messages
    texts: list[str]
