"""Adapt a bundle of several questions to texts with other label shares, each question by itself.

Tags stay as they are: how many texts each holds for says little about the frequency of the others. Axes: N texts, C labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from potstill.contract.bundle import Manifest, read_manifest
from potstill.contract.errors import UserError
from potstill.contract.questions.head import Head, ranges
from potstill.contract.scores.prior_shift import Shift, estimate
from potstill.contract.system.machine import usable_cores
from potstill.serve.config import AdaptConfig
from potstill.serve.offline.adapt import CARD_TITLE, AdaptReport, adapt_bundle, enough_texts, logits_of, share_lines, write_adapted
from potstill.serve.offline.certified import check_out
from potstill.serve.offline.certify_questions import certificates_section
from potstill.serve.runtime.classifier import Classifier, softmax


@dataclass(frozen=True)
class QuestionsAdapted:
    """The estimated label shares of several questions, and the bundle written for them."""

    bundle: Path
    heads: list[Head]  # of the new bundle
    shifts: dict[str, Shift]  # by question
    level: float
    uncertified: list[str]  # questions whose certificate was removed
    skipped: str  # a line on skipped rows; empty if none was skipped

    def as_text(self) -> str:
        """A table of the label shares of each question, and what changed in the new bundle."""
        lines, by_name = list[str](), {head.name: head for head in self.heads}
        for name, shift in self.shifts.items():
            head = by_name[name]
            test = f"likelihood-ratio test on {shift.n} texts: p = {shift.p_value:.2g}"
            if head.bias is None:
                verdict = f"{test}, not below {self.level:g}: no clear shift, so it is answered as before"
            else:
                verdict = f"{test}; it is answered for these shares, and has no label sets any more"
            lines += [f"{name}:", *(f"  {line}" for line in [*share_lines(head.labels, shift), verdict])]
        if self.uncertified:
            lines.append(f"removed the certificate of {', '.join(self.uncertified)}; certify again on texts with these shares")
        return "\n".join([*lines, f"wrote {self.bundle}; thresholds are unchanged, to be measured on gold labels of such texts"])


_ADAPT = AdaptConfig()


def adapt(bundle: str | Path, texts: str | Path, out: str | Path, config: AdaptConfig = _ADAPT) -> AdaptReport | QuestionsAdapted:
    """Adapt a bundle of one choice or of several questions; `potstill adapt`.

    Raises:
        FormatError, UserError: as :func:`potstill.serve.offline.adapt.adapt_bundle` and :func:`adapt_questions`.
    """
    if read_manifest(Path(bundle)).heads is None:
        return adapt_bundle(bundle, texts, out, config)
    return adapt_questions(Path(bundle), Path(texts), Path(out), config)


def adapt_questions(bundle: Path, texts: Path, out: Path, config: AdaptConfig) -> QuestionsAdapted:
    """Estimate the label shares of unlabelled texts for each question with one answer, and write the bundle for those shares.

    A question without a clear shift is answered as before. An adapted bundle is adapted again from its original shares.

    Args:
        bundle: the folder; it may equal `out`.
        texts: of the kind to be answered; gold is ignored.
        out: the folder to write; an existing bundle is replaced once the new one is complete.
        config: significance level of each question's test, and which questions.
    Raises:
        FormatError: if the bundle or the texts are malformed, or there are too few texts.
        UserError: if a named question is unknown, is about tags, or records no label shares, none can be adapted, or the folder
            cannot be written.
    """
    check_out(bundle, out)
    with Classifier.open(bundle, trust=config.trust) as classifier:
        manifest = classifier.manifest
        wanted = _to_adapt(bundle, manifest, config)
        found = enough_texts(texts, manifest)
        logits = logits_of(classifier, found.texts, config.workers or usable_cores())
        heads, shifts = list[Head](), dict[str, Shift]()
        for head, own in zip(manifest.heads or [], ranges(manifest.heads or []), strict=True):
            if head.name in wanted and head.label_shares is not None:
                source = np.array([head.label_shares[name] for name in head.labels])
                shift = shifts[head.name] = estimate(softmax(logits[:, own], head.temperature), source)
                heads.append(_shifted(head, shift, config.level))
            else:
                heads.append(head)
        before = {head.name: head.bias for head in manifest.heads or []}
        moved = {head.name for head in heads if head.bias != before[head.name]}
        certificates = {name: one for name, one in (manifest.certificates or {}).items() if name not in moved}
        made = msgspec.structs.replace(manifest, heads=heads, certificates=certificates or None)
        made = write_adapted(
            bundle, out, classifier, made, certificates_section(certificates) + _section(heads, shifts), trust=config.trust
        )
    removed = [name for name in manifest.certificates or {} if name not in certificates]
    return QuestionsAdapted(out, heads, shifts, config.level, removed, found.skipped_line())


def _to_adapt(bundle: Path, manifest: Manifest, config: AdaptConfig) -> list[str]:
    """The questions to adapt; raises UserError."""
    by_name = {head.name: head for head in manifest.heads or []}
    for name in config.questions:
        if name not in by_name:
            raise UserError(f"{bundle}: --question is {name!r}; it answers {', '.join(by_name)}")
        if not by_name[name].is_softmax:
            raise UserError(f"{bundle}: {name} is about tags, which are not adapted; name a question with one answer")
        if by_name[name].label_shares is None:
            raise UserError(f"{bundle}: records no label shares of {name} (label_shares); export it again from its checkpoint")
    found = list(config.questions) or [head.name for head in by_name.values() if head.is_softmax and head.label_shares is not None]
    if not found:
        raise UserError(f"{bundle}: no question has one answer and recorded label shares (label_shares), so none can be adapted")
    return found


def _shifted(head: Head, shift: Shift, level: float) -> Head:
    """The head with the shift's bias; without one if the shift is not significant."""
    if shift.p_value >= level and level < 1:
        return msgspec.structs.replace(head, bias=None, conformal=head.conformal if head.bias is None else None)
    return msgspec.structs.replace(head, bias=shift.bias.tolist(), conformal=None)


def _section(heads: list[Head], shifts: dict[str, Shift]) -> str:
    """What the model card says of the shifts; empty if there is none."""
    parts = []
    for head in heads:
        shift = shifts.get(head.name)
        if shift is None or head.bias is None:
            continue
        rows = zip(head.labels, shift.shares, shift.source, strict=True)
        lines = [f"- `{name}`: {here:.3f} of {shift.n} texts, {there:.3f} originally" for name, here, there in rows]
        parts.append("\n".join([f"`{head.name}`:", "", *lines, ""]))
    if not parts:
        return ""
    told = "The probabilities are for texts with these label shares, estimated without labels. Scores and thresholds are older."
    return "\n".join([CARD_TITLE, "", told, "", *parts])
