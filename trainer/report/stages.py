"""What a report shows of each stage of a project: labelling, training, export. Every part may be missing.

Axes: N texts, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.contract.scores import metrics
from potstill.contract.scores.record import Score
from potstill.contract.soft_label import SoftLabel
from potstill.trainer.data.targets import majority_classes
from potstill.trainer.report.text_map import TextMap

N_EXAMPLES = 2  # of a label: texts that the teacher is surest of, and texts that it nearly labelled otherwise

MOST_COLUMNS = 8  # labels in a table that has a column for each


@dataclass(frozen=True)
class CostLine:
    """What the paths of one mode of one teacher cost."""

    teacher: str
    mode: str
    n_texts: int
    paths_per_text: float
    prompt_tokens_per_text: float
    generated_tokens_per_text: float


@dataclass(frozen=True)
class MethodLine:
    """What one way to read the same paths makes of them."""

    name: str
    shares: Mapping[str, float]  # of the texts, by their most probable label
    accuracy: Score | None  # on gold texts


@dataclass(frozen=True)
class LabelExamples:
    """Texts of one label."""

    label: str
    n: int
    surest: list[SoftLabel]
    contested: list[SoftLabel]


@dataclass(frozen=True)
class LabellingStage:
    """How the soft labels came about."""

    prompt: str  # for one text, as it was sent; empty: not known
    prompt_note: str
    cost: list[CostLine]
    methods: list[MethodLine]
    gold_shares: Mapping[str, float]  # of the labels among the gold texts; empty without any
    agreement: Mapping[str, int]  # texts by the share of paths for the majority label, in tenths
    examples: list[LabelExamples]
    seconds: float | None

    @property
    def columns(self) -> list[str]:
        """The labels whose shares are shown: all of few, of many the most frequent, in output order."""
        shares = self.methods[0].shares if self.methods else {}
        most = sorted(shares, key=lambda name: -shares[name])[:MOST_COLUMNS]
        return [name for name in shares if name in most]


@dataclass(frozen=True)
class LabelAgreement:
    """One label on the held-out texts: the teacher's majority against the student."""

    label: str
    n_teacher: int
    n_student: int
    n_both: int


@dataclass(frozen=True)
class TrainingStage:
    """The student beside its teacher, on held-out texts that it was not trained on."""

    n: int
    agreement: Score  # share of the texts with the same label; of tags the micro-F1 of the student's against the teacher's
    labels: list[LabelAgreement]
    seconds: float | None


@dataclass(frozen=True)
class FormLine:
    """One form of the graph that the export tried."""

    variant: str
    ms_p50: float
    megabytes: float
    macro_f1: float
    agreement: float
    flips: int
    n: int
    verdict: str
    shipped: bool


@dataclass(frozen=True)
class ExportStage:
    """What quantization changed."""

    forms: list[FormLine]
    cpu: str
    seconds: float | None


@dataclass(frozen=True)
class Stages:
    """All stages, and the map of the texts."""

    labelling: LabellingStage | None = None
    training: TrainingStage | None = None
    export: ExportStage | None = None
    text_map: TextMap | None = None


NO_STAGES = Stages()


def label_examples(rows: Sequence[SoftLabel], labels: Sequence[str]) -> list[LabelExamples]:
    """For each label, the texts that the teacher is surest of, and those that it nearly labelled otherwise."""
    found = []
    for label in labels:
        read = [row for row in rows if row.majority == label and any(row.votes.values())]
        own = sorted(read, key=lambda row: (row.entropy, row.id))
        contested = list(reversed(own[N_EXAMPLES:]))[:N_EXAMPLES]
        found.append(LabelExamples(label, len(own), own[:N_EXAMPLES], contested))
    return found


def training_stage(
    rows: Sequence[SoftLabel], probs: NDArray[np.float64], labels: list[str], seconds: float | None
) -> TrainingStage:
    """The student's answers beside the teacher's majority labels. Args: rows, held out, [N]; probs, the student's, [N, C]."""
    teacher, student = majority_classes(rows, labels), probs.argmax(axis=1)
    lines = [
        LabelAgreement(name, int((teacher == c).sum()), int((student == c).sum()), int(((teacher == c) & (student == c)).sum()))
        for c, name in enumerate(labels)
    ]
    return TrainingStage(len(rows), metrics.score(metrics.accuracy, probs, teacher), lines, seconds)
