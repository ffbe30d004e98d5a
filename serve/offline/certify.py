"""Certify a bundle: the share of texts that it may answer so that the answers are right with a stated accuracy and confidence.

A switch that is chosen by the score on the texts at hand exceeds what it states on new ones about every second time. Here switches
are tested, from the strictest on, each by an exact binomial test, until one fails: the last one that passed is certified.
Source: fixed-sequence testing in Angelopoulos et al. 2021, Learn then Test, arXiv:2110.01052.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from potstill.contract.bundle import MODEL_FILE, Certificate, Manifest, read_golden, read_manifest, write_manifest, write_sums
from potstill.contract.decision import LabelSource
from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import atomic, digest
from potstill.contract.scores.bounds import fewest_texts, lower_bound, tail, upper_bound
from potstill.contract.security.signature import SIGNATURE_FILE
from potstill.contract.system.machine import usable_cores
from potstill.contract.texts import Text, read_texts
from potstill.serve.runtime.classifier import Classifier

CARD_FILE, CARD_TITLE = "README.md", "## Certificate"
N_SWITCHES = 400  # switches that can be certified
START_SHARES = (0.25, 0.6)  # shares of answers at which a sequence of tests begins; they divide the error among them


@dataclass(frozen=True)
class CertifyConfig:
    """What is to be certified.

    Raises:
        UserError: if a value is out of range.
    """

    accuracy: float = 0.9  # of the answers given, above 0 and below 1
    confidence: float = 0.95  # above 0 and below 1
    source: LabelSource = "gold"  # whose labels the texts bear
    workers: int | None = None  # texts answered in parallel; None: as many as usable cores
    trust: bool = False  # open the bundle whatever operators and tokenizer parts are in it

    def __post_init__(self) -> None:
        """Check both shares."""
        for name in ("accuracy", "confidence"):
            if not 0 < getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name):g}; it must be above 0 and below 1")


@dataclass(frozen=True)
class Switch:
    """A probability from which on answers are given, and what they were worth."""

    sure: float  # 0 to 1
    n_answered: int
    n_right: int


def certified_switch(
    top: NDArray[np.float64], right: NDArray[np.bool_], reference: NDArray[np.float64], accuracy: float, confidence: float
) -> Switch | None:
    """The lowest switch whose answers are right with at least this accuracy; None if none can be certified.

    Which switches are tested, and in which order, depends on the reference alone, never on the texts: that is what makes the
    confidence hold. Several sequences begin at different shares of answers and divide the error among them, because the strictest
    switches leave too few answers to show anything.

    Args:
        top: float64 [N], the probability of each text's answer.
        right: bool [N], whether it is right.
        reference: float64 [R], such probabilities of other texts, which say where switches lie close together.
        accuracy, confidence: above 0 and below 1.
    """
    error = (1 - confidence) / len(START_SHARES)
    switches = np.unique(np.append(np.quantile(reference, np.linspace(1, 0, N_SWITCHES)), 0.0))[::-1]
    falling = np.sort(top)[::-1]
    hits = np.concatenate([[0], np.cumsum(right[np.argsort(-top, kind="stable")])])
    best: Switch | None = None
    for first in _starts(switches, reference, len(top), fewest_texts(accuracy, 1 - error)):
        for sure in switches[first:]:
            n = int(np.searchsorted(-falling, -sure, side="right"))
            if n == 0 or tail(int(hits[n]), n, accuracy) > error:
                break
            if best is None or n >= best.n_answered:
                best = Switch(float(sure), n, int(hits[n]))
    return best


def _starts(switches: NDArray[np.float64], reference: NDArray[np.float64], n: int, fewest: int) -> list[int]:
    """Indices of the switches at which the sequences begin: never where fewer than twice the fewest answers are expected."""
    expected = np.array([(reference >= sure).mean() for sure in switches])  # rising
    shares = [min(0.95, max(share, 2 * fewest / n)) for share in START_SHARES]
    return [min(int(np.searchsorted(expected, share)), len(switches) - 1) for share in shares]


@dataclass(frozen=True)
class CertifyReport:
    """The certificate, and how far it is from the best that hindsight knows."""

    bundle: Path
    certificate: Certificate
    skipped: str  # a line on skipped rows; empty if none was skipped

    def as_text(self) -> str:
        """What is certified, in a few lines."""
        found = self.certificate
        low = lower_bound(found.n_right, found.n_answered, found.confidence)
        what = "right" if found.source == "gold" else "as the teacher would give them, which is not accuracy"
        return "\n".join(
            [
                f"certified: answers at or above {found.sure:.3f} are {what}, at least {found.accuracy:.1%} of them, "
                f"with {found.confidence:.0%} confidence on texts of this kind",
                f"that is {found.n_answered / found.n:.1%} of {found.n} texts; {found.n_right} of {found.n_answered} were right "
                f"({found.n_right / found.n_answered:.3f}; taken alone, at least {low:.3f})",
                f"{self.bundle}: abstains from the others; later: potstill check {self.bundle} NEW_GOLD",
            ]
        )


_CERTIFY = CertifyConfig()


def certify_bundle(
    bundle: str | Path, texts: str | Path, out: str | Path | None = None, config: CertifyConfig = _CERTIFY
) -> CertifyReport:
    """Find the switch that can be certified on texts with labels, and write the bundle with it and its certificate.

    The new bundle's thresholds are that switch for every label.

    Args:
        bundle: the folder.
        texts: a file with gold labels that nothing was fitted to: not the student, its temperature or its thresholds.
        out: the folder to write; None replaces the bundle once the new one is complete.
        config: what is to be certified.
    Raises:
        FormatError: if the bundle or the texts are malformed, or a text has no label.
        UserError: if nothing can be certified, the bundle is a cascade, or the folder cannot be written.
    """
    bundle, texts, out = Path(bundle), Path(texts), Path(bundle if out is None else out)
    if out.resolve() != bundle.resolve() and out.exists() and not (out / "bundle.json").is_file() and any(out.iterdir()):
        raise UserError(f"{out}: is a folder with other files; name a bundle or a new folder")
    with Classifier.open(bundle, trust=config.trust) as classifier:
        manifest = classifier.manifest
        if manifest.cascade is not None:
            raise UserError(
                f"{bundle}: is a cascade, whose two graphs answer with two kinds of confidence; certify its slow bundle"
            )
        found = read_texts(texts, labels=manifest.labels, target=manifest.target, gold=True)
        top, right = _answers(classifier, found.texts, config.workers or usable_cores())
        reference = np.array([max(row.probs) for row in read_golden(bundle)])
        switch = certified_switch(top, right, reference, config.accuracy, config.confidence)
        if switch is None:
            raise UserError(_nothing(right, config))
        certificate = Certificate(
            accuracy=config.accuracy,
            confidence=config.confidence,
            sure=switch.sure,
            n=len(top),
            n_answered=switch.n_answered,
            n_right=switch.n_right,
            source=config.source,
            texts_digest=_digest(found.texts),
            graph_digest=digest.of_file(bundle / MODEL_FILE),
            label_shares=_shares(found.texts, manifest.labels),
        )
        with atomic.folder(out) as folder:
            for path in bundle.iterdir():
                if path.name != SIGNATURE_FILE:  # it signs the bundle as it was before
                    shutil.copyfile(path, folder / path.name)
            write_manifest(folder, _certified(manifest, certificate))
            _write_card(folder / CARD_FILE, certificate)
            write_sums(folder)
            Classifier.open(folder, trust=config.trust).close()
    return CertifyReport(out, certificate, found.skipped_line())


def _answers(classifier: Classifier, texts: Sequence[Text], workers: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(float64 [N] probability of each answer, bool [N] whether it is right); each text runs alone, as in serving."""
    labels = classifier.manifest.labels
    with ThreadPoolExecutor(workers, thread_name_prefix="answer") as pool:
        probs = np.array(list(pool.map(lambda text: classifier.scorer.probs(text.text, text.target), texts)))
    gold = np.array([labels.index(text.gold or "") for text in texts])
    return probs.max(axis=1), probs.argmax(axis=1) == gold


