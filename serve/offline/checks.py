"""Whether a bundle still does what it did, on texts of today: certificate, label shares, latency. `potstill check`, for a CI."""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from potstill.contract.bundle import Manifest
from potstill.contract.errors import FormatError, UserError
from potstill.contract.questions.head import Head, ranges
from potstill.contract.scores.bounds import lower_bound, upper_bound
from potstill.contract.system.machine import usable_cores
from potstill.contract.system.progress import ANSWER_TEXTS, counted, tell_progress
from potstill.contract.texts import Text, read_texts, texts_and_targets
from potstill.serve.config import ChecksConfig
from potstill.serve.offline.certify import CheckReport
from potstill.serve.offline.certify_questions import check as check_certificates
from potstill.serve.runtime.classifier import Classifier

N_TIMED, N_WARM_UP = 500, 20  # texts
SLOW = 0.05  # share of the texts that may take longer than the limit
CONFIDENCE = 0.95  # that more than this share does, when the limit is called broken
Verdict = Literal["holds", "is broken"]


class CheckLine(msgspec.Struct, frozen=True):
    """One check."""

    name: str  # certificate, shares or latency; of several questions with the question's name
    verdict: Verdict
    found: str  # figures, with counts and intervals

    @property
    def text(self) -> str:
        """One line."""
        return f"{self.name}: {self.verdict}; {self.found}"


class ChecksReport(msgspec.Struct, frozen=True):
    """All checks of a bundle."""

    bundle: str
    broken: bool
    checks: list[CheckLine]
    notes: list[str]

    def as_text(self) -> str:
        """A line for each check, and one for each note."""
        return "\n".join([*(one.text for one in self.checks), *(f"note: {note}" for note in self.notes)])


class MovedShare(msgspec.Struct, frozen=True):
    """A label's mean probability in some texts, beside the one that the bundle knows."""

    label: str  # of several questions `question/label`
    then: float
    now: float
    p_value: float  # at most: that they differ so much where nothing changed, with one label looked at


_CHECKS = ChecksConfig()


def check_bundle(
    bundle: str | Path, texts: str | Path | None, gold: str | Path | None, config: ChecksConfig = _CHECKS
) -> ChecksReport:
    """Check a bundle on texts of today.

    Args:
        bundle: the folder.
        texts: drawn at random from those of today, without labels, for shares and latency; None: neither is checked.
        gold: texts with labels, which the certificate is held against; None: it is not checked.
        config: false-alarm rate and limit.
    Raises:
        FormatError: if the bundle or a file is malformed.
        UserError: if there is nothing to check against: no certificate, or no recorded label shares.
    """
    bundle = Path(bundle)
    lines: list[CheckLine] = []
    notes: list[str] = []
    if gold is not None:
        found = check_certificates(bundle, gold, config.workers, trust=config.trust)
        reports = {"": found} if isinstance(found, CheckReport) else found.reports
        notes += [] if isinstance(found, CheckReport) else found.notes
        lines += [_certificate(name, report) for name, report in reports.items()]
    if texts is not None:
        with Classifier.open(bundle, trust=config.trust) as classifier:
            read = read_texts(texts, target=classifier.manifest.target)
            if not read.texts:
                raise FormatError(Path(texts), "", "has no usable text; give texts of today")
            if line := read.skipped_line():
                notes.append(line)
            lines.append(_shares(bundle, classifier, read.texts, config))
            if config.max_ms is not None:
                lines.append(_latency(classifier, read.texts, config.max_ms))
    return ChecksReport(str(bundle), any(one.verdict != "holds" for one in lines), lines, notes)


def _certificate(question: str, report: CheckReport) -> CheckLine:
    """What new gold says of a certificate."""
    known, n, right = report.certificate, report.n_answered, report.n_right
    found = f"{right} of {n} answers {known.right}"
    if n:
        low, high = lower_bound(right, n, known.confidence), upper_bound(right, n, known.confidence)
        found += f", {right / n:.3f} [{low:.3f}, {high:.3f}]"
    found += f", {known.least:g} certified; {report.n} texts, confidence {known.confidence:g}"
    if report.broken_labels:
        found += f"; broken for {', '.join(report.broken_labels)}"
    if report.same_texts:
        found += "; these are the texts of the certificate, which say nothing new"
    name = f"certificate of {question}" if question else "certificate"
    return CheckLine(name, "is broken" if report.broken else "holds", found)


