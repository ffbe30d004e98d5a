"""The whole chain over one project: label, train, export; each stage skipped while its inputs are what they were."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import msgspec

from potstill.contract.bundle import SUMS_FILE
from potstill.contract.checkpoint import STUDENT_FILE
from potstill.contract.errors import FormatError
from potstill.contract.files import atomic, decode, digest
from potstill.contract.project import (
    BUNDLE_FOLDER,
    CHECKPOINT_FOLDER,
    COMBINED_GOLD_FILE,
    COMBINED_LABELS_FILE,
    GOLD_LABELS_FILE,
    SOFT_LABELS_FILE,
    STATE_FILE,
    STORE_FILE,
    Project,
    StageRecord,
    load_project,
    settings,
)
from potstill.contract.questions.questionnaire import Questionnaire, as_single
from potstill.contract.soft_label import read_soft_labels
from potstill.export import run as exporting
from potstill.export.config import ExportConfig
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.config import LabelConfig
from potstill.labeler.run.path_collector import RunCallback
from potstill.labeler.teachers.config import TeacherConfig, ThenSettings
from potstill.labeler.teachers.opening import is_server
from potstill.labeler.weak_supervision.config import CombineConfig
from potstill.models.catalog import find_teacher
from potstill.trainer import run as training
from potstill.trainer.config import TrainConfig
from potstill.trainer.students.start import file_digests
from potstill.trainer.training.loop import TrainProgress
from potstill.workflows.labelling import LabelPlan, label_plan, plan_labelling
from potstill.workflows.labels.combining import combine
from potstill.workflows.labels.sources import NOT_OF_PROJECTS, SourceConfig
from potstill.workflows.overview.pool_size import pool_note
from potstill.workflows.teacher import configured_teacher, second_teacher

_TEACHER_KEYS = (
    "pack",
    "threads",
    "gpu_layers",
    "kv_type",
    "model",
    "concurrency",
    "api",
)  # of TeacherConfig, allowed in a `[label]` table


@dataclasses.dataclass(frozen=True)
class ProjectRun:
    """A finished chain."""

    plan: LabelPlan
    out: Path
    teacher_digest: str
    seconds: dict[str, float]  # by stage, of the run that made its outputs
    skipped: list[str]  # stages that had nothing to do

    @property
    def checkpoint(self) -> Path:
        """The student's folder."""
        return self.out / CHECKPOINT_FOLDER

    @property
    def bundle(self) -> Path:
        """The bundle's folder."""
        return self.out / BUNDLE_FOLDER


@dataclasses.dataclass(frozen=True)
class StageProgress:
    """How each stage's progress is shown: a context manager that is entered while the stage runs, and gives its callback."""

    label: Callable[[], AbstractContextManager[RunCallback | None]] = nullcontext
    train: Callable[[], AbstractContextManager[TrainProgress | None]] = nullcontext
    export: Callable[[], AbstractContextManager[exporting.ExportProgress | None]] = nullcontext


_NO_PROGRESS = StageProgress()