def _nothing(right: NDArray[np.bool_], config: CertifyConfig) -> str:
    """The reason why nothing is certified, and what to do."""
    n, fewest = len(right), fewest_texts(config.accuracy, 1 - (1 - config.confidence) / len(START_SHARES))
    found = f"no switch shows an accuracy of {config.accuracy:g} with a confidence of {config.confidence:g} on {n} texts"
    if n < 2 * fewest:
        return f"{found}; that takes at least {fewest} answers without one mistake: give more texts, {5 * fewest} or so"
    return f"{found}, of which {right.mean():.1%} are answered rightly: ask for less, give more texts, or train the student better"


def _certified(manifest: Manifest, certificate: Certificate) -> Manifest:
    """The manifest that answers from the certified switch on."""
    thresholds = dict.fromkeys(manifest.labels, certificate.sure)
    return msgspec.structs.replace(manifest, thresholds=thresholds, precision=None, certificate=certificate)


def _digest(texts: Sequence[Text]) -> str:
    """SHA-256 of the texts with targets and labels, in any order."""
    return digest.of_value(sorted([text.text, text.target or "", text.gold or ""] for text in texts))


def _shares(texts: Sequence[Text], labels: Sequence[str]) -> dict[str, float]:
    """The share of each label among the texts."""
    counts = Counter(text.gold for text in texts)
    return {label: counts[label] / len(texts) for label in labels}


