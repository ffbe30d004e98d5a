"""Find the best way to ask a teacher about a task on gold texts, and write it down as a project's `[label]` table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from potstill.contract.errors import StoppedError
from potstill.contract.files import atomic
from potstill.contract.questions.questionnaire import AnyTask, as_single
from potstill.labeler.run.path_collector import RunCallback
from potstill.labeler.teachers.config import TeacherConfig
from potstill.labeler.tuning.config import MOST, TuneConfig
from potstill.labeler.tuning.gold_split import gold_halves
from potstill.labeler.tuning.report import as_text, full_name, judged, tuned_settings, tuned_toml
from potstill.labeler.tuning.score_file import SCORES_FILE, write_scores
from potstill.labeler.tuning.tune import Tuned, tune
from potstill.workflows.teacher import configured_teacher

TUNED_FILE = "tuned.toml"
_TUNE, _TEACHER = TuneConfig(), TeacherConfig()


@dataclass(frozen=True)
class TunedPrompt:
    """What was compared and chosen, and where its settings are."""

    tuned: Tuned
    settings: dict[str, Any]  # of the winner, as a `[label]` table has them
    file: Path

    def as_text(self) -> str:
        """The comparison for a person."""
        return as_text(self.tuned)


def tune_prompt(
    task: AnyTask | str | Path,
    gold: str | Path,
    out: str | Path,
    config: TuneConfig = _TUNE,
    *,
    max_texts: int = MOST,
    teacher: TeacherConfig = _TEACHER,
    progress: RunCallback | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> TunedPrompt:
    """Try ways to ask about the gold texts, and write the best one's settings to `tuned.toml`; `potstill task tune`.

    The scores of all are in `tuned.json`, for `potstill plan`. Every answer is kept in `tune.db`: killed at any moment and called
    again, it goes on where it was.

    Args:
        gold: a file of texts with gold labels; one half of them chooses, the other one judges.
        out: the folder to write.
        max_texts: gold texts to use at most, at least 20.
        progress: called after every few answers.
        tell: takes a line about what is being tried.
    Raises:
        FormatError: if a file is malformed, or holds too few gold texts.
        UserError: if there is nothing to try, or the teacher fails.
        StoppedError: on KeyboardInterrupt; every answer so far is stored.
    """
    task, gold, out = as_single(task, "potstill task tune"), Path(gold), Path(out)
    halves = gold_halves(task, gold, max_texts)
    try:
        opened = configured_teacher(teacher, tell)
        try:
            tuned = tune(task, halves, out, opened, config, progress, tell)
        finally:
            opened.close()
    except KeyboardInterrupt as stop:
        raise StoppedError(f"stopped; what is answered is kept in {out}; the same command goes on from there") from stop
    settings = tuned_settings(tuned.choice.winner) | _teacher_settings(teacher)
    atomic.write_file(out / TUNED_FILE, tuned_toml(settings, _remarks(tuned, gold, teacher.name)).encode())
    write_scores(out / SCORES_FILE, tuned, teacher.name, task.digest)
    return TunedPrompt(tuned, settings, out / TUNED_FILE)


def _teacher_settings(teacher: TeacherConfig) -> dict[str, Any]:
    """What labelling must be told about the teacher, too."""
    found = {
        "pack": teacher.pack,
        "kv_type": teacher.kv_type,
        "model": teacher.model,
        "concurrency": teacher.concurrency,
        "api": teacher.api,
    }
    return {name: value for name, value in found.items() if value not in (None, "auto", TeacherConfig.kv_type)}


def _remarks(tuned: Tuned, gold: Path, teacher: str) -> list[str]:
    """Comments above the settings, a line each."""
    remarks = [
        "The [label] table of a project.toml, chosen by: potstill task tune",
        f"teacher {teacher}, {int(tuned.answered.sum())} texts of {gold.name}: {full_name(tuned.choice.winner)}",
        f"on the {int(tuned.judges.sum())} texts that had no say: {judged(tuned)}",
    ]
    if tuned.choice.winner.derive.method == "affine":
        remarks.append("method affine is fitted on gold texts: the project must name some")
    return remarks
