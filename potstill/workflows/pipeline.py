"""The whole chain over one project: label, train, export, measure; each stage skipped while its inputs are what they were."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from potstill.commands.console.label_progress import label_progress
from potstill.commands.console.signals import heeding_sigterm
from potstill.commands.console.train_progress import train_progress
from potstill.contract.bundle import SUMS_FILE
from potstill.contract.checkpoint import STUDENT_FILE
from potstill.contract.files import atomic, digest
from potstill.contract.project import Project, load_project, settings
from potstill.contract.task import load_task
from potstill.export.config import ExportConfig
from potstill.export.run import export_bundle
from potstill.labeler.aggregation.config import DeriveConfig
from potstill.labeler.config import LabelConfig
from potstill.labeler.teachers.opening import is_server
from potstill.models.catalog import find_teacher
from potstill.trainer.config import TrainConfig
from potstill.trainer.run import train
from potstill.trainer.students.start import file_digests
from potstill.workflows import labelling
from potstill.workflows.labelling import GOLD_LABELS_FILE, SOFT_LABELS_FILE, STORE_FILE, LabelPlan

STATE_FILE, CHECKPOINT_FOLDER, BUNDLE_FOLDER = "state.json", "student", "bundle"
_BESIDE_CONFIG = ("pack", "threads", "model", "concurrency")  # keys of [label] that are no field of a configuration
Tell = Callable[[str], None]
Show = Callable[[str, int, int], None]


class StageRecord(msgspec.Struct, frozen=True):
    """What a finished stage was made of and made, by digest, and how long it took when it ran."""

    inputs: str
    outputs: dict[str, str]  # SHA-256 by file name, relative to the project's `out`
    seconds: float


@dataclasses.dataclass(frozen=True)
class Outcome:
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


def run(project_file: Path, tell: Tell, show: Callable[[str, float], Any]) -> Outcome:
    """Bring everything in the project's `out` up to date.

    Args:
        tell: takes lines for a person.
        show: makes a context manager that gives a progress callback, from the unit of speed and how many count as one.
    Raises:
        UserError: as the stages do. What earlier stages made is kept, and the same call goes on from there.
    """
    project = load_project(project_file)
    here, out = project_file.parent, project_file.parent / project.out
    plan = _label_plan(project_file, project)
    train_config = settings(project_file, "train", project.train, TrainConfig)
    export_config = settings(project_file, "export", project.export, ExportConfig)
    teacher_digest = _teacher_digest(plan)
    gold_files = [GOLD_LABELS_FILE] if plan.gold else []
    stages = _Stages(out, tell)

    def label_stage() -> str:
        with label_progress() as progress:
            return labelling.run(plan, progress, tell).as_text()

    def train_stage() -> str:
        with heeding_sigterm(), train_progress() as progress:
            made = (plan.task, out / SOFT_LABELS_FILE, out / CHECKPOINT_FOLDER, train_config)
            return train(*made, progress, "resume or restart").as_text()

    def export_stage() -> str:
        with show("steps", 1) as progress:
            return export_bundle(out / CHECKPOINT_FOLDER, out / BUNDLE_FOLDER, export_config, progress).as_text()

    files = [here / project.texts, *([here / project.gold] if project.gold else [])]
    asked = [plan.task.digest, teacher_digest, dataclasses.asdict(plan.config), dataclasses.asdict(plan.derive), plan.pack]
    stages.run("label", [*asked, *map(digest.of_path, files)], [SOFT_LABELS_FILE, *gold_files], label_stage)
    made_of = [plan.task.digest, digest.of_file(out / SOFT_LABELS_FILE), file_digests(train_config)]
    student_files = [f"{CHECKPOINT_FOLDER}/{name}" for name in (STUDENT_FILE, "model.safetensors")]
    stages.run("train", [*made_of, dataclasses.asdict(train_config)], student_files, train_stage)
    made_of = [digest.of_file(out / name) for name in student_files]
    stages.run("export", [*made_of, dataclasses.asdict(export_config)], [f"{BUNDLE_FOLDER}/{SUMS_FILE}"], export_stage)
    return Outcome(plan, out, teacher_digest, stages.seconds(), stages.skipped)


def _teacher_digest(plan: LabelPlan) -> str:
    """SHA-256 that stands for the teacher: of its file, or of what its server says about it, for which the server must be up."""
    if not is_server(plan.teacher):
        return find_teacher(plan.teacher).sha256
    teacher = labelling.teacher_of(plan)
    try:
        return digest.of_value([teacher.identity.digest, teacher.identity.build])
    finally:
        teacher.close()


class _Stages:
    """Runs stages and remembers in `state.json` what each was made of."""

    def __init__(self, out: Path, tell: Tell) -> None:
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
        """How long each stage took when it ran."""
        return {name: record.seconds for name, record in self._records.items()}

    def _digests(self, names: list[str]) -> dict[str, str]:
        """SHA-256 of the files, empty for one that is missing."""
        return {name: digest.of_file(self.out / name) if (self.out / name).is_file() else "" for name in names}


def _label_plan(path: Path, project: Project) -> LabelPlan:
    """The project's labelling settings, with its files read."""
    here = path.parent
    table = dict(project.label)
    names = [field.name for field in dataclasses.fields(DeriveConfig)]
    extra: dict[str, Any] = {key: table.pop(key) for key in _BESIDE_CONFIG if key in table}
    derive = settings(path, "label", {key: table.pop(key) for key in names if key in table}, DeriveConfig)
    config = settings(path, "label", table, LabelConfig)
    options: dict[str, Any] = {
        **{field.name: getattr(each, field.name) for each in (config, derive) for field in dataclasses.fields(each)},
        **extra,
        "teacher": project.teacher,
    }
    gold = here / project.gold if project.gold else None
    return labelling.plan(load_task(here / project.task), here / project.texts, gold, here / project.out, options)


__all__ = ["BUNDLE_FOLDER", "CHECKPOINT_FOLDER", "STATE_FILE", "STORE_FILE", "Outcome", "StageRecord", "run"]