def run_project(
    project_file: str | Path, tell: Callable[[str], None] = lambda _: None, shown: StageProgress = _NO_PROGRESS
) -> ProjectRun:
    """Bring everything in a project's `out` up to date; `potstill run`.

    Args:
        project_file: a `project.toml`.
        tell: takes lines for a person.
        shown: how progress is shown.
    Raises:
        FormatError: if a file is malformed.
        UserError: as the stages do. What earlier stages made is kept, and the same call goes on from there.
        StoppedError: on KeyboardInterrupt, in the stages that go on from there.
    """
    project_file = Path(project_file)
    project = load_project(project_file)
    here, out = project_file.parent, project_file.parent / project.out
    plan = _label_plan(project_file, project)
    train_config = settings(project_file, "train", project.train, TrainConfig)
    export_config = settings(project_file, "export", project.export, ExportConfig)
    combining = None if project.combine is None else _combining(project_file, project, plan)
    teacher_digest = _teacher_digest(plan.teacher)
    gold_files = [GOLD_LABELS_FILE] if plan.gold else []
    stages = _Stages(out, tell)

    def label_stage() -> str:
        with shown.label() as progress:
            return label_plan(plan, out, progress, tell).as_text()

    def train_stage() -> str:
        if not isinstance(plan.task, Questionnaire):
            rows = read_soft_labels(out / labels_file, labels=plan.task.label_names)
            if note := pool_note(rows, plan.task.label_names, plan.derive.backbone):
                tell(f"note: {note}")
        with shown.train() as progress:
            made = (plan.task, out / labels_file, out / CHECKPOINT_FOLDER, train_config)
            return training.train(*made, progress, "resume or restart").as_text()

    def export_stage() -> str:
        with shown.export() as progress:
            return exporting.export_bundle(out / CHECKPOINT_FOLDER, out / BUNDLE_FOLDER, export_config, progress).as_text()

    files = [here / project.texts, *([here / project.gold] if project.gold else [])]
    asked = [*_asked(plan, teacher_digest), *map(digest.of_path, files)]
    stages.run("label", asked, [SOFT_LABELS_FILE, *gold_files], label_stage)
    labels_file = SOFT_LABELS_FILE if combining is None else _run_combining(combining, plan, stages)
    made_of = [plan.task.digest, digest.of_file(out / labels_file), file_digests(train_config)]
    student_files = [f"{CHECKPOINT_FOLDER}/{name}" for name in (STUDENT_FILE, "model.safetensors")]
    stages.run("train", [*made_of, _train_settings(train_config)], student_files, train_stage)
    made_of = [digest.of_file(out / name) for name in student_files]
    stages.run("export", [*made_of, dataclasses.asdict(export_config)], [f"{BUNDLE_FOLDER}/{SUMS_FILE}"], export_stage)
    return ProjectRun(plan, out, teacher_digest, stages.seconds(), stages.skipped)


@dataclasses.dataclass(frozen=True)
class _Combining:
    """The settings of a project's `[combine]` table."""

    task: Path
    config: CombineConfig
    sources: SourceConfig


def _combining(path: Path, project: Project, plan: LabelPlan) -> _Combining:
    """Read the table, which has settings of two configurations; raises FormatError, or UserError for several questions."""
    as_single(plan.task, f"{path}: [combine]")
    names = {field.name for field in dataclasses.fields(CombineConfig)}
    table = project.combine or {}
    allowed = [*sorted(names), *(field.name for field in dataclasses.fields(SourceConfig) if field.name not in NOT_OF_PROJECTS)]
    for key in table:
        if key not in allowed:
            raise FormatError(path, "combine", decode.unknown_key(key, allowed))
    config = settings(path, "combine", {key: value for key, value in table.items() if key in names}, CombineConfig)
    sources = settings(path, "combine", {key: value for key, value in table.items() if key not in names}, SourceConfig)
    return _Combining(path.parent / project.task, config, sources.below(path.parent))


def _run_combining(combining: _Combining, plan: LabelPlan, stages: _Stages) -> str:
    """Run the stage; the name of the file to train on."""
    out, sources = stages.out, combining.sources

    def combine_stage() -> str:
        files = (out / STORE_FILE, out / COMBINED_LABELS_FILE, combining.config, sources)
        report = combine(combining.task, *files, gold_labels=out / COMBINED_GOLD_FILE, refine=plan.derive.refine)
        return report.as_text()

    rules = [] if isinstance(plan.task, Questionnaire) else plan.task.rules
    labelled = [digest.of_file(out / name) for name in (SOFT_LABELS_FILE, GOLD_LABELS_FILE) if (out / name).is_file()]
    asked = [plan.task.digest, rules, labelled, dataclasses.asdict(combining.config), sources.described(out / STORE_FILE)]
    stages.run("combine", asked, [COMBINED_LABELS_FILE], combine_stage)
    return COMBINED_LABELS_FILE


