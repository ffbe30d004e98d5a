"""Certify a bundle: the share of texts that it may answer so that the answers are right with a stated accuracy and confidence.

`certified.py` says what can be certified; here it is written into the bundle, and held against new texts.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from potstill.contract.bundle import MODEL_FILE, Manifest, read_manifest, write_manifest, write_sums
from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import atomic, digest
from potstill.contract.interchange.notebook import Shown
from potstill.contract.promises.certificate import Certificate, CertifiedPart
from potstill.contract.questions.head import check_one_question
from potstill.contract.scores.bounds import lower_bound, upper_bound
from potstill.contract.scores.switches import fewest_answers
from potstill.contract.security.signature import SIGNATURE_FILE
from potstill.contract.system.machine import usable_cores
from potstill.contract.texts import read_texts
from potstill.serve.config import CertifyConfig
from potstill.serve.offline.certified import CARD_TITLE, Answered, answer, certificate_of, check_out, without_certificate
from potstill.serve.runtime.classifier import Classifier

CARD_FILE = "README.md"


@dataclass(frozen=True, repr=False)
class CertifyReport(Shown):
    """The certificate, and how far it is from the best that hindsight knows."""

    bundle: Path
    certificate: Certificate
    skipped: str  # a line on skipped rows; empty if none was skipped

    def as_text(self) -> str:
        """What is certified, in a few lines."""
        return "\n".join(
            [
                *certificate_lines(self.certificate),
                f"{self.bundle}: abstains from the others; later: potstill check {self.bundle} NEW_GOLD",
            ]
        )


def certificate_lines(found: Certificate) -> list[str]:
    """What is certified, and how much of the texts that is."""
    low = lower_bound(found.n_right, found.n_answered, found.confidence)
    least = "" if found.answered_share is None else f", and at least {found.answered_share:.1%} of texts of this kind"
    return [
        f"certificate of {found.name}: {statement(found)}",
        f"that is {found.n_answered / found.n:.1%} of {found.n} texts{least}; {found.n_right} of {found.n_answered} were "
        f"{found.right} ({found.n_right / found.n_answered:.3f}; taken alone, at least {low:.3f})",
        *_part_lines(found),
    ]


def statement(found: Certificate) -> str:
    """What a certificate states, in a sentence without its stop."""
    what = "right" if found.source == "gold" else "as the teacher would give them, which is not accuracy"
    where = (
        f"answers at or above {found.sure:.3f} are" if found.labels is None else "each label's answers from its own switch on are"
    )
    divided = "" if found.n_bounds == 1 else f" (of all {found.n_bounds} statements together)"
    return (
        f"{where} {what}, at least {found.least:.1%} of them, with {found.confidence:.0%} confidence{divided} on texts of this kind"
    )


def _part_lines(found: Certificate) -> list[str]:
    """A line for each label or slice."""
    lines = [_part_line(f"label {name}", part, found) for name, part in (found.labels or {}).items()]
    return lines + [_part_line(f"slice {name}", part, found) for name, part in (found.slices or {}).items()]


def _part_line(name: str, part: CertifiedPart, found: Certificate) -> str:
    """What is certified of a part."""
    counts = f"{part.n_right} of {part.n_answered} answers {found.right}, {part.n} texts"
    if part.sure is None:
        low = "always abstains; " if found.labels is not None else ""
        fewest = fewest_answers(found.least, (1 - found.confidence) / found.n_bounds)
        takes = f"; that takes at least {fewest} texts" if part.n < fewest else ""
        return f"{name}: {low}nothing is shown of it ({counts}{takes})"
    if part.holds:
        return f"{name}: certified from {part.sure:.3f} on ({counts})"
    return f"{name}: not shown at {found.sure:.3f}, only from {part.sure:.3f} on ({counts})"


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
        UserError: if nothing can be certified, the bundle is a cascade or answers several questions, or the folder
            cannot be written. Of several questions: :mod:`potstill.serve.offline.certify_questions`.
    """
    bundle, texts, out = Path(bundle), Path(texts), Path(bundle if out is None else out)
    check_out(bundle, out)
    if config.questions:
        raise UserError(f"{bundle}: answers one choice, and --question is for a bundle of several questions; leave it out")
    with Classifier.open(bundle, trust=config.trust) as classifier:
        manifest = classifier.manifest
        check_one_question(bundle, manifest, "a certificate of one choice")
        if manifest.cascade is not None:
            raise UserError(
                f"{bundle}: is a cascade, whose two graphs answer with two kinds of confidence; certify its slow bundle"
            )
        found = read_texts(texts, labels=manifest.labels, target=manifest.target, gold=True)
        answered = answer(classifier, found.texts, config.workers or usable_cores())
        certificate = certificate_of(answered, digest.of_file(bundle / MODEL_FILE), config)
    section = f"{CARD_TITLE} of {certificate.name}\n\n{card_note(certificate)}"
    write_certified(bundle, out, _certified(manifest, certificate), section, trust=config.trust)
    return CertifyReport(out, certificate, found.skipped_line())


def write_certified(bundle: Path, out: Path, manifest: Manifest, section: str, *, trust: bool) -> None:
    """Write the bundle with another manifest, and a section at the end of its model card.

    Args:
        section: replaces that of an earlier certificate.
        trust: as :meth:`Classifier.open` has it.
    Raises:
        UserError: if the folder cannot be written.
    """
    with atomic.folder(out) as folder:
        for path in bundle.iterdir():
            if path.name != SIGNATURE_FILE:  # it signs the bundle as it was before
                shutil.copyfile(path, folder / path.name)
        write_manifest(folder, manifest)
        card = folder / CARD_FILE
        if card.is_file():
            kept = without_certificate(card.read_text(encoding="utf-8")).rstrip("\n")
            card.write_text(f"{kept}\n\n{section}", encoding="utf-8", newline="\n")
        write_sums(folder)
        Classifier.open(folder, trust=trust).close()


