"""The labelling stage: read the texts, ask one teacher or two, derive soft labels, write them, and count what was skipped."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from potstill.contract.errors import FormatError, StoppedError, UserError, count_of
from potstill.contract.interchange.notebook import Shown
from potstill.contract.project import GOLD_LABELS_FILE, SOFT_LABELS_FILE, STORE_FILE
from potstill.contract.questions.gold import parse_gold
from potstill.contract.questions.questionnaire import AnyTask, Questionnaire, as_any_task
from potstill.contract.questions.soft_answers import SoftAnswers, write_soft_answers
from potstill.contract.soft_label import SoftLabel, write_soft_labels
from potstill.contract.texts import Text, Texts, read_texts
from potstill.labeler.aggregation import soft_labels
from potstill.labeler.aggregation.config import DEFAULTS, DeriveConfig, check_derive
from potstill.labeler.aggregation.other_texts.surroundings import TextSpace
from potstill.labeler.aggregation.questions import derive_questions, priors_of
from potstill.labeler.config import LabelConfig
from potstill.labeler.run.budget import TimeBudget
from potstill.labeler.run.forecast import Forecast, forecast, forecast_questions
from potstill.labeler.run.label import LabelReport
from potstill.labeler.run.path_collector import RunCallback
from potstill.labeler.run.second_teacher import uncertain_texts
from potstill.labeler.run.text_order import without_copies
from potstill.labeler.store.database import LabelStore, Run
from potstill.labeler.teachers.config import TeacherConfig, ThenConfig, with_best_mode
from potstill.workflows.asking import Asking, Tell, ask_all, ask_in_time
from potstill.workflows.teacher import configured_local_teacher, nearest_worked_examples

FIRST_TEACHER_SHARE = 0.5  # of the hours, where a second teacher is asked afterwards
_LABEL = LabelConfig()
_TEACHER = TeacherConfig()


@dataclass(frozen=True)
class LabelPlan:
    """What to label and how, with its files read and its settings checked."""

    task: AnyTask
    texts: Texts
    gold: Texts | None
    config: LabelConfig  # with a real mode
    derive: DeriveConfig = DEFAULTS
    teacher: TeacherConfig = _TEACHER
    gold_file: Path | None = None  # where the gold texts come from
    mode_note: str = ""  # how the mode was chosen, where that was left to the teacher
    then: ThenConfig | None = None  # a second teacher for the uncertain texts
    hours: float | None = None  # None: until everything is labelled

    @property
    def all_texts(self) -> list[Text]:
        """Texts and gold texts."""
        return [*self.texts.texts, *(self.gold.texts if self.gold else [])]


@dataclass(frozen=True, repr=False)
class LabellingReport(Shown):
    """What was labelled, and where the soft labels are."""

    labels: LabelReport
    skipped: list[str]  # a line for each file of which rows were skipped
    rows: Sequence[SoftLabel] | Sequence[SoftAnswers]  # for training; of a task of several questions the latter
    gold_rows: Sequence[SoftLabel] | Sequence[SoftAnswers]  # of texts with a gold label: for scores only
    out: Path
    then: LabelReport | None = None  # of a second teacher; None: there is none, or no text was uncertain
    n_wanted: int = 0  # texts that were to be labelled

    def as_text(self) -> str:
        """A few lines for a person."""
        lines = [*self.skipped, self.labels.as_text()]
        if self.then:
            lines.append(f"the second teacher was asked about the least certain texts: {self.then.as_text()}")
        if self.labels.n_texts < self.n_wanted:
            lines.append(f"{self.labels.n_texts} of {self.n_wanted} texts were reached; the same command goes on with the others")
        wrote = f"wrote {count_of(len(self.rows), 'soft label')} to {self.out / SOFT_LABELS_FILE}"
        if self.gold_rows:
            wrote += f", and {len(self.gold_rows)} with gold to {self.out / GOLD_LABELS_FILE}"
        return "\n".join([*lines, wrote])

    def cells(self) -> list[list[str]]:
        """For each label the texts of which it is the most probable one, and its mean probability; none for several questions."""
        rows = [row for row in self.rows if isinstance(row, SoftLabel)]
        if not rows:
            return []
        winners = Counter(max(row.probs, key=row.probs.__getitem__) for row in rows)
        names = list(rows[0].probs)
        means = {name: sum(row.probs[name] for row in rows) / len(rows) for name in names}
        return [["label", "texts", "mean probability"], *([name, str(winners[name]), f"{means[name]:.3f}"] for name in names)]


def label(
    task: AnyTask | str | Path,
    texts: str | Path,
    out: str | Path,
    config: LabelConfig = _LABEL,
    *,
    gold: str | Path | None = None,
    teacher: TeacherConfig = _TEACHER,
    derive: DeriveConfig = DEFAULTS,
    then: ThenConfig | None = None,
    hours: float | None = None,
    progress: RunCallback | None = None,
    tell: Tell = lambda _: None,
) -> LabellingReport:
    """Have a teacher label a file of texts; `potstill label`.

    The folder then holds `labels.db` with every path and `soft_labels.parquet` for training. Killed at any moment and called again,
    it goes on where it was.

    Args:
        task: a task, or its file; of one choice or of several questions.
        texts: a file or folder of texts in any form that :func:`potstill.contract.texts.read_texts` reads, or the address of one at
            which JSON lines or Parquet lie (`s3://…`, whatever fsspec knows; extra `ray`).
        out: the folder to write.
        config: mode, number of paths, prompts.
        gold: a file of texts with gold labels, of several questions to some of them at least; they are labelled too, but written to
            `gold_labels.parquet`, for scores only.
        teacher: who answers, and with how much of this machine.
        derive: how soft labels follow from the paths.
        then: a second teacher, asked about the texts of which the first one is not certain; soft labels follow from both.
        hours: label as many texts as that allows, in random order, and end in time with their soft labels written; the same
            call goes on from there.
        progress: called after every few paths, once they are stored.
        tell: takes a line for a person: what takes a while, and what to know about the labels.
    Raises:
        FormatError: if a file is malformed, or a text is in both files.
        UserError: if a setting makes no sense, no text fits into the teacher's context, the store in `out` holds a run with other
            settings, or the teacher fails.
        StoppedError: on KeyboardInterrupt; everything labelled so far is stored.
    """
    plan = plan_labelling(task, texts, config, gold=gold, teacher=teacher, derive=derive, then=then, hours=hours)
    return label_plan(plan, out, progress, tell)


def label_forecast(
    task: AnyTask | str | Path,
    texts: str | Path,
    config: LabelConfig = _LABEL,
    *,
    gold: str | Path | None = None,
    teacher: TeacherConfig = _TEACHER,
    derive: DeriveConfig = DEFAULTS,
    tell: Callable[[str], None] = lambda _: None,
) -> Forecast:
    """Estimate tokens and seconds that :func:`label` would need from its beginning; its arguments, and its errors.

    Raises:
        UserError: if the teacher is a server, whose speed cannot be measured from here.
    """
    plan = plan_labelling(task, texts, config, gold=gold, teacher=teacher, derive=derive)
    opened = configured_local_teacher(plan.teacher, tell, deterministic=plan.config.deterministic)
    if plan.mode_note:
        tell(plan.mode_note)
    try:
        if isinstance(plan.task, Questionnaire):
            return forecast_questions(plan.task, plan.all_texts, opened, plan.config)
        nearest = nearest_worked_examples(plan.task, plan.all_texts, plan.config, plan.derive.backbone, tell)
        return forecast(plan.task, plan.all_texts, opened, plan.config, nearest)
    finally:
        opened.close()


def plan_labelling(
    task: AnyTask | str | Path,
    texts: str | Path,
    config: LabelConfig = _LABEL,
    *,
    gold: str | Path | None = None,
    teacher: TeacherConfig = _TEACHER,
    derive: DeriveConfig = DEFAULTS,
    then: ThenConfig | None = None,
    hours: float | None = None,
) -> LabelPlan:
    """Read the files and check the settings before a model is loaded; arguments as for :func:`label`.

    Raises:
        FormatError: if a file is malformed, or a text is in both.
        UserError: if a setting makes no sense.
    """
    task = as_any_task(task)
    config, mode_note = with_best_mode(config, teacher.name)
    if isinstance(task, Questionnaire):
        _check_questions(task, derive, then)
    else:
        check_derive(derive, task.label_names)
    read = _read(task, texts)
    read_gold = None
    if gold is not None:
        read_gold = _read(task, gold, gold=True)
        _check_apart(Path(texts), read, Path(gold), read_gold)
    if config.deterministic and teacher.parallel:
        raise UserError("a deterministic run fixes how many paths are stepped at once; leave out --parallel or --deterministic")
    if teacher.engine == "ray":
        _check_on_cluster(task, config, then, hours)
    if hours is not None and not hours > 0:
        raise UserError(f"hours is {hours:g}; it must be above 0, and may be a fraction")
    if hours is not None and config.deterministic:
        raise UserError("a deterministic run labels fixed blocks, whatever the time; leave out --hours or --deterministic")
    gold_file = None if gold is None else Path(gold)
    return LabelPlan(task, read, read_gold, config, derive, teacher, gold_file, mode_note, then, hours)


def _check_on_cluster(task: AnyTask, config: LabelConfig, then: ThenConfig | None, hours: float | None) -> None:
    """Refuse what several teachers at once cannot do; raises UserError."""
    for given, option, why in (
        (isinstance(task, Questionnaire), "a task of several questions", "they share the tokens of a text in one process"),
        (config.bound > 0, "--adaptive", "it stops a text by what others have said so far"),
        (then is not None, "--then", "label with one teacher, then with the other"),
        (hours is not None, "--hours", "how fast a cluster is, only a run shows"),
    ):
        if given:
            raise UserError(f"{option} cannot be combined with --engine ray: {why}")


def _read(task: AnyTask, file: str | Path, *, gold: bool = False) -> Texts:
    """The texts of a file, whose gold answers fit the task; raises FormatError. Args: gold, whether they must have some."""
    labels = None if isinstance(task, Questionnaire) else task.label_names
    rows = None
    if "://" in str(file):  # somewhere else; the library that reads there is loaded only then
        from potstill.serve.bulk.units import rows_at

        rows = rows_at(str(file))
    found = read_texts(file, labels=labels, target=task.input.target, gold=gold, rows=rows)
    if isinstance(task, Questionnaire):
        for text in found.texts:
            parse_gold(Path(file), f"text {text.id!r}", task.questions, text.gold)
    return found


def _check_questions(task: Questionnaire, derive: DeriveConfig, then: ThenConfig | None) -> None:
    """Refuse what several questions cannot be labelled with; raises UserError."""
    priors = priors_of(derive, task.questions)
    for ask in task.asks():
        check_derive(replace(derive, prior=priors.get(ask.key)), ask.task.label_names)
    if then is not None:
        raise UserError(
            "a second teacher is asked about tasks of one choice only; leave out --then, or write the question that needs it into "
            "a task of its own"
        )


def label_plan(
    plan: LabelPlan, out: str | Path, progress: RunCallback | None = None, tell: Callable[[str], None] = lambda _: None
) -> LabellingReport:
    """Label everything in a plan into the folder ``out`` and write the soft labels; raises as :func:`label`."""
    out = Path(out)
    if out.is_file():
        raise UserError(f"{out}: is a file; name a folder, which is made if it is not there")
    try:
        with _machines(plan.teacher):
            return _labelled(plan, out, progress, tell)
    except KeyboardInterrupt as stop:  # before the first path, or after the last one
        raise StoppedError(f"stopped; what is labelled is kept in {out}; the same command goes on from there") from stop


def _machines(teacher: TeacherConfig) -> AbstractContextManager[None]:
    """The cluster, while a teacher on it is asked; else nothing."""
    if teacher.engine != "ray":
        return nullcontext()
    from potstill.contract.system.cluster import ClusterConfig, connected  # here, since it imports ray

    return connected(ClusterConfig(teacher.actors, teacher.threads_per_actor))


def _labelled(plan: LabelPlan, out: Path, progress: RunCallback | None, tell: Tell) -> LabellingReport:
    """Ask for every path, or for those that the time allows, then derive."""
    budget = None if plan.hours is None else TimeBudget(time.monotonic(), plan.hours * 3600)
    store_path = out / STORE_FILE
    if store_path.exists():
        LabelStore.create(store_path).close()  # a store that is in use or damaged is found before the teacher is loaded
    nearest = None  # of several questions each has its own
    if not isinstance(plan.task, Questionnaire):
        nearest = nearest_worked_examples(plan.task, plan.all_texts, plan.config, plan.derive.backbone, tell)
    texts = without_copies(plan.all_texts) if budget else plan.all_texts
    asking = Asking(plan.task, texts, plan.config, plan.teacher, store_path, nearest, plan.mode_note, backbone=plan.derive.backbone)
    written = _Written(plan, out)
    first_budget = budget.first_part(FIRST_TEACHER_SHARE) if budget and plan.then else budget
    report = _asked(asking, first_budget, written, progress, tell)
    if not report.n_paths:
        raise UserError(
            f"none of the {report.n_texts} texts fits into the context of {plan.teacher.name}, so none has a label; "
            "show the teacher less of each with input.max_chars in the task"
        )
    then = _then_asked(plan.then, report.run, asking, budget, written, progress, tell) if plan.then else None
    for warning in written.warnings:
        tell(f"note: {warning}")
    skipped = [line for read in (plan.texts, plan.gold) if read and (line := read.skipped_line())]
    if n_copies := len(plan.all_texts) - len(texts):
        skipped.append(f"left out {n_copies} copies of other texts, which cost time and teach nothing (--hours)")
    return LabellingReport(report, skipped, written.for_training, written.with_gold, out, then, len(texts))


def _asked(asking: Asking, budget: TimeBudget | None, written: _Written, progress: RunCallback | None, tell: Tell) -> LabelReport:
    """Ask one teacher, and write the soft labels."""
    if budget is not None:
        return ask_in_time(asking, budget, written.write, progress, tell)
    report = ask_all(asking, progress, tell)
    if report.n_paths:
        written.write(report.run)
    return report


def _then_asked(
    then: ThenConfig,
    first: Run,
    asking: Asking,
    budget: TimeBudget | None,
    written: _Written,
    progress: RunCallback | None,
    tell: Tell,
) -> LabelReport | None:
    """Ask the second teacher about the texts of which the first one is not certain; None if there is no such text.

    Args:
        asking: what the first teacher was asked.
    """
    with LabelStore.read(asking.store_path) as store:
        texts = uncertain_texts(store, first, asking.texts, then.rule)
    if not texts:
        tell("no text is uncertain, so the second teacher is not asked")
        return None
    config, mode_note = then.label_config(asking.config)
    tell(f"asking {then.teacher.name} about {len(texts)} uncertain texts")
    second = replace(asking, texts=texts, config=config, teacher=then.teacher, after=first, mode_note=mode_note)
    return _asked(second, budget, written, progress, tell)


class _Written:
    """The soft labels that were derived and written last."""

    def __init__(self, plan: LabelPlan, out: Path) -> None:
        self.plan, self._out = plan, out
        self._space = TextSpace(plan.derive.backbone)  # a time budget derives more than once, of the same texts
        self.warnings: list[str] = []
        self.for_training: Sequence[SoftLabel] | Sequence[SoftAnswers] = []
        self.with_gold: Sequence[SoftLabel] | Sequence[SoftAnswers] = []

    def write(self, run: Run) -> None:
        """Derive the soft labels of a run, and write them.

        Rows that carry a gold label are for scores: a student trained on them would have seen its exam.
        """
        plan, ids = self.plan, [text.id for text in self.plan.all_texts]
        soft, scored = self._out / SOFT_LABELS_FILE, self._out / GOLD_LABELS_FILE
        with LabelStore.read(self._out / STORE_FILE) as store:
            if isinstance(plan.task, Questionnaire):
                answers = derive_questions(store, run, plan.derive, ids, self._space)
                self.warnings = answers.warnings
                self.for_training = train_rows = [row for row in answers.rows if row.gold is None]
                self.with_gold = gold_rows = [row for row in answers.rows if row.gold is not None]
                _write_both(write_soft_answers, (soft, train_rows), (scored, gold_rows))
            else:
                derived = soft_labels.derive(store, run, plan.derive, ids, self._space)
                self.warnings = derived.warnings
                self.for_training = rows = [row for row in derived.rows if row.gold is None]
                self.with_gold = golden = [row for row in derived.rows if row.gold is not None]
                _write_both(write_soft_labels, (soft, rows), (scored, golden))


R = TypeVar("R")


def _write_both(write: Callable[[Path, list[R]], None], training: tuple[Path, list[R]], scored: tuple[Path, list[R]]) -> None:
    """Write the rows for training, and those with gold if there are any."""
    write(*training)
    if scored[1]:
        write(*scored)


def _check_apart(file: Path, texts: Texts, gold_file: Path, gold: Texts) -> None:
    """Refuse a text that is both to be trained on and to be scored with; raises FormatError."""
    both = {text.id for text in texts.texts} & {text.id for text in gold.texts}
    same = {(text.text, text.target) for text in texts.texts} & {(text.text, text.target) for text in gold.texts}
    if both or same:
        found = min(both) if both else min(same)[0][:40]
        raise FormatError(
            gold_file,
            "",
            f"shares {count_of(len(both) or len(same), 'text')} with {file} ({found!r}, say); remove them from one file",
        )
