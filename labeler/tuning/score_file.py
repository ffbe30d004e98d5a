"""`tuned.json`: what every way to ask scored on the gold texts that had no say, for whoever plans a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from potstill.contract.errors import FormatError
from potstill.contract.files import atomic, decode
from potstill.contract.files.decode import Strict
from potstill.contract.scores import metrics
from potstill.contract.scores.record import Score
from potstill.labeler.config import LabelConfig
from potstill.labeler.tuning.report import tuned_settings
from potstill.labeler.tuning.tune import Tuned

FORMAT = 1
SCORES_FILE = "tuned.json"
PROMPT = ("template", "guideline", "examples", "n_examples_per_label", "seed")


class TriedWay(Strict):
    """One way to ask, and its score."""

    settings: dict[str, Any]  # as in a project's `[label]` table
    macro_f1: Score  # on the held-out half of the gold texts, with its interval
    seconds: float | None  # per text, on the machine that tuned; None: not timed


class TunedScores(Strict):
    """All that were tried with one teacher."""

    format: int
    teacher: str  # its name, or the path that was given
    teacher_digest: str
    task_digest: str
    chosen: dict[str, Any]  # settings of the winner
    ways: list[TriedWay]


def write_scores(file: Path, tuned: Tuned, teacher: str) -> None:
    """Write the scores of every trial of the winner's wording on the held-out half; raises UserError if it cannot be written."""
    rows, winner = tuned.judges, tuned.choice.winner
    ways = [
        TriedWay(
            settings=tuned_settings(trial),
            macro_f1=metrics.score(metrics.macro_f1, trial.probs[rows], tuned.halves.gold[rows]),
            seconds=trial.seconds,
        )
        for trial in tuned.trials
        if trial.wording == winner.wording
    ]
    asked = winner.run.settings
    found = TunedScores(
        format=FORMAT,
        teacher=teacher,
        teacher_digest=asked.teacher_digest,
        task_digest=asked.task_digest,
        chosen=tuned_settings(winner),
        ways=ways,
    )
    atomic.write_file(file, msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")


def read_scores(folder: Path) -> TunedScores:
    """Read the scores in a folder that `potstill task tune` wrote.

    Raises:
        FormatError: if there are none, or the file is damaged or of another format.
    """
    file = folder / SCORES_FILE
    if not file.is_file():
        raise FormatError(file, "", "no such file; make it with: potstill task tune")
    found = decode.json(file, decode.read_bytes(file), TunedScores)
    if found.format != FORMAT:
        raise FormatError(file, "format", f"is {found.format}; this version reads {FORMAT}")
    return found


def prompt_of(scores: TunedScores, config: LabelConfig) -> LabelConfig:
    """The configuration with the winner's prompt: template, guideline, worked examples; raises UserError if it makes no sense."""
    return replace(config, **{name: scores.chosen[name] for name in PROMPT if name in scores.chosen})


def score_of(scores: TunedScores, config: LabelConfig) -> Score | None:
    """The score of this mode, prompt and number of paths with the default derivation; None if they were not tried.

    Args:
        config: with a real mode.
    """
    wanted = {"mode": config.mode, "n_paths": config.n_paths} | {name: getattr(config, name) for name in PROMPT}
    if config.mode == "cascade":
        wanted |= {"n_direct": config.n_direct, "uncertain": config.uncertain}
    usual = {name: getattr(LabelConfig, name) for name in PROMPT}  # left out where they are the default
    tried = [way.macro_f1 for way in scores.ways if {name: (usual | way.settings).get(name) for name in wanted} == wanted]
    return tried[0] if tried else None  # the default derivation was tried first


def by_score(configs: Sequence[LabelConfig], scores: TunedScores) -> list[LabelConfig]:
    """The configurations with a known score, the best one first; then the others in their order."""
    known = {id(config): score.value for config in configs if (score := score_of(scores, config))}
    return sorted(configs, key=lambda config: -known.get(id(config), -1.0))
