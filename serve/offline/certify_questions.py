"""Certify the answers to several questions, each by itself, and hold the certificates against new texts.

Only questions with one answer: of tags, a precision of each is chosen on gold before the export (`potstill calibrate`).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from potstill.contract.bundle import MODEL_FILE, Manifest, read_manifest
from potstill.contract.errors import UserError
from potstill.contract.files import digest
from potstill.contract.promises.certificate import Certificate
from potstill.contract.questions.gold import parse_gold
from potstill.contract.questions.head import Head, as_question, ranges
from potstill.contract.system.machine import usable_cores
from potstill.contract.system.progress import ANSWER_TEXTS, counted
from potstill.contract.texts import read_texts
from potstill.serve.config import CertifyConfig
from potstill.serve.offline.certified import CARD_TITLE, Answered, certificate_of, check_out
from potstill.serve.offline.certify import (
    CertifyReport,
    CheckReport,
    card_note,
    certificate_lines,
    certify_bundle,
    check_certificate,
    check_graph_of,
    held_against,
    thresholds_of,
    write_certified,
)
from potstill.serve.runtime.classifier import Classifier

_CERTIFY = CertifyConfig()


@dataclass(frozen=True)
class QuestionsCertified:
    """The certificates of several questions."""

    bundle: Path
    certificates: dict[str, Certificate]  # by question
    notes: list[str]  # a line for each question that has none, and why
    skipped: str  # a line on skipped rows; empty if none was skipped
    confidence: float  # that all of them hold

    def as_text(self) -> str:
        """What is certified, question by question."""
        lines = []
        for name, found in self.certificates.items():
            lines += [f"{name}: {line}" if not i else f"  {line}" for i, line in enumerate(certificate_lines(found))]
        if len(self.certificates) > 1:
            lines.append(f"all {len(self.certificates)} certificates hold together with at least {self.confidence:.0%} confidence")
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join([*lines, f"{self.bundle}: abstains from the others; later: potstill check {self.bundle} NEW_GOLD"])


@dataclass(frozen=True)
class QuestionsChecked:
    """What new texts say of the certificates of several questions."""

    reports: dict[str, CheckReport]  # by question
    notes: list[str]
    skipped: str = ""

    @property
    def broken(self) -> bool:
        """Whether the texts show that one of them is broken."""
        return any(report.broken for report in self.reports.values())

    def as_text(self) -> str:
        """What was found, question by question."""
        lines = []
        for name, report in self.reports.items():
            lines += [f"{name}:", *(f"  {line}" for line in report.as_text().splitlines())]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def certify_questions(bundle: Path, texts: Path, out: Path, config: CertifyConfig) -> QuestionsCertified:
    """Find for each question the switch that can be certified on texts with gold answers, and write the bundle with them.

    The error is divided among the questions, so that all certificates hold together with the configured confidence.

    Args:
        bundle: the folder.
        texts: gold answers that nothing was fitted to; a text may answer some of the questions only.
        out: the folder to write; the bundle itself is replaced once the new one is complete.
        config: what is to be certified.
    Raises:
        FormatError: if the bundle or the texts are malformed.
        UserError: if a named question is unknown or about tags, nothing can be certified of a named question or of all, or the
            folder cannot be written.
    """
    check_out(bundle, out)
    with Classifier.open(bundle, trust=config.trust) as classifier:
        manifest = classifier.manifest
        heads = _to_certify(bundle, manifest, config)
        answered, skipped = _answered(classifier, texts, heads, config.workers)
    missing = [head.name for head in heads if head.name not in answered]
    notes = [f"no text has a gold answer to {name}, so nothing is certified of it" for name in missing]
    made: dict[str, Certificate] = {}
    if answered:
        error = (1 - config.confidence) / len(answered)
        own, graph = replace(config, confidence=1 - error), digest.of_file(bundle / MODEL_FILE)
        for name, found in answered.items():
            try:
                made[name] = certificate_of(found, graph, own)
            except UserError as problem:
                notes.append(f"{name}: {problem}")
    if not made or (config.questions and len(made) < len(heads)):
        raise UserError("; ".join(notes))
    certified = _certified(manifest, made)
    write_certified(bundle, out, certified, certificates_section(certified.certificates or {}), trust=config.trust)
    return QuestionsCertified(out, made, notes, skipped, config.confidence)


def check_questions(bundle: Path, texts: Path, workers: int | None = None, *, trust: bool = False) -> QuestionsChecked:
    """Hold the certificates of several questions against new texts with gold answers.

    Args:
        workers: texts answered in parallel; None: as many as usable cores.
        trust: open the bundle whatever operators and tokenizer parts are in it.
    Raises:
        FormatError: if the bundle or the texts are malformed, or its graph is not the certified one.
        UserError: if no question has a certificate, or no text a gold answer to one that has.
    """
    with Classifier.open(bundle, trust=trust) as classifier:
        manifest = classifier.manifest
        certificates = manifest.certificates or {}
        if not certificates:
            raise UserError(f"{bundle}: has no certificate of any question; make them with: potstill certify {bundle} GOLD")
        for name, certificate in certificates.items():
            check_graph_of(bundle, certificate, f"certificates.{name}")
        heads = [head for head in manifest.heads or [] if head.name in certificates]
        answered, skipped = _answered(classifier, texts, heads, workers)
    if not answered:
        raise UserError(f"{texts}: no gold answer to {', '.join(certificates)}; add some")
    notes = [f"no text has a gold answer to {name}" for name in certificates if name not in answered]
    return QuestionsChecked(
        {name: held_against(bundle, certificates[name], found) for name, found in answered.items()}, notes, skipped
    )


def certify(
    bundle: str | Path, texts: str | Path, out: str | Path | None = None, config: CertifyConfig = _CERTIFY
) -> CertifyReport | QuestionsCertified:
    """Certify a bundle of one choice or of several questions; `potstill certify`.

    Args:
        out: the folder to write; None replaces the bundle once the new one is complete.
    Raises:
        FormatError, UserError: as :func:`potstill.serve.offline.certify.certify_bundle` and :func:`certify_questions`.
    """
    if read_manifest(Path(bundle)).heads is None:
        return certify_bundle(bundle, texts, out, config)
    return certify_questions(Path(bundle), Path(texts), Path(bundle if out is None else out), config)


def check(
    bundle: str | Path, texts: str | Path, workers: int | None = None, *, trust: bool = False
) -> CheckReport | QuestionsChecked:
    """Hold the certificates of a bundle against new texts with labels; `potstill check`.

    Raises:
        FormatError, UserError: as :func:`potstill.serve.offline.certify.check_certificate` and :func:`check_questions`.
    """
    if read_manifest(Path(bundle)).heads is None:
        return check_certificate(bundle, texts, workers, trust=trust)
    return check_questions(Path(bundle), Path(texts), workers, trust=trust)


def _to_certify(bundle: Path, manifest: Manifest, config: CertifyConfig) -> list[Head]:
    """The questions to certify; raises UserError."""
    by_name = {head.name: head for head in manifest.heads or []}
    for name in config.questions:
        if name not in by_name:
            raise UserError(f"{bundle}: --question is {name!r}; it answers {', '.join(by_name)}")
        if not by_name[name].is_softmax:
            raise UserError(
                f"{bundle}: {name} is about tags, which are not certified; choose their precision on gold, with a confidence, "
                f"before the export: potstill calibrate CHECKPOINT GOLD --precision 0.9 --question {name}"
            )
    return [by_name[name] for name in config.questions] or [head for head in by_name.values() if head.is_softmax]


def _answered(classifier: Classifier, file: Path, heads: Sequence[Head], workers: int | None) -> tuple[dict[str, Answered], str]:
    """(by question, the answers to the texts that have gold for it; a line on skipped rows). Each text runs alone."""
    manifest = classifier.manifest
    read = read_texts(file, target=manifest.target, gold=True)
    every = manifest.heads or []
    questions = [as_question(head) for head in every]
    given = [parse_gold(file, f"text {text.id!r}", questions, text.gold) for text in read.texts]
    with ThreadPoolExecutor(workers or usable_cores(), thread_name_prefix="answer") as pool:
        rows = pool.map(lambda text: classifier.scorer.probs(text.text, text.target), read.texts)
        answers = list(counted(rows, ANSWER_TEXTS, len(read.texts)))
    probs, places = np.array(answers), dict(zip([head.name for head in every], ranges(every), strict=True))
    found: dict[str, Answered] = {}
    for head in heads:
        known = [i for i, answers in enumerate(given) if head.name in answers]
        if not known:
            continue
        texts = [msgspec.structs.replace(read.texts[i], gold=given[i][head.name][0]) for i in known]
        own = probs[known, places[head.name]]
        gold = np.array([head.labels.index(text.gold or "") for text in texts])
        found[head.name] = Answered(texts, head.labels, own.max(axis=1), own.argmax(axis=1), gold)
    return found, read.skipped_line()


def _certified(manifest: Manifest, made: dict[str, Certificate]) -> Manifest:
    """The manifest that answers each certified question from its switch on; other questions stay as they are."""
    heads = [
        msgspec.structs.replace(head, thresholds=thresholds_of(made[head.name], head.labels), precision=None)
        if head.name in made
        else head
        for head in manifest.heads or []
    ]
    return msgspec.structs.replace(manifest, heads=heads, certificates={**(manifest.certificates or {}), **made})


def certificates_section(certificates: dict[str, Certificate]) -> str:
    """What a model card says of certificates, with its title and an empty line after it; empty without any."""
    if not certificates:
        return ""
    return f"{CARD_TITLE}s\n\n" + "".join(f"### {name}\n\n{card_note(found)}\n" for name, found in certificates.items())
