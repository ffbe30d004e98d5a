"""What a labelling of several questions looks like: per question label shares, agreement, scores on gold by kind, and confusions.

Axes: N texts, C labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.contract.errors import count_of
from potstill.contract.questions.head import HOLDS
from potstill.contract.questions.kind_scores import scores_of
from potstill.contract.questions.question import Kind, Question
from potstill.contract.questions.soft_answers import QuestionLabel, SoftAnswers
from potstill.contract.scores.record import Score, Scores
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.aggregation.questions import derive_questions
from potstill.labeler.store.database import LabelStore, Run, RunSettings
from potstill.labeler.store.questions import labelling

SHOWN = {
    "choice": ("accuracy", "macro_f1", "log_loss", "ece"),
    "yesno": ("accuracy", "macro_f1", "auc", "brier"),
    "degree": ("accuracy", "qwk", "mae", "log_loss"),
    "tags": ("micro_f1", "macro_f1", "map", "brier"),
}
_MAX_LABELS = 12  # shown per question, the most common ones


@dataclass(frozen=True)
class QuestionSummary:
    """Figures of one question."""

    name: str
    kind: Kind
    n_texts: int  # with an answer
    n_paths: int  # of all its tags together
    label_mass: float  # mean over the texts
    agreement: float  # mean over the texts
    entropy: float  # mean over the texts, in nats
    shares: dict[str, float]  # of the texts, by most probable label; of tags the share of the texts where each holds
    mean_probs: dict[str, float]  # mean probability of each label
    method: str
    n_gold: int
    gold_shares: dict[str, float] | None  # of the gold texts, by label; None without gold
    scores: Scores | None  # on the gold texts, with 95 % intervals
    confusions: list[list[int]] | None  # of a degree: gold texts by gold level (rows) and most probable level
    tag_calibration: dict[str, float] | None  # of tags: mean probability minus share, on the gold texts


@dataclass(frozen=True)
class QuestionsSummary:
    """Figures of a labelling of several questions."""

    runs: dict[str, int]  # numbers of the runs, by question or question/tag
    settings: RunSettings  # of the last run; the others differ in question, labels and words
    n_texts: int
    questions: list[QuestionSummary]
    doubts: list[str]  # warnings, a line each; the JSON output has this name


def questions_summary(store: LabelStore, run: Run, config: DeriveConfig) -> QuestionsSummary:
    """Figures of the labelling that a run belongs to, with soft labels derived as the configuration says.

    Raises:
        UserError: as :func:`potstill.labeler.aggregation.questions.derive_questions`.
    """
    runs = labelling(store, run)
    derived = derive_questions(store, run, config)
    counts = dict(store.query("select run, count(*) from paths group by run"))
    found = []
    for question in derived.questions:
        own = [one for one in runs if one.settings.question.partition("/")[0] == question.name]
        n_paths = sum(counts.get(one.number, 0) for one in own)
        answered = [row for row in derived.rows if row.answers.get(question.name) is not None]
        if answered:
            found.append(_summary(question, answered, n_paths))
    numbers = {one.settings.question: one.number for one in runs}
    return QuestionsSummary(numbers, runs[-1].settings, len(derived.rows), found, derived.warnings)


def _summary(question: Question, rows: Sequence[SoftAnswers], n_paths: int) -> QuestionSummary:
    """One question's figures. Args: rows, that answer it, at least one."""
    labels = [label for row in rows if (label := row.answers[question.name]) is not None]
    names = question.label_names
    probs = np.array([[label.probs[name] for name in names] for label in labels])  # [N, C]
    known = [i for i, row in enumerate(rows) if (row.gold or {}).get(question.name) is not None]
    gold = _gold([row.gold or {} for row in rows], known, question)
    tags = question.kind == "tags"
    held = probs >= HOLDS if tags else np.eye(len(names))[probs.argmax(axis=1)]
    gold_held = (gold if tags else np.eye(len(names))[gold]) if known else None
    values = question.level_values if question.kind == "degree" else None
    return QuestionSummary(
        name=question.name,
        kind=question.kind,
        n_texts=len(rows),
        n_paths=n_paths,
        label_mass=_mean(labels, "label_mass"),
        agreement=_mean(labels, "agreement"),
        entropy=_mean(labels, "entropy"),
        shares=_by_name(names, held.mean(axis=0)),
        mean_probs=_by_name(names, probs.mean(axis=0)),
        method=labels[0].method,
        n_gold=len(known),
        gold_shares=None if gold_held is None else _by_name(names, gold_held.mean(axis=0)),
        scores=scores_of(question.kind, probs[known], gold, values=values) if known else None,
        confusions=_confusions(probs[known], gold) if known and question.kind == "degree" else None,
        tag_calibration=_by_name(names, probs[known].mean(axis=0) - gold.mean(axis=0)) if known and tags else None,
    )


