"""What a text will cost, told before it is read: seconds of one core, from its number of characters."""

from __future__ import annotations

import time
from dataclasses import dataclass

from potstill.contract.bundle import Golden
from potstill.serve.runtime.classifier import Classifier

TIMED_RUNS = 3  # of each length; the quickest counts, as whatever disturbs a run makes it slower
CHARS_OF_LONGEST = 8  # characters to a token, so that the longest probe fills the model's window
LEARNING_RATE = 0.02  # of the characters to a token


@dataclass
class Cost:
    """A line through two measured lengths. Attention's square is left out: it is a few hundredths of the work at 128 tokens."""

    fixed_s: float
    per_token_s: float
    max_tokens: int
    chars_per_token: float = 5.0

    def seconds(self, n_chars: int) -> float:
        """Seconds for a text of that many characters, alone on an idle core; above 0."""
        return self.fixed_s + self.per_token_s * min(self.max_tokens, 2 + n_chars / self.chars_per_token)

    def learn(self, n_chars: int, n_tokens: int) -> None:
        """Correct the characters to a token; texts that were cut, or are nearly empty, say nothing about them."""
        if 8 <= n_tokens < self.max_tokens:
            self.chars_per_token += LEARNING_RATE * (n_chars / (n_tokens - 2) - self.chars_per_token)


def measure(classifier: Classifier, golden: list[Golden]) -> Cost:
    """The cost of a bundle's texts, timed on its shortest golden text and on one that fills the window.

    Args:
        classifier: open.
        golden: at least one text.
    """
    shortest = min(golden, key=lambda row: len(row.text))
    max_tokens = classifier.manifest.max_tokens
    words = (shortest.text.strip() or "text") + " "
    longest = (words * (max_tokens * CHARS_OF_LONGEST // len(words) + 1))[: max_tokens * CHARS_OF_LONGEST]
    n_short = min(max_tokens - 1, 2 + len(shortest.text) // 5)
    short_s, long_s = _seconds(classifier, shortest.text, shortest.target), _seconds(classifier, longest, shortest.target)
    per_token_s = max(0.0, (long_s - short_s) / (max_tokens - n_short))
    return Cost(max(short_s - per_token_s * n_short, short_s / 10), per_token_s, max_tokens)


def _seconds(classifier: Classifier, text: str, target: str | None) -> float:
    """The quickest of a few answers."""
    times = []
    for _ in range(TIMED_RUNS):
        start = time.perf_counter()
        classifier.classify([text], None if target is None else [target])
        times.append(time.perf_counter() - start)
    return min(times)
