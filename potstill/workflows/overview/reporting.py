"""Write the HTML report on a student: gather its answers, its bundle's, its teacher's and the teacher's rationales."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from potstill.contract.checkpoint import Student, read_student
from potstill.contract.errors import FormatError, UserError
from potstill.contract.files import atomic
from potstill.contract.project import BUNDLE_FOLDER, GOLD_LABELS_FILE, SOFT_LABELS_FILE, STORE_FILE
from potstill.contract.questions.questionnaire import Questionnaire
from potstill.contract.questions.soft_answers import read_soft_answers
from potstill.contract.soft_label import read_soft_labels
from potstill.contract.texts import Text
from potstill.labeler.aggregation.path_table import path_logprobs
from potstill.labeler.store.database import LabelStore
from potstill.trainer.config import MAP_TEXTS, ReportConfig
from potstill.trainer.evaluation.questions import QuestionsComparison, task_of
from potstill.trainer.report.answers import Rationale, Rationales
from potstill.trainer.report.build import ReportSources, build_report
from potstill.trainer.report.page import report_page
from potstill.trainer.report.plot_style import Plot
from potstill.trainer.report.questions import QuestionsFolder, build_questions_report, questions_report_page
from potstill.trainer.report.stages import Stages
from potstill.trainer.training.loop import TrainProgress
from potstill.workflows.evaluation import EvaluateConfig, bundle_answers, evaluate, open_bundle, read_gold_texts
from potstill.workflows.overview.budget import plot_of_budget
from potstill.workflows.overview.question_stages import question_maps, questions_folder
from potstill.workflows.overview.stages import map_of, stage_seconds, stages_of


@dataclass(frozen=True)
class ReportFiles:
    """What a report may show beside the student's answers, and the plots to write."""

    bundle: str | Path | None = None
    soft_labels: str | Path | None = None  # those that the student was trained on
    teacher: str | Path | None = None  # the teacher's soft labels of the gold texts
    store: str | Path | None = None  # a label store that holds the gold texts, for rationales beside the mistakes
    plots: str | Path | None = None  # a folder to write the plots to, as PNG and SVG files
    run: str | Path | None = None  # folder of `potstill run` or `potstill label`; what is not named above is looked for there
    map_texts: int = MAP_TEXTS  # on the map at most; 0: no map
    budget: bool = False  # scores parts of the run's texts and paths

    def found(self) -> ReportFiles:
        """The files with those of the run's folder in the place of what is not named; raises FormatError if there is no folder."""
        if self.run is None:
            return self
        folder = Path(self.run)
        if not folder.is_dir():
            raise FormatError(folder, "", "is no folder; name one of potstill run or potstill label")
        places = {"bundle": BUNDLE_FOLDER, "soft_labels": SOFT_LABELS_FILE, "teacher": GOLD_LABELS_FILE, "store": STORE_FILE}
        there: dict[str, Any] = {name: folder / place for name, place in places.items() if (folder / place).exists()}
        return replace(self, **{name: path for name, path in there.items() if getattr(self, name) is None})


_FILES, _REPORT = ReportFiles(), ReportConfig()


