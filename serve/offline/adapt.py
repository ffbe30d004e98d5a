"""Adapt a bundle to texts with other label frequencies than those it was made for (prior shift)."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from potstill.contract.bundle import Manifest, read_golden, write_golden, write_manifest, write_sums
from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import atomic
from potstill.contract.promises.certificate import Certificate
from potstill.contract.questions.head import check_one_question
from potstill.contract.scores.prior_shift import MIN_TEXTS, Shift, estimate
from potstill.contract.security.signature import SIGNATURE_FILE
from potstill.contract.system.machine import usable_cores
from potstill.contract.system.progress import ANSWER_TEXTS, counted
from potstill.contract.texts import Text, Texts, read_texts, texts_and_targets
from potstill.serve.config import AdaptConfig
from potstill.serve.offline.certified import check_out, without_certificate
from potstill.serve.runtime.classifier import Classifier, softmax
from potstill.serve.runtime.session import this_machine

CARD_FILE, CARD_TITLE = "README.md", "## Adapted to other label shares"


@dataclass(frozen=True)
class AdaptReport:
    """The estimated label shares, and the bundle written for them."""

    bundle: Path
    manifest: Manifest
    shift: Shift
    level: float
    skipped: str  # a line on skipped rows; empty if none was skipped
    certificate: Certificate | None = None  # that the bundle had

    def as_text(self) -> str:
        """A table of the label shares, and what changed in the new bundle."""
        shift, lines = self.shift, share_lines(self.manifest.labels, self.shift)
        test = f"likelihood-ratio test on {shift.n} texts: p = {shift.p_value:.2g}"
        if self.manifest.bias is None:
            lines.append(f"{test}, not below {self.level:g}: no clear shift, so {self.bundle} answers as before")
            if self.manifest.certificate is not None:
                lines.append("the certificate stays, for texts of its kind: potstill check tells more, with gold labels")
            return "\n".join(lines)
        lines.append(f"{test}; {self.bundle} answers for these shares")
        if self.manifest.thresholds:
            lines.append("thresholds are unchanged; to know their precision on these texts, measure it on gold labels")
        if self.certificate is not None:
            lines.append(self._uncertified(self.certificate))
        return "\n".join([*lines, "label sets are removed: their coverage does not hold after a shift"])

    def _uncertified(self, certificate: Certificate) -> str:
        """What the shift does to a certificate."""
        line = f"the certificate of {certificate.name} is removed: it held for other label shares, and for other probabilities"
        found = certificate.estimate(dict(zip(self.manifest.labels, self.shift.shares.tolist(), strict=True)))
        if found is not None:
            then = certificate.n_right / certificate.n_answered if certificate.n_answered else 0.0
            line += (
                f" (an estimate: with these shares {found:.1%} of the answers of the bundle as it was would be right; "
                f"it was {then:.1%} then, {certificate.least:.1%} certified)"
            )
        return f"{line}; certify again on texts with these shares"


def share_lines(labels: list[str], shift: Shift) -> list[str]:
    """A table of the label shares, with its head."""
    width = max(5, *(len(name) for name in labels))
    rows = zip(labels, shift.shares, shift.low, shift.high, shift.source, strict=True)
    lines = [f"{name:<{width}}  {here:.3f} [{low:.3f}, {high:.3f}]   {there:.3f}" for name, here, low, high, there in rows]
    return [f"{'label':<{width}}  share here             original share", *lines]


_ADAPT = AdaptConfig()


def adapt_bundle(bundle: str | Path, texts: str | Path, out: str | Path, config: AdaptConfig = _ADAPT) -> AdaptReport:
    """Estimate the label shares of unlabelled texts, and write the bundle with probabilities for those shares.

    An adapted bundle is adapted again from its original shares. Thresholds stay; label sets are removed.

    Args:
        bundle: the folder; it may equal `out`.
        texts: at least `MIN_TEXTS` texts of the kind to be answered; gold labels are ignored.
        out: the folder to write; an existing bundle is replaced once the new one is complete.
        config: significance level and parallelism.
    Raises:
        FormatError: if the bundle or the texts are malformed, or there are too few texts.
        UserError: if the bundle records no label shares, is a cascade, answers several questions, or the folder cannot be
            written. Of several questions: :mod:`potstill.serve.offline.adapt_questions`.
    """
    bundle, texts, out = Path(bundle), Path(texts), Path(out)
    check_out(bundle, out)
    if config.questions:
        raise UserError(f"{bundle}: answers one choice, and --question is for a bundle of several questions; leave it out")
    with Classifier.open(bundle, trust=config.trust) as classifier:
        check_one_question(bundle, classifier.manifest, "adapting one choice")
        if classifier.manifest.cascade is not None:
            raise UserError(f"{bundle}: is a cascade; adapt the two bundles it was made from, and join them again")
        source = _source(bundle, classifier.manifest)
        found = enough_texts(texts, classifier.manifest)
        logits = logits_of(classifier, found.texts, config.workers or usable_cores())
        shift = estimate(softmax(logits, classifier.manifest.temperature), source)
        certificate = classifier.manifest.certificate
        manifest = _shifted(classifier.manifest, shift, config.level)
        section = "" if manifest.bias is None else _section(manifest, shift)
        manifest = write_adapted(bundle, out, classifier, manifest, section, trust=config.trust)
    return AdaptReport(out, manifest, shift, config.level, found.skipped_line(), certificate)


def write_adapted(bundle: Path, out: Path, classifier: Classifier, manifest: Manifest, section: str, *, trust: bool) -> Manifest:
    """Write the bundle with another manifest, the golden probabilities that follow from it, and a section of the model card.

    Args:
        classifier: of the bundle; it stays open.
        manifest: with the biases of a shift.
        section: on the shift, with its title, in place of an earlier one; empty: there is none. Without a certificate of one choice
            it also replaces what the card says of certificates.
        trust: as :meth:`Classifier.open` has it.
    Returns:
        The manifest as it was written.
    Raises:
        UserError: if the folder cannot be written.
    """
    if manifest.machine is not None:
        manifest = msgspec.structs.replace(manifest, machine=this_machine())  # it computes the new golden probabilities
    with atomic.folder(out) as folder:
        for path in bundle.iterdir():
            if path.name != SIGNATURE_FILE:  # it signs the bundle as it was before
                shutil.copyfile(path, folder / path.name)
        write_manifest(folder, manifest)
        _write_card(folder / CARD_FILE, manifest, section)
        _write_golden(folder, Classifier(manifest, classifier.scorer.with_decision(manifest)))
        write_sums(folder)
        Classifier.open(folder, trust=trust).close()
    return manifest


def enough_texts(file: Path, manifest: Manifest) -> Texts:
    """The texts of a file; raises FormatError if they are too few to estimate label shares from."""
    found = read_texts(file, target=manifest.target)
    if len(found.texts) < MIN_TEXTS:
        raise FormatError(file, "", f"has {len(found.texts)} usable texts; estimating label shares needs at least {MIN_TEXTS}")
    return found


def _source(bundle: Path, manifest: Manifest) -> NDArray[np.float64]:
    """The label shares, float64 [C], that the bundle was made for."""
    if manifest.label_shares is None:
        raise UserError(f"{bundle}: records no label shares (label_shares); export it again from its checkpoint")
    return np.array([manifest.label_shares[name] for name in manifest.labels])


def logits_of(classifier: Classifier, texts: list[Text], workers: int) -> NDArray[np.float32]:
    """Logits, float32 [N, C]; each text runs alone, as in serving."""
    with ThreadPoolExecutor(workers, thread_name_prefix="answer") as pool:
        return np.concatenate(
            list(counted(pool.map(lambda text: classifier.logits(*texts_and_targets([text])), texts), ANSWER_TEXTS, len(texts)))
        )


def _shifted(manifest: Manifest, shift: Shift, level: float) -> Manifest:
    """The manifest with the shift's bias; without one if the shift is not significant."""
    if shift.p_value >= level and level < 1:
        return msgspec.structs.replace(
            manifest,
            bias=None,
            conformal=manifest.conformal if manifest.bias is None else None,
            certificate=manifest.certificate if manifest.bias is None else None,
        )
    return msgspec.structs.replace(manifest, bias=shift.bias.tolist(), conformal=None, certificate=None)


