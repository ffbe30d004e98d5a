"""A measured score with its count and interval, as stored in checkpoints, bundles and summaries."""

from __future__ import annotations

from potstill.contract.files.decode import Strict


class Score(Strict):
    """A value, its 95 % interval, and the number of texts it was measured on."""

    value: float
    low: float
    high: float
    n: int

    def as_text(self) -> str:
        """`0.612 [0.570, 0.653]`."""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


Scores = dict[str, Score]  # by metric: accuracy, macro_f1, log_loss, brier, ece
