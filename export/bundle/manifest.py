"""The bundle's manifest: how the chosen form's logits become answers, and what they are worth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from potstill.contract.bundle import FORMAT, Manifest, Provenance
from potstill.contract.scores.metrics import scores
from potstill.export.bundle.recalibration import carry_label_sets, carry_thresholds, correct_temperature
from potstill.export.gate import criteria
from potstill.export.gate.forms import Candidate
from potstill.export.gate.source import ExportSource
from potstill.serve.runtime.classifier import softmax
from potstill.serve.runtime.session import this_machine


def manifest_of(chosen: Candidate, reference: Candidate, source: ExportSource) -> Manifest:
    """The manifest of a form; temperature, thresholds and label sets are fitted again to its own outputs.

    Args:
        chosen: the form that is shipped.
        reference: the float form, which the checkpoint's own numbers belong to.
        source: the checkpoint's content.
    """
    student, on = source.student, source.gate
    held_out = slice(on.n_validation)
    float_logits, logits = (candidate.logits[held_out] for candidate in (reference, chosen))
    temperature = correct_temperature(student.temperature, float_logits.astype(np.float64), logits.astype(np.float64), on.targets)
    probs = softmax(logits, temperature)
    own = softmax(float_logits, student.temperature)
    return Manifest(
        format=FORMAT,
        name=student.task_name,
        labels=student.labels,
        target=student.target,
        max_tokens=student.max_tokens,
        temperature=temperature,
        thresholds=carry_thresholds(student.thresholds, student.labels, own, probs) if student.precision else student.thresholds,
        variant=chosen.form.variant,
        batch_invariant=criteria.is_invariant(chosen.form),
        scores={"validation": scores(probs, on.majority)},
        precision=student.precision,
        conformal=carry_label_sets(student.conformal, own, probs),
        label_shares=_mean_shares(student.labels, probs),
        provenance=Provenance(
            task_digest=student.task_digest,
            teacher_digest=student.teacher_digest,
            backbone=student.backbone,
            backbone_digest=student.backbone_digest,
            soft_labels_digest=student.soft_labels_digest,
            loss=student.loss,
            n_train=student.n_train,
        ),
        machine=this_machine(),
    )


def _mean_shares(labels: list[str], probs: NDArray[np.float64]) -> dict[str, float]:
    """By label: its mean probability over the texts [N, C], which is what this form takes to be the label's share."""
    shares = probs.mean(axis=0)
    return dict(zip(labels, (shares / shares.sum()).tolist(), strict=True))