def write_report(
    checkpoint: str | Path,
    gold: str | Path,
    out: str | Path,
    files: ReportFiles = _FILES,
    config: ReportConfig = _REPORT,
    progress: TrainProgress | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Write a page about a checkpoint on gold texts: scores, plots, slices, mistakes; `potstill report`.

    Args:
        gold: a file of texts with gold labels.
        out: the page to write.
        progress: called with (stage, steps done, steps planned, loss of the step) while a learning curve is trained.
        tell: takes a line about rows of the file that were skipped.
    Raises:
        FormatError: if a file or folder is malformed.
        UserError: if the parts do not fit each other, or a file cannot be written.
    """
    checkpoint, named, files = Path(checkpoint), files, files.found()
    student = read_student(checkpoint)
    if student.heads is not None:
        _write_questions(checkpoint, student, gold, out, (named, files), config)
        return
    texts = read_gold_texts(gold, checkpoint, student, tell)
    bundle_probs = None
    if files.bundle:
        with open_bundle(Path(files.bundle), student) as classifier:
            bundle_probs = bundle_answers(classifier, texts, student)
    sources = ReportSources(
        checkpoint,
        texts,
        Path(files.soft_labels) if files.soft_labels else None,
        Path(files.teacher) if files.teacher else None,
        bundle_probs,
        stored_rationales(files.store, student) if files.store else None,
        *_stages(checkpoint, student, texts, files),
        _budget(student, files, progress),
    )
    report = build_report(sources, config, progress)
    if files.plots:
        _write_plots(Path(files.plots), report.plots)
    atomic.write_file(Path(out), report_page(report))


def _stages(checkpoint: Path, student: Student, gold: list[Text], files: ReportFiles) -> tuple[Stages, tuple[str, ...]]:
    """What the run's folder holds of each stage, with a map of the texts; notes on what is missing."""
    stages, notes = Stages(), []
    if files.run is None:
        notes.append("Without the folder of the run (--run) there are no pages on labelling, training and export.")
    else:
        stages = stages_of(Path(files.run), checkpoint, student, Path(files.bundle) if files.bundle else None)
    rows = [
        row for path in (files.teacher, files.soft_labels) if path for row in read_soft_labels(Path(path), labels=student.labels)
    ]
    drawn, note = map_of(checkpoint, student, gold, rows, files.map_texts)
    return replace(stages, text_map=drawn), (*notes, *([note] if note else []))


def _budget(student: Student, files: ReportFiles, progress: TrainProgress | None) -> tuple[Plot, ...]:
    """The plot of the budget, if it is wanted; raises UserError without the run's folder."""
    if not files.budget:
        return ()
    if files.run is None:
        raise UserError("--budget scores parts of the stored paths; name the folder that holds them with --run")
    folder = Path(files.run)
    taken = stage_seconds(folder).get("label")

    def shown(done: int, total: int) -> None:
        if progress is not None:
            progress("budget", done, total, math.nan)

    return (plot_of_budget(folder, student, taken, shown),)


def _write_questions(
    checkpoint: Path,
    student: Student,
    gold: str | Path,
    out: str | Path,
    named_and_found: tuple[ReportFiles, ReportFiles],
    config: ReportConfig,
) -> None:
    """Write the page about a student of several questions; raises as :func:`write_report`."""
    named, files = named_and_found
    single = {
        "--store": named.store,
        "--slice": config.patterns,
        "--learning-curve": config.learning_curve,
        "--budget": files.budget,
    }
    for name, value in single.items():
        if value:
            raise UserError(f"{checkpoint}: answers several questions, and {name} is for a student of one choice; leave it out")
    found = evaluate(checkpoint, gold, EvaluateConfig(bundle=files.bundle, teacher=files.teacher))
    if not isinstance(found, QuestionsComparison):
        raise TypeError(f"{checkpoint} has heads, and its comparison none")
    task = task_of(checkpoint)
    report = build_questions_report(found, student, task, _questions_folder(checkpoint, student, task, found, files))
    if files.plots:
        _write_plots(Path(files.plots), report.all_plots)
    atomic.write_file(Path(out), questions_report_page(report))


def _questions_folder(
    checkpoint: Path, student: Student, task: Questionnaire, found: QuestionsComparison, files: ReportFiles
) -> QuestionsFolder:
    """What the run's folder holds of each stage, with maps of the texts; notes on what is missing."""
    training = read_soft_answers(Path(files.soft_labels), task.questions) if files.soft_labels else []
    teacher = read_soft_answers(Path(files.teacher), task.questions) if files.teacher else []
    folder, notes = QuestionsFolder(), []
    if files.run is None:
        notes.append("Without the folder of the run (--run) there are no pages on labelling, training and export.")
    else:
        bundle = Path(files.bundle) if files.bundle else None
        folder = questions_folder(Path(files.run), checkpoint, student, task, training, bundle)
    maps, note = question_maps(checkpoint, student, found.texts, found.answers, [*teacher, *training], files.map_texts)
    return replace(folder, maps=maps, notes=(*notes, *([note] if note else [])))


def _write_plots(folder: Path, plots: list[Plot]) -> None:
    """Each plot as an SVG and a PNG file."""
    with atomic.folder(folder) as staging:
        for plot in plots:
            (staging / f"{plot.name}.svg").write_bytes(plot.svg)
            (staging / f"{plot.name}.png").write_bytes(plot.png)


def stored_rationales(path: str | Path, student: Student) -> Rationales:
    """The reasoning of each path of the newest run of the student's task, by text and target; direct answers have none.

    Raises:
        FormatError: if the file is no label store, or damaged.
        UserError: if it holds no run of the student's task.
    """
    with LabelStore.read(Path(path)) as store:
        runs = [run for run in store.runs() if run.settings.task_digest == student.task_digest]
        if not runs:
            raise UserError(f"{path}: holds no run of the student's task (digest {student.task_digest[:12]}…); name its own store")
        texts, paths = store.texts(), list(store.paths(runs[-1]))
        settings = runs[-1].settings
    if not paths:
        return {}
    favourites = path_logprobs(paths, settings).argmax(axis=1)
    found: dict[tuple[str, str | None], list[Rationale]] = {}
    for drawn, favourite in zip(paths, favourites, strict=True):
        if not drawn.rationale.strip():
            continue
        text = texts[drawn.text_id]
        said = Rationale(settings.labels[favourite], drawn.rationale)
        found.setdefault((text.text, text.target or None), []).append(said)
    return found
