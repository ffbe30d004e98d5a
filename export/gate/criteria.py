"""The gate's criteria: whether a form is close enough to float, given how few texts there are to tell.

Few texts decide little, so a limit counts as exceeded only where chance does not explain it: changed labels are held against an
exact binomial test, macro-F1 against its paired bootstrap interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from potstill.export.config import DYNAMIC, ExportConfig
from potstill.export.gate.quality import FormQuality

METRICS = {"macro_f1": "macro-F1", "qwk": "quadratic kappa"}  # how a metric is called in a message
LEVEL = 0.05  # significance level of the test of changed labels
TIE = 0.15  # share of the fastest form's time: closer forms count as equally fast, since a busy machine cannot tell them apart
ROUNDING = 1e-6  # largest change of a probability that is put down to the order of float32 sums


@dataclass(frozen=True)
class _Judged:
    """What is judged: the labels of one choice, or the answers to one of several questions."""

    where: str  # begins a message: empty, or the question's name
    metric: str
    score: float
    drop: float
    drop_low: float
    flips: int
    n: int
    what: str  # that a text keeps or changes


def _judged(form: FormQuality) -> list[_Judged]:
    """Each question of a form, or its one choice."""
    if form.questions is None:
        own = form.macro_f1, form.macro_f1_drop, form.macro_f1_drop_low, form.flips, form.n
        return [_Judged("", "macro-F1", *own, "label")]
    return [
        _Judged(f"{one.name}: ", METRICS.get(one.metric, one.metric), one.score, one.drop, one.drop_low, one.flips, one.n, "answer")
        for one in form.questions
    ]


def refusal(form: FormQuality, config: ExportConfig) -> str:
    """The first limit that a form exceeds, with its numbers; empty if the form passes. Of several questions, none may."""
    for one in _judged(form):
        most = max_chance_flips(one.n, 1 - config.min_agreement)
        if not one.drop_low <= config.max_drop:  # this way round, NaN is refused too
            lost = f"{one.where}{one.metric} {one.score:.4f} is {one.drop:.4f} below float"
            return f"{lost}, and by at least {one.drop_low:.4f} whatever texts chance had drawn; allowed: {config.max_drop:g}"
        if one.flips > most:
            rate = f"where each keeps it with {config.min_agreement:g} chance explains {most}"
            return f"{one.where}{one.flips} of {one.n} texts ({one.flips / one.n:.2%}) change their {one.what}; {rate}"
    if not form.prob_change_max <= config.max_change:
        return f"a probability moves by {form.prob_change_max:.3f}; at most {config.max_change:g} is allowed"
    moved = max(form.batch_change_max, form.padding_change_max)
    if config.variant != form.variant and (form.variant == DYNAMIC or not moved <= ROUNDING):
        return f"an answer depends on what shares its batch ({moved:.2g} of a probability); take it with --variant {form.variant}"
    return ""


def caveat(form: FormQuality, config: ExportConfig) -> str:
    """The limits that a passed form exceeds within chance; empty if there are none."""
    said = []
    for one in _judged(form):
        if 1 - one.flips / one.n < config.min_agreement:
            said.append(f"{one.where}{one.flips} of {one.n} texts change their {one.what}")
        if one.drop > config.max_drop:
            said.append(f"{one.where}{one.metric} is {one.drop:.4f} below float")
    return f"{' and '.join(said)}, within what chance does on so few texts; more would tell (--pool)" if said else ""


def is_batch_invariant(form: FormQuality) -> bool:
    """True if an answer is the same alone and in any batch: to the bit in equal lengths, up to rounding where padded.

    A form that takes its ranges from the batch is never called invariant, whatever was measured.
    """
    return form.variant != DYNAMIC and form.batch_change_max == 0 and form.padding_change_max <= ROUNDING


def fastest(forms: list[FormQuality]) -> FormQuality | None:
    """The fastest form that passed; among near ties, the smallest. None if none passed."""
    passed = [form for form in forms if not form.problem]
    if not passed:
        return None
    least = min(form.ms_p50 for form in passed)
    return min((form for form in passed if form.ms_p50 <= least * (1 + TIE)), key=lambda form: (form.bytes, form.ms_p50))


def max_chance_flips(n: int, rate: float) -> int:
    """The largest number of changed labels among n texts that chance explains; more have a probability of at most `LEVEL`.

    An exact one-sided binomial test: refusing at one change more is wrong with a probability of at most `LEVEL`.

    Args:
        n: texts, at least 0.
        rate: allowed rate of changed labels, 0 to 1; 0 allows none.
    """
    at_least = 1.0  # P(X >= k)
    for k in range(n + 1):
        at_least -= _binomial(k, n, rate)  # now P(X >= k + 1)
        if at_least <= LEVEL:
            return k
    return n


def _binomial(k: int, n: int, rate: float) -> float:
    """Probability of k changes among n texts that each change with this rate."""
    if rate in (0.0, 1.0):
        return float(k == n * rate)
    log = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(log + k * math.log(rate) + (n - k) * math.log1p(-rate))