def _write_card(path: Path, certificate: Certificate) -> None:
    """Put the certificate into the model card, if there is one, in place of an earlier one."""
    if not path.is_file():
        return
    by = "people's labels" if certificate.source == "gold" else "the teacher's labels: this is agreement, not accuracy"
    note = (
        f"Answers with a probability of at least {certificate.sure:.3f} are right with an accuracy of at least"
        f" {certificate.accuracy:g}, with a confidence of {certificate.confidence:g}, on texts like the {certificate.n}"
        f" that this was tested on ({by}). Of these {certificate.n_answered} were answered, {certificate.n_right} of them"
        " rightly; the bundle abstains from the others."
    )
    card = path.read_text(encoding="utf-8").partition(CARD_TITLE)[0].rstrip("\n")
    path.write_text(f"{card}\n\n{CARD_TITLE}\n\n{note}\n", encoding="utf-8", newline="\n")


@dataclass(frozen=True)
class CheckReport:
    """What new texts say of a certificate."""

    bundle: Path
    certificate: Certificate
    n: int
    n_answered: int
    n_right: int
    same_texts: bool  # whether these are the texts of the certificate
    shares: dict[str, float]  # of the labels now

    @property
    def broken(self) -> bool:
        """True if the new texts show that answers are right less often than certified, with the certificate's own confidence."""
        return (
            self.n_answered > 0
            and upper_bound(self.n_right, self.n_answered, self.certificate.confidence) < self.certificate.accuracy
        )

    def as_text(self) -> str:
        """What was found, in a few lines."""
        found, n = self.certificate, self.n_answered
        lines = [
            f"certified: {found.accuracy:.1%} of the answers right, with {found.confidence:.0%} confidence, on {found.n} texts"
        ]
        if n:
            low, high = (by(self.n_right, n, found.confidence) for by in (lower_bound, upper_bound))
            lines.append(
                f"here: {self.n_right} of {n} answers right, {self.n_right / n:.3f} [{low:.3f}, {high:.3f}]; "
                f"{n / self.n:.1%} of {self.n} texts answered, {found.n_answered / found.n:.1%} then"
            )
        before = found.label_shares
        moved = max(self.shares, key=lambda name: abs(self.shares[name] - before.get(name, 0.0)))
        lines.append(
            f"largest change of a label's share: {moved}, {before.get(moved, 0.0):.3f} then, {self.shares[moved]:.3f} here"
        )
        if self.same_texts:
            lines.append("these are the texts of the certificate: they say nothing new")
        verdict = "is broken: certify again on texts of this kind" if self.broken else "is not contradicted by these texts"
        return "\n".join([*lines, f"the certificate {verdict}"])


def check_certificate(bundle: str | Path, texts: str | Path, workers: int | None = None, *, trust: bool = False) -> CheckReport:
    """Hold a bundle's certificate against new texts with labels.

    Args:
        bundle: the folder.
        texts: a file with gold labels.
        workers: texts answered in parallel; None: as many as usable cores.
        trust: open the bundle whatever operators and tokenizer parts are in it.
    Raises:
        FormatError: if the bundle or the texts are malformed, or a text has no label.
        UserError: if the bundle has no certificate, or its graph is not the certified one.
    """
    bundle = Path(bundle)
    with Classifier.open(bundle, trust=trust) as classifier:
        certificate = read_manifest(bundle).certificate
        if certificate is None:
            raise UserError(f"{bundle}: has no certificate; make one with: potstill certify {bundle} GOLD")
        if digest.of_file(bundle / MODEL_FILE) != certificate.graph_digest:
            raise FormatError(bundle / "bundle.json", "certificate", f"is another {MODEL_FILE}'s; certify this bundle")
        found = read_texts(texts, labels=classifier.manifest.labels, target=classifier.manifest.target, gold=True)
        top, right = _answers(classifier, found.texts, workers or usable_cores())
    answered = top >= certificate.sure
    n_right = int((right & answered).sum())
    same = _digest(found.texts) == certificate.texts_digest
    shares = _shares(found.texts, classifier.manifest.labels)
    return CheckReport(bundle, certificate, len(top), int(answered.sum()), n_right, same, shares)