def moved_share(now: float, n_now: int, then: float, n_then: int) -> float:
    """A bound of the p-value that two means of numbers from 0 to 1 differ so much, for any distribution of these numbers.

    Args:
        now, then: means of n_now and n_then independent numbers, each from 0 to 1.
    Source: Hoeffding 1963 (JASA 58), theorem 1: P(mean >= x) <= exp(-n KL(x, mu)) for x above the expectation mu, likewise below.
        The sum of both exponents at mu is at least its minimum over mu, which is at the common mean; and of two independent numbers
        with tails exp(-t) the sum exceeds c with a probability of at most (1 + c) exp(-c). Twice that, for both directions.
    """
    common = (n_now * now + n_then * then) / (n_now + n_then)
    c = n_now * _divergence(now, common) + n_then * _divergence(then, common)
    return min(1.0, 2 * (1 + c) * math.exp(-c))


def _divergence(x: float, mean: float) -> float:
    """Kullback-Leibler divergence of two Bernoulli distributions, in nats."""

    def part(a: float, b: float) -> float:
        return a * math.log(a / b) if a > 0 else 0.0

    return part(x, mean) + part(1 - x, 1 - mean)


def moved_shares(probs: NDArray[np.float64], manifest: Manifest) -> list[MovedShare]:
    """Every label with a known share, the least likely change first.

    Args:
        probs: [N, C], of all questions side by side, as :meth:`Classifier.probs` gives them.
        manifest: with the shares, and how many texts they were measured on.
    """
    found = []
    heads = manifest.heads or [Head(name="", kind="choice", labels=manifest.labels, label_shares=manifest.label_shares)]
    for head, own in zip(heads, ranges(heads), strict=True):
        scores = (manifest.scores if manifest.heads is None else head.scores).get("validation", {})
        n_then = max((score.n for score in scores.values()), default=0)
        if head.label_shares is None or head.bias is not None or not n_then:  # with a bias it was adapted to other shares
            continue
        for label, now in zip(head.labels, probs[:, own].mean(axis=0).tolist(), strict=True):
            then = head.label_shares[label]
            name = f"{head.name}/{label}" if head.name else label
            found.append(MovedShare(name, then, now, moved_share(now, len(probs), then, n_then)))
    return sorted(found, key=lambda one: one.p_value)


def _shares(bundle: Path, classifier: Classifier, texts: list[Text], config: ChecksConfig) -> CheckLine:
    """Whether the label shares are those that the bundle knows: the mean probabilities that it gave the held-out texts."""
    if classifier.manifest.cascade is not None or classifier.manifest.bias is not None:
        kind = "is a cascade" if classifier.manifest.cascade is not None else "was adapted to other label shares"
        raise UserError(f"{bundle}: {kind}, so it knows no shares of its own answers; check the bundle that it was made from")
    with ThreadPoolExecutor(config.workers or usable_cores(), thread_name_prefix="answer") as pool:
        rows = list(counted(pool.map(lambda text: classifier.probs(*texts_and_targets([text])), texts), ANSWER_TEXTS, len(texts)))
    found = moved_shares(np.concatenate(rows), classifier.manifest)
    if not found:
        raise UserError(f"{bundle}: records no label shares with the number of their texts; export it again from its checkpoint")
    p_value = min(1.0, found[0].p_value * len(found))  # of the largest change among all labels
    moved = [one for one in found if one.p_value * len(found) < config.false_alarms] or found[:1]
    told = ", ".join(f"{one.label} {one.then:.3f} then, {one.now:.3f} now" for one in moved)
    rate = f"false alarms at most {config.false_alarms:g}"
    verdict: Verdict = "is broken" if p_value < config.false_alarms else "holds"
    return CheckLine("shares", verdict, f"{told}; {len(texts)} texts, p at most {p_value:.2g}, {rate}")


def _latency(classifier: Classifier, texts: list[Text], max_ms: float) -> CheckLine:
    """Whether nearly all texts are answered within a limit, each alone, one after another, on one core."""
    timed = [texts[i % len(texts)] for i in range(max(N_TIMED, N_WARM_UP))]
    tell_progress("time answers")
    for text in timed[:N_WARM_UP]:
        classifier.classify(*texts_and_targets([text]))
    times = []
    for text in timed:
        start = time.perf_counter()
        classifier.classify(*texts_and_targets([text]))
        times.append((time.perf_counter() - start) * 1e3)
    n_slow = sum(ms > max_ms for ms in times)
    p50, p95 = np.percentile(times, [50, 95])
    broken = lower_bound(n_slow, len(times), CONFIDENCE) > SLOW
    found = f"{n_slow} of {len(times)} answers over {max_ms:g} ms, {SLOW:.0%} may be; p50 {p50:.2f} ms, p95 {p95:.2f} ms"
    return CheckLine("latency", "is broken" if broken else "holds", found)
