"""Find the best way to ask a teacher about a task on gold texts, and write it down as a project's `[label]` table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from potstill.contract.errors import StoppedError, UserError
from potstill.contract.files import atomic
from potstill.contract.questions.questionnaire import AnyTask, as_single
from potstill.contract.task import Task
from potstill.labeler.run.path_collector import RunCallback
from potstill.labeler.teacher import DECIDING, Teacher
from potstill.labeler.teachers.config import TeacherConfig
from potstill.labeler.tuning.config import MOST, TuneConfig
from potstill.labeler.tuning.gold_split import gold_halves
from potstill.labeler.tuning.report import as_text, full_name, judged, tuned_settings, tuned_toml
from potstill.labeler.tuning.score_file import SCORES_FILE, write_scores
from potstill.labeler.tuning.tune import Tuned, tune
from potstill.labeler.tuning.wordings import WordedTask, rewritten, wordings_of
from potstill.workflows.teacher import configured_teacher

TUNED_FILE = "tuned.toml"
_TUNE, _TEACHER = TuneConfig(), TeacherConfig()


@dataclass(frozen=True)
class TunedPrompt:
    """What was compared and chosen, and where its settings are."""

    tuned: Tuned
    settings: dict[str, Any]  # of the winner, as a `[label]` table has them
    file: Path
    task_file: Path | None = None  # the winner's wording; None: the task as given

    def as_text(self) -> str:
        """The comparison for a person."""
        return as_text(self.tuned)


def tune_prompt(
    task: AnyTask | str | Path,
    gold: str | Path,
    out: str | Path,
    config: TuneConfig = _TUNE,
    *,
    wordings: Sequence[str | Path] = (),
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
        wordings: task files that ask the same in other words; with `rewrites` in the config the teacher writes more, into ``out``.
        max_texts: gold texts to use at most, at least 20.
        progress: called after every few answers.
        tell: takes a line about what is being tried.
    Raises:
        FormatError: if a file is malformed, or holds too few gold texts.
        UserError: if there is nothing to try, or the teacher fails.
        StoppedError: on KeyboardInterrupt; every answer so far is stored.
    """
    source = Path(task) if isinstance(task, str | Path) else None
    task, gold, out = as_single(task, "potstill task tune"), Path(gold), Path(out)
    others = wordings_of(task, wordings)
    halves = gold_halves(task, gold, max_texts)
    try:
        opened = configured_teacher(teacher, tell)
        try:
            if config.rewrites:
                others += _rewritten(task, source, out, opened, config, tell)
            tuned = tune(task, halves, out, opened, config, progress, tell, wordings=others)
        finally:
            opened.close()
    except KeyboardInterrupt as stop:
        raise StoppedError(f"stopped; what is answered is kept in {out}; the same command goes on from there") from stop
    winner = tuned.choice.winner
    settings = tuned_settings(winner) | _teacher_settings(teacher)
    atomic.write_file(out / TUNED_FILE, tuned_toml(settings, _remarks(tuned, gold, teacher.name)).encode())
    write_scores(out / SCORES_FILE, tuned, teacher.name)
    return TunedPrompt(tuned, settings, out / TUNED_FILE, winner.wording.file if winner.wording else None)


def _rewritten(
    task: Task, source: Path | None, out: Path, teacher: Teacher, config: TuneConfig, tell: Callable[[str], None]
) -> list[WordedTask]:
    """The wordings that the teacher writes, and what came of it in a line."""
    if teacher.identity.api in DECIDING:
        raise UserError("a server that decides writes nothing, so it cannot reword a guideline; leave out --rewrites")
    found = rewritten(task, source, out, teacher, config.rewrites, config.seed)
    tell(f"{len(found)} guidelines by the teacher, of {config.rewrites} wanted" + (f": {out}/rewrite_*.toml" if found else ""))
    return found


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
    if wording := tuned.choice.winner.wording:
        remarks.append(f'the task is worded as in {wording.file}: the project needs task = "..." with the path of that file')
    if tuned.choice.winner.derive.method == "affine":
        remarks.append("method affine is fitted on gold texts: the project must name some")
    return remarks