def _gold(given: Sequence[Mapping[str, list[str] | None]], known: Sequence[int], question: Question) -> NDArray[np.int64]:
    """Gold of the texts that have some: int [N], the label; of tags 0 or 1 [N, C]."""
    names = question.label_names
    labels = [given[i][question.name] or [] for i in known]
    if question.kind == "tags":
        return np.array([[int(name in own) for name in names] for own in labels], dtype=np.int64).reshape(len(known), len(names))
    return np.array([names.index(own[0]) for own in labels], dtype=np.int64)


def _mean(labels: Sequence[QuestionLabel], field: str) -> float:
    """Mean of a field."""
    return float(np.mean([getattr(label, field) for label in labels]))


def _by_name(names: Sequence[str], values: NDArray[np.float64]) -> dict[str, float]:
    """The values by label."""
    return dict(zip(names, map(float, values), strict=True))


def _confusions(probs: NDArray[np.float64], gold: NDArray[np.int64]) -> list[list[int]]:
    """Number of texts by gold level and most probable level."""
    table = np.zeros((probs.shape[1], probs.shape[1]), dtype=np.int64)
    np.add.at(table, (gold, probs.argmax(axis=1)), 1)
    return [[int(count) for count in row] for row in table]


# As text, at most 100 columns wide


def as_text(summary: QuestionsSummary) -> str:
    """The summary in blocks, one for each question, with a blank line between them."""
    settings = summary.settings
    variants = count_of(settings.n_variants, "variant")
    head = [
        f"{settings.teacher} ({settings.teacher_digest[:12]}, {settings.build})",
        f"  mode {settings.mode}, {variants}, temperature {settings.temperature:g}, seed {settings.seed}",
        f"  {count_of(summary.n_texts, 'text')}, {count_of(len(summary.questions), 'question')}; "
        "one in detail: potstill labels summary STORE --question NAME",
    ]
    return "\n\n".join("\n".join(block) for block in [head, *map(_block, summary.questions)])


def _block(one: QuestionSummary) -> list[str]:
    """One question."""
    texts, paths = count_of(one.n_texts, "text"), count_of(one.n_paths, "path")
    lines = [
        f"{one.name} ({one.kind}): {texts}, {paths}; label mass {one.label_mass:.2f}, "
        f"agreement {one.agreement:.2f}, entropy {one.entropy:.2f}"
    ]
    common = sorted(one.shares, key=lambda name: -one.mean_probs[name])[:_MAX_LABELS]
    width = max(len("label"), *map(len, common)) + 2
    lines.append(f"  {'label':<{width}}{'holds for' if one.kind == 'tags' else 'texts':<11}{'mean prob.':<12}gold")
    for name in one.shares:
        if name in common:
            gold = "-" if one.gold_shares is None else f"{one.gold_shares[name]:.1%}"
            lines.append(f"  {name:<{width}}{one.shares[name]:<11.1%}{one.mean_probs[name]:<12.3f}{gold}")
    if len(one.shares) > len(common):
        lines.append(f"  and {len(one.shares) - len(common)} others")
    if one.scores is None:
        return [*lines, "  no gold, so no scores; label some texts with --gold"]
    cells = [f"{name} {_cell(one.scores[name])}" for name in SHOWN[one.kind] if name in one.scores]
    lines.append(f"  on {one.n_gold} gold texts, with 95 % intervals:")
    lines += [f"    {',  '.join(cells[i : i + 2])}" for i in range(0, len(cells), 2)]
    return lines + (_confused(one) if one.confusions else [])


def _confused(one: QuestionSummary) -> list[str]:
    """How far off the levels of a degree are."""
    table = np.array(one.confusions)
    apart = np.abs(np.subtract.outer(np.arange(len(table)), np.arange(len(table))))
    right, near, far = (int(table[which].sum()) for which in (apart == 0, apart == 1, apart > 1))
    lines = [f"  {right} texts at their level, {near} at one beside it, {far} further away; rows gold, columns most probable:"]
    width = max(map(len, one.shares)) + 2
    return lines + [
        f"    {name:<{width}}" + "".join(f"{count:>7}" for count in row) for name, row in zip(one.shares, table, strict=True)
    ]


def _cell(score: Score) -> str:
    """`0.612 (0.570-0.653)`."""
    return f"{score.value:.3f} ({score.low:.3f}-{score.high:.3f})"