def _section(manifest: Manifest, shift: Shift) -> str:
    """What a model card says of a shift."""
    rows = zip(manifest.labels, shift.shares, shift.source, strict=True)
    lines = [f"- `{name}`: {here:.3f} of {shift.n} texts, {there:.3f} originally" for name, here, there in rows]
    note = "The scores and thresholds above were measured before the shift. Label sets were removed."
    told = "The probabilities are for texts with these label shares, estimated without labels:"
    return "\n".join([CARD_TITLE, "", told, "", *lines, "", note, ""])


def _write_card(path: Path, manifest: Manifest, section: str) -> None:
    """Update the model card, if there is one: replace the section on an earlier shift by one on this shift."""
    if not path.is_file():
        return
    card = path.read_text(encoding="utf-8").partition(CARD_TITLE)[0]
    if manifest.certificate is None:
        card = without_certificate(card)
    path.write_text(card + section, encoding="utf-8", newline="\n")


def _write_golden(folder: Path, classifier: Classifier) -> None:
    """Rewrite the golden texts with the probabilities that follow from the new manifest."""
    rows = []
    for row in read_golden(folder):
        probs = classifier.probs([row.text], None if row.target is None else [row.target])[0].tolist()
        rows.append(msgspec.structs.replace(row, probs=probs))
    write_golden(folder, rows)
