"""Label inside a time budget: texts in the order of their use, in rounds that end in time, each followed by its soft labels.

How long a text takes is measured in every round, so other work on the machine shortens the next round and not the labels. A round
labels its texts completely, in all prompt variants. The rounds are few because each pays for the shared prefixes again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from potstill.contract.texts import Text
from potstill.labeler.run.label import LabelReport
from potstill.labeler.store.database import Run

ROUND_SHARES = (0.15, 0.6, 0.9)  # of the time left: the first round measures, the last ones leave room for an error
NOT_WORTH_A_ROUND = 0.04  # share of the whole budget; less time than that is left over
N_BLIND = 4  # texts of a first round about whose pace nothing is known
_FIRST_SETTLE = 0.02  # share of the budget to keep for the first soft labels
_SETTLE_MARGIN = 1.3  # soft labels of more texts take longer, and not exactly in proportion

Ask = Callable[[Sequence[Text], float], LabelReport]  # draw the missing paths of these texts, until a moment of the clock
Settle = Callable[[Run], None]  # derive and write the soft labels of what is stored


@dataclass(frozen=True)
class TimeBudget:
    """A stretch of time on the clock `time.monotonic()`."""

    began: float  # seconds
    seconds: float

    @property
    def ends(self) -> float:
        """Its last moment."""
        return self.began + self.seconds

    @property
    def left(self) -> float:
        """Seconds until then; below 0 after it."""
        return self.ends - time.monotonic()

    def first_part(self, share: float) -> TimeBudget:
        """Its beginning. Args: share, above 0, up to 1."""
        return replace(self, seconds=share * self.seconds)


def label_in_time(
    ask: Ask, settle: Settle, texts: Sequence[Text], budget: TimeBudget, *, n_done: int = 0, text_s: float | None = None
) -> LabelReport:
    """Label as many texts as the budget allows, the first ones first, and derive their soft labels inside it.

    Args:
        ask: called with all texts up to the wanted one, those of earlier rounds and commands too.
        settle: called after every round.
        texts: at least one, in the order of their use.
        n_done: of the first texts that have all their paths from earlier commands.
        text_s: about how many seconds a text will take; None: unknown.
    Returns:
        Counts over all rounds; `n_texts` are the texts that were reached.
    """
    reached, n_drawn, drawing_s, n_rounds = min(n_done, len(texts) - 1), 0, 0.0, 0
    settle_text_s: float | None = None  # seconds of a text's soft label
    while True:
        left = budget.left - _settling(settle_text_s, budget, reached + max(0.0, budget.left) / text_s if text_s else reached)
        share = ROUND_SHARES[min(n_rounds, len(ROUND_SHARES) - 1)]
        n = _round_size(share * left, ROUND_SHARES[-1] * left if n_rounds else 0, len(texts) - reached, text_s)
        began = time.monotonic()
        report = ask(texts[: reached + n], budget.ends - _settling(settle_text_s, budget, reached + n))
        ended = time.monotonic()
        if report.n_paths:
            settle(report.run)
        n_rounds, reached, n_drawn, drawing_s = n_rounds + 1, reached + n, n_drawn + report.n_drawn, drawing_s + ended - began
        text_s, settle_text_s = (ended - began) / n, _SETTLE_MARGIN * (time.monotonic() - ended) / reached
        spare = budget.left - _settling(settle_text_s, budget, reached)
        if reached == len(texts) or not report.in_time or spare < NOT_WORTH_A_ROUND * budget.seconds:
            return replace(report, n_texts=reached, n_drawn=n_drawn, seconds=drawing_s)


def _settling(settle_text_s: float | None, budget: TimeBudget, n_texts: float) -> float:
    """Seconds to keep for the soft labels of so many texts. Args: settle_text_s, of one text; None: not known yet."""
    return _FIRST_SETTLE * budget.seconds if settle_text_s is None else settle_text_s * n_texts


def _round_size(seconds: float, most_s: float, n_rest: int, text_s: float | None) -> int:
    """Number of texts of a round, from 1 to ``n_rest``.

    Args:
        seconds: that the round may take.
        most_s: if all remaining texts fit into that, they are all taken.
        text_s: seconds a text; None: unknown.
    """
    if text_s is None:
        return min(N_BLIND, n_rest)
    if n_rest * text_s <= most_s:
        return n_rest
    return max(1, min(n_rest, int(max(seconds, 0) / max(text_s, 1e-9))))
