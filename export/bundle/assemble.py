"""Assemble a bundle: write its manifest and files, and prove them with the runtime that will answer from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from potstill.contract.bundle import (
    FORMAT,
    MAX_GOLDEN,
    MAX_GOLDEN_CHARS,
    MODEL_FILE,
    QUALITY_FILE,
    TOKENIZER_FILE,
    WITH_HEADS,
    Golden,
    Manifest,
    Provenance,
    golden_chars,
    write_golden,
    write_manifest,
    write_sums,
)
from potstill.contract.files import atomic
from potstill.contract.promises.familiarity import Familiarity, write_familiarity
from potstill.contract.questions.questionnaire import AnsweredExample, AnyTask
from potstill.contract.scores.metrics import scores
from potstill.contract.task import Example
from potstill.export.bundle import card
from potstill.export.bundle.heads import shipped_heads
from potstill.export.bundle.recalibration import carry_label_sets, carry_thresholds, correct_temperature
from potstill.export.gate.criteria import is_batch_invariant
from potstill.export.gate.forms import Candidate
from potstill.export.gate.quality import Quality, quality_json
from potstill.export.gate.source import ExportSource
from potstill.export.tokenizer.files import CONFIG_FILE, TOKENIZER_CONFIG_FILE, config_json, tokenizer_config_json, tokenizer_json
from potstill.serve.runtime.classifier import Classifier, softmax
from potstill.serve.runtime.scorer import open_scorer
from potstill.serve.runtime.session import this_machine

EDGE_CASES = (  # texts that tokenizers and kernels trip over; fixed, because a bundle must not carry anybody's texts
    "up",
    "🚀🚀🚀 to the moon?? 💎🙌",
    "今日の株価は上がるでしょうか。中国股市明天会涨吗？",
    "هل سيرتفع السعر غدا؟ אני לא יודע",
    "naïve café — “quotes”, tabs\tand\nlines, 1.5 % of $TSLA & co. <b>bold</b> [MASK]",
    "It went up, then down, and then nobody could say any more which way it would go. " * 40,
)
EDGE_TARGET = "it"  # of an edge case, where the task has targets and no worked example


@dataclass(frozen=True)
class BundleContent:
    """The content of a bundle."""

    checkpoint: Path
    task: AnyTask
    model: onnx.ModelProto
    manifest: Manifest
    quality: Quality
    familiarity: Familiarity | None = None  # None: the bundle cannot tell an unfamiliar text


def manifest_of(chosen: Candidate, reference: Candidate, source: ExportSource) -> Manifest:
    """The manifest of a form, with temperature, thresholds and label sets fitted to the form's own outputs.

    Args:
        chosen: the form to ship.
        reference: the float form, to which the checkpoint's temperature and thresholds belong.
        source: the checkpoint's content.
    """
    student, on = source.student, source.gate
    if student.heads is None:
        decision = _decision(chosen, reference, source)
    else:
        heads = shipped_heads(student.heads, on, reference.logits, chosen.logits)
        decision = {"format": WITH_HEADS, "temperature": 1.0, "thresholds": None, "scores": {}, "heads": heads}
    return Manifest(
        name=student.task_name,
        labels=student.labels,
        target=student.target,
        max_tokens=student.max_tokens,
        variant=chosen.form.variant,
        batch_invariant=is_batch_invariant(chosen.form),
        provenance=Provenance(
            task_digest=student.task_digest,
            teacher_digest=student.teacher_digest,
            backbone=student.backbone,
            backbone_digest=student.backbone_digest,
            soft_labels_digest=student.soft_labels_digest,
            loss=student.loss,
            n_train=student.n_train,
            used_gold=student.used_gold,
        ),
        machine=this_machine(),
        **decision,
    )


def _decision(chosen: Candidate, reference: Candidate, source: ExportSource) -> dict[str, Any]:
    """The fields of the manifest that turn the logits of one choice into an answer."""
    student, on = source.student, source.gate
    validation = slice(on.n_validation)
    float_logits, logits = (candidate.logits[validation] for candidate in (reference, chosen))
    temperature = correct_temperature(student.temperature, float_logits.astype(np.float64), logits.astype(np.float64), on.targets)
    probs = softmax(logits, temperature)
    float_probs = softmax(float_logits, student.temperature)
    thresholds = student.thresholds
    if student.precision:  # thresholds that nobody measured stay as they are
        thresholds = carry_thresholds(student.thresholds, student.labels, float_probs, probs)
    return {
        "format": FORMAT,
        "temperature": temperature,
        "thresholds": thresholds,
        "scores": {"validation": scores(probs, on.majority)},
        "precision": student.precision,
        "conformal": carry_label_sets(student.conformal, float_probs, probs),
        "label_shares": _label_shares(student.labels, probs),
    }


def write_bundle(bundle: Path, content: BundleContent) -> None:
    """Write a bundle beside its place, open it as a server would, and move it into place. Equal content gives equal bytes.

    Raises:
        UserError: if it cannot be written or does not prove itself; what was at `bundle` before stays.
    """
    with atomic.folder(bundle) as folder:
        checkpoint, manifest = content.checkpoint, content.manifest
        (folder / MODEL_FILE).write_bytes(content.model.SerializeToString(deterministic=True))
        (folder / TOKENIZER_FILE).write_bytes(tokenizer_json(checkpoint, manifest.max_tokens))
        (folder / CONFIG_FILE).write_bytes(config_json(checkpoint, manifest.labels))
        (folder / TOKENIZER_CONFIG_FILE).write_bytes(tokenizer_config_json(checkpoint, manifest.max_tokens))
        (folder / QUALITY_FILE).write_bytes(quality_json(content.quality))
        text = card.text(content.task, manifest, content.quality, content.familiarity)
        (folder / card.FILE).write_text(text, encoding="utf-8", newline="\n")
        write_manifest(folder, manifest)
        if content.familiarity is not None:
            write_familiarity(folder, content.familiarity)
        write_golden(folder, _golden(folder, content))
        write_sums(folder)
        Classifier.open(folder, trust=True).close()


def _label_shares(labels: list[str], probs: NDArray[np.float64]) -> dict[str, float]:
    """Mean probability of each label over the texts [N, C]: the share of the label as this form sees it."""
    shares = probs.mean(axis=0)
    return dict(zip(labels, (shares / shares.sum()).tolist(), strict=True))


def _golden(folder: Path, content: BundleContent) -> list[Golden]:
    """The task's worked examples, as many as a reader takes, and the edge cases, with the answers of this machine."""
    manifest, examples = content.manifest, content.task.examples
    scorer = open_scorer(folder / MODEL_FILE, folder / TOKENIZER_FILE, manifest, len(manifest.labels))
    target = examples[0].target if examples else EDGE_TARGET if manifest.target else None
    pairs = [(example.text, example.target) for example in _in_bounds(examples)] + [(text, target) for text in EDGE_CASES]
    with Classifier(manifest, scorer) as classifier:
        targets = [one or "" for _, one in pairs] if manifest.target else None
        probs = classifier.probs([text for text, _ in pairs], targets).tolist()
    return [Golden(text=text, target=one, probs=row) for (text, one), row in zip(pairs, probs, strict=True)]


def _in_bounds(examples: Sequence[Example | AnsweredExample]) -> list[Example | AnsweredExample]:
    """The examples that a reader takes beside the edge cases: of each label the first, then of each the second, and so on.

    Those of several questions have no label, and come in the task's order.
    """
    left, n_before, turns = MAX_GOLDEN_CHARS - sum(map(golden_chars, EDGE_CASES)), Counter[str](), []
    for index, example in enumerate(examples):
        label = example.label if isinstance(example, Example) else ""
        turns.append((n_before[label], index))
        n_before[label] += 1
    kept: list[int] = []
    for _, index in sorted(turns)[: MAX_GOLDEN - len(EDGE_CASES)]:
        left -= golden_chars(examples[index].text)
        if left < 0:
            break
        kept.append(index)
    return [examples[index] for index in sorted(kept)]