def _certified(manifest: Manifest, certificate: Certificate) -> Manifest:
    """The manifest that answers from the certified switch on."""
    thresholds = thresholds_of(certificate, manifest.labels)
    return msgspec.structs.replace(manifest, thresholds=thresholds, precision=None, certificate=certificate)


def thresholds_of(certificate: Certificate, labels: list[str]) -> dict[str, float | None]:
    """The probability from which on each label is answered; None: never."""
    if certificate.labels is None:
        return dict.fromkeys(labels, certificate.sure)
    return {name: certificate.labels[name].sure if name in certificate.labels else None for name in labels}


def card_note(certificate: Certificate) -> str:
    """What a model card says of a certificate."""
    by = "people's labels" if certificate.source == "gold" else "the teacher's labels: this is agreement, not accuracy"
    said = statement(certificate)
    note = (
        f"{said[:1].upper()}{said[1:]}: texts like the {certificate.n} that this was tested on ({by}). Of these"
        f" {certificate.n_answered} were answered, and {certificate.n_right} of the answers were {certificate.right};"
        " the bundle abstains from the others."
    )
    lines = "".join(f"- {line}\n" for line in _part_lines(certificate))
    return f"{note}\n" + (f"\n{lines}" if lines else "")


@dataclass(frozen=True, repr=False)
class CheckReport(Shown):
    """What new texts say of a certificate."""

    bundle: Path
    certificate: Certificate
    n: int
    n_answered: int
    n_right: int
    same_texts: bool  # whether these are the texts of the certificate
    shares: dict[str, float]  # of the labels now
    labels: dict[str, tuple[int, int]] = field(default_factory=dict)  # answers and right ones, of a certificate for each label

    @property
    def broken(self) -> bool:
        """True if the new texts show that answers are right less often than certified, with the certificate's own confidence."""
        return self._shown_less(self.n_right, self.n_answered, 1) or bool(self.broken_labels)

    @property
    def broken_labels(self) -> list[str]:
        """The labels of which they show it, with the error divided among the labels."""
        return [name for name, (n, n_right) in self.labels.items() if self._shown_less(n_right, n, len(self.labels))]

    def _shown_less(self, n_right: int, n: int, n_shared: int) -> bool:
        """Whether the certified share is above the upper bound, with the error divided by a number."""
        error = (1 - self.certificate.confidence) / n_shared
        return n > 0 and upper_bound(n_right, n, 1 - error) < self.certificate.least

    def as_text(self) -> str:
        """What was found, in a few lines."""
        found, n = self.certificate, self.n_answered
        lines = [
            f"certificate of {found.name}: {found.least:.1%} of the answers, with {found.confidence:.0%} confidence, "
            f"on {found.n} texts"
        ]
        if n:
            low, high = (by(self.n_right, n, found.confidence) for by in (lower_bound, upper_bound))
            lines.append(
                f"here: {self.n_right} of {n} answers {found.right}, {self.n_right / n:.3f} [{low:.3f}, {high:.3f}]; "
                f"{n / self.n:.1%} of {self.n} texts answered, {found.n_answered / found.n:.1%} then"
            )
        lines += [f"label {name}: {n_right} of {n} answers {found.right}" for name, (n, n_right) in self.labels.items() if n]
        before = found.label_shares
        moved = max(self.shares, key=lambda name: abs(self.shares[name] - before.get(name, 0.0)))
        lines.append(
            f"largest change of a label's share: {moved}, {before.get(moved, 0.0):.3f} then, {self.shares[moved]:.3f} here"
        )
        if self.same_texts:
            lines.append("these are the texts of the certificate: they say nothing new")
        of = f" for {', '.join(self.broken_labels)}" if self.broken_labels else ""
        verdict = f"is broken{of}: certify again on texts of this kind" if self.broken else "is not contradicted by these texts"
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
        check_one_question(bundle, classifier.manifest, "a certificate of one choice")
        certificate = read_manifest(bundle).certificate
        if certificate is None:
            raise UserError(f"{bundle}: has no certificate; make one with: potstill certify {bundle} GOLD")
        check_graph_of(bundle, certificate, "certificate")
        found = read_texts(texts, labels=classifier.manifest.labels, target=classifier.manifest.target, gold=True)
        answered = answer(classifier, found.texts, workers or usable_cores())
    return held_against(bundle, certificate, answered)


def check_graph_of(bundle: Path, certificate: Certificate, field: str) -> None:
    """Raise FormatError if the bundle's graph is not the certified one."""
    if digest.of_file(bundle / MODEL_FILE) != certificate.graph_digest:
        raise FormatError(bundle / "bundle.json", field, f"is another {MODEL_FILE}'s; certify this bundle")


def held_against(bundle: Path, certificate: Certificate, answered: Answered) -> CheckReport:
    """What answers to new texts say of a certificate."""
    given = answered.given(thresholds_of(certificate, list(answered.labels)))
    right = answered.right & given
    labels = {}
    if certificate.labels is not None:
        of = [(name, answered.answers == c) for c, name in enumerate(answered.labels)]
        labels = {name: (int((given & mine).sum()), int((right & mine).sum())) for name, mine in of}
    same = answered.digest() == certificate.texts_digest
    counts = len(given), int(given.sum()), int(right.sum())
    return CheckReport(bundle, certificate, *counts, same, answered.shares(), labels)