def _label_plan(path: Path, project: Project) -> LabelPlan:
    """Read the project's task and texts, and its `[label]` table, which holds settings of four configurations."""
    here, table = path.parent, dict(project.label)
    teacher_table = {key: table.pop(key) for key in _TEACHER_KEYS if key in table}
    derive_table = {field.name: table.pop(field.name) for field in dataclasses.fields(DeriveConfig) if field.name in table}
    then_table = {field.name: table.pop(field.name) for field in dataclasses.fields(ThenSettings) if field.name in table}
    derive = settings(path, "label", derive_table, DeriveConfig)
    config = settings(path, "label", table, LabelConfig)
    teacher = TeacherConfig(project.teacher, **teacher_table)
    then = second_teacher(settings(path, "label", then_table, ThenSettings), teacher)
    gold = here / project.gold if project.gold else None
    return plan_labelling(here / project.task, here / project.texts, config, gold=gold, teacher=teacher, derive=derive, then=then)


def _train_settings(config: TrainConfig) -> dict[str, Any]:
    """The settings that decide a student, without those on gold where none is trained on: records of other projects still fit."""
    found = dataclasses.asdict(config)
    if config.use_gold is None:
        del found["use_gold"], found["gold_as"], found["gold_right"]
    return found


def _asked(plan: LabelPlan, teacher_digest: str) -> list[Any]:
    """What decides the labels beside the texts."""
    derive = dataclasses.asdict(plan.derive)
    asked: list[Any] = [plan.task.digest, teacher_digest, dataclasses.asdict(plan.config), derive, plan.teacher.pack]
    if plan.teacher.kv_type != TeacherConfig.kv_type:  # only where it is set, so that the records of other projects still fit
        asked.append(plan.teacher.kv_type)
    if then := plan.then:
        asked += [_teacher_digest(then.teacher), dataclasses.asdict(then.rule), then.mode, then.n_paths]
    return asked


def _teacher_digest(teacher: TeacherConfig) -> str:
    """SHA-256 that identifies the teacher: of its file, or of its server's description, for which the server must be up."""
    if not is_server(teacher.name):
        return find_teacher(teacher.name).sha256
    opened = configured_teacher(teacher, lambda _: None)
    try:
        return digest.of_value([opened.identity.digest, opened.identity.build])
    finally:
        opened.close()


class _Stages:
    """Runs stages and remembers in `state.json` what each was made of."""

    def __init__(self, out: Path, tell: Callable[[str], None]) -> None:
        self.out, self.tell, self.skipped = out, tell, list[str]()
        self._path = out / STATE_FILE
        self._records: dict[str, StageRecord] = {}
        if self._path.is_file():
            try:
                self._records = msgspec.json.decode(self._path.read_bytes(), type=dict[str, StageRecord])
            except (msgspec.MsgspecError, UnicodeDecodeError):
                tell(f"{self._path} cannot be read; every stage runs again")

    def run(self, name: str, inputs: list[Any], outputs: list[str], work: Callable[[], str]) -> None:
        """Do the work unless a record says that these inputs made the outputs that are there."""
        key = digest.of_value(inputs)
        record = self._records.get(name)
        if record and record.inputs == key and list(record.outputs) == outputs and record.outputs == self._digests(outputs):
            self.skipped.append(name)
            self.tell(f"{name}: nothing has changed (took {record.seconds:.0f} s when it ran)")
            return
        self.tell(f"{name}:")
        began = time.monotonic()
        text = work()
        seconds = time.monotonic() - began
        self._records[name] = StageRecord(key, self._digests(outputs), seconds)
        atomic.write_file(self._path, msgspec.json.format(msgspec.json.encode(self._records), indent=2) + b"\n")
        self.tell("\n".join(f"  {line}" for line in text.splitlines()))

    def seconds(self) -> dict[str, float]:
        """Seconds that each stage took when it ran."""
        return {name: record.seconds for name, record in self._records.items()}

    def _digests(self, names: list[str]) -> dict[str, str]:
        """SHA-256 of the files, empty for one that is missing."""
        return {name: digest.of_file(self.out / name) if (self.out / name).is_file() else "" for name in names}
