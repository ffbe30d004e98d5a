"""The share of a label in many texts, from few labels that people gave and the classifier's answers to all of them.

The classifier's mean over all texts is wrong by some amount; the few texts with labels show by how much. How far the classifier is
trusted is a weight from 0 to 1, tuned so that the interval is shortest (power tuning); at 0 its answers play no part.
Source: Angelopoulos, Bates, Fannjiang, Jordan, Zrnic 2023, arXiv:2301.09633, and Angelopoulos, Duchi, Zrnic 2023, arXiv:2311.01453
(PPI++, section 6 for the weight). Where all texts are the population it is the regression estimator of survey sampling.

Those intervals hold for many labels. Here is what makes them hold for a hundred, and for rare labels:

- A share's interval is Wilson's (1927, JASA 22), with the number of texts that would be as telling without a classifier.
- The residuals get `EXTRA_MISS` of a text that the classifier misses altogether. Without it, few labels that happen to fit would
  state a certainty that nothing shows. The number was chosen by simulation on one half of five sets (docs/results.md).

Axes: N texts, n of them or beside them with labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

EXTRA_MISS = 0.25  # of a text
MAX_GAIN = 1000.0  # times as many labels that a classifier may stand for; a bound for arithmetic alone
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval."""

    value: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """From the lower end to the upper."""
        return self.high - self.low


@dataclass(frozen=True)
class Observed:
    """One quantity of the texts: what people say of few, and what the classifier says of all.

    Raises:
        ValueError: if labels and answers differ in length, or there are fewer than three labels.
    """

    gold: Values  # [n], from people
    answers: Values  # [n], the classifier's to the same texts
    everywhere: Values  # [N], the classifier's to all texts
    within: bool  # whether the n texts are a random sample of the N; else both are samples of texts of one kind

    def __post_init__(self) -> None:
        """Check the lengths."""
        if len(self.gold) != len(self.answers) or len(self.gold) < 3 or not len(self.everywhere):
            raise ValueError(f"{len(self.gold)} labels, {len(self.answers)} answers to them, {len(self.everywhere)} answers in all")

    @property
    def weight(self) -> float:
        """How far the answers are trusted, 0 to 1: the weight with the smallest variance."""
        spread = float(self.answers.var())
        if spread == 0:
            return 0.0
        both = float(((self.gold - self.gold.mean()) * (self.answers - self.answers.mean())).mean())
        return min(1.0, max(0.0, both / (spread * (1 + self._ratio))))

    @property
    def _ratio(self) -> float:
        """Labels for each text of the others: 0 where the sample is drawn from all texts, whose mean answer is then known."""
        return 0.0 if self.within else len(self.gold) / len(self.everywhere)

    def powered(self, weight: float) -> tuple[float, float, float]:
        """(estimate, its variance's part from the labels, that from the texts) with the answers at a weight."""
        n = len(self.gold)
        residuals = self.gold - weight * self.answers
        value = float(weight * self.everywhere.mean() + residuals.mean())
        squares = float(((residuals - residuals.mean()) ** 2).sum())
        unseen = 1 - n / len(self.everywhere) if self.within else 1.0
        of_texts = 0.0 if self.within else weight**2 * float(self.everywhere.var()) / len(self.everywhere)
        return value, unseen * squares / ((n - 2) * n), of_texts


def share(seen: Observed, confidence: float, extra_miss: float = EXTRA_MISS) -> Interval:
    """The share of a label in all texts.

    Args:
        seen: `gold` is 0 or 1, the answers are from 0 to 1.
        confidence: above 0 and below 1.
        extra_miss: texts that are added as missed altogether, at least 0.
    """
    n = len(seen.gold)
    value, of_labels, of_texts = seen.powered(seen.weight)
    rarer = min(seen.gold.sum(), n - seen.gold.sum())
    ratio = 1.0  # of the variance to that of the labels alone
    if rarer > 0:
        alone = float(seen.gold.var()) / (n - 1)
        unseen = 1 - n / len(seen.everywhere) if seen.within else 1.0
        ratio = min(1.0, (of_labels + of_texts) / alone + unseen * extra_miss / float(rarer))
    low, high = wilson(value, n / max(ratio, 1 / MAX_GAIN), confidence)
    value = min(max(value, 0.0), 1.0)
    return Interval(value, min(low, value), max(high, value))


def mean(seen: Observed, worth: Values, confidence: float) -> Interval:
    """The mean of a quantity over all texts.

    Args:
        seen: the quantity, between the ends of `worth`.
        worth: what it can be, rising.
        confidence: above 0 and below 1.
    """
    n, reach = len(seen.gold), float(worth[-1] - worth[0])
    value, of_labels, of_texts = seen.powered(seen.weight)
    half = student_t(confidence, n - 2) * math.sqrt(of_labels + of_texts + EXTRA_MISS * reach**2 / ((n - 2) * n))
    value = min(max(value, float(worth[0])), float(worth[-1]))
    return Interval(value, max(value - half, float(worth[0])), min(value + half, float(worth[-1])))


def share_alone(gold: Values, confidence: float) -> Interval:
    """The share of a label from people's labels alone, [n] of 0 or 1: Wilson's interval."""
    value = float(gold.mean())
    return Interval(value, *wilson(value, len(gold), confidence))


def mean_alone(gold: Values, worth: Values, confidence: float) -> Interval:
    """The mean of a quantity from people's labels alone, [n]: Student's interval. Args: worth, as for :func:`mean`."""
    n = len(gold)
    value, half = float(gold.mean()), student_t(confidence, n - 1) * float(gold.std(ddof=1)) / math.sqrt(n)
    return Interval(value, max(value - half, float(worth[0])), min(value + half, float(worth[-1])))


def wilson(share: float, n: float, confidence: float) -> tuple[float, float]:
    """Wilson's interval of a share. Args: share, taken to 0 or 1 if it is beyond; n, of texts, not always a whole number."""
    share, z = min(max(share, 0.0), 1.0), _normal(confidence)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def student_t(confidence: float, degrees: int) -> float:
    """The two-sided quantile of Student's t distribution, within 0.001 from 15 degrees of freedom on.

    Source: the expansion in 1/degrees of Fisher and Cornish 1960, Technometrics 2(2).
    """
    z = _normal(confidence)
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / degrees + second / degrees**2 + third / degrees**3


def _normal(confidence: float) -> float:
    """The two-sided quantile of the normal distribution."""
    return NormalDist().inv_cdf((1 + confidence) / 2)
