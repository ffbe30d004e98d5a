"""Figures of sources and of what was made of them: how often they vote, agree and are right, and what the combination gains.

Axes: S sources, N texts, C labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.contract.scores import metrics
from potstill.contract.scores.record import Score
from potstill.labeler.aggregation.path_table import NO_GOLD
from potstill.labeler.weak_supervision.combination import Combination
from potstill.labeler.weak_supervision.votes import Kind, SourceVotes, VoteTable

TEACHER = "teacher"  # name of the source that the label store's own run is


@dataclass(frozen=True)
class SourceFigures:
    """How one source votes."""

    name: str
    kind: Kind
    labels: list[str]  # that it votes for, as a most probable label at least once
    coverage: float  # share of the texts that it votes on, 0 to 1
    overlap: float  # share of the texts that it and another source vote on
    conflict: float  # share of the texts where another source votes for another label
    estimated_accuracy: float  # share of its votes that are right by the combined labels, 0 to 1
    accuracy: Score | None  # of its votes on gold texts, with a 95 % interval; None: it votes on none


@dataclass(frozen=True)
class Alone:
    """A source's labels alone on all gold texts; where it does not vote, the most common label of the combination stands."""

    name: str
    macro_f1: Score
    gain: Score  # macro-F1 of the combination over it, paired


@dataclass(frozen=True)
class CombinationScores:
    """The combination on gold texts, beside its sources."""

    n_gold: int
    accuracy: Score
    macro_f1: Score
    log_loss: Score
    best: Alone  # of all sources the one with the highest macro-F1
    teacher: Alone | None  # None: it does not vote


def source_figures(votes: VoteTable, found: Combination, gold: NDArray[np.int64]) -> list[SourceFigures]:
    """Figures of every source. Args: votes; what was made of them; gold, int [N], index of the label or `NO_GOLD`."""
    voted, favourites = votes.voted, votes.probs.argmax(axis=2)  # [S, N]
    rows = []
    for i, source in enumerate(votes.sources):
        own, label = voted[i], favourites[i]
        others = np.delete(voted, i, axis=0)
        differs = others & (np.delete(favourites, i, axis=0) != label)
        scored = own & (gold != NO_GOLD)
        right = np.eye(len(votes.labels))[label[scored]]
        rows.append(
            SourceFigures(
                name=source.name,
                kind=source.kind,
                labels=[votes.labels[k] for k in np.unique(label[own])],
                coverage=float(own.mean()),
                overlap=float((own & others.any(axis=0)).mean()),
                conflict=float((own & differs.any(axis=0)).mean()),
                estimated_accuracy=float(found.probs[own, label[own]].mean()),
                accuracy=metrics.score(metrics.accuracy, right, gold[scored]) if scored.any() else None,
            )
        )
    return rows


def combination_scores(
    votes: VoteTable, found: Combination, gold: NDArray[np.int64], teachers: Mapping[str, SourceVotes]
) -> CombinationScores | None:
    """Scores on the gold texts, beside every source alone; None without gold.

    Args:
        votes: of S sources on N texts.
        found: what was made of them.
        gold: int [N], as for :func:`source_figures`.
        teachers: by name, what a teacher says alone, which is more than its votes where other texts are a prior for it.
    """
    known = gold != NO_GOLD
    if not known.any():
        return None
    probs, truth = found.probs[known], gold[known]
    common = np.eye(probs.shape[1])[np.bincount(found.probs.argmax(axis=1), minlength=probs.shape[1]).argmax()]
    answers = {}  # float [G, C] by source: its labels on the G gold texts
    for source in votes.sources:
        own = teachers.get(source.name, source)
        answers[source.name] = np.where(own.voted[:, None], own.probs, common)[known]
    best = max(answers, key=lambda name: metrics.macro_f1(answers[name], truth))
    score = metrics.scores(probs, truth)
    return CombinationScores(
        n_gold=len(truth),
        accuracy=score["accuracy"],
        macro_f1=score["macro_f1"],
        log_loss=score["log_loss"],
        best=_alone(best, answers[best], probs, truth),
        teacher=_alone(TEACHER, answers[TEACHER], probs, truth) if TEACHER in answers else None,
    )


def _alone(name: str, alone: NDArray[np.float64], combination: NDArray[np.float64], gold: NDArray[np.int64]) -> Alone:
    """A source's score, and what the combination gains over it. Args: float [G, C] each, of the gold texts; gold, int [G]."""
    macro_f1 = metrics.score(metrics.macro_f1, alone, gold)
    return Alone(name, macro_f1, metrics.difference(metrics.macro_f1, combination, alone, gold))


def as_text(votes: VoteTable, found: Combination, figures: Sequence[SourceFigures], scores: CombinationScores | None) -> str:
    """The figures as tables, at most 100 columns wide."""
    shares = ", ".join(f"{label} {share:.0%}" for label, share in zip(votes.labels, found.shares, strict=True))
    n_unvoted = int((~votes.voted.any(axis=0)).sum())
    head = [
        f"{len(votes.texts)} texts, {len(votes.sources)} sources; the labels' shares: {shares}",
        *([f"{n_unvoted} texts have no vote and are left out"] if n_unvoted else []),
        *([f"never voted, and left out: {', '.join(votes.silent)}"] if votes.silent else []),
    ]
    return "\n\n".join("\n".join(block) for block in (head, _source_lines(votes, figures), _score_lines(scores)))


def _source_lines(votes: VoteTable, figures: Sequence[SourceFigures]) -> list[str]:
    """A line for each source."""
    width = min(18, max(len(row.name) for row in figures)) + 2
    lines = [f"{'source':<{width}}{'kind':<11}{'for':<10}{'coverage':<9}{'overlap':<8}{'conflict':<9}accuracy on gold"]
    for row in figures:
        labels = row.labels[0] if len(row.labels) == 1 else f"{len(row.labels)} of {len(votes.labels)}"
        name = row.name if len(row.name) < width else row.name[: width - 3] + "…"
        gold = "-" if row.accuracy is None else f"{row.accuracy.as_text()} ({row.accuracy.n})"
        lines.append(
            f"{name:<{width}}{row.kind:<11}{labels[:9]:<10}{row.coverage:<9.1%}{row.overlap:<8.1%}{row.conflict:<9.1%}"
            f"{row.estimated_accuracy:<9.2f}{gold}".rstrip()
        )
    return lines


def _score_lines(scores: CombinationScores | None) -> list[str]:
    """The combination on gold, and its gain."""
    if scores is None:
        return ["no gold texts, so no scores; give some with --gold"]
    lines = [
        f"on {scores.n_gold} gold texts, with 95 % intervals",
        f"  combined: accuracy {scores.accuracy.as_text()}, macro-F1 {scores.macro_f1.as_text()}, "
        f"log-loss {scores.log_loss.value:.3f}",
    ]
    rows = [("the teacher alone", scores.teacher)] if scores.teacher else []
    if scores.teacher is None or scores.best.name != scores.teacher.name:
        rows.append((f"best alone, {scores.best.name[:20]}", scores.best))
    for what, row in rows:
        gain = f"{row.gain.value:+.3f} [{row.gain.low:+.3f}, {row.gain.high:+.3f}]"
        lines.append(f"  {what}: macro-F1 {row.macro_f1.as_text()}; gain {gain}")
    return lines
