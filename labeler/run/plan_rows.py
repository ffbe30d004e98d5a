"""Which way to label fits into the time: texts and paths for every teacher and mode, and the one to recommend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from potstill.contract.scores.record import Score
from potstill.labeler.config import LabelConfig, RunMode
from potstill.labeler.run.pilot import LabellingPace

# Numbers of paths to choose from, by mode: the first with which all texts fit, else the last one, with fewer texts.
PATHS: dict[RunMode, tuple[int, ...]] = {"direct": (8, 4, 2), "cot": (8, 4), "cascade": (8, 4)}
USED = 0.96  # share of the time that a run fills: less than a round's worth is left over
Known = Literal["measured", "estimate"]


@dataclass(frozen=True)
class PlanRow:
    """One way to label, and what comes of it in the time."""

    teacher: str
    size_mb: int  # of the file that answers, millions of bytes
    config: LabelConfig  # with a real mode
    n_texts: int  # that fit; the most useful ones
    seconds: float  # of the run
    known: Known  # whether the pace was measured here, or follows from the size of the weights
    macro_f1: Score | None = None  # expected, from `potstill task tune`; None: not known
    usual: bool = False  # whether it is the teacher's best known mode


def fitting(pace: LabellingPace, config: LabelConfig, n_texts: int, seconds: float) -> tuple[int, float]:
    """(texts that fit, seconds of the run); (0, 0) if the mode was not measured or not even its prompts fit.

    Args:
        n_texts: that are to be labelled.
        seconds: that labelling may take.
    """
    text_s, whole_s = pace.text_s(config), pace.run_s(config, n_texts)
    if text_s is None or whole_s is None:
        return 0, 0.0
    if whole_s <= USED * seconds:
        return n_texts, whole_s
    n = int((USED * seconds - pace.fixed_s(config)) / text_s)
    n = max(0, min(n, n_texts))
    return n, pace.fixed_s(config) + n * text_s if n else 0.0


def best_fit(pace: LabellingPace, configs: Sequence[LabelConfig], n_texts: int, seconds: float) -> tuple[LabelConfig, int, float]:
    """(configuration, texts, seconds): the first with which all texts fit, else the last one.

    Args:
        configs: at least one, from the best to the cheapest.
        n_texts, seconds: as for :func:`fitting`.
    """
    for config in configs:
        n, run_s = fitting(pace, config, n_texts, seconds)
        if n == n_texts:
            break
    return config, n, run_s


def with_paths(config: LabelConfig, mode: RunMode, n_paths: int | None = None) -> list[LabelConfig]:
    """The configuration in that mode with every number of paths to choose from, the most paths first.

    Args:
        n_paths: the only number, if it is stated.
    """
    return [replace(config, mode=mode, n_paths=n, n_variants=None) for n in ([n_paths] if n_paths else PATHS[mode])]


def recommended(rows: Sequence[PlanRow], n_texts: int, n_enough: int) -> PlanRow | None:
    """The row to recommend; None if no measured row labels a text.

    Among the rows that label all texts, or at least ``n_enough``: the best expected score; where no score is known, the largest
    teacher in its best known mode. Where no row labels so many, the one with the most texts. Estimates are not recommended: their
    teachers are not on this machine, or were not tried.

    Args:
        n_texts: that are to be labelled.
        n_enough: texts from which better labels help a student more than further texts.
    """
    here = [row for row in rows if row.known == "measured" and row.n_texts]
    enough = [row for row in here if row.n_texts >= min(n_texts, n_enough)]
    if not enough:
        return max(here, key=lambda row: (row.n_texts, row.usual), default=None)
    scored = [row for row in enough if row.macro_f1]
    if scored:
        return max(scored, key=lambda row: (row.macro_f1.value if row.macro_f1 else 0.0, -row.seconds))
    return max(enough, key=lambda row: (row.size_mb, row.usual, row.n_texts, row.config.n_paths))
