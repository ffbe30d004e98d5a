"""The result of tuning, as text of at most 100 columns and as the `[label]` table of a project.

Axes: N gold texts.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from potstill.contract.scores import metrics
from potstill.contract.scores.record import Score
from potstill.labeler.aggregation.config import DEFAULTS
from potstill.labeler.config import LabelConfig
from potstill.labeler.tuning.candidates import paths_name, prompt_name
from potstill.labeler.tuning.comparison import Trial
from potstill.labeler.tuning.tune import Tuned

_WIDTH = 100
_NAME = 33  # least width of a row's name
_SCORE = 16


def as_text(tuned: Tuned) -> str:
    """Notes, the table and the winner, in blocks with a blank line between them."""
    notes = [textwrap.fill(f"note: {line}", _WIDTH, subsequent_indent="  ") for line in tuned.notes]
    return "\n\n".join("\n".join(block) for block in (notes, _table(tuned), _chosen(tuned)) if block)


def judged(tuned: Tuned) -> str:
    """The winner's scores on the evaluation half: `macro-F1 0.51 (0.40 to 0.61), accuracy 0.52 (0.41 to 0.63)`."""
    rows = tuned.judges
    probs, gold = tuned.choice.winner.probs[rows], tuned.halves.gold[rows]
    f1, accuracy = (metrics.score(metric, probs, gold) for metric in (metrics.macro_f1, metrics.accuracy))
    return f"macro-F1 {_spelled(f1)}, accuracy {_spelled(accuracy)}"


def _table(tuned: Tuned) -> list[str]:
    """A row for every trial, under its group's heading; the winner has a star."""
    gold, rows = tuned.halves.gold, tuned.answered
    n_choose, n_judge = int((tuned.halves.chooses & rows).sum()), int(tuned.judges.sum())
    commonest = np.bincount(gold[rows]).max() / rows.sum()
    width = max(_NAME, *(len(trial.name) + 1 for trial in tuned.trials))
    lines = [
        f"{rows.sum()} gold texts, with 95 % intervals; the column `choice` is macro-F1 on the {n_choose} texts that select,",
        f"the other {n_judge} are held out. Always giving the most common label: accuracy {commonest:.2f}.",
        "",
        f"  {'':<{width}}{'macro-F1':<{_SCORE}}{'accuracy':<{_SCORE}}choice log-loss ECE  s/text paths",
    ]
    group = ""
    for trial, score in zip(tuned.trials, tuned.choice.scores, strict=True):
        if trial.group != group:
            group = trial.group
            lines.append(group)
        lines.append(_row(tuned, trial, score, width))
    return lines


def _row(tuned: Tuned, trial: Trial, choice: float, width: int) -> str:
    """One trial, scored on all gold texts that every trial answered."""
    probs, gold = trial.probs[tuned.answered], tuned.halves.gold[tuned.answered]
    f1, accuracy = (metrics.score(metric, probs, gold) for metric in (metrics.macro_f1, metrics.accuracy))
    winner = tuned.choice.winner
    star = "*" if (trial.config, trial.derive, trial.wording) == (winner.config, winner.derive, winner.wording) else " "
    seconds = "-" if trial.seconds is None else f"{trial.seconds:.2f}"
    return (
        f"{star} {trial.name:<{width}}{_short(f1):<{_SCORE}}{_short(accuracy):<{_SCORE}}{choice:<7.2f}"
        f"{metrics.log_loss(probs, gold):<9.2f}{metrics.ece(probs, gold):<5.2f}{seconds:<7}{trial.n_paths:.3g}"
    )


def _chosen(tuned: Tuned) -> list[str]:
    """The winner, the reason, and its score on the evaluation half."""
    winner, best = tuned.choice.winner, tuned.choice.best
    scores = {id(trial): score for trial, score in zip(tuned.trials, tuned.choice.scores, strict=True)}
    why = f"chosen by macro-F1 {scores[id(winner)]:.2f} on the texts that select, an optimistic score"
    if winner is not best:
        why += f"; {full_name(best)} has {scores[id(best)]:.2f} there, which is within one standard error, and costs no less"
    return [
        f"* {full_name(winner)}",
        textwrap.fill(why, _WIDTH, initial_indent="  ", subsequent_indent="  "),
        f"  on the {int(tuned.judges.sum())} held-out texts: {judged(tuned)}",
    ]


def full_name(trial: Trial) -> str:
    """`direct, 4 paths; plain, no guideline, nearest; calibrated`; with another wording, its name first."""
    wording = (trial.wording.name,) if trial.wording else ()
    return "; ".join((*wording, paths_name(trial.config), prompt_name(trial.config), trial.derive.name(adaptive=False)))


def _short(score: Score) -> str:
    """`0.51 0.43-0.59`."""
    return f"{score.value:.2f} {score.low:.2f}-{score.high:.2f}"


def _spelled(score: Score) -> str:
    """`0.51 (0.43 to 0.59)`."""
    return f"{score.value:.2f} ({score.low:.2f} to {score.high:.2f})"


def tuned_settings(trial: Trial) -> dict[str, Any]:
    """Every setting that was compared, even if it is the default, and those it needs.

    The keys are the names that a project's tables and the console's options share.
    """
    config, derive = trial.config, trial.derive
    found: dict[str, Any] = {"mode": config.mode, "n_paths": config.n_paths}
    if config.mode == "cascade":
        found |= {"n_direct": config.n_direct, "uncertain": config.uncertain}
    found |= {"template": config.template, "guideline": config.guideline, "examples": config.examples}
    if config.n_examples_per_label != LabelConfig.n_examples_per_label:
        found["n_examples_per_label"] = config.n_examples_per_label
    if config.seed != LabelConfig.seed:
        found["seed"] = config.seed
    found |= {"method": derive.method, "weighting": derive.weighting, "smooth": derive.smooth}
    if derive.backbone != DEFAULTS.backbone and (derive.smooth or config.examples == "nearest"):
        found["backbone"] = derive.backbone
    return found


def tuned_toml(settings: Mapping[str, Any], remarks: Sequence[str]) -> str:
    """The `[label]` table of a project in TOML, after the remarks as comment lines."""
    lines = [f"# {line}" for line in remarks]
    return "\n".join([*lines, "[label]", *(f"{name} = {_value(value)}" for name, value in settings.items())]) + "\n"


def _value(value: bool | float | str) -> str:
    """A value in TOML, whose basic strings use the escapes of JSON."""
    return json.dumps(value, ensure_ascii=False)
