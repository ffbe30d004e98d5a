"""Soft labels from a teacher's paths together with other sources: rules, functions, other models, people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from potstill.contract.questions.questionnaire import as_single
from potstill.contract.soft_label import SoftLabel, write_soft_labels
from potstill.labeler.aggregation.config import DeriveConfig, Refining
from potstill.labeler.aggregation.other_texts.surroundings import TextSpace, settled
from potstill.labeler.aggregation.path_table import NO_GOLD
from potstill.labeler.weak_supervision.combination import (
    Combination,
    combined,
    combined_soft_labels,
    refined_combination,
    without_sources,
)
from potstill.labeler.weak_supervision.config import CombineConfig
from potstill.labeler.weak_supervision.figures import (
    CombinationScores,
    SourceFigures,
    as_text,
    combination_scores,
    source_figures,
)
from potstill.labeler.weak_supervision.votes import VoteTable, source_votes
from potstill.workflows.labels.sources import SourceConfig, gathered

_COMBINE = CombineConfig()
_SOURCES = SourceConfig()


@dataclass(frozen=True)
class CombineReport:
    """The combined soft labels, and figures of the sources they come from."""

    rows: list[SoftLabel]
    votes: VoteTable
    found: Combination
    sources: list[SourceFigures]
    scores: CombinationScores | None  # None: there is no gold
    warnings: list[str]

    def as_text(self) -> str:
        """Tables for a person."""
        return as_text(self.votes, self.found, self.sources, self.scores)


def combine(
    task: str | Path,
    store: str | Path,
    soft_labels: str | Path,
    config: CombineConfig = _COMBINE,
    sources: SourceConfig = _SOURCES,
    *,
    refine: Refining = DeriveConfig.refine,
    gold_labels: Path | None = None,
) -> CombineReport:
    """Combine a teacher's paths with the votes of other sources, and write the soft labels; `potstill labels combine`.

        >>> report = potstill.combine("task.toml", "out/labels.db", "combined.parquet")
        >>> report.sources[0].name
        'teacher'

    Args:
        task: the file of a task of one choice; its rules vote.
        store: the label store that the teacher's paths are in; its texts are labelled.
        soft_labels: the file to write, .parquet or .jsonl; it holds the texts with gold labels too.
        config: the label model.
        sources: further sources, and gold texts to score with.
        gold_labels: where the texts with gold labels go in place of `soft_labels`, so that no student learns from them.
        refine: whether what all other texts say is a prior for the combined labels, as for :class:`potstill.DeriveConfig`.
    Raises:
        FormatError: if a file is missing, damaged or malformed, or was made for other labels.
        UserError: if the task has several questions, a setting makes no sense, or no source votes.
        ModuleNotFoundError: if a source or the label model needs a library that is not installed.
    """
    read = as_single(task, "potstill labels combine")
    derive = DeriveConfig(prior=config.prior, refine=refine)
    space = TextSpace(derive.backbone)
    found = gathered(read, Path(task), Path(store), sources, derive, space)
    votes = without_sources(found.votes, config.without)
    combination = combined(votes, config)
    if settled(derive, len(votes.texts))[0].refine == "on":
        combination = refined_combination(combination, votes.texts, space.vectors(votes.texts))
    rows = combined_soft_labels(votes, combination, config, found.alone, read.digest)
    apart = [row for row in rows if row.gold is not None and gold_labels is not None]
    write_soft_labels(Path(soft_labels), [row for row in rows if row.gold is None or gold_labels is None])
    if apart and gold_labels is not None:
        write_soft_labels(gold_labels, apart)
    places = {label: i for i, label in enumerate(votes.labels)}
    gold = np.array([NO_GOLD if text.gold is None else places[text.gold] for text in votes.texts])
    alone = {
        name: source_votes(name, "teacher", votes.texts, votes.labels, {key: dict(row.probs) for key, row in rows_of.items()})
        for name, rows_of in found.alone.items()
    }
    return CombineReport(
        rows=rows,
        votes=votes,
        found=combination,
        sources=source_figures(votes, combination, gold),
        scores=combination_scores(votes, combination, gold, alone),
        warnings=[*found.warnings, *combination.warnings],
    )
